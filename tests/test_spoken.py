"""Trailers that speak: rendered, decoded, and their lines looked for in sound and picture; faults in them are caught."""

from __future__ import annotations

import logging
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cards import SUBTITLE_ZONE, draw_subtitle, subtitles_over, write_srt
from pipeline.errors import InputError
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg, fingerprint_file, probe_film
from pipeline.mix import RATE
from pipeline.quality import check_trailer
from pipeline.quality_sound import find_line
from pipeline.records import Card, Cut, EditList, FilmReference, Music, Output, Placement, Span
from pipeline.render import render_trailer
from pipeline.settings import Site, load_config
from pipeline.sound import read_lines, read_sound
from tests.synthetic import barcode_film

SETTINGS = ["video.preset=ultrafast"]
FPS = Fraction(25)
SECONDS = 14.0  # of music
WORDS = (
    "The first of the two lines.",
    "And this one comes from another voice, long enough to be broken into two rows.",
)


@dataclass(frozen=True)
class Plan:
    """A trailer with two lines, one from the film, one from a voice file, laid over a cut and over the title card."""

    edit: EditList
    site: Site
    folder: Path

    def with_settings(self, *settings: str, **changes: Any) -> EditList:
        config = load_config(None, [*SETTINGS, *settings])
        output = replace(self.edit.output, loudness_lufs=config.sound.loudness_lufs)
        return replace(self.edit, config=config.model_dump(mode="json"), output=output, **changes)

    def render(self, edit: EditList, name: str) -> Path:
        render_trailer(edit, self.folder / name, self.folder / "clips", self.site)
        return self.folder / name


def write_mono(path: Path, samples: NDArray[Any]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def syllables(seconds: float, seed: int) -> NDArray[np.float64]:
    """Noise in bursts of a fifth of a second, with peaks far above its level, as speech has them."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.convolve(rng.standard_normal(len(time)), np.hanning(25) / 6, mode="same")
    return np.asarray(0.1 * noise * np.abs(np.sin(2 * np.pi * 2.5 * time)) ** 2, np.float64)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("spoken")
    film = barcode_film(folder / "film.mp4", frame_rate=FPS, shots=[60] * 7, size=(320, 180), clicks=True)
    time = np.arange(round(SECONDS * RATE)) / RATE
    beats = np.exp(-((time % 0.5) * 6)) * np.minimum((time % 0.5) / 0.01, 1)
    music = 0.3 * beats * (np.sin(2 * np.pi * 90 * time) + np.sin(2 * np.pi * 180 * time)) + 0.05 * np.sin(
        2 * np.pi * 270 * time
    )
    write_mono(folder / "music.wav", music)
    write_mono(folder / "voice.wav", syllables(5.0, 3))
    edges = [float(edge) for edge in film.edges]
    shots = tuple(Span(a, b) for a, b in pairwise(edges))
    cuts = tuple(Cut(n, n, Span(shot.start + 0.08, shot.start + 2.08), 50 * n, 50) for n, shot in enumerate(shots[:6]))
    card = Card("FILM", 50 * len(cuts), 40)
    probed = probe_film(film.path)
    track = folder / "music.wav"
    edit = EditList(
        version="0",
        seed=0,
        title="Film",
        film=FilmReference(film.path, probed.fingerprint, probed.duration, FPS, 320, 180),
        output=Output(320, 180, FPS, card.start_frame + card.frames, -14.0),
        cuts=cuts,
        cards=(card,),
        narration=(),
        music=Music(track, fingerprint_file(track), 0.0, tuple(2.0 * n for n in range(6))),
        models={},
        config=load_config(None, SETTINGS).model_dump(mode="json"),
        shots=shots,
    )
    said = (
        Placement(7, WORDS[0], Span(2.4 * 5 - 0.3, 2.4 * 5 + 1.2), 1, 40, 0.5),  # over a cut of the film, a click in it
        Placement(9, WORDS[1], Span(0.5, 2.5), 4, card.start_frame - 20, 0.5, folder / "voice.wav"),
    )
    return Plan(replace(edit, narration=said), Site(work_dir=folder / "work", device="cpu"), folder)


@pytest.fixture(scope="module")
def spoken(plan: Plan) -> Path:
    return plan.render(plan.edit, "spoken.mp4")


def failed(path: Path, edit: EditList, site: Site) -> set[str]:
    return {check.name for check in check_trailer(path, edit, site).report.checks if not check.passed}


def pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="gray")


def test_every_line_is_heard_where_it_was_placed(plan: Plan, spoken: Path) -> None:
    """The place is found here by the envelope of the differences, without the gate's own search."""
    sources = read_lines(plan.edit.narration, probe_film(plan.edit.film.path), "", sample_rate=RATE, channels=1)
    for placement, source in zip(plan.edit.narration, sources, strict=True):
        start = float(placement.start_frame / FPS)
        (heard,) = read_sound(
            spoken, [Span(start - 0.1, start + len(source) / RATE + 0.1)], sample_rate=RATE, channels=1
        )
        lags = range(-round(0.1 * RATE), round(0.1 * RATE), 24)  # half a millisecond
        at = round(0.1 * RATE)
        alike = [float(heard[at + lag : at + lag + len(source), 0] @ source[:, 0]) for lag in lags]
        assert abs(lags[int(np.argmax(alike))] / RATE) <= 0.002
    report = check_trailer(spoken, plan.edit, plan.site).report
    assert report.passed
    figures = {check.name: check.value for check in report.checks}
    assert figures["lines_heard"] == "2 of 2"
    assert float(figures["line_over_music_db"]) >= 8


def test_a_line_at_another_place_is_caught(plan: Plan, spoken: Path) -> None:
    lines = plan.edit.narration
    by_50_ms = replace(lines[0], span=Span(lines[0].span.start + 0.05, lines[0].span.end + 0.05))
    assert failed(spoken, replace(plan.edit, narration=(by_50_ms, lines[1])), plan.site) == {"lines_heard"}
    by_a_frame = replace(lines[1], start_frame=lines[1].start_frame + 1)  # 40 ms
    assert failed(spoken, replace(plan.edit, narration=(lines[0], by_a_frame)), plan.site) == {"lines_heard"}
    elsewhere = replace(lines[0], start_frame=lines[0].start_frame + 60)
    assert "lines_heard" in failed(spoken, replace(plan.edit, narration=(elsewhere, lines[1])), plan.site)
    gone = replace(lines[1], voice=plan.folder / "gone.wav")
    assert failed(spoken, replace(plan.edit, narration=(lines[0], gone)), plan.site) == {"lines_heard"}
    with pytest.raises(InputError, match=r"gone\.wav"):
        plan.render(replace(plan.edit, narration=(gone,)), "gone.mp4")
    assert not (plan.folder / "gone.mp4").exists()


def test_lines_that_are_missing_or_under_loud_music_are_caught(plan: Plan) -> None:
    silent = plan.render(replace(plan.edit, narration=()), "plain.mp4")
    assert failed(silent, plan.edit, plan.site) == {"lines_heard", "line_over_music_db"}
    # the same lines, the music not turned down and they not turned up
    loud = plan.with_settings("sound.duck_db=0", "sound.line_over_music_db=0")
    path = plan.render(loud, "loud.mp4")
    assert failed(path, plan.edit, plan.site) == {"line_over_music_db"}


@pytest.mark.parametrize("target", [-10.0, -14.0, -23.0, -24.0])
def test_loud_lines_keep_loudness_and_peak(plan: Plan, target: float) -> None:
    edit = plan.with_settings(f"sound.loudness_lufs={target}", "sound.line_over_music_db=20")
    path = plan.render(edit, "l.mp4")
    loudness, peak = measure_loudness(find_ffmpeg(), ["-i", str(path)], 60)
    assert loudness == pytest.approx(target, abs=0.3)
    assert peak <= -1.0


def test_soft_subtitles_are_a_track_that_is_off_and_says_what_is_heard(plan: Plan) -> None:
    edit = plan.with_settings("narration.subtitles=soft")
    path = plan.render(edit, "soft.mp4")
    assert check_trailer(path, edit, plan.site).report.passed
    with av.open(str(path)) as container:
        (track,) = container.streams.subtitles
        assert track.codec_context.name == "mov_text"
        assert not track.disposition & av.stream.Disposition.default
        assert track.language in (None, "und")
        texts = [
            (float(packet.pts * packet.time_base), bytes(packet)[2:].decode())
            for packet in container.demux(track)
            if packet.pts is not None and packet.time_base is not None and packet.size > 2
        ]
    assert [text for _, text in texts] == list(WORDS)
    for (start, _), placement in zip(texts, edit.narration, strict=True):
        assert start == pytest.approx(float(placement.start_frame / FPS), abs=0.001)
    assert not [name for name in plan.folder.iterdir() if name.suffix == ".srt"]


def test_burned_subtitles_are_in_the_pictures_that_are_heard_and_change_only_those(plan: Plan, spoken: Path) -> None:
    edit = plan.with_settings("narration.subtitles=burned")
    clips = {path.name for path in (plan.folder / "clips").iterdir()}
    path = plan.render(edit, "burned.mp4")
    touched = sum(bool(subtitles_over(piece, edit)) for piece in edit.pieces)
    assert 2 <= touched < len(edit.pieces)
    assert len({path.name for path in (plan.folder / "clips").iterdir()} - clips) == touched
    heard = {
        frame
        for placement in edit.narration
        for frame in range(placement.start_frame, placement.start_frame + round(placement.span.duration * FPS))
    }
    zone = round(SUBTITLE_ZONE * 180)
    for number, (plain, shown) in enumerate(zip(pictures(spoken), pictures(path), strict=True)):
        difference = np.abs(plain.astype(int) - shown)
        assert (np.percentile(difference[zone:], 99.5) > 60) == (number in heard), number
        assert difference[: zone - 4].mean() < 1.5  # nothing above it, but what the encoder does otherwise
    assert edit.cards[0].start_frame in heard  # over the card too
    assert check_trailer(path, edit, plan.site).report.passed


def test_a_subtitle_is_white_with_a_black_outline_in_the_bottom_tenth() -> None:
    for width, height in ((1920, 1080), (320, 180), (360, 640)):
        for text in (*WORDS, "Go!", "Unbreakable" * 12):
            drawn = draw_subtitle(text, width, height)
            assert drawn.shape == (height, width, 4)
            rows, columns = (np.flatnonzero(drawn[..., 3].max(axis=axis) > 40) for axis in (1, 0))
            assert rows[0] >= int(SUBTITLE_ZONE * height)
            assert rows[-1] < height
            assert columns[0] >= 0.03 * width
            assert columns[-1] <= 0.97 * width
            assert abs(columns[0] + columns[-1] - width) <= 0.02 * width  # in the middle
            if height == 1080:  # the thin strokes of a small picture mix with their outline
                solid = drawn[drawn[..., 3] > 250][:, :3]
                assert solid.max() > 230
                assert solid.min() < 25
    assert not draw_subtitle("  ", 320, 180).any()
    lines = [np.flatnonzero(np.diff((draw_subtitle(text, 1280, 720)[..., 0] > 200).any(axis=1))) for text in WORDS]
    assert lines[1][-1] - lines[1][0] > 1.5 * (lines[0][-1] - lines[0][0])  # two rows and one


def test_subtitles_are_told_on_the_trailers_clock_and_on_the_pieces_own(plan: Plan) -> None:
    assert write_srt(plan.edit).startswith(f"1\n00:00:01,600 --> 00:00:03,120\n{WORDS[0]}\n\n2\n")
    whole = Card("", 0, plan.edit.output.frames)
    (first, second) = subtitles_over(whole, plan.edit)
    assert (first.start, first.end) == (40, 78)  # 1.5 s are 37.5 frames, and the begun one counts
    (part,) = subtitles_over(Card("", 50, 20), plan.edit)
    assert (part.start, part.end) == (0, 20)
    assert subtitles_over(Card("", 0, 40), plan.edit) == ()
    assert second.text == WORDS[1]
    odd = replace(plan.edit, narration=(replace(plan.edit.narration[0], text=" a\n\n1\n00:01 --> 2 "),))
    assert write_srt(odd).splitlines()[2:] == ["a 1 00:01 → 2"]


def test_a_line_is_found_in_noise_to_the_sample_and_a_foreign_one_is_not() -> None:
    rng = np.random.default_rng(0)
    said = np.repeat(syllables(2.0, 1)[::3, None], 2, axis=1).astype(np.float32)
    quiet = 0.01 * rng.standard_normal((len(said) + 8000, 2))
    around = quiet.astype(np.float32)
    around[4000 + 160 : 4000 + 160 + len(said)] += 0.5 * said
    found = find_line(said, around)
    assert found.offset == pytest.approx(0.01, abs=1e-4)
    expected = 10 * np.log10(np.mean((0.5 * said) ** 2) / 0.01**2)
    assert found.over_db == pytest.approx(expected, abs=0.5)
    foreign = find_line(np.repeat(syllables(2.0, 2)[::3, None], 2, axis=1).astype(np.float32), around)
    assert foreign.share < 0.05
    assert find_line(np.zeros_like(said), around).share == 0.0


def test_a_line_without_sound_is_warned_of_and_fails_the_gate(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    write_mono(plan.folder / "void.wav", np.zeros(3 * RATE))
    void = replace(plan.edit.narration[1], voice=plan.folder / "void.wav")
    edit = replace(plan.edit, narration=(plan.edit.narration[0], void))
    with caplog.at_level(logging.WARNING, "trailer"):
        path = plan.render(edit, "void.mp4")
    assert "has almost no sound" in caplog.text
    assert "lines_heard" in failed(path, edit, plan.site)


def test_a_speech_is_shortened_and_not_drawn_for_minutes() -> None:
    drawn = draw_subtitle("word " * 20_000, 320, 180)
    assert np.array_equal(drawn, draw_subtitle("word " * 41, 320, 180))
    assert drawn[:, :, 3].any()
