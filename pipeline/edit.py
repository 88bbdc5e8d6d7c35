"""Lay out the trailer: slots in whole frames, each filled from inside one shot. Pure; no file is opened here."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from pipeline.errors import NoSolutionError
from pipeline.records import F64, Card, Cut, Film, Line, Placement, Segments, Selection, Shots, Span
from pipeline.settings import EditSettings, VideoSettings

STANDARD_RATES = tuple(
    Fraction(n, d)
    for n, d in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1))
)
FASTEST_RATE = Fraction(61)  # frames/s; a faster film is shown at a half, a quarter ... of its rate
SLOWEST_RATE = Fraction(20)  # frames/s; a slower one at a multiple
FEWEST_SLOTS = 3  # less is no trailer
SHORTEST_SPLIT = 0.5  # s; a slot is not split into less
# A source time aims a quarter of a frame into the picture's display interval: containers round timestamps (Matroska to
# whole milliseconds), and a time on the very edge would show the neighbour after a few frames.
AIM = 0.25
IN_STEP = 0.045  # s that lips may be off the voice: a viewer notices more (ITU-R BT.1359: 45 ms early to 125 ms late)
SCRAP = 0.08  # s of somebody's sentence that may be heard with a cut


@dataclass(frozen=True, slots=True)
class Slots:
    """The trailer's grid in frames at frame_rate.

    Slot j before the title is [edges[j], edges[j + 1]). button: first frame, and the frame after the last, of one more slot
    after the title; none: the trailer ends with it. Title and last card fill what is left of [0, frames). energy: loudness
    of the music in each slot, 0..1.
    """

    frame_rate: Fraction
    edges: tuple[int, ...]
    frames: int
    energy: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    button: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.told + (self.button is not None)

    @property
    def told(self) -> int:
        """Slots before the title: those that lines are laid over."""
        return len(self.edges) - 1

    @property
    def lengths(self) -> list[int]:
        """Frames of each slot."""
        after = [] if self.button is None else [self.button[1] - self.button[0]]
        return [b - a for a, b in pairwise(self.edges)] + after

    @property
    def starts(self) -> list[int]:
        """First frame of each slot."""
        return [*self.edges[:-1], *([] if self.button is None else [self.button[0]])]


def choose_frame_rate(film: Film) -> Fraction:
    """The trailer's frame rate: the film's, brought to a standard one when it varies and into 20 to 61 frames/s."""
    rate = film.frame_rate
    if film.variable_rate:
        rate = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    while rate > FASTEST_RATE:
        rate /= 2
    if rate < SLOWEST_RATE:
        rate *= math.ceil(SLOWEST_RATE / rate)
    return rate


def choose_size(film: Film, settings: VideoSettings) -> tuple[int, int]:
    """Width and height in square pixels, even, at most max_height tall (wide, for an upright film)."""
    width, height = film.display_size
    scale = min(1.0, settings.max_height / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def usable_seconds(shots: Shots, times: F64, settings: EditSettings) -> F64:
    """Longest cut that each shot can give (n,), s, with the margins left out. times: timestamps of the film's pictures."""
    usual = float(np.median(np.diff(times)))
    seconds = np.zeros(len(shots))
    for number, span in enumerate(shots.clear):
        inside = _pictures_in(span, times)
        if len(inside) > 2 * settings.margin_frames:
            first, closing = inside[settings.margin_frames], inside[-settings.margin_frames]
            seconds[number] = max(0.0, closing - first - AIM * usual - 1e-6)
    return seconds


def _pictures_in(span: Span, times: F64) -> F64:
    first, last = (int(i) for i in np.searchsorted(times, [span.start - 1e-6, span.end - 1e-6]))
    return times[first:last]


def plan_slots(segments: Segments, seconds: Sequence[float], frame_rate: Fraction, settings: EditSettings) -> Slots:
    """One slot per music segment, the card over the last of them.

    seconds: what each usable shot can give; every slot needs a shot of its own that is long enough. Where the music asks
    for more, its longest slots are split at a beat, and the trailer ends sooner when there are too few shots.
    Raises NoSolutionError when fewer than three slots can be filled.
    """
    total = round(Fraction(segments.duration).limit_denominator(10**6) * frame_rate)
    edges = sorted({round(Fraction(s.start).limit_denominator(10**6) * frame_rate) for s in segments.spans} | {0})
    edges = [edge for edge in edges if edge < total]
    beats = [round(float(beat * frame_rate)) for beat in segments.beats]
    card = _place_card(edges, beats, total, frame_rate, settings)
    edges = [edge for edge in edges if edge < card] + [card]
    pool = sorted((int(s * frame_rate + 1e-6) for s in seconds), reverse=True)
    wanted = len(edges) - 1
    card_frames = total - card
    edges, split = _make_fit(edges, pool, beats, frame_rate)
    warnings = []
    if split:
        warnings.append(f"{split} slot(s) longer than the shots at hand were split at a beat")
    if edges[-1] < card:
        warnings.append(
            f"{len(pool)} usable shots for {wanted} slots: the trailer has {len(edges) - 1} slots and ends after "
            f"{float((edges[-1] + card_frames) / frame_rate):.1f} s instead of {float(total / frame_rate):.1f} s"
        )
    energy = [_energy_at(segments, float((a + b) / 2 / frame_rate)) for a, b in pairwise(edges)]
    return Slots(frame_rate, tuple(edges), edges[-1] + card_frames, tuple(energy), tuple(warnings))


def _energy_at(segments: Segments, seconds: float) -> float:
    starts = [span.start for span in segments.spans]
    return float(segments.energy[max(0, bisect_right(starts, seconds) - 1)])


def _place_card(edges: list[int], beats: list[int], total: int, rate: Fraction, settings: EditSettings) -> int:
    """First frame of the card: a segment boundary near where it should start, else a beat, else just there."""
    if settings.card_seconds == 0:
        return total
    wanted = total - round(Fraction(settings.card_seconds).limit_denominator(1000) * rate)
    slack = float(settings.card_seconds * rate) * 0.6
    for marks in (edges, beats):
        near = [mark for mark in marks if 0 < mark < total and abs(mark - wanted) <= slack]
        if near:
            return min(near, key=lambda mark: (abs(mark - wanted), mark))
    return max(1, wanted)


def _make_fit(edges: list[int], pool: list[int], beats: list[int], rate: Fraction) -> tuple[list[int], int]:
    """Edges whose slots can each have a shot of their own. pool: frames that each shot can give, longest first.

    A slot is filled by any shot that is long enough, so slots fit if and only if the k-th longest slot is no longer
    than the k-th longest shot, for every k.
    """
    edges = list(edges)
    split = 0
    while True:
        slots = sorted(((b - a, -number) for number, (a, b) in enumerate(pairwise(edges))), reverse=True)
        if len(slots) < FEWEST_SLOTS or not pool:
            longest = float(pool[0] / rate) if pool else 0.0
            raise NoSolutionError(
                f"only {len(pool)} shot(s) of the film can be used, the longest for {longest:.1f} s: "
                f"too few for a trailer of at least {FEWEST_SLOTS} slots (loosen guards.* or shorten music.mean_seconds)"
            )
        short = [-number for rank, (length, number) in enumerate(slots) if rank < len(pool) and length > pool[rank]]
        if not short and len(slots) <= len(pool):
            return edges, split
        if short and len(slots) < len(pool):
            start, end = edges[short[0]], edges[short[0] + 1]
            if end - start >= 2 * SHORTEST_SPLIT * rate:
                inside = [
                    beat for beat in beats if start + SHORTEST_SPLIT * rate <= beat <= end - SHORTEST_SPLIT * rate
                ]
                middle = (start + end) // 2
                edges.insert(short[0] + 1, min(inside, key=lambda beat: abs(beat - middle)) if inside else middle)
                split += 1
                continue
        edges.pop()


def lay_out(
    slots: Slots,
    selection: Selection,
    shots: Shots,
    times: F64,
    settings: EditSettings,
    *,
    placements: Sequence[Placement] = (),
    lines: Sequence[Line] = (),
    captions: Sequence[str] = (),
) -> tuple[Cut, ...]:
    """One cut per slot from the middle of its shot. times: timestamps of the film's pictures.

    placements: where a placed line begins over the very shot in which it is spoken, the cut is moved in the shot so that
    the lips are in step, if it can be. lines: all that is said in the film; a cut's own sound is left out where it would
    be a scrap of it. captions: what each slot shows, where known. Raises ValueError when a shot is too short for its
    slot: selection must not allow it.
    """
    cuts = []
    usual = float(np.median(np.diff(times)))
    spoken = np.array([[line.span.start, line.span.end] for line in lines]).reshape(-1, 2)
    for slot, (shot, length) in enumerate(zip(selection.shots, slots.lengths, strict=True)):
        clear, duration = shots.clear[shot], length / slots.frame_rate
        source = place_cut(clear, duration, times, settings.margin_frames)
        for placed in placements:
            if placed.slot == slot and placed.voice is None and clear.start <= placed.span.start < clear.end:
                wanted = placed.span.start - float((placed.start_frame - slots.starts[slot]) / slots.frame_rate)
                moved = place_cut(clear, duration, times, settings.margin_frames, wanted=wanted)
                if abs(moved.start - AIM * usual - wanted) <= IN_STEP:
                    source = moved
        overlap = np.minimum(spoken[:, 1], source.end) - np.maximum(spoken[:, 0], source.start)
        cuts.append(
            Cut(
                slot=slot,
                shot=shot,
                source=source,
                start_frame=slots.starts[slot],
                frames=length,
                confidence=round(selection.confidence[slot], 4),
                pinned=slot in selection.pinned,
                sound=not bool((overlap > SCRAP).any()),
                caption=captions[slot] if captions else "",
            )
        )
    return tuple(cuts)


def place_cut(shot: Span, duration: Fraction, times: F64, margin: int, *, wanted: float | None = None) -> Span:
    """Where in its shot a cut of this duration lies: the middle, on a picture, margin pictures from either end.

    wanted: seconds at which it should begin instead; it begins on the picture nearest to it that leaves it in the shot.
    """
    usual = float(np.median(np.diff(times)))
    inside = _pictures_in(shot, times)
    seconds = float(duration)
    begin = (shot.start + shot.end - seconds) / 2 if wanted is None else wanted
    if len(inside) > 2 * margin:
        steps = np.minimum(np.diff(np.append(inside, shot.end)), usual)
        starts = (inside + AIM * steps)[margin:]
        fitting = starts[starts + seconds <= inside[-margin] + 1e-6]
        if len(fitting):
            start = float(fitting[np.argmin(np.abs(fitting - AIM * usual - begin))])
            return Span(start, start + seconds)
    raise ValueError(f"a cut of {seconds:.3f} s does not fit the shot {shot.start:.3f} to {shot.end:.3f}")


def make_cards(slots: Slots, title: str) -> tuple[Card, ...]:
    """The title card after the last slot, if there is room for one."""
    start = slots.edges[-1]
    return (Card(title.upper(), start, slots.frames - start),) if slots.frames > start else ()
