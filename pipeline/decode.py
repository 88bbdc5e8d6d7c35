"""Read pictures and sound out of a film, each with the time that its container gives it.

Everything here speaks the film's own clock: a picture's time is its presentation timestamp (packets.place_pictures, where it
has none that is good), sound is placed by the timestamps of its packets, so that holes and late starts stay where they are.
Damaged packets are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from pipeline.errors import InputError
from pipeline.media import open_media
from pipeline.packets import Damage, place_pictures, read_frames
from pipeline.records import U8, Film
from pipeline.sound import Mono, Sound, pick_sound

SEEK_BACK = (0.0, 2.0, 10.0, 60.0)  # s further back at each try, for containers whose seeks land late


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a finished trailer: BGR (h, w, 3) at time seconds."""

    time: float
    bgr: U8


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
        mono = Mono(sample_rate or 0)
        span = (-np.inf if start is None else start.time, np.inf if end is None else end)
        frames = read_frames(container, [video] if audio is None else [video, audio], damage, span)
        begins, step = start is None, 1 / film.frame_rate
        for frame in place_pictures(frames, damage, step=step, start=None if begins else span[0], begins=begins):
            if isinstance(frame, AudioFrame):
                yield from mono.add(frame)
            elif isinstance(frame, VideoFrame):
                yield frame  # also the first one past the end: whoever reads may want to see where it stopped
                if _time(frame) >= span[1]:
                    break
        yield from mono.flush()


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A key frame that a reader can begin at: its time, and the time to seek so as to come to it, s on the film's clock."""

    time: float
    seek: float


def find_key_frames(film: Film, wanted: Iterable[float]) -> list[KeyFrame]:
    """The key frames at or before the wanted times, the film's first left out; increasing, each once.

    Most containers seek by the time at which a picture is shown, transport streams by when it is decoded: both are tried,
    and what lands on the key frame, or the least before it, is kept. Where the file cannot be sought there are no more.
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
            landings = [(again[0], seek) for seek in (shown, decoded) if (again := _land(container, video, seek))]
            before = [landing for landing in landings if landing[0] <= shown]
            if before:
                found.append(KeyFrame(shown, max(before, key=lambda landing: landing[0])[1]))
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


def _video_position(container: InputContainer, film: Film) -> int:
    for position, stream in enumerate(container.streams.video):
        if stream.index == film.video_index:
            return position
    raise InputError(f"{film.path} is not the file that was probed: it has no stream {film.video_index}")


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
        pictures = _increasing(container, video, film)
        head = next(pictures, None)
        if head is None:  # nothing there has a time: a stream without timestamps
            break
        if _time(head) <= start:
            yield head
            yield from pictures
            return
    # no seek landed early enough: from the beginning, which is slow and always right
    with open_media(film.path) as again:
        stream = again.streams.video[_video_position(again, film)]
        stream.thread_type = "AUTO"
        yield from _increasing(again, stream, film, begins=True)


def _increasing(
    container: InputContainer, video: VideoStream, film: Film, *, begins: bool = False
) -> Iterator[VideoFrame]:
    damage = Damage()
    frames = read_frames(container, [video], damage)
    for frame in place_pictures(frames, damage, step=1 / film.frame_rate, begins=begins):
        if isinstance(frame, VideoFrame):
            yield frame


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
            for frame in read_frames(again, [stream], damage):
                if isinstance(frame, VideoFrame) and frame.time is not None:
                    small = reformatter.reformat(frame, *size, "bgr24", interpolation=Interpolation.AREA)
                    yield Picture(frame.time, cast(U8, small.to_ndarray()))

    return streams, pictures()
