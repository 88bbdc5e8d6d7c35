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
        acts = np.array_split(np.arange(len(film)), pattern.count("A"))
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
    for pattern in ("", "AX", ">A", "A<", "AB"):
        with pytest.raises((ValueError, IndexError)):
            make_world(rng, pattern=pattern)
    with pytest.raises(ValueError, match="do not fit"):
        make_world(rng, feature_dim=16)
