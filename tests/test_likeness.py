"""The same camera on the same thing is told from another, whatever moves before it, and however it is framed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.likeness import SAME_VIEW, copy_pictures, cut_bars, measure_differences
from pipeline.records import U8


def place(seed: int, *, count: int = 40, size: tuple[int, int] = (480, 270)) -> U8:
    """A set: rocks of many sizes before a ground of one colour."""
    rng = np.random.default_rng(seed)
    picture = np.full((size[1], size[0], 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(count):
        centre = (int(rng.integers(0, size[0])), int(rng.integers(0, size[1])))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        cv2.ellipse(picture, centre, (int(rng.integers(8, 60)), int(rng.integers(8, 40))), 0, 0, 360, colour, -1)
    return picture


def somebody(picture: U8, x: int) -> U8:
    """The same with a figure before it, a quarter of the picture high."""
    shown = picture.copy()
    cv2.ellipse(shown, (x, 180), (45, 90), 0, 0, 360, (40, 60, 190), -1)
    return shown


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(measure_differences(copy_pictures([one]), copy_pictures([other]))[0, 0])


def test_one_view_is_the_same_whoever_moves_before_it() -> None:
    for seed in range(8):
        here = place(seed)
        rng = np.random.default_rng(seed)
        noisy = np.clip(somebody(here, 340) + rng.normal(0, 4, here.shape), 0, 255).astype(np.uint8)
        assert difference(here, here) < 0.1
        assert difference(somebody(here, 140), noisy) < SAME_VIEW
        graded = np.clip(here * 1.03 + 2, 0, 255).astype(np.uint8)
        assert difference(here, graded) < SAME_VIEW
        assert difference(here, np.roll(here, 2, axis=1)) < SAME_VIEW  # a hand-held camera
        assert difference(here, cv2.resize(here, (320, 180), interpolation=cv2.INTER_AREA)) < SAME_VIEW


def test_two_views_are_not_the_same_though_one_figure_is_in_both() -> None:
    for seed in range(8):
        here, there = place(seed), place(seed + 100)
        assert difference(somebody(here, 240), somebody(there, 240)) > 1.5 * SAME_VIEW
        assert difference(here, np.roll(here, 120, axis=1)) > SAME_VIEW  # the camera looks elsewhere
        closer = cv2.resize(here[60:200, 110:360], (480, 270), interpolation=cv2.INTER_LINEAR)
        assert difference(here, closer) > SAME_VIEW


def test_a_figure_before_two_plain_skies_of_one_colour_needs_its_edges_to_agree() -> None:
    sky = np.full((270, 480, 3), (230, 190, 120), np.uint8)
    assert difference(somebody(sky, 120), somebody(sky, 360)) > 4
    assert difference(somebody(sky, 120), somebody(sky, 122)) < 2


def test_bars_are_cut_off_and_no_part_of_the_likeness() -> None:
    one, other = place(1), place(2)
    for framed in (one, other):
        framed[:36], framed[-36:] = 0, 0
    assert cut_bars(one).shape == (198, 480, 3)
    assert difference(one, other) > 1.5 * SAME_VIEW
    assert difference(one, place(1)[36:-36]) < SAME_VIEW
    uneven = place(3)
    uneven[:50] = 0
    assert cut_bars(uneven).shape == uneven.shape  # a dark sky is no bar
    assert cut_bars(np.zeros((90, 160, 3), np.uint8)).shape == (90, 160, 3)


def test_differences_are_symmetric_and_of_every_pair() -> None:
    copies = copy_pictures([place(seed) for seed in range(5)])
    differences = measure_differences(copies, copies[:3])
    assert differences.shape == (5, 3)
    assert np.allclose(differences[:3], differences[:3].T, atol=1e-3)
    assert np.diag(differences[:3]).max() < 0.01
    assert measure_differences(copies[:0], copies).shape == (0, 5)
    assert copy_pictures([]).shape == (0, copies.shape[1])
