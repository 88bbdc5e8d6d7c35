"""Invented films look like films, and the invented editor has the habits that trailers measure."""

from __future__ import annotations

import numpy as np
import pytest

from models.ssmp.data import load_samples
from models.ssmp.metrics import slot_agreement
from models.ssmp.simulate import (
    LAST_USED,
    NEAR_DUPLICATE,
    STAGE_ENDS,
    STAGE_SHARES,
    FilmShots,
    edit_trailer,
    excerpt_trailer,
    find_scenes,
    generate_film,
    join_films,
    vary_film,
    write_dataset,
)

N_SLOTS = 20


@pytest.fixture(scope="module")
def trailers() -> list[tuple[FilmShots, np.ndarray]]:
    """150 films of 90 shots, half of them spliced from others, with one trailer each."""
    rng = np.random.default_rng(0)
    films = [generate_film(rng, feature_dim=64, n_shots=120) for _ in range(100)]
    films += [vary_film(films[i : i + 3], rng) for i in range(75)]
    enough = [film for film in films if (film.usable_I & (film.start_I < LAST_USED)).sum() >= 2 * N_SLOTS]
    return [(film, edit_trailer(film, N_SLOTS, rng)) for film in enough]


def test_films_are_films(trailers):
    assert len(trailers) > 150
    cosines = []
    for film, _ in trailers:
        assert film.features_ID.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(film.features_ID, axis=1), 1, atol=1e-5)
        assert film.start_I[0] == 0
        assert film.start_I[-1] < 1
        assert set(film.energy_I) == set(np.arange(len(film.energy_I)) / (len(film.energy_I) - 1))
        n = len(film.features_ID)
        cosines.append(((film.features_ID @ film.features_ID.T).sum() - n) / (n * (n - 1)))
    assert 0.5 < np.mean(cosines) < 0.6  # as shots of real films: docs/method.md section 2


def test_shots_of_a_scene_stay_together():
    film = generate_film(np.random.default_rng(4), n_shots=100)
    scenes = find_scenes(film.features_ID)
    assert (np.diff(scenes) >= 0).all()
    assert 5 < scenes.max() + 1 < 25
    same = scenes[:, None] == scenes
    cosines = film.features_ID @ film.features_ID.T
    assert cosines[same & ~np.eye(100, dtype=bool)].mean() > cosines[~same].mean() + 0.05


def test_no_shot_twice_none_unusable_nothing_from_the_end(trailers):
    for film, shots in trailers:
        assert len(set(shots.tolist())) == N_SLOTS
        assert film.usable_I[shots].all()
        assert (film.start_I[shots] < LAST_USED).all()


def test_shots_come_from_the_parts_of_the_film_that_trailers_use(trailers):
    starts = np.concatenate([film.start_I[shots] for film, shots in trailers])
    shares = np.histogram(starts, STAGE_ENDS)[0] / len(starts)
    wanted = np.array(STAGE_SHARES) / sum(STAGE_SHARES)
    assert np.abs(shares - wanted).max() < 0.07  # the climax and the cold open pull towards the film's second half


def test_trailers_are_roughly_but_not_strictly_chronological(trailers):
    agreement = np.mean([slot_agreement(np.sort(shots).tolist(), shots.tolist()) for _, shots in trailers])
    assert agreement == pytest.approx(0.70, abs=0.08)  # measured: chronological order agrees on .70


def test_energy_rises_to_the_climax_and_drops_for_the_last_beat(trailers):
    energy = np.mean([film.energy_I[shots] for film, shots in trailers], axis=0)
    set_up, middle, climax = energy[2:6].mean(), energy[8:12].mean(), energy[15:19].mean()
    assert set_up + 0.1 < middle < climax - 0.1
    assert energy[-1] < climax - 0.3
    assert energy[0] > set_up + 0.1  # the cold open


def test_neighbours_form_short_runs_and_nothing_repeats_itself(trailers):
    steps = np.concatenate([np.diff(shots) for _, shots in trailers])
    assert 0.3 < np.isin(steps, (1, 2, 3)).mean() < 0.6
    beside = [
        (film.features_ID[shots][:-1] * film.features_ID[shots][1:]).sum(axis=1).max() for film, shots in trailers
    ]
    assert np.mean(np.array(beside) > NEAR_DUPLICATE) < 0.02
    most_of_one_scene = [np.bincount(find_scenes(film.features_ID)[shots]).max() for film, shots in trailers]
    assert np.mean(most_of_one_scene) < 0.3 * N_SLOTS


def test_an_editor_is_not_a_machine_but_a_seed_is():
    film = generate_film(np.random.default_rng(1), n_shots=100)
    first = edit_trailer(film, 12, np.random.default_rng(5))
    assert np.array_equal(first, edit_trailer(film, 12, np.random.default_rng(5)))
    assert not np.array_equal(first, edit_trailer(film, 12, np.random.default_rng(6)))
    assert film.usable_I.sum() > 80  # and the film is left as it was


def test_an_excerpt_is_runs_of_consecutive_shots():
    film = generate_film(np.random.default_rng(1), n_shots=100)
    shots = excerpt_trailer(film, 30, np.random.default_rng(2))
    assert len(set(shots.tolist())) == 30
    assert film.usable_I[shots].all()
    assert (film.start_I[shots] < LAST_USED).all()
    assert np.mean(np.diff(shots) == 1) > 0.5
    with pytest.raises(ValueError, match="101 slots"):
        excerpt_trailer(film, 101, np.random.default_rng(2))


def test_joined_films_follow_one_another():
    films = [generate_film(np.random.default_rng(seed), n_shots=n) for seed, n in ((1, 30), (2, 60))]
    joined = join_films(films)
    assert len(joined.start_I) == 90
    assert joined.start_I[30] == pytest.approx(1 / 3)
    assert np.array_equal(joined.features_ID[30:], films[1].features_ID)


def test_too_many_slots_are_refused():
    film = generate_film(np.random.default_rng(1), n_shots=20)
    with pytest.raises(ValueError, match="30 slots"):
        edit_trailer(film, 30, np.random.default_rng(0))
    with pytest.raises(ValueError, match="story order"):
        FilmShots(film.features_ID, film.energy_I, film.start_I[::-1].copy(), film.usable_I)
    with pytest.raises(ValueError, match="at least one film"):
        vary_film([], np.random.default_rng(0))


def test_what_is_written_is_read_with_the_planted_labels(tmp_path):
    rng = np.random.default_rng(3)
    real = [generate_film(rng, feature_dim=128, n_shots=70) for _ in range(2)]
    write_dataset(real, tmp_path / "a", 4, 2, np.random.default_rng(9), slots=(8, 12))
    write_dataset(real, tmp_path / "b", 4, 2, np.random.default_rng(9), slots=(8, 12))
    write_dataset([], tmp_path / "c", 2, 1, np.random.default_rng(9), feature_dim=16, excerpts=1.0)
    samples = load_samples(tmp_path / "a")
    assert len(samples) == 8
    for sample in samples:
        assert len(set(sample.labels_J.tolist())) == len(sample.labels_J) <= 12
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert len(load_samples(tmp_path / "c")) == 2
