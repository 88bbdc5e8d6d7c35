"""Where lines begin and end: bursts whose ends are planted, and the spoken lines of the synthetic film."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import MissingDependencyError
from pipeline.media import probe_film
from pipeline.records import F32, Bool, Span
from pipeline.settings import LineSettings, VoiceDetector
from pipeline.sound import read_sound
from pipeline.voice import SAMPLE_RATE, STEP, choose_detector, detect_energy, refine_span, refine_spans

START = 20.0  # s on the film's clock of the first sample
WHOLE = Span(START, START + 6.5)
SAID = Span(START + 2.0, START + 4.0)
SMEAR = 0.025  # s; a level is measured over 30 ms and a decision stands for 10
LEVEL = 0.14  # RMS


def sounding(*spans: Span, kind: str = "noise", snr_db: float | None = None) -> NDArray[np.float32]:
    """Bursts over these spans, in silence or in noise."""
    rng = np.random.default_rng(1)
    time = WHOLE.start + np.arange(round(WHOLE.duration * SAMPLE_RATE)) / SAMPLE_RATE
    burst = {
        "tone": LEVEL * np.sqrt(2) * np.sin(2 * np.pi * 500 * time),
        "noise": LEVEL * rng.standard_normal(len(time)),
    }[kind]
    samples = burst * np.any([(time >= s.start) & (time < s.end) for s in spans], axis=0)
    if snr_db is not None:
        samples = samples + LEVEL * 10 ** (-snr_db / 20) * rng.standard_normal(len(time))
    return samples.astype(np.float32)


def off(before: float, after: float) -> Span:
    """A subtitle that is wrong by so many seconds at its start and its end."""
    return Span(SAID.start + before, SAID.end + after)


WRONG = [(0.0, 0.0), (-0.3, -0.3), (0.4, 0.4), (-0.3, 0.4), (0.4, -0.3)]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", ["tone", "noise"])
@pytest.mark.parametrize("snr_db", [None, 40.0, 20.0, 10.0])
def test_a_burst_is_held_whole_with_a_little_room(kind: str, snr_db: float | None, wrong: tuple[float, float]) -> None:
    found = refine_span(sounding(SAID, kind=kind, snr_db=snr_db), START, off(*wrong), detect_energy, limits=WHOLE)
    assert found.start == pytest.approx(SAID.start - 0.05, abs=SMEAR)
    assert found.end == pytest.approx(SAID.end + 0.1, abs=SMEAR)


def test_pauses_between_words_are_kept_and_a_click_is_not_speech() -> None:
    words = [Span(START + 2.0, START + 2.6), Span(START + 2.75, START + 3.2), Span(START + 3.6, START + 4.0)]
    click = Span(START + 1.5, START + 1.501)
    found = refine_span(sounding(*words, click, snr_db=20), START, off(0.1, -0.1), detect_energy, limits=WHOLE)
    assert found.start == pytest.approx(SAID.start - 0.05, abs=SMEAR)
    assert found.end == pytest.approx(SAID.end + 0.1, abs=SMEAR)


def test_a_short_last_word_outside_the_subtitle_is_fetched() -> None:
    words = [SAID, Span(SAID.end + 0.3, SAID.end + 0.5)]
    found = refine_span(sounding(*words, snr_db=30), START, off(0.0, 0.1), detect_energy, limits=WHOLE)
    assert found.end == pytest.approx(words[1].end + 0.1, abs=SMEAR)


def test_a_neighbour_line_is_never_entered() -> None:
    answer = Span(SAID.end + 0.15, SAID.end + 2.0)
    samples = sounding(SAID, answer, snr_db=30)
    found = refine_span(samples, START, off(0.1, 0.0), detect_energy, limits=Span(START + 1.98, answer.start))
    assert found.start == pytest.approx(START + 1.98, abs=0.01)
    assert found.start >= START + 1.98
    # the answer is joined to the line by the short pause, and goes on: the quiet point between the two is the end
    assert SAID.end - 0.02 <= found.end <= answer.start


def test_speech_that_goes_on_ends_where_the_subtitle_ends() -> None:
    endless = sounding(WHOLE, snr_db=30)
    assert refine_span(endless, START, SAID, all_speech, limits=WHOLE) == SAID
    pause = sounding(Span(START, SAID.end + 0.1), Span(SAID.end + 0.2, WHOLE.end), snr_db=30)
    found = refine_span(pause, START, SAID, all_speech, limits=WHOLE)
    assert found.start == SAID.start
    assert found.end == pytest.approx(SAID.end + 0.15, abs=0.05)


def all_speech(samples: F32) -> Bool:
    return np.ones(len(samples) // STEP, np.bool_)


@pytest.mark.parametrize("samples", [np.zeros(6 * SAMPLE_RATE, np.float32), np.zeros(0, np.float32), sounding(WHOLE)])
def test_where_nothing_stands_out_the_subtitle_stays(samples: NDArray[np.float32]) -> None:
    assert refine_span(samples, START, SAID, detect_energy, limits=WHOLE) == SAID


def test_a_span_without_room_stays() -> None:
    point = Span(START + 1, START + 1)
    assert refine_span(sounding(SAID), START, point, detect_energy, limits=point) == point


def test_a_detector_asked_for_by_name_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_detector(LineSettings(voice_detector=VoiceDetector.energy)) is detect_energy

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert choose_detector(LineSettings()) is detect_energy
    with pytest.raises(MissingDependencyError, match=r"pip install 'trailer-pipeline\[vad\]'"):
        choose_detector(LineSettings(voice_detector=VoiceDetector.silero))


def test_silero_hears_no_voice_in_noise_and_leaves_torch_as_it_was() -> None:
    import torch

    threads = torch.get_num_threads()
    detector = choose_detector(LineSettings(voice_detector=VoiceDetector.silero))
    assert torch.get_num_threads() == threads
    noise = sounding(SAID, snr_db=20)
    assert detector(noise).shape == (len(noise) // STEP,)
    assert not detector(noise).any()
    assert detector(noise[:0]).shape == (0,)


@pytest.mark.film
@pytest.mark.parametrize("name", ["energy", "silero"])
@pytest.mark.parametrize("shifted", [False, True], ids=["each end off", "both ends late or early"])
def test_whole_lines_are_heard_in_the_synthetic_film(films: Path, name: str, shifted: bool) -> None:
    """Subtitles up to 0.3 s off at each end. The times that are known hold 0.1 to 0.25 s of the voices' own silence."""
    film = probe_film(films / "synthetic_film.mp4")
    known = json.loads((films / "synthetic_film.json").read_text())["dialogue"]
    lines = [Span(line["start"], line["end"]) for line in known]
    wrong = np.random.default_rng(5).uniform(-0.3, 0.3, (len(lines), 2))
    if shifted:
        wrong[:, 1] = wrong[:, 0]
    subtitles = [Span(line.start + a, line.end + b) for line, (a, b) in zip(lines, wrong.tolist(), strict=True)]
    ends = [film.start, *(s.end for s in subtitles[:-1])]
    limits = [Span(a, b) for a, b in zip(ends, [*(s.start for s in subtitles[1:]), film.end], strict=True)]
    settings = LineSettings(voice_detector=VoiceDetector(name))
    found = refine_spans(film, subtitles, limits, settings, film.audio[0].index)
    sounds = read_sound(film.path, lines, sample_rate=SAMPLE_RATE, channels=1)
    for line, span, sound in zip(lines, found, sounds, strict=True):
        assert line.start - 0.3 <= span.start
        assert span.end <= line.end + 0.3
        # what is left out lies at the background, 15 dB and more under the loud parts: the end of no word is lost
        steps = sound[: len(sound) // STEP * STEP, 0].reshape(-1, STEP)
        levels = 10 * np.log10(np.mean(steps**2, axis=1) + 1e-10)
        times = line.start + (np.arange(len(levels)) + 0.5) * STEP / SAMPLE_RATE
        outside = levels[(times < span.start) | (times > span.end)]
        assert outside.max(initial=-100.0) < np.percentile(levels, 95) - 15
