"""Choose what encodes the trailer's picture: a hardware encoder that really works here, or a software one."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.errors import MediaError, MissingDependencyError
from pipeline.media import run_ffmpeg
from pipeline.settings import Codec, EncoderKind, VideoSettings

log = logging.getLogger("trailer")

DRAFT_PRESET, DRAFT_CRF = "veryfast", 28
TRIAL_FRAMES, TRIAL_SECONDS = 3, 60.0
# Pictures that x264 looks ahead: 30 to 60 by these presets. A cut has about 48; for half of that two thirds of the memory do
LOOK_AHEAD = 20
LONG_LOOKING = frozenset({"fast", "medium", "slow", "slower"})
# Each encoder's own default quality: x264 23, x265 28, SVT-AV1 35. A crf keeps its proportion to them.
CRF_SCALE = {Codec.h264: 1.0, Codec.hevc: 28 / 23, Codec.av1: 35 / 23}
SVT_PRESETS = {
    "ultrafast": 12,
    "superfast": 11,
    "veryfast": 10,
    "faster": 9,
    "fast": 8,
    "medium": 7,
    "slow": 5,
    "slower": 4,
}
SOFTWARE = {Codec.h264: ("libx264",), Codec.hevc: ("libx265",), Codec.av1: ("libsvtav1", "libaom-av1")}
HARDWARE = (EncoderKind.nvenc, EncoderKind.videotoolbox, EncoderKind.qsv, EncoderKind.vaapi)
TAGS = {Codec.hevc: "hvc1"}  # of the sample entry: Apple's players know HEVC by no other


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder of ffmpeg's and how it is asked.

    setup: options before the input; upload: filters that bring a picture to the device; options: of the output. All of
    it is in the key of a clip: clips of two encoders cannot be joined.
    """

    name: str
    codec: Codec
    hardware: bool
    options: tuple[tuple[str, str], ...]
    setup: tuple[str, ...] = ()
    upload: tuple[tuple[str, str], ...] = ()

    @property
    def tag(self) -> str:
        """The sample entry's name in MP4; "": ffmpeg's own choice."""
        return TAGS.get(self.codec, "")

    @property
    def description(self) -> str:
        """In words, for the log and the report."""
        return f"{self.codec.value} by {self.name} ({'hardware' if self.hardware else 'software'})"


def choose_encoder(video: VideoSettings, program: Path, size: tuple[int, int]) -> Encoder:
    """The encoder to use, tried on a few pictures of the trailer's size (w, h) once a process.

    `auto` takes the first hardware encoder that works, else software. Raises MissingDependencyError where what was asked
    for does not work with this ffmpeg, or on this machine.
    """
    if video.encoder is EncoderKind.software:
        kinds: tuple[EncoderKind, ...] = ()
    elif video.encoder is EncoderKind.auto:
        kinds = HARDWARE
    else:
        kinds = (video.encoder,)
    wanted = [encoder for kind in kinds if (encoder := describe_hardware(kind, video)) is not None]
    if video.encoder in (EncoderKind.auto, EncoderKind.software):
        wanted += [describe_software(name, video) for name in SOFTWARE[video.codec]]
    chosen = next((encoder for encoder in wanted if works(encoder, program, size)), None)
    if chosen is None:
        raise MissingDependencyError(_explain(video, program, [encoder.name for encoder in wanted]))
    return chosen


def _explain(video: VideoSettings, program: Path, tried: list[str]) -> str:
    names = f" (tried {', '.join(tried)})" if tried else ""
    if video.encoder in (EncoderKind.auto, EncoderKind.software):
        instead = "video.codec=h264" if video.codec is not Codec.h264 else "another ffmpeg (TRAILER_FFMPEG)"
        return f"{program} cannot encode {video.codec.value}{names}: use {instead}, or an ffmpeg that can"
    return (
        f"no {video.encoder.value} encoder for {video.codec.value} works here{names}: use video.encoder=auto or "
        f"video.encoder=software"
    )


def describe_software(name: str, video: VideoSettings) -> Encoder:
    """A software encoder, on one thread: the cuts are many, and encoded side by side."""
    preset = DRAFT_PRESET if video.draft else video.preset
    crf = str(scale_crf(video))
    if name == "libx265":
        quiet = "log-level=error:pools=none:frame-threads=1"
        options = {"preset": preset, "crf": crf, "x265-params": quiet}
    elif name == "libsvtav1":
        options = {"preset": str(SVT_PRESETS[preset]), "crf": crf, "svtav1-params": "lp=1"}
    elif name == "libaom-av1":
        speed = min(8, SVT_PRESETS[preset])
        options = {"cpu-used": str(speed), "crf": crf, "b:v": "0", "threads": "1", "row-mt": "0"}
    else:
        options = {"preset": preset, "crf": crf, "threads": "1"}
        if preset in LONG_LOOKING:
            options["rc-lookahead"] = str(LOOK_AHEAD)
    return Encoder(name, video.codec, False, tuple(options.items()))


def describe_hardware(kind: EncoderKind, video: VideoSettings) -> Encoder | None:
    """A hardware encoder at a constant quality; None where this machine cannot have it."""
    name, quality = f"{video.codec.value}_{kind.value}", str(scale_crf(video))
    if kind is EncoderKind.nvenc:
        if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
            return None
        return Encoder(name, video.codec, True, (("preset", "p5"), ("rc", "vbr"), ("cq", quality), ("b:v", "0")))
    if kind is EncoderKind.videotoolbox:
        if sys.platform != "darwin":
            return None
        # its scale runs the other way, 1 to 100; 65 is its counterpart of x264's 18
        return Encoder(name, video.codec, True, (("q:v", str(max(1, 101 - 2 * _rough_crf(video)))),))
    device = next(iter(sorted(Path("/dev/dri").glob("renderD*"))), None)
    if kind is EncoderKind.qsv:
        if sys.platform == "linux" and device is None:
            return None
        return Encoder(name, video.codec, True, (("global_quality", quality),), upload=(("format", "nv12"),))
    if device is None:
        return None
    upload = (("format", "nv12"), ("hwupload", ""))
    options = (("rc_mode", "CQP"), ("qp", quality))
    return Encoder(name, video.codec, True, options, setup=("-vaapi_device", str(device)), upload=upload)


def _rough_crf(video: VideoSettings) -> int:
    return max(video.crf, DRAFT_CRF) if video.draft else video.crf


def scale_crf(video: VideoSettings) -> int:
    """The crf on the codec's own scale."""
    return round(_rough_crf(video) * CRF_SCALE[video.codec])


@cache
def works(encoder: Encoder, program: Path, size: tuple[int, int]) -> bool:
    """Whether a few grey pictures can be encoded: a listed encoder may lack its device, its driver or a licence."""
    width, height = size
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{width}x{height}", "-framerate", "25"]
    filters = ",".join(f"{name}={value}" if value else name for name, value in encoder.upload)
    options = [word for option, value in encoder.options for word in (f"-{option}", value)]
    arguments = ["-v", "error", *encoder.setup, *source, "-i", "pipe:0", *(["-vf", filters] if filters else [])]
    try:
        run_ffmpeg(
            program,
            [*arguments, "-c:v", encoder.name, *options, "-f", "null", "-"],
            chunks=[bytes([128]) * (width * height * 3 // 2)] * TRIAL_FRAMES,
            timeout=TRIAL_SECONDS,
        )
    except MediaError as error:
        log.debug("%s does not work here: %s", encoder.name, error.log)
        return False
    return True
