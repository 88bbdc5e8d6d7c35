"""A whole render: frame truth at every rate, sound in step to the end, and only what changed is made again."""

from __future__ import annotations

import logging
import wave
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cards import draw_title
from pipeline.clips import encode_clips, plan_clips
from pipeline.encoders import describe_software
from pipeline.media import find_ffmpeg, fingerprint_file, probe_film
from pipeline.records import FOCUS_STEP, U8, Card, Cut, EditList, Music, Span
from pipeline.render import render_trailer
from pipeline.settings import Site, load_config
from pipeline.sound import read_track
from pipeline.writing import join_clips
from tests.plans import plan_edit, take
from tests.synthetic import SAMPLE_RATE, SyntheticFilm, barcode_film, read_barcode, tone_level, vfr_timestamps

QUICK = load_config(None, ["video.preset=ultrafast", "video.encoder=software"])
RATES = {
    "23.976": (Fraction(24000, 1001), False),
    "25": (Fraction(25), False),
    "29.97": (Fraction(30000, 1001), False),
    "50": (Fraction(50), False),
    "59.94": (Fraction(60000, 1001), False),
    "120": (Fraction(120), False),
    "variable": (Fraction(30), True),
}
SHOTS = [40] * 5


def quiet_track(path: Path, seconds: float = 60.0) -> Music:
    """Music that nothing drowns in: silence but for a hiss."""
    noise = np.random.default_rng(1).standard_normal(round(seconds * 8000)) * 20
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(noise.astype("<i2").tobytes())
    return Music(path, fingerprint_file(path), 0.0, (0.0,))


def decode(path: Path) -> list[tuple[Fraction, U8]]:
    with av.open(str(path)) as container:
        return [
            (Fraction(f.pts) * f.time_base, np.asarray(f.to_ndarray(format="rgb24"), np.uint8))
            for f in container.decode(video=0)
        ]


def expected(film: SyntheticFilm, cut: Cut, rate: Fraction) -> list[int]:
    """The film frame on screen at each of a cut's frames, from the true timestamps, by exact arithmetic."""
    times = [Fraction(cut.source.start) + k * Fraction(cut.speed) / rate for k in range(cut.frames)]
    return [bisect_right(film.timestamps, time) - 1 for time in times]


def plan_cuts(film: SyntheticFilm, count: int, rate: Fraction, seed: int) -> list[Cut]:
    """Cuts from all over the film, of 2 to 12 frames, some slowed down, each beginning amid a film frame.

    Not at its middle: at a speed of 0.9 half a frame and a few steps come to a whole one, and either would be right.
    """
    rng, probed, cuts = np.random.default_rng(seed), probe_film(film.path), []
    for _ in range(count):
        frames, speed = int(rng.integers(2, 13)), float(rng.choice([1.0, 1.0, 0.9]))
        last = next(n for n, t in enumerate(film.timestamps) if t > film.end - (frames + 1) / rate) - 1
        first = int(rng.integers(0, last))
        start = float(film.timestamps[first] + Fraction(37, 100) / rate)
        cuts.append(take(probed, start, frames, rate=rate, speed=speed))
    return cuts


@pytest.mark.parametrize("name", RATES)
def test_every_frame_is_the_one_that_was_asked_for_at_any_rate(tmp_path: Path, name: str) -> None:
    rate, variable = RATES[name]
    timestamps = vfr_timestamps(sum(SHOTS), seed=5) if variable else None
    suffix = "mkv" if name in ("23.976", "variable") else "mp4"  # Matroska's ticks are whole ms
    film = barcode_film(
        tmp_path / f"f.{suffix}", frame_rate=rate, shots=SHOTS, size=(160, 90), timestamps=timestamps, sound=False
    )
    probed = probe_film(film.path)
    cuts = plan_cuts(film, 8, rate, seed=2)
    edit = plan_edit(probed, cuts, rate=rate)
    encoder = describe_software("libx264", QUICK.video)
    clips = plan_clips(edit, probed, QUICK, encoder, tmp_path)
    encode_clips(clips, edit, probed, encoder, find_ffmpeg())
    join_clips([clip.path for clip in clips], [cut.frames for cut in cuts], rate, tmp_path / "t.mp4")
    shown = decode(tmp_path / "t.mp4")
    assert [time for time, _ in shown] == [k / rate for k in range(edit.output.frames)]
    assert [read_barcode(picture) for _, picture in shown] == [n for c in edit.cuts for n in expected(film, c, rate)]


def test_after_75_cuts_picture_and_sound_are_still_in_step(tmp_path: Path) -> None:
    """29.97 frames/s, whose ticks no millisecond holds; the last shot's tone begins with the last cut, within a frame."""
    rate = Fraction(30000, 1001)
    film = barcode_film(tmp_path / "f.mp4", frame_rate=rate, shots=SHOTS, size=(160, 90))
    probed = probe_film(film.path)
    in_first = replace(film, timestamps=film.timestamps[:40], end=film.timestamps[40])
    cuts = plan_cuts(in_first, 75, rate, seed=4)
    last = take(probed, float(film.timestamps[film.cuts[3] + 2] + 1 / rate / 2), 20)
    edit = plan_edit(probed, [*cuts, last], music=quiet_track(tmp_path / "m.wav"), config=QUICK.model_dump(mode="json"))
    render_trailer(edit, tmp_path / "t.mp4", tmp_path / "clips", Site(work_dir=tmp_path))
    shown = decode(tmp_path / "t.mp4")
    assert [read_barcode(picture) for _, picture in shown] == [n for c in edit.cuts for n in expected(film, c, rate)]
    sound = read_track(tmp_path / "t.mp4", sample_rate=SAMPLE_RATE)[:, 0]
    place, frame = float(edit.cuts[-1].start_frame / rate), float(1 / rate)
    window = 0.05  # s; tells this tone from the first shot's, 148 Hz below
    times = np.arange(place - 0.2, place + 0.3, 0.002)
    levels = np.array([tone_level(sound, SAMPLE_RATE, film.tones[4], t - window / 2, t + window / 2) for t in times])
    begins = float(times[np.argmax(levels > levels.max() / 2)])
    assert begins == pytest.approx(place, abs=frame)
    assert len(sound) / SAMPLE_RATE == pytest.approx(edit.output.frames * frame, abs=frame)


# What changed -----------------------------------------------------------------------------------------------------


def make_plan(folder: Path) -> tuple[EditList, SyntheticFilm]:
    film = barcode_film(folder / "f.mp4", frame_rate=Fraction(24), shots=[48, 48], size=(160, 90), sound=False)
    probed = probe_film(film.path)
    cuts = [take(probed, (n + 0.5) / 24, 8) for n in (3, 50, 20, 60)]
    music = quiet_track(folder / "m.wav")
    return plan_edit(probed, [*cuts, Card("END", 0, 6)], music=music, config=QUICK.model_dump(mode="json")), film


def test_a_changed_cut_is_encoded_anew_and_the_others_are_not(tmp_path: Path) -> None:
    edit, film = make_plan(tmp_path)
    clips, site = tmp_path / "clips", Site(work_dir=tmp_path)
    render_trailer(edit, tmp_path / "a.mp4", clips, site)
    before = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(before) == 5
    other = replace(edit.cuts[2], source=Span(30.5 / 24, 38.5 / 24))
    changed = replace(edit, cuts=(*edit.cuts[:2], other, edit.cuts[3]))
    render_trailer(changed, tmp_path / "b.mp4", clips, site)
    after = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(after) == 6
    assert before.items() <= after.items()
    numbers = [read_barcode(picture) for _, picture in decode(tmp_path / "b.mp4")][:32]
    assert numbers == [n for c in changed.cuts for n in expected(film, c, Fraction(24))]
    render_trailer(edit, tmp_path / "c.mp4", clips, site)
    assert (tmp_path / "c.mp4").read_bytes() == (tmp_path / "a.mp4").read_bytes()


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_a_trailer_of_another_codec_is_whole(tmp_path: Path, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    """HEVC by the name that Apple's players ask for; the log says what encoded it."""
    edit, film = make_plan(tmp_path)
    config = load_config(None, ["video.preset=ultrafast", "video.encoder=software", f"video.codec={codec}"])
    edit = replace(edit, config=config.model_dump(mode="json"))
    with caplog.at_level(logging.INFO, "trailer"):
        render_trailer(edit, tmp_path / "t.mp4", tmp_path / "clips", Site(work_dir=tmp_path))
    assert f"{codec} by" in caplog.text
    assert (b"hvc1" if codec == "hevc" else b"av01") in (tmp_path / "t.mp4").read_bytes()
    shown = decode(tmp_path / "t.mp4")
    assert [time for time, _ in shown] == [Fraction(k, 24) for k in range(38)]
    assert [read_barcode(p) for _, p in shown][:32] == [n for c in edit.cuts for n in expected(film, c, Fraction(24))]


def test_a_trailer_with_everything_at_once(tmp_path: Path) -> None:
    """Upright, following a focus, with a dissolve, a slow-down and fades: the size asked for, every frame, no black
    but where it fades."""
    film = barcode_film(tmp_path / "f.mp4", frame_rate=Fraction(24), shots=[48, 48], size=(320, 180), sound=False)
    probed = probe_film(film.path)
    focus = tuple((0.2 + 0.2 * k, 0.5) for k in range(round(1 / FOCUS_STEP) + 1))
    pieces = [
        take(probed, 5.5 / 24, 24, focus=focus),
        take(probed, 55.5 / 24, 24, speed=0.85, dissolve=8),
        Card("END", 0, 12),
        take(probed, 20.5 / 24, 12),
    ]
    edit = plan_edit(
        probed,
        pieces,
        size=(102, 180),
        music=quiet_track(tmp_path / "m.wav"),
        config=QUICK.model_dump(mode="json"),
        fade_in=6,
        fade_out=6,
    )
    render_trailer(edit, tmp_path / "t.mp4", tmp_path / "clips", Site(work_dir=tmp_path))
    shown = decode(tmp_path / "t.mp4")
    assert len(shown) == 72
    assert {picture.shape for _, picture in shown} == {(180, 102, 3)}
    light = np.array([picture[30:].mean() for _, picture in shown])
    assert light[0] < 0.3 * light[10]
    assert light[-1] < 0.3 * light[62]
    assert light[6:48].min() > 40


def test_a_title_is_white_on_black_and_inside_the_picture() -> None:
    image = draw_title("THE GYPSY", 640, 360)
    assert image.shape == (360, 640, 3)
    rows, columns = np.flatnonzero(image.max(axis=(1, 2)) > 128), np.flatnonzero(image.max(axis=(0, 2)) > 128)
    assert rows[0] > 40
    assert rows[-1] < 320
    assert columns[0] > 30
    assert columns[-1] < 610
    assert not draw_title(" ", 64, 48).any()
    assert draw_title("x", 2, 2).shape == (2, 2, 3)
