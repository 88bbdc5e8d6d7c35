"""Pictures whose timestamps are missing, out of order or wrong: all stand where they are shown, for pass and render."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode import decode_film, find_key_frames, read_pictures
from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.packets import AHEAD, AHEAD_FAULTY, Damage, place_pictures
from pipeline.records import Span
from pipeline.sound import read_sound
from pipeline.writing import write_film
from tests.test_media import RATE, number_of, numbered, ramp

TICK = Fraction(1, 90000)
STEP = Fraction(1, 25)  # 3600 ticks
Stamp = int | None


def frames_of(stamps: Sequence[Stamp], decoded: Sequence[Stamp] = (), duration: int = 0) -> list[VideoFrame]:
    """Pictures as a decoder gives them, in the order in which they are shown; their width tells their number."""
    frames = []
    for number, stamp in enumerate(stamps):
        frame = VideoFrame(number + 1, 1, "gray")
        frame.pts, frame.time_base, frame.duration = stamp, TICK, duration
        frame.dts = decoded[number] if decoded else None
        frames.append(frame)
    return frames


def place(
    stamps: Sequence[Stamp], decoded: Sequence[Stamp] = (), *, duration: int = 0, begins: bool = True
) -> tuple[dict[int, int], Damage]:
    """The tick at which each picture is shown, by its number, and what was counted."""
    damage = Damage()
    placed = {}
    for frame in place_pictures(frames_of(stamps, decoded, duration), damage, step=STEP, begins=begins):
        assert isinstance(frame, VideoFrame)
        assert frame.pts is not None
        placed[frame.width - 1] = frame.pts
    assert list(placed) == sorted(placed)  # none overtakes another
    assert sorted(placed.values()) == list(placed.values())
    return placed, damage


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=80), st.integers(-(10**6), 10**9))
def test_good_timestamps_are_the_times_whatever_their_steps(steps: list[int], start: int) -> None:
    stamps = np.cumsum([start, *steps]).tolist()
    placed, damage = place(stamps, [0] * len(stamps))
    assert placed == dict(enumerate(stamps))
    assert damage.none


@given(st.randoms(use_true_random=False), st.integers(1, AHEAD))
def test_timestamps_in_the_order_of_decoding_are_dealt_out_in_their_own(chance: random.Random, depth: int) -> None:
    """As H.264 with B-pictures in AVI has them: the right times, each at most a few pictures from where it belongs."""
    times = [3600 * number for number in range(40)]
    stamps = list(times)
    for start in range(0, 40 - depth, depth + 1):
        block = stamps[start : start + depth + 1]
        chance.shuffle(block)
        stamps[start : start + depth + 1] = block
    placed, damage = place(stamps)
    assert placed == dict(enumerate(times))
    assert (damage.pictures, damage.placed) == (0, sum(a != b for a, b in zip(stamps, times, strict=True)))


def test_a_missing_timestamp_is_that_of_decoding_else_a_duration_after_the_last() -> None:
    stamps: list[Stamp] = [0, 3600, None, 10800, None, None, 21600, None]
    placed, damage = place(stamps, [None, None, 7300, None, 1, None, None, None])
    assert placed == dict(enumerate([0, 3600, 7300, 10800, 14400, 18000, 21600, 25200]))
    assert (damage.pictures, damage.placed) == (0, 4)
    assert place([0, None, None], duration=1800)[0] == {0: 0, 1: 1800, 2: 3600}  # the picture's own before the stream's


def test_a_stream_without_timestamps_begins_at_nothing_and_cannot_be_joined_in_its_middle() -> None:
    assert place([None] * 5)[0] == {number: 3600 * number for number in range(5)}
    placed, damage = place([None] * 5, begins=False)
    assert (placed, damage.pictures) == ({}, 5)


def test_a_time_that_is_given_twice_costs_one_picture_and_moves_no_other() -> None:
    placed, damage = place([0, 3600, 3600, *range(7200, 72000, 3600)])
    assert placed == {0: 0, 1: 3600, **{number + 1: 3600 * number for number in range(2, 20)}}
    assert (damage.pictures, damage.placed) == (1, 0)


def test_a_timestamp_far_ahead_costs_one_picture_and_is_forgotten() -> None:
    stamps = [3600 * number for number in range(60)]
    stamps[10] = 10**9
    placed, damage = place(stamps)
    assert damage.pictures == 1
    assert max(placed.values()) < 60 * 3600
    right = [number for number, tick in placed.items() if tick == 3600 * number]
    assert set(right) >= {*range(10), *range(10 + AHEAD_FAULTY + AHEAD, 60)}
    assert all(abs(tick - 3600 * number) <= 3600 for number, tick in placed.items())  # one picture's length meanwhile


def test_what_comes_after_a_clock_that_starts_again_is_left_out() -> None:
    """Two recordings in one stream: a seek to such a time would find the first of them."""
    once = [3600 * number for number in range(30)]
    placed, damage = place([*once, *once[:20]])
    assert placed == dict(enumerate(once))
    assert (damage.pictures, damage.placed) == (20, 0)


def write_odd(path: Path, kind: str) -> None:
    write_film(path, numbered(100), frame_rate=Fraction(24), crf=1, options={"g": "12", "bf": kind})


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("pictures.avi", 1 / 24),  # numbered in the order of decoding, from the first that can be shown on
        ("pictures.h264", 0.0),  # no timestamp at all
        ("pictures.mkv", 0.0),
    ],
)
def test_films_are_whole_and_in_order_for_the_pass_and_the_render(tmp_path: Path, name: str, first: float) -> None:
    path = tmp_path / name
    write_odd(path, "3")
    film = probe_film(path)
    damage = Damage()
    frames = [frame for frame in decode_film(film, damage=damage) if isinstance(frame, VideoFrame)]
    assert [number_of(frame) for frame in frames] == list(range(100))
    times = np.array([frame.time for frame in frames])
    assert np.abs(times - first - np.arange(100) / 24).max() < 0.001  # Matroska counts milliseconds
    assert film.start == times[0]
    assert film.duration == pytest.approx(100 / 24, abs=0.1)
    assert damage.pictures == 0
    assert damage.none == (name == "pictures.mkv")
    for start in (0, 1, 11, 12, 30, 47, 61, 96):
        shown = read_pictures(film, times[start : start + 3] + 0.001)
        assert [number_of(frame) for frame in shown] == list(range(start, start + 3))
    if name == "pictures.h264":
        assert find_key_frames(film, [2.0]) == []


def test_pictures_that_an_edit_list_hides_are_not_shown_and_the_sound_stays_in_step(tmp_path: Path) -> None:
    """Copied from 1.3 s on: the file begins with a key frame before it, and the list says from where on to show."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    write_film(
        whole, numbered(100), frame_rate=Fraction(24), sound=ramp(100 / 24), crf=1, options={"g": "24", "bf": "2"}
    )
    run_ffmpeg(find_ffmpeg(), ["-ss", "1.3", "-i", str(whole), "-c", "copy", str(cut)], timeout=30)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames > 70  # what is hidden is in the file
    film = probe_film(cut)
    frames = [frame for frame in decode_film(film, damage=Damage()) if isinstance(frame, VideoFrame)]
    numbers = [number_of(frame) for frame in frames]
    assert numbers[0] in (31, 32)  # 1.3 s is picture 31.2
    assert numbers == list(range(numbers[0], 100))
    begun = numbers[0] / 24 - film.start  # s of the whole at the cut's 0
    assert begun == pytest.approx(1.3, abs=1 / 24)
    for time in (0.0, 0.5, 1.7, 2.5):
        (shown,) = read_pictures(film, [time + 0.001])
        assert number_of(shown) == pytest.approx(24 * (begun + time), abs=1)
        (sound,) = read_sound(cut, [Span(time, time + 0.1)], sample_rate=RATE, channels=2)
        level = np.sqrt(2 * np.mean(sound**2)) / 0.5 * (100 / 24)  # the ramp tells the time, s
        # to a picture's length: the demuxer passes over the picture in which the edit begins, and starts with the next
        assert level == pytest.approx(begun + time + 0.05, abs=1 / 24)
