"""The story's bounds: derived from what the shots are flagged for, and kept in the edit list."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.editfile import edit_to_json, read_edit
from pipeline.errors import InputError
from pipeline.guards import find_bounds
from pipeline.records import Film, Shots, Span
from pipeline.settings import GuardSettings
from tests.test_editfile import EDIT

FILM = Film(Path("film.mkv"), "f" * 32, 10.0, 60.0, Fraction(24), 640, 360, 0)


def flagged(*flags: str) -> Shots:
    """One shot of 10 s for each of up to six words."""
    n = len(flags)
    spans = tuple(Span(10.0 + 10 * k, 20.0 + 10 * k if k < n - 1 else FILM.end) for k in range(n))
    words = tuple(frozenset(flag.split()) for flag in flags)
    return Shots(FILM, spans, words, np.zeros(n, np.float32), np.zeros(n, np.float32))


def test_the_ending_may_begin_within_a_shot() -> None:
    shots = replace(flagged("", "", "", "", "", "credits"), secret=55.5)
    assert find_bounds(shots, GuardSettings()) == (10.0, 55.5)


@pytest.mark.parametrize(
    ("flags", "bounds"),
    [
        (("opening text", "", "static", "", "ending", "credits"), (20.0, 50.0)),
        (("", "", "", "", "", "credits"), (10.0, 60.0)),
        (("opening", "opening", "", "", "", ""), (30.0, 70.0)),
        (("", "", "", "", "", ""), (10.0, 70.0)),
        (("ending", "ending", "ending", "ending", "ending", "credits"), (10.0, 10.0)),
    ],
)
def test_the_story_lies_between_its_opening_and_its_ending(flags: tuple[str, ...], bounds: tuple[float, float]) -> None:
    assert find_bounds(flagged(*flags), GuardSettings()) == bounds
    assert find_bounds(flagged(*flags), GuardSettings(credits=False)) == (FILM.start, FILM.end)


def test_it_comes_back_from_the_edit_list_and_older_lists_have_none(tmp_path: Path) -> None:
    path = tmp_path / "x.edit.json"
    edit = replace(EDIT, film=replace(EDIT.film, story=(12.5, 480.25)))
    path.write_text(edit_to_json(edit))
    assert read_edit(path) == edit
    tree = json.loads(edit_to_json(EDIT))
    assert "story" not in tree["film"]
    path.write_text(json.dumps(tree))
    assert read_edit(path).film.story is None


@pytest.mark.parametrize("story", [[5.0, 1.0], [1.0], ["x", 2.0], 7])
def test_what_bounds_nothing_is_refused(tmp_path: Path, story: object) -> None:
    tree = json.loads(edit_to_json(EDIT))
    tree["film"]["story"] = story
    path = tmp_path / "x.edit.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="cannot be used as an edit list"):
        read_edit(path)
