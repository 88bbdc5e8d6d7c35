"""Say which part of the film's picture the trailer shows, and how large: bars off, another aspect, the action in view."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipeline.records import F32, F64, FOCUS_STEP, Analysis, Film, Span
from pipeline.settings import Aspect, VideoSettings

Bars = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the shown picture

NO_BARS: Bars = (0.0, 0.0, 0.0, 0.0)
LEAST_BARS = 0.01  # of a side; less is a dark edge
MOST_BARS = 0.6  # of a side that bars may take together; a picture that leaves less than that lit is a dark film's
BLURRED_EDGE = 0.004  # of a side: where bars meet the picture it is blurred, by scaling and by compression
# The action is where pictures change more than they do on the whole; what changes everywhere (a pan, a fade) says nothing.
PULL = 0.5  # how strongly the middle of the picture draws, against all that moves in a cut
MOST_DRIFT = 0.12  # of the picture's width a second, at which the frame may move; an operator pans slower than this
STILL = 0.03  # of the width; less drift over a cut is no movement but unrest


def find_active(analysis: Analysis) -> Bars:
    """The black bars that stand throughout the film, a little more than what is black; none where it is a dark film."""
    bars = [float(share) for share in analysis.letterbox]
    for low, high in ((0, 2), (1, 3)):
        if bars[low] + bars[high] > MOST_BARS:
            return NO_BARS
    left, top, right, bottom = (round(b + BLURRED_EDGE, 5) if b >= LEAST_BARS else 0.0 for b in bars)
    return left, top, right, bottom


def choose_size(film: Film, settings: VideoSettings, bars: Bars = NO_BARS) -> tuple[int, int]:
    """Width and height of the trailer in square pixels, even: the picture without its bars, cut to the aspect asked for.

    The shorter side is at most max_height (360 for a draft); nothing is enlarged.
    """
    width, height = active_size(film, bars)
    asked = _ratio(settings.aspect)
    if asked is not None:
        width, height = min(width, height * float(asked)), min(height, width / float(asked))
    scale = min(1.0, settings.tallest / min(width, height))
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def active_size(film: Film, bars: Bars) -> tuple[float, float]:
    """Width and height of the picture without its bars, in square pixels."""
    width, height = Fraction(film.width) * film.pixel_aspect, Fraction(film.height)
    if film.rotation in (90, 270):
        width, height = height, width
    left, top, right, bottom = bars
    return float(width) * (1 - left - right), float(height) * (1 - top - bottom)


def _ratio(aspect: Aspect) -> Fraction | None:
    if aspect is Aspect.source:
        return None
    width, height = aspect.value.split(":")
    return Fraction(int(width), int(height))


def follow_action(analysis: Analysis, source: Span, seconds: float, bars: Bars) -> tuple[tuple[float, float], ...]:
    """Where the action is in a cut: points (x, y), 0..1 of the active picture, FOCUS_STEP s of trailer apart.

    A straight line through where the pictures change, by weighted least squares, drawn toward the middle: within a cut of a
    few seconds an operator would hold or pan evenly. source: the cut's, seconds of film; seconds: its length in the trailer.
    """
    inside = (analysis.times >= source.start) & (analysis.times < source.end)
    times, focus = analysis.times[inside], analysis.focus[inside]
    share = (times - source.start) / max(source.duration, 1e-9) - 0.5
    weight = focus[:, 2].astype(np.float64)
    count = int(np.ceil(seconds / FOCUS_STEP - 1e-9)) + 1
    at = np.minimum(np.arange(count) * FOCUS_STEP / seconds, 1.0) - 0.5
    lines = [_fit_line(share, focus[:, axis], weight, at, seconds) for axis in (0, 1)]
    left, top, right, bottom = bars
    xs = np.clip((lines[0] - left) / (1 - left - right), 0, 1)
    ys = np.clip((lines[1] - top) / (1 - top - bottom), 0, 1)
    points = [(round(float(x), 4), round(float(y), 4)) for x, y in zip(xs, ys, strict=True)]
    return tuple(points[:1] if len(set(points)) == 1 else points)


def _fit_line(share: F64, values: F32, weight: F64, at: F64, seconds: float) -> F64:
    """Values of the weighted line through (share, values) at `at`; level where it hardly moves, and never too steep."""
    total = float(weight.sum())
    if total <= 0:
        return np.full(len(at), 0.5)
    pulled = np.concatenate([values, [0.5]])
    weights = np.concatenate([weight, [PULL * total]])
    places = np.concatenate([share, [0.0]])
    middle = float(np.average(pulled, weights=weights))
    centre = float(np.average(places, weights=weights))
    spread = float(np.average((places - centre) ** 2, weights=weights)) + 0.02  # a few points make no slope
    slope = float(np.average((places - centre) * (pulled - middle), weights=weights)) / spread
    slope = float(np.clip(slope, -MOST_DRIFT * seconds, MOST_DRIFT * seconds))
    if abs(slope) < STILL:
        slope = 0.0
    line: F64 = middle + slope * (at - centre)
    return line
