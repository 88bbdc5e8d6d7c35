"""Find the shots that return to one set-up, and the scenes that shots make up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.likeness import COLOURS, SAME_VIEW, compare_edges, measure_differences
from pipeline.records import F32, I64, Bool

# of 2, as compare_edges measures: pictures of one set-up lie below, plain skies aside, and others are not compared further
AKIN = 0.9
BLOCK = 512  # pictures compared at once
SCENE_REACH = 6  # shots; one that looks like one so far before belongs to its scene, with all between (Rui et al. 1998)
SETUP_REACH = 12  # shots; so far a set-up may come back within a scene
COLOUR_BINS = (6, 10, 10)  # of lightness and both colour axes
COLOUR_RANGE = ((0, 256), (78, 178), (78, 178))  # of OpenCV's Lab steps; beyond it hardly anything lies
SAME_PLACE = 0.35  # of 1, by which the colours of two shots of one place may differ (1 - Bhattacharyya's coefficient)


def find_twins(copies: Sequence[F32]) -> I64:
    """(n,) the first shot that each one nearly repeats: the same camera on the same thing; itself where there is none.

    copies: shot -> (m, d) copies of its pictures (likeness.copy_pictures), m may be 0. A shot repeats another when half its
    pictures, or half the other's, are found there. Of a set-up that drifts, each shot is a twin of the first one's.
    """
    n = len(copies)
    twins = np.arange(n)
    owners = np.repeat(np.arange(n), [len(one) for one in copies])
    if not len(owners):
        return twins
    every = np.concatenate([one for one in copies if len(one)])
    akin = np.zeros((n, n), np.bool_)
    for start in range(0, len(every), BLOCK):
        near = np.argwhere(compare_edges(every[start : start + BLOCK], every) < AKIN)
        akin[owners[near[:, 0] + start], owners[near[:, 1]]] = True
    for late, early in np.argwhere(np.tril(akin, -1)).tolist():
        if twins[late] == late and _is_same(copies[late], copies[early]):
            twins[late] = twins[early]
    return twins


def _is_same(one: F32, other: F32) -> bool:
    same = measure_differences(one, other) < SAME_VIEW
    return bool(max(same.any(axis=1).mean(), same.any(axis=0).mean()) >= 0.5)


def find_scenes(copies: Sequence[F32], twins: I64, breaks: Bool) -> I64:
    """(n,) number of each shot's scene, never falling: shots that share colours or set-ups, with those between.

    breaks (n,): shots before which a scene ends in any case, such as after a fade through black. A shot without pictures
    stays with the one before it.
    """
    n = len(copies)
    colours = [_count_colours(one) for one in copies]
    joined = np.zeros(n, np.bool_)  # to the shot before
    for late in range(1, n):
        joined[late] = not len(copies[late])
        for early in range(max(0, late - SETUP_REACH), late):
            likeness = float(colours[early] @ colours[late]) if late - early <= SCENE_REACH else 0.0
            if twins[early] == twins[late] or likeness > 1 - SAME_PLACE:
                joined[early + 1 : late + 1] = True
                break
    joined &= ~breaks
    return np.asarray(np.cumsum(~joined) - 1, np.int64) if n else np.zeros(0, np.int64)


def _count_colours(copies: F32) -> F32:
    """Root of the share of each colour, (bins,), in a shot's pictures; zeros where it has none."""
    pixels = copies[:, : 3 * COLOURS].reshape(-1, 3)
    counts = np.histogramdd(pixels, COLOUR_BINS, COLOUR_RANGE)[0].reshape(-1)
    return np.asarray(np.sqrt(counts / max(1.0, counts.sum())), np.float32)
