"""Listen to a film that has no subtitles and write down what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.cues import Cue
from pipeline.errors import InputError, MissingDependencyError
from pipeline.languages import UNKNOWN, normalise_language
from pipeline.packets import Damage
from pipeline.records import F32, Film
from pipeline.sound import decode_sound

SAMPLE_RATE = 16000  # Hz; what Whisper was trained on
WINDOW_SECONDS = 600.0  # of sound held at once: 38 MB; Whisper itself looks at 30 s at a time
SEARCH_SECONDS = 30.0  # at a window's end in which the quietest moment is looked for, so that no word is cut
QUIET_SECONDS = 0.2  # of sound that are compared
SPOKEN_PAUSE = 0.8  # s between two words after which a new cue begins
SENTENCE_ENDS = (".", "!", "?", "。", "！", "？", "؟", "।")


class Word(Protocol):
    """A word as faster-whisper gives it: start and end in seconds of the sound it was given, a leading space in word."""

    start: float
    end: float
    word: str


class Segment(Protocol):
    """A stretch of speech as faster-whisper gives it."""

    start: float
    end: float
    text: str
    words: list[Any] | None


class Transcriber(Protocol):
    """faster_whisper.WhisperModel, as far as it is used."""

    def transcribe(
        self,
        audio: F32,
        *,
        language: str | None,
        vad_filter: bool,
        word_timestamps: bool,
        condition_on_previous_text: bool,
        temperature: float,
    ) -> tuple[Iterable[Any], Any]: ...


def recognise_speech(
    film: Film,
    model: str,
    language: str,
    *,
    device: str,
    weights_dir: Path,
    progress: Callable[[float], None] | None = None,
    transcriber: Transcriber | None = None,
    heard: str = "",
) -> tuple[Cue, ...]:
    """What is said in the film's chosen sound track, sentence by sentence, in seconds on the film's clock.

    model: a folder with a Whisper model in CTranslate2's format, or a name; see load_model. language: a code such as en or
    eng; empty: the one that is heard first. device: auto, cpu or cuda. progress is told the share done, 0..1.
    transcriber: an opened model instead. heard: which of the film's
    sound tracks, see choose_sound. Nothing where the film is silent. Raises MissingDependencyError without the extra
    `asr` or the model, InputError for a language that the model does not know.
    """
    if not film.audio:
        return ()
    transcriber = transcriber or load_model(model, device=device, weights_dir=weights_dir)
    code = normalise_language(language)
    spoken = None if code == UNKNOWN else code
    cues: list[Cue] = []
    for time, samples in cut_windows(film, language=heard):
        try:
            segments, info = transcriber.transcribe(
                samples,
                language=spoken,
                vad_filter=True,
                word_timestamps=True,
                temperature=0.0,  # its default falls back on sampling, which gives other words every time
                condition_on_previous_text=False,  # else one misheard passage is repeated for minutes
            )
        except ValueError as error:  # of a language code
            raise InputError(
                f"the speech model {model} cannot listen for the language {language!r}: {error}"
            ) from error
        end = time + len(samples) / SAMPLE_RATE
        spoke = False
        for segment in segments:  # listened to as it is asked for
            cues.extend(_make_cues(segment, time, end))
            spoke = True
            if progress is not None:
                progress(_share(film, time + segment.end))
        if spoke and spoken is None:
            spoken = info.language  # decided once: a film's language does not change by the window
        if progress is not None:
            progress(_share(film, end))
    return tuple(cues)


def _share(film: Film, time: float) -> float:
    return min(1.0, max(0.0, (time - film.start) / film.duration))


def _make_cues(segment: Segment, offset: float, latest: float) -> Iterator[Cue]:
    """A segment's sentences, from the start of the first word to the end of the last."""
    if not segment.words:
        if segment.text.strip():
            yield Cue(offset + segment.start, max(offset + segment.start, offset + segment.end), segment.text.strip())
        return
    words: list[Word] = []
    for word in segment.words:
        if words and (word.start - words[-1].end > SPOKEN_PAUSE or words[-1].word.rstrip().endswith(SENTENCE_ENDS)):
            yield from _close_cue(words, offset, latest)
            words = []
        words.append(word)
    yield from _close_cue(words, offset, latest)


def _close_cue(words: Sequence[Word], offset: float, latest: float) -> Iterator[Cue]:
    text = "".join(word.word for word in words).strip()
    start, end = offset + float(words[0].start), min(latest, offset + float(words[-1].end))
    if text:
        yield Cue(start, max(start, end), text)


def cut_windows(film: Film, *, seconds: float = WINDOW_SECONDS, language: str = "") -> Iterator[tuple[float, F32]]:
    """The film's sound in windows (n,) of at most so many seconds at 16 kHz, and when each begins on the film's clock.

    Windows are cut where it is quietest. Holes in the sound are silence in the window, or end it where they are longer.
    """
    buffer = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    origin, filled = 0.0, 0
    for sound in decode_sound(film, sample_rate=SAMPLE_RATE, damage=Damage(), language=language):
        samples = sound.samples
        if filled == 0:
            origin = sound.time
        at = round((sound.time - origin) * SAMPLE_RATE)
        if at < filled - SAMPLE_RATE or at > len(buffer):  # back in time, or a hole longer than what fits
            yield origin, buffer[:filled].copy()
            buffer[:] = 0.0
            origin, filled, at = sound.time, 0, 0
        at = max(at, filled)  # what overlaps by a little is joined on
        while len(samples):
            taken = min(len(samples), len(buffer) - at)
            buffer[at : at + taken] = samples[:taken]
            filled, samples = at + taken, samples[taken:]
            if filled == len(buffer):
                cut = _find_quiet(buffer)
                yield origin, buffer[:cut].copy()
                rest = filled - cut
                buffer[:rest] = buffer[cut:].copy()
                buffer[rest:] = 0.0
                origin, filled = origin + cut / SAMPLE_RATE, rest
            at = filled
    if filled:
        yield origin, buffer[:filled].copy()


def _find_quiet(samples: F32) -> int:
    """The middle of the quietest moment in the last part of a window, as a sample number."""
    step = round(QUIET_SECONDS * SAMPLE_RATE)
    searched = min(len(samples) // 2, round(SEARCH_SECONDS * SAMPLE_RATE)) // step * step
    tail = samples[len(samples) - searched :].reshape(-1, step)
    return len(samples) - searched + int(np.square(tail).mean(axis=1).argmin()) * step + step // 2


def find_model(model: str, weights_dir: Path) -> Path | None:
    """The folder of a Whisper model: the one named, or the one of that name under weights_dir/whisper; None: neither is."""
    for folder in (weights_dir / "whisper" / model, Path(model).expanduser()):
        if (folder / "model.bin").is_file():
            return folder
    return None


def _say_absent(model: str, weights_dir: Path) -> MissingDependencyError:
    place = weights_dir / "whisper" / model
    return MissingDependencyError(
        f"no speech model {model!r} on this machine, and none is fetched: put the folder of a Whisper model in CTranslate2's"
        f" format (model.bin, config.json, tokenizer.json) at {place}, or name its path"
    )


def check_model(model: str, weights_dir: Path) -> None:
    """Refuse a model that is not on this machine, without opening it. Raises MissingDependencyError."""
    if find_model(model, weights_dir) is not None:
        return
    from faster_whisper.utils import download_model

    try:
        download_model(model, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _say_absent(model, weights_dir) from error


def load_model(model: str, *, device: str, weights_dir: Path) -> Transcriber:
    """Open a Whisper model that lies on this machine; nothing is fetched.

    A folder with model.bin in it, given by its path or by its name under weights_dir/whisper, else a name such as `small`
    that faster-whisper finds in the Hugging Face cache. Raises MissingDependencyError without the extra `asr` or the model,
    InputError for a folder that is no model.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingDependencyError(
            "listening to a film needs faster-whisper: pip install 'trailer-pipeline[asr]'"
        ) from error
    folder = find_model(model, weights_dir)
    if folder is not None and not (folder / "tokenizer.json").is_file():  # faster-whisper would go and fetch one
        raise MissingDependencyError(f"the speech model {folder} lacks its tokenizer.json: copy the whole model there")
    try:
        opened: Transcriber = WhisperModel(
            str(folder or model), device=device, compute_type="auto", local_files_only=True
        )
    except (OSError, ValueError) as error:  # not in the cache; not a name that it knows
        raise _say_absent(model, weights_dir) from error
    except RuntimeError as error:  # CTranslate2's: a file that it cannot read, a device that is not there
        raise InputError(f"the speech model {folder or model} cannot be opened on {device}: {error}") from error
    return opened
