"""Lay out the trailer: each slot filled from inside one shot, and the cards. Pure; no file is opened here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from pipeline.records import F64, Card, Cut, Film, Line, Placement, Selection, Shots, Span
from pipeline.settings import EditSettings
from pipeline.slots import Slots

STANDARD_RATES = tuple(
    Fraction(n, d)
    for n, d in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1))
)
FASTEST_RATE = Fraction(61)  # frames/s; a faster film is shown at a half, a quarter ... of its rate
SLOWEST_RATE = Fraction(20)  # frames/s; a slower one at a multiple
# A source time aims a quarter of a frame into the picture's display interval: containers round timestamps (Matroska to
# whole milliseconds), and a time on the very edge would show the neighbour after a few frames.
AIM = 0.25
IN_STEP = 0.045  # s that lips may be off the voice: a viewer notices more (ITU-R BT.1359: 45 ms early to 125 ms late)
SCRAP = 0.08  # s of somebody's sentence that may be heard with a cut
QUIET = 0.35  # rank of the music's loudness, up to which shots may dissolve
SHORTEST_DISSOLVE = 0.15  # s; less looks like a mistake
DISSOLVE_SHARE = 0.25  # of either cut that a dissolve may take


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


def usable_seconds(shots: Shots, times: F64, settings: EditSettings) -> F64:
    """Longest cut that each shot can give (n,), s, with the margins left out. times: timestamps of the film's pictures."""
    usual = float(np.median(np.diff(times)))
    seconds = np.zeros(len(shots))
    for number, span in enumerate(shots.shown):
        inside = _pictures_in(span, times)
        if len(inside) > 2 * settings.margin_frames:
            first, closing = inside[settings.margin_frames], inside[-settings.margin_frames]
            seconds[number] = max(0.0, closing - first - AIM * usual - 1e-6)
    return seconds


def _pictures_in(span: Span, times: F64) -> F64:
    first, last = (int(i) for i in np.searchsorted(times, [span.start - 1e-6, span.end - 1e-6]))
    return times[first:last]


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
    kept: Mapping[int, Cut] | None = None,
) -> tuple[Cut, ...]:
    """One cut per slot from the middle of its shot. times: timestamps of the film's pictures.

    placements: where a placed line begins over the very shot in which it is spoken, the cut is moved in the shot so that
    the lips are in step, if it can be. lines: all that is said in the film; a cut's own sound is left out where it would
    be a scrap of it. captions: what each slot shows, where known. kept: by slot, cuts of an earlier edit that stay, picture
    for picture. A shot too short for its slot is slowed down, by
    slots.slow_down at most. Raises ValueError when it is too short even then: selection must not allow it.
    """
    cuts: list[Cut] = []
    usual = float(np.median(np.diff(times)))
    usable = usable_seconds(shots, times, settings)
    spoken = np.array([[line.span.start, line.span.end] for line in lines]).reshape(-1, 2)
    for slot, (shot, length) in enumerate(zip(selection.shots, slots.lengths, strict=True)):
        clear = shots.shown[shot]
        speed = choose_speed(float(usable[shot]), float(length / slots.frame_rate), slots.slow_down)
        duration = length / slots.frame_rate * Fraction(speed).limit_denominator(10**4)
        source = place_cut(clear, duration, times, settings.margin_frames)
        for placed in placements:
            if (
                placed.slot == slot
                and placed.voice is None
                and clear.start <= placed.span.start < clear.end
                and speed == 1
            ):
                wanted = placed.span.start - float((placed.start_frame - slots.starts[slot]) / slots.frame_rate)
                moved = place_cut(clear, duration, times, settings.margin_frames, wanted=wanted)
                if abs(moved.start - AIM * usual - wanted) <= IN_STEP:
                    source = moved
        if kept and slot in kept:
            source, speed = kept[slot].source, kept[slot].speed
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
                sound=speed == 1 and not bool((overlap > SCRAP).any()),
                caption=captions[slot] if captions else "",
                speed=speed,
            )
        )
    return _dissolve(cuts, slots, shots, times, settings)


def choose_speed(usable: float, wanted: float, most: float) -> float:
    """1 where a shot of so many usable seconds lasts as long as wanted, else by how much it must be slowed down.

    most: share of its speed that may be taken. Less than 1 - most is never given: such a shot does not fit.
    """
    if usable + 1e-6 >= wanted:
        return 1.0
    return max(math.floor(usable / wanted * 10**4) / 10**4, round(1 - most, 4))


def _dissolve(cuts: Sequence[Cut], slots: Slots, shots: Shots, times: F64, settings: EditSettings) -> tuple[Cut, ...]:
    """The cuts, dissolving where the music is quiet and the shot before goes on for long enough."""
    done = list(cuts[:1])
    for slot, cut in enumerate(cuts[1:], 1):
        before = cuts[slot - 1]
        frames = 0
        if slot < slots.told and max(slots.energy[slot - 1 : slot + 1]) <= QUIET:
            inside = _pictures_in(shots.shown[before.shot], times)
            spare = (float(inside[-settings.margin_frames]) - before.source.end) / before.speed
            longest = DISSOLVE_SHARE * min(before.frames, cut.frames) / float(slots.frame_rate)
            seconds = min(settings.dissolve_seconds, spare, longest)
            frames = int(seconds * slots.frame_rate) if seconds >= SHORTEST_DISSOLVE else 0
        done.append(replace(cut, dissolve=frames))
    return tuple(done)


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


def make_cards(slots: Slots, title: str, settings: EditSettings) -> tuple[Card, ...]:
    """The title after the slots that tell, and the last card at the end, where there is room for them."""
    after, last = slots.closing or (slots.frames, slots.frames)
    spans = [(title.upper(), settings.tagline.strip(), slots.edges[-1], after)]
    spans.append((settings.end_text.strip(), "", last, slots.frames))
    return tuple(Card(text, start, end - start, note) for text, note, start, end in spans if end > start)


def describe_slowed(cuts: Sequence[Cut]) -> list[str]:
    """A line that says which cuts are slowed down, and by how much; none where none is."""
    slowed = [f"slot {cut.slot} by {100 * (1 - cut.speed):.0f} %" for cut in cuts if cut.speed < 1]
    return [f"slowed down, for their shots are too short: {', '.join(slowed)}"] if slowed else []
