"""Read sound out of a film or a track, placed by the timestamps of its packets: holes and late starts stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError

from pipeline.errors import InputError
from pipeline.languages import same_language
from pipeline.media import open_media
from pipeline.packets import Damage, read_frames
from pipeline.records import F32, AudioStream, Film, Placement, Span

SOUND_LEAD = 0.5  # s decoded before a wanted sound, for codecs that need a run-up
GATHERED = 1.0  # s of sound that are mixed and resampled together
MOST_JITTER = 0.05  # s by which a sound's timestamps may stray before it counts as a hole
LOUDEST = 2.0  # of full scale; a loud film's peaks, and two channels' that are mixed to one, lie under it
LONGEST_GAP = 3600.0  # s of silence that a hole in the sound may stand for
FRONT_DB = -12.0  # of the front channels in a speech mix: what stands on the centre's sides, well under it
SPOKEN_OVER = ("commentary", "comment", "description", "descriptive")  # in a track's title
LEFT, RIGHT = ("FL", "FLC", "DL"), ("FR", "FRC", "DR")  # front channels, as ffmpeg names them


@dataclass(frozen=True, slots=True)
class Sound:
    """A block of mono samples (n,) whose first lies at time seconds."""

    time: float
    samples: F32


class Resampler:
    """An AudioResampler that bears a stream whose layout, rate or format changes in the middle (broadcasts do)."""

    def __init__(self, *, layout: str, rate: int) -> None:
        self._layout, self._rate = layout, rate
        self._key: tuple[str, str, int] | None = None
        self._inner: AudioResampler | None = None

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        """Interleaved float frames; None flushes."""
        done: list[AudioFrame] = []
        key = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._inner is not None and key != self._key:
            done = self._inner.resample(None)
            self._inner = None
        if frame is None:
            return done
        if self._inner is None:
            self._inner, self._key = AudioResampler(format="flt", layout=self._layout, rate=self._rate), key
        return [*done, *self._inner.resample(frame)]


class Mono:
    """Gathers sound frames for a second before they are mixed and resampled: forty times fewer calls.

    Holes stay holes, and a frame without a time is left out.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = Resampler(layout="mono", rate=rate)
        self._fifo = AudioFifo()
        self._key: tuple[str, str, int] | None = None
        self._start = 0.0  # time of the first sample gathered, s
        self._next = 0.0  # and of the one that should follow the last

    def add(self, frame: AudioFrame) -> Iterator[Sound]:
        if frame.time is None or not frame.samples:
            return
        time, seconds = frame.time, frame.samples / frame.sample_rate
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key != self._key or abs(time - self._next) > MOST_JITTER or time - self._start > GATHERED:
            yield from self.flush()
            self._key, self._start, self._next = key, time, time
        frame.pts = None  # the resampler would fill holes
        self._fifo.write(frame)
        self._next += seconds

    def flush(self) -> Iterator[Sound]:
        gathered = self._fifo.read() if self._fifo.samples else None
        if gathered is None:
            return
        start = self._start
        gathered.pts = None
        for block in self._resampler.resample(gathered):
            yield Sound(start, block.to_ndarray()[0])
            start += block.samples / block.sample_rate
        self._fifo = AudioFifo()


def decode_sound(film: Film, *, sample_rate: int, damage: Damage, language: str = "") -> Iterator[Sound]:
    """The mono sound of the chosen track alone, the same as decode_film gives it; no picture is decoded."""
    with open_media(film.path) as container:
        audio = pick_sound(container, film, language)
        if audio is None:
            return
        mono = Mono(sample_rate)
        for frame in read_frames(container, [audio], damage):
            if isinstance(frame, AudioFrame):
                yield from mono.add(frame)
        yield from mono.flush()


def pick_sound(container: InputContainer, film: Film, language: str = "") -> AvAudioStream | None:
    """The sound track that a viewer hears: see choose_sound."""
    chosen = choose_sound(film.audio, language)
    if chosen is None:
        return None
    return next(stream for stream in container.streams.audio if stream.index == chosen.index)


def choose_sound(tracks: Sequence[AudioStream], language: str = "") -> AudioStream | None:
    """The track that a viewer hears: the first in this language, where there is one, else the first.

    No commentary and no description for the blind while there is anything else, in whichever language. language: a code
    such as en, eng or en-US; empty: any.
    """
    sounding = [track for track in tracks if track.sample_rate]
    return min(
        sounding,
        key=lambda track: (
            any(word in track.title.lower() for word in SPOKEN_OVER),
            not same_language(track.language, language),
        ),
        default=None,
    )


def read_sound(
    path: Path,
    spans: Sequence[Span],
    *,
    sample_rate: int,
    channels: int,
    stream_index: int | None = None,
    speech: bool = False,
) -> Iterator[F32]:
    """The sound of each span as samples (n, channels), n = round(duration * sample_rate); silence where there is none.

    Spans are on the file's clock. stream_index: which sound track; none: the file's first. More channels than asked for
    are mixed down as the channel layout says; with speech, so that the centre, where films put what is said, stays clear.
    Raises InputError for a file or a track that is not there.
    """
    with open_media(path, "sound file") as container:
        streams = container.streams.audio
        stream = next((s for s in streams if stream_index in (None, s.index)), None)
        if stream is None:
            which = "" if stream_index is None else f" {stream_index}"
            raise InputError(f"{path} has no sound track{which}")
        for span in spans:
            yield _sound_of_span(container, stream, span, sample_rate, channels, speech)


def read_lines(
    placements: Sequence[Placement], film: Film, language: str, *, sample_rate: int, channels: int
) -> Iterator[F32]:
    """The sound of each placed line (n, channels), as the mix hears it: from the film's track, or from its voice file.

    language: which of the film's tracks; see choose_sound. Raises InputError for a voice file that is absent or holds no
    sound, and for a film without sound that is to say something.
    """
    chosen = choose_sound(film.audio, language)
    for placement in placements:
        if placement.voice is None and chosen is None:
            raise InputError(f"the film {film.path} has no sound to take the line {placement.text!r} from")
        yield from read_sound(
            film.path if placement.voice is None else placement.voice,
            [placement.span],
            sample_rate=sample_rate,
            channels=channels,
            stream_index=chosen.index if placement.voice is None and chosen is not None else None,
            speech=True,
        )


def _sound_of_span(
    container: InputContainer, stream: AvAudioStream, span: Span, sample_rate: int, channels: int, speech: bool
) -> F32:
    samples = np.zeros((round(span.duration * sample_rate), channels), np.float32)
    assert stream.time_base is not None
    try:
        container.seek(int(max(0.0, span.start - SOUND_LEAD) / stream.time_base), stream=stream, backward=True)
    except FFmpegError:  # a container that cannot seek there: from its beginning, which is slow and right
        container.seek(0)
    resampler = Resampler(layout="mono" if channels == 1 else "stereo", rate=sample_rate)
    clock: float | None = None  # time of the next sample out of the resampler
    for frame in read_frames(container, [stream], Damage()):
        if not isinstance(frame, AudioFrame) or frame.time is None:
            continue
        if clock is None or abs(frame.time - clock) > 0.05:  # at the start, and after a hole
            clock = frame.time
        heard = mix_speech(frame) if speech else frame
        heard.pts = None
        for block in resampler.resample(heard):
            _place(samples, _interleaved(block, channels), clock - span.start, sample_rate)
            clock += block.samples / sample_rate
        if clock > span.end + 0.1:
            break
    # floating-point sound may hold anything, and damaged AAC comes out at hundreds of times full scale
    held: F32 = np.clip(np.nan_to_num(samples, copy=False, posinf=0.0, neginf=0.0), -LOUDEST, LOUDEST)
    return held


def mix_speech(frame: AudioFrame) -> AudioFrame:
    """A frame with a centre channel mixed to stereo: the centre on both sides, the front FRONT_DB under it, the rest out.

    Films put what is said into the centre; the standard down-mix lays music and effects over it at 3 dB more. Channels go
    by the names in the layout; six or eight without names count as 5.1 and 7.1. A frame without a centre, and mono, pass
    as they are.
    """
    names = _name_channels(frame)
    if len(names) < 2 or "FC" not in names:
        return frame
    front = 10 ** (FRONT_DB / 20)
    gains = np.zeros((2, len(names)), np.float32)
    for channel, name in enumerate(names):
        if name == "FC":
            gains[:, channel] = 1.0
        elif name in LEFT + RIGHT:
            gains[int(name in RIGHT), channel] = front
    mixed = AudioFrame.from_ndarray(np.ascontiguousarray(gains @ _planes(frame)), format="fltp", layout="stereo")
    mixed.sample_rate = frame.sample_rate
    return mixed


def _name_channels(frame: AudioFrame) -> list[str]:
    names = [channel.name for channel in frame.layout.channels]
    count = frame.layout.nb_channels
    if count in (6, 8) and not {"FC", "FL", "FR", "BC"} & set(names):  # a broadcast or a WAV that does not say
        return [channel.name for channel in AudioLayout("5.1" if count == 6 else "7.1").channels]
    return names


def _planes(frame: AudioFrame) -> F32:
    """A frame's samples (channels, n), full scale = 1, from whichever format."""
    data = frame.to_ndarray()
    if frame.format.is_packed:
        data = data.reshape(-1, frame.layout.nb_channels).T
    samples: F32 = data.astype(np.float32)
    if data.dtype == np.uint8:
        samples = (samples - np.float32(128)) / np.float32(128)
    elif data.dtype in (np.int16, np.int32):
        samples /= np.float32(2.0 ** (8 * data.dtype.itemsize - 1))
    return samples


def _interleaved(block: AudioFrame, channels: int) -> F32:
    return cast(F32, block.to_ndarray()).reshape(-1, channels)


def _place(samples: F32, block: F32, at: float, sample_rate: int) -> None:
    start = round(at * sample_rate)
    low, high = max(0, start), min(len(samples), start + len(block))
    if high > low:
        samples[low:high] = block[low - start : high - start]


def find_sounding(path: Path, *, longest: float) -> Span:
    """From when to when a sound file sounds, on its own clock, found by decoding it: containers round, and some guess.

    Raises InputError where nothing decodes, or it lasts more than `longest` seconds.
    """
    with open_media(path, "sound file") as container:
        if not container.streams.audio:
            raise InputError(f"{path} holds no sound")
        start = end = None
        for frame in read_frames(container, [container.streams.audio[0]], Damage()):
            if isinstance(frame, AudioFrame) and frame.time is not None and frame.samples:
                start = frame.time if start is None else start
                end = max(end or start, frame.time + frame.samples / frame.sample_rate)
                if end - start > longest:
                    raise InputError(f"{path} lasts more than {longest:g} s")
    if start is None or end is None or end <= start:
        raise InputError(f"{path} cannot be decoded: no sound comes out of it")
    return Span(start, end)


def read_track(path: Path, *, sample_rate: int, channels: int = 1, longest: float = LONGEST_GAP) -> F32:
    """A music file's sound from its first sample on, (n, channels), at most `longest` seconds of it.

    Raises InputError when nothing in it decodes.
    """
    with open_media(path, "track") as container:
        if not container.streams.audio:
            raise InputError(f"the track {path} holds no sound")
        stream = container.streams.audio[0]
        resampler = Resampler(layout="mono" if channels == 1 else "stereo", rate=sample_rate)
        blocks: list[F32] = []
        total = 0
        for frame in read_frames(container, [stream], Damage()):
            if isinstance(frame, AudioFrame):
                frame.pts = None
                for block in resampler.resample(frame):
                    blocks.append(_interleaved(block, channels))
                    total += len(blocks[-1])
            if total >= longest * sample_rate:
                break
        blocks.extend(_interleaved(block, channels) for block in resampler.resample(None))
    if not total:
        raise InputError(f"the track {path} cannot be decoded: no sound comes out of it")
    return np.concatenate(blocks)[: int(longest * sample_rate)]
