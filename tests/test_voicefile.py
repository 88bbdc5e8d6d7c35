"""A voice file names recordings; whatever is wrong with it is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.media import find_ffmpeg, run_ffmpeg
from pipeline.records import Line, Span
from pipeline.script import Lines
from pipeline.sound import read_sound
from pipeline.voicefile import fingerprint_voice, read_voice
from tests.test_spoken import write_mono

LINES = Lines("f", (Line("First.", Span(1, 2)), Line("Second.", Span(3, 4))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seconds in (("a.wav", 1.5), ("b.wav", 2.0)):
        write_mono(tmp_path / name, 0.1 * np.sin(np.arange(round(seconds * 48000)) / 20))
    return tmp_path


def write(folder: Path, value: Any) -> Path:
    path = folder / "voice.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_texts_and_lines(folder: Path) -> None:
    entries = [{"file": "a.wav", "text": "Somebody new."}, {"file": "b.wav", "line": 1, "worth": 3}]
    first, second = read_voice(write(folder, entries), LINES)
    assert (first.number, first.text, first.span, first.voice) == (0, "Somebody new.", Span(0.0, 1.5), folder / "a.wav")
    assert (second.number, second.text, second.span.end, second.worth) == (1, "Second.", 2.0, 3.0)
    assert first.worth == 0.0
    again = read_voice(write(folder, {"lines": entries}), LINES)
    assert again == (first, second)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("{", "no JSON"),
        ([], "holds a list"),
        ({"files": []}, "holds a list"),
        ("3", "holds a list"),
        (["a.wav"], "entry 1"),
        ([{"file": "a.wav"}], "neither a text nor"),
        ([{"file": "a.wav", "text": 3}], "text is a text"),
        ([{"file": "a.wav", "text": "x", "gain": 3}], "gain means nothing"),
        ([{"file": "a.wav", "line": 2}], "no line 2"),
        ([{"file": "a.wav", "line": -1}], "whole number from 0"),
        ([{"file": "a.wav", "line": True}], "whole number from 0"),
        ([{"file": "a.wav", "text": "x", "worth": "much"}], "worth is a number"),
        ([{"file": "none.wav", "text": "x"}], r"no such recording: .*none\.wav"),
        ([{"file": "voice.json", "text": "x"}], "holds no sound"),
        ([{"file": "a.wav", "text": "x", "worth": float("nan")}], "worth is a number"),
        ('[{"file": "a.wav", "text": "x", "worth": 1' + 400 * "0" + "}]", "worth is a number"),
        ([{"file": "a.wav", "text": "\ud800"}], "text is a text"),
        ([{"file": "a.wav", "text": "much " * 200}], "at most 500 characters"),
        ([{"text": "x"}], "an entry is"),
        ([{"file": "a.wav", "text": "x"}] * 201, "the most is 200"),
    ],
)
def test_what_cannot_be_used(folder: Path, value: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read_voice(write(folder, value), LINES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "ts", "aac"])
def test_a_recording_is_heard_from_its_first_sound_to_its_last(folder: Path, suffix: str) -> None:
    """Two bursts, at 0.0 to 0.2 and 1.8 to 2.0 s, in containers whose clocks start anywhere."""
    time = np.arange(2 * 48000) / 48000
    bursts = 0.5 * np.sin(2 * np.pi * 700 * time) * ((time < 0.2) | (time > 1.8))
    write_mono(folder / "bursts.wav", bursts)
    late = ["-output_ts_offset", "1.5"] if suffix in ("m4a", "ts") else []
    run_ffmpeg(find_ffmpeg(), ["-y", "-i", str(folder / "bursts.wav"), *late, str(folder / f"v.{suffix}")], timeout=60)
    (line,) = read_voice(write(folder, [{"file": f"v.{suffix}", "text": "x"}]), None)
    assert line.voice is not None
    assert 1.95 < line.span.duration < 2.15  # and the codec's own padding
    (heard,) = read_sound(line.voice, [line.span], sample_rate=48000, channels=1)
    loud = np.flatnonzero(np.abs(heard[:, 0]) > 0.2)
    assert loud[0] < 0.06 * 48000
    assert loud[-1] - loud[0] == pytest.approx(2 * 48000, abs=0.01 * 48000)


def test_other_recordings_are_another_voice(folder: Path) -> None:
    path = write(folder, [{"file": "a.wav", "text": "x"}])
    before = fingerprint_voice(path)
    write_mono(folder / "a.wav", np.zeros(48000))
    assert fingerprint_voice(path) != before
    (folder / "a.wav").unlink()
    with pytest.raises(InputError, match="no such"):
        fingerprint_voice(path)
