"""Write films, and join clips without encoding them again."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import MediaError
from pipeline.media import describe_fault
from pipeline.records import F32, U8


def write_film(
    path: Path,
    pictures: Iterable[U8],
    *,
    frame_rate: Fraction,
    timestamps: Sequence[Fraction] | None = None,
    sound: F32 | None = None,
    sample_rate: int = 48000,
    codec: str = "libx264",
    crf: int = 18,
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
) -> None:
    """Write pictures (h, w, 3) RGB and sound (n, channels) as a film; the container follows from the suffix.

    One picture every 1/frame_rate s, or at timestamps (seconds, increasing: a variable rate, kept on a grid of 1/90000 s).
    """
    time_base = 1 / Fraction(frame_rate) if timestamps is None else Fraction(1, 90000)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    with av.open(str(partial.resolve()), "w") as container:
        video = container.add_stream(codec, rate=frame_rate, options={"crf": str(crf), **(options or {})})
        assert isinstance(video, VideoStream)
        video.pix_fmt = pixel_format
        video.codec_context.time_base = time_base
        audio = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[sound.shape[1]]
            audio = container.add_stream("aac", rate=sample_rate, layout=layout)
            assert isinstance(audio, AvAudioStream)
        written = 0  # samples of sound
        for number, picture in enumerate(pictures):
            if number == 0:
                video.height, video.width = picture.shape[:2]
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            seconds = number / Fraction(frame_rate) if timestamps is None else timestamps[number]
            frame.pts, frame.time_base = round(seconds / time_base), time_base
            container.mux(video.encode(frame))
            if sound is not None and audio is not None:  # interleaved, so that a reader finds both in one pass
                due = min(len(sound), int((seconds + 1) * sample_rate))
                written = _write_sound(container, audio, sound, written, due, sample_rate)
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            _write_sound(container, audio, sound, written, len(sound), sample_rate)
            container.mux(audio.encode(None))
    partial.replace(path)  # a reader sees the old file or the new one, never half


def _write_sound(container: Any, audio: AvAudioStream, sound: F32, start: int, end: int, sample_rate: int) -> int:
    for at in range(start, end, 1024):
        block = np.ascontiguousarray(sound[at : min(at + 1024, end)].T, dtype=np.float32)
        frame = AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, at, Fraction(1, sample_rate)
        container.mux(audio.encode(frame))
    return max(start, end)


@contextmanager
def _open_clip(path: Path) -> Iterator[InputContainer]:
    try:
        with av.open(str(path.resolve()), options={"protocol_whitelist": "file"}) as clip:
            yield clip
    except FFmpegError as error:
        raise MediaError(f"the clip {path} cannot be read ({describe_fault(error)}); run again") from error


def join_clips(clips: Sequence[Path], frames: Sequence[int], frame_rate: Fraction, out: Path) -> None:
    """Join clips of one encoder setting without re-encoding, clip after clip, every frame at its own whole tick.

    frames: pictures in each clip. ffmpeg's concat demuxer would round each clip's start to microseconds, and a frame to a
    neighbouring tick with it. Raises MediaError when a clip does not hold what it should.
    """
    tick = 1 / Fraction(frame_rate)
    orders = [_read_order(path, count, tick) for path, count in zip(clips, frames, strict=True)]
    # packets come one a tick through all clips, the first of them as early as the picture that is sent most ahead of its
    # time needs: that differs from encoder to encoder, and from clip to clip
    delay = max((place - shown for order in orders for place, shown in enumerate(order)), default=0)
    with av.open(str(out.resolve()), "w") as joined:
        stream: VideoStream | None = None
        header: bytes | None = None
        start = 0
        for path, order in zip(clips, orders, strict=True):
            with _open_clip(path) as clip:
                source = clip.streams.video[0]
                if stream is None:
                    # opaque: by the decoder that it was opened with, for that of AV1 has no encoder of its name
                    stream = joined.add_stream_from_template(source, opaque=True)
                    stream.time_base, header = tick, source.codec_context.extradata
                if source.codec_context.extradata != header:
                    raise MediaError(f"the clip {path} was encoded with other settings; run again")
                packets = (packet for packet in clip.demux(source) if packet.pts is not None)
                for place, (packet, shown) in enumerate(zip(packets, order, strict=True)):
                    packet.pts, packet.dts = start + shown, start + place - delay
                    packet.duration, packet.time_base, packet.stream = 1, tick, stream
                    joined.mux(packet)
            start += len(order)


def _read_order(path: Path, count: int, tick: Fraction) -> list[int]:
    """Which of a clip's pictures each of its packets holds, 0 the first shown. Raises MediaError where one is amiss."""
    with _open_clip(path) as clip:
        times = [packet.pts * packet.time_base for packet in clip.demux(video=0) if packet.pts is not None]
    first = min(times, default=Fraction(0))
    order = [round((time - first) / tick) for time in times]
    if sorted(order) != list(range(count)):
        raise MediaError(f"the clip {path} holds {len(order)} frames and not {count}, or some at odd times; run again")
    return order


def switch_off_subtitles(path: Path) -> None:
    """Mark the subtitle tracks of an MP4 as off until a viewer asks for them, in place.

    ffmpeg's muxer enables the first track of each kind, whatever disposition it is told, and players show an enabled one.
    """
    with path.open("r+b") as file:
        size = path.stat().st_size
        for kind, start, end in _boxes(file, 0, size):
            if kind == b"moov":
                for track, body, track_end in _boxes(file, start, end):
                    if track == b"trak" and _handler(file, body, track_end) in (b"sbtl", b"text", b"subt"):
                        _disable_track(file, body, track_end)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of an MP4 (ISO/IEC 14496-12, 4.2) in [start, end): kind, and where the content begins and ends."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            content += 8
        stop = end if size == 0 else min(end, start + size)
        if stop < content:
            return
        yield kind, content, stop
        start = stop


def _handler(file: BinaryIO, start: int, end: int) -> bytes:
    """What a track holds, as its mdia/hdlr box says: vide, soun, sbtl ..."""
    for kind, content, stop in _boxes(file, start, end):
        if kind == b"mdia":
            return _handler(file, content, stop)
        if kind == b"hdlr":
            file.seek(content + 8)  # version and flags, a reserved word
            return file.read(4)
    return b""


def _disable_track(file: BinaryIO, start: int, end: int) -> None:
    for kind, content, _ in _boxes(file, start, end):
        if kind == b"tkhd":
            file.seek(content + 3)  # the last byte of its flags; bit 0: enabled
            flags = file.read(1)[0]
            file.seek(content + 3)
            file.write(bytes([flags & ~1]))
