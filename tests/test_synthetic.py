"""The planted truth is really in the files: every other test leans on these tools."""

from __future__ import annotations

import wave
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import F32, U8
from tests.synthetic import (
    COLUMNS,
    SAMPLE_RATE,
    TONE_LEVEL,
    SyntheticFilm,
    barcode_film,
    click_track,
    draw_barcode,
    read_barcode,
    tone_level,
    vfr_timestamps,
)

NTSC_FILM = Fraction(24000, 1001)
SHOTS = (30, 17, 41, 24)


def decode_pictures(path: Path) -> list[tuple[Fraction, U8]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [(f.pts * f.time_base, f.to_ndarray(format="rgb24")) for f in frames]


def decode_sound(path: Path) -> F32:
    """(n,) of the first channel, sample 0 at time 0."""
    with av.open(str(path)) as container:
        blocks = [(f.pts * f.time_base, f.to_ndarray()[0]) for f in container.decode(audio=0)]
    samples = np.concatenate([block for _, block in blocks])
    first = round(blocks[0][0] * SAMPLE_RATE)
    return np.concatenate([np.zeros(max(0, first), np.float32), samples[max(0, -first) :]])


def container_tick(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        tick = container.streams.video[0].time_base
    assert tick is not None
    return tick


def check_film(film: SyntheticFilm) -> list[U8]:
    pictures = decode_pictures(film.path)
    assert [read_barcode(picture) for _, picture in pictures] == list(film.numbers)
    tick = container_tick(film.path)  # a container can say no time finer than its tick
    assert all(abs(time - true) <= tick / 2 for (time, _), true in zip(pictures, film.timestamps, strict=True))
    return [picture for _, picture in pictures]


@pytest.mark.parametrize("rate", [NTSC_FILM, Fraction(25), Fraction(30)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_constant_rate_film_reads_back(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    film = barcode_film(tmp_path / f"film{suffix}", frame_rate=rate, shots=SHOTS, crf=23)
    assert film.cuts == (30, 47, 88)
    assert [film.find_shot(frame) for frame in (0, 29, 30, 87, 88, 111)] == [0, 0, 1, 2, 3, 3]
    for picture in check_film(film)[::9]:
        number = read_barcode(picture)
        for scale in (0.5, 0.75, 1.5, 2.0):
            for how in (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC):
                scaled = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how)
                assert read_barcode(scaled) == number, (scale, how)


@pytest.mark.parametrize(("suffix", "grid"), [(".mkv", 1000), (".mp4", 90000)])
def test_variable_rate_film_reads_back(tmp_path: Path, suffix: str, grid: int) -> None:
    times = vfr_timestamps(sum(SHOTS), 3, grid=grid)
    film = barcode_film(tmp_path / f"film{suffix}", frame_rate=Fraction(30), shots=SHOTS, timestamps=times, crf=23)
    check_film(film)
    steps = {b - a for a, b in pairwise(times)}
    assert min(steps) > 0
    assert max(steps) >= Fraction(1, 5) > 5 * min(steps)


def test_tones_and_clicks_are_where_they_were_planted(tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(25), shots=SHOTS, clicks=True)
    samples = decode_sound(film.path)
    for shot, tone in enumerate(film.tones):
        start, end = (float(edge) for edge in film.edges[shot : shot + 2])
        inner = (start + 0.05, end - 0.05)  # the ramps, the click and AAC's spread over its 21 ms frame lie outside
        assert tone_level(samples, SAMPLE_RATE, tone, *inner) == pytest.approx(TONE_LEVEL, rel=0.1)
        others = [tone_level(samples, SAMPLE_RATE, other, *inner) for other in film.tones if other != tone]
        assert max(others) < TONE_LEVEL / 20
    for click in film.clicks:  # AAC smears a click by some samples; a frame of film is 40 ms
        at = round(click * SAMPLE_RATE)
        around = np.abs(samples[max(0, at - 960) : at + 960])
        found = max(0, at - 960) + int(np.argmax(around > 0.45))
        assert around.max() > 0.45
        assert abs(found - at) / SAMPLE_RATE < 0.003


def test_silent_film_has_no_sound_stream(tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "film.mkv", frame_rate=Fraction(24), shots=(12, 12), sound=False)
    assert film.tones == ()
    with av.open(str(film.path)) as container:
        assert not container.streams.audio


def test_black_and_static_shots(tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(24), shots=(10, 10, 10), black={1}, static={2})
    assert film.numbers == (*range(10), *[None] * 10, *[20] * 10)
    pictures = check_film(film)
    assert max(picture.mean() for picture in pictures[10:20]) < 2
    moves = [np.abs(np.diff(np.stack(pictures[a:b]).astype(float), axis=0)).mean() for a, b in ((0, 10), (20, 30))]
    assert moves[1] < 0.5 < 2 < moves[0]


def test_every_cut_is_plain_and_no_shot_has_one_inside(tmp_path: Path) -> None:
    shots = tuple(np.random.default_rng(5).integers(8, 20, 24).tolist())
    film = barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(24), shots=shots, size=(160, 90), sound=False)
    pictures = [cv2.cvtColor(p, cv2.COLOR_RGB2HSV).astype(float) for _, p in decode_pictures(film.path)]
    change = np.array([0.0, *(np.abs(b - a).mean() for a, b in pairwise(pictures))])
    at_cuts = change[list(film.cuts)]
    inside = np.delete(change, list(film.cuts))
    assert at_cuts.min() > 30  # PySceneDetect's ContentDetector asks for 27
    assert inside.max() < 15


@given(st.integers(0, 65535))
@settings(max_examples=60, deadline=None)
def test_barcode_of_any_number_reads_back(number: int) -> None:
    picture = np.full((90, 160, 3), 127, np.uint8)
    draw_barcode(picture, number)
    assert read_barcode(picture) == number


def test_damaged_barcode_is_none_and_never_another_number() -> None:
    picture = np.full((180, 320, 3), 90, np.uint8)
    assert read_barcode(picture) is None
    assert read_barcode(np.zeros_like(picture)) is None
    draw_barcode(picture, 4711)
    assert read_barcode(picture) == 4711
    block, row = 320 // COLUMNS, round(180 / 16)
    for k in range(COLUMNS):
        one = picture.copy()
        one[:row, k * block : (k + 1) * block] = 255 - one[:row, k * block : (k + 1) * block]  # both rows say the same
        assert read_barcode(one) is None
        both = picture.copy()
        both[: 2 * row, k * block : (k + 1) * block] = 255 - both[: 2 * row, k * block : (k + 1) * block]
        assert read_barcode(both) is None  # the checksum tells
    following = np.full_like(picture, 90)
    draw_barcode(following, 4712)
    assert read_barcode(cv2.addWeighted(picture, 0.5, following, 0.5, 0)) is None
    assert read_barcode((picture * 0.5).astype(np.uint8)) == 4711  # a fade is still readable
    assert read_barcode(picture[:, block:]) in (None, 4711)
    assert read_barcode(picture[:8, :8]) is None


def test_tone_level_measures_amplitude() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    samples = (0.3 * np.sin(2 * np.pi * 440 * time + 1) + 0.1 * np.sin(2 * np.pi * 477 * time)).astype(np.float32)
    assert tone_level(samples, SAMPLE_RATE, 440, 0.2, 0.8) == pytest.approx(0.3, rel=0.01)
    assert tone_level(samples, SAMPLE_RATE, 477, 0.2, 0.8) == pytest.approx(0.1, rel=0.02)
    assert tone_level(samples, SAMPLE_RATE, 514, 0.2, 0.8) < 0.003
    with pytest.raises(ValueError, match="nothing to measure"):
        tone_level(samples, SAMPLE_RATE, 440, 2.0, 3.0)


def test_click_track_has_its_beats_and_its_step(tmp_path: Path) -> None:
    beats = click_track(tmp_path / "track.wav", bpm=120, seconds=12)
    assert np.diff(beats) == pytest.approx(0.5)
    with wave.open(str(tmp_path / "track.wav")) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    assert len(samples) == 12 * rate
    assert np.abs(samples).max() < 0.99
    for beat in beats:  # each click is the loudest thing between two beats, to 2 ms
        near = np.abs(samples[max(0, round((beat - 0.2) * rate)) : round((beat + 0.2) * rate)])
        onset = int(np.argmax(near > 0.6 * near.max()))
        assert abs(onset - 0.2 * rate) < 0.002 * rate
    first, second = (np.sqrt((part**2).mean()) for part in np.split(samples, 2))
    assert second > 4 * first


def test_same_seed_same_film_other_seed_other_film(tmp_path: Path) -> None:
    contents = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        barcode_film(tmp_path / f"{name}.mp4", frame_rate=Fraction(24), shots=(6, 6), size=(160, 90), seed=seed)
        contents.append((tmp_path / f"{name}.mp4").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_requests_that_make_no_film(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timestamps for"):
        barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(24), shots=(5,), timestamps=[Fraction(0)])
    with pytest.raises(ValueError, match="every shot needs a frame"):
        barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(24), shots=())
    with pytest.raises(ValueError, match="no barcode for frame"):
        draw_barcode(np.zeros((90, 160, 3), np.uint8), 1 << 16)
