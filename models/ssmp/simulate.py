"""Make films and trailers to learn from: plausible shot sequences, and an editor with the habits of good trailers.

No labelled set of films and trailers is free to ship, so the bundled model learns from this. The habits and their
figures are what good trailers measure (figures of CMTD): which part of the film shots come from, cold open, rough
chronology, escalation, a quiet last beat, variety, short runs of neighbouring shots.
I film shots, J slots, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.ssmp.data import unit_rows

STAGE_ENDS = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90)  # of the film; the measured last bounds are 94.5 and 100 %
STAGE_SHARES = (0.169, 0.190, 0.260, 0.198, 0.133)  # mean over CMTD; the last .049 would be spoilers
LAST_USED = 0.90  # nothing that starts in the last tenth
SCENE_SHOTS = 7  # mean shots in a scene
NEAR_DUPLICATE = 0.97  # cosine; not beside one another
PARTS, PART_SHARES = (1, 2), (0.9, 0.1)  # varied films joined into a longer one
INVENTED_SHARE = 0.1  # of the films when there are real ones to vary
EXCERPT_SHOTS = (3, 8)  # fewest and most shots of a run in an excerpt
COMMON, FILM, SCENE, SETUP, ENERGY, SHOT = 0.38, 0.10, 0.20, 0.14, 0.06, 0.12  # squared parts of a shot's vector


@dataclass(frozen=True, slots=True)
class FilmShots:
    """A film as the editor sees it, shots in story order.

    features_ID: unit rows, float32. energy_I: rank of motion within the film, 0 still .. 1 most.
    start_I: where the shot starts, as a fraction of the film's length, ascending. usable_I: True = may be in a trailer.
    """

    features_ID: NDArray[np.float32]
    energy_I: NDArray[np.float64]
    start_I: NDArray[np.float64]
    usable_I: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.features_ID)
        if self.features_ID.ndim != 2 or not (self.energy_I.shape == self.start_I.shape == self.usable_I.shape == (n,)):
            raise ValueError("features must be (I, D), and energy, start and usable (I,)")
        if (np.diff(self.start_I) < 0).any():
            raise ValueError("shots must be in story order")


def generate_film(rng: np.random.Generator, *, feature_dim: int = 128, n_shots: int | None = None) -> FilmShots:
    """An invented film: scenes of a few camera set-ups, its shots resembling each other (mean cosine 0.5 to 0.6).

    n_shots: drawn from 60..120 if None. One direction is common to all films and one carries the energy, as
    in real encoders, whose vectors lie in a narrow cone. A few shots, and the credits at the end, are not usable.
    """
    n = int(rng.integers(60, 121)) if n_shots is None else n_shots
    encoder = np.random.default_rng(2512_04426)  # what an encoder gives to every shot, and what it makes of motion
    common, energy_axis = _direction(encoder, feature_dim), _direction(encoder, feature_dim)
    look = _direction(rng, feature_dim)
    places = [_direction(rng, feature_dim) for _ in range(max(3, n // (2 * SCENE_SHOTS)))]  # scenes return to places
    rows: list[NDArray[np.float64]] = []
    energy: list[float] = []
    while len(rows) < n:
        scene = unit_rows((places[rng.integers(len(places))] + 0.7 * _direction(rng, feature_dim))[None])[0]
        setups = [_direction(rng, feature_dim) for _ in range(int(rng.integers(1, 4)))]
        calm = np.clip(rng.normal(0.35 + 0.3 * len(rows) / n, 0.25), 0, 1)  # films get faster, on the whole
        for k in range(min(1 + int(rng.poisson(SCENE_SHOTS - 1)), n - len(rows))):
            moved = float(np.clip(rng.normal(calm, 0.15), 0, 1))
            energy.append(moved)
            parts = (
                common,
                look,
                scene,
                setups[k % len(setups)],
                energy_axis * (2 * moved - 1),
                _direction(rng, feature_dim),
            )
            weights = np.sqrt((COMMON, FILM, SCENE, SETUP, ENERGY, SHOT))
            rows.append(weights @ np.array(parts))
    features = unit_rows(np.array(rows)).astype(np.float32)
    usable = (rng.random(n) > 0.04) & (np.arange(n) < n - rng.integers(1, 4))
    return FilmShots(features, rank(np.array(energy)), _starts(n, rng), usable)


def vary_film(films: Sequence[FilmShots], rng: np.random.Generator) -> FilmShots:
    """A new plausible film out of real ones: scenes of one to three films, some moved, some dropped, looks changed.

    Scenes keep about their place in the story and their shots' order. Features get a gain per block and a tint (one for
    the whole film, as another camera or grade would) and small noise per shot, then length 1 again.
    """
    if not films:
        raise ValueError("vary_film needs at least one film")
    chosen = [films[i] for i in rng.permutation(len(films))[: int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))]]
    keep_scene = rng.uniform(0.7, 1.0) / len(chosen) ** 0.5
    scenes: list[tuple[float, int, NDArray[np.int64]]] = []
    for number, film in enumerate(chosen):
        for shots in np.split(np.arange(len(film.start_I)), np.flatnonzero(np.diff(find_scenes(film.features_ID))) + 1):
            if rng.random() < keep_scene:
                kept = shots[rng.random(len(shots)) > 0.08]
                where = float(film.start_I[shots[0]]) + rng.normal(0, 0.04)
                scenes.append((where, number, kept if len(kept) else shots))
    if not scenes:
        scenes = [(0.0, 0, np.arange(len(chosen[0].start_I)))]
    scenes.sort(key=lambda scene: scene[0])
    rows = np.concatenate([chosen[number].features_ID[shots] for _, number, shots in scenes]).astype(np.float64)
    energy = np.concatenate([chosen[number].energy_I[shots] for _, number, shots in scenes])
    usable = np.concatenate([chosen[number].usable_I[shots] for _, number, shots in scenes])
    width = rows.shape[1]
    gain = np.repeat(rng.lognormal(0, 0.15, size=-(-width // 8)), 8)[:width]  # blocks of 8 features
    rows = rows * gain + 0.1 * _direction(rng, width) + rng.normal(0, 0.05 / np.sqrt(width), rows.shape)
    energy = rank(energy + rng.normal(0, 0.03, len(energy)))
    return FilmShots(unit_rows(rows).astype(np.float32), energy, _starts(len(rows), rng), usable)


def join_films(films: Sequence[FilmShots]) -> FilmShots:
    """One long film out of several, one after the other, each for a share of the story as large as its number of shots."""
    shares = np.array([len(film.start_I) for film in films], np.float64)
    edges = np.concatenate([[0.0], np.cumsum(shares / shares.sum())])
    starts = [a + (b - a) * film.start_I for film, a, b in zip(films, edges[:-1], edges[1:], strict=True)]
    return FilmShots(
        features_ID=np.concatenate([film.features_ID for film in films]),
        energy_I=rank(np.concatenate([film.energy_I for film in films])),
        start_I=np.concatenate(starts),
        usable_I=np.concatenate([film.usable_I for film in films]),
    )


def find_scenes(features_ID: NDArray[np.floating]) -> NDArray[np.int64]:
    """Scene number of each shot (I,), ascending: a new scene starts where the three shots before and after match least.

    The best match across the border counts, so that shot and reverse shot stay together; about one border in
    SCENE_SHOTS shots, never two within two shots.
    """
    n = len(features_ID)
    unit = unit_rows(features_ID)
    across = np.array([(unit[max(i - 3, 0) : i] @ unit[i : i + 3].T).max() for i in range(1, n)])
    starts = np.zeros(n, bool)
    for i in np.argsort(across, kind="stable") + 1:
        if starts.sum() >= round(n / SCENE_SHOTS) - 1:
            break
        if not starts[max(i - 1, 0) : i + 2].any():
            starts[i] = True
    scenes: NDArray[np.int64] = np.cumsum(starts)
    return scenes


def edit_trailer(film: FilmShots, n_slots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cut a trailer: which film shot stands in each slot, (J,), no shot twice.

    The slots are planned as runs of one to three. Each run has a key shot, chosen by its place in the story, its energy
    and its salience for that part of the trailer; the rest of a run are the key shot's neighbours in its scene, before
    it and after it. So a slot depends on the film, on the slot to its left and on the slot to its right.
    Raises ValueError where the film has fewer usable shots before its last tenth than there are slots.
    """
    free = film.usable_I & (film.start_I < LAST_USED)
    if free.sum() < n_slots or n_slots < 1:
        raise ValueError(f"{n_slots} slots, but {int(free.sum())} usable shots")
    unit = unit_rows(film.features_ID)
    scenes = find_scenes(film.features_ID)
    typical, central = _salience(unit, scenes)
    runs = _plan_runs(n_slots, rng)
    drift = _drift(len(runs), rng)
    shots = np.full(n_slots, -1, np.int64)
    used_scenes = np.zeros(int(scenes.max()) + 1)
    importance = [_energy_target((first + 0.5) / n_slots, first, n_slots) for first, _ in runs]
    for r in sorted(range(len(runs)), key=lambda r: -importance[r]):  # the climax is cut first, what leads to it later
        first, length = runs[r]
        key = first + int(rng.integers(length))
        place = (key + 0.5) / n_slots
        story = float(np.interp(_quantile(place, drift[r], first), *_STAGES))
        score = (
            -0.5 * ((film.start_I - story) / 0.05) ** 2
            - 0.5 * ((film.energy_I - _energy_target(place, key, n_slots)) / 0.2) ** 2
            + 1.2 * central
            + 1.2 * typical * (1 - 2 * place)  # first what the film is like, later what it is not like every day
            - 1.5 * used_scenes[scenes]
            - 4.0 * _beside(unit, shots, key)
            + 0.3 * rng.gumbel(size=len(unit))
        )
        shots[key] = _take(free, int(np.where(free, score, -np.inf).argmax()))
        used_scenes[scenes[shots[key]]] += 1
        for slot in (*range(key + 1, first + length), *range(key - 1, first - 1, -1)):
            step = 1 if slot > key else -1
            shot = _neighbour(int(shots[slot - step]), step, free, scenes, unit)
            if shot < 0:  # the scene has no more: any good shot near there
                shot = int(np.where(free, score - 4.0 * _beside(unit, shots, slot), -np.inf).argmax())
            shots[slot] = _take(free, shot)
    return shots


def excerpt_trailer(film: FilmShots, n_slots: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """No edit: runs of consecutive shots from anywhere, (J,), no shot twice.

    Not what a trailer looks like, but what a model learns first: to find a slot's shot in the film and to continue from
    it. On edits alone that circuit did not form in 1,000 steps; on excerpts it forms within 600 (LOG.md).
    Raises ValueError where the film has fewer usable shots before its last tenth than there are slots.
    """
    free = film.usable_I & (film.start_I < LAST_USED)
    if free.sum() < n_slots or n_slots < 1:
        raise ValueError(f"{n_slots} slots, but {int(free.sum())} usable shots")
    shots: list[int] = []
    while len(shots) < n_slots:
        start = int(rng.choice(np.flatnonzero(free)))
        for shot in range(start, min(start + int(rng.integers(EXCERPT_SHOTS[0], EXCERPT_SHOTS[1] + 1)), len(free))):
            if free[shot] and len(shots) < n_slots:
                shots.append(_take(free, shot))
    return np.array(shots, np.int64)


def write_dataset(
    films: Sequence[FilmShots],
    out: Path,
    n_films: int,
    trailers_per_film: int,
    rng: np.random.Generator,
    *,
    slots: tuple[int, int] = (6, 48),
    feature_dim: int = 128,
    excerpts: float = 0.0,
) -> None:
    """Write n_films varied films (generated ones if `films` is empty) and their trailers, in the layout data.py reads.

    slots: fewest and most slots, both included; never more than two thirds of the usable shots.
    excerpts: share of the trailers that are excerpts and no edits. A trailer's rows are its film's
    with small noise, as another encode of the same picture would give. Raises ValueError if no varied film has 8 shots.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number in range(1, n_films + 1):
        for _ in range(100):
            if films and rng.random() >= INVENTED_SHARE:
                film = join_films([vary_film(films, rng) for _ in range(int(rng.choice(PARTS, p=PART_SHARES)))])
            else:
                film = generate_film(rng, feature_dim=feature_dim)
            most = min(slots[1], int((film.usable_I & (film.start_I < LAST_USED)).sum()) * 2 // 3)
            if most >= slots[0]:
                break
        else:
            raise ValueError(f"films too short for trailers of {slots[0]} slots")
        np.save(out / f"{number}.npy", film.features_ID)
        for trailer in range(1, trailers_per_film + 1):
            cut = excerpt_trailer if rng.random() < excerpts else edit_trailer
            shots = cut(film, int(rng.integers(slots[0], most + 1)), rng)
            rows = film.features_ID[shots]
            rows = unit_rows(rows + rng.normal(0, 0.05 / np.sqrt(rows.shape[1]), rows.shape)).astype(np.float32)
            np.save(out / f"{number}-{trailer}.npy", rows)


def rank(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 0 (lowest) to 1 (highest); ties in order."""
    places: NDArray[np.float64] = np.argsort(np.argsort(values, kind="stable")) / max(len(values) - 1, 1)
    return places


_STAGES = (np.concatenate(([0.0], np.cumsum(STAGE_SHARES))) / sum(STAGE_SHARES), np.array(STAGE_ENDS))


def _plan_runs(n_slots: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(first slot, length) of runs of 1..3 slots; the last beat stands alone."""
    runs, first = [], 0
    while first < n_slots - 1:
        length = min(int(rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25])), n_slots - 1 - first)
        runs.append((first, length))
        first += length
    return [*runs, (n_slots - 1, 1)]


def _drift(n_runs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How far each run strays from chronology, in quantiles; neighbouring runs stray together (storylines)."""
    drift = np.zeros(n_runs)
    for r in range(n_runs):
        drift[r] = (0.7 * drift[r - 1] if r else 0.0) + rng.normal(0, 0.17)
    return drift


def _quantile(place: float, drift: float, first_slot: int) -> float:
    """The quantile of used film time that a slot draws from; the cold open comes from past the middle."""
    wanted = (0.62 if first_slot == 0 else place) + drift
    return 1 - abs(1 - abs(wanted) % 2)  # reflected at both ends, so that they get no extra weight


def _energy_target(place: float, slot: int, n_slots: int) -> float:
    """Wanted energy rank: a strong cold open, a calm set-up, rising to the climax, dropping for the last beat."""
    if slot == n_slots - 1:
        return 0.15
    return 0.8 if slot == 0 else float(np.interp(place, (0.05, 0.25, 0.9, 1.0), (0.3, 0.35, 1.0, 0.95)))


def _salience(
    unit_ID: NDArray[np.float64], scenes_I: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(typical of the film, central in its scene), both (I,) with mean 0 and deviation 1 over the film."""
    typical = unit_ID @ unit_ID.mean(axis=0)
    central = np.zeros(len(unit_ID))
    for scene in range(int(scenes_I.max()) + 1):
        rows = unit_ID[scenes_I == scene]
        values = rows @ rows.mean(axis=0)
        central[scenes_I == scene] = values - values.mean()
    return _standardise(typical), _standardise(central)


def _standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0, deviation 1."""
    scores: NDArray[np.float64] = (values - values.mean()) / (values.std() + 1e-9)
    return scores


def _beside(unit_ID: NDArray[np.float64], shots_J: NDArray[np.int64], slot: int) -> NDArray[np.float64]:
    """1 for shots that nearly repeat the shot on either side of the slot, (I,)."""
    beside = [shots_J[s] for s in (slot - 1, slot + 1) if 0 <= s < len(shots_J) and shots_J[s] >= 0]
    if not beside:
        return np.zeros(len(unit_ID))
    repeats: NDArray[np.bool_] = (unit_ID @ unit_ID[beside].T).max(axis=1) > NEAR_DUPLICATE
    return repeats.astype(np.float64)


def _neighbour(
    shot: int, step: int, free: NDArray[np.bool_], scenes_I: NDArray[np.int64], unit_ID: NDArray[np.float64]
) -> int:
    """The next free shot of the same scene in that direction that is no near-duplicate, within three; -1 if none."""
    for other in range(shot + step, shot + 4 * step, step):
        in_scene = 0 <= other < len(free) and scenes_I[other] == scenes_I[shot]
        if in_scene and free[other] and unit_ID[other] @ unit_ID[shot] <= NEAR_DUPLICATE:
            return other
    return -1


def _take(free: NDArray[np.bool_], shot: int) -> int:
    free[shot] = False
    return shot


def _starts(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Start fractions of n shots whose lengths are spread as measured: deviation about as large as the mean."""
    lengths = rng.gamma(1.2, 1.0, n) + 0.1
    starts: NDArray[np.float64] = (np.cumsum(lengths) - lengths) / lengths.sum()
    return starts


def _direction(rng: np.random.Generator, width: int) -> NDArray[np.float64]:
    """A random vector of length 1."""
    vector = rng.normal(size=width)
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit
