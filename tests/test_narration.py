"""Lines stand where the programme's sum is largest, start clear of the music's hits, and are never lost in silence."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.errors import NoSolutionError
from pipeline.narration import LEAD, align_narration, choose_frame, place_lines
from pipeline.records import Span
from pipeline.script import Captions, Script, ScriptLine
from pipeline.settings import NarrationSettings
from pipeline.slots import Slots
from tests.conftest import SHARED, absent

Spot = tuple[int, int] | None


def total(similarity: np.ndarray, spots: tuple[Spot, ...], score: str, skip_cost: float | None) -> float:
    """The sum that the programme maximises, counted from the places alone."""
    sums = 0.0
    for row, spot in zip(similarity, spots, strict=True):
        if spot is None:
            assert skip_cost is not None
            sums -= skip_cost
        else:
            sums += row[spot[0]] if score == "start" else float(np.mean(row[spot[0] : spot[1] + 1]))
    return sums


def search(
    similarity: np.ndarray, lines: list[float], slots: list[float], spans: bool, score: str, skip_cost: float | None
) -> float | None:
    """The largest sum, by trying every choice of first slots; None where there is none."""
    best = None
    options: list[Any] = [*range(len(slots)), *([None] if skip_cost is not None else [])]
    for starts in product(options, repeat=len(lines)):
        spots: list[Spot] = []
        free = 0
        for start, length in zip(starts, lines, strict=True):
            if start is None:
                spots.append(None)
                continue
            end = start
            while spans and end < len(slots) and sum(slots[start : end + 1]) + 1e-9 < length:
                end += 1
            if start < free or end >= len(slots) or sum(slots[start : end + 1]) + 1e-9 < length:
                break
            spots.append((start, end))
            free = end + 1
        else:
            value = total(similarity, tuple(spots), score, skip_cost)
            best = value if best is None else max(best, value)
    return best


MODES = [(False, "start"), (True, "start"), (True, "mean")]


@pytest.mark.parametrize("skip_cost", [None, 0.4])
@pytest.mark.parametrize(("spans", "score"), MODES)
def test_programme_equals_brute_force(spans: bool, score: str, skip_cost: float | None) -> None:
    rng = np.random.default_rng(7)
    solved = 0
    for _ in range(1000):
        n, j = int(rng.integers(1, 4)), int(rng.integers(1, 7))
        # tenths: lines that are exactly as long as their slots do happen
        lines, slots = rng.integers(5, 40, n) / 10, rng.integers(5, 30, j) / 10
        similarity = rng.normal(size=(n, j)).round(2)
        expected = search(similarity, lines.tolist(), slots.tolist(), spans, score, skip_cost)
        if expected is None:
            with pytest.raises(NoSolutionError):
                align_narration(similarity, lines, slots, spans=spans, score=score, skip_cost=skip_cost)
            continue
        spots = align_narration(similarity, lines, slots, spans=spans, score=score, skip_cost=skip_cost)
        assert total(similarity, spots, score, skip_cost) == pytest.approx(expected, abs=1e-9)
        taken = [spot for spot in spots if spot is not None]
        assert all(a[1] < b[0] for a, b in pairwise(taken))
        for spot, length in zip(spots, lines, strict=True):
            assert spot is None or slots[spot[0] : spot[1] + 1].sum() + 1e-9 >= length
            assert spot is None or spans or spot[0] == spot[1]
        solved += 1
    assert solved > 250


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("plain", {"spans": False}),
        ("spans_start", {"score": "start"}),
        ("spans_mean", {}),
        ("skip", {"spans": False, "skip_cost": True}),
    ],
)
def test_golden_totals(key: str, options: dict[str, Any]) -> None:
    path = SHARED / "golden" / "narration_dp.json"
    if not path.is_file():
        absent("film", f"no golden vectors at {path}")
    cases = json.loads(path.read_text())["cases"]
    assert len(cases) >= 60
    for case in cases:
        how = {**options, "skip_cost": case["skip_cost"]} if "skip_cost" in options else options
        similarity = np.array(case["c"])
        if case[key] is None:
            with pytest.raises(NoSolutionError):
                align_narration(similarity, case["L_nar"], case["L_shot"], **how)
            continue
        spots = align_narration(similarity, case["L_nar"], case["L_shot"], **how)
        score = "mean" if key == "spans_mean" else "start"
        assert total(similarity, spots, score, how.get("skip_cost")) == pytest.approx(case[key], abs=1e-9)


def test_nothing_to_place_and_nowhere_to_place_it() -> None:
    assert align_narration(np.zeros((0, 4)), [], [1.0] * 4) == ()
    with pytest.raises(NoSolutionError):
        align_narration(np.zeros((1, 0)), [1.0], [])
    assert align_narration(np.zeros((1, 0)), [1.0], [], skip_cost=1.0) == (None,)
    with pytest.raises(ValueError, match="similarity"):
        align_narration(np.zeros((2, 2)), [1.0], [1.0, 1.0])


RATE = Fraction(24)


def make_script(durations: list[float], worth: list[float] | None = None) -> Script:
    worths = worth or [1.0] * len(durations)
    at = np.cumsum([0.0, *durations]).tolist()
    lines = [
        ScriptLine(n, f"Line {n}.", Span(at[n], at[n] + d), w)
        for n, (d, w) in enumerate(zip(durations, worths, strict=True))
    ]
    return Script(tuple(lines), "test")


def make_slots(seconds: list[float], energy: list[float] | None = None) -> Slots:
    edges = (0, *(int(x) for x in np.cumsum([round(s * 24) for s in seconds])))
    return Slots(RATE, edges, edges[-1], tuple(energy or [0.5] * len(seconds)))


def make_captions(similarity: np.ndarray) -> Captions:
    return Captions(tuple("" for _ in range(similarity.shape[1])), "test", similarity.astype(np.float32))


PLAIN = NarrationSettings(spread_weight=0, quiet_weight=0)


def test_lines_keep_their_order_and_a_gap_between_them() -> None:
    rng = np.random.default_rng(3)
    durations = [2.4, 1.1, 3.3, 0.7]
    slots = make_slots([2.0] * 14)
    placed = place_lines(
        make_script(durations), make_captions(rng.random((4, 14))), slots, np.arange(0, 28, 0.5), PLAIN
    )
    starts = [p.start_frame / 24 for p in placed.placements]
    assert [p.line for p in placed.placements] == [0, 1, 2, 3]
    for start, length, following in zip(starts, durations, [*starts[1:], 28.0], strict=False):
        gap = 0.6 if following < 28 else 0.0
        assert start + length + gap <= following + 1e-6
    assert placed.warnings == ()


def test_line_goes_to_the_shot_that_it_is_about() -> None:
    similarity = np.zeros((2, 10))
    similarity[0, 2] = similarity[1, 7] = 1.0
    placed = place_lines(make_script([1.0, 1.0]), make_captions(similarity), make_slots([2.0] * 10), np.zeros(0), PLAIN)
    assert [p.slot for p in placed.placements] == [2, 7]
    assert [p.start_frame for p in placed.placements] == [int(np.ceil((s + float(LEAD)) * 24)) for s in (4, 14)]
    assert [p.similarity for p in placed.placements] == [1.0, 1.0]


def test_lines_are_spread_and_shun_loud_music() -> None:
    flat = make_captions(np.zeros((3, 12)))
    spread = place_lines(
        make_script([1.0] * 3),
        flat,
        make_slots([2.0] * 12),
        np.zeros(0),
        NarrationSettings(spread_weight=1, quiet_weight=0),
    )
    # thirds of 24 s have their middles at 4, 12 and 20 s: the edges of slots 1|2, 5|6 and 9|10
    assert [p.slot in near for p, near in zip(spread.placements, ({1, 2}, {5, 6}, {9, 10}), strict=True)] == [True] * 3
    energy = [1.0] * 12
    energy[8] = 0.0
    shy = place_lines(
        make_script([1.0]),
        make_captions(np.zeros((1, 12))),
        make_slots([2.0] * 12, energy),
        np.zeros(0),
        NarrationSettings(spread_weight=0, quiet_weight=1),
    )
    assert shy.placements[0].slot == 8


def test_no_line_starts_on_a_hit() -> None:
    hits = np.array([0.0, 0.2, 0.45, 2.0, 2.2, 4.0, 4.15])
    for slot in range(3):
        wanted = np.zeros((1, 3))
        wanted[0, slot] = 1.0
        placed = place_lines(make_script([0.8]), make_captions(wanted), make_slots([2.0] * 3), hits, PLAIN)
        start = placed.placements[0].start_frame / 24
        assert placed.placements[0].slot == slot
        assert 2 * slot <= start < 2 * slot + 2
        assert np.abs(hits - start).min() >= PLAIN.peak_seconds


def test_least_bad_frame_where_hits_are_everywhere() -> None:
    hits = np.arange(0, 10, 0.1)
    frame = choose_frame(1.0, 1.5, hits, RATE, 0.1)
    distances = [np.abs(hits - f / 24).min() for f in range(24, 37)]
    assert np.abs(hits - frame / 24).min() == pytest.approx(max(distances))


def test_what_does_not_fit_is_dropped_worst_first_and_named() -> None:
    durations, worth = [3.0, 3.0, 3.0, 3.0], [0.9, 0.2, 0.5, 0.8]
    # room for two lines of 3.75 s each
    placed = place_lines(
        make_script(durations, worth), make_captions(np.zeros((4, 4))), make_slots([2.0] * 4), np.zeros(0), PLAIN
    )
    assert [p.line for p in placed.placements] == [0, 3]
    assert len(placed.warnings) == 2
    assert "Line 1." in placed.warnings[0]
    assert "Line 2." in placed.warnings[1]


def test_a_line_longer_than_the_trailer_does_not_take_the_others_with_it() -> None:
    placed = place_lines(
        make_script([1.0, 60.0, 1.0], [0.3, 0.9, 0.2]),
        make_captions(np.zeros((3, 6))),
        make_slots([2.0] * 6),
        np.zeros(0),
        PLAIN,
    )
    assert [p.line for p in placed.placements] == [0, 2]
    assert len(placed.warnings) == 1
    assert "Line 1." in placed.warnings[0]


@settings(max_examples=60, deadline=None)
@given(
    durations=st.lists(st.floats(0.2, 6.0), min_size=0, max_size=8),
    seconds=st.lists(st.floats(0.3, 4.0), min_size=3, max_size=12),
    seed=st.integers(0, 99),
)
def test_every_line_is_placed_or_named(durations: list[float], seconds: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    script = make_script(durations, rng.random(len(durations)).tolist())
    slots = make_slots(seconds)
    assume(min(slots.lengths) > 0)
    placed = place_lines(
        script,
        make_captions(rng.random((len(durations), len(seconds)))),
        slots,
        rng.random(9) * 20,
        NarrationSettings(),
    )
    assert len(placed.placements) + len(placed.warnings) == len(durations)
    end = -1.0
    for p in placed.placements:
        start = p.start_frame / 24
        assert slots.edges[p.slot] <= p.start_frame < slots.edges[p.slot + 1]
        assert start >= end
        end = start + p.span.duration + 0.6 - 1 / 24
        assert start + p.span.duration <= slots.frames / 24 + 1 / 24
