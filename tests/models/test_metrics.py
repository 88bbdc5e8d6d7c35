"""Measures agree with the reference, and with brute force where there is one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.ssmp.metrics import (
    best_slot_accuracy,
    length_difference,
    levenshtein,
    normalised_levenshtein,
    pairwise_agreement,
    precision_recall_f1,
    slot_accuracy,
    slot_agreement,
)

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "metrics.json"
shots = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def close(value: float | None):
    return None if value is None else pytest.approx(value, abs=1e-12)


def test_measures_agree_with_the_reference():
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    for case in json.loads(GOLDEN.read_text()):
        got, want = case["pred"], case["gt"]
        for tolerance, expected in case["prf"].items():
            prf = precision_recall_f1(got, want, int(tolerance))
            assert [prf.precision, prf.recall, prf.f1] == pytest.approx(expected, abs=1e-12)
        assert levenshtein(got, want) == case["ld"]
        assert pairwise_agreement(got, want) == close(case["aa_shared"])
        assert slot_agreement(got, want) == close(case["aa_positions"])


@given(shots, shots)
def test_levenshtein_agrees_with_its_definition(got, want):
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (got[i - 1] != want[j - 1]))

    assert levenshtein(got, want) == distance(len(got), len(want))
    assert normalised_levenshtein(got, want) == distance(len(got), len(want)) / max(len(got), len(want))
    assert length_difference(got, want) == abs(len(got) - len(want)) <= levenshtein(got, want)


@given(shots, shots, st.integers(0, 4))
def test_one_to_one_never_exceeds_the_plain_measure(got, want, tolerance):
    plain = precision_recall_f1(got, want, tolerance)
    strict = precision_recall_f1(got, want, tolerance, one_to_one=True)
    assert strict.precision <= plain.precision
    assert strict.recall <= plain.recall
    if tolerance == 0:
        assert strict == plain
    swapped = precision_recall_f1(want, got, tolerance)
    assert (swapped.precision, swapped.recall) == (plain.recall, plain.precision)


def test_one_reference_shot_vouches_for_one_shot_only():
    assert precision_recall_f1([4, 5, 6], [5], 1).precision == 1.0
    assert precision_recall_f1([4, 5, 6], [5], 1, one_to_one=True).precision == pytest.approx(1 / 3)


def test_edges():
    assert precision_recall_f1([], [1]).f1 == 0.0
    assert normalised_levenshtein([], []) == 0.0
    assert slot_accuracy([1, 2, 3], [1, 3, 3]) == pytest.approx(2 / 3)
    assert best_slot_accuracy([1, 3, 3]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="equal lengths"):
        slot_accuracy([1], [1, 2])
    with pytest.raises(ValueError, match="tolerance"):
        precision_recall_f1([1], [1], -1)
