"""From a film with subtitles beside it to a trailer that says them: the whole way, on a film whose truth is planted."""

from __future__ import annotations

import json
import logging
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.editfile import read_edit
from pipeline.errors import ChatError, InputError
from pipeline.mix import RATE
from pipeline.narration_steps import find_limits, leave_out_silent
from pipeline.records import EditList, Film, Line, Span
from pipeline.runner import LocalRunner
from pipeline.script import Lines, Script, ScriptLine
from pipeline.settings import Site, load_config
from pipeline.sound import read_track
from pipeline.trailer import Outcome, make_trailer
from tests.synthetic import SyntheticFilm, barcode_film, tone_level
from tests.test_quotes import make_shots
from tests.test_spoken import syllables, write_mono

FAST = [
    "video.preset=ultrafast",
    "edit.card_seconds=1.5",
    "seed=1",
    "narration.words=40",
    "lines.voice_detector=energy",
]
SENTENCES = (
    "The river will drown the whole valley.",
    "Somebody in this house is a thief.",
    "I promised my daughter to come home.",
    "Nobody survives a winter up there.",
    "They buried the treasure under the church.",
    "You have until midnight to decide.",
)
SHOTS = [100] * 14  # frames at 25 a second: 4 s


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> SyntheticFilm:
    """A line in the second, fourth, sixth ... shot, from half a second to three seconds into it."""
    folder = tmp_path_factory.mktemp("told")
    film = barcode_film(folder / "Told.mp4", frame_rate=Fraction(25), shots=SHOTS, size=(192, 108))
    (folder / "Told.en.srt").write_text(subtitles(0.0))
    return film


def subtitles(shift: float, times: int = 1) -> str:
    rows = []
    for n in range(times * len(SENTENCES)):
        start = 4.0 * (2 * (n % len(SENTENCES)) + 1) + 0.5 + shift
        rows.append(f"{n + 1}\n{clock(start)} --> {clock(start + 2.5)}\n{SENTENCES[n % len(SENTENCES)]}\n")
    return "\n".join(rows)


def clock(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"


def tell(
    film: Path,
    site: Site,
    out: Path,
    music: Path,
    *settings: str,
    subtitles: Path | None = None,
    voice: Path | None = None,
) -> tuple[Outcome, EditList]:
    config = load_config(None, [*FAST, *settings])
    outcome = make_trailer(
        film, config, site, LocalRunner(lambda line: None), music=music, out=out, subtitles=subtitles, voice=voice
    )
    return outcome, read_edit(outcome.edit)


@pytest.fixture(scope="module")
def pulses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Music: soft beats of 80 Hz every half second, nothing at the film's tones."""
    path = tmp_path_factory.mktemp("music") / "pulses.wav"
    since_beat = np.arange(14 * RATE) / RATE % 0.5
    write_mono(
        path, 0.5 * np.minimum(since_beat / 0.015, 1) * np.exp(-since_beat * 6) * np.sin(160 * np.pi * since_beat)
    )
    return path


@pytest.fixture(scope="module")
def told(
    planted: SyntheticFilm,
    pulses: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Outcome, EditList, Site]:
    folder = tmp_path_factory.mktemp("made")
    site = Site(work_dir=folder / "work", device="cpu")
    return (*tell(planted.path, site, folder / "t.mp4", pulses), site)


def test_the_films_own_lines_are_said_where_the_plan_says(
    planted: SyntheticFilm, told: tuple[Outcome, EditList, Site]
) -> None:
    outcome, edit, _ = told
    assert outcome.passed
    assert edit.models["lines"] == "subtitle file Told.en.srt"
    assert len(edit.narration) >= 2
    sound = read_track(outcome.trailer, sample_rate=RATE)[:, 0]
    for placed in edit.narration:
        assert placed.text in SENTENCES  # whole sentences
        shot = 2 * SENTENCES.index(placed.text) + 1
        assert placed.span.end <= 4.0 * len(SHOTS) * 0.9  # nothing from the ending
        middle = (placed.span.start + placed.span.end) / 2
        assert planted.edges[shot] < middle < planted.edges[shot + 1]
        tone = planted.tones[shot]
        start = float(placed.start_frame / edit.output.frame_rate)
        # the shot's tone is the line's: it sounds in the span, and not in the quarter second before it, where the cut
        # has no sound of the same shot
        inside = tone_level(sound, RATE, tone, start + 0.1, start + placed.span.duration - 0.1)
        others = [t for n, t in enumerate(planted.tones) if n != shot]
        assert inside > 10 * max(
            tone_level(sound, RATE, t, start + 0.1, start + placed.span.duration - 0.1) for t in others
        )
    starts = [placed.start_frame for placed in edit.narration]
    assert starts == sorted(starts)
    assert [placed.line for placed in edit.narration] == sorted(placed.line for placed in edit.narration)


def test_cuts_are_silent_where_they_would_sound_a_scrap_of_a_sentence(told: tuple[Outcome, EditList, Site]) -> None:
    _, edit, _ = told
    for cut in edit.cuts:
        spoken = cut.shot % 2 == 1 and cut.shot // 2 < len(SENTENCES)
        said = 4.0 * cut.shot + 0.5, 4.0 * cut.shot + 3.0
        overlap = min(cut.source.end, said[1]) - max(cut.source.start, said[0]) if spoken else 0.0
        assert cut.sound == (overlap <= 0.08)


def test_the_report_tells_the_lines(told: tuple[Outcome, EditList, Site]) -> None:
    outcome, edit, _ = told
    page = outcome.report.read_text()
    assert all(placed.text in page for placed in edit.narration)


def test_a_second_run_makes_nothing_anew_and_no_narration_says_nothing(
    planted: SyntheticFilm,
    pulses: Path,
    told: tuple[Outcome, EditList, Site],
    tmp_path: Path,
) -> None:
    first, _, site = told
    again, _ = tell(planted.path, site, tmp_path / "again.mp4", pulses)
    names = [step.name for step in again.steps]
    assert names[5:10] == ["lines", "script", "captions", "narration", "edit"]
    assert all(step.reused for step in again.steps)
    assert again.trailer.read_bytes() == first.trailer.read_bytes()
    mute, plan = tell(planted.path, site, tmp_path / "mute.mp4", pulses, "narration.enabled=false")
    assert plan.narration == ()
    assert "lines" not in [step.name for step in mute.steps]
    assert all(cut.sound for cut in plan.cuts)


def test_the_subtitles_of_another_film_are_not_used_and_that_is_said(
    planted: SyntheticFilm,
    pulses: Path,
    told: tuple[Outcome, EditList, Site],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other.srt"
    other.write_text(subtitles(3000.0))
    outcome, plan = tell(planted.path, told[2], tmp_path / "t.mp4", pulses, subtitles=other)
    assert outcome.passed
    assert plan.narration == ()
    assert any("of another film" in warning for warning in outcome.warnings)


def test_a_named_file_that_is_no_subtitles_is_refused_before_any_work(
    planted: SyntheticFilm,
    pulses: Path,
    site: Site,
    tmp_path: Path,
) -> None:
    bad = tmp_path / "bad.srt"
    bad.write_bytes(b"\x00\x01\x02" * 100)
    with pytest.raises(InputError, match=r"bad\.srt"):
        tell(planted.path, site, tmp_path / "t.mp4", pulses, subtitles=bad)
    assert not (tmp_path / "t.mp4").exists()
    assert not list(site.work_dir.glob("*/analysis*"))


def test_a_broken_file_beside_the_film_is_a_warning(
    planted: SyntheticFilm,
    pulses: Path,
    told: tuple[Outcome, EditList, Site],
    tmp_path: Path,
) -> None:
    film = tmp_path / "Broken.mp4"
    shutil.copy(planted.path, film)
    (tmp_path / "Broken.en.srt").write_bytes(b"\x00\x01\x02" * 100)
    outcome, plan = tell(film, told[2], tmp_path / "t.mp4", pulses)
    assert outcome.passed
    assert plan.narration == ()
    assert any("Broken.en.srt" in warning for warning in outcome.warnings)


def test_a_voice_of_ones_own(
    planted: SyntheticFilm,
    pulses: Path,
    told: tuple[Outcome, EditList, Site],
    tmp_path: Path,
) -> None:
    write_mono(tmp_path / "one.wav", syllables(1.5, 1))
    write_mono(tmp_path / "two.wav", syllables(2.0, 2))
    voice = tmp_path / "voice.json"
    voice.write_text(json.dumps([{"file": "one.wav", "line": 3}, {"file": "two.wav", "text": "And one of ours."}]))
    outcome, plan = tell(planted.path, told[2], tmp_path / "t.mp4", pulses, voice=voice)
    assert outcome.passed  # the gate has looked for both recordings in the sound
    assert [placed.text for placed in plan.narration] == [SENTENCES[3], "And one of ours."]
    assert [placed.voice for placed in plan.narration] == [tmp_path / "one.wav", tmp_path / "two.wav"]
    before = outcome.trailer.read_bytes()
    write_mono(tmp_path / "two.wav", syllables(2.0, 5))  # as long, and another voice
    again, _ = tell(planted.path, told[2], tmp_path / "t.mp4", pulses, voice=voice)
    assert again.passed
    assert again.trailer.read_bytes() != before


def test_a_model_that_fails_is_said_and_done_without(
    planted: SyntheticFilm,
    pulses: Path,
    told: tuple[Outcome, EditList, Site],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TRAILER_LLM_KEY", "sk-do-not-tell")
    asked: list[int] = []

    def refuse(*arguments: object) -> object:
        asked.append(1)
        raise ChatError("the model answered nothing that can be used")

    monkeypatch.setattr("pipeline.narration_steps.choose_with_model", refuse)
    llm = ["narration.chooser=llm", "llm.base_url=http://127.0.0.1:9/v1"]
    caplog.set_level(logging.DEBUG)
    outcome, plan = tell(planted.path, told[2], tmp_path / "t.mp4", pulses, *llm)
    assert outcome.passed
    assert asked == [1]
    assert [placed.text for placed in plan.narration] == [placed.text for placed in told[1].narration]
    assert any("without a language model" in warning for warning in outcome.warnings)
    kept = [path.read_bytes() for path in told[2].work_dir.rglob("*") if path.is_file()]
    kept += [path.read_bytes() for path in tmp_path.iterdir()]
    assert not any(b"sk-do-not-tell" in data for data in kept)
    assert "sk-do-not-tell" not in caplog.text


def test_a_film_without_sound_says_nothing_of_its_own(pulses: Path, site: Site, tmp_path: Path) -> None:
    film = barcode_film(tmp_path / "mute.mp4", frame_rate=Fraction(25), shots=SHOTS, size=(192, 108), sound=False)
    (tmp_path / "mute.srt").write_text(subtitles(0.0))
    outcome, plan = tell(film.path, site, tmp_path / "t.mp4", pulses)
    assert outcome.passed
    assert plan.narration == ()
    assert np.isfinite(outcome.duration)


def test_a_film_that_was_moved_is_made_where_it_lies_now(
    planted: SyntheticFilm, pulses: Path, site: Site, tmp_path: Path
) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    shutil.copy(planted.path, first / "Told.mp4")
    tell(first / "Told.mp4", site, first / "t.mp4", pulses, "narration.enabled=false")
    first.rename(second)
    shutil.copy(planted.path.with_name("Told.en.srt"), second)
    outcome, plan = tell(second / "Told.mp4", site, second / "t.mp4", pulses)
    assert outcome.passed
    assert len(plan.narration) >= 2


def test_a_voice_for_a_trailer_that_shall_not_speak_is_refused(
    planted: SyntheticFilm, pulses: Path, site: Site, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="narration is off"):
        tell(planted.path, site, tmp_path / "t.mp4", pulses, "narration.enabled=false", voice=tmp_path / "v.json")


LINES = Lines(
    "f",
    (
        Line("Before.", Span(8.0, 10.0)),
        Line("This one.", Span(11.0, 14.0)),
        Line("An overlapping one.", Span(13.9, 16.0)),
        Line("Last before the ending.", Span(36.0, 39.0)),
    ),
)


def test_a_line_is_kept_from_its_neighbours_and_from_the_ending() -> None:
    shots = make_shots(["", "", "", "", "ending"])
    guards = load_config(None).guards
    assert find_limits(LINES, 1, shots, guards) == Span(10.0, 14.0)
    assert find_limits(LINES, 0, shots, guards) == Span(0.0, 11.0)
    assert find_limits(LINES, 3, shots, guards) == Span(16.0, 40.0)


def test_a_line_at_which_the_film_is_silent_is_left_out_and_named(tmp_path: Path) -> None:
    time = np.arange(12 * RATE) / RATE
    write_mono(tmp_path / "half.wav", 0.3 * np.sin(2 * np.pi * 300 * time) * (time < 6))
    lines = tuple(ScriptLine(n, f"Line {n}.", Span(a, a + 2.0), 1.0) for n, a in enumerate((2.0, 8.0)))
    film = Film(tmp_path / "half.wav", "f", 0.0, 12.0, Fraction(24), 64, 36, 0)
    kept = leave_out_silent(Script(lines, "test"), film, 0)
    assert [line.number for line in kept.lines] == [0]
    assert len(kept.warnings) == 1
    assert "Line 1." in kept.warnings[0]
