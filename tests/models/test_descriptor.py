"""The weightless encoder: unit vectors that tell shots apart and survive what a re-encode does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.encoders import ShotContent
from models.encoders.descriptor import WIDTH, Descriptor, mean_cosine
from tests.synthetic import encode_shot

ENCODER = Descriptor()


def picture(seed: int) -> NDArray[np.uint8]:
    """A scene of its own colours and shapes."""
    rng = np.random.default_rng(seed)
    image = np.full((180, 320, 3), rng.integers(0, 255, 3), np.uint8)
    for _ in range(12):
        centre = (int(rng.integers(0, 320)), int(rng.integers(0, 180)))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        cv2.circle(image, centre, int(rng.integers(8, 70)), colour, -1)
    return image


def shot(image: NDArray[np.uint8], motion: float = 3.0, sound: NDArray[np.float32] | None = None) -> ShotContent:
    changes = np.full((20, 3), motion, np.float32)
    return ShotContent([image], changes, np.zeros((0, 8), np.float32) if sound is None else sound)


def test_vectors_are_unit_rows_of_the_stated_width() -> None:
    for seed in range(5):
        vector = encode_shot(ENCODER, shot(picture(seed)))
        assert vector.shape == (WIDTH,) == (ENCODER.identity.width,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_black_white_tiny_and_silent_shots_have_vectors_too() -> None:
    for image in (np.zeros((2, 2, 3)), np.full((90, 160, 3), 255), np.zeros((4000, 16, 3))):
        content = ShotContent([image.astype(np.uint8)], np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32))
        assert np.isfinite(encode_shot(ENCODER, content)).all()


def test_the_same_scene_re_encoded_is_nearer_than_any_other() -> None:
    originals = np.stack([encode_shot(ENCODER, shot(picture(seed))) for seed in range(20)])
    for seed in range(20):
        changed = cv2.resize(picture(seed), (240, 136), interpolation=cv2.INTER_AREA)
        changed = np.clip(changed.astype(np.int16) + 12, 0, 255).astype(np.uint8)
        changed = cv2.imdecode(cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
        again = encode_shot(ENCODER, shot(np.asarray(changed, np.uint8)))
        assert int(np.argmax(originals @ again)) == seed


def test_different_scenes_are_not_all_alike() -> None:
    vectors = np.stack([encode_shot(ENCODER, shot(picture(seed))) for seed in range(30)])
    assert mean_cosine(vectors) < 0.5


def test_motion_and_sound_are_seen_and_heard() -> None:
    still, moving = encode_shot(ENCODER, shot(picture(1), 0.1)), encode_shot(ENCODER, shot(picture(1), 30.0))
    quiet = encode_shot(ENCODER, shot(picture(1), sound=np.full((30, 8), 1e-4, np.float32)))
    loud = encode_shot(ENCODER, shot(picture(1), sound=np.full((30, 8), 0.1, np.float32)))
    assert float(still @ moving) < 0.97
    assert float(quiet @ loud) < 0.97


def test_mean_cosine_by_hand() -> None:
    assert mean_cosine(np.eye(3, dtype=np.float32)) == pytest.approx(0)
    assert mean_cosine(np.ones((4, 1), np.float32)) == pytest.approx(1)
    assert mean_cosine(np.ones((1, 1), np.float32)) == 1
