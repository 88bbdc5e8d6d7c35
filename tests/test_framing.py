"""Which part of the picture is shown: bars, shapes, and what moves, by planted figures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.framing import MOST_DRIFT, choose_size, find_active, follow_action
from pipeline.records import F32, FOCUS_STEP, Analysis, Film, Span
from pipeline.settings import Aspect, VideoSettings
from pipeline.watch import find_focus, turn_focus

FILM = Film(Path("f"), "f", 0.0, 10.0, Fraction(24), 640, 360, 0)
CUT = Span(2.0, 4.0)


def seen(focus: F32, bars: tuple[float, float, float, float] = (0, 0, 0, 0)) -> Analysis:
    n = len(focus)
    return Analysis(
        film=FILM,
        times=np.arange(n) / 24,
        scores=np.zeros((n, 3), np.float32),
        luma=np.full((n, 2), 100, np.float32),
        focus=focus.astype(np.float32),
        letterbox=np.array(bars, np.float32),
        sample_times=np.zeros(0),
        sample_bytes=np.zeros(0, np.uint8),
        sample_offsets=np.zeros(1, np.int64),
        sound=np.zeros((0, 2), np.float32),
        sound_start=0.0,
        sound_step=0.1,
        blends=np.zeros((0, 2)),
        transitions=np.zeros((0, 2), np.float32),
    )


def moving(x: F32 | float, y: float = 0.5, weight: F32 | float = 1.0) -> F32:
    focus = np.zeros((240, 3), np.float32)
    focus[:, 0], focus[:, 1], focus[:, 2] = x, y, weight
    return focus


def test_bars_are_cut_a_little_into_the_picture_and_a_dark_film_keeps_all() -> None:
    nothing = moving(0.5)
    assert find_active(seen(nothing)) == (0.0, 0.0, 0.0, 0.0)
    left, top, right, bottom = find_active(seen(nothing, (0.0, 0.125, 0.004, 0.125)))
    assert (left, right) == (0.0, 0.0)
    assert 0.125 < top == bottom < 0.132
    assert find_active(seen(nothing, (0.0, 0.4, 0.0, 0.35))) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("aspect", "bars", "size"),
    [
        (Aspect.source, (0.0, 0.0, 0.0, 0.0), (640, 360)),
        (Aspect.wide, (0.0, 0.0, 0.0, 0.0), (640, 360)),
        (Aspect.upright, (0.0, 0.0, 0.0, 0.0), (202, 360)),
        (Aspect.square, (0.0, 0.0, 0.0, 0.0), (360, 360)),
        (Aspect.portrait, (0.0, 0.0, 0.0, 0.0), (288, 360)),
        (Aspect.source, (0.0, 0.125, 0.0, 0.125), (640, 270)),
        (Aspect.wide, (0.0, 0.125, 0.0, 0.125), (480, 270)),
        (Aspect.wide, (0.125, 0.0, 0.125, 0.0), (480, 270)),
    ],
)
def test_a_shape_is_cut_out_of_what_is_lit(
    aspect: Aspect, bars: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    assert choose_size(FILM, VideoSettings(aspect=aspect), bars) == size


def test_a_draft_is_small_and_an_upright_film_stays_upright() -> None:
    large = replace(FILM, width=3840, height=2160)
    assert choose_size(large, VideoSettings(draft=True)) == (640, 360)
    assert choose_size(large, VideoSettings()) == (1920, 1080)
    assert choose_size(replace(large, rotation=90), VideoSettings(aspect=Aspect.wide)) == (1920, 1080)


def test_the_frame_follows_what_moves() -> None:
    times = np.arange(240) / 24
    across = 0.4 + 0.1 * (times - 2.0)  # from 0.4 to 0.6 over the cut
    points = follow_action(seen(moving(across, 0.3)), CUT, 2.0, (0, 0, 0, 0))
    assert len(points) == 5  # every FOCUS_STEP from 0 to 2 s
    xs = np.array([x for x, _ in points])
    assert (np.diff(xs) > 0).all()
    assert xs[0] == pytest.approx(0.42, abs=0.05)
    assert xs[-1] == pytest.approx(0.58, abs=0.05)
    # drawn toward the middle, but not into it
    assert all(y == pytest.approx((0.3 + 0.5 * 0.5) / 1.5, abs=1e-3) for _, y in points)
    held = follow_action(seen(moving(0.8)), CUT, 2.0, (0, 0, 0, 0))
    assert held == ((0.7, 0.5),)


def test_the_frame_never_races_and_holds_where_nothing_moves() -> None:
    times = np.arange(240) / 24
    wild = follow_action(seen(moving((times > 3.0).astype(np.float32))), CUT, 2.0, (0, 0, 0, 0))
    steps = np.abs(np.diff([x for x, _ in wild]))
    assert steps.max() <= MOST_DRIFT * FOCUS_STEP + 1e-3
    assert follow_action(seen(moving(0.9, weight=0.0)), CUT, 2.0, (0, 0, 0, 0)) == ((0.5, 0.5),)
    unrest = 0.5 + 0.01 * np.sin(np.arange(240))
    assert len(follow_action(seen(moving(unrest)), CUT, 2.0, (0, 0, 0, 0))) == 1


def test_places_are_those_of_the_picture_without_its_bars() -> None:
    ((x, _),) = follow_action(seen(moving(0.75)), CUT, 2.0, (0.5, 0.0, 0.0, 0.0))
    whole = (0.75 + 0.25) / 1.5
    assert x == pytest.approx((whole - 0.5) / 0.5, abs=1e-3)


def test_what_moves_is_found_and_a_pan_says_nothing() -> None:
    change = np.zeros((90, 160, 3), np.uint8)
    change[20:30, 100:120, 2] = 200
    x, y, weight = find_focus(change)
    assert (x, y) == (pytest.approx(110 / 160, abs=0.01), pytest.approx(25 / 90, abs=0.01))
    assert weight == pytest.approx(200 * 200 / (90 * 160), rel=0.01)
    assert find_focus(np.full((90, 160, 3), 80, np.uint8)) == (0.0, 0.0, 0.0)


def test_places_turn_with_the_picture() -> None:
    """A mark in a stored picture, and where numpy puts it when it turns the picture."""
    for rotation in (0, 90, 180, 270):
        stored = np.zeros((40, 80))
        stored[5:10, 60:70] = 1
        shown = np.rot90(stored, rotation // 90)
        (y, x), (shown_y, shown_x) = (
            [(places.mean() + 0.5) / size for places, size in zip(np.nonzero(mark), mark.shape, strict=True)]
            for mark in (stored, shown)
        )
        turned = turn_focus(np.array([[x, y, 3.0]], np.float32), rotation)
        assert turned[0].tolist() == pytest.approx([shown_x, shown_y, 3.0], abs=1e-5), rotation
