"""Slots get filled as the reference fills them, and whatever the request, a rule is never broken."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ssmp.generate import Generation, generate
from pipeline.errors import InputError, NoSolutionError

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "generation.json"
RECORD = {
    "shots": "result",
    "rounds": "rounds",
    "forced": "forced",
    "hidden_again": "remask",
    "revised": "revise",
    "fixed_round": "fixed_round",
}
OTHER_DECODERS = {
    "greedy_confidence": {"decoder": "greedy", "order": "confidence"},
    "greedy_index": {"decoder": "greedy", "order": "index"},
    "confidence_ordered": {"decoder": "confidence"},
    "confidence_ordered_2rounds": {"decoder": "confidence", "confidence_rounds": 2},
    "left_to_right": {"decoder": "left_to_right"},
}
DECODERS = ("self_corrective", "confidence", "greedy", "left_to_right")


def load_golden() -> list[dict]:
    return json.loads(GOLDEN.read_text())["cases"] if GOLDEN.exists() else []


def golden_or_skip() -> list[dict]:
    cases = load_golden()
    if not cases:
        pytest.skip(f"no golden vectors at {GOLDEN}")
    return cases


def coupled(base: np.ndarray, coupling: float):
    """The golden file's tiny bidirectional model: a slot likes the shot after its left and before its right neighbour's."""

    def predict(assignment):
        logits = np.array(base, float)
        for j in range(len(logits)):
            if j > 0 and assignment[j - 1] >= 0 and assignment[j - 1] + 1 < logits.shape[1]:
                logits[j, assignment[j - 1] + 1] += coupling
            if j + 1 < len(logits) and assignment[j + 1] >= 1:
                logits[j, assignment[j + 1] - 1] += coupling
        p = np.exp(logits - logits.max(1, keepdims=True))
        return p / p.sum(1, keepdims=True)

    return predict


def golden_arguments(case: dict) -> dict:
    options = case["options"]
    return {
        "uniforms": np.array(case["U"]),
        "pins": {int(slot): shot for slot, shot in case["pins"].items()},
        "bans": case["bans"],
        "max_rounds": options["max_rounds"],
        "order": options["order"],
        "renormalise": options["renorm"],
        "finish": options["force"],
    }


def test_self_corrective_traces_agree_with_the_reference():
    for number, case in enumerate(golden_or_skip()):
        rounds = []
        made = generate(
            coupled(case["base"], case["coupling"]), case["I"], case["J"], watch=rounds.append, **golden_arguments(case)
        )
        for ours, theirs in RECORD.items():
            assert np.array_equal(getattr(made, ours), case[theirs]), f"case {number}: {ours}"
        for got, want in zip(rounds, case["trace"], strict=False):  # theirs leaves out the finishing prediction
            assert got.assignment.tolist() == want["assign"], f"case {number}, round {got.number}"
            np.testing.assert_allclose(got.q, want["q"], atol=1e-9)
            assert [(str(slot), shot) for slot, (shot, _) in got.candidates.items()] == [
                (slot, shot) for slot, (shot, _) in want["cand"].items()
            ]
        assert len(rounds) == made.rounds


@pytest.mark.parametrize("name", OTHER_DECODERS)
def test_other_decoders_agree_with_the_reference(name):
    for number, case in enumerate(golden_or_skip()):
        made = generate(
            coupled(case["base"], case["coupling"]),
            case["I"],
            case["J"],
            **{**golden_arguments(case), **OTHER_DECODERS[name]},
        )
        assert made.shots.tolist() == case[name], f"case {number}"


@st.composite
def requests(draw):
    """A random request, feasible or not: sizes, tables, pins, bans, fits, decoder."""
    n_slots = draw(st.integers(1, 6))
    n_shots = draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    pins = draw(st.dictionaries(st.integers(0, n_slots - 1), st.integers(0, n_shots - 1), max_size=2))
    bans = draw(st.sets(st.integers(0, n_shots - 1), max_size=3))
    fits = rng.random((n_slots, n_shots)) < draw(st.sampled_from([0.25, 0.5, 0.8])) if draw(st.booleans()) else None
    return {
        "predict": coupled(rng.normal(0, draw(st.sampled_from([0.0, 1.0, 30.0])), (n_slots, n_shots)), 2.0),
        "n_shots": n_shots,
        "n_slots": n_slots,
        "uniforms": rng.random((4, n_slots)),
        "pins": pins,
        "bans": bans,
        "fits": fits,
        "decoder": draw(st.sampled_from(DECODERS)),
        "order": draw(st.sampled_from(["confidence", "index"])),
        "renormalise": draw(st.booleans()),
        "finish": draw(st.sampled_from(["finish", "progress"])),
        "max_rounds": draw(st.integers(0, 4)),
        "confidence_rounds": draw(st.sampled_from([None, 1, 2, 9])),
    }


def is_possible(request: dict) -> bool:
    """By brute force: does any assignment honour pins, bans and fits?"""
    free = set(range(request["n_shots"])) - request["bans"] - set(request["pins"].values())
    slots = [slot for slot in range(request["n_slots"]) if slot not in request["pins"]]
    fits = request["fits"]
    return any(
        all(fits is None or fits[slot, shot] for slot, shot in zip(slots, shots, strict=True))
        for shots in permutations(sorted(free), len(slots))
    )


@settings(deadline=None, max_examples=300)
@given(request=requests())
def test_whatever_is_asked_no_rule_is_broken(request):
    pins, bans, fits = request["pins"], request["bans"], request["fits"]
    arguments = {name: value for name, value in request.items() if name not in ("predict", "n_shots", "n_slots")}
    calls = []

    def predict(assignment):
        calls.append(assignment)
        return request["predict"](assignment)

    def run() -> Generation:
        return generate(predict, request["n_shots"], request["n_slots"], **arguments)

    pinned_badly = len(set(pins.values())) < len(pins) or (
        fits is not None and not all(fits[slot, shot] for slot, shot in pins.items())
    )
    if pinned_badly:
        with pytest.raises(InputError):
            run()
        return
    if not is_possible(request):
        with pytest.raises(NoSolutionError):
            run()
        assert not calls, "no work before the refusal"
        return
    made = run()
    shots = made.shots.tolist()
    assert len(set(shots)) == len(shots) == request["n_slots"]
    assert all(0 <= shot < request["n_shots"] for shot in shots)
    assert all(shots[slot] == shot for slot, shot in pins.items())
    assert all(shot not in bans for slot, shot in enumerate(shots) if slot not in pins)
    assert fits is None or all(fits[slot, shot] for slot, shot in enumerate(shots))
    assert made.rounds == len(calls) <= max(request["max_rounds"] + 1, request["n_slots"])
    assert all((made.fixed_round[slot] == 0) == (slot in pins) for slot in range(len(shots)))
    assert ((made.confidence >= 0) & (made.confidence <= 1 + 1e-9)).all()
    again = run()
    for name in Generation.__dataclass_fields__:
        assert np.array_equal(getattr(made, name), getattr(again, name))


def test_the_next_best_shot_is_taken_where_the_best_is_anothers_only_one():
    p = np.array([[0.9, 0.06, 0.04], [0.5, 0.3, 0.2]])
    fits = np.array([[True, True, True], [True, False, False]])
    for decoder in DECODERS:
        made = generate(lambda _: p, 3, 2, uniforms=np.zeros((32, 2)), fits=fits, decoder=decoder)
        assert made.shots.tolist() == [1, 0], decoder


def test_pins_are_visible_to_the_first_prediction_and_beat_bans():
    seen = []

    def predict(assignment):
        seen.append(assignment.tolist())
        return np.full((3, 5), 0.2)

    made = generate(predict, 5, 3, uniforms=np.zeros((32, 3)), pins={1: 4}, bans=[4, 0])
    assert seen[0] == [-1, 4, -1]
    assert made.shots.tolist() == [1, 4, 2]


def test_a_group_gives_no_more_than_it_may_while_the_slots_can_be_filled():
    rng = np.random.default_rng(5)
    for decoder in DECODERS:
        for _ in range(30):
            groups = rng.integers(0, 4, 12)
            made = generate(
                coupled(rng.normal(0, 3, (4, 12)), 2.0),
                12,
                4,
                uniforms=rng.random((32, 4)),
                groups=[(groups, 1)],
                decoder=decoder,
            )
            # four groups with one shot each fill four slots; a group that is absent must be made up for by another
            counts = np.bincount(groups[made.shots], minlength=4)
            assert counts.max() <= 1 + 4 - len(np.unique(groups)), decoder
    rows = np.full((3, 6), 1 / 6)
    two = np.array([0, 0, 0, 0, 1, 1])
    pinned = generate(lambda _: rows, 6, 3, uniforms=np.ones((32, 3)), pins={0: 1, 1: 2}, groups=[(two, 2)])
    assert pinned.shots[2] in (4, 5)  # pins count
    both = generate(lambda _: rows, 6, 3, uniforms=np.ones((32, 3)), groups=[(two, 2), (np.arange(6) % 3, 1)])
    assert len(set(both.shots % 3)) == 3
    assert sorted(two[both.shots])[1:] != [0, 0]
    with pytest.raises(ValueError, match="groups"):
        generate(lambda _: rows, 6, 3, uniforms=np.ones((32, 3)), groups=[(np.zeros(3, int), 1)])


def test_the_uniforms_decide_and_nothing_else_does():
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2]])
    sure = generate(lambda _: p, 3, 2, uniforms=np.zeros((32, 2)))
    assert (sure.rounds, sure.hidden_again.tolist()) == (1, [0, 0])
    never = generate(lambda _: p, 3, 2, uniforms=np.full((3, 2), 1.0 - 1e-12), max_rounds=1)
    assert (never.rounds, never.forced, never.hidden_again.tolist()) == (2, 2, [1, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"pins": {0: 2, 1: 2}}, InputError, "both pinned to shot 2"),
        ({"pins": {0: 5}}, InputError, "cannot pin slot 0 to shot 5"),
        ({"pins": {3: 1}}, InputError, "cannot pin slot 3"),
        ({"pins": {0: -1}}, InputError, "cannot pin"),
        ({"bans": [5]}, InputError, "cannot ban shot 5"),
        ({"bans": [0, 1, 2]}, NoSolutionError, "only 2 of 5 shots"),
        ({"fits": np.zeros((3, 5), bool)}, NoSolutionError, "long enough for slot 0"),
        ({"fits": np.eye(3, 5, dtype=bool)[[0, 0, 1]]}, NoSolutionError, "too few shots are long enough"),
        ({"fits": np.eye(3, 5, dtype=bool), "pins": {0: 1}}, InputError, "too short"),
        ({"fits": np.ones((2, 5), bool)}, ValueError, "shape"),
        ({"uniforms": np.zeros((3, 3))}, ValueError, "uniforms"),
        ({"decoder": "beam"}, ValueError, "beam"),
    ],
)
def test_refusals_come_before_any_work_and_say_why(arguments, error, words):
    def predict(assignment):
        pytest.fail("predict was called")

    with pytest.raises(error, match=words):
        generate(predict, 5, 3, **{"uniforms": np.zeros((32, 3)), **arguments})


def test_a_prediction_that_is_no_probability_is_a_bug():
    for bad in (np.full((2, 3), np.nan), np.ones((3, 2)), -np.ones((2, 3))):
        with pytest.raises(ValueError, match="predict must return"):
            generate(lambda _, bad=bad: bad, 3, 2, uniforms=np.zeros((32, 2)))
