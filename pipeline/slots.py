"""Plan a trailer's grid: slots in whole frames that follow the music, the title, a last beat, a last card. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from pipeline.errors import NoSolutionError
from pipeline.records import Segments
from pipeline.settings import EditSettings

FEWEST_SLOTS = 3  # less is no trailer
SHORTEST_SPLIT = 0.5  # s; a slot is not split into less
BEFORE = 0.1  # of a frame that a cut may come before the attack that it belongs to
SHORTEST_SLOT = 0.4  # s; a segment that the title cuts off so soon is part of the one before
SHORTEST_WITH_BUTTON = 20.0  # s; a shorter trailer ends with its title
SHARE_SHOWN, SHARE_ASKED = 0.75, 0.95  # of the usable shots that a trailer shows: by itself, when a length is asked for
MOST_OF_SHOT = 1.5  # usual slots that one shot counts for, however long it is
CARD_SHARE = 0.25  # of a trailer's length that a card takes at most
CLOSING_SLACK = 0.6  # of its length, by which a closing part may begin sooner or later, for a mark in the music


@dataclass(frozen=True, slots=True)
class Slots:
    """The trailer's grid in frames at frame_rate.

    Slot j before the title is [edges[j], edges[j + 1]); the title begins at edges[-1]. closing: the frame after the title,
    and the one after one more slot, the last beat, that follows it; equal: there is none. The last card fills the rest.
    None: the title goes on to the end. energy: loudness of the music in each slot, 0..1. slow_down: most by which shots
    must be slowed down so that every slot has one.
    """

    frame_rate: Fraction
    edges: tuple[int, ...]
    frames: int
    energy: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    closing: tuple[int, int] | None = None
    slow_down: float = 0.0

    def __len__(self) -> int:
        return self.told + (self.button is not None)

    @property
    def told(self) -> int:
        """Slots before the title: those that lines are laid over."""
        return len(self.edges) - 1

    @property
    def button(self) -> tuple[int, int] | None:
        """First frame of the slot after the title, and the frame after its last; None where the trailer ends with cards."""
        return self.closing if self.closing is not None and self.closing[1] > self.closing[0] else None

    @property
    def lengths(self) -> list[int]:
        """Frames of each slot."""
        after = [] if self.button is None else [self.button[1] - self.button[0]]
        return [b - a for a, b in pairwise(self.edges)] + after

    @property
    def starts(self) -> list[int]:
        """First frame of each slot."""
        return [*self.edges[:-1], *([] if self.button is None else [self.button[0]])]


def longest_trailer(seconds: Sequence[float], share: float, mean_seconds: float, settings: EditSettings) -> float:
    """Seconds of trailer that so many usable shots are enough for, when it shows this share of them and of their time.

    seconds: what each can give; mean_seconds: the usual slot. Not every shot should be needed, or none is chosen.
    """
    shown = share * min(len(seconds) * mean_seconds, sum(min(s, MOST_OF_SHOT * mean_seconds) for s in seconds))
    return float(shown + settings.card_seconds + (settings.end_seconds if settings.end_text.strip() else 0.0))


def say_too_few(seconds: Sequence[float]) -> str:
    """Why shots that can give so many seconds each are no trailer."""
    if len(seconds) >= FEWEST_SLOTS:
        least = sorted(seconds)[-FEWEST_SLOTS]
        return (
            f"{len(seconds)} can be used, but the music's beats ask for {FEWEST_SLOTS} that last longer than {least:.1f} s "
            "(--length and music.mean_seconds make other slots)"
        )
    usable = f"{len(seconds)} can be used, for {max(seconds):.1f} s at most" if seconds else "none can be used"
    return f"{usable}, and a trailer needs {FEWEST_SLOTS} or more (the settings guards.* say what may not be shown)"


def plan_slots(segments: Segments, seconds: Sequence[float], frame_rate: Fraction, settings: EditSettings) -> Slots:
    """One slot per music segment; after them the title, one more slot as a last beat, and a last card if it has a text.

    seconds: what each usable shot can give; every slot needs a shot of its own that is long enough. Where the music asks
    for more, its longest slots are split at a beat, then shots are slowed down, and the trailer ends sooner when there are
    too few. Raises NoSolutionError when fewer than three slots can be filled.
    """
    total = round(Fraction(segments.duration).limit_denominator(10**6) * frame_rate)
    edges = sorted({_frame_at(span.start, frame_rate) for span in segments.spans} | {0})
    edges = [edge for edge in edges if edge < total]
    # hits first: a beat may be one that nothing is played on
    heard = [
        [_frame_at(float(time), frame_rate) for time in marks]
        for marks in (segments.peaks, segments.beats, segments.accents)
    ]
    marks = (edges, *heard)
    lasting = _share_closing(float(total / frame_rate), settings)
    tail = sum(lasting) * frame_rate
    title = _place(marks, total - tail, CLOSING_SLACK * tail, 1, max(1, round(total - 0.6 * tail))) if tail else total
    button, end = _place_closing(marks, lasting, title, total)
    closest = round(SHORTEST_SLOT * frame_rate)
    edges = [edge for edge in edges if edge == 0 or edge <= title - closest] + [title]
    pool = sorted((int(s * frame_rate + 1e-6) for s in seconds), reverse=True)
    wanted = len(edges) - 1 + (end > button)
    fitted = _make_fit(edges, end - button, pool, heard, frame_rate, settings.slow_down)
    edges = fitted.edges
    warnings = []
    if fitted.split:
        warnings.append(f"{fitted.split} slot(s) longer than the shots at hand were split at a beat")
    sooner = title - edges[-1]  # by which all that follows moves
    closing = (button - sooner, end - sooner)
    if sooner:
        again = _place_closing(marks, lasting, edges[-1], total - sooner)
        if again[1] - again[0] <= end - button:  # or its shot may be too short
            closing = again
        warnings.append(
            f"{len(pool)} usable shots for {wanted} slots: the trailer has {len(edges) - 1 + (end > button)} "
            f"slots and ends after {float((total - sooner) / frame_rate):.1f} s instead of {float(total / frame_rate):.1f} s"
        )
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    if closing[1] > closing[0]:
        middles.append(sum(closing) / 2)
    energy = tuple(_energy_at(segments, middle / float(frame_rate)) for middle in middles)
    return Slots(frame_rate, tuple(edges), total - sooner, energy, tuple(warnings), closing, fitted.slow_down)


def _frame_at(seconds: float, rate: Fraction) -> int:
    """The frame that begins with what is heard then, or next: a picture that comes before its hit looks like a mistake."""
    return max(0, math.ceil(seconds * float(rate) - BEFORE))


def _energy_at(segments: Segments, seconds: float) -> float:
    starts = [span.start for span in segments.spans]
    return float(segments.energy[max(0, bisect_right(starts, seconds) - 1)])


def _share_closing(seconds: float, settings: EditSettings) -> tuple[float, float, float]:
    """Seconds of the title, of the last beat and of the last card in a trailer of so many seconds."""
    card = min(settings.card_seconds, CARD_SHARE * seconds)
    button = settings.button_seconds if seconds >= SHORTEST_WITH_BUTTON and card else 0.0
    end = min(settings.end_seconds, CARD_SHARE * seconds) if settings.end_text.strip() else 0.0
    return card, button, end


def _place(marks: Sequence[Sequence[int]], wanted: float, slack: float, low: int, high: int) -> int:
    """The mark nearest to a frame, within the slack and [low, high], of the first kind that has one; else the frame."""
    for kind in marks:
        near = [mark for mark in kind if low <= mark <= high and abs(mark - wanted) <= slack]
        if near:
            return min(near, key=lambda mark: (abs(mark - wanted), mark))
    return min(max(low, round(wanted)), high)


def _place_closing(
    marks: Sequence[Sequence[int]], lasting: tuple[float, float, float], title: int, total: int
) -> tuple[int, int]:
    """First frame of the last beat and the frame after it, between the title's start and the last card."""
    card, button, end = lasting
    if not button + end:
        return total, total
    share = (total - title) / (card + button + end)  # the three share what there is as they were to
    last = total
    if end:
        last = _place(marks, total - end * share, CLOSING_SLACK * end * share, title + 1, total - 1)
    if not button:
        return last, last
    return _place(marks, last - button * share, CLOSING_SLACK * button * share, title + 1, last - 1), last


@dataclass(frozen=True, slots=True)
class _Fitted:
    edges: list[int]
    split: int
    slow_down: float


def _make_fit(
    edges: list[int],
    button: int,
    pool: list[int],
    marks: Sequence[Sequence[int]],
    rate: Fraction,
    slow_down: float,
) -> _Fitted:
    """Edges whose slots, and the button of so many frames, can each have a shot of their own.

    pool: frames that each shot can give, longest first. A slot is filled by any shot that is long enough, so slots fit if
    and only if the k-th longest slot is no longer than the k-th longest shot, for every k. What is too long is split at a
    beat while there are shots to spare, then shots are slowed down, then the last slot before the title goes.
    """
    edges = list(edges)
    split = 0
    while True:
        slots = sorted(((b - a, -number) for number, (a, b) in enumerate(pairwise(edges))), reverse=True)
        if button:
            slots = sorted([*slots, (button, 1)], reverse=True)
        if len(slots) < FEWEST_SLOTS or len(edges) < 2 or not pool:
            raise NoSolutionError(say_too_few([float(frames / rate) for frames in pool]))
        short = [-number for rank, (length, number) in enumerate(slots) if rank < len(pool) and length > pool[rank]]
        if not short and len(slots) <= len(pool):
            return _Fitted(edges, split, 0.0)
        splittable = [n for n in short if n >= 0 and edges[n + 1] - edges[n] >= 2 * SHORTEST_SPLIT * rate]
        if splittable and len(slots) < len(pool):
            start, end = edges[splittable[0]], edges[splittable[0] + 1]
            least = int(SHORTEST_SPLIT * rate)  # a beat half a second on, rounded down to a frame, is good enough
            edges.insert(splittable[0] + 1, _place(marks, (start + end) // 2, end - start, start + least, end - least))
            split += 1
            continue
        slowed = [int(frames / (1 - slow_down)) for frames in pool]
        if len(slots) <= len(pool) and all(a <= b for (a, _), b in zip(slots, slowed, strict=False)):
            return _Fitted(edges, split, slow_down)
        edges.pop()
