"""Find dissolves: stretches where one shot is mixed into the next.

In a dissolve every picture is a weighted mean of the shots on both sides, so the one in the middle is nearly the mean of
those before and after it, however different these are; nothing that moves or is cut behaves like that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.records import F64, I64, U8, Bool

HALF_SECONDS = (0.17, 0.33, 0.6, 1.0)  # half of the length looked for; a longer dissolve shows at a shorter one, too
LEAST_CHANGE = 8.0  # mean difference of luma between the two sides, of 219
LEAST_WIDE = 5.0  # median of it, without a change of brightness: the whole picture changes, not what moves in it
MOST_REST = 0.26  # of the difference: how far the middle may be from the mix (what only moves is about twice as far)
MOST_ASIDE = 0.2  # from a half: the middle's share of either side (a cut's is none)
MOST_ALIKE = 0.6  # correlation of the two sides; above it one picture only grew brighter or darker
LEAST_SPREAD = 6.0  # standard deviation of luma; a side with less is black, white or a card, and the change a fade
MOST_VARIED = (
    0.8  # of the sides' variance: a mix of two unlike pictures has less than they, a pan over soft shapes has not
)
LEAST_RUN = 3  # pictures in a row that are the middle of a dissolve
BLOCK = 2048  # pictures compared at once


def find_blends(tiny: Path, shape: tuple[int, int], times: F64) -> F64:
    """Dissolves as (k, 2) start and end in seconds on the film's clock, increasing and apart.

    tiny: file of the luma of every picture (h, w) uint8, end to end; times (n,): theirs.
    """
    n = len(times)
    usual = float(np.median(np.diff(times))) if n > 1 else 1.0
    halves = sorted({max(2, round(seconds / usual)) for seconds in HALF_SECONDS})
    halves = [half for half in halves if 2 * half < n]
    if not halves:
        return np.zeros((0, 2))
    shortest = np.zeros(n, np.int64)  # half-length, in pictures, at which a picture is first seen to be a middle
    for start, pictures in _read_blocks(tiny, shape, n, halves[-1]):
        for half in halves:
            middle = np.arange(max(start, half), min(start + BLOCK, n - half))
            middle = middle[shortest[middle] == 0]
            shortest[middle[_compare(pictures, middle - start + halves[-1], half)]] = half
    spans = [_span(np.arange(a, b), shortest) for a, b in find_runs(shortest > 0) if b - a >= LEAST_RUN]
    blends = [(float(times[max(0, a)]), float(times[min(n - 1, b)])) for a, b in spans]
    apart: list[tuple[float, float]] = []
    for blend in blends:
        if not apart or blend[0] >= apart[-1][1]:
            apart.append(blend)
    return np.array(apart, np.float64).reshape(-1, 2)


def _read_blocks(tiny: Path, shape: tuple[int, int], n: int, reach: int) -> Iterator[tuple[int, U8]]:
    """(start, pictures (BLOCK + 2 reach, h w)): row k is picture start - reach + k; zeros beyond the film's ends."""
    pixels = shape[0] * shape[1]
    for start in range(0, n, BLOCK):
        first, last = max(0, start - reach), min(n, start + BLOCK + reach)
        pictures = np.zeros((BLOCK + 2 * reach, pixels), np.uint8)
        rows = np.fromfile(tiny, np.uint8, (last - first) * pixels, offset=first * pixels)
        pictures[first - start + reach : last - start + reach] = rows.reshape(-1, pixels)
        yield start, pictures


def _compare(pictures: U8, middle: I64, half: int) -> Bool:
    """Whether each of these rows is a mix of the rows `half` before and after it."""
    mixed = np.zeros(len(middle), np.bool_)
    difference = cv2.absdiff(pictures[2 * half :], pictures[: -2 * half])
    change = cv2.reduce(difference, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[middle - half, 0]
    some = np.flatnonzero(change >= LEAST_CHANGE)  # few: the rest is spared
    if not len(some):
        return mixed
    before, after, now = (pictures[middle[some] + step].astype(np.float32) for step in (-half, half, 0))
    step = after - before
    share = np.einsum("np,np->n", now - before, step) / np.einsum("np,np->n", step, step)
    left = np.abs(now - before - share[:, None] * step).mean(axis=1) / change[some]
    good = np.flatnonzero((left <= MOST_REST) & (np.abs(share - 0.5) <= MOST_ASIDE))  # fewer still
    some, before, after, now, step = some[good], before[good], after[good], now[good], step[good]
    varied = before.var(axis=1), after.var(axis=1)
    alike = ((before - before.mean(axis=1, keepdims=True)) * (after - after.mean(axis=1, keepdims=True))).mean(axis=1)
    step -= step.mean(axis=1, keepdims=True)
    mixed[some] = (
        (np.minimum(*varied) >= LEAST_SPREAD**2)
        & (alike <= MOST_ALIKE * np.sqrt(varied[0] * varied[1]))
        & (now.var(axis=1) <= MOST_VARIED * (varied[0] + varied[1]) / 2)
        & (np.median(np.abs(step), axis=1) >= LEAST_WIDE)
    )
    return mixed


def find_runs(flags: Bool) -> list[tuple[int, int]]:
    """[first, last) of each stretch that is True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _span(run: I64, shortest: I64) -> tuple[int, int]:
    """First and last picture of the dissolve behind a run of middles.

    At half-length h the middles of a dissolve of 2 H pictures reach from its start + h to its end - h.
    """
    half = int(shortest[run].min())
    middles = run[shortest[run] == half]
    return int(middles[0]) - half, int(middles[-1]) + half
