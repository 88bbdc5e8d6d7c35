"""Read pictures and sound out of a film, each with the time that its container gives it.

Everything here speaks the film's own clock: a picture's time is its presentation timestamp (packets.place_pictures, where it
has none that is good), sound is placed by the timestamps of its packets, so that holes and late starts stay where they are.
Damaged packets are left out and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from pipeline.errors import InputError
from pipeline.media import open_media, pick_video
from pipeline.packets import Damage, place_pictures, read_frames
from pipeline.records import U8, Film
from pipeline.sound import Mono, Sound, pick_sound

# On the way from a key frame to the picture that is wanted, those are left out that no other picture refers to. H.264 and
# MPEG-2 say which these are; in HEVC and AV1 a picture of a higher layer may refer to them.
SKIPPING = frozenset({"h264", "mpeg2video"})
NEAR = 0.5  # s before the picture that is wanted, from where on all are decoded
SEEK_BACK = (0.0, 2.0, 10.0, 60.0)  # s further back at each try, for containers whose seeks land late


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a finished trailer: BGR (h, w, 3) at time seconds.

    colour: its primaries, transfer, matrix and range, as ITU-T H.273 numbers them (2: not said), range 1 tv, 2 full.
    """

    time: float
    bgr: U8
    colour: tuple[int, int, int, int] = (2, 2, 2, 0)


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


def read_pictures(
    film: Film,
    times: Iterable[float],
    *,
    through: Callable[[Iterator[VideoFrame]], Iterator[VideoFrame]] = iter,
) -> Iterator[VideoFrame]:
    """The film's picture on screen at each of the times (seconds on the film's clock, not decreasing).

    A picture is on screen from its timestamp until the next one's. Seeks to the key frame before the first time, then
    decodes forward. Before the film's first picture and after its last the nearest one stands. through: what every
    decoded picture passes before it is chosen, one out for one in, such as a deinterlacer. Raises InputError when nothing
    can be decoded there.
    """
    wanted = iter(times)
    first = next(wanted, None)
    if first is None:
        return
    with open_media(film.path) as container:
        video = container.streams.video[_video_position(container, film)]
        # one thread costs the least in all, holds the fewest pictures, and damaged ones come out the same every time
        video.codec_context.thread_count = 1
        current: VideoFrame | None = None
        due: float | None = first
        for frame in through(_pictures_from(container, video, film, first)):
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
        # what stands on screen for longer than NEAR may have been passed over on the way: again, and nothing left out
        for near in (NEAR, np.inf) if film.codec in SKIPPING and not film.interlaced else (np.inf,):
            try:
                container.seek(int(target / video.time_base), stream=video, backward=True)
            except FFmpegError:
                break
            pictures = _increasing(container, video, film, full_from=start - near)
            earlier: deque[VideoFrame] = deque(maxlen=2)  # the one on screen, and the one before it for a deinterlacer
            later = next((picture for picture in pictures if _keep_earlier(picture, start, earlier)), None)
            if earlier and (_time(earlier[-1]) >= start - near):
                yield from earlier
                if later is not None:
                    yield later
                yield from pictures
                return
    # no seek landed early enough: from the beginning, which is slow and always right
    with open_media(film.path) as again:
        stream = again.streams.video[_video_position(again, film)]
        stream.codec_context.thread_count = 1
        yield from _increasing(again, stream, film, begins=True)


def _keep_earlier(picture: VideoFrame, start: float, earlier: deque[VideoFrame]) -> bool:
    """Whether a picture comes after start; those that do not are kept."""
    if _time(picture) > start:
        return True
    earlier.append(picture)
    return False


def _increasing(
    container: InputContainer, video: VideoStream, film: Film, *, begins: bool = False, full_from: float = -np.inf
) -> Iterator[VideoFrame]:
    """Pictures in increasing time. Of those before full_from (s) the ones that no other refers to are not decoded."""
    context, damage = video.codec_context, Damage()

    def choose(packet: Packet[Any]) -> None:
        early = packet.pts is not None and packet.time_base is not None and packet.pts * packet.time_base < full_from
        context.skip_frame = "NONREF" if early else "DEFAULT"

    frames = read_frames(container, [video], damage, before=choose if full_from > -np.inf else None)
    for frame in place_pictures(frames, damage, step=1 / film.frame_rate, begins=begins):
        if isinstance(frame, VideoFrame):
            yield frame


@dataclass(frozen=True, slots=True)
class TrailerStreams:
    """What a finished file says that it holds; "" or 0 where something is absent.

    container: as libavformat names it, such as "mov,mp4,m4a,3gp,3g2,mj2". seconds, audio_seconds: of the container and of
    its sound; frames: pictures that its index counts. damage: fills while the file is watched.
    """

    container: str
    video_codec: str
    audio_codec: str
    pixel_format: str
    width: int
    height: int
    pixel_aspect: Fraction
    frame_rate: Fraction
    frames: int
    seconds: float
    audio_seconds: float
    damage: Damage


def watch_trailer(
    path: Path, width: int, *, hear: Callable[[AudioFrame], None] | None = None
) -> tuple[TrailerStreams, Iterator[Picture]]:
    """A finished file's streams, and its pictures, width wide at most, with the loop filter on: what a viewer sees.

    hear: given every frame of its first sound track, from the same pass. What decodes with errors that the decoder hid
    counts as damage too. Raises InputError when the file cannot be opened, or holds neither picture nor sound.
    """
    damage = Damage()
    with open_media(path, "trailer") as container:
        video = pick_video(container)
        audio = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
        if video is None and audio is None:
            raise InputError(f"the trailer {path} holds neither picture nor sound")
        sound = float(audio.duration * audio.time_base) if audio and audio.duration and audio.time_base else 0.0
        context = video.codec_context if video is not None else None
        streams = TrailerStreams(
            container=container.format.name,
            video_codec=context.codec.canonical_name if context is not None else "",
            audio_codec=audio.codec_context.codec.canonical_name if audio is not None else "",
            pixel_format=(context.pix_fmt or "") if context is not None else "",
            width=context.width if context is not None else 0,
            height=context.height if context is not None else 0,
            pixel_aspect=Fraction((video.sample_aspect_ratio if video is not None else None) or 1),
            frame_rate=Fraction((video.average_rate if video is not None else None) or 25),
            frames=video.frames if video is not None else 0,
            seconds=(container.duration or 0) / av.time_base,
            audio_seconds=sound,
            damage=damage,
        )

    def pictures() -> Iterator[Picture]:
        with open_media(path, "trailer") as again:
            seen = pick_video(again)
            heard = next((s for s in again.streams.audio if s.codec_context is not None), None) if hear else None
            chosen = [stream for stream in (seen, heard) if stream is not None]
            if not chosen:  # PyAV would take that for all of them
                return
            if seen is not None:
                seen.thread_type = "AUTO"
            size = _fit(max(1, streams.width), max(1, streams.height), width)
            reformatter = VideoReformatter()
            for frame in read_frames(again, chosen, damage):
                if isinstance(frame, AudioFrame):
                    if hear is not None:
                        hear(frame)
                elif isinstance(frame, VideoFrame):
                    damage.pictures += frame.is_corrupt or frame.time is None
                    if frame.time is not None:
                        small = reformatter.reformat(frame, *size, "bgr24", interpolation=Interpolation.AREA)
                        named = int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)
                        yield Picture(frame.time, cast(U8, small.to_ndarray()), (*named, int(frame.color_range)))

    return streams, pictures()
