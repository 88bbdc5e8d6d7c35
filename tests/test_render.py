"""A whole render: titles, frame truth at every rate, sound in step, and only what changed made again."""

from __future__ import annotations

import numpy as np

from pipeline.cards import draw_title


def test_a_title_is_white_on_black_and_inside_the_picture() -> None:
    image = draw_title("THE GYPSY", 640, 360)
    assert image.shape == (360, 640, 3)
    rows, columns = np.flatnonzero(image.max(axis=(1, 2)) > 128), np.flatnonzero(image.max(axis=(0, 2)) > 128)
    assert rows[0] > 40
    assert rows[-1] < 320
    assert columns[0] > 30
    assert columns[-1] < 610
    assert not draw_title(" ", 64, 48).any()
    assert draw_title("x", 2, 2).shape == (2, 2, 3)
