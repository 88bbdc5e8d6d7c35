"""A run that is told to end stops its programs, and what a killed one left beside a trailer is swept away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.clips import Clip, encode_clips
from pipeline.encoders import choose_encoder
from pipeline.errors import MediaError
from pipeline.media import end_programs, find_ffmpeg, probe_film, run_ffmpeg
from pipeline.records import U8
from pipeline.settings import EncoderKind, VideoSettings
from pipeline.workdir import deliver_text
from tests.flows.servers import list_programs
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film

SIZE = (128, 96)
LONG = 30.0  # s that a clip takes which nobody stops


def test_an_interruption_ends_the_clips_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[48, 48], size=SIZE, sound=False)
    film = probe_film(path)
    edit = plan_edit(film, [take(film, 0.1, 12), take(film, 2.1, 12)], size=SIZE)
    clips = [Clip(tmp_path / f"{number}.mp4", piece, ()) for number, piece in enumerate(edit.pieces)]
    video = VideoSettings(preset="ultrafast", encoder=EncoderKind.software)
    encoder = choose_encoder(video, find_ffmpeg(), SIZE)

    def draw_slowly(*_: Any) -> Iterator[U8]:
        import numpy as np

        for _ in range(12):
            yield np.zeros((SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
            time.sleep(LONG / 12 / 10)
        time.sleep(LONG)

    monkeypatch.setattr("pipeline.clips.make_pictures", draw_slowly)
    seen: list[int] = []

    def tell(frames: int) -> None:
        assert frames == 0
        seen.extend(list_programs(tmp_path))
        if seen:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        encode_clips(clips, edit, film, encoder, find_ffmpeg(), progress=tell)
    assert time.monotonic() - started < LONG / 2
    assert not list_programs(tmp_path)
    assert sorted(left.name for left in tmp_path.iterdir()) == ["f.mp4"]


def test_all_programs_of_a_process_can_be_ended(tmp_path: Path) -> None:
    raised: list[Exception] = []

    def encode() -> None:
        job = ["-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=duration=60", "-y", str(tmp_path / "x.mp4")]
        try:
            run_ffmpeg(find_ffmpeg(), job, timeout=90)
        except MediaError as error:
            raised.append(error)

    working = threading.Thread(target=encode)
    working.start()
    until = time.monotonic() + 30
    while not list_programs(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    until = time.monotonic() + 30
    while working.is_alive() and time.monotonic() < until:  # it is seen a moment before it is known
        end_programs()
        working.join(0.1)
    assert not working.is_alive()
    assert len(raised) == 1
    assert not list_programs(tmp_path)
    end_programs()  # nothing is left to end


def test_a_delivery_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    gone = 2**22 + 1  # no process can have this number
    old = time.time() - 3600
    names = {
        f".t.edit.{gone}-5.partial.json": False,
        f".t.edit.{os.getpid()}-5.partial.json": True,  # somebody may be writing it
        f".t.edit.{gone}-6.partial.html": True,
        f".other.edit.{gone}-5.partial.json": True,
        f".t.edit.{gone}-7.partial.json": True,  # just written
    }
    for name in names:
        (tmp_path / name).write_text("{")
        if "-7" not in name:
            os.utime(tmp_path / name, (old, old))
    deliver_text("{}", tmp_path / "t.edit.json")
    assert {path.name for path in tmp_path.iterdir()} == {"t.edit.json", *(n for n, kept in names.items() if kept)}
