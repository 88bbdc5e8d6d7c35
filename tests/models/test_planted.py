"""The planted world keeps its rules; a correct model learns them, sabotaged ones do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ssmp.data import Sample, load_samples
from models.ssmp.evaluate import Evaluation, evaluate_model, masked_accuracy
from models.ssmp.generate import generate
from models.ssmp.model import SSMP, SSMPConfig, predict_slots
from models.ssmp.planted import FULL, SMALL, World, make_world, plant_samples, scramble_films, write_planted
from models.ssmp.train import Learner, Recipe, measure_scale


@pytest.mark.parametrize("pattern", [FULL, SMALL])
def test_every_planted_trailer_keeps_the_rules_and_no_other_shot_would(pattern):
    """Brute force, from the features alone: of all I shots, exactly the planted one fits each slot."""
    world = make_world(np.random.default_rng(3), pattern=pattern)
    for sample in plant_samples(world, 100, 4):
        film = sample.movie_ID.astype(np.float64)
        look, cue = (film @ world.looks.T).argmax(1), (film @ world.cues.T).argmax(1)
        scene, hint = film @ world.scene_axes.T, film @ world.hint_axes.T
        by_theme = film @ world.themes.T
        theme = by_theme.mean(0).argmax()
        acts = np.split(np.arange(len(film)), pattern.count("A"))
        by_theme[[0, -1]] = 0  # logo and credits are set in the theme too; they are never stars
        for slot, kind in enumerate(world.kinds):
            label = sample.labels_J[slot]
            left, right = sample.labels_J[max(slot - 1, 0)], sample.labels_J[min(slot + 1, len(pattern) - 1)]
            if kind == "anchor":
                act = acts[pattern[:slot].count("A")]
                fitting = act[[by_theme[act, theme].argmax()]]
            elif kind == "follow":
                fitting = np.flatnonzero(alike(scene, hint[left]) & (look == cue[left]))
            elif kind == "precede":
                fitting = np.flatnonzero(alike(hint, scene[right]) & (look == cue[right]))
            else:
                fitting = np.flatnonzero(alike(scene, scene[left]) & (look == look[right]))
            assert fitting.tolist() == [label], (sample.name, slot, kind)
        assert len(set(sample.labels_J.tolist())) == len(pattern)


def alike(rows_IE: np.ndarray, row_E: np.ndarray) -> np.ndarray:
    """Rows that show the same vector: noise leaves a cosine above .99, two scenes' vectors reach .95 by rare chance."""
    return rows_IE @ row_E > 0.975 * np.linalg.norm(rows_IE, axis=1) * np.linalg.norm(row_E)


def test_films_come_from_the_seed_and_are_written_as_they_are(tmp_path):
    world = make_world(np.random.default_rng(0), scenes=6, looks=4, pattern=SMALL)
    written = write_planted(tmp_path, world, 12, 5)
    again = {sample.name: sample for sample in plant_samples(world, 12, 5)}
    for read in load_samples(tmp_path):
        assert read.labels_J.tolist() == again[read.name].labels_J.tolist()  # by cosine, as planted
        np.testing.assert_allclose(read.movie_ID, again[read.name].movie_ID, atol=1e-6)
    assert [sample.name for sample in written] == list(again)
    assert world.kinds.count("bridge") == SMALL.count("B")


def test_what_cannot_be_planted_is_refused():
    rng = np.random.default_rng(0)
    for pattern in ("", "AX", ">A", "<", "AB"):
        with pytest.raises((ValueError, IndexError)):
            make_world(rng, pattern=pattern)
    with pytest.raises(ValueError, match="do not fit"):
        make_world(rng, feature_dim=16)


# --- What is learned. Reduced size: I = 24, J = 9, one theme, 2 layers, 800 steps, 11 s of one core a training. ---
# The full-size figures and the gate of docs/method.md section 6 are in planted.py. Here thresholds lie below the worst
# of three seeds, since the rounding of another machine acts like another seed; the ceiling of all shares is 1, chance
# .04. Measured, seeds 0 / 1 / 2 over 100 films: masked accuracy at .1 .95 / .84 / .87; slots by self-corrective
# .61 / .46 / .49, confidence .81 / .58 / .64, greedy .24 / .20 / .21, placeholders only .24 / .20 / .21, scrambled film
# .05 / .09 / .05. Sabotaged, confidence, seed 0: no rotary positions .05, mask not applied .06, film hidden .09.

CONFIG = SSMPConfig(64, 128, heads=4, layers=2, in_scale="sqrtD")
RECIPE = Recipe(800, lr=8e-3, batch_size=16)
N_TEST = 100  # 900 slots: a share of .25 has deviation .015, and slots of one trailer fall together, so about .03


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng(0), scenes=6, looks=4, themes=1, scene_dim=6, pattern=SMALL)


@pytest.fixture(scope="module")
def films(world) -> tuple[list[Sample], list[Sample]]:
    """(3,000 films to learn from, N_TEST to measure on)."""
    return plant_samples(world, 3000, 1000), plant_samples(world, N_TEST, 2)


def learn(samples: Sequence[Sample], kind: type[SSMP] = SSMP, config: SSMPConfig = CONFIG, seed: int = 0) -> SSMP:
    config = replace(config, initial_scale=measure_scale(samples[:50]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
    learner = Learner(model, replace(RECIPE, seed=seed))
    while learner.step < RECIPE.steps:
        learner.take_step(samples)
    return model


def slot_accuracy_of(model: SSMP, samples: Sequence[Sample]) -> float:
    """By the confidence decoder."""
    return evaluate_model(model, samples, decoders=("confidence",), rates=()).rows["confidence"].slot_accuracy


@pytest.fixture(scope="module")
def correct(films) -> SSMP:
    return learn(films[0])


@pytest.fixture(scope="module")
def result(correct, films) -> Evaluation:
    return evaluate_model(correct, films[1])


@pytest.fixture(scope="module")
def collapsed(result) -> float:
    """The slot accuracy that a sabotaged model must stay under: a third of the correct one's."""
    return result.rows["confidence"].slot_accuracy / 3


def fill(predict, sample: Sample, *, show_fixed: bool = True) -> np.ndarray:
    """(J,) shots by the confidence decoder."""
    n_slots = len(sample.labels_J)
    look = predict if show_fixed else lambda assignment: predict(np.full_like(assignment, -1))
    return generate(look, len(sample.movie_ID), n_slots, uniforms=None, decoder="confidence").shots


def share_right(
    model: SSMP, samples: Sequence[Sample], answer: Callable[[Callable, Sample], np.ndarray], slots: Sequence[int]
) -> float:
    """Share of these slots where answer(predict, sample) (J,) is the planted shot."""
    right = [
        (answer(predict_slots(model, sample.movie_ID), sample) == sample.labels_J)[list(slots)] for sample in samples
    ]
    return float(np.mean(right))


def slots_of(world: World, *kinds: str) -> list[int]:
    return [slot for slot, kind in enumerate(world.kinds) if kind in kinds]


def test_a_correct_model_learns_the_rules(result):
    rows = result.rows
    assert result.best_slot_accuracy == 1.0
    assert result.masked_accuracy[0.1] >= 0.70  # worst .84, deviation .04 of about 120 hidden slots
    assert rows["self_corrective"].slot_accuracy >= 0.35
    assert rows["confidence"].slot_accuracy >= 0.45
    assert rows["self_corrective"].slot_accuracy - rows["greedy"].slot_accuracy >= 0.15  # .37, .26, .28
    for name in ("random", "uniform", "chronological"):
        assert rows[name].slot_accuracy < 0.1
        assert rows[name].f1 < rows["self_corrective"].f1 - 0.2
    assert all(math.isfinite(value) for value in result.figures().values())


def test_every_kind_is_learned_but_only_anchors_in_one_prediction(correct, world, films):
    """Nothing shown, two layers cannot work out two links in a row or a bridge; generated in rounds, they are right.

    Measured in rounds, worst seed: anchor .65, follow .61, precede .56, bridge .35; in one prediction, highest of the
    last two: .11.
    """
    for kind, least in (("anchor", 0.5), ("follow", 0.45), ("precede", 0.4), ("bridge", 0.2)):
        assert share_right(correct, films[1], fill, slots_of(world, kind)) >= least, kind
    blank = np.full(len(world.pattern), -1)
    deep = slots_of(world, "precede", "bridge")
    assert share_right(correct, films[1], lambda predict, _: predict(blank).argmax(1), deep) < 0.2


def test_bridges_need_both_neighbours(correct, world, films):
    """Measured, nothing / left / right / both: .06 / .19 / .23 / .72, .04 / .17 / .21 / .74, .11 / .11 / .25 / .31; on
    another processor, by 600 films, .08 / .08 / .21 / .21, .14 / .20 / .56 / .54, .16 / .17 / .49 / .68: not all learn it.

    The left neighbour leaves the 4 shots of its scene, the right one the 6 shots of its look: .25 and .17 by chance.
    All other slots are hidden; deviation of 100 bridges .045.
    """
    (slot,) = slots_of(world, "bridge")

    def show(*steps: int) -> float:
        def answer(predict, sample):
            assignment = np.full(len(world.pattern), -1)
            for step in steps:
                assignment[slot + step] = sample.labels_J[slot + step]
            return predict(assignment).argmax(1)

        return share_right(correct, films[1], answer, [slot])

    nothing, left, right, both = show(), show(-1), show(1), show(-1, 1)
    assert nothing < 0.25
    assert left < 0.4
    assert right < 0.4
    # two deviations of leave: where it is not learned the two are equal
    assert both > max(nothing, left, right) - 2 * 0.045


def test_scrambling_the_film_shows(correct, films, collapsed):
    assert slot_accuracy_of(correct, scramble_films(films[1], 0)) < collapsed


def test_showing_nothing_that_was_fixed_shows(correct, world, films, result):
    every = range(len(world.pattern))
    blind = share_right(correct, films[1], lambda p, sample: fill(p, sample, show_fixed=False), every)
    # it has the 2 anchors of 9 slots, and some links by luck: .56 beside .89, .25 beside .63, .39 beside .83
    assert blind < 0.75 * result.rows["confidence"].slot_accuracy


class Cheating(SSMP):
    """The mask is not applied: hidden slots are shown."""

    def join(self, movie_BID, trailer_BJD, hidden_BJ):
        return super().join(movie_BID, trailer_BJD, torch.zeros_like(hidden_BJ))


class Blind(SSMP):
    """The film's tokens are hidden; scores still compare with the film."""

    def join(self, movie_BID, trailer_BJD, hidden_BJ):
        return super().join(self.mask_token.expand_as(movie_BID), trailer_BJD, hidden_BJ)


def test_without_rotary_positions_accuracy_collapses(films, collapsed):
    assert slot_accuracy_of(learn(films[0], config=replace(CONFIG, positions="none")), films[1]) < collapsed


def test_without_the_mask_accuracy_collapses(films, collapsed):
    model = learn(films[0], Cheating)
    assert masked_accuracy(model, films[1], 0.5) > 0.95  # it copies: masked accuracy alone proves nothing
    assert slot_accuracy_of(model, films[1]) < collapsed


def test_without_the_film_accuracy_collapses(films, collapsed):
    assert slot_accuracy_of(learn(films[0], Blind), films[1]) < collapsed


def test_with_labels_off_by_one_accuracy_collapses(films, collapsed):
    shifted = [replace(s, labels_J=(s.labels_J + 1) % len(s.movie_ID)) for s in films[0]]
    assert slot_accuracy_of(learn(shifted), films[1]) < collapsed


def test_a_causal_trailer_cannot_precede(correct, world, films):
    """What depends on the right neighbour alone: .35 against .80 (.56 for the worst seed of a correct model)."""
    causal = learn(films[0], config=replace(CONFIG, causal_trailer=True))
    slots = slots_of(world, "precede")
    assert share_right(causal, films[1], fill, slots) < share_right(correct, films[1], fill, slots) - 0.1
