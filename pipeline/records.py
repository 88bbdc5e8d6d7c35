"""The records that travel through the product: what was seen, chosen and planned.

Source times are float seconds on the clock of the file that the record names, taken from the container's timestamps and
never from frame index / average rate. Spans are half-open, [start, end). Trailer times are whole frames of the output
rate. Arrays are float32 unless said; row i belongs to item i; the shape stands at the field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

SAME_TIME = 1e-6  # s; two source times closer than this are one time
FOCUS_STEP = 0.5  # s of trailer between two points of a cut's focus


@dataclass(frozen=True, slots=True)
class Span:
    """[start, end) in seconds on the clock of one file."""

    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise ValueError(f"a span ends before it starts: {self.start} > {self.end}")

    @property
    def duration(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One sound track of a film. index: stream index in the container."""

    index: int
    codec: str
    language: str
    channels: int
    sample_rate: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """One subtitle track of a film. index: stream index in the container."""

    index: int
    codec: str
    language: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Film:
    """A film file as its container describes it. Nothing is decoded but the first frames.

    start: timestamp of the first picture in seconds (not 0 in many transport streams); duration: seconds of picture from
    there. width, height: coded pixels, before pixel aspect and rotation. rotation: degrees counter-clockwise that the
    picture is to be turned for display, one of 0, 90, 180, 270. frame_rate: nominal; times never come from it.
    """

    path: Path
    fingerprint: str
    start: float
    duration: float
    frame_rate: Fraction
    width: int
    height: int
    video_index: int
    audio: tuple[AudioStream, ...] = ()
    subtitles: tuple[SubtitleStream, ...] = ()
    rotation: int = 0
    pixel_aspect: Fraction = Fraction(1)
    transfer: str = ""
    primaries: str = ""
    matrix: str = ""
    full_range: bool = False
    interlaced: bool = False
    variable_rate: bool = False
    codec: str = ""
    pixel_format: str = ""

    def __post_init__(self) -> None:
        if self.duration <= 0 or self.width <= 0 or self.height <= 0 or self.frame_rate <= 0:
            raise ValueError(f"not a film: {self.duration} s, {self.width}x{self.height}, {self.frame_rate} frames/s")

    @property
    def end(self) -> float:
        """Seconds on the film's clock at which the last picture ends."""
        return self.start + self.duration

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) in square pixels as shown, rounded to even numbers."""
        width, height = Fraction(self.width) * self.pixel_aspect, Fraction(self.height)
        if self.rotation in (90, 270):
            width, height = height, width
        return max(2, round(width / 2) * 2), max(2, round(height / 2) * 2)


@dataclass(frozen=True, slots=True)
class Track:
    """A music file. duration: seconds of decoded sound."""

    path: Path
    fingerprint: str
    duration: float
    sample_rate: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one decode of the film saw.

    times (n,) float64: timestamp of every picture, on the film's clock, increasing.
    scores (n, 3): mean absolute difference to the previous picture in hue, saturation and value, 0..255; row 0 is zero.
    luma (n, 2): mean and standard deviation of the picture's luma, 0..255. focus (n, 3): where the shown picture changes
    most, x and y in 0..1 from the left and the top, and how much, 0..255 (0: nowhere).
    letterbox (4,): left, top, right, bottom as fractions of the shown width and height that are black throughout.
    sample_times (m,) float64: times of the sampled pictures; sample_bytes (k,) uint8: their JPEGs end to end;
    sample_offsets (m + 1,) int64: where each JPEG begins and ends.
    sound (w, b): RMS per window and frequency band, full scale = 1; sound_start s and sound_step s place window 0 on the
    film's clock; w = 0 for a silent film.
    blends (k, 2) float64: start and end of dissolves in seconds, found by how their pictures mix. transitions (n, 2): for
    every picture TransNetV2's probabilities that it is a transition's middle, and that it is part of one; n = 0 without it.
    warnings: what was wrong with the file and did not stop the pass.
    """

    film: Film
    times: F64
    scores: F32
    luma: F32
    focus: F32
    letterbox: F32
    sample_times: F64
    sample_bytes: U8
    sample_offsets: I64
    sound: F32
    sound_start: float
    sound_step: float
    blends: F64
    transitions: F32
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.times)
        if self.scores.shape != (n, 3) or self.luma.shape != (n, 2):
            raise ValueError("scores and luma must have one row a picture")
        if self.focus.shape != (n, 3):
            raise ValueError("focus must have one row a picture")
        if self.blends.shape[1:] != (2,) or self.transitions.shape not in ((0, 2), (n, 2)):
            raise ValueError("blends and transitions must have two columns")
        if len(self.sample_offsets) != len(self.sample_times) + 1:
            raise ValueError("sample_offsets must have one entry more than sample_times")
        if n > 1 and not (np.diff(self.times) > 0).all():
            raise ValueError("times must increase")


def _check_cover(spans: Sequence[Span], start: float, end: float) -> None:
    if not spans:
        raise ValueError("no spans")
    edges = [start, *(s.end for s in spans)]
    if (
        any(abs(s.start - e) > SAME_TIME for s, e in zip(spans, edges, strict=False))
        or abs(edges[-1] - end) > SAME_TIME
    ):
        raise ValueError("spans must touch one another and cover the whole")


@dataclass(frozen=True, slots=True)
class Shots:
    """The film's shots: spans that touch and cover the film.

    flags: per shot a frozenset of words such as "black", "static", "text", "credits", "opening", "ending".
    energy (n,): motion, 0..1 (rank within the film). luma (n,): mean luma, 0..255. clear: the part of each span that shows
    this shot alone, without the dissolves at its ends; given none, all of it. twins (n,) int64: the first shot that each
    one nearly repeats (the same camera on the same thing), itself where there is none. scenes (n,) int64: number of the
    scene that each is part of, never falling. Given neither, every shot is its own. secret: from when on the ending is kept
    secret, s on the film's clock; none: nothing is.
    """

    film: Film
    spans: tuple[Span, ...]
    flags: tuple[frozenset[str], ...]
    energy: F32
    luma: F32
    clear: tuple[Span, ...] = ()
    twins: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    scenes: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    secret: float | None = None

    def __post_init__(self) -> None:
        n = len(self.spans)
        if not self.clear:
            object.__setattr__(self, "clear", self.spans)
        for name in ("twins", "scenes"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.arange(n))
        if self.twins.shape != (n,) or self.scenes.shape != (n,) or (self.twins > np.arange(n)).any():
            raise ValueError("twins and scenes must have one entry a shot, and a twin must come before")
        pairs = zip(self.clear, self.spans, strict=False)
        if len(self.clear) != n or any(clear.start < span.start or clear.end > span.end for clear, span in pairs):
            raise ValueError("the clear part of a shot must lie within it")
        _check_cover(self.spans, self.film.start, self.film.end)
        if len(self.flags) != n or self.energy.shape != (n,) or self.luma.shape != (n,):
            raise ValueError("flags, energy and luma must have one entry a shot")

    @property
    def shown(self) -> tuple[Span, ...]:
        """What a trailer may show of each shot: what is clear of it, until the ending begins; may be of no length."""
        if self.secret is None:
            return self.clear
        return tuple(Span(part.start, max(part.start, min(part.end, self.secret))) for part in self.clear)

    def __len__(self) -> int:
        return len(self.spans)


@dataclass(frozen=True, slots=True)
class Segments:
    """A track cut into segments that touch and cover [0, duration) of what is used of it.

    energy (n,): loudness of each segment, 0..1 (rank within the track). beats: seconds on the track's clock, increasing.
    offset: seconds of the track before its used part; span, beat, peak and accent times count from there. peaks: seconds of
    the hits, the accents that stand out; accents: beats, and the onsets between them. parts: spans of the track that are
    played one after the other, blended at the joins; none: from offset on without a break. fade_seconds: at the end, where
    the track itself does not end there.
    """

    track: Track
    spans: tuple[Span, ...]
    energy: F32
    beats: F64
    offset: float = 0.0
    peaks: F64 = field(default_factory=lambda: np.zeros(0))
    accents: F64 = field(default_factory=lambda: np.zeros(0))
    parts: tuple[Span, ...] = ()
    fade_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.spans:
            raise ValueError("no segments")
        _check_cover(self.spans, 0.0, self.spans[-1].end)
        if self.energy.shape != (len(self.spans),):
            raise ValueError("energy must have one entry a segment")

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def duration(self) -> float:
        return self.spans[-1].end


@dataclass(frozen=True, slots=True)
class Features:
    """One unit vector a shot. source: fingerprint of the film; encoder: name@version; vectors (n, d)."""

    source: str
    encoder: str
    vectors: F32

    def __post_init__(self) -> None:
        norms = np.linalg.norm(self.vectors, axis=1)
        if self.vectors.ndim != 2 or not np.allclose(norms, 1.0, atol=1e-3):
            raise ValueError("features must be unit rows")


@dataclass(frozen=True, slots=True)
class Selection:
    """One film shot per slot, as SSMP filled them.

    shots (J,) film shot per slot; confidence (J,) 0..1; remasked, revised (J,): times hidden again, candidate changes.
    excluded: shot -> why it could not be chosen. model: name and SHA-256 of the checkpoint. warnings: what was changed
    for the user. pinned: slots that a person pinned. runners_up (J,): shots that each slot could have had instead, with
    their probabilities where all other slots are as they are, best first.
    """

    film: str
    track: str
    shots: tuple[int, ...]
    confidence: tuple[float, ...]
    remasked: tuple[int, ...]
    revised: tuple[int, ...]
    rounds: int
    forced: int
    excluded: dict[str, str]
    model: dict[str, str]
    pinned: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    runners_up: tuple[tuple[tuple[int, float], ...], ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.shots)) != len(self.shots):
            raise ValueError("a shot was chosen twice")
        if not len(self.shots) == len(self.confidence) == len(self.remasked) == len(self.revised):
            raise ValueError("one entry a slot")


@dataclass(frozen=True, slots=True)
class Line:
    """One subtitle sentence and when it is spoken, on the film's clock."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Placement:
    """A line laid over the trailer: it starts at trailer frame start_frame, in this slot.

    span: what is heard, on the film's clock; where voice names a sound file, on that file's clock.
    """

    line: int
    text: str
    span: Span
    slot: int
    start_frame: int
    similarity: float
    voice: Path | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """One entry of the edit: trailer frames [start_frame, start_frame + frames) show the film from source.start on.

    sound: whether the film's own sound is heard with it; not where that would be a scrap of somebody's sentence. caption:
    what it shows, in words, where that was asked. speed: of the film, 1 as it was shot, less: slowed down; source lasts
    speed times as long as the cut. dissolve: trailer frames at its start over which the cut before it, played on, fades
    into it. focus: what the crop to another aspect follows: (x, y), 0..1 of the active picture, FOCUS_STEP s of trailer
    apart from the cut's start on, straight between them; none: the middle.
    """

    slot: int
    shot: int
    source: Span
    start_frame: int
    frames: int
    confidence: float = 1.0
    pinned: bool = False
    sound: bool = True
    caption: str = ""
    speed: float = 1.0
    dissolve: int = 0
    focus: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.frames <= 0 or self.start_frame < 0:
            raise ValueError(f"cut {self.slot}: {self.frames} frames from {self.start_frame}")
        if not 0.5 <= self.speed <= 1.0:
            raise ValueError(f"cut {self.slot}: a speed of {self.speed}, not 0.5 to 1")
        if not 0 <= self.dissolve <= self.frames:
            raise ValueError(f"cut {self.slot}: a dissolve of {self.dissolve} frames in {self.frames}")
        if not all(0.0 <= x <= 1.0 and 0.0 <= y <= 1.0 for x, y in self.focus):
            raise ValueError(f"cut {self.slot}: a focus outside the picture")


@dataclass(frozen=True, slots=True)
class Card:
    """A title on black over trailer frames [start_frame, start_frame + frames). note: smaller, under it."""

    text: str
    start_frame: int
    frames: int
    note: str = ""

    def __post_init__(self) -> None:
        if self.frames <= 0 or self.start_frame < 0:
            raise ValueError(f"card {self.text!r}: {self.frames} frames from {self.start_frame}")


@dataclass(frozen=True, slots=True)
class FilmReference:
    """The film as an edit list names it: enough to find it, to know it again and to render from it.

    bars: left, top, right, bottom of the shown picture, as shares of its width and height, that are black and cropped.
    story: from when to when on the film's clock may be shown and told, as the guards found it; none: not known.
    """

    path: Path
    fingerprint: str
    duration: float
    frame_rate: Fraction
    width: int
    height: int
    start: float = 0.0
    bars: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    story: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        left, top, right, bottom = self.bars
        if not (min(self.bars) >= 0 and left + right <= 0.9 and top + bottom <= 0.9):
            raise ValueError(f"bars of {self.bars} leave too little of the picture")
        if self.story is not None and not self.story[0] <= self.story[1]:
            raise ValueError(f"a story that ends before it begins: {self.story}")


@dataclass(frozen=True, slots=True)
class Output:
    """What the trailer is to be. frames: its whole length at frame_rate.

    fade_in, fade_out: frames at its start and end over which it comes from black and goes to black.
    """

    width: int
    height: int
    frame_rate: Fraction
    frames: int
    loudness_lufs: float
    fade_in: int = 0
    fade_out: int = 0


@dataclass(frozen=True, slots=True)
class Music:
    """The track under the trailer. offset: seconds into the track at trailer frame 0; segments: slot starts, seconds of
    trailer; beats, accents (beats and onsets between them): seconds of trailer. parts, fade_seconds: as in Segments."""

    path: Path
    fingerprint: str
    offset: float
    segments: tuple[float, ...]
    beats: tuple[float, ...] = ()
    accents: tuple[float, ...] = ()
    parts: tuple[Span, ...] = ()
    fade_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EditList:
    """A whole trailer as a value: everything needed to render it. Cuts and cards touch and cover [0, output.frames).

    banned: shots that a person does not want to see again.
    """

    version: str
    seed: int
    title: str
    film: FilmReference
    output: Output
    cuts: tuple[Cut, ...]
    cards: tuple[Card, ...]
    narration: tuple[Placement, ...]
    music: Music
    models: dict[str, Any]
    config: dict[str, Any]
    shots: tuple[Span, ...]
    warnings: tuple[str, ...] = ()
    banned: tuple[int, ...] = ()

    @property
    def pieces(self) -> tuple[Cut | Card, ...]:
        """Cuts and cards in the trailer's order."""
        both: list[Cut | Card] = [*self.cuts, *self.cards]
        return tuple(sorted(both, key=lambda piece: piece.start_frame))

    def __post_init__(self) -> None:
        at = 0
        for piece in self.pieces:
            if piece.start_frame != at:
                raise ValueError(f"frame {at} of the trailer is shown by nothing or twice (next: {piece.start_frame})")
            at += piece.frames
        if at != self.output.frames:
            raise ValueError(f"cuts and cards cover {at} frames of {self.output.frames}")
        for cut in self.cuts:
            shot = self.shots[cut.shot]
            if cut.source.start < shot.start - SAME_TIME or cut.source.end > shot.end + SAME_TIME:
                raise ValueError(f"cut {cut.slot} leaves its shot {cut.shot}")
            if abs(cut.source.duration - cut.speed * cut.frames / self.output.frame_rate) > 1 / self.output.frame_rate:
                raise ValueError(f"cut {cut.slot}: source_start to source_end does not last its {cut.frames} frames")
        self._check_dissolves()

    def _check_dissolves(self) -> None:
        for before, cut in zip([None, *self.pieces], self.pieces, strict=False):
            if not isinstance(cut, Cut) or not cut.dissolve:
                continue
            if not isinstance(before, Cut):
                raise ValueError(f"cut {cut.slot} dissolves, and no cut comes before it")
            reach = before.source.end + cut.dissolve * before.speed / self.output.frame_rate
            if reach > self.shots[before.shot].end + SAME_TIME:
                raise ValueError(f"cut {cut.slot} dissolves out of a shot that has ended")


@dataclass(frozen=True, slots=True)
class Check:
    """One figure of the QC gate. value and limit in the unit that the name carries."""

    name: str
    passed: bool
    value: float | str
    limit: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What was measured on a finished trailer, and whether it may leave the house."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Trailer:
    """A finished trailer file and the plan it was made from."""

    path: Path
    edit: EditList
    duration: float
