"""Evaluation gives hand-worked numbers, and chance for random trailers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.ssmp.data import Facts, Sample
from models.ssmp.evaluate import (
    Made,
    count_corrections,
    evaluate_model,
    evaluate_trailers,
    make_by_heuristics,
    measure_trailer,
)
from models.ssmp.generate import generate
from models.ssmp.model import SSMPConfig
from models.ssmp.train import make_model


def sample_of(name: str, n_shots: int, labels: list[int], seed: int = 0) -> Sample:
    rows = np.random.default_rng(seed).normal(size=(n_shots, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Sample(name, name.rpartition("-")[0], rows, rows[labels], np.array(labels))


def test_a_hand_worked_trailer():
    """G = 3 1 9 9, T = 1 3 4: sets {1, 3, 9} and {1, 3, 4}."""
    row = measure_trailer(Made([3, 1, 9, 9]), [1, 3, 4])
    assert (row.precision, row.recall, row.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    near = row.matched[1]  # 3 lies within 1 of 3 and of 4, so all of T is found: recall 1
    assert (near.precision, near.recall, near.f1) == pytest.approx((2 / 3, 1, 0.8))
    strict = row.one_to_one[1]  # but 3 vouches for one of them only, and 9 for none
    assert (strict.precision, strict.recall) == pytest.approx((2 / 3, 2 / 3))
    assert (row.ld, row.ld_normalised, row.sld) == (
        3,
        0.75,
        1,
    )  # keep the 3: drop... 1 3 4 -> insert, 3, substitute two
    assert row.aa_common == 0.0  # 3 and 1 are shared, in the other order
    assert row.aa_slot is None  # lengths differ
    assert row.slot_accuracy is None


def test_means_over_trailers_leave_out_what_is_not_defined():
    """T-1 = 0 1 2 against 0 1 2: all right. T-2 = 5 6 7 against 0 1 2: nothing shared, order agrees."""
    samples = [sample_of("a-1", 9, [0, 1, 2]), sample_of("b-1", 9, [0, 1, 2])]
    found = evaluate_trailers({"x": [Made([0, 1, 2]), Made([5, 6, 7])]}, samples)
    row = found.rows["x"]
    assert (row.f1, row.ld, row.ld_normalised, row.aa_common, row.unshared) == (0.5, 1.5, 0.5, 1.0, 1)
    assert (row.aa_slot, row.slot_accuracy, row.sld) == (1.0, 0.5, 0.0)
    assert row.matched[3].f1 == pytest.approx((1 + 1 / 3) / 2)  # 5 lies within 3 of 2, 6 and 7 of none: P 1/3, R 1/3
    assert (found.trailers, found.films, found.best_slot_accuracy) == (2, 2, 1.0)


def test_periods_and_genres():
    samples = [sample_of(f"{film}-1", 9, [0, 1]) for film in "abcd"]
    facts = {"a": Facts(2004, ("comedy",)), "b": Facts(2010, ("comedy", "crime")), "c": Facts(None, ())}
    made = {"x": [Made([0, 1]), Made([0, 5]), Made([7, 8]), Made([7, 8])]}
    groups = evaluate_trailers(made, samples, facts=facts).groups
    assert {group: (count, rows["x"].f1) for group, (count, rows) in groups.items()} == {
        "2000-2009": (1, 1.0),
        "2010-2019": (1, 0.5),
        "comedy": (2, 0.75),
        "crime": (1, 0.5),
    }


def test_random_trailers_score_chance():
    """I = 1900, 90 of 95 shots (docs/method.md section 5): F1 .047, .200 within 2; LD 94.75 where J is 95; AA .50.

    The expected share of hits is J / I = .05 at J = 95 and tolerance 0. Bounds: four deviations of the mean of 60.
    """
    rng = np.random.default_rng(0)
    samples = [sample_of(f"{n}-1", 1900, rng.permutation(1900)[:95].tolist()) for n in range(60)]
    rows = evaluate_trailers(make_by_heuristics(samples), samples).rows
    random = rows["random"]
    assert random.f1 == pytest.approx(0.05, abs=4 * 0.021 / 60**0.5)
    assert random.matched[2].f1 == pytest.approx(0.21, abs=0.03)  # 1 - (1 - 1/20)^5 = .226, less at overlaps
    assert random.ld == pytest.approx(94.75, abs=0.4)
    assert random.aa_slot == pytest.approx(0.5, abs=0.02)
    assert rows["chronological"].f1 == random.f1  # the same shots in another order
    assert rows["chronological"].aa_slot == pytest.approx(0.5, abs=0.02)  # these references have no order


def test_chronological_order_agrees_with_ordered_trailers():
    rng = np.random.default_rng(1)
    samples = [sample_of(f"{n}-1", 100, np.sort(rng.permutation(100)[:12]).tolist()) for n in range(10)]
    rows = evaluate_trailers(make_by_heuristics(samples), samples).rows
    assert rows["chronological"].aa_slot == rows["uniform"].aa_slot == 1.0


def test_corrections_are_counted_by_tenth():
    """Slot 0 wants shot 0 with .5 and loses its draw once; slot 1 is sure."""
    p = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    uniforms = np.array([[0.9, 0.5], [0.0, 0.0]])
    made = generate(lambda assignment: p, 3, 2, uniforms=uniforms, max_rounds=2)
    found = count_corrections([made])
    assert found.hidden_again[0] == 1.0
    assert found.hidden_again[5] == 0.0  # slot 1 of 2 begins at half of the trailer
    assert (found.most_rounds, found.forced, sum(found.revised)) == (2, 0.0, 0.0)


def test_an_evaluation_is_json_and_repeats():
    model = make_model(SSMPConfig(16, 32, heads=2, layers=1), 0)
    samples = [sample_of("a-1", 12, [3, 1, 4]), sample_of("a-2", 12, [5, 9])]
    first, again = evaluate_model(model, samples), evaluate_model(model, samples)
    assert first == again
    told = json.loads(json.dumps(first.tell()))
    assert set(told["rows"]) == {
        "random", "uniform", "chronological", "self_corrective", "confidence", "greedy", "left_to_right"
    }  # fmt: skip
    assert told["rows"]["greedy"]["matched"]["2"]["f1"] >= told["rows"]["greedy"]["matched"]["0"]["f1"]
    assert (told["trailers"], told["films"]) == (2, 1)
    assert first.rows["left_to_right"].rounds == 2.5
    assert first.corrections["self_corrective"].most_rounds <= 33
