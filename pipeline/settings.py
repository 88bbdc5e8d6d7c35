"""What trailer to make (TrailerConfig), and where this machine keeps things (Site)."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"


class Section(BaseModel):
    """One stage's settings: fixed once made, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ShotDetector(StrEnum):
    """What decides where a shot ends."""

    auto = "auto"
    adaptive = "adaptive"
    transnet = "transnet"


class ShotSettings(Section):
    """How the film is cut into shots."""

    detector: ShotDetector = ShotDetector.auto
    """`adaptive` (PySceneDetect), `transnet` (TransNetV2, a network), or `auto`: TransNetV2 where it and a GPU are there."""
    threshold: float = Field(3.0, ge=1, le=50)
    """Adaptive: cut where a frame's score is this many times its neighbours' mean."""
    min_score: float = Field(15.0, ge=1, le=255)
    """Adaptive: least mean change of hue, saturation and value for a cut, 0 to 255."""
    min_seconds: float = Field(0.4, ge=0, le=10)
    """Shortest shot in seconds."""


class EncoderName(StrEnum):
    """Encoders that turn a shot into a vector."""

    descriptor = "descriptor"
    imagebind = "imagebind"
    siglip2 = "siglip2"
    dinov3 = "dinov3"


class Views(StrEnum):
    """How much of a shot ImageBind looks at."""

    official = "official"
    one = "one"


class FeatureSettings(Section):
    """What a shot is described by."""

    encoder: EncoderName = EncoderName.descriptor
    """Encoder; `descriptor` needs no weights, the others need `trailer weights fetch`, and imagebind is non-commercial."""
    views: Views = Views.official
    """ImageBind's looks at a shot: `official` 5 clips x 3 crops, `one` the middle alone (for a CPU)."""


class MusicSettings(Section):
    """How the track is cut into segments, one trailer slot each."""

    mean_seconds: float = Field(2.0, ge=0.5, le=20)
    """Mean length of a segment in seconds."""
    min_seconds: float = Field(0.5, ge=0.2, le=10)
    """Shortest segment in seconds."""


class GuardSettings(Section):
    """What may never be shown."""

    ending: float = Field(0.10, ge=0, le=0.9)
    """Share of the story at its end that is kept secret (end credits not counted). A clip under 20 s keeps none."""
    credits: bool = True
    """Leave out end credits and whatever follows them, opening titles and logos."""
    black_luma: float = Field(24.0, ge=0, le=255)
    """A shot at most this bright on average is black, 0 to 255."""
    static_motion: float = Field(0.15, ge=0, le=50)
    """A shot that changes less than this a frame is a still picture, 0 to 255."""
    twins: bool = True
    """Of shots that show nearly the same picture, let one be used."""


class Decoder(StrEnum):
    """How SSMP fills the slots."""

    self_corrective = "self_corrective"
    confidence = "confidence"
    greedy = "greedy"
    left_to_right = "left_to_right"


class SelectionSettings(Section):
    """How SSMP chooses and orders the shots."""

    checkpoint: str = "bundled"
    """`bundled`, or the path of a checkpoint (.safetensors with its .json beside it)."""
    decoder: Decoder = Decoder.self_corrective
    """Order in which slots are decided."""
    max_rounds: int = Field(32, ge=1, le=1000)
    """Most rounds of prediction before the open slots are filled at once."""
    energy_weight: float = Field(2.0, ge=0, le=20)
    """How strongly loud music asks for moving pictures; 0: not at all."""
    order_weight: float = Field(24.0, ge=0, le=200)
    """How strongly the trailer keeps to the film's order; 0: not at all."""
    scene_share: float = Field(0.15, ge=0.01, le=1)
    """Most that one scene of the film may give of the trailer's shots, as a share; two in any case."""


class VoiceDetector(StrEnum):
    """What finds where a word begins and ends."""

    auto = "auto"
    silero = "silero"
    energy = "energy"


class LineSettings(Section):
    """Where the film's lines come from."""

    language: str = Field("", max_length=35, pattern="^[A-Za-z-]*$")
    """Language of the subtitles as a code such as en or eng; empty: that of the film's sound, else English, else any."""
    speech_model: str = Field("", max_length=1000)
    """Whisper model, by name or folder, that listens to a film without subtitles (extra `asr`); empty: none."""
    voice_detector: VoiceDetector = VoiceDetector.auto
    """What finds where a word ends: `silero` (a network, extra `vad`), `energy`, or `auto`: silero where it is there."""


class Chooser(StrEnum):
    """Who chooses the lines."""

    embedded = "embedded"
    llm = "llm"


class Captioner(StrEnum):
    """Who says what a shot shows."""

    embedded = "embedded"
    picture = "picture"
    smolvlm = "smolvlm"
    minicpm = "minicpm"


class Score(StrEnum):
    """How a line that runs over several slots is scored."""

    mean = "mean"
    start = "start"


class Subtitles(StrEnum):
    """Whether the trailer shows what is said."""

    none = "none"
    soft = "soft"
    burned = "burned"


class NarrationSettings(Section):
    """Which of the film's lines the trailer says, and where."""

    enabled: bool = True
    """Let the trailer speak."""
    chooser: Chooser = Chooser.embedded
    """Who chooses the lines: `embedded` (no network), or `llm` (the section [llm])."""
    words: int = Field(0, ge=0, le=2000)
    """Most words; 0: words_per_second times the trailer's length."""
    words_per_second: float = Field(0.8, ge=0, le=4)
    """Words a second of trailer; speech has 2 to 3."""
    captioner: Captioner = Captioner.embedded
    """What tells what a shot shows: its dialogue (`embedded`), the encoder (`picture`), a network (`smolvlm`, `minicpm`)."""
    score: Score = Score.mean
    """A line over several slots is scored by their `mean`, or by its `start`."""
    gap_seconds: float = Field(0.6, ge=0, le=10)
    """Least pause between two lines in seconds."""
    peak_seconds: float = Field(0.1, ge=0, le=1)
    """No line starts this near to a hit of the music, in seconds."""
    spread_weight: float = Field(0.1, ge=0, le=10)
    """How strongly the lines are spread over the trailer, in units of similarity."""
    quiet_weight: float = Field(0.1, ge=0, le=10)
    """How strongly a line avoids loud music, in units of similarity."""
    subtitles: Subtitles = Subtitles.none
    """Show the chosen lines: `soft` (a track that players switch on), `burned` (in the picture), or `none`."""


class LlmSettings(Section):
    """A language model that chooses the lines, behind any OpenAI-compatible address."""

    base_url: str = Field("https://api.deepseek.com/v1", max_length=1000, pattern=r"^https?://[^@?#\s]+$")
    """Address, without any password; a local one (llama.cpp, Ollama, vLLM) looks like http://127.0.0.1:11434/v1."""
    model: str = Field("deepseek-chat", min_length=1, max_length=200)
    """Model, as the address names it."""
    key_variable: str = Field("TRAILER_LLM_KEY", pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)
    """Environment variable that holds the key. The key itself is never a setting."""
    timeout_seconds: float = Field(120.0, ge=1, le=3600)
    """Longest wait for an answer in seconds."""
    tries: int = Field(4, ge=1, le=20)
    """Most requests for one answer: a busy or failing server, or an answer that cannot be used, is asked again."""
    chunk_lines: int = Field(300, ge=10, le=5000)
    """Most lines shown at once; a longer film is shown in parts, and what they give is chosen from again."""


class EditSettings(Section):
    """How the chosen shots are laid out."""

    margin_frames: int = Field(2, ge=1, le=24)
    """Film frames left unused at each end of a shot, so that no neighbour's frame shows."""
    card_seconds: float = Field(2.5, ge=0, le=10)
    """Length of the title card in seconds; 0: no card."""
    button_seconds: float = Field(2.0, ge=0, le=10)
    """Length of the last beat, one shot after the title, in seconds; 0: the trailer ends with the title."""
    tagline: str = Field("", max_length=200)
    """A line under the title; empty: none."""
    end_text: str = Field("", max_length=200)
    """Text of a last card, such as COMING SOON; empty: none."""
    end_seconds: float = Field(1.5, ge=0.5, le=10)
    """Length of that last card in seconds."""
    font: str = Field("", max_length=1000)
    """Font file of all lettering, for scripts that the bundled one lacks (Chinese, Japanese ...); empty: that one."""
    fade_seconds: float = Field(0.5, ge=0, le=5)
    """Fade from black at the trailer's start and to black at its end, in seconds; 0: none. No fades in between."""
    dissolve_seconds: float = Field(0.0, ge=0, le=2)
    """Longest cross-dissolve between two shots while the music is quiet, in seconds; 0: hard cuts everywhere."""
    slow_down: float = Field(0.15, ge=0, le=0.15)
    """Most by which a shot that is too short for its slot may be slowed down, as a share of its speed; 0: never."""


class SoundSettings(Section):
    """How the trailer sounds."""

    loudness_lufs: float = Field(-14.0, ge=-40, le=-8)
    """Integrated loudness of the trailer in LUFS."""
    true_peak_dbtp: float = Field(-1.0, ge=-9, le=-0.5)
    """Highest true peak in dBTP."""
    film_db: float = Field(-12.0, ge=-60, le=0)
    """Level of the film's own sound against the music in dB."""
    language: str = Field("", max_length=35, pattern="^[A-Za-z-]*$")
    """Language of the film's sound as a code such as en or eng; empty: the film's first track."""
    duck_db: float = Field(12.0, ge=0, le=40)
    """By how much the music drops under a line, in dB."""
    duck_seconds: float = Field(0.3, ge=0.02, le=0.5)
    """How long the music takes to drop before a line, and to come back after it, in seconds."""
    line_over_music_db: float = Field(11.0, ge=0, le=30)
    """Least level of every line over the music under it, in dB, before the limiter, which can take one of them back."""


class Aspect(StrEnum):
    """Shape of the trailer's picture, width to height."""

    source = "source"
    wide = "16:9"
    upright = "9:16"
    square = "1:1"
    portrait = "4:5"


class Codec(StrEnum):
    """How the trailer's picture is coded."""

    h264 = "h264"
    hevc = "hevc"
    av1 = "av1"


class EncoderKind(StrEnum):
    """What encodes it."""

    auto = "auto"
    software = "software"
    nvenc = "nvenc"
    vaapi = "vaapi"
    qsv = "qsv"
    videotoolbox = "videotoolbox"


DRAFT_HEIGHT = 360  # px; enough to judge a cut by, and a ninth of the pixels of 1080


class VideoSettings(Section):
    """How the picture is encoded."""

    aspect: Aspect = Aspect.source
    """Shape of the picture: `source` (the film's, without black bars), `16:9`, `9:16`, `1:1` or `4:5`; it is cut to fit."""
    codec: Codec = Codec.h264
    """Codec: `h264` plays everywhere, `hevc` and `av1` are smaller and slower to make."""
    encoder: EncoderKind = EncoderKind.auto
    """`software`, a hardware encoder by name, or `auto`: a hardware encoder where one works, else software."""
    crf: int = Field(18, ge=0, le=40)
    """Constant quality on x264's scale, put onto that of the codec; lower is better and larger."""
    preset: str = Field("medium", pattern="^(ultrafast|superfast|veryfast|faster|fast|medium|slow|slower)$")
    """Effort, as x264 names it."""
    max_height: int = Field(1080, ge=90, le=4320)
    """Tallest picture in pixels; a taller film is scaled down."""
    draft: bool = False
    """A first look: at most 360 px tall, encoded fast and rough."""

    @property
    def tallest(self) -> int:
        """Tallest picture in pixels, a draft's size counted."""
        return min(self.max_height, DRAFT_HEIGHT) if self.draft else self.max_height


class GateSettings(Section):
    """What a finished trailer must measure, or it is put aside."""

    offset_seconds: float = Field(0.02, gt=0, le=1)
    """Most by which sound and picture may lie apart, in seconds."""
    silence_seconds: float = Field(3.0, ge=0.5, le=60)
    """Longest silence outside the cards in seconds."""
    on_beat: float = Field(0.9, ge=0, le=1)
    """Least share of the cuts that lie within a frame of a beat or an accent, where the music has any."""
    repeats: int = Field(0, ge=0, le=1000)
    """Most pairs of cuts that may show the same picture."""
    most_mbps: float = Field(62.5, ge=0.1, le=1000)
    """Most megabits a second of the finished file; H.264's High profile at level 4.1 has 62.5."""


class TrailerConfig(Section):
    """What trailer to make."""

    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seed of every random choice."""
    title: str = Field("", max_length=200)
    """Title on the card; empty: from the file name."""
    length: float | None = Field(None, ge=5, le=600)
    """Length of the trailer in seconds; none: that of the music."""
    shots: ShotSettings = ShotSettings()
    features: FeatureSettings = FeatureSettings()
    music: MusicSettings = MusicSettings()
    guards: GuardSettings = GuardSettings()
    selection: SelectionSettings = SelectionSettings()
    lines: LineSettings = LineSettings()
    narration: NarrationSettings = NarrationSettings()
    llm: LlmSettings = LlmSettings()
    edit: EditSettings = EditSettings()
    sound: SoundSettings = SoundSettings()
    video: VideoSettings = VideoSettings()
    gate: GateSettings = GateSettings()


class Site(BaseSettings):
    """Where this machine keeps things: TRAILER_* in the environment. Never changes a result and is never hashed."""

    model_config = SettingsConfigDict(env_prefix="TRAILER_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    work_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "trailer")
    """Folder of the artifacts that later runs reuse."""
    weights_dir: Path = Field(default_factory=lambda: Path.home() / ".cache" / "trailer" / "weights")
    """Folder of model weights."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    gpu_limit: str = ""
    """Name of a Prefect concurrency limit held while a GPU is used, for cards that several machines share; empty: none."""
    workers: int = Field(0, ge=0, le=1024)
    """How many parts of a film are analysed at once; 0: as many as there are cores."""
    dask: str = ""
    """Address of a Dask scheduler, such as tcp://10.0.0.5:8786, that analyses parts of a film, or `local`; empty: none."""
    ffmpeg: Path | None = None
    """ffmpeg program; none: the one on PATH, else the packaged one."""
    notify_url: SecretStr = SecretStr("")
    """Web hook that is told what came of a pass over a library; empty: none. It may hold a key and is never shown."""
    notify_on: Literal["finish", "failure"] = "finish"
    """When it is told: whenever a pass made something, or on failures only."""


def load_config(path: Path | None, assignments: Sequence[str] = ()) -> TrailerConfig:
    """Defaults < the TOML file at path < assignments like `selection.max_rounds=8`.

    Raises InputError for a file, name or value that cannot be used.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the config file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML: {error}") from error
    for assignment in assignments:
        _assign(values, assignment)
    return parse_config(values)


def parse_config(values: dict[str, Any]) -> TrailerConfig:
    """Settings from a tree of values. Raises InputError, naming the field, for what cannot be used."""
    try:
        return TrailerConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"settings that cannot be used: {tell_faults(error)} (see `trailer config`)") from error


def tell_faults(error: ValidationError) -> str:
    """What is wrong with which field, in one line."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Put `a.b=v` into nested values; v is read as TOML where it is TOML, else as text."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise InputError(f"--set takes name=value, as in selection.max_rounds=8; got {assignment!r}")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {assignment}: {section} is not a section")
    values[last] = value
