"""Say how much two pictures look alike: the same camera on the same thing, whatever moves before it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.records import F32, U8

COPY_SIZE = (32, 18)  # px; small enough that a step or a turned head hardly counts
SAME_VIEW = 6.0  # mean difference in Lab steps, below which two pictures are taken for one


def copy_pictures(pictures: Sequence[U8]) -> F32:
    """Small copies, one row a picture (n, 18 * 32 * 3), in Lab steps of 0..255. pictures: BGR (h, w, 3), of any size."""
    rows = [
        cv2.cvtColor(cv2.resize(picture, COPY_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2LAB).reshape(-1)
        for picture in pictures
    ]
    return np.asarray(rows, np.float32).reshape(len(rows), COPY_SIZE[0] * COPY_SIZE[1] * 3)


def measure_differences(one: F32, other: F32) -> F32:
    """(n, m) mean absolute difference of each of these copies (n, d) to each of those (m, d)."""
    return np.array([np.abs(other - row).mean(axis=1) for row in one], np.float32).reshape(len(one), len(other))
