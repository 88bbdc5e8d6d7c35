"""Cut a track into segments, one trailer slot each.

Published (section 8 of the method): onset strength with hop 256 -> tempogram -> change points by ruptures' KernelCPD
with the linear kernel, int(duration / 2) - 1 of them. Here a change makes the accent next to it worth more, and the edges
are the accents that are worth most and whose distances spread as the shots of real trailers do. What is ours and not the
paper's is marked **choice**. hearing.py listens; music_parts.py brings the track to a length.

Everything is a pure function of arrays; sound.py reads the file. A frame is one hop of the onset strength (11.6 ms). Times
are seconds of what is played: the track's parts, one after the other.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.hearing import BARE, FRAME_RATE, Hearing, listen
from pipeline.music_parts import Arrangement, arrange, find_body, join_hearing, join_parts
from pipeline.records import F32, F64, I64, Bool, Segments, Span, Track
from pipeline.settings import ASSETS, MusicSettings

SHORTEST_TRACK = 4.0  # s; less holds no tempogram window
# Lengths of segments that follow one another, in usual lengths. Any phrase may follow any other; the first comes first.
PHRASES = (
    (3.0, 0.9, 0.3, 0.3, 0.3, 0.3, 0.6),
    (1.4, 0.35, 2.5, 0.35, 0.35),
    (0.6, 0.3, 0.3, 0.3, 2.3, 0.9),
    (2.8, 0.3, 0.3, 0.3, 0.8),
)
SPREAD = 0.3  # octaves that a segment may be off for a cost of 1
FAR = 2.0  # times SPREAD, beyond which the cost grows in proportion: where there is nothing to cut on, so be it
FAINT_COST = 24.0  # of an edge, times the square of what its onset is weaker than 1
STEP_GAIN = 4.0  # off its cost, times what it is stronger
BARE_COST, FILLER_COST = 80.0, 3.0  # of a beat that nothing is played on; of a place in a gap without accents
CHANGE = 0.4  # strength that a change of rhythm adds
LAST_WEIGHT = 0.1  # of the last segment's length: the tail of the last hit lasts as long as it does
PACE_WINDOW = 2.0  # s over which the loudness is taken
PACE, PACE_DB = 2.5, 8.0  # segments are so many times shorter 8 dB above the median loudness, and longer 8 dB below
RISE, CLIMAX_AT = 4.0, 0.8  # times faster at 0.8 of the trailer than at its start, whatever the loudness
PACE_BOUNDS = (0.62, 2.2)  # of the mean pace: never under 20 nor over 60 cuts a minute for long
HELD, MIDDLE = 3.0, 2.2  # times the mean length that a segment may last, where shots may be held and elsewhere
SHORTEST_HELD = 4.0  # no shot is held longer than this part of the trailer
OPENING, BREATH = 0.25, 8.0  # share of the trailer at its start, s before the climax, where shots may be held
CALM = 0.6  # of the usual pace and below: bursts are so much slower there, in octaves
TOO_LONG = 60.0  # cost of twice the longest
WINDOW = 20.0  # s that are looked back for the edge before
TRIES, STEP = 8, 1.25  # of the clock's speed, to come near the count, and times faster or slower at first
SHORT, FEWEST = 15.0, 7  # s under which a trailer has so many segments, however long they should be: enough to cut with
PEAK_STRENGTH = 0.8  # of an accent that nobody should speak into: 1 is as loud as the loudest tenth of the onsets


def segment_music(
    track: Track, samples: F32, sample_rate: int, settings: MusicSettings, *, length: float | None = None
) -> Segments:
    """Cut a track, brought to `length` seconds, into segments for a trailer's slots.

    samples: the whole track, mono (n,), at sample_rate. length: of the trailer; a longer track is shortened and a shorter
    one looped (music_parts.arrange); none takes all of it but silence at its ends. The spans cover [0, length) exactly.
    Where there is no accent to hold on to the grid is even.
    Raises InputError for a track or a length shorter than 4 s, or with samples that are not numbers.
    """
    duration = len(samples) / sample_rate
    bad = ~np.isfinite(samples)
    if bad.any():
        raise InputError(
            f"{track.path} decodes to samples that are not numbers, the first at {np.argmax(bad) / sample_rate:.2f} s: "
            "convert it to WAV or FLAC, or take other music"
        )
    if duration < SHORTEST_TRACK:
        raise InputError(f"{track.path} lasts {duration:.2f} s; music must last at least {SHORTEST_TRACK:g} s")
    if length is not None and length < SHORTEST_TRACK:
        raise InputError(f"{length:.2f} s of music are asked for; the least is {SHORTEST_TRACK:g} s")
    heard = listen(samples, sample_rate)
    played = (
        Arrangement((find_body(heard, duration),)) if length is None else arrange(samples, sample_rate, heard, length)
    )
    parts = () if length is None else played.parts
    length = played.duration if length is None else length
    hearing = join_hearing(heard, played.parts, length)
    if length < SHORT:
        settings = settings.model_copy(update={"mean_seconds": min(settings.mean_seconds, length / FEWEST)})
    # int(duration / mean) - 1 change points, as published, make int(duration / mean) segments
    count = max(1, min(int(length / settings.mean_seconds + 1e-9), int(length / settings.min_seconds)))
    edges = np.linspace(0, length, count + 1)
    if len(hearing.accents):
        edges = place_edges(hearing, find_changes(hearing, count, settings.min_seconds), length, count, settings)
    spans = tuple(Span(float(a), float(b)) for a, b in pairwise(edges))
    part = join_parts(samples, sample_rate, played.parts, ceil(length * sample_rate))
    return Segments(
        track,
        spans,
        rank_loudness(part, sample_rate, spans),
        hearing.beats,
        offset=played.parts[0].start,
        peaks=hearing.accents[hearing.strength >= PEAK_STRENGTH],
        accents=hearing.accents,
        parts=parts,
        fade_seconds=played.fade_seconds,
    )


# --- segments ---------------------------------------------------------------------------------------------------------


def find_changes(hearing: Hearing, count: int, min_seconds: float) -> F64:
    """Seconds of the count - 1 changes of rhythm; none where there are too few columns for as many."""
    from ruptures import KernelCPD

    columns = len(hearing.tempogram)
    if count < 2 or columns < 2 * count:
        return np.zeros(0)
    least = max(1, min(int(min_seconds * FRAME_RATE / hearing.every), columns // (count + 1)))
    changes = KernelCPD(kernel="linear", min_size=least).fit(hearing.tempogram).predict(n_bkps=count - 1)
    return np.array(changes[:-1]) * hearing.every / FRAME_RATE


def place_edges(hearing: Hearing, changes: F64, length: float, count: int, settings: MusicSettings) -> F64:
    """(segments + 1,) edges from 0 to length on accents, about `count` segments between them.

    **choice**: of all ways through the accents the cheapest by dynamic programming. An accent costs less the stronger it
    is, and less still where the rhythm changes. A segment costs the square of how far its length is, in octaves, from what
    PHRASES want there: held shots, middling ones and bursts, so that the lengths spread as real trailers' do. Lengths are
    taken on a clock that runs faster where the music is loud and toward the end, so that the climax is cut faster than the
    opening. The shortest segment is min_seconds; the longest HELD times the mean, and MIDDLE times where nothing is to be
    held: after the opening and but for the breath before the climax and the ending.
    """
    if count < 2:
        return np.array([0.0, length])
    grid = np.arange(len(hearing.loudness) + 1) / FRAME_RATE
    clock = _make_clock(hearing, length, settings.mean_seconds)
    times, costs, heard = _list_edges(hearing, changes, length, settings)
    at = np.interp(times, grid, clock)
    pace = np.interp(times, grid[1:], np.diff(clock)) * FRAME_RATE * settings.mean_seconds
    held = min(HELD, max(1.5, length / SHORTEST_HELD / settings.mean_seconds))
    longest = settings.mean_seconds * np.where(_may_hold(hearing, times, length), held, min(MIDDLE, held))
    best, speed, bounds = np.array([0.0, length]), count / at[-1], [0.0, np.inf]
    for _ in range(TRIES):
        found = times[
            _find_path(times, at * speed, costs, heard, np.clip(pace, CALM, 1), settings.min_seconds, longest)
        ]
        short = count - (len(found) - 1)
        if abs(short) < abs(count - (len(best) - 1)):
            best = found
        if not short:
            break
        bounds[int(short < 0)] = speed
        within = bounds[0] > 0 and bounds[1] < np.inf
        speed = float(np.sqrt(bounds[0] * bounds[1]) if within else speed * STEP ** np.sign(short))
    return best


def _make_clock(hearing: Hearing, length: float, mean: float) -> F64:
    """(frames + 1,) segments of the usual length by each frame: the clock that place_edges takes lengths on."""
    from scipy.ndimage import uniform_filter1d

    level = uniform_filter1d(hearing.loudness, round(PACE_WINDOW * FRAME_RATE), mode="nearest")
    middle = np.median(level[: max(1, round(length * FRAME_RATE))])
    place = np.clip(np.arange(len(level)) / FRAME_RATE / (CLIMAX_AT * length), 0, 1)
    pace = PACE ** np.clip((level - middle) / PACE_DB, -1, 1) * RISE ** (place - 0.5)
    for _ in range(3):  # bounded about its mean, which the bounds move
        pace = np.clip(pace / pace.mean(), *PACE_BOUNDS)
    return np.concatenate([[0.0], np.cumsum(pace)]) / FRAME_RATE / mean


def _may_hold(hearing: Hearing, times: F64, length: float) -> Bool:
    """(n,) where a segment that ends at each time may be held: in the opening, before the climax, and at the end."""
    from scipy.ndimage import uniform_filter1d

    power = uniform_filter1d(10 ** (hearing.loudness / 10), round(max(1.0, length / 6) * FRAME_RATE), mode="constant")
    frames = np.arange(len(power)) / FRAME_RATE
    climax = float(frames[np.argmax(np.where(frames > length / 2, power, 0))]) - length / 12
    opening = times <= OPENING * length + 1e-9
    before = (times > climax - BREATH) & (times <= climax + 1.0)
    may: Bool = opening | before | (times >= length)
    return may


def _list_edges(hearing: Hearing, changes: F64, length: float, settings: MusicSettings) -> tuple[F64, F64, Bool]:
    """Times (n,) at which a segment may begin or end, 0 and length among them; what an edge at each costs; True where
    something is heard to hold on to."""
    inside = (hearing.accents > 0) & (hearing.accents < length)
    accents, strength = hearing.accents[inside], hearing.strength[inside].copy()
    for i in _snap(changes, accents, strength, settings.mean_seconds / 2):
        strength[i] += CHANGE
    weak = 1 - strength
    costs = np.where(strength > BARE + 1e-9, np.where(weak > 0, FAINT_COST * weak**2, STEP_GAIN * weak), BARE_COST)
    marks = np.concatenate([[0.0], accents, [length]])
    fillers: list[F64] = [np.zeros(0)]
    for start, end in pairwise(marks):
        if end - start > MIDDLE * settings.mean_seconds:
            pieces = ceil((end - start) / settings.mean_seconds)
            fillers.append(np.linspace(start, end, pieces + 1)[1:-1])
    between = np.concatenate(fillers)
    times = np.concatenate([marks, between])
    costs = np.concatenate([[0.0], costs, [0.0], np.full(len(between), FILLER_COST)])
    order = np.argsort(times, kind="stable")
    heard = np.arange(len(times)) < len(marks)
    return times[order], costs[order], heard[order]


def _find_path(times: F64, clock: F64, costs: F64, heard: Bool, contrast: F64, least: float, longest: F64) -> I64:
    """Numbers of the edges of the cheapest way from times[0] to times[-1].

    times, clock, costs, heard (n,): of every possible edge. contrast, longest (n,): of a segment that ends there: the share
    of octaves by which short ones are shorter than usual, and the seconds beyond which it costs more and more. A state
    says which part of which phrase the segment that ends there is.
    """
    parts = [(phrase, place) for phrase, units in enumerate(PHRASES) for place in range(len(units))]
    units = np.log2([PHRASES[phrase][place] for phrase, place in parts])
    number = {part: state for state, part in enumerate(parts)}
    ends = [number[phrase, len(PHRASES[phrase]) - 1] for phrase in range(len(PHRASES))]
    # what may come before each state: the part before it, or the last part of any other phrase
    before = [
        [number[phrase, place - 1]] if place else [e for p, e in enumerate(ends) if p != phrase]
        for phrase, place in parts
    ]
    n, states = len(times), len(parts)
    entry = np.full((n, states), np.inf)  # cost of having come to an edge, to go on with a state
    came = np.zeros((n, states), np.int64)  # the state before it
    back = np.zeros((n, states), np.int64)  # the edge before it
    total = np.full((n, states), np.inf)
    entry[0, number[0, 0]] = 0.0
    window = max(WINDOW, 2 * float(longest.max()), 3 * least)
    for i in range(1, n):
        first, last = np.searchsorted(times[:i], [times[i] - window, times[i] - least + 1e-9])
        first = min(first, max(0, int(last) - 1))
        if last <= first:
            continue
        seconds = times[i] - times[first:last]
        steps = np.log2(np.maximum(clock[i] - clock[first:last], 1e-9))
        both = heard[first:last] & heard[i]
        here = np.where(units < 0, contrast[i] * units, units)
        wanted = np.where(both[:, None], here, 0.0)  # no bursts where nothing is heard
        wanted = np.maximum(wanted, (steps - np.log2(seconds / least))[:, None])  # nobody wants less than the least
        miss = np.abs(steps[:, None] - wanted) / SPREAD
        weight = LAST_WEIGHT if i == n - 1 else 1.0
        cost = entry[first:last] + weight * np.where(miss < FAR, miss**2, FAR * (2 * miss - FAR))
        cost += (TOO_LONG * np.maximum(seconds / longest[i] - 1, 0) + (seconds > longest[i] + 1e-9))[:, None]
        back[i] = first + cost.argmin(axis=0)
        total[i] = cost.min(axis=0) + costs[i]
        for state, earlier in enumerate(before):
            came[i, state] = earlier[int(np.argmin(total[i, earlier]))]
            entry[i, state] = total[i, came[i, state]]
    path, edge, state = [n - 1], n - 1, int(np.argmin(total[-1]))
    while True:
        edge = int(back[edge, state])
        path.append(edge)
        if edge == 0:
            return np.array(path[::-1])
        state = int(came[edge, state])


def _snap(changes: F64, accents: F64, strength: F64, reach: float) -> list[int]:
    """The accent of each change: near and strong, at most `reach` s away, each once.

    A change without one is the tempogram's blur, and is dropped.
    """
    chosen: set[int] = set()
    for change in changes:
        near = np.clip(1 - np.abs(accents - change) / reach, 0, None) * strength
        if near.max(initial=0.0) > 0:
            chosen.add(int(np.argmax(near)))
    return sorted(chosen)


def rank_loudness(samples: F32, sample_rate: int, spans: tuple[Span, ...]) -> F32:
    """(n,) rank of each span's RMS, 0 the quietest .. 1 the loudest; equal to 0.1 dB is equal; 0.5 where all are."""
    from scipy.stats import rankdata

    if len(spans) == 1:
        return np.full(1, 0.5, np.float32)
    power = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    edges = np.array([[round(s.start * sample_rate), min(round(s.end * sample_rate), len(samples))] for s in spans])
    mean = (power[edges[:, 1]] - power[edges[:, 0]]) / np.maximum(edges[:, 1] - edges[:, 0], 1)
    decibels = np.round(10 * np.log10(np.maximum(mean, 1e-10)), 1)
    return np.asarray((rankdata(decibels) - 1) / (len(spans) - 1), np.float32)


def describe_loops(segments: Segments) -> list[str]:
    """A line that says that a track shorter than the trailer is played again; none where it is not."""
    again = sum(after.start < before.end for before, after in pairwise(segments.parts))
    if not again:
        return []
    return [f"the music is shorter than the trailer: {again} stretch{'es' * (again > 1)} of it played again"]


# --- which music ------------------------------------------------------------------------------------------------------


def choose_bed(*, luma: float, motion: float) -> Path:
    """The bundled bed for a film: dark_rise for dark or restless pictures, bright_step for the others.

    luma: the film's mean luma, 0..255. motion: mean change of luma from one picture to the next, 0..255. Measured: Big
    Buck Bunny (128, 4) is bright, the battle of Tears of Steel (99, 17) is dark; the brighter, the more it must move.
    """
    return ASSETS / "music" / ("dark_rise.ogg" if luma < 90 + 2 * motion else "bright_step.ogg")
