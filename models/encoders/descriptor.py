"""Describe a shot without any learned weights: colour layout, colours, gradients, motion, sound.

Each block is centred on a fixed typical value before it is weighted, so that the cosine of two unrelated shots lies near
zero and not near one: SSMP tells shots apart by these cosines alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.encoders import Identity, ShotContent

F32 = NDArray[np.float32]

GRID = 4  # colour layout: GRID x GRID cells of L, a, b
HUES, SATURATIONS, LUMAS = 8, 2, 8  # histogram bins
ORIENTATIONS = 8  # gradient histogram, in each quadrant of the picture
MOTION = 8
BANDS = 8
WIDTH = 3 * GRID * GRID + HUES * SATURATIONS + LUMAS + 4 * ORIENTATIONS + MOTION + 2 * BANDS
assert WIDTH == 128

# weight of each block in the cosine
LAYOUT_WEIGHT, COLOUR_WEIGHT, GRADIENT_WEIGHT, MOTION_WEIGHT, SOUND_WEIGHT = 1.0, 0.8, 0.7, 0.35, 0.25
TYPICAL_LAB = np.array([0.42, 0.0, 0.0], np.float32)
TYPICAL_LEVEL_DB = np.array([-38, -36, -38, -40, -44, -48, -54, -60], np.float32)
QUIETEST_DB = -90.0
MOST_PICTURES = 5  # per shot; more of one shot add cost and little else
PICTURE = (160, 96)  # px; every picture is brought to this size


IDENTITY = Identity("descriptor@1", WIDTH)


class Descriptor:
    """The weightless encoder."""

    identity = IDENTITY
    weights = ""
    batch = 64
    shortest = PICTURE[1]

    def moments(self, seconds: float) -> Sequence[float]:
        """MOST_PICTURES, spread over the shot."""
        return [seconds * (k + 0.5) / MOST_PICTURES for k in range(MOST_PICTURES)]

    def encode(self, prepared: Sequence[F32]) -> F32:
        """prepare() has done all of the work."""
        return np.stack(prepared)

    def prepare(self, shot: ShotContent) -> F32:
        """One shot -> unit vector (128,): blocks averaged over its pictures, then motion and sound of the whole shot."""
        seen = np.mean([_describe_picture(picture) for picture in shot.pictures], axis=0)
        vector = np.concatenate([seen, _describe_motion(shot.changes), _describe_sound(shot.sound)]).astype(np.float32)
        norm = float(np.linalg.norm(vector))
        if norm < 1e-6:
            vector[0], norm = 1.0, 1.0  # a shot that is typical in everything still needs a direction
        return vector / np.float32(norm)


def _describe_picture(bgr: NDArray[np.uint8]) -> F32:
    small = cv2.resize(bgr, PICTURE, interpolation=cv2.INTER_AREA)
    cells = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2LAB), (GRID, GRID), interpolation=cv2.INTER_AREA)
    layout = cells.astype(np.float32) / 255 - np.array([0, 0.5, 0.5], np.float32) - TYPICAL_LAB
    layout[:, :, 1:] *= 2.5  # chroma spans less of its range than lightness
    hsv = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
    weight = hsv[:, :, 1].astype(np.float32).reshape(-1) / 255  # a grey pixel has no hue
    hue = np.minimum(hsv[:, :, 0].reshape(-1) * HUES // 180, HUES - 1)
    strong = (weight > 0.4).astype(np.int64)
    colours = np.bincount(hue * SATURATIONS + strong, weight, minlength=HUES * SATURATIONS) / weight.size
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    lumas = np.bincount((gray.reshape(-1) // (256 // LUMAS)), minlength=LUMAS) / gray.size
    histogram = np.concatenate([np.sqrt(colours) - 0.12, np.sqrt(lumas) - 0.3])
    return np.concatenate(
        [
            LAYOUT_WEIGHT * layout.reshape(-1) / 1.2,
            COLOUR_WEIGHT * histogram,
            GRADIENT_WEIGHT * _describe_gradients(np.asarray(gray, np.uint8)),
        ]
    ).astype(np.float32)


def _describe_gradients(gray: NDArray[np.uint8]) -> F32:
    plane = gray.astype(np.float32) / 255
    across, down = cv2.Sobel(plane, cv2.CV_32F, 1, 0) / 4, cv2.Sobel(plane, cv2.CV_32F, 0, 1) / 4
    strength, angle = cv2.cartToPolar(across, down)  # 0 to 2 pi
    # unsigned orientation: an edge is the same edge on a bright or dark ground
    bins = (angle * np.float32(ORIENTATIONS / np.pi)).astype(np.uint8) % ORIENTATIONS
    height, width = gray.shape
    parts = []
    for rows in (slice(0, height // 2), slice(height // 2, height)):
        for columns in (slice(0, width // 2), slice(width // 2, width)):
            histogram = np.bincount(bins[rows, columns].reshape(-1), strength[rows, columns].reshape(-1), ORIENTATIONS)
            parts.append(np.sqrt(histogram / strength[rows, columns].size))
    return (np.concatenate(parts) - 0.06).astype(np.float32) * 2


def _describe_motion(changes: F32) -> F32:
    if not len(changes):
        return np.zeros(MOTION, np.float32)
    value = np.log1p(changes[:, 2])
    early, late = value[: max(1, len(value) // 3)].mean(), value[-max(1, len(value) // 3) :].mean()
    steps = [value.mean() - 1.2, value.std() - 0.35, value.max() - 2.0, early - 1.2, late - 1.2, late - early]
    chroma = np.log1p(changes[:, :2]).mean(axis=0) - 1.3
    return (MOTION_WEIGHT * np.concatenate([steps, chroma]) / 2).astype(np.float32)


def _describe_sound(sound: F32) -> F32:
    if not len(sound):
        return np.zeros(2 * BANDS, np.float32)
    decibels = np.maximum(20 * np.log10(sound + 1e-9), QUIETEST_DB)
    level = (decibels.mean(axis=0) - TYPICAL_LEVEL_DB) / 30
    swing = (decibels.std(axis=0) - 6) / 12
    return (SOUND_WEIGHT * np.concatenate([level, swing])).astype(np.float32)


def mean_cosine(vectors: Sequence[F32] | F32) -> float:
    """Mean cosine between different rows (n, d) of unit length: how much the shots of a film resemble one another."""
    rows = np.asarray(vectors)
    n = len(rows)
    if n < 2:
        return 1.0
    total = float(np.sum(rows.sum(axis=0) ** 2))
    return (total - n) / (n * (n - 1))
