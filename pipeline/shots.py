"""Cut a film into shots."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np

from pipeline.blends import find_runs
from pipeline.glances import glance_at
from pipeline.guards import find_ending, find_straddling, flag_shots, measure_motion
from pipeline.records import F32, I64, Analysis, Bool, Shots, Span
from pipeline.settings import GuardSettings, ShotSettings
from pipeline.setups import find_scenes, find_twins
from pipeline.story import fade_edges, find_black, find_story, is_black

FADE = 0.5  # s; a change this near to black is a fade
# What the adaptive rule lacks, as multiples of its least score and of its ratio (15 and 3 by default): 28 and 1.7 times any
# of four neighbours in the light, 6 and 5 times their mean in the dark. Finds 14 cuts of the synthetic film and of Tears of
# Steel that the rule misses, for one whip pan of Big Buck Bunny. What swells by more than SWELL before it is no cut.
SWELL = 2.5
BUSY_SCORE, BUSY_RATIO = 28 / 15, 1.7 / 3
DIM_SCORE, DIM_RATIO = 6 / 15, 5 / 3
DARK, STEADY = 20.0, 0.5  # mean luma, and its change from picture to picture


def cut_shots(analysis: Analysis, settings: ShotSettings, guards: GuardSettings) -> Shots:
    """Hard cuts, dissolves and fades through black part a film into shots; flags, twins and scenes from what they show.

    Shots touch and cover the film; every boundary is a picture's timestamp.
    """
    starts = find_cuts(analysis, settings)
    film = analysis.film
    edges = [film.start, *(float(t) for t in analysis.times[starts]), film.end]
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    bounds = np.concatenate([[0], starts, [len(analysis.times)]])
    clear = find_clear(analysis, spans)
    glances = glance_at(analysis, spans, clear)
    story = find_story(analysis, spans, glances)
    secret = find_ending(film, story, guards)
    seen = np.stack([bounds[:-1], bounds[1:]], axis=1)
    straddling = find_straddling(spans, clear, secret)
    if straddling is not None and secret is not None:  # judged by what may be shown of it
        seen[straddling, 1] = np.searchsorted(analysis.times, secret)
    motion = measure_motion(analysis, seen)
    luma = np.array([_mean(analysis.luma[a:b, 0]) for a, b in seen], np.float32)
    flags = flag_shots(analysis, spans, seen, motion, glances, guards, story, secret)
    twins = find_twins(glances.copies)
    scenes = find_scenes(glances.copies, twins, _find_breaks(analysis, spans))
    return Shots(film, spans, flags, _ranks(motion), luma, clear, twins, scenes, secret)


def _mean(values: F32) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ranks(values: F32) -> F32:
    """0..1, ties share their mean rank."""
    order = np.sort(values)
    low, high = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return ((low + high - 1) / 2 / max(1, len(values) - 1)).astype(np.float32)


def _find_breaks(analysis: Analysis, spans: Sequence[Span]) -> Bool:
    """(n,) the shots that black lies before, or that are in it: a scene ends there."""
    breaks = np.zeros(len(spans), np.bool_)
    starts = [span.start for span in spans]
    for black in find_black(analysis):
        breaks[np.searchsorted(starts, black.start - FADE) : np.searchsorted(starts, black.end + FADE)] = True
    breaks[0] = False
    return breaks


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
    for cut in (*hard, *blends, *fade_edges(analysis)):
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
    dark = analysis.times[is_black(analysis.luma)]
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
