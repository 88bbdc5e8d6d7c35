"""Shots that return to one camera are twins of the first, and scenes part where colours and set-ups do."""

from __future__ import annotations

import numpy as np

from pipeline.likeness import WIDTH, copy_pictures
from pipeline.records import F32, U8
from pipeline.setups import find_scenes, find_twins
from tests.test_likeness import place, somebody


def shot(view: U8, *places: int) -> F32:
    """Copies of a shot in which somebody stands at these places, px, one after the other."""
    return copy_pictures([somebody(view, x) for x in places])


def tinted(seed: int, colour: tuple[int, int, int]) -> U8:
    """A set in the light of one colour."""
    return np.asarray(0.1 * place(seed) + 0.9 * np.array(colour), np.uint8)


def test_shot_and_reverse_shot_are_two_set_ups() -> None:
    here, there = place(1), place(2)
    copies = [
        shot(view, 100 + 40 * n, 120 + 40 * n) for n, view in enumerate([here, there, here, there, place(3), here])
    ]
    assert find_twins(copies).tolist() == [0, 1, 0, 1, 4, 0]


def test_one_figure_in_two_places_makes_no_twins() -> None:
    assert find_twins([shot(place(seed), 240, 240) for seed in range(10)]).tolist() == list(range(10))


def test_a_shot_that_moves_on_to_the_view_is_found_in_it() -> None:
    """A pan that ends on the view, and a shot of the view alone: all of that one is in the pan."""
    pan = copy_pictures([place(5), np.roll(place(5), 200, axis=1), place(6)])
    assert find_twins([pan, shot(place(6), 300)]).tolist() == [0, 0]


def test_shots_without_pictures_are_their_own() -> None:
    none = np.zeros((0, WIDTH), np.float32)
    assert find_twins([none, shot(place(1), 100), none]).tolist() == [0, 1, 2]
    assert find_twins([none]).tolist() == [0]
    assert find_scenes([none, none], np.arange(2), np.zeros(2, bool)).tolist() == [0, 0]


def test_scenes_part_where_the_colours_do_and_at_breaks() -> None:
    forest, desert = (30, 110, 20), (120, 190, 230)
    copies = [copy_pictures([tinted(n, forest if n < 5 else desert)]) for n in range(10)]
    none = np.zeros(10, bool)
    assert find_scenes(copies, np.arange(10), none).tolist() == [0] * 5 + [1] * 5
    broken = none.copy()
    broken[7] = True  # after a fade through black
    assert find_scenes(copies, np.arange(10), broken).tolist() == [0] * 5 + [1] * 2 + [2] * 3


def test_a_set_up_that_comes_back_holds_its_scene_together() -> None:
    lights = [(20, 20, 160), (200, 60, 30), (20, 20, 160), (200, 60, 30), (40, 170, 60)]
    copies = [copy_pictures([tinted(n, light)]) for n, light in enumerate(lights)]
    twins = np.array([0, 1, 2, 1, 4])
    assert find_scenes(copies, twins, np.zeros(5, bool)).tolist() == [0, 0, 0, 0, 1]
