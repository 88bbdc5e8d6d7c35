"""Good trailers of many kinds of film: the gate must not cry over any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.editfile import read_edit
from pipeline.quality import check_trailer
from pipeline.records import F32, U8, EditList, Music, Placement, Span
from pipeline.render import render_trailer
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.trailer import make_trailer
from pipeline.writing import write_film
from tests.synthetic import barcode_film, vfr_timestamps
from tests.trailers import SETTINGS, make_music, plan_trailer

RATE = 48000
SHOTS = 8


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Music:
    return make_music(tmp_path_factory.mktemp("music"))


def judge(edit: EditList, folder: Path) -> dict[str, Any]:
    """Render and measure; the figures, where all passed."""
    site = Site(work_dir=folder / "work", device="cpu")
    render_trailer(edit, folder / "t.mp4", folder / "clips", site)
    found = check_trailer(folder / "t.mp4", edit, site).report.checks
    assert [(c.name, c.value, c.limit) for c in found if not c.passed] == []
    alone = check_trailer(folder / "t.mp4", None, site).report.checks
    assert [(c.name, c.value, c.limit) for c in alone if not c.passed] == []
    return {check.name: check.value for check in found}


@dataclass(frozen=True)
class Kind:
    """A film, and how its trailer is planned. rate: of the film and, unless another is named, of the trailer."""

    rate: Fraction
    size: tuple[int, int]
    film: dict[str, Any]
    plan: dict[str, Any]


KINDS = {
    "ntsc film with fades": Kind(Fraction(24000, 1001), (160, 90), {}, {"fade_in": 12, "fade_out": 12}),
    "portrait": Kind(Fraction(30), (90, 160), {}, {}),
    "4:3 with dissolves and slow-downs": Kind(Fraction(25), (120, 90), {}, {"dissolve": 8, "speed": 0.88}),
    "no sound": Kind(Fraction(25), (160, 90), {"sound": False}, {}),
    "64 pixels": Kind(Fraction(24), (64, 36), {}, {}),
    "120 frames a second": Kind(Fraction(120), (96, 54), {}, {"rate": Fraction(60)}),
    "square out of wide": Kind(Fraction(25), (160, 90), {}, {"size": (90, 90)}),
    "shots that stand still": Kind(Fraction(25), (160, 90), {"static": range(SHOTS)}, {}),
    "av1": Kind(Fraction(25), (160, 90), {}, {"settings": ["video.codec=av1", "video.crf=30"]}),
}


@pytest.mark.parametrize("name", list(KINDS))
def test_trailers_of_films_of_many_rates_and_shapes_pass(tmp_path: Path, music: Music, name: str) -> None:
    kind = KINDS[name]
    frames = int(kind.rate * 12 / 5)
    film = barcode_film(
        tmp_path / "film.mp4", frame_rate=kind.rate, shots=[frames] * SHOTS, size=kind.size, **kind.film
    )
    edit = plan_trailer(film.path, film.edges, music, **{"rate": kind.rate, **kind.plan})
    figures = judge(edit, tmp_path)
    assert abs(figures["sound_offset_seconds"]) <= 0.001


def test_a_film_of_variable_rate_passes(tmp_path: Path, music: Music) -> None:
    times = vfr_timestamps(700, seed=3)
    shots = [70] * 10
    film = barcode_film(
        tmp_path / "film.mkv", frame_rate=Fraction(24), shots=shots, size=(160, 90), timestamps=times, sound=False
    )
    long = [n for n, (a, b) in enumerate(zip(film.edges, film.edges[1:], strict=False)) if b - a > 2.4]
    assert len(long) >= 6
    edit = plan_trailer(film.path, film.edges, music, rate=Fraction(24))
    judge(edit, tmp_path)


def paint(shots: Callable[[int, int], U8], frames: int) -> Iterator[U8]:
    """Pictures of SHOTS shots, by shot and frame."""
    for shot in range(SHOTS):
        for frame in range(frames):
            yield shots(shot, frame)


def plan_painted(
    folder: Path, music: Music, shots: Callable[[int, int], U8], sound: F32 | None = None, **plan: Any
) -> EditList:
    frames = 60
    write_film(folder / "film.mp4", paint(shots, frames), frame_rate=Fraction(25), sound=sound)
    edges = [Fraction(frames * shot, 25) for shot in range(SHOTS + 1)]
    return plan_trailer(folder / "film.mp4", edges, music, rate=Fraction(25), **plan)


def draw_texture(shot: int, size: tuple[int, int] = (90, 320)) -> F32:
    """Clouds (h, w), 0..1, other ones for each shot."""
    import cv2

    noise = np.random.default_rng(shot).random((size[0] // 6, size[1] // 6)).astype(np.float32)
    return np.asarray(np.clip(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1), np.float32)


def test_a_dark_film_passes(tmp_path: Path, music: Music) -> None:
    """Night: mean luma under 20 and hardly a contrast, which by itself would count as black; it drifts slowly."""

    def night(shot: int, frame: int) -> U8:
        part = draw_texture(shot)[:, frame : frame + 160]
        return np.asarray(np.repeat((1 + 14 * part)[..., None], 3, axis=2) * (1.0, 1.0, 1.3), np.uint8)

    figures = judge(plan_painted(tmp_path, music, night), tmp_path)
    assert figures["longest_black_seconds"] == 0


def test_whip_pans_pass(tmp_path: Path, music: Music) -> None:
    """Half a picture's width from one frame to the next."""
    colours = np.random.default_rng(5).integers(60, 255, (SHOTS, 3))

    def whip(shot: int, frame: int) -> U8:
        part = np.roll(draw_texture(shot), 83 * frame, axis=1)[:, :160]
        return np.asarray(part[..., None] * colours[shot], np.uint8)

    judge(plan_painted(tmp_path, music, whip), tmp_path)


def test_grain_that_the_encoder_takes_away_is_no_frozen_picture(tmp_path: Path, music: Music) -> None:
    def grainy(shot: int, frame: int) -> U8:
        grain = np.random.default_rng([shot, frame]).normal(0, 5, (90, 160, 3))
        still = draw_texture(shot)[:, :160, None] * 120 + 40 + 8 * shot
        return np.asarray(np.clip(still + grain, 0, 255), np.uint8)

    judge(plan_painted(tmp_path, music, grainy, settings=["video.crf=32"]), tmp_path)


def test_a_quiet_film_under_music_that_pauses_passes(tmp_path: Path) -> None:
    """Music at -40 dB that rests for two seconds, over a film that nearly makes no sound."""
    import wave

    time = np.arange(12 * RATE) / RATE
    tones = np.sin(2 * np.pi * 220 * time) + np.sin(2 * np.pi * 331 * time * (1 + 0.01 * np.sin(time)))
    quiet = 0.01 * tones * (0.3 + 0.7 * np.exp(-3 * (time % 0.75))) * ((time < 5) | (time > 7))
    with wave.open(str(tmp_path / "m.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((quiet * 32767).astype("<i2").tobytes())
    clicks = make_music(tmp_path)
    from pipeline.media import probe_track

    track = replace(
        clicks, path=tmp_path / "m.wav", fingerprint=probe_track(tmp_path / "m.wav").fingerprint, beats=(), accents=()
    )
    noise = np.random.default_rng(1).normal(0, 10 ** (-66 / 20), (round(SHOTS * 2.4 * RATE), 2)).astype(np.float32)
    edit = plan_painted(tmp_path, track, lambda shot, frame: hue(shot, frame), noise)
    figures = judge(edit, tmp_path)
    assert figures["cuts_on_beats"] == "no beats"
    assert 1.5 <= figures["longest_silence_seconds"] <= 2.2  # heard, and not held against it


def hue(shot: int, frame: int) -> U8:
    """Clouds that drift, in the shot's own colour."""
    colour = np.random.default_rng([9, shot]).integers(60, 255, 3)
    return np.asarray(draw_texture(shot)[:, frame : frame + 160, None] * colour, np.uint8)


def speak(seconds: float) -> F32:
    """Noise in bursts, (n, 2), as speech has them."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(2).standard_normal(len(time))
    mono = 0.1 * np.convolve(noise, np.hanning(25) / 6, mode="same") * np.sin(2 * np.pi * 2.5 * time) ** 2
    return np.repeat(mono[:, None], 2, axis=1).astype(np.float32)


@pytest.mark.parametrize("subtitles", ["burned", "soft"])
def test_lines_with_subtitles_pass(tmp_path: Path, music: Music, subtitles: str) -> None:
    """One line of the film over a cut, and one over the card."""
    lines = (
        Placement(0, "The first of two lines.", Span(3.0, 4.4), 1, 45, 0.5),
        Placement(1, "And the other, over the title.", Span(8.0, 9.5), 4, 245, 0.5),
    )
    settings = [f"narration.subtitles={subtitles}"]
    edit = plan_painted(tmp_path, music, hue, speak(SHOTS * 2.4), narration=lines, settings=settings)
    assert judge(edit, tmp_path)["lines_heard"] == "2 of 2"


def test_a_letterboxed_film_cropped_to_its_picture_passes(tmp_path: Path, music: Music) -> None:
    def boxed(shot: int, frame: int) -> U8:
        picture = np.zeros((90, 160, 3), np.uint8)
        picture[12:78] = hue(shot, frame)[12:78]
        return picture

    bars = (0.0, 12 / 90, 0.0, 12 / 90)
    judge(plan_painted(tmp_path, music, boxed, bars=bars, size=(160, 66)), tmp_path)


def test_a_made_trailer_of_ten_seconds_passes_and_keeps_its_story(tmp_path: Path, music: Music) -> None:
    film = barcode_film(tmp_path / "film.mp4", frame_rate=Fraction(25), shots=[60] * 14, size=(160, 90))
    site = Site(work_dir=tmp_path / "work", device="cpu")
    settings = load_config(None, [*SETTINGS, "length=10", "edit.card_seconds=1.5"])
    runner = LocalRunner(lambda line: None)
    outcome = make_trailer(film.path, settings, site, runner, music=music.path, out=tmp_path / "t.mp4")
    assert outcome.failures == ()
    assert outcome.duration == pytest.approx(10, abs=0.05)
    story = read_edit(outcome.edit).film.story
    assert story is not None
    assert story[0] == 0
    assert story[1] < 0.95 * 33.6  # the last tenth is kept
