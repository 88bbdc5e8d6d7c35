"""Say how much two pictures look alike: the same camera on the same thing, whatever moves before it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.records import F32, U8

COLOUR_SIZE = (32, 18)  # px of the copy whose colours are compared: a step or a turned head hardly counts
EDGE_SIZE = (48, 27)  # px of the copy whose edges are compared
EDGE_WIDTH, EDGE_REACH = 2.0, 3.0  # px: what is wider is no edge; within this an edge is as strong as any other
EDGE_FLOOR = 4.0  # luma steps; what has less contrast is grain
COUNTED = 0.7  # of the picture, where it differs least: somebody may move in the rest
EDGE_WEIGHT = 5.0  # Lab steps that edges count which have nothing to do with one another
# **choice**: the set-ups that Big Buck Bunny and Tears of Steel come back to lie below 6.5 (the tree camera's six shots 1.2
# to 4.0), the nearest that only look alike, one figure before two skies, at 8.0.
SAME_VIEW = 7.0  # difference below which two pictures are taken for one view

BAR_LUMA, BAR_SHARE = 24, 0.95  # a row of a bar: this share of it is no brighter
BAR_MOST, BAR_UNEVEN = 0.2, 0.02  # of the height or width: a bar's, and by how much the one across may differ

COLOURS, EDGES = COLOUR_SIZE[0] * COLOUR_SIZE[1], EDGE_SIZE[0] * EDGE_SIZE[1]
WIDTH = 3 * COLOURS + EDGES  # of a copy
BLOCK = 256  # copies compared at once


def copy_pictures(pictures: Sequence[U8]) -> F32:
    """Small copies, one row a picture (n, WIDTH): colours in Lab steps of 0..255, and a unit vector of edges.

    pictures: BGR (h, w, 3), of any size. Black bars are cut off first: all framed pictures are alike in their frame.
    """
    rows = [np.concatenate([_copy_colours(inner), _copy_edges(inner)]) for inner in map(cut_bars, pictures)]
    return np.asarray(rows, np.float32).reshape(len(rows), WIDTH)


def cut_bars(picture: U8) -> U8:
    """A picture (h, w, 3) without the black bars above and below it, or beside it, that are about equally wide."""
    dark = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) <= BAR_LUMA
    for axis in (0, 1):
        lit = np.flatnonzero(dark.mean(axis=1 - axis) < BAR_SHARE)
        size = dark.shape[axis]
        if len(lit):
            before, after = int(lit[0]), size - 1 - int(lit[-1])
            if 0 < max(before, after) <= BAR_MOST * size and abs(before - after) <= BAR_UNEVEN * size + 1:
                picture = picture[before : size - after] if axis == 0 else picture[:, before : size - after]
    return picture


def _copy_colours(picture: U8) -> F32:
    small = cv2.resize(picture, COLOUR_SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1), np.float32)


def _copy_edges(picture: U8) -> F32:
    """Luma without what is wide, and with its contrast evened out; none where a picture has none."""
    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    gray = cv2.resize(gray, EDGE_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    narrow = gray - cv2.GaussianBlur(gray, (0, 0), EDGE_WIDTH)
    edges = narrow / (np.sqrt(cv2.GaussianBlur(narrow * narrow, (0, 0), EDGE_REACH)) + EDGE_FLOOR)
    return np.asarray(edges / max(1.0, float(np.linalg.norm(edges))), np.float32).reshape(-1)


def measure_differences(one: F32, other: F32) -> F32:
    """(n, m) difference of each of these copies (n, d) to each of those (m, d), in Lab steps: SAME_VIEW parts views.

    The mean difference of colour over the COUNTED part of the picture where it is least, and EDGE_WEIGHT for edges that do
    not correlate: a sky is like another in colour, and a set-up like itself in its edges, too.
    """
    differences = EDGE_WEIGHT * compare_edges(one, other)
    counted = int(COUNTED * COLOURS)
    for row, copy in zip(differences, one, strict=True):
        for start in range(0, len(other), BLOCK):
            steps = np.abs(other[start : start + BLOCK, : 3 * COLOURS] - copy[: 3 * COLOURS])
            cells = steps.reshape(len(steps), COLOURS, 3).mean(axis=2)
            row[start : start + BLOCK] += np.partition(cells, counted - 1, axis=1)[:, :counted].mean(axis=1)
    return differences


def compare_edges(one: F32, other: F32) -> F32:
    """(n, m) 0..2: what the edges of each of these copies lack of correlation with each of those; cheap."""
    return np.asarray(1.0 - one[:, 3 * COLOURS :] @ other[:, 3 * COLOURS :].T, np.float32)
