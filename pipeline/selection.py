"""Choose and order the trailer's shots: guards first, then SSMP fills the slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from models.ssmp.generate import OPEN, generate
from pipeline.coverage import PARTS, PUBLISHED
from pipeline.errors import InputError, NoSolutionError
from pipeline.records import F32, F64, I64, Bool, Selection, Shots
from pipeline.refine import BANNED, NEVER, Refinement
from pipeline.settings import SelectionSettings
from pipeline.slots import Slots

Predict = Callable[[NDArray[np.int64]], NDArray[np.float64]]

SLOWED = 0.2  # weight of a shot that would have to be slowed down: any other that fits is better
ALIKE = 0.85  # cosine from which two shots look alike: a flying squirrel three times 0.87, cuts of one scene 0.6 to 0.8
SPARE = 1.2  # times the slots, the shots that the bounds on scenes leave to choose from
RUNNERS_UP = 5  # shots that are remembered for each slot
FEWEST_OF_SCENE = 2  # shots that a scene may always give


def select_shots(
    predict: Predict,
    shots: Shots,
    slots: Slots,
    seconds: F64,
    excluded: Mapping[int, str],
    settings: SelectionSettings,
    *,
    looks: I64,
    track: str,
    model: dict[str, str],
    seed: int,
    refinement: Refinement | None = None,
) -> Selection:
    """Fill every slot with a shot of its own that is long enough for it, slowed down by slots.slow_down at most.

    predict: assignment (J,), -1 open -> probabilities (J, I). seconds (I,): the longest cut that each shot can give. looks
    (I,): number of the group of shots that look alike; a scene, and a look, give no more than they may.
    The seed gives the uniforms that SSMP draws against. refinement: what a person keeps and bans; what is kept may have been
    excluded, too. Raises NoSolutionError when no complete filling exists, InputError where a pinned shot cannot stand.
    """
    refinement = refinement or Refinement()
    excluded = {**excluded, **dict.fromkeys(refinement.banned, BANNED)}
    if len(excluded) >= len(shots):
        raise NoSolutionError(f"every one of the film's {len(shots)} shots is excluded (guards.* says by what)")
    steered, fits = weigh(predict, shots, slots, seconds, excluded, settings)
    check_pins(refinement, shots, excluded, seconds, slots)
    for slot, shot in refinement.barred.items():
        fits[slot, shot] = False
    uniforms = np.random.default_rng(seed).random((settings.max_rounds, len(slots)))
    filled = generate(
        steered,
        len(shots),
        len(slots),
        uniforms=uniforms,
        pins=refinement.pins,
        bans=sorted(excluded),
        fits=fits,
        groups=[(looks, 1), (shots.scenes, most_of_scene(shots, excluded, len(slots), settings.scene_share))],
        decoder=settings.decoder.value,
        max_rounds=settings.max_rounds,
    )
    return Selection(
        film=shots.film.fingerprint,
        track=track,
        shots=tuple(int(shot) for shot in filled.shots),
        confidence=tuple(
            refinement.cuts[slot].confidence if slot in refinement.cuts else float(p)
            for slot, p in enumerate(filled.confidence)
        ),
        remasked=tuple(int(n) for n in filled.hidden_again),
        revised=tuple(int(n) for n in filled.revised),
        rounds=filled.rounds,
        forced=filled.forced,
        excluded={str(shot): reason for shot, reason in excluded.items()},
        model=model,
        pinned=tuple(sorted(refinement.pinned)),
        warnings=slots.warnings,
        runners_up=tuple(
            rank_slot(steered, filled.shots, slot, fits, excluded, RUNNERS_UP) for slot in range(len(slots))
        ),
    )


def weigh(
    predict: Predict,
    shots: Shots,
    slots: Slots,
    seconds: F64,
    excluded: Mapping[int, str],
    settings: SelectionSettings,
) -> tuple[Predict, Bool]:
    """predict, steered by the music's energy, the film's order and what is long enough; and (J, I) which shots fit."""
    lengths = lengths_of(slots)
    whole: Bool = seconds[None, :] + 1e-6 >= lengths[:, None]
    fits: Bool = seconds[None, :] / (1 - slots.slow_down) + 1e-6 >= lengths[:, None]
    weights = weigh_energy(np.array(slots.energy), shots, excluded, settings.energy_weight)
    weights *= weigh_order(slots, shots, settings.order_weight) * np.where(whole, 1.0, SLOWED)
    return steer(predict, weights), fits


def lengths_of(slots: Slots) -> F64:
    """(J,) s."""
    return np.array([float(Fraction(frames) / slots.frame_rate) for frames in slots.lengths])


def check_pins(refinement: Refinement, shots: Shots, excluded: Mapping[int, str], seconds: F64, slots: Slots) -> None:
    """Raises InputError for a pinned shot that may never be shown, or that is too short for its slot."""
    lengths = lengths_of(slots)
    for slot, shot in refinement.pins.items():
        if slot >= len(lengths):
            raise InputError(f"there is no slot {slot}: the trailer has {len(lengths)}, counted from 0")
        if shot in excluded and shots.flags[shot] & NEVER:
            raise InputError(
                f"shot {shot} cannot stand in slot {slot}: {excluded[shot]} (the settings guards.* say so)"
            )
        gives = float(seconds[shot]) / (1 - slots.slow_down)
        if gives + 1e-6 < lengths[slot]:
            raise InputError(
                f"shot {shot} cannot stand in slot {slot}: it gives {gives:.2f} s, the slot lasts {lengths[slot]:.2f} s"
            )


def rank_slot(
    predict: Predict, chosen: I64, slot: int, fits: Bool, excluded: Mapping[int, str], most: int
) -> tuple[tuple[int, float], ...]:
    """The shots that a slot could have instead, with probabilities, best first: all other slots as they are.

    predict: steered. chosen (J,). fits (J, I): where each shot is long enough.
    """
    free = fits[slot].copy()
    free[[*excluded, *(int(shot) for shot in chosen)]] = False
    assignment = np.array(chosen, np.int64)
    assignment[slot] = OPEN
    p = np.asarray(predict(assignment)[slot], np.float64) * free
    best = [int(shot) for shot in np.argsort(-p, kind="stable")[:most] if p[shot] > 0]
    return tuple((shot, round(float(p[shot]), 6)) for shot in best)


def most_of_scene(shots: Shots, excluded: Mapping[int, str], n_slots: int, share: float) -> int:
    """How many shots a scene may give: its share of the slots, and more where the film's scenes are so few that they must.

    As many as leave SPARE times the slots to choose from, or the bound would be given up wherever the last slots are.
    """
    sizes = np.bincount([int(scene) for shot, scene in enumerate(shots.scenes) if shot not in excluded])
    most = max(FEWEST_OF_SCENE, round(share * n_slots))
    while np.minimum(sizes, most).sum() < min(SPARE * n_slots, sizes.sum()):
        most += 1
    return most


def group_looks(vectors: F32) -> I64:
    """(I,) Number of the group of each shot: shots of a group all look alike to the encoder. vectors (I, d): unit rows.

    What all shots have in common is taken off first, for no shot of a film is far from another. Complete linkage: any two
    of a group are alike, so that a film does not run together through what lies between.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(vectors) < 3:
        return np.arange(len(vectors))
    own = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    rows, columns = np.triu_indices(len(own), 1)
    apart = np.clip(1 - (own @ own.T)[rows, columns], 0, 2)
    return np.asarray(fcluster(linkage(apart, "complete"), 1 - ALIKE, "distance"), np.int64)


def steer(predict: Predict, weights: F64) -> Predict:
    """predict, with every probability times its weight (J, I), and rows that sum to 1 again."""

    def steered(assignment: NDArray[np.int64]) -> NDArray[np.float64]:
        probabilities = predict(assignment) * weights
        total = probabilities.sum(axis=1, keepdims=True)
        return np.asarray(probabilities / np.maximum(total, 1e-300))

    return steered


def weigh_energy(slot_energy: F64, shots: Shots, excluded: Mapping[int, str], weight: float) -> F64:
    """(J, I) exp(-weight * (music energy - motion)²): loud goes with moving.

    Both are ranks, 0..1, the shots' among those that may be shown. **choice**: SSMP does not hear the music.
    """
    usable = np.array([number not in excluded for number in range(len(shots))])
    order = np.sort(shots.energy[usable])
    rank = np.searchsorted(order, shots.energy) / max(1, len(order) - 1)
    factors: F64 = np.exp(-weight * (slot_energy[:, None] - np.clip(rank, 0, 1)[None, :]) ** 2)
    return factors


def weigh_order(slots: Slots, shots: Shots, weight: float) -> F64:
    """(J, I) exp(-weight * (place in the film - place wanted)²), places 0..1 of the story.

    **choice**: a trailer tells its film from the beginning on. Plain chronological order agrees with 70 % of the pairs of
    real trailers, more than SSMP (field figures, AA), and real ones take more from some parts than from others: the place
    wanted moves through the story so that each part gets its published share. The last beat may come from anywhere.
    """
    story = [
        span
        for span, flags in zip(shots.spans, shots.flags, strict=True)
        if not flags & {"opening", "credits", "ending"}
    ]
    start, end = (story[0].start, story[-1].end) if story else (shots.film.start, shots.film.end)
    middles = np.array([(span.start + span.end) / 2 for span in shots.spans])
    places = (middles - start) / max(end - start, 1e-9)
    told = np.array(slots.edges, np.float64)
    share = (told[:-1] + told[1:]) / 2 / told[-1]
    told_until = PARTS[-2]  # what comes after it is the part that trailers keep to themselves
    shares = np.cumsum([0.0, *PUBLISHED[:-1]]) / sum(PUBLISHED[:-1])
    wanted = np.interp(share, shares, np.array(PARTS[:-1]) / told_until)
    factors = np.exp(-weight * (wanted[:, None] - places[None, :]) ** 2)
    return factors if slots.button is None else np.concatenate([factors, np.ones((1, len(shots)))])
