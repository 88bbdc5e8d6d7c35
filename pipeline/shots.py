"""Cut a film into shots, and say what each shot is not fit for."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from pipeline.analysis import read_samples
from pipeline.blends import find_runs
from pipeline.lettering import LETTERS, count_glyphs, find_logo
from pipeline.records import F32, F64, I64, Analysis, Shots, Span
from pipeline.settings import GuardSettings, ShotSettings

BLACK_RUN = 0.1  # s; shorter darkness is a flash, not a fade
FADE = 0.5  # s; a change this near to black is a fade
# What the adaptive rule lacks, as multiples of its least score and of its ratio (15 and 3 by default): 28 and 1.7 times any
# of four neighbours in the light, 6 and 5 times their mean in the dark. Finds 14 cuts of the synthetic film and of Tears of
# Steel that the rule misses, for one whip pan of Big Buck Bunny. What swells by more than SWELL before it is no cut.
SWELL = 2.5
BUSY_SCORE, BUSY_RATIO = 28 / 15, 1.7 / 3
DIM_SCORE, DIM_RATIO = 6 / 15, 5 / 3
DARK, STEADY = 20.0, 0.5  # mean luma, and its change from picture to picture
BLACK_DEVIATION = 12.0  # luma; a dark picture with more contrast than this shows something
OPENING_SHARE = 0.08  # of the film: titles and logos are looked for here
OPENING_MOST = 300.0  # s
CREDITS_SHARE = 0.25  # of the film, at its end: credits are looked for here
CREDITS_LEAST = 6.0  # s of lettering that count as credits
CREDITS_GAP = 6.0  # s without lettering that credits may have
LETTERS_IN_STORY = 24  # foliage and fences reach 20 now and then
LONGEST_HOLD = 1.0  # s that one picture may stand within a shot: a hole in the file, or a still


def cut_shots(analysis: Analysis, settings: ShotSettings, guards: GuardSettings) -> Shots:
    """Hard cuts, dissolves and fades through black part a film into shots; flags from what the shots show.

    Shots touch and cover the film; every boundary is a picture's timestamp.
    """
    starts = find_cuts(analysis, settings)
    film = analysis.film
    edges = [film.start, *(float(t) for t in analysis.times[starts]), film.end]
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    first = np.concatenate([[0], starts])
    last = np.concatenate([starts, [len(analysis.times)]])
    # the first row of a shot is the change across the cut, not motion within the shot
    motion = np.array([_mean(analysis.scores[a + 1 : b, 2]) for a, b in zip(first, last, strict=True)], np.float32)
    luma = np.array([_mean(analysis.luma[a:b, 0]) for a, b in zip(first, last, strict=True)], np.float32)
    flags = _flag_shots(analysis, spans, motion, first, last, guards)
    return Shots(film, spans, flags, _ranks(motion), luma, find_clear(analysis, spans))


def _mean(values: F32) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ranks(values: F32) -> F32:
    """0..1, ties share their mean rank."""
    order = np.sort(values)
    low, high = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return ((low + high - 1) / 2 / max(1, len(values) - 1)).astype(np.float32)


def find_cuts(analysis: Analysis, settings: ShotSettings) -> I64:
    """Numbers of the pictures that begin a shot, without the film's first; increasing.

    A hard cut goes before the edge of a dark stretch where a shot would become too short. Within a dissolve there is no hard
    cut, only a hue that turns over on its way through grey: there the middle counts.
    """
    film, times = analysis.film, analysis.times
    blends = _blend_middles(analysis)
    hard = [
        cut
        for cut in find_hard_cuts(analysis, settings)
        if not any(start < times[cut] < end for start, end in blends.values())
    ]
    kept: list[float] = [film.start, film.end]
    cuts: list[int] = []
    for cut in (*hard, *blends, *_fade_edges(analysis)):
        time = float(times[cut])
        at = bisect(kept, time)  # in order: a film may have ten thousand
        if min(abs(time - other) for other in kept[max(0, at - 1) : at + 1]) >= settings.min_seconds:
            kept.insert(at, time)
            cuts.append(cut)
    return np.array(sorted(cuts), dtype=np.int64)


def find_hard_cuts(analysis: Analysis, settings: ShotSettings) -> list[int]:
    """Numbers of the pictures that follow a hard cut (or, by TransNetV2, the middle of any transition); increasing.

    TransNetV2 where the analysis has its judgement; else PySceneDetect's adaptive rule, and two that it lacks: a change far
    above its surroundings that are busy themselves, and a lone small change between pictures too dark for a large one.
    """
    if len(analysis.transitions):
        return [(a + b - 1) // 2 + 1 for a, b in find_runs(analysis.transitions[:, 0] > 0.5) if b < len(analysis.times)]
    return sorted(
        {*_adaptive_cuts(analysis.scores, analysis.film.frame_rate, settings), *_lone_changes(analysis, settings)}
    )


def _adaptive_cuts(scores: F32, frame_rate: Fraction, settings: ShotSettings) -> list[int]:
    """PySceneDetect's adaptive decision over the scores that the analysis took of the same pictures."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    values = scores.mean(axis=1)

    class ScoredDetector(AdaptiveDetector):  # type: ignore[misc]
        """The detector with its picture comparison replaced by the stored score; the decision is the library's."""

        def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: object) -> float:
            del frame_img
            return float(values[timecode.frame_num])

    detector = ScoredDetector(
        adaptive_threshold=settings.threshold, min_content_val=settings.min_score, min_scene_len=1
    )
    rate = float(frame_rate)
    nothing = np.zeros((1, 1, 3), np.uint8)
    cuts: list[int] = []
    for number in range(len(values)):
        cuts.extend(code.frame_num for code in detector.process_frame(FrameTimecode(number, rate), nothing))
    return [cut for cut in cuts if cut > 0]


def _lone_changes(analysis: Analysis, settings: ShotSettings) -> list[int]:
    """Changes that tower over both pictures before and both after, though not over the adaptive rule's threshold."""
    values = analysis.scores.mean(axis=1).astype(np.float64)
    if len(values) < 5:
        return []
    around = np.stack([values[:-4], values[1:-3], values[3:-1], values[4:]])
    score = values[2:-2]
    luma = analysis.luma[:, 0]
    both_dark = (luma[1:-3] < DARK) & (luma[2:-2] < DARK)
    # a fade grows or dies away from picture to picture
    steady = (np.abs(luma[1:-3] - luma[:-4]) < STEADY) & (np.abs(luma[3:-1] - luma[2:-2]) < STEADY)
    least, ratio = settings.min_score, settings.threshold
    busy = (score >= BUSY_SCORE * least) & (score >= BUSY_RATIO * ratio * around.max(axis=0)) & ~both_dark
    busy &= around[1] <= SWELL * around[0] + least / 3  # else a wipe, or a blow that builds up
    dim = (score >= DIM_SCORE * least) & (score >= DIM_RATIO * ratio * around.mean(axis=0)) & both_dark & steady
    return [int(number) + 2 for number in np.flatnonzero(busy | dim)]


def _blend_middles(analysis: Analysis) -> dict[int, tuple[float, float]]:
    """The picture in the middle of each dissolve -> its start and end, s.

    None where TransNetV2 has judged them itself; none beside black: a fade has edges of its own.
    """
    if len(analysis.transitions):
        return {}
    dark = analysis.times[_is_black(analysis.luma)]
    middles = {}
    for start, end in analysis.blends.tolist():
        near = np.searchsorted(dark, [start - FADE, end + FADE])
        middle = int(np.searchsorted(analysis.times, (start + end) / 2))
        if near[0] == near[1] and 0 < middle < len(analysis.times):
            middles[middle] = (start, end)
    return middles


def find_clear(analysis: Analysis, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The part of each shot in which no other shot is mixed in; of no length where there is none."""
    times = analysis.times
    mixed = [(float(a), float(b)) for a, b in analysis.blends]
    if len(analysis.transitions):
        runs = find_runs(analysis.transitions[:, 1] > 0.5)
        mixed = [(float(times[a]), float(times[min(b, len(times) - 1)])) for a, b in runs if b - a > 2]
    clear = []
    for span in spans:
        start, end = span.start, span.end
        for first, last in mixed:
            if first < span.end and last > span.start:
                if first + last < span.start + span.end:  # it lies toward the shot's beginning
                    start = max(start, last)
                else:
                    end = min(end, first)
        clear.append(Span(start, end) if start <= end else Span(span.start, span.start))
    return tuple(clear)


def _is_black(luma: F32) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (luma[:, 0] < 20.0) & (luma[:, 1] < BLACK_DEVIATION)


def _fade_edges(analysis: Analysis) -> list[int]:
    """First picture of each dark stretch, and first after it."""
    edges: list[int] = []
    for start, end in find_runs(_is_black(analysis.luma)):
        until = analysis.times[end] if end < len(analysis.times) else analysis.film.end
        if until - analysis.times[start] >= BLACK_RUN:
            edges.extend(e for e in (start, end) if 0 < e < len(analysis.times))
    return edges


def _flag_shots(
    analysis: Analysis, spans: Sequence[Span], motion: F32, first: I64, last: I64, guards: GuardSettings
) -> tuple[frozenset[str], ...]:
    letters = _count_letters(analysis, spans)
    opening, credits = find_story(analysis, spans, letters)
    secret = credits - guards.ending * (credits - opening)
    hold = max(LONGEST_HOLD, 4 * float(np.median(np.diff(analysis.times))))
    flags: list[frozenset[str]] = []
    for number, span in enumerate(spans):
        found: set[str] = set()
        luma = analysis.luma[first[number] : last[number]]
        dark = luma[:, 0].mean() <= guards.black_luma and luma[:, 1].mean() <= 2 * BLACK_DEVIATION
        if dark or _is_black(luma).mean() > 0.3:
            found.add("black")
        if (
            motion[number] < guards.static_motion
            or _longest_hold(analysis.times[first[number] : last[number]], span) > hold
        ):
            found.add("static")
        inside = (analysis.sample_times >= span.start) & (analysis.sample_times < span.end)
        if inside.any() and np.nanmax(np.append(letters[inside], 0)) >= LETTERS_IN_STORY:
            found.add("text")
        if span.start < opening:
            found.add("opening")
        if span.end > credits:
            found.add("credits")
        elif span.end > secret:
            found.add("ending")
        flags.append(frozenset(found))
    return tuple(flags)


def _longest_hold(times: F64, span: Span) -> float:
    return float(np.diff(np.append(times, span.end)).max())


def find_story(analysis: Analysis, spans: Sequence[Span], letters: F64) -> tuple[float, float]:
    """Where the story begins and ends on the film's clock: after opening titles and logos, before the end credits.

    Opening: the end of the last shot with lettering in the first 8 % of the film. Credits: the first stretch of lettering
    (gaps up to 6 s, at least 6 s long, lettered for most of it) in the last quarter; what follows them belongs to them.
    """
    film, times = analysis.film, analysis.sample_times
    lettered = np.nan_to_num(letters) >= LETTERS
    opening = film.start
    zone = film.start + min(OPENING_SHARE * film.duration, OPENING_MOST)
    titles = times[lettered & (times < zone)]
    if len(titles):
        opening = next(s.end for s in spans if s.end > titles[-1] or s is spans[-1])
    late = np.flatnonzero(times >= film.end - CREDITS_SHARE * film.duration)
    marks = late[lettered[late]]
    credits = film.end
    while len(marks):
        breaks = np.flatnonzero(np.diff(times[marks]) > CREDITS_GAP)
        block = marks[: breaks[0] + 1] if len(breaks) else marks
        length = times[block[-1]] - times[block[0]]
        density = len(block) / (block[-1] - block[0] + 1)
        if length >= CREDITS_LEAST and density >= 0.6:
            credits = next(s.start for s in reversed(spans) if s.start <= times[block[0]])
            break
        marks = marks[len(block) :]
    return min(opening, credits), credits


def _count_letters(analysis: Analysis, spans: Sequence[Span]) -> F64:
    """Glyphs per sampled picture; NaN where nobody looked: everywhere but the opening, the end and mid-shot."""
    film, times = analysis.film, analysis.sample_times
    near_start = times < film.start + min(OPENING_SHARE * film.duration, OPENING_MOST)
    near_end = times >= film.end - CREDITS_SHARE * film.duration
    looked = near_start | near_end
    # at an end, one picture a second is enough
    seconds = np.floor(times)
    looked &= np.concatenate([[True], np.diff(seconds) > 0])
    middles = np.searchsorted(times, [(s.start + s.end) / 2 for s in spans])
    looked[np.clip(middles, 0, len(times) - 1)] = True
    numbers = np.flatnonzero(looked)
    letters = np.full(len(times), np.nan)
    for number in numbers:
        picture = read_samples(analysis, np.array([number]))[0]
        letters[number] = count_glyphs(picture)
        if near_start[number] and find_logo(picture):
            letters[number] = max(letters[number], LETTERS)
    return letters
