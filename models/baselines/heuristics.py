"""Fill a trailer's slots without looking at the film: orders that any learned system has to beat.

Every evaluation table carries these rows, or it says nothing: chronological order alone agrees with real trailers on
.70 of pairs (docs/method.md section 5). I film shots, J slots; shots and slots are counted from 0.
Each function raises NoSolutionError where there are more slots than shots, as every decoder does: no shot comes twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NoSolutionError


def fill_random(n_shots: int, n_slots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Different shots in random order, (J,) int64; one permutation is drawn from rng."""
    check_slots(n_shots, n_slots)
    return rng.permutation(n_shots)[:n_slots]


def fill_uniform(n_shots: int, n_slots: int, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """The middle shot of each of J equal parts of the film, (J,) int64. rng is not read: the same call serves all three."""
    del rng
    check_slots(n_shots, n_slots)
    return ((np.arange(n_slots) + 0.5) * n_shots / n_slots).astype(np.int64)


def fill_chronological(n_shots: int, n_slots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """What fill_random would choose from the same rng, in film order, (J,) int64."""
    return np.sort(fill_random(n_shots, n_slots, rng))


def check_slots(n_shots: int, n_slots: int) -> None:
    """NoSolutionError where the film has fewer shots than slots; ValueError for a trailer without slots."""
    if n_slots < 1:
        raise ValueError(f"cannot fill {n_slots} slots")
    if n_slots > n_shots:
        raise NoSolutionError(f"{n_slots} slots to fill, but the film has only {n_shots} shots: make it shorter")
