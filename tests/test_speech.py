"""Listening to a film: what a transcriber hears comes out on the film's clock."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError, MissingDependencyError
from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.records import F32, Film
from pipeline.speech import SAMPLE_RATE, cut_windows, load_model, recognise_speech

BEEPS = ((1.0, 1.4), (2.0, 2.5), (5.0, 5.3), (7.6, 8.2))  # s on the sound's own clock, each of them "said" as a word
TOLERANCE = 0.05  # s: two of the fake's steps, and what AAC smears


def make_film(folder: Path, *, offset: float = 0.0, sound: bool = True) -> Film:
    """Ten seconds of test picture, silent but for the beeps; its clock begins at offset s."""
    beeps = "+".join(f"between(t,{start},{end})" for start, end in BEEPS)
    path = folder / "film.mkv"
    run_ffmpeg(
        find_ffmpeg(),
        [
            "-f", "lavfi", "-i", "testsrc=size=64x36:rate=24:duration=10",
            *(("-f", "lavfi", "-i", f"aevalsrc='0.5*sin(2*PI*440*t)*({beeps})':s=48000:d=10") if sound else ()),
            "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-output_ts_offset", str(offset), "-y", str(path),
        ],
        timeout=60,
    )  # fmt: skip
    return probe_film(path)


@dataclass(frozen=True)
class FakeWord:
    start: float
    end: float
    word: str


@dataclass(frozen=True)
class FakeSegment:
    start: float
    end: float
    text: str
    words: list[FakeWord] | None


@dataclass(frozen=True)
class FakeInfo:
    language: str


class Listener:
    """Hears a word in every beep: its start and end as heard, the words of one call in one segment."""

    def __init__(self, words: Iterable[str] = (" One", " two.", " Three", " four."), *, timed: bool = True) -> None:
        self.words = iter(words)
        self.timed = timed
        self.languages: list[str | None] = []

    def transcribe(
        self,
        audio: F32,
        *,
        language: str | None,
        vad_filter: bool,
        word_timestamps: bool,
        condition_on_previous_text: bool,
        temperature: float,
    ) -> tuple[Iterable[FakeSegment], FakeInfo]:
        assert audio.dtype == np.float32
        assert audio.ndim == 1
        assert vad_filter
        assert word_timestamps
        self.languages.append(language)
        step = SAMPLE_RATE // 50
        loud = np.abs(audio[: len(audio) // step * step]).reshape(-1, step).max(axis=1) > 0.1
        edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(int)))
        heard = [
            FakeWord(float(a) / 50, float(b) / 50, next(self.words))
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ]
        if not heard:
            return [], FakeInfo("en")
        text = "".join(word.word for word in heard)
        return [FakeSegment(heard[0].start, heard[-1].end, text, heard if self.timed else None)], FakeInfo("en")


def listen(film: Film, transcriber: Listener, language: str = "") -> list[tuple[float, float, str]]:
    cues = recognise_speech(film, "fake", language, device="cpu", weights_dir=Path(), transcriber=transcriber)
    return [(cue.start, cue.end, cue.text) for cue in cues]


def near(*cues: tuple[float, float, str]) -> list[tuple[object, object, str]]:
    return [(pytest.approx(a, abs=TOLERANCE), pytest.approx(b, abs=TOLERANCE), text) for a, b, text in cues]


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_sentences_last_from_their_first_word_to_their_last_on_the_films_clock(tmp_path: Path, offset: float) -> None:
    film = make_film(tmp_path, offset=offset)
    listener = Listener((" One", " two.", " Three.", " Four."))
    assert listen(film, listener) == near(
        (offset + 1.0, offset + 2.5, "One two."),
        (offset + 5.0, offset + 5.3, "Three."),
        (offset + 7.6, offset + 8.2, "Four."),
    )


def test_a_pause_ends_a_cue(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    assert [text for _, _, text in listen(film, Listener())] == ["One two.", "Three", "four."]


def test_a_segment_without_words_is_a_cue(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    assert listen(film, Listener(timed=False)) == near((1.0, 8.2, "One two. Three four."))


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    told: list[float] = []
    recognise_speech(film, "fake", "", device="cpu", weights_dir=tmp_path, transcriber=Listener(), progress=told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("language", "asked"), [("", None), ("eng", "en"), ("de-AT", "de"), ("und", None)])
def test_the_language_is_given_as_whisper_calls_it(tmp_path: Path, language: str, asked: str | None) -> None:
    listener = Listener()
    listen(make_film(tmp_path), listener, language)
    assert listener.languages == [asked]


def test_a_film_without_sound_says_nothing(tmp_path: Path) -> None:
    listener = Listener()
    assert listen(make_film(tmp_path, sound=False), listener) == []
    assert listener.languages == []


def test_a_language_that_the_model_does_not_know_is_an_error(tmp_path: Path) -> None:
    class Deaf(Listener):
        def transcribe(self, audio: F32, **how: object) -> tuple[Iterable[FakeSegment], FakeInfo]:
            raise ValueError("'xx' is not a valid language code")

    with pytest.raises(InputError, match="cannot listen for the language 'xx'"):
        listen(make_film(tmp_path), Deaf(), "xx")


def test_windows_hold_all_of_the_sound_and_cut_no_word(tmp_path: Path) -> None:
    film = make_film(tmp_path, offset=50.0)
    ((whole_start, whole),) = cut_windows(film)
    windows = list(cut_windows(film, seconds=3.0))
    assert len(windows) >= 4
    assert max(len(samples) for _, samples in windows) <= 3 * SAMPLE_RATE
    np.testing.assert_array_equal(np.concatenate([samples for _, samples in windows]), whole)
    for (start, samples), (following, _) in pairwise(windows):
        assert start + len(samples) / SAMPLE_RATE == pytest.approx(following)
        assert not any(a < following - whole_start < b for a, b in BEEPS)
    assert whole_start == pytest.approx(50.0, abs=0.05)


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trailer-pipeline\[asr\]'"):
        load_model("small", device="cpu", weights_dir=tmp_path)


needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper (extra asr) is not installed"
)


@needs_whisper
def test_faster_whisper_takes_and_gives_what_is_relied_on() -> None:
    from faster_whisper import WhisperModel
    from faster_whisper.transcribe import Segment, TranscriptionInfo, Word

    asked = set(inspect.signature(Listener.transcribe).parameters)
    assert asked <= set(inspect.signature(WhisperModel.transcribe).parameters)
    opened = {"model_size_or_path", "device", "compute_type", "local_files_only"}
    assert opened <= set(inspect.signature(WhisperModel.__init__).parameters)
    for fake, real in ((FakeWord, Word), (FakeSegment, Segment), (FakeInfo, TranscriptionInfo)):
        assert set(fake.__annotations__) <= set(real.__annotations__)


@needs_whisper
@pytest.mark.parametrize("model", ["small", "no-such-model", "/no/such/folder"])
def test_a_model_that_is_not_there_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingDependencyError, match="none is fetched") as error:
        load_model(model, device="cpu", weights_dir=tmp_path)
    assert str(tmp_path / "whisper" / model) in str(error.value)


@needs_whisper
def test_a_broken_model_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "whisper" / "mine"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"no model")
    with pytest.raises(MissingDependencyError, match=r"lacks its tokenizer\.json"):
        load_model("mine", device="cpu", weights_dir=tmp_path)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    for name in ("mine", str(folder)):
        with pytest.raises(InputError, match="cannot be opened on cpu"):
            load_model(name, device="cpu", weights_dir=tmp_path)
