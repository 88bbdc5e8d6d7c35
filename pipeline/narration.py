"""Place the trailer's lines: each over the shots that it goes with, in the order in which they are said.

The programme is the supplement's equation 13 of SSMP (arXiv 2512.04426), with its two slips mended (a line must fit its
slot, and not the other way round; the first line may take the first slot), and generalised: a line may run over several
slots, and may be left out at a cost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pipeline.errors import NoSolutionError
from pipeline.records import F32, F64, I64, Placement
from pipeline.script import Captions, Narration, Script, ScriptLine
from pipeline.settings import NarrationSettings, Score
from pipeline.slots import Slots

SAME_LENGTH = 1e-9  # s; sums of decimal lengths differ by rounding alone
OPENING_SECONDS, OPENING_COST = 1.0, 0.3  # a trailer that speaks before anything was seen has lost its viewer's ear
LEAD = Fraction(3, 20)  # s from a slot's start, where the music hits, to the line that begins in it


def align_narration(
    similarity: F32 | F64,
    line_durations: Sequence[float] | F64,
    slot_durations: Sequence[float] | F64,
    *,
    spans: bool = True,
    score: str = "mean",
    skip_cost: float | None = None,
) -> tuple[tuple[int, int] | None, ...]:
    """The slots (first, last) of each line, both counted in, None for a line that is left out; the order is kept.

    similarity (N, J): of line n with slot j; durations in seconds. The sum of similarities, less skip_cost for each line
    left out, is the largest possible. spans: a line takes the fewest slots from its first on that last long enough, and
    counts with their mean, or with that of its first slot (score="start"); without spans it takes one slot that is long
    enough. skip_cost: none: no line is left out. Equation 13 is spans=False without skipping; all is O(N J).
    Raises NoSolutionError where the lines do not all fit and none may be left out.
    """
    c = np.asarray(similarity, np.float64)
    if not c.size:  # no lines, or no slots: written as [] or [[], []]
        c = c.reshape(len(line_durations), len(slot_durations))
    lines, slots = np.asarray(line_durations, np.float64), np.asarray(slot_durations, np.float64)
    if c.shape != (len(lines), len(slots)):
        raise ValueError(f"similarity {c.shape} for {len(lines)} lines and {len(slots)} slots")
    if score not in ("mean", "start"):
        raise ValueError(f"score is mean or start, not {score}")
    n_lines, n_slots = c.shape
    edges = np.concatenate([[0.0], np.cumsum(slots)])
    sums = np.concatenate([np.zeros((n_lines, 1)), np.cumsum(c, axis=1)], axis=1)
    starts = np.arange(n_slots)
    # best[j]: of the lines so far in the first j slots. first[n, j]: slot where line n then begins, -1 left out
    best = np.zeros(n_slots + 1)
    first = np.full((n_lines, n_slots + 1), -1, np.int64)
    ends = np.zeros((n_lines, n_slots), np.int64)  # one past the last slot of line n when it begins in slot k
    for n in range(n_lines):
        ends[n] = _find_ends(edges, lines[n], slots, spans)
        fits = np.flatnonzero(ends[n] <= n_slots)
        gain = c[n, fits]
        if spans and score == "mean":
            gain = (sums[n, ends[n, fits]] - sums[n, fits]) / (ends[n, fits] - starts[fits])
        value, begin = _best_by_end(best[fits] + gain, fits, ends[n, fits], n_slots)
        if skip_cost is not None:
            left_out = best - skip_cost
            take = value > left_out
            value, begin = np.where(take, value, left_out), np.where(take, begin, -1)
        best, first[n] = value, begin
    if best[n_slots] == -np.inf:
        raise NoSolutionError(
            f"{n_lines} lines of {lines.sum():.1f} s do not fit {n_slots} slots of {slots.sum():.1f} s in their order"
        )
    placed: list[tuple[int, int] | None] = []
    j = n_slots
    for n in range(n_lines - 1, -1, -1):
        at = int(first[n, j])
        placed.append(None if at < 0 else (at, int(ends[n, at]) - 1))
        j = j if at < 0 else at
    return tuple(reversed(placed))


def _find_ends(edges: F64, duration: float, slots: F64, spans: bool) -> I64:
    """One past the last slot of a line that begins in each slot; more than there are slots where it does not fit."""
    if not spans:
        return np.where(slots + SAME_LENGTH >= duration, np.arange(len(slots)) + 1, len(slots) + 1)
    ends = np.searchsorted(edges, edges[:-1] + duration - SAME_LENGTH)
    return np.maximum(ends, np.arange(len(slots)) + 1).astype(np.int64)  # a line of no length takes a slot, too


def _best_by_end(value: F64, begin: I64, end: I64, n_slots: int) -> tuple[F64, I64]:
    """(n_slots + 1,) the best of those that end at or before each slot edge, and where it begins (-1: there is none)."""
    best = np.full(n_slots + 1, -np.inf)
    at = np.full(n_slots + 1, -1, np.int64)
    np.maximum.at(best, end, value)
    is_best = value == best[end]
    at[end[is_best]] = begin[is_best]
    running = np.maximum.accumulate(best)
    # where the running best was set: the last edge at which it rose
    rose = np.concatenate([[True], running[1:] > running[:-1]])
    return running, at[np.maximum.accumulate(np.where(rose, np.arange(n_slots + 1), 0))]


def place_lines(script: Script, captions: Captions, slots: Slots, peaks: F64, settings: NarrationSettings) -> Narration:
    """Where each line of the script starts, in whole frames. peaks: hits of the music, seconds of trailer.

    Lines keep their order and stand at least gap_seconds apart. What does not fit is left out, the least worth first,
    and named in the warnings.
    """
    rate = slots.frame_rate
    lengths = np.array([float(frames / rate) for frames in slots.lengths[: slots.told]])
    room = lengths.copy()
    room[-1] += settings.gap_seconds  # nothing is said after the last slot
    wanted = _score_slots(captions.similarity[:, : slots.told], lengths, np.array(slots.energy[: slots.told]), settings)
    needed = [float(LEAD) + line.span.duration + settings.gap_seconds for line in script.lines]
    kept, dropped = _choose_fitting(script.lines, needed, room)
    chosen = align_narration(wanted[kept], [needed[n] for n in kept], room, score=settings.score.value) if kept else ()
    placements = []
    for n, slot_span in zip(kept, chosen, strict=True):
        assert slot_span is not None
        line, (first, last) = script.lines[n], slot_span
        end = float(slots.edges[last + 1] / rate) + (settings.gap_seconds if last + 1 == slots.told else 0.0)
        latest = end - settings.gap_seconds - line.span.duration
        frame = choose_frame(
            float(min(slots.edges[first] / rate + LEAD, (slots.edges[first + 1] - 1) / rate)),
            min(latest, float((slots.edges[first + 1] - 1) / rate)),
            peaks,
            rate,
            settings.peak_seconds,
        )
        similarity = captions.similarity[n, first : last + 1]
        placements.append(
            Placement(
                line=line.number,
                text=line.text,
                span=line.span,
                slot=first,
                start_frame=frame,
                similarity=round(float(similarity[0] if settings.score is Score.start else similarity.mean()), 4),
                voice=line.voice,
            )
        )
    left_out = [script.lines[n] for n in dropped]
    warnings = [
        f"the line “{line.text}” ({line.span.duration:.1f} s) was left out: it does not fit beside the others"
        for line in left_out
    ]
    return Narration(tuple(placements), tuple(warnings))


def _score_slots(similarity: F32, lengths: F64, energy: F64, settings: NarrationSettings) -> F64:
    """(N, J): similarity, less what a place far from the line's share of the trailer costs, and what a loud one costs.

    **choice**: similarity alone heaps the lines up wherever the captions happen to be alike, and has no ear.
    """
    n_lines = len(similarity)
    middles = np.cumsum(lengths) - lengths / 2
    share = lengths.sum() / max(1, n_lines)
    own = (np.arange(n_lines) + 0.5) * share
    away = np.minimum(np.abs(middles[None, :] - own[:, None]) / share, 2.0)
    opening = np.cumsum(lengths) - lengths < OPENING_SECONDS
    cost = settings.spread_weight * away**2 + (settings.quiet_weight * energy + OPENING_COST * opening)[None, :]
    return np.asarray(similarity - cost, np.float64)


def _choose_fitting(lines: Sequence[ScriptLine], needed: Sequence[float], room: F64) -> tuple[list[int], list[int]]:
    """The lines that fit together, and those left out, the least worth first."""

    def fit(numbers: Sequence[int]) -> bool:
        edges = np.concatenate([[0.0], np.cumsum(room)]).tolist()
        slot = 0
        for n in numbers:  # each as early as it can: if that fails, all do
            end = bisect_left(edges, edges[slot] + needed[n] - SAME_LENGTH)
            if slot >= len(room) or end > len(room):
                return False
            slot = max(end, slot + 1)
        return True

    kept = list(range(len(lines)))
    dropped: list[int] = []
    while not fit(kept):
        worst = min(kept, key=lambda n: (lines[n].worth, -n))
        kept.remove(worst)
        dropped.append(worst)
    for n in sorted(dropped, key=lambda n: (-lines[n].worth, n)):  # a long one may have gone after shorter ones
        if fit(sorted([*kept, n])):
            kept = sorted([*kept, n])
            dropped.remove(n)
    return kept, dropped


def choose_frame(earliest: float, latest: float, peaks: F64, rate: Fraction, apart: float) -> int:
    """The first whole frame from `earliest` to `latest` seconds that lies `apart` seconds or more from every peak.

    Where there is none, the one farthest from any.
    """
    first = int(np.ceil(earliest * float(rate) - 1e-6))
    frames = np.arange(first, max(first, int(np.floor(latest * float(rate) + 1e-6))) + 1)
    if not len(peaks):
        return first
    distance = np.abs(frames[:, None] / float(rate) - peaks[None, :]).min(axis=1)
    clear = np.flatnonzero(distance >= apart)
    return int(frames[clear[0]] if len(clear) else frames[np.argmax(distance)])
