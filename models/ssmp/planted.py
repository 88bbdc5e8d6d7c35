"""Plant trailers whose rules are known, so that a wrong model cannot score well.

The benchmark of docs/method.md section 6. A film is a grid of scenes x looks, one shot each: scenes in story order, and
in each scene the looks in their fixed cycle, from a random one on. A shot's vector is its scene's (new in every film)
plus its look's (the same in all films) plus the film's tint. Slots come in groups of four:
  left link   the shot of the anchor's scene whose look comes before the anchor's in the cycle;
  anchor      the shot in the film's act number g (g-th third) that bears the star of the film's theme; the theme is
              read off the tint, and every act also holds the stars of the other themes;
  right link  the shot of the anchor's scene whose look comes after the anchor's;
  bridge      the shot in the left neighbour's scene with the right neighbour's look.
So an anchor needs the film and places in it, a link one neighbour, a bridge both.
I film shots, J = 4 * GROUPS slots, D feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.ssmp.data import Sample, unit_rows

GROUPS = 3  # one group of slots an act
Kind = Literal["left link", "anchor", "right link", "bridge", "end"]
PATTERN: tuple[Kind, ...] = ("left link", "anchor", "right link", "bridge")
KINDS: tuple[Kind, ...] = (*(PATTERN * GROUPS)[:-1], "end")  # no right neighbour: a right link of the right link


@dataclass(frozen=True, slots=True)
class World:
    """What all films share: vectors of looks (K, D), stars and tints (themes, D), unit rows. Also the films' size."""

    looks: NDArray[np.float64]
    stars: NDArray[np.float64]
    tints: NDArray[np.float64]
    scenes: int

    @property
    def n_shots(self) -> int:
        return self.scenes * len(self.looks)


def make_world(
    rng: np.random.Generator, *, feature_dim: int = 64, scenes: int = 12, looks: int = 5, themes: int = 3
) -> World:
    """Draw the shared vectors; films have scenes * looks shots."""
    draw = unit_rows(rng.normal(size=(looks + 2 * themes, feature_dim)))
    return World(draw[:looks], draw[looks : looks + themes], draw[looks + themes :], scenes)


def plant_sample(world: World, rng: np.random.Generator, name: str = "film") -> Sample:
    """One film and its trailer; all labels differ."""
    n_looks, n = len(world.looks), world.n_shots
    while True:
        scene_vectors = unit_rows(rng.normal(size=(world.scenes, world.looks.shape[1])))
        scene = np.repeat(np.arange(world.scenes), n_looks)
        look = np.concatenate([(np.arange(n_looks) + rng.integers(n_looks)) % n_looks for _ in range(world.scenes)])
        theme = int(rng.integers(len(world.tints)))
        rows = scene_vectors[scene] + world.looks[look] + 0.7 * world.tints[theme]
        anchors = []
        for act in range(GROUPS):
            first, last = act * n // GROUPS, (act + 1) * n // GROUPS
            starred = first + rng.permutation(last - first)[: len(world.stars)]
            rows[starred] += world.stars
            anchors.append(int(starred[theme]))
        where = np.empty((world.scenes, n_looks), np.int64)
        where[scene, look] = np.arange(n)
        labels = np.empty(len(KINDS), np.int64)
        for group, anchor in enumerate(anchors):
            cycle = where[scene[anchor], (look[anchor] + np.arange(-1, 3)) % n_looks]
            labels[4 * group : 4 * group + 4] = cycle  # the last is overwritten by a bridge where there is one
        for slot in range(3, len(KINDS) - 1, 4):
            labels[slot] = where[scene[labels[slot - 1]], look[labels[slot + 1]]]
        if len(set(labels.tolist())) == len(labels):
            break
    features = unit_rows(rows + rng.normal(0, 0.2 / np.sqrt(rows.shape[1]), rows.shape)).astype(np.float32)
    return Sample(f"{name}-1", name, features, features[labels], labels)


def plant_samples(world: World, count: int, seed: int) -> list[Sample]:
    """`count` independent films, one trailer each."""
    rng = np.random.default_rng(seed)
    return [plant_sample(world, rng, str(number)) for number in range(count)]
