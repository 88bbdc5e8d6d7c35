"""Cut a film into shots, and say what each shot is not fit for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np

from pipeline.analysis import read_samples
from pipeline.records import F32, F64, I64, U8, Analysis, Shots, Span
from pipeline.settings import GuardSettings, ShotSettings

BLACK_RUN = 0.1  # s; shorter darkness is a flash, not a fade
BLACK_DEVIATION = 12.0  # luma; a dark picture with more contrast than this shows something
OPENING_SHARE = 0.08  # of the film: titles and logos are looked for here
OPENING_MOST = 300.0  # s
CREDITS_SHARE = 0.25  # of the film, at its end: credits are looked for here
CREDITS_LEAST = 6.0  # s of lettering that count as credits
CREDITS_GAP = 6.0  # s without lettering that credits may have
LETTERS = 12  # glyphs in rows on a 320 px picture that count as a title
LARGE_LETTER, TITLE_LETTERS = 0.039, 5  # of the height; as many large letters in a row are a title
LETTERS_IN_STORY = 24  # foliage and fences reach 20 now and then
LONGEST_HOLD = 1.0  # s that one picture may stand within a shot: a hole in the file, or a still
GLYPH_CONTRAST = 45  # luma steps between lettering and its ground
SUBTITLE_ZONE = 0.75  # of the height; lettering below it is a burned-in subtitle and no title
MOST_GLYPHS = 600  # a picture with more specks than that is texture; the largest are looked at


def cut_shots(analysis: Analysis, settings: ShotSettings, guards: GuardSettings) -> Shots:
    """Hard cuts by PySceneDetect's adaptive detector, fades through black by darkness; flags from what the shots show.

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
    return Shots(film, spans, flags, _ranks(motion), luma)


def _mean(values: F32) -> float:
    return float(values.mean()) if len(values) else 0.0


def _ranks(values: F32) -> F32:
    """0..1, ties share their mean rank."""
    order = np.sort(values)
    low, high = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return ((low + high - 1) / 2 / max(1, len(values) - 1)).astype(np.float32)


def find_cuts(analysis: Analysis, settings: ShotSettings) -> I64:
    """Numbers of the pictures that begin a shot, without the film's first; increasing."""
    cuts = set(_hard_cuts(analysis.scores, analysis.film.frame_rate, settings)) | set(_fade_edges(analysis))
    kept: list[int] = []
    last = analysis.film.start
    for cut in sorted(cuts):
        time = float(analysis.times[cut])
        if time - last >= settings.min_seconds and analysis.film.end - time >= settings.min_seconds:
            kept.append(cut)
            last = time
    return np.array(kept, dtype=np.int64)


def _hard_cuts(scores: F32, frame_rate: Fraction, settings: ShotSettings) -> list[int]:
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


def _is_black(luma: F32) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (luma[:, 0] < 20.0) & (luma[:, 1] < BLACK_DEVIATION)


def _fade_edges(analysis: Analysis) -> list[int]:
    """First picture of each dark stretch, and first after it."""
    black = np.concatenate([[False], _is_black(analysis.luma), [False]])
    changes = np.flatnonzero(np.diff(black.astype(np.int8)))
    edges: list[int] = []
    for start, end in zip(changes[::2], changes[1::2], strict=True):
        until = analysis.times[end] if end < len(analysis.times) else analysis.film.end
        if until - analysis.times[start] >= BLACK_RUN:
            edges.extend(int(e) for e in (start, end) if 0 < e < len(analysis.times))
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
        letters[number] = count_glyphs(read_samples(analysis, np.array([number]))[0])
    return letters


def count_glyphs(bgr: U8) -> int:
    """How many letter-like marks stand in rows of four and more on a picture (h, w, 3) about 320 px wide.

    Thin bright or dark marks (white and black top-hat) of like height on a common base line, close to one another.
    Separates credits (25 to 100 on Big Buck Bunny) from pictures (mostly 0, foliage up to 20). A title of few, large,
    widely set letters counts as LETTERS: five in a row, which pictures showed once in 150.
    """
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    tall = gray.shape[0]
    best = 0
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        for size in (7, 15):
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
            hat = cv2.morphologyEx(gray, operation, kernel)
            mask = cv2.threshold(hat, GLYPH_CONTRAST, 255, cv2.THRESH_BINARY)[1]
            boxes = np.asarray(cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:], dtype=np.int64)
            boxes = _letter_like(boxes, tall)
            best = max(best, sum(row for row in _find_rows(boxes, reach=1.2, alike=0.35) if row >= 4))
            large = boxes[boxes[:, 3] >= LARGE_LETTER * tall]
            if max(_find_rows(large, reach=2.5, alike=0.2), default=0) >= TITLE_LETTERS:
                best = max(best, LETTERS)
    return best


def _letter_like(boxes: I64, picture_height: int) -> I64:
    """Of the boxes (n, 5) x, y, width, height, area, those that a letter may fill, from left to right."""
    boxes = boxes[boxes[:, 1] < SUBTITLE_ZONE * picture_height]
    width, height, area = boxes[:, 2], boxes[:, 3], boxes[:, 4]
    boxes = boxes[(height >= 3) & (height <= 0.16 * picture_height) & (width <= 6 * height) & (area >= 4)]
    if len(boxes) > MOST_GLYPHS:
        boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")[:MOST_GLYPHS]]
    return boxes[np.argsort(boxes[:, 0], kind="stable")]


def _find_rows(boxes: I64, *, reach: float, alike: float) -> list[int]:
    """Lengths of the rows: boxes on one base line, the next within `reach` heights, heights within the share `alike`."""
    left, right, base, height = boxes[:, 0], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3], boxes[:, 3]
    used = np.zeros(len(boxes), bool)
    rows = []
    for start in range(len(boxes)):
        if used[start]:
            continue
        length, current = 1, start
        while True:
            gap = left - right[current]
            near = (gap >= -1) & (gap <= reach * height[current] + 1) & ~used
            near &= np.abs(base - base[current]) <= max(1.0, 0.15 * height[current])
            near &= np.abs(height - height[current]) <= max(1.0, alike * height[current])
            near[: current + 1] = False
            following = int(np.argmax(near))
            if not near[following]:
                break
            current = following
            used[current] = True
            length += 1
        rows.append(length)
    return rows
