"""Choose and order the trailer's shots: guards first, then SSMP fills the slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from models.ssmp.generate import generate
from pipeline.edit import Slots
from pipeline.errors import NoSolutionError
from pipeline.records import F64, Bool, Selection, Shots
from pipeline.settings import SelectionSettings

Predict = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def select_shots(
    predict: Predict,
    shots: Shots,
    slots: Slots,
    seconds: F64,
    excluded: Mapping[int, str],
    settings: SelectionSettings,
    *,
    track: str,
    model: dict[str, str],
    seed: int,
    pins: Mapping[int, int] | None = None,
) -> Selection:
    """Fill every slot with a shot of its own that is long enough for it.

    predict: assignment (J,), -1 open -> probabilities (J, I). seconds (I,): the longest cut that each shot can give.
    The seed gives the uniforms that SSMP draws against. Raises NoSolutionError when no complete filling exists.
    """
    lengths = np.array([float(Fraction(frames) / slots.frame_rate) for frames in slots.lengths])
    fits: Bool = seconds[None, :] + 1e-6 >= lengths[:, None]
    uniforms = np.random.default_rng(seed).random((settings.max_rounds, len(slots)))
    steered = steer_by_energy(predict, np.array(slots.energy), shots, excluded, settings.energy_weight)
    if len(excluded) >= len(shots):
        raise NoSolutionError(f"every one of the film's {len(shots)} shots is excluded (guards.* says by what)")
    filled = generate(
        steered,
        len(shots),
        len(slots),
        uniforms=uniforms,
        pins=pins,
        bans=sorted(excluded),
        fits=fits,
        decoder=settings.decoder.value,
        max_rounds=settings.max_rounds,
    )
    return Selection(
        film=shots.film.fingerprint,
        track=track,
        shots=tuple(int(shot) for shot in filled.shots),
        confidence=tuple(float(p) for p in filled.confidence),
        remasked=tuple(int(n) for n in filled.hidden_again),
        revised=tuple(int(n) for n in filled.revised),
        rounds=filled.rounds,
        forced=filled.forced,
        excluded={str(shot): reason for shot, reason in excluded.items()},
        model=model,
        pinned=tuple(sorted(pins or {})),
        warnings=slots.warnings,
    )


def steer_by_energy(
    predict: Predict, slot_energy: F64, shots: Shots, excluded: Mapping[int, str], weight: float
) -> Predict:
    """predict, with each probability times exp(-weight * (music energy - motion)²): loud goes with moving.

    Both are ranks, 0..1, the shots' among those that may be shown. **choice**: SSMP does not hear the music.
    """
    usable = np.array([number not in excluded for number in range(len(shots))])
    order = np.sort(shots.energy[usable])
    rank = np.searchsorted(order, shots.energy) / max(1, len(order) - 1)
    factor = np.exp(-weight * (slot_energy[:, None] - np.clip(rank, 0, 1)[None, :]) ** 2)

    def steered(assignment: NDArray[np.int64]) -> NDArray[np.float64]:
        probabilities = predict(assignment) * factor
        total = probabilities.sum(axis=1, keepdims=True)
        return np.asarray(probabilities / np.maximum(total, 1e-300))

    return steered
