"""The whole job on films whose truth is planted: every frame of the trailer is decoded and its number read."""

from __future__ import annotations

import hashlib
import json
import logging
import wave
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.editfile import read_edit
from pipeline.errors import InputError, NoSolutionError
from pipeline.records import EditList
from pipeline.runner import LocalRunner
from pipeline.settings import Site, TrailerConfig, load_config
from pipeline.sound import read_track
from pipeline.trailer import Outcome, make_trailer, title_from_name
from tests.synthetic import SyntheticFilm, barcode_film, read_barcode, tone_level, vfr_timestamps

FAST = ["video.preset=ultrafast", "edit.card_seconds=1.5", "seed=1", "sound.film_db=-3"]
NTSC = Fraction(24000, 1001)
LENGTHS = [40, 64, 52, 71, 45, 58, 90, 47, 66, 53, 49, 77, 60, 44, 85, 51, 63, 48, 70, 55]  # frames a shot
RATE = 48000
TRACK_SECONDS = 14.0


@dataclass(frozen=True)
class Made:
    film: SyntheticFilm
    outcome: Outcome
    edit: EditList


def make(film: Path, music: Path | None, out: Path, site: Site, settings: list[str]) -> Outcome:
    return make_trailer(film, load_config(None, settings), site, LocalRunner(lambda line: None), music=music, out=out)


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beats of 80 Hz with soft attacks, every half second, louder in the second half: nothing at the films' tones."""
    path = tmp_path_factory.mktemp("music") / "pulses.wav"
    n = np.arange(round(TRACK_SECONDS * RATE))
    since_beat = (n / RATE) % 0.5
    envelope = np.minimum(since_beat / 0.015, 1) * np.exp(-since_beat * 6) * np.where(n < len(n) / 2, 0.3, 0.8)
    write_wave(path, envelope * np.sin(2 * np.pi * 80 * n / RATE))
    return path


def write_wave(path: Path, samples: NDArray[np.float64]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


SOURCES = {
    "24000/1001 mp4": (NTSC, "film.mp4", False),
    "24000/1001 mkv": (NTSC, "film.mkv", False),  # timestamps in whole milliseconds
    "25": (Fraction(25), "film.mp4", False),
    "30": (Fraction(30), "film.mkv", False),
    "variable": (Fraction(30), "film.mp4", True),
}


@pytest.fixture(scope="module", params=SOURCES, ids=list(SOURCES))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, track: Path) -> Made:
    rate, name, variable = SOURCES[request.param]
    folder = tmp_path_factory.mktemp("film")
    timestamps = vfr_timestamps(sum(LENGTHS), seed=3) if variable else None
    film = barcode_film(folder / name, frame_rate=rate, shots=LENGTHS, timestamps=timestamps)
    site = Site(work_dir=folder / "work", device="cpu")
    outcome = make(film.path, track, folder / "trailer.mp4", site, FAST)
    return Made(film, outcome, read_edit(outcome.edit))


def pictures(path: Path) -> Iterator[tuple[Fraction, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            yield frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")


def test_every_frame_is_the_one_that_the_edit_list_says(made: Made) -> None:
    edit, film = made.edit, made.film
    wanted: dict[int, int] = {}
    times = [float(t) for t in film.timestamps]
    for cut in edit.cuts:
        for k in range(cut.frames):
            on_screen = bisect_right(times, cut.source.start + float(k / edit.output.frame_rate)) - 1
            wanted[cut.start_frame + k] = on_screen
    shown = [read_barcode(picture) for _, picture in pictures(made.outcome.trailer)]
    assert len(shown) == edit.output.frames
    # a barcode cannot be read while the picture comes from black or goes to black
    lit = range(edit.output.fade_in, edit.output.frames - edit.output.fade_out)
    wrong = {n: (shown[n], frame) for n, frame in wanted.items() if shown[n] != frame and n in lit}
    assert not wrong
    assert len(wanted) > 200


def test_every_frame_stands_at_its_whole_place(made: Made) -> None:
    rate = made.edit.output.frame_rate
    assert [t * rate for t, _ in pictures(made.outcome.trailer)] == list(range(made.edit.output.frames))


def test_no_cut_leaves_its_shot_and_no_shot_comes_twice(made: Made) -> None:
    bounds = [0, *np.cumsum(LENGTHS).tolist()]
    shot_of = {n: shot for shot, (a, b) in enumerate(pairwise(bounds)) for n in range(a, b)}
    shown = [read_barcode(picture) for _, picture in pictures(made.outcome.trailer)]
    planted = []
    for cut in made.edit.cuts:
        seen = {shot_of[frame] for frame in shown[cut.start_frame : cut.start_frame + cut.frames] if frame is not None}
        assert len(seen) == 1
        planted.append(seen.pop())
    assert len(set(planted)) == len(planted)
    assert max(planted) < len(LENGTHS) - 1  # the last tenth of the story is kept secret


def test_sound_and_picture_agree_within_a_frame_from_the_first_cut_to_the_last(made: Made) -> None:
    """Each shot of the film has a tone of its own: its onset in the trailer's sound is timed against its first frame."""
    sound = read_track(made.outcome.trailer, sample_rate=RATE)[:, 0]
    rate = float(made.edit.output.frame_rate)
    bounds = np.cumsum([0, *LENGTHS])
    shown = [read_barcode(picture) for _, picture in pictures(made.outcome.trailer)]
    window = 0.03  # s; the tone of a cut is told from its neighbour's in it
    for cut in made.edit.cuts[1:]:
        number = shown[cut.start_frame]
        assert number is not None
        tone = made.film.tones[int(np.searchsorted(bounds, number, "right")) - 1]
        start, end = cut.start_frame / rate, (cut.start_frame + cut.frames) / rate
        full = tone_level(sound, RATE, tone, start + 0.1, end - 0.1)
        places = np.arange(start - 0.15, start + 0.15, 0.002)
        levels = np.array([tone_level(sound, RATE, tone, t - window / 2, t + window / 2) for t in places])
        onset = places[np.flatnonzero(levels < 0.5 * full)[-1]]
        assert onset == pytest.approx(start, abs=1 / rate)


def test_the_gate_passes_and_the_files_are_there(made: Made) -> None:
    outcome = made.outcome
    assert outcome.passed, outcome.failures
    report = json.loads(outcome.qc.read_text())
    figures = {check["check"]: check["measured"] for check in report["checks"]}
    assert report["passed"] is True
    assert figures["loudness_lufs"] == pytest.approx(-14, abs=1)
    assert figures["true_peak_dbtp"] <= -1
    assert figures["frames"] == made.edit.output.frames
    length = float(made.edit.output.frames / made.edit.output.frame_rate)
    assert length == pytest.approx(TRACK_SECONDS, abs=float(1 / made.edit.output.frame_rate))
    page = outcome.report.read_text()
    assert page.count("data:image/jpeg;base64,") > len(made.edit.pieces)  # each piece, and runners-up
    assert "http://" not in page
    assert "https://" not in page
    assert {p.name for p in outcome.trailer.parent.iterdir()} - {"work", made.film.path.name} == {
        "trailer.mp4", "trailer.edit.json", "trailer.qc.json", "trailer.report.html",
    }  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SyntheticFilm:
    folder = tmp_path_factory.mktemp("small")
    return barcode_film(folder / "small.mp4", frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))


def test_the_same_again_is_the_same_bytes_and_everything_is_reused(
    small: SyntheticFilm, track: Path, site: Site, tmp_path: Path
) -> None:
    before = hashlib.sha256(small.path.read_bytes()).hexdigest()
    first = make(small.path, track, tmp_path / "a.mp4", site, FAST)
    again = make(small.path, track, tmp_path / "a.mp4", site, FAST)
    assert not any(step.reused for step in first.steps)
    assert all(step.reused for step in again.steps)
    elsewhere = make(small.path, track, tmp_path / "b.mp4", Site(work_dir=tmp_path / "other", device="cpu"), FAST)
    assert first.edit.read_bytes() == elsewhere.edit.read_bytes()
    assert hashlib.sha256(small.path.read_bytes()).hexdigest() == before


def test_a_changed_setting_remakes_only_what_it_touches(
    small: SyntheticFilm, track: Path, site: Site, tmp_path: Path
) -> None:
    make(small.path, track, tmp_path / "a.mp4", site, FAST)
    changed = make(small.path, track, tmp_path / "a.mp4", site, [*FAST, "title=Other"])
    reused = {step.name: step.reused for step in changed.steps}
    assert reused == {
        "analysis": True, "shots": True, "features": True, "music": True, "selection": True, "lines": True,
        "edit": False, "render": False, "quality": False,
    }  # fmt: skip


def test_length_is_kept_and_a_bundled_bed_serves_when_there_is_no_track(
    small: SyntheticFilm, site: Site, tmp_path: Path
) -> None:
    outcome = make(small.path, None, tmp_path / "a.mp4", site, [*FAST, "length=12"])
    edit = read_edit(outcome.edit)
    assert outcome.duration == pytest.approx(12.0, abs=0.04)
    assert edit.music.path.parent.name == "music"
    assert outcome.passed, outcome.failures


def test_a_silent_film_gets_music_only_and_says_so(
    track: Path, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = barcode_film(tmp_path / "mute.mp4", frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90), sound=False)
    with caplog.at_level(logging.WARNING, "trailer"):
        outcome = make(film.path, track, tmp_path / "a.mp4", site, FAST)
    assert outcome.passed, outcome.failures
    assert "no sound" in caplog.text
    assert any("no sound" in warning for warning in outcome.warnings)


def test_fewer_shots_than_slots_make_fewer_slots_and_a_warning(track: Path, site: Site, tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "few.mp4", frame_rate=Fraction(25), shots=[75] * 4, size=(160, 90))
    outcome = make(film.path, track, tmp_path / "a.mp4", site, FAST)
    assert 3 <= outcome.slots <= 4
    assert any("usable shots" in warning for warning in outcome.warnings)
    assert outcome.duration < TRACK_SECONDS - 1


def test_a_single_shot_is_refused_and_nothing_is_left(track: Path, site: Site, tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "one.mp4", frame_rate=Fraction(25), shots=[200], size=(160, 90))
    out = tmp_path / "out"
    with pytest.raises(NoSolutionError, match="has 1 shot"):
        make(film.path, track, out / "a.mp4", site, FAST)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such film"), (b"", r"empty \(0 bytes\)"), (bytes(range(256)) * 40, "not a media file")],
)
def test_a_file_that_is_no_film_is_refused(site: Site, tmp_path: Path, content: bytes | None, message: str) -> None:
    film = tmp_path / "film.mkv"
    if content is not None:
        film.write_bytes(content)
    with pytest.raises(InputError, match=message):
        make(film, None, tmp_path / "a.mp4", site, FAST)
    assert not (tmp_path / "a.mp4").exists()


def test_sound_is_no_film_a_folder_is_no_film_and_a_film_is_music(
    small: SyntheticFilm, track: Path, site: Site, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds only sound"):
        make(track, None, tmp_path / "a.mp4", site, FAST)
    with pytest.raises(InputError, match="is a folder"):
        make(tmp_path, None, tmp_path / "a.mp4", site, FAST)
    (tmp_path / "text.mp3").write_text("no music at all " * 100)
    with pytest.raises(InputError, match="track"):
        make(small.path, tmp_path / "text.mp3", tmp_path / "a.mp4", site, FAST)
    assert not list(tmp_path.glob("a.*"))


def test_nothing_of_the_users_is_overwritten(small: SyntheticFilm, track: Path, site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the film itself"):
        make(small.path, track, small.path, site, FAST)
    theirs = tmp_path / "holiday.mp4"
    theirs.write_bytes(b"precious")
    with pytest.raises(InputError, match="was not made by this program"):
        make(small.path, track, theirs, site, FAST)
    assert theirs.read_bytes() == b"precious"
    with pytest.raises(InputError, match=r"must end in \.mp4"):
        make(small.path, track, tmp_path / "a.mkv", site, FAST)


def test_a_trailer_that_the_gate_refuses_lies_aside(small: SyntheticFilm, site: Site, tmp_path: Path) -> None:
    """A silent film under silent music has no loudness: the gate must say so and keep the final name free."""
    quiet = tmp_path / "quiet.wav"
    write_wave(quiet, np.zeros(12 * RATE))
    mute = barcode_film(tmp_path / "mute.mp4", frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90), sound=False)
    outcome = make(mute.path, quiet, tmp_path / "a.mp4", site, FAST)
    assert not outcome.passed
    assert "loudness_lufs" in outcome.failures
    assert outcome.trailer.name == "a.rejected.mp4"
    assert not (tmp_path / "a.mp4").exists()


def test_what_the_models_allow_stands_in_the_plan_the_log_and_the_report(
    small: SyntheticFilm, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = make(small.path, None, tmp_path / "plain.mp4", site, FAST)
    models = read_edit(plain.edit).models
    assert (models["encoder"], models["detector"]) == ("descriptor@1", "adaptive")
    assert set(models) == {"encoder", "detector", "lines", "selector"}  # no weights, no licence
    assert not any("commercial" in warning for warning in plain.warnings)
    licence = "CC-BY-NC-SA 4.0 (non-commercial)"
    named = {
        "encoder": "imagebind@1",
        "encoder_licence": licence,
        "encoder_weights": "ab" * 32,
        "detector": "transnetv2@1.0.5",
    }
    monkeypatch.setattr("pipeline.steps.name_models", lambda config, site: named)
    outcome = make(small.path, None, tmp_path / "t.mp4", site, FAST)
    assert next(step.name for step in outcome.steps if not step.reused) == "edit"
    plan = read_edit(outcome.edit)
    assert {**named, "lines": "none found", "selector": models["selector"]} == plan.models
    (warning,) = (w for w in plan.warnings if "commercial" in w)
    assert warning == (
        f"the shots were chosen with imagebind@1, whose weights are licensed {licence}: that may rule out a commercial use "
        "of this trailer"
    )
    assert warning in caplog.text
    report = outcome.report.read_text()
    assert warning in report
    assert f"<bdi>imagebind@1, {licence}, {'ab' * 32}</bdi>" in report
    assert "<dt>shot detector</dt><dd><bdi>transnetv2@1.0.5</bdi>" in report


@pytest.mark.parametrize(
    ("stem", "title"),
    [
        ("big_buck_bunny_640x360", "Big Buck Bunny"),
        ("Tears.of.Steel.2012.1080p.BluRay.x264", "Tears of Steel"),
        ("Sintel (2010)", "Sintel"),
        ("2012", "2012"),
        ("étoile", "Étoile"),
    ],
)
def test_the_title_comes_from_the_file_name(stem: str, title: str) -> None:
    assert title_from_name(stem) == title


def test_a_config_is_what_the_edit_list_carries(made: Made) -> None:
    assert TrailerConfig.model_validate(made.edit.config) == load_config(None, FAST)
