"""X.edit.json: written, read back, and refused with the field's name when it is wrong."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.editfile import edit_to_json, read_edit
from pipeline.errors import InputError
from pipeline.records import Card, Cut, EditList, FilmReference, Music, Output, Placement, Span
from pipeline.settings import TrailerConfig

EDIT = EditList(
    version="0.1.0",
    seed=3,
    title='<script>alert("Ä")</script>',
    film=FilmReference(
        Path("/films/a 'b'.mkv"),
        "f" * 32,
        596.4583333333334,
        Fraction(24000, 1001),
        640,
        360,
        3601.4,
        (0.0, 0.125, 0.0, 0.125),
    ),
    output=Output(640, 360, Fraction(24000, 1001), 100, -14.0, fade_in=12, fade_out=6),
    cuts=(
        Cut(0, 1, Span(10.010416666, 12.012416666), 0, 48, 0.93),
        Cut(1, 0, Span(1.0, 1.5), 48, 12, 0.5, pinned=True, dissolve=6),
        Cut(2, 0, Span(2.0, 2.450450450), 60, 12, speed=0.9, focus=((0.4, 0.5), (0.45, 0.5))),
    ),
    cards=(Card("THE END", 72, 28, "a note"),),
    narration=(Placement(7, "Run!", Span(61.2, 63.0), 1, 50, 0.41),),
    music=Music(
        Path("/music/t.ogg"),
        "t" * 32,
        0.0,
        (0.0, 2.002),
        (0.5, 1.0),
        accents=(0.5, 0.75, 1.0),
        parts=(Span(0.0, 2.0), Span(7.5, 10.0)),
        fade_seconds=0.5,
    ),
    models={"encoder": "descriptor@1", "selector": {"name": "small", "sha256": "00"}},
    config=TrailerConfig().model_dump(mode="json"),
    shots=(Span(0.0, 10.0), Span(10.0, 20.0)),
    warnings=("quiet",),
)


def written(tmp_path: Path, tree: Any) -> Path:
    path = tmp_path / "x.edit.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return path


def test_an_edit_list_comes_back_as_it_was_and_is_written_alike(tmp_path: Path) -> None:
    text = edit_to_json(EDIT)
    back = read_edit(written(tmp_path, text))
    assert back == EDIT
    assert edit_to_json(back) == text


def test_what_it_says_of_the_models_may_be_more_or_less(tmp_path: Path) -> None:
    """Older edit lists name an encoder and a selector; later ones the detector, licences and weights, too."""
    named = {
        "encoder": "imagebind@1",
        "encoder_licence": "CC-BY-NC-SA 4.0",
        "encoder_weights": "0f",
        "detector": "adaptive",
    }
    for models in (EDIT.models, {**named, "selector": {"name": "small", "sha256": "00"}}, {}):
        edit = replace(EDIT, models=models)
        assert read_edit(written(tmp_path, edit_to_json(edit))) == edit


def test_it_has_the_contracts_fields() -> None:
    tree = json.loads(edit_to_json(EDIT))
    assert tree["schema"] == 1
    assert {"film", "output", "cuts", "cards", "narration", "music", "models", "config", "shots"} < tree.keys()
    assert set(tree["cuts"][0]) == {
        "slot", "shot", "source_start", "source_end", "start_frame", "frames", "confidence", "pinned",
    }  # fmt: skip
    assert tree["film"]["frame_rate"] == "24000/1001"
    assert tree["shots"] == [[0.0, 10.0], [10.0, 20.0]]


def edited(path: str, value: Any) -> Any:
    tree = json.loads(edit_to_json(EDIT))
    *parents, last = path.split(".")
    node = tree
    for parent in parents:
        node = node[int(parent)] if isinstance(node, list) else node[parent]
    if value is ...:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return tree


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "schema 2"),
        ("schema", ..., "no schema"),
        ("cuts", ..., "cuts is missing"),
        ("cuts.0.frames", 47, "frame 47"),
        ("cuts.0.shot", 9, "cannot be used"),
        ("cuts.0.shot", -1, "not the number of a shot"),
        ("cuts.0.source_end", 21.0, "leaves its shot"),
        ("cuts.0.source_end", 11.0, "does not last its 48 frames"),
        ("output.loudness_lufs", float("nan"), "not a loudness"),
        ("cuts.0.source_start", float("nan"), "not a time"),
        ("output.frame_rate", "24/0", "cannot be used"),
        ("output.frame_rate", "-24/1", "not a frame rate"),
        ("output.width", 641, "not an even picture size"),
        ("output.frames", 101, "cover 100 frames of 101"),
        ("film", [], "cannot be used"),
        ("shots.0", [0.0], "cannot be used"),
    ],
)
def test_a_wrong_edit_list_is_one_clear_message(tmp_path: Path, path: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_edit(written(tmp_path, edited(path, value)))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00\x01"])
def test_what_is_no_edit_list_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="not an edit list"):
        read_edit(written(tmp_path, text))
    with pytest.raises(InputError, match="cannot read"):
        read_edit(tmp_path / "absent.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(
        ["cuts", "cards", "film", "output", "music", "shots", "models", "config", "narration", "cuts.0", "seed"]
    ),
    json_values,
)
def test_nothing_in_a_field_makes_it_crash(path: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder), edited(path, value))
        with suppress(InputError):  # the one exception that a wrong edit list may raise
            assert isinstance(read_edit(file), EditList)


def test_equal_edit_lists_are_equal_bytes_and_others_are_not() -> None:
    assert edit_to_json(EDIT) == edit_to_json(replace(EDIT))
    assert edit_to_json(EDIT) != edit_to_json(replace(EDIT, seed=4))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_frame", -1),
        ("start_frame", 100),
        ("start_frame", 10**400),
        ("start_frame", 40.9),
        ("start_frame", 60),  # its last frames would lie past the end
        ("source_end", 1e9),
        ("source_end", 61.2),
        ("source_start", float("nan")),
        ("similarity", float("nan")),
        ("slot", 3),
        ("slot", -7),
        ("line", -1),
        ("text", "\ud800"),
    ],
)
def test_a_line_that_could_not_be_heard_whole_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    tree = json.loads(edit_to_json(EDIT))
    tree["narration"][0][field] = value
    with pytest.raises(InputError, match="cannot be used as an edit list") as caught:
        read_edit(written(tmp_path, tree))
    assert "\n" not in str(caught.value)


def test_voices_captions_and_cuts_without_sound_come_back(tmp_path: Path) -> None:
    cuts = (replace(EDIT.cuts[0], sound=False), replace(EDIT.cuts[1], caption="A dark scene."), *EDIT.cuts[2:])
    said = (replace(EDIT.narration[0], voice=Path("/voices/a.wav")),)
    edit = replace(EDIT, cuts=cuts, narration=said)
    assert read_edit(written(tmp_path, edit_to_json(edit))) == edit
