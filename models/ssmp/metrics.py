"""Compare a generated trailer with the real one.

Both are sequences of film-shot indices in trailer order: G generated, T reference (docs/method.md section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PrecisionRecallF1:
    """Shares in 0..1; f1 is the harmonic mean, 0 where both are 0."""

    precision: float
    recall: float
    f1: float


def precision_recall_f1(
    generated: Sequence[int], reference: Sequence[int], tolerance: int = 0, *, one_to_one: bool = False
) -> PrecisionRecallF1:
    """On the sets of shots: a generated shot hits if a reference shot lies within `tolerance` shots of it.

    Recall is the reverse. one_to_one: hits are a maximum matching, so that one reference shot cannot vouch for several.

    An empty side has share 0. Raises ValueError for a negative tolerance.
    """
    from scipy.sparse import csr_array  # a tenth of a second that few calls need
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if tolerance < 0:
        raise ValueError(f"tolerance must be 0 or more, got {tolerance}")
    got, want = sorted(set(generated)), sorted(set(reference))
    if not got or not want:
        return PrecisionRecallF1(0.0, 0.0, 0.0)
    near = np.abs(np.subtract.outer(np.array(got), np.array(want))) <= tolerance
    if one_to_one:
        matched = int((maximum_bipartite_matching(csr_array(near), perm_type="column") >= 0).sum())
        precision, recall = matched / len(got), matched / len(want)
    else:
        precision, recall = float(near.any(axis=1).mean()), float(near.any(axis=0).mean())
    total = precision + recall
    return PrecisionRecallF1(precision, recall, 2 * precision * recall / total if total else 0.0)


def levenshtein(generated: Sequence[int], reference: Sequence[int]) -> int:
    """LD: the fewest insertions, deletions and substitutions of one shot that turn G into T. Not normalised."""
    row = list(range(len(reference) + 1))
    for i, shot in enumerate(generated, 1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(reference, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (shot != wanted))
    return row[-1]


def normalised_levenshtein(generated: Sequence[int], reference: Sequence[int]) -> float:
    """LD / max(|G|, |T|), 0..1; 0 for two empty trailers."""
    longest = max(len(generated), len(reference))
    return levenshtein(generated, reference) / longest if longest else 0.0


def pairwise_agreement(generated: Sequence[int], reference: Sequence[int]) -> float | None:
    """AA_common: over pairs of shots that are in both, the share in the same order; first occurrences count.

    None where fewer than two shots are shared: leave those out of a mean, and count them.
    """
    place_g, place_t = _first_places(generated), _first_places(reference)
    shared = sorted(place_g.keys() & place_t.keys())
    if len(shared) < 2:
        return None
    return _agreement([place_g[shot] for shot in shared], [place_t[shot] for shot in shared])


def slot_agreement(generated: Sequence[int], reference: Sequence[int]) -> float | None:
    """AA_slot: over pairs of slots, the share where G's two shots stand in the film in the same order as T's.

    Pairs with one shot twice in T are left out. None where the lengths differ or no pair is left.
    """
    if len(generated) != len(reference):
        return None
    return _agreement(list(generated), list(reference))


def length_difference(generated: Sequence[int], reference: Sequence[int]) -> int:
    """SLD: | |G| - |T| |, in shots."""
    return abs(len(generated) - len(reference))


def slot_accuracy(generated: Sequence[int], reference: Sequence[int]) -> float:
    """Share of slots with exactly the reference's shot. Lengths must be equal, else ValueError.

    A trailer that repeats a shot bounds this below 1 for a generator that never repeats: see best_slot_accuracy.
    """
    if len(generated) != len(reference) or not reference:
        raise ValueError(f"slot accuracy needs equal lengths, got {len(generated)} and {len(reference)}")
    return float(np.mean(np.asarray(generated) == np.asarray(reference)))


def best_slot_accuracy(reference: Sequence[int]) -> float:
    """The slot accuracy that a generator without repetition can reach: different shots / slots."""
    return len(set(reference)) / len(reference)


def _first_places(shots: Sequence[int]) -> dict[int, int]:
    places: dict[int, int] = {}
    for place, shot in enumerate(shots):
        places.setdefault(shot, place)
    return places


def _agreement(first: Sequence[int], second: Sequence[int]) -> float | None:
    """Share of index pairs whose difference has the same sign in both; ties in `second` are left out."""
    a, b = np.asarray(first), np.asarray(second)
    upper = np.triu_indices(len(a), 1)
    sign_a, sign_b = np.sign(np.subtract.outer(a, a))[upper], np.sign(np.subtract.outer(b, b))[upper]
    counted = sign_b != 0
    return float((sign_a == sign_b)[counted].mean()) if counted.any() else None
