"""Read pictures and sound out of a film, each with the time that its container gives it.

Everything here speaks the film's own clock: a picture's time is its presentation timestamp, sound is placed by the
timestamps of its packets, so that holes and late starts stay where they are. Damaged packets are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from pipeline.errors import InputError
from pipeline.media import open_media
from pipeline.records import F32, U8, AudioStream, Film, Span

SOUND_LEAD = 0.5  # s decoded before a wanted sound, for codecs that need a run-up
SEEK_BACK = (0.0, 2.0, 10.0, 60.0)  # s further back at each try, for containers whose seeks land late
GATHERED = 1.0  # s of sound that are mixed and resampled together
MOST_JITTER = 0.05  # s by which a sound's timestamps may stray before it counts as a hole
LONGEST_GAP = 3600.0  # s of silence that a hole in the sound may stand for


class _Resampler:
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


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a finished trailer: BGR (h, w, 3) at time seconds."""

    time: float
    bgr: U8


@dataclass(frozen=True, slots=True)
class Sound:
    """A block of mono samples (n,) whose first lies at time seconds."""

    time: float
    samples: F32


@dataclass(slots=True)
class Damage:
    """What a pass met and left out: packets that do not decode, pictures with no time or a time already past."""

    packets: int = 0
    pictures: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: Damage) -> None:
        """Count another pass's damage to this one's; the same note once."""
        self.packets += other.packets
        self.pictures += other.pictures
        self.notes.extend(note for note in other.notes if note not in self.notes)


def decode_film(
    film: Film,
    *,
    damage: Damage,
    sample_rate: int | None = None,
    start: KeyFrame | None = None,
    end: float | None = None,
) -> Iterator[VideoFrame | Sound]:
    """The film's pictures from a key frame on (none: the first) to the first at or after `end` s, in increasing time.

    With a sample_rate the mono sound of the chosen track comes too, from the same pass. The loop filter is off: it costs a
    third of the decode and moves no cut. One decoder thread: it costs the least in total, and damaged pictures come out
    the same every time. What is damaged outside [start, end) is not counted. Raises InputError where nothing can be sought.
    """
    with open_media(film.path) as container:
        video = container.streams.video[_video_position(container, film)]
        audio = pick_sound(container, film) if sample_rate else None
        video.codec_context.thread_count = 1
        video.codec_context.options = {"skip_loop_filter": "all"}
        if start is not None:
            try:
                _seek(container, video, start.seek)
            except FFmpegError as error:
                raise InputError(f"{film.path} cannot be read from {start.time:.3f} s on: {error.strerror}") from error
        mono = _Mono(sample_rate or 0)
        last = -np.inf if start is None else np.nextafter(start.time, -np.inf)
        span = (-np.inf if start is None else start.time, np.inf if end is None else end)
        for frame in _frames(container, [video] if audio is None else [video, audio], damage, span):
            if isinstance(frame, AudioFrame):
                yield from mono.add(frame)
            elif isinstance(frame, VideoFrame):
                if frame.time is None or frame.time <= last:
                    damage.pictures += frame.time is None or frame.time >= span[0]
                    continue
                last = frame.time
                yield frame  # also the first one past the end: whoever reads may want to see where it stopped
                if frame.time >= span[1]:
                    break
        yield from mono.flush()


def decode_sound(film: Film, *, sample_rate: int, damage: Damage) -> Iterator[Sound]:
    """The mono sound of the chosen track alone, the same as decode_film gives it; no picture is decoded."""
    with open_media(film.path) as container:
        audio = pick_sound(container, film)
        if audio is None:
            return
        mono = _Mono(sample_rate)
        for frame in _frames(container, [audio], damage):
            if isinstance(frame, AudioFrame):
                yield from mono.add(frame)
        yield from mono.flush()


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A key frame that a reader can begin at: its time, and the time to seek so as to land on it, s on the film's clock."""

    time: float
    seek: float


def find_key_frames(film: Film, wanted: Iterable[float]) -> list[KeyFrame]:
    """The key frames at or before the wanted times, the film's first left out; increasing, each once.

    Most containers seek by the time at which a picture is shown, transport streams by when it is decoded: both are tried.
    Where neither leads back to the same key frame there is none; where the file cannot be sought at all, there are no more.
    """
    found: list[KeyFrame] = []
    with open_media(film.path) as container:
        video = container.streams.video[_video_position(container, film)]
        for time in wanted:
            landed = _land(container, video, time)
            if landed is None:
                break
            shown, decoded = landed
            if shown <= film.start or (found and shown <= found[-1].time):
                continue
            for seek in (shown, decoded):
                again = _land(container, video, seek)
                if again is not None and again[0] == shown:
                    found.append(KeyFrame(shown, seek))
                    break
    return found


def _land(container: InputContainer, video: VideoStream, time: float) -> tuple[float, float] | None:
    """When the first key frame that is read after a seek is shown and decoded; None where there is none."""
    try:
        _seek(container, video, time)
        packet = next((p for p in container.demux(video) if p.is_keyframe and p.pts is not None), None)
    except FFmpegError:
        return None
    if packet is None or packet.pts is None or packet.time_base is None:
        return None
    shown = float(packet.pts * packet.time_base)
    return shown, shown if packet.dts is None else float(packet.dts * packet.time_base)


def _seek(container: InputContainer, video: VideoStream, time: float) -> None:
    assert video.time_base is not None
    container.seek(int(np.floor(time / video.time_base + 1e-3)), stream=video, backward=True)


def _frames(
    container: InputContainer,
    streams: Sequence[VideoStream | AvAudioStream],
    damage: Damage,
    span: tuple[float, float] = (-np.inf, np.inf),
) -> Iterator[object]:
    """Decoded frames in the order of the file; damaged packets are counted where their time lies within the span."""
    packets = container.demux(*streams)
    while True:
        try:
            packet: Packet[Any] | None = next(packets, None)
        except FFmpegError as error:  # the container ends in a broken place: what came before is good
            damage.notes.append(f"the file ends early: {error.strerror}")
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except FFmpegError:
            time = None if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)
            damage.packets += time is None or span[0] <= time < span[1]


class _Mono:
    """Gathers sound frames for a second before they are mixed and resampled: forty times fewer calls.

    Holes stay holes, and a frame without a time is left out.
    """

    def __init__(self, rate: int) -> None:
        self._resampler = _Resampler(layout="mono", rate=rate)
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


def _video_position(container: InputContainer, film: Film) -> int:
    for position, stream in enumerate(container.streams.video):
        if stream.index == film.video_index:
            return position
    raise InputError(f"{film.path} is not the file that was probed: it has no stream {film.video_index}")


def pick_sound(container: InputContainer, film: Film) -> AvAudioStream | None:
    """The sound track that a viewer hears: see choose_sound."""
    chosen = choose_sound(film.audio)
    if chosen is None:
        return None
    return next(stream for stream in container.streams.audio if stream.index == chosen.index)


def choose_sound(tracks: Sequence[AudioStream]) -> AudioStream | None:
    """The first track that is no commentary and no description for the blind; the first of all if every one is."""
    spoken_over = ("commentary", "comment", "description", "descriptive")
    for track in tracks:
        if track.sample_rate and not any(word in track.title.lower() for word in spoken_over):
            return track
    return next((track for track in tracks if track.sample_rate), None)


def _fit(width: int, height: int, most: int) -> tuple[int, int]:
    scale = min(1.0, most / max(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def read_pictures(film: Film, times: Iterable[float]) -> Iterator[VideoFrame]:
    """The film's picture on screen at each of the times (seconds on the film's clock, not decreasing).

    A picture is on screen from its timestamp until the next one's. Seeks to the key frame before the first time, then
    decodes forward. Before the film's first picture and after its last the nearest one stands. Raises InputError when
    nothing can be decoded there.
    """
    wanted = iter(times)
    first = next(wanted, None)
    if first is None:
        return
    with open_media(film.path) as container:
        video = container.streams.video[_video_position(container, film)]
        video.thread_type = "AUTO"
        current: VideoFrame | None = None
        due: float | None = first
        for frame in _pictures_from(container, video, film, first):
            while due is not None and current is not None and due < _time(frame):
                yield current
                due = next(wanted, None)
            if due is None:
                return
            current = frame
        if current is None:
            raise InputError(f"the film {film.path} cannot be decoded at {first:.3f} s")
        while due is not None:
            yield current
            due = next(wanted, None)


def _time(frame: VideoFrame) -> float:
    assert frame.time is not None
    return frame.time


def _pictures_from(container: InputContainer, video: VideoStream, film: Film, start: float) -> Iterator[VideoFrame]:
    """Pictures in order, the first of them at or before start (or the film's first)."""
    assert video.time_base is not None
    for back in SEEK_BACK:
        target = start - back
        if target <= film.start:
            break
        try:
            container.seek(int(target / video.time_base), stream=video, backward=True)
        except FFmpegError:
            break
        pictures = _increasing(container, video)
        head = next(pictures, None)
        if head is not None and _time(head) <= start:
            yield head
            yield from pictures
            return
    # no seek landed early enough: from the beginning, which is slow and always right
    with open_media(film.path) as again:
        stream = again.streams.video[_video_position(again, film)]
        stream.thread_type = "AUTO"
        yield from _increasing(again, stream)


def _increasing(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    last = -np.inf
    for frame in _frames(container, [video], Damage()):
        if isinstance(frame, VideoFrame) and frame.time is not None and frame.time > last:
            last = frame.time
            yield frame


def read_sound(
    path: Path, spans: Sequence[Span], *, sample_rate: int, channels: int, stream_index: int | None = None
) -> Iterator[F32]:
    """The sound of each span as samples (n, channels), n = round(duration * sample_rate); silence where there is none.

    Spans are on the file's clock. stream_index: which sound track; none: the file's first. More channels than asked for
    are mixed down as the channel layout says.
    """
    with open_media(path, "sound file") as container:
        streams = container.streams.audio
        stream = next((s for s in streams if stream_index in (None, s.index)), None)
        if stream is None:
            raise InputError(f"{path} has no sound track {stream_index}")
        for span in spans:
            yield _sound_of_span(container, stream, span, sample_rate, channels)


def _sound_of_span(
    container: InputContainer, stream: AvAudioStream, span: Span, sample_rate: int, channels: int
) -> F32:
    samples = np.zeros((round(span.duration * sample_rate), channels), np.float32)
    assert stream.time_base is not None
    try:
        container.seek(int(max(0.0, span.start - SOUND_LEAD) / stream.time_base), stream=stream, backward=True)
    except FFmpegError:  # a container that cannot seek there: from its beginning, which is slow and right
        container.seek(0)
    resampler = _Resampler(layout="mono" if channels == 1 else "stereo", rate=sample_rate)
    clock: float | None = None  # time of the next sample out of the resampler
    for frame in _frames(container, [stream], Damage()):
        if not isinstance(frame, AudioFrame) or frame.time is None:
            continue
        if clock is None or abs(frame.time - clock) > 0.05:  # at the start, and after a hole
            clock = frame.time
        frame.pts = None
        for block in resampler.resample(frame):
            _place(samples, _interleaved(block, channels), clock - span.start, sample_rate)
            clock += block.samples / sample_rate
        if clock > span.end + 0.1:
            break
    return samples


def _interleaved(block: AudioFrame, channels: int) -> F32:
    return cast(F32, block.to_ndarray()).reshape(-1, channels)


def _place(samples: F32, block: F32, at: float, sample_rate: int) -> None:
    start = round(at * sample_rate)
    low, high = max(0, start), min(len(samples), start + len(block))
    if high > low:
        samples[low:high] = block[low - start : high - start]


def read_track(path: Path, *, sample_rate: int, channels: int = 1, longest: float = LONGEST_GAP) -> F32:
    """A music file's sound from its first sample on, (n, channels), at most `longest` seconds of it.

    Raises InputError when nothing in it decodes.
    """
    with open_media(path, "track") as container:
        if not container.streams.audio:
            raise InputError(f"the track {path} holds no sound")
        stream = container.streams.audio[0]
        resampler = _Resampler(layout="mono" if channels == 1 else "stereo", rate=sample_rate)
        blocks: list[F32] = []
        total = 0
        for frame in _frames(container, [stream], Damage()):
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


@dataclass(frozen=True, slots=True)
class TrailerStreams:
    """What a finished file holds. seconds: the container's; audio_seconds: the sound stream's; "" or 0 where absent."""

    video_codec: str
    audio_codec: str
    pixel_format: str
    width: int
    height: int
    frame_rate: Fraction
    seconds: float
    audio_seconds: float
    damage: Damage


def watch_trailer(path: Path, width: int) -> tuple[TrailerStreams, Iterator[Picture]]:
    """A finished file's streams, and its pictures, width wide at most, with the loop filter on: what a viewer sees.

    Raises InputError when it cannot be opened or has no picture.
    """
    damage = Damage()
    with open_media(path, "trailer") as container:
        video = next(iter(container.streams.video), None)
        if video is None:
            raise InputError(f"the trailer {path} has no picture")
        audio = next(iter(container.streams.audio), None)
        sound = float(audio.duration * audio.time_base) if audio and audio.duration and audio.time_base else 0.0
        context = video.codec_context
        streams = TrailerStreams(
            video_codec=context.name,
            audio_codec=audio.codec_context.name if audio else "",
            pixel_format=context.pix_fmt or "",
            width=context.width,
            height=context.height,
            frame_rate=Fraction(video.average_rate or 25),
            seconds=(container.duration or 0) / av.time_base,
            audio_seconds=sound,
            damage=damage,
        )

    def pictures() -> Iterator[Picture]:
        with open_media(path, "trailer") as again:
            stream = again.streams.video[0]
            stream.thread_type = "AUTO"
            size = _fit(streams.width, streams.height, width)
            reformatter = VideoReformatter()
            for frame in _frames(again, [stream], damage):
                if isinstance(frame, VideoFrame) and frame.time is not None:
                    small = reformatter.reformat(frame, *size, "bgr24", interpolation=Interpolation.AREA)
                    yield Picture(frame.time, cast(U8, small.to_ndarray()))

    return streams, pictures()
