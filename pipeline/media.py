"""Open media files and run ffmpeg: no other module opens a container by itself, or starts a program."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import IO

import av
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import InputError, MediaError, MissingDependencyError
from pipeline.faults import find_fault
from pipeline.records import AudioStream, Film, Span, SubtitleStream, Track

# A file that names other files could make us read, or fetch, what the user did not name.
REFUSED_FORMATS = frozenset({"concat", "dash", "hls", "imf", "tty", "lavfi", "webvtt", "srt", "ass", "subviewer"})
STILL_CODECS = frozenset({"png", "gif", "bmp", "tiff", "webp", "mjpeg"})  # of cover art, and of some films
# of a sound track that speaks over the film's own; in its title sound.choose_sound looks for such words
SPOKEN_OVER_FLAGS = {Disposition.comment: "(commentary)", Disposition.visual_impaired: "(audio description)"}
LOG_LINES = 12  # of ffmpeg's standard error, kept for the message
SAMPLED_BYTES = 1 << 20  # per block of a fingerprint
SAMPLED_BLOCKS = 8
PIPE_BYTES = 1 << 20  # what Linux lets any user have
FIRST_PACKETS = 400  # in which a first picture must come out, or the film is not usable
LOOKS = 5  # places over the film at which a picture is looked at for combs: a logo at the head may have none
LOOK_PACKETS = 60  # in which a picture must come out there


def fingerprint_file(path: Path) -> str:
    """Know a file by its content, at the cost of 8 MiB however large it is.

    SHA-256 over the size and eight blocks of 1 MiB spread evenly from the first byte to the last (the whole file when it
    is smaller). A changed header, index, length or re-encode changes it; equal content under another name does not.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= SAMPLED_BLOCKS * SAMPLED_BYTES:
            digest.update(file.read())
        else:
            for block in range(SAMPLED_BLOCKS):
                file.seek((size - SAMPLED_BYTES) * block // (SAMPLED_BLOCKS - 1))
                digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()[:32]


def check_readable(path: Path, what: str) -> Path:
    """The path, if it is a file with something in it, else InputError. what: "film", "track" ..."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the name of the {what} is not valid UTF-8: {str(path)!r}; rename it") from error
    try:
        if path.is_dir():
            name = what if what.endswith(" file") else f"{what} file"
            raise InputError(f"{path} is a folder; name the {name} itself")
        if not path.exists():
            raise InputError(f"no such {what}: {path}")
        if path.stat().st_size == 0:
            raise InputError(f"the {what} {path} is empty (0 bytes)")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError(f"cannot read the {what} {path}: {error.strerror}") from error
    return path


@contextmanager
def open_media(path: Path, what: str = "film") -> Iterator[InputContainer]:
    """Open a media file for reading, local files only.

    Raises InputError for what is no media file, or a playlist that points elsewhere.
    """
    check_readable(path, what)
    try:
        # an absolute path is never taken for a protocol or an option
        container = av.open(str(path.resolve()), options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (FFmpegError, ValueError) as error:
        fault = find_fault(path) or describe_fault(error)
        raise InputError(f"the {what} {path} is not a media file that can be opened ({fault})") from error
    with container:
        formats = set(container.format.name.split(","))
        if container.format.name.startswith("image2") or container.format.name.endswith("_pipe"):
            raise InputError(f"the {what} {path} is a picture, or the first of a series of them")
        if formats & REFUSED_FORMATS:
            raise InputError(f"the {what} {path} is no {what} but {container.format.long_name}")
        yield container


def describe_fault(error: Exception) -> str:
    """What PyAV's error says, in words."""
    return getattr(error, "strerror", None) or str(error)


def pick_video(container: InputContainer) -> VideoStream | None:
    """The stream that a viewer sees: the container's default, then the largest picture, then the first.

    Cover art and still attachments do not count; a stream of stills only where there is no other.
    """
    moving = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None
        and not stream.disposition & Disposition.attached_pic
        and not (stream.codec_context.name in STILL_CODECS and stream.frames == 1)
    ]
    return min(
        moving,
        key=lambda stream: (
            stream.codec_context.name in STILL_CODECS and not stream.frames,
            not stream.disposition & Disposition.default,
            -stream.codec_context.width * stream.codec_context.height,
        ),
        default=None,
    )


def probe_film(path: Path) -> Film:
    """Describe a film from its container and its first picture.

    Raises InputError for a file without a moving picture that can be decoded.
    """
    with open_media(path, "film") as container:
        video = pick_video(container)
        if video is None:
            unknown = any(stream.codec_context is None for stream in container.streams.video)
            kind = "only sound" if container.streams.audio else "no picture"
            kind = "pictures of an unknown codec" if unknown else kind
            raise InputError(f"the film {path} holds {kind}; a trailer needs pictures")
        first = _first_picture(container, video, path)
        rate = video.guessed_rate or video.average_rate or Fraction(25)
        if not Fraction(1, 2) <= rate <= 480:
            rate = video.average_rate if video.average_rate and video.average_rate <= 480 else Fraction(25)
        ticks = first.pts if first.pts is not None else first.dts or 0  # as packets.place_pictures has it
        start = float(ticks * (first.time_base or 0))
        duration = _picture_duration(container, video, start, rate)
        average, base = video.average_rate, video.base_rate
        return Film(
            path=path.resolve(),
            fingerprint=fingerprint_file(path),
            start=start,
            duration=duration,
            frame_rate=Fraction(rate),
            width=first.width,
            height=first.height,
            video_index=video.index,
            audio=tuple(_describe_audio(s) for s in _order_sounds(container)),
            subtitles=tuple(
                SubtitleStream(s.index, s.codec_context.name, s.language or "und", s.metadata.get("title", ""))
                for s in container.streams.subtitles
                if s.codec_context is not None
            ),
            rotation=int(first.rotation) % 360 if int(first.rotation) % 90 == 0 else 0,
            pixel_aspect=Fraction(video.sample_aspect_ratio or 1) or Fraction(1),
            transfer=str(getattr(first.color_trc, "name", first.color_trc)),
            primaries=str(getattr(first.color_primaries, "name", first.color_primaries)),
            matrix=str(getattr(first.colorspace, "name", first.colorspace)),
            full_range=int(first.color_range) == 2,
            interlaced=_is_interlaced(container, video, first, Span(start, start + duration)),
            variable_rate=bool(average and base and abs(average / base - 1) > Fraction(1, 1000)),
            codec=video.codec_context.name,
            pixel_format=first.format.name,
        )


def _order_sounds(container: InputContainer) -> list[AvAudioStream]:
    """The sound tracks that can be decoded, those that the container plays by default first."""
    known = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return sorted(known, key=lambda stream: not stream.disposition & Disposition.default)


def _describe_audio(stream: AvAudioStream) -> AudioStream:
    context = stream.codec_context
    flagged = [word for flag, word in SPOKEN_OVER_FLAGS.items() if stream.disposition & flag]
    return AudioStream(
        index=stream.index,
        codec=context.name,
        language=stream.language or "und",
        channels=int(context.channels),
        sample_rate=int(context.sample_rate or 0),
        title=" ".join(filter(None, (stream.metadata.get("title", ""), *flagged))),
    )


def _first_picture(container: InputContainer, video: VideoStream, path: Path) -> VideoFrame:
    problem, count = "", 0
    packets = container.demux(video)
    while count < FIRST_PACKETS:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            count += packet.size > 0
            if packet.has_sidedata("encryption_info"):  # what comes out of it may pass for pictures
                raise InputError(f"the film {path} is encrypted: its pictures cannot be read without the key (DRM)")
            for frame in packet.decode():
                if isinstance(frame, VideoFrame) and frame.width > 0:
                    return frame
        except FFmpegError as error:
            problem = f" ({describe_fault(error)})"
    if not count:
        announced = f"{video.frames} pictures" if video.frames else "pictures"
        raise InputError(f"the film {path} announces {announced} and holds none: it was cut short")
    raise InputError(f"the film {path} cannot be decoded: no picture comes out of its first {count} packets{problem}")


def _is_interlaced(container: InputContainer, video: VideoStream, first: VideoFrame, span: Span) -> bool:
    """Whether most of a few pictures, spread over the film, are of two fields."""
    looks = [first.interlaced_frame]
    if not container.duration or video.time_base is None:  # sought in such a stream, it would be read to its end
        return looks[0]
    for number in range(1, LOOKS + 1):
        try:
            time = span.start + span.duration * number / (LOOKS + 1)
            container.seek(int(time / video.time_base), stream=video, backward=True)
            frames = (frame for packet in islice(container.demux(video), LOOK_PACKETS) for frame in packet.decode())
            frame = next(frames, None)
        except FFmpegError:  # what does not seek, and what is damaged there, says nothing
            continue
        if isinstance(frame, VideoFrame):
            looks.append(frame.interlaced_frame)
    return 2 * sum(looks) >= len(looks) + 1


def _picture_duration(container: InputContainer, video: VideoStream, start: float, rate: Fraction) -> float:
    """Seconds from the first picture to the end as the container states them; counted from packets when it does not."""
    if video.duration is not None and video.time_base is not None and video.duration > 0:
        return float(video.duration * video.time_base)
    if container.duration:
        seconds = container.duration / av.time_base
        # Matroska's own figure is the time at which the last picture ends, not how long they last
        late = start if "matroska" in container.format.name and seconds > start else 0.0
        return seconds - late
    last = start
    for packet in container.demux(video):
        if packet.pts is not None and packet.time_base is not None:
            last = max(last, float(packet.pts * packet.time_base))
        elif packet.size:  # a stream without timestamps
            last += float(1 / rate)
    return last - start + float(1 / rate)


def probe_track(path: Path) -> Track:
    """Describe a music file. The duration is the container's; decode.read_track knows the true one.

    Raises InputError for a file without sound.
    """
    with open_media(path, "track") as container:
        streams = container.streams.audio
        if not streams or streams[0].codec_context is None:
            raise InputError(f"the track {path} holds no sound")
        stream = streams[0]
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        seconds = seconds or (container.duration or 0) / av.time_base
        return Track(path.resolve(), fingerprint_file(path), seconds, int(stream.codec_context.sample_rate or 0))


def find_ffmpeg(named: Path | None = None) -> Path:
    """The ffmpeg to run: the named one, else the one on PATH, else the one that imageio-ffmpeg carries."""
    if named is not None:
        if not named.is_file():
            raise MissingDependencyError(f"no ffmpeg at {named} (TRAILER_FFMPEG)")
        return named
    found = shutil.which("ffmpeg")
    if found is not None:
        return Path(found)
    try:
        import imageio_ffmpeg

        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError("no ffmpeg: install one, or `pip install imageio-ffmpeg`") from error


def ffmpeg_version(program: Path) -> str:
    """What the program says it is, such as "7.0.2". Raises MissingDependencyError for one that does not run."""
    try:
        command = [str(program), "-version"]
        answer = subprocess.run(command, capture_output=True, timeout=30, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingDependencyError(f"{program} does not run as ffmpeg: {error}") from error
    words = answer.stdout.decode("utf-8", "replace").split(maxsplit=3)  # ffmpeg version 7.0.2 Copyright ...
    if words[:2] != ["ffmpeg", "version"] or len(words) < 3:
        raise MissingDependencyError(f"{program} is not ffmpeg")
    return words[2]


_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1
CAN_DIE = _LIBC is not None


def die_with_parent() -> None:
    """In the child, before exec: a killed parent leaves no child behind."""
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


_RUNNING: set[subprocess.Popen[bytes]] = set()


def end_programs() -> None:
    """Kill every ffmpeg that this process runs, for a process that is told to end: other threads may wait for them."""
    for process in list(_RUNNING):
        process.kill()


def run_ffmpeg(
    program: Path,
    arguments: Sequence[str],
    *,
    chunks: Iterable[bytes | memoryview] | None = None,
    timeout: float,
    on_line: Callable[[str], None] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run ffmpeg once and return what it wrote to standard error.

    chunks are fed to its standard input. timeout: seconds for the whole run; it and any failure end the child.
    Raises MediaError with the command and the last lines of the log.
    """
    command = [str(program), "-hide_banner", "-nostdin", "-nostats", *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if chunks is not None else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=cwd,
        preexec_fn=die_with_parent if CAN_DIE else None,
    )
    _RUNNING.add(process)
    lines: deque[str] = deque(maxlen=2000)
    assert process.stderr is not None
    reader = threading.Thread(target=collect_lines, args=(process.stderr, lines, on_line), daemon=True)
    reader.start()
    overdue = threading.Timer(timeout, process.kill)
    overdue.start()
    try:
        if chunks is not None and process.stdin is not None:
            _widen_pipe(process.stdin)
            with suppress(BrokenPipeError):  # it ended early: its return code and log say why
                for chunk in chunks:
                    process.stdin.write(chunk)
            with suppress(BrokenPipeError):
                process.stdin.close()
        code = process.wait()
        late = not overdue.is_alive()
    finally:
        overdue.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        _RUNNING.discard(process)
        reader.join()
        process.stderr.close()
        if process.stdin is not None and not process.stdin.closed:
            with suppress(OSError):
                process.stdin.close()
    log = "\n".join(lines)
    if code != 0:
        last = "\n".join(list(lines)[-LOG_LINES:])
        reason = f"took longer than {timeout:.0f} s" if late else f"failed with {code}"
        raise MediaError(f"ffmpeg {reason}: {' '.join(command)}", command, last, timed_out=late)
    return log


def _widen_pipe(pipe: IO[bytes]) -> None:
    """A picture goes through in a few steps in place of dozens: half the system's time of feeding it."""
    if sys.platform == "linux":
        import fcntl  # not on every system

        with suppress(OSError):  # more than this user may have: it stays as it is
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def collect_lines(stream: IO[bytes], lines: deque[str], on_line: Callable[[str], None] | None) -> None:
    """Read a program's output line by line until it ends."""
    for raw in stream:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line)
        if on_line is not None:
            on_line(line)


def sync_file(path: Path) -> None:
    """Make sure that a written file is on the disk before it gets its final name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
