"""Bring a track to a length as a music editor does: its opening joined to its ending where they sound alike, or looped.

Everything is a pure function of arrays. Times are seconds of the track unless said. The whole module is a **choice**: the
paper takes the track as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from pipeline.hearing import (
    FAINT,
    FRAME_RATE,
    LEAD,
    MOST_COLUMNS,
    RANGE_DB,
    RATE,
    Hearing,
    hold_librosa,
    keep_apart,
)
from pipeline.records import F32, F64, I64, Bool, Span

JOIN_SECONDS = 0.03  # s over which a part fades into the next, up to the join: the attack after it stays as it is
SOFT_START = 0.008  # s in which a part from the middle of a track comes in at the trailer's start
QUIET_LEAD, QUIET_TAIL = 0.5, 1.0  # s of silence that may be before the music, and that may stay after it
MOST_SILENCE = 0.6  # s that may be silent at the end, so that beats and length agree
RING, WHOLE_RING = 0.3, 3.0  # s after the last hit: at least; as long as a tail is missed
LONGEST_FADE = 1.5  # s
LEAST_PART = 4.0  # s of a part that begins or ends the trailer
LEAST_LOOP = 1.4  # s
FEWEST_POINTS = 8  # beats (or accents) without which joins are tried every GRID s
GRID = 0.25  # s
REGULAR = 0.12  # deviation of the beats' intervals, in beats, up to which bars can be counted
FEATURE_HOP = 1024  # samples
# what is compared at a join, in beats from it: what is heard there against what would have followed, and come before
CONTEXT = {-2: 0.15, -1: 0.3, 0: 0.35, 1: 0.2}
TIMBRE = 0.12  # of a standard deviation of the MFCCs, against chromas at right angles
LEVEL_DB = 8.0  # by which a join may make the music quieter at a cost of 1
RISE_DB = 4.0  # by which the music should be louder in the trailer's climax than in its first third
# costs; 1 is a join at any beat that happens to be in the same place of the bar
ODD_BARS = 0.1  # for what is no multiple of two bars, and again of four
NO_RISE, TIME_TO_RISE = 1.0, 30.0  # at no rise of loudness at all, in a trailer of so many s
NO_ENDING, NO_OPENING, LATE_START = 1.0, 0.7, 0.15  # the track's own ending, its own opening, its first bars left out
SHORT_TAIL, SILENT_TAIL = 0.15, 0.2
AGAIN = 0.1  # for every time that a loop is played once more
LOOPS, MOST_OTHER = 24, 3  # jumps back that are tried, and how often the second of two may be taken
ACROSS = 0.6  # of a join's cost where opening meets ending: what follows need not be what would have followed
UNEVEN = 1.0  # opening and ending of very different lengths
TRIED = 400  # candidates, best joins first, whose whole course is looked at


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Parts of the track that are played one after the other, and the fade at their end, s; 0: the track ends there."""

    parts: tuple[Span, ...]
    fade_seconds: float = 0.0

    @property
    def duration(self) -> float:
        """Seconds; of the last part only what is in the track counts."""
        return sum(part.duration for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Body:
    """Where the music is: first and last sound; last: its last hit; early, late: where a trailer may end with it."""

    start: float
    end: float
    last: float
    early: float
    late: float


# --- what is played ---------------------------------------------------------------------------------------------------


def find_body(hearing: Hearing, duration: float) -> Span:
    """The track without more than a moment of silence at its ends; all of a silent track."""
    audible = np.flatnonzero(hearing.loudness > -RANGE_DB)
    if not len(audible):
        return Span(0.0, duration)
    first, end = audible[0] / FRAME_RATE, min(duration, (audible[-1] + 1) / FRAME_RATE)
    start = float(first - QUIET_LEAD / 5) if first > QUIET_LEAD else 0.0
    return Span(start, float(min(duration, end + QUIET_TAIL)))


def arrange(samples: F32, sample_rate: int, hearing: Hearing, length: float) -> Arrangement:
    """The parts of a track that make `length` seconds of it.

    samples: the whole track, mono (n,); hearing: of it. Longer tracks give their opening and their ending, joined at two
    beats in the same place of the bar that sound alike; or one part, where no join is good. Shorter ones are looped at such
    a join. The parts last `length`, or up to MOST_SILENCE less where the track ends before.
    """
    duration = len(samples) / sample_rate
    body = _find_body(hearing, duration)
    if body.start + length <= body.late and body.start + length >= body.end:
        return _finish([Span(body.start, body.start + length)], body, duration)
    points, rows, levels, bar = _find_points(samples, sample_rate, hearing, body)
    unlike = _compare(rows, levels, bar)
    for beats in dict.fromkeys((bar, 1)):
        found = (_cut if length < body.end - body.start else _loop)(points, unlike, beats, hearing, body, length)
        if found is not None:
            return _finish(found, body, duration)
    spans, left = [], length
    while left > 0:  # nothing repeats in it: all of it, again and again
        spans.append(Span(body.start, body.start + min(left, body.end - body.start)))
        left -= spans[-1].duration
    return _finish(spans, body, duration)


def _find_body(hearing: Hearing, duration: float) -> _Body:
    span = find_body(hearing, duration)
    played = hearing.accents[hearing.strength >= FAINT]
    audible = np.flatnonzero(hearing.loudness > -RANGE_DB)
    end = min(span.end, float(audible[-1] + 1) / FRAME_RATE) if len(audible) else span.end
    last = float(played[-1]) if len(played) else end
    return _Body(span.start, end, last, min(end, max(last + RING, end - 2 * WHOLE_RING)), end + MOST_SILENCE)


def _finish(parts: Sequence[Span], body: _Body, duration: float) -> Arrangement:
    """The parts, the last one within the track, with a fade where the track goes on."""
    *others, last = parts
    whole = last.end >= body.end - 0.05
    tail = last.end - body.last
    fade = 0.0 if whole else min(LONGEST_FADE, 0.7 * tail if tail > 0 else LONGEST_FADE, last.duration / 2)
    return Arrangement((*others, Span(last.start, min(last.end, duration))), round(fade, 3))


def _find_points(samples: F32, sample_rate: int, hearing: Hearing, body: _Body) -> tuple[F64, F64, F64, int]:
    """Times (m,) at which the track may be cut; how it sounds from each on, rows (m, d), and how loud, dB (m,); how many
    of them make a bar."""
    times, regular = hearing.beats, False
    steps = np.diff(times)
    if len(times) >= FEWEST_POINTS:
        regular = float(np.std(steps) / np.median(steps)) < REGULAR
    else:
        times = hearing.accents
    times = times[(times > body.start + LEAD) & (times <= min(body.last, body.early))] - LEAD
    if len(times) < FEWEST_POINTS:
        times, regular = np.arange(body.start + GRID, body.early - GRID, GRID), False
    rows = _describe(samples, sample_rate, times, body.end)
    frames = np.round(np.append(times, body.end) * FRAME_RATE).astype(np.int64)
    power = _sum_power(hearing)
    frames = np.clip(frames, 0, len(power) - 2)
    means = (power[np.maximum(frames[1:], frames[:-1] + 1)] - power[frames[:-1]]) / np.maximum(np.diff(frames), 1)
    return times, rows, 10 * np.log10(means + 1e-9), _count_bar(rows) if regular else 1


def _describe(samples: F32, sample_rate: int, times: F64, end: float) -> F64:
    """(m, 12 + 13): chroma and MFCCs between each time and the next, so scaled that distances compare."""
    with hold_librosa():
        from librosa import power_to_db, resample
        from librosa.feature import chroma_stft, melspectrogram, mfcc

        sound = samples if sample_rate == RATE else resample(samples, orig_sr=sample_rate, target_sr=RATE)
        chroma = chroma_stft(y=sound, sr=RATE, n_fft=4096, hop_length=FEATURE_HOP, tuning=0.0, norm=None)
        bands = melspectrogram(y=sound, sr=RATE, n_fft=2048, hop_length=FEATURE_HOP)
        timbre = mfcc(S=power_to_db(bands, top_db=None), n_mfcc=14)
    edges = np.append(times, max(end, times[-1] + 2 * FEATURE_HOP / RATE)) * RATE / FEATURE_HOP
    frames = np.clip(np.round(edges).astype(np.int64), 0, chroma.shape[1] - 1)
    frames[1:] = np.maximum(frames[1:], frames[:-1] + 1)

    def mean(values: F64) -> F64:
        sums = np.cumsum(np.pad(values.astype(np.float64), ((0, 0), (1, 2 + len(times)))), axis=1)
        return np.asarray(((sums[:, frames[1:]] - sums[:, frames[:-1]]) / np.diff(frames)).T)

    harmony, colour = mean(chroma), mean(timbre[1:])  # the first is the level
    harmony /= np.maximum(np.linalg.norm(harmony, axis=1, keepdims=True), 1e-9)
    colour = (colour - colour.mean(axis=0)) / np.maximum(colour.std(axis=0), 1e-9)
    return np.hstack([harmony / np.sqrt(2), TIMBRE * colour])


def _count_bar(rows: F64) -> int:
    """Beats of a bar, 3 or 4: at which distance beats are more alike, once and twice."""

    def unlike(lag: int) -> float:
        return float(np.mean(np.linalg.norm(rows[lag:] - rows[:-lag], axis=1)))

    if len(rows) < 24:
        return 4
    return 3 if unlike(3) + unlike(6) < unlike(4) + unlike(8) else 4


def _compare(rows: F64, levels: F64, bar: int) -> F64:
    """(m, m): how badly the music would be joined by going on with point j where point i was due; 1: as any two beats.

    It may grow louder at once, as at a new section, but not quieter; and whole phrases of 4 bars are better left whole.
    """
    squares = (rows**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0.0))
    m = len(rows)
    unlike = np.zeros((m, m))
    for step, weight in CONTEXT.items():
        at = np.clip(np.arange(m) + step, 0, m - 1)
        unlike += weight * apart[np.ix_(at, at)]
    away = ~np.eye(m, dtype=bool)
    unlike /= max(float(np.median(unlike[away])) if m > 1 else 1.0, 1e-9)
    lags = np.abs(np.arange(m)[:, None] - np.arange(m))
    unlike += ODD_BARS * ((lags % (2 * bar) > 0).astype(np.float64) + (lags % (4 * bar) > 0))
    return np.asarray(unlike + np.maximum(levels[:, None] - levels - LEVEL_DB / 8, 0) / LEVEL_DB)


def _cut(points: F64, unlike: F64, bar: int, hearing: Hearing, body: _Body, length: float) -> list[Span] | None:
    """Opening and ending, or one part, of a track that is too long. None where the bars do not allow it."""
    found: list[tuple[float, list[Span]]] = []
    power = _sum_power(hearing)
    starts = [body.start, *points[: 4 * bar]]
    for number, start in enumerate(starts):
        late = 0.0 if start == body.start else LATE_START * (1 + number / bar)
        # the opening to point i, then from point j to the end
        first = points - start
        wanted = length - first
        low = np.maximum(np.searchsorted(points, body.early - wanted), np.arange(len(points)) + 1)
        high = np.searchsorted(points, body.late - wanted, "right")
        usable = (first >= LEAST_PART) & (wanted >= LEAST_PART)
        for i in np.flatnonzero(usable & (high > low)):
            for j in range(int(low[i]), int(high[i])):
                if (j - i) % bar == 0:
                    end = float(points[j] + wanted[i])
                    share = float(first[i]) / length
                    cost = (
                        ACROSS * unlike[i, j]
                        + late
                        + _tail_cost(end, body)
                        + UNEVEN * max(0.0, abs(share - 0.45) - 0.2) * 4
                    )
                    found.append((cost, [Span(float(start), float(points[i])), Span(float(points[j]), end)]))
    # one part with the track's ending, or one that ends on a boundary
    for start in starts[:1] + list(points):
        end = float(start) + length
        missing = 0.0 if start == body.start else NO_OPENING
        if body.early <= end <= body.late:
            found.append((missing + _tail_cost(end, body), [Span(float(start), end)]))
        elif end < body.early and len(points):
            off = float(np.abs(points - end).min())
            found.append((missing + NO_ENDING + 4 * off, [Span(float(start), end)]))
    if not found and bar == 1:
        return [Span(body.end - length, body.end)]
    return _choose(found, power, length)


def _loop(points: F64, unlike: F64, bar: int, hearing: Hearing, body: _Body, length: float) -> list[Span] | None:
    """A track that is too short, one or two stretches of it played several times. None where the bars do not allow it.

    The track may begin some beats into its first bar, so that whole bars and the length agree.
    """
    found: list[tuple[float, list[Span]]] = []
    for skipped, start in enumerate([body.start, *points[: bar if bar > 1 else 0]]):
        least, most = length - (body.late - start), length - (body.early - start)
        back = _find_loops(points, unlike, bar, max(0, skipped))
        for i, j in back:
            for times in range(1, int(most / float(points[i] - points[j])) + 1):
                left = most - times * float(points[i] - points[j])
                others = [((i, j), 0)] if left <= most - least else []
                for other in back:
                    lag = float(points[other[0]] - points[other[1]])
                    more = int(left / lag)
                    if 1 <= more <= MOST_OTHER and left - more * lag <= most - least:
                        others.append((other, more))
                for other, more in others:
                    jumps = [(i, j)] * times + [other] * more
                    if more and other[0] <= j + bar:  # it would be passed already
                        continue
                    parts = _follow(points, jumps, start, length)
                    cost = unlike[i, j] * np.sqrt(times) + unlike[other] * np.sqrt(more) + AGAIN * (len(jumps) - 1)
                    found.append((cost + LATE_START * skipped / 2 + _tail_cost(parts[-1].end, body), parts))
    return _choose(found, _sum_power(hearing), length)


def _find_loops(points: F64, unlike: F64, bar: int, first: int) -> list[tuple[int, int]]:
    """The best jump back, (from, to), for each number of bars; the LOOPS best of them."""
    best = []
    for lag in range(bar, len(points) - first, bar):
        to = first + int(np.argmin(np.diagonal(unlike, -lag)[first:]))
        if points[to + lag] - points[to] >= LEAST_LOOP:
            best.append((to + lag, to))
    return sorted(best, key=lambda jump: float(unlike[jump]))[:LOOPS]


def _follow(points: F64, jumps: Sequence[tuple[int, int]], start: float, length: float) -> list[Span]:
    """The parts of a course that starts there, takes the jumps one after the other, and lasts `length`."""
    parts, at, left = [], float(start), length
    for come, go in jumps:
        parts.append(Span(at, float(points[come])))
        left -= parts[-1].duration
        at = float(points[go])
    return [*parts, Span(at, at + left)]


def _tail_cost(end: float, body: _Body) -> float:
    missed = max(0.0, min(WHOLE_RING, body.end - body.last) - (end - body.last))
    return SHORT_TAIL * missed**2 + SILENT_TAIL * max(0.0, end - body.end) / MOST_SILENCE


def _choose(found: list[tuple[float, list[Span]]], power: F64, length: float) -> list[Span] | None:
    """The cheapest, when it also counts whether the music rises, in a trailer that has the time for it."""
    weight = NO_RISE * min(1.0, length / TIME_TO_RISE)
    best = sorted(found, key=lambda one: one[0])[:TRIED]
    return min(best, key=lambda one: one[0] + weight * _miss_rise(one[1], power))[1] if best else None


def _sum_power(hearing: Hearing) -> F64:
    return np.concatenate([[0.0], np.cumsum(10 ** (hearing.loudness / 10))])


def _miss_rise(parts: Sequence[Span], power: F64) -> float:
    """0 where the parts are RISE_DB louder in the trailer's climax than in its first third; 1 where they are no louder."""
    total = sum(part.duration for part in parts)

    def level(start: float, end: float) -> float:
        at, gathered = 0.0, 1e-9
        for part in parts:
            low, high = max(start, at), min(end, at + part.duration)
            if high > low:
                frames = np.clip(np.array([low, high]) - at + part.start, 0, (len(power) - 1) / FRAME_RATE) * FRAME_RATE
                gathered += float(np.diff(np.interp(frames, np.arange(len(power)), power))[0])
            at += part.duration
        return 10 * float(np.log10(gathered / (end - start)))

    rise = level(0.55 * total, 0.85 * total) - level(0.0, total / 3)
    return min(2.0, max(0.0, 1 - rise / RISE_DB))


# --- playing it -------------------------------------------------------------------------------------------------------


def join_parts(samples: F32, sample_rate: int, parts: Sequence[Span], total: int) -> F32:
    """`total` samples of a track's parts one after the other, (total,) or (total, channels) as samples are.

    Every sample lies where its part puts it, to the nearest sample of its time. Over JOIN_SECONDS before a join what comes
    before the next part in the track is faded in, at equal power however alike the two are, so that the join is over
    before the attack that follows it. Silence where the parts, or the track, end before.
    """
    joined = np.zeros((total, *samples.shape[1:]), np.float32)
    at = 0.0
    for number, part in enumerate(parts):
        begin, first = round(at * sample_rate), round(part.start * sample_rate)
        at += part.duration
        size = min(total, round(at * sample_rate)) - begin
        if size <= 0:
            break
        piece = samples[first : first + size]
        joined[begin : begin + len(piece)] = piece
        fade = min(round(JOIN_SECONDS * sample_rate), first, begin)
        if number and fade:
            before, after = joined[begin - fade : begin], samples[first - fade : first]
            joined[begin - fade : begin] = _blend(before, after[: len(before)])
        elif first:
            rise = np.linspace(0, 1, min(len(piece), round(SOFT_START * sample_rate)), dtype=np.float32)
            joined[: len(rise)] *= rise.reshape(-1, *(1,) * (samples.ndim - 1))
    return joined


def _blend(before: F32, after: F32) -> F32:
    """Fade from one piece to another of the same size; equal power for pieces of any likeness (their correlation)."""
    a, b = (np.ravel(x).astype(np.float64) for x in (before, after))
    scale = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    alike = min(1.0, max(0.0, float(a @ b) / scale)) if scale > 0 else 1.0
    up = ((np.arange(len(before)) + 1) / (len(before) + 1)).astype(np.float32)
    gain = 1 / np.sqrt(up**2 + (1 - up) ** 2 + 2 * alike * up * (1 - up))
    shape = (-1, *(1,) * (before.ndim - 1))
    return np.asarray(before * ((1 - up) * gain).reshape(shape) + after * (up * gain).reshape(shape), np.float32)


def join_hearing(hearing: Hearing, parts: Sequence[Span], total: float) -> Hearing:
    """What is heard in `total` seconds of the parts played one after the other: times on their clock."""
    every = max(hearing.every, ceil(total * FRAME_RATE / MOST_COLUMNS))
    frames, silent = _frames_of(parts, total, 1)
    columns, _ = _frames_of(parts, total, every)
    if not len(hearing.loudness):  # silence
        return hearing
    loudness = np.where(silent, -RANGE_DB, hearing.loudness[np.clip(frames, 0, len(hearing.loudness) - 1)])
    tempogram = hearing.tempogram[np.clip(columns // hearing.every, 0, len(hearing.tempogram) - 1)]
    starts = np.concatenate([[0.0], np.cumsum([part.duration for part in parts])])

    def move(times: F64) -> tuple[F64, I64]:
        """Times on the parts' clock, and which of the given each is."""
        kept = [np.flatnonzero((times >= part.start) & (times < part.end)) for part in parts]
        moved = [times[k] - part.start + at for k, part, at in zip(kept, parts, starts, strict=False)]
        return np.concatenate(moved), np.concatenate(kept)

    accents, which = move(hearing.accents)
    strength = hearing.strength[which]
    is_beat = np.isin(hearing.accents, hearing.beats)[which]
    kept: Bool = keep_apart(accents, strength + is_beat) & (accents < total)
    return replace(
        hearing,
        tempogram=tempogram,
        every=every,
        loudness=loudness - loudness.max(initial=-RANGE_DB),
        beats=accents[kept & is_beat],
        accents=accents[kept],
        strength=strength[kept],
    )


def _frames_of(parts: Sequence[Span], total: float, every: int) -> tuple[I64, Bool]:
    """The track's frame at every `every`-th frame of the parts, and True where they have ended."""
    times = np.arange(0, ceil(total * FRAME_RATE) + 1, every) / FRAME_RATE
    edges = np.concatenate([[0.0], np.cumsum([part.duration for part in parts])])
    number = np.clip(np.searchsorted(edges, times, "right") - 1, 0, len(parts) - 1)
    frames = (np.array([part.start for part in parts])[number] + times - edges[number]) * FRAME_RATE
    return np.round(frames).astype(np.int64), np.asarray(times > edges[-1] + 1e-9, np.bool_)
