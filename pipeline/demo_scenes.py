"""Build the places of the demo film: valley, forest, sea, desert, city, storm, deep, tunnel, stars.

A place is built once, from layers; drawing a picture of it needs only a camera and a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.demo_drawing import (
    TILE,
    Camera,
    Colour,
    add_glow,
    add_light,
    band,
    blend_colour,
    draw_disc,
    draw_lantern,
    draw_layer,
    draw_sky,
    lerp,
    make_noise,
    map_pixels,
    mix_colour,
    paint_ridge,
    paint_skyline,
    paint_stars,
    paint_trunks,
    read_tile,
    see_tile,
    tint_light,
)
from pipeline.records import F32


@dataclass(frozen=True, slots=True)
class Moment:
    """time: seconds of film; age: seconds of shot; shot: its number; hero: x, y and size of the lantern, in heights of
    the picture from its middle."""

    time: float
    age: float
    shot: int
    hero: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """back draws what lies behind the lantern, front what falls before it."""

    back: Callable[[Camera, Moment], F32]
    front: Callable[[F32, Camera, Moment], None] | None = None


def draw_company(canvas: F32, camera: Camera, moment: Moment, *, count: int, depth: float) -> None:
    """Other lanterns, far and near, all rising."""
    rng = np.random.default_rng(77)
    for _ in range(count):
        x, y, far, pace = (
            rng.uniform(-1.4, 1.4),
            rng.uniform(-0.8, 1.2),
            rng.uniform(0.3, 1.0),
            rng.uniform(0.01, 0.025),
        )
        px, py = camera.find_point(
            x + 0.02 * math.sin(moment.time * 0.6 + 9 * x), (y - pace * moment.time + 0.8) % 2 - 0.8, depth * far
        )
        draw_lantern(canvas, px, py, 0.05 * far**2 * camera.unit, 0.1 * math.sin(moment.time + 5 * y), glow=0.75)


def build_valley(rng: np.random.Generator, height: int, *, evening: bool) -> Place:
    """Hills behind hills. In the evening blue and still, in the morning gold and full of lanterns."""
    if evening:
        sky: list[tuple[float, Colour]] = [
            (-0.9, (14, 22, 52)),
            (-0.45, (38, 48, 98)),
            (-0.1, (128, 88, 128)),
            (0.12, (236, 146, 120)),
            (0.4, (255, 196, 140)),
        ]
        mist, dark, sun = (196.0, 132.0, 132.0), (12.0, 16.0, 34.0), (255.0, 150.0, 100.0)
    else:
        sky = [
            (-0.9, (60, 110, 168)),
            (-0.4, (124, 168, 200)),
            (-0.05, (244, 206, 158)),
            (0.15, (255, 226, 166)),
            (0.4, (255, 236, 190)),
        ]
        mist, dark, sun = (250.0, 214.0, 164.0), (44.0, 52.0, 46.0), (255.0, 220.0, 140.0)
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    stars = paint_stars(rng, height, count=500, bright=0.8, depth=0.03, bottom=0.0) if evening else None
    ridges = []
    for k, (base, rise, rough, depth, trees) in enumerate(
        (
            (0.22, 0.34, 1.5, 0.12, 0.0),
            (0.3, 0.24, 1.3, 0.25, 0.0),
            (0.38, 0.16, 1.2, 0.45, 0.025),
            (0.5, 0.12, 1.3, 0.75, 0.06),
        )
    ):
        near, foot = blend_colour(mist, dark, ((k + 1.2) / 4.2) ** 0.8), blend_colour(mist, dark, k / 5)
        ridges.append(
            paint_ridge(
                rng,
                height,
                base=base,
                rise=rise,
                rough=rough,
                near=near,
                far=foot,
                depth=depth,
                trees=trees,
                relief=0.18,
            )
        )
    front = paint_ridge(rng, height, base=0.66, rise=0.13, rough=1.4, near=dark, far=dark, depth=1.15, trees=0.2)
    homes = rng.uniform((-0.9, 0.40), (0.9, 0.46), (26, 2))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, sky)
        if stars:
            draw_layer(canvas, camera, stars)
        x, y = camera.find_point(0.34, 0.06 if evening else -0.12, 0.05)
        add_glow(canvas, x, y, 0.9 * camera.unit, sun, 0.8)
        add_glow(canvas, x, y, 0.12 * camera.unit, (255, 240, 210), 1.6)
        cover = see_tile(camera, clouds, size=2.4, depth=0.08, x=moment.time * 0.006, squash=0.35)
        mix_colour(canvas, np.clip(cover * 2.2 - 1.25, 0, 0.5) * band(camera, -0.25, 0.3, 0.08), sun)
        for k, ridge in enumerate(ridges):
            draw_layer(canvas, camera, ridge)
            if k == 2:
                cover = see_tile(camera, clouds, size=1.5, depth=0.5, x=-moment.time * 0.015, squash=0.3)
                mix_colour(canvas, cover * 0.5 * band(camera, 0.42, 0.08, 0.5), mist)
        if evening:
            for hx, hy in homes:
                px, py = camera.find_point(hx, hy, 0.75)
                add_glow(canvas, px, py, 0.016 * camera.unit, (255, 190, 90), 0.9)
        else:
            draw_company(canvas, camera, moment, count=34, depth=0.9)
        draw_layer(canvas, camera, front)
        return canvas

    return Place(back)


def build_forest(rng: np.random.Generator, height: int) -> Place:
    """Trunks in fog, shafts of light, fireflies."""
    fog = make_noise(rng, TILE, TILE, power=1.7, low=2)
    rows = [
        paint_trunks(rng, height, count=26, thick=0.035, near=(96, 136, 132), far=(150, 182, 168), depth=0.2),
        paint_trunks(rng, height, count=20, thick=0.06, near=(54, 88, 92), far=(124, 160, 148), depth=0.45),
        paint_trunks(rng, height, count=13, thick=0.11, near=(20, 40, 46), far=(66, 98, 94), depth=0.85),
    ]
    floor = paint_ridge(
        rng, height, base=0.5, rise=0.08, rough=1.2, near=(18, 34, 32), far=(6, 12, 14), depth=0.9, trees=0.07, fade=0.2
    )
    flies = rng.uniform((-1.6, -0.3, 0), (1.6, 0.45, 6.28), (34, 3))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (200, 222, 196)), (-0.2, (160, 194, 178)), (0.4, (92, 126, 122))])
        for k, row in enumerate(rows):
            draw_layer(canvas, camera, row)
            cover = see_tile(
                camera, fog, size=1.8 - 0.3 * k, depth=0.3 + 0.2 * k, x=moment.time * (0.02 + 0.01 * k), squash=0.5
            )
            mix_colour(canvas, cover * (0.6 - 0.13 * k) * band(camera, 0.3, 0.35, 0.4), (176, 204, 190))
        wx, wy = map_pixels(camera, 0.4, step=4)
        slant = wx * 0.86 + wy * 0.5
        shafts = np.clip(np.sin(slant * 9 + 0.3) * np.sin(slant * 23 + moment.time * 0.25) - 0.1, 0, 1) * np.clip(
            0.55 - wy, 0, 1
        )
        add_light(canvas, cv2.resize(shafts, (camera.width, camera.height)), (255, 244, 196), 0.3)
        draw_layer(canvas, camera, floor)
        return canvas

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        for fx, fy, phase in flies:
            x = fx + 0.05 * math.sin(moment.time * 0.7 + phase) + 0.03 * math.sin(moment.time * 1.9 + 2 * phase)
            px, py = camera.find_point(x, fy + 0.04 * math.sin(moment.time * 0.9 + 3 * phase), 1.0)
            add_glow(
                canvas,
                px,
                py,
                0.022 * camera.unit,
                (240, 255, 140),
                0.8 * max(0.0, math.sin(moment.time * 1.3 + phase)),
            )

    return Place(back, front)


def build_sea(rng: np.random.Generator, height: int) -> Place:
    """A calm sea at night: moon, stars, glitter, and the lantern's light on the water."""
    ripples = make_noise(rng, TILE, TILE, power=0.9, low=6)
    clouds = make_noise(rng, TILE, TILE, power=1.6, low=2)
    stars = paint_stars(rng, height, count=900, bright=1.0, depth=0.03, bottom=0.1)
    isle = paint_ridge(
        rng, height, base=0.095, rise=0.07, rough=1.7, near=(14, 24, 46), far=(14, 24, 46), depth=0.1, fade=0.02
    )
    horizon = 0.1

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (4, 8, 26)), (-0.3, (12, 26, 62)), (0.1, (52, 84, 130))])
        draw_layer(canvas, camera, stars)
        moon_x, moon_y = camera.find_point(0.3, -0.24, 0.05)
        add_glow(canvas, moon_x, moon_y, 0.75 * camera.unit, (120, 150, 200), 0.8)
        draw_disc(canvas, moon_x, moon_y, 0.052 * camera.unit, (250, 246, 226))
        cover = see_tile(camera, clouds, size=2.2, depth=0.08, x=moment.time * 0.01, squash=0.3)
        mix_colour(canvas, np.clip(cover * 2 - 1.1, 0, 0.6) * band(camera, -0.12, 0.18, 0.08), (70, 92, 136))
        draw_layer(canvas, camera, isle)
        edge = camera.find_point(0, horizon, 0.1)[1]
        first = int(np.clip(np.ceil(edge), 0, camera.height))
        if first < camera.height:
            hero = (moment.hero[0] * camera.height + camera.width / 2, moment.hero[2])
            canvas[first:] = _draw_water(camera, moment, ripples, first, edge, moon_x, hero)
        return canvas

    return Place(back)


def _draw_water(
    camera: Camera, moment: Moment, ripples: F32, first: int, edge: float, moon_x: float, hero: tuple[float, float]
) -> F32:
    """Rows [first, height) of a plane of water seen to the horizon at row `edge`, with the columns of light on it."""
    down: F32 = (np.arange(first, camera.height, dtype=np.float32)[:, None] + 0.5 - edge) / camera.unit
    x: F32 = np.arange(camera.width, dtype=np.float32)[None, :] + 0.5
    distance = 1 / (down + 0.03)
    across = ((x - camera.width / 2) / camera.unit * distance * 0.25 + camera.x * 0.4) * (TILE / 2)
    away = distance * 0.5 * (TILE / 2)
    waves = []
    for way, pace in ((1, 26.0), (-1, 17.0)):
        u = across * (0.9 if way < 0 else 1.0) + moment.time * pace * way
        waves.append(read_tile(ripples, u, away + moment.time * pace * 0.8))
    swell = waves[0] * waves[1]
    glitter = np.clip((swell - 0.3) * 5, 0, 1)
    moon = np.exp(-(((x - moon_x) / camera.unit / (0.05 + 0.45 * down)) ** 2)) * np.clip(0.25 + down * 3, 0, 1)
    warm = np.exp(-(((x - hero[0]) / camera.unit / (0.02 + 0.6 * hero[1] + 0.2 * down)) ** 2)) * min(
        1.0, 0.5 + 3 * hero[1]
    )
    depth = np.clip(down / 0.45, 0, 1)
    shade = 0.75 + 0.7 * swell
    water = tint_light(shade * (1 - depth), (44, 74, 116)) + tint_light(shade * depth, (6, 14, 34))
    add_light(water, moon * (glitter * 0.95 + 0.1), (214, 220, 226))
    add_light(water, warm * (glitter * 0.9 + 0.12), (255, 150, 60))
    return water


def build_desert(rng: np.random.Generator, height: int) -> Place:
    """Dunes under a great sun, sand in the wind."""
    sand = make_noise(rng, TILE, TILE, power=1.3, low=3)
    dunes = [
        paint_ridge(rng, height, base=0.2, rise=0.14, rough=2.0, near=(222, 128, 84), far=(240, 166, 112), depth=0.12),
        paint_ridge(
            rng, height, base=0.32, rise=0.2, rough=2.1, near=(206, 100, 58), far=(228, 140, 88), depth=0.35, relief=0.3
        ),
        paint_ridge(
            rng, height, base=0.46, rise=0.2, rough=2.2, near=(160, 66, 40), far=(196, 100, 60), depth=0.65, relief=0.4
        ),
        paint_ridge(
            rng, height, base=0.64, rise=0.22, rough=2.3, near=(84, 32, 28), far=(128, 56, 38), depth=1.05, relief=0.4
        ),
    ]

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(
            camera, [(-0.9, (120, 50, 52)), (-0.35, (214, 98, 58)), (0.05, (255, 172, 84)), (0.3, (255, 206, 128))]
        )
        x, y = camera.find_point(-0.3, -0.08, 0.06)
        add_glow(canvas, x, y, 1.0 * camera.unit, (255, 150, 60), 0.9)
        draw_disc(canvas, x, y, 0.19 * camera.unit, (255, 236, 178))
        for k, dune in enumerate(dunes):
            draw_layer(canvas, camera, dune)
            if k in (1, 3):
                cover = see_tile(
                    camera, sand, size=1.6, depth=0.5 + 0.2 * k, x=moment.time * (0.12 + 0.1 * k), squash=0.16
                )
                weight = np.clip(cover * 1.9 - 1.0, 0, 0.5) * band(camera, 0.2 + 0.08 * k, 0.1, 0.5)
                mix_colour(canvas, weight, (255, 190, 120))
        return canvas

    return Place(back)


def build_city(rng: np.random.Generator, height: int, *, rain: bool) -> Place:
    """Towers at dusk, thousands of windows, cars below; or the same in the rain."""
    dusk: list[tuple[float, Colour]] = [
        (-0.9, (22, 18, 60)),
        (-0.35, (84, 44, 112)),
        (0.0, (214, 92, 110)),
        (0.3, (255, 160, 104)),
    ]
    wet: list[tuple[float, Colour]] = [(-0.9, (10, 8, 30)), (-0.3, (30, 24, 66)), (0.3, (96, 54, 104))]
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    haze: tuple[Colour, Colour, Colour] = (
        ((58, 44, 88), (34, 28, 64), (12, 12, 30)) if rain else ((132, 66, 108), (72, 40, 86), (22, 16, 40))
    )
    towers = [
        paint_skyline(
            rng,
            height,
            base=0.36,
            tall=0.42,
            near=haze[0],
            far=(150, 86, 110) if not rain else haze[0],
            depth=0.15,
            lit=0.22,
        ),
        paint_skyline(rng, height, base=0.44, tall=0.52, near=haze[1], far=haze[0], depth=0.4, lit=0.3),
        paint_skyline(rng, height, base=0.58, tall=0.46, near=haze[2], far=haze[2], depth=0.9, lit=0.34),
    ]
    cars = rng.uniform((-1.6, 0.43, 0.15), (1.6, 0.49, 0.4), (36, 3))
    fall = _make_rain(rng)

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, wet if rain else dusk)
        cover = see_tile(camera, clouds, size=2.0, depth=0.08, x=moment.time * (0.08 if rain else 0.012), squash=0.4)
        mix_colour(
            canvas,
            np.clip(cover * 1.6 - 0.7, 0, 0.5) * band(camera, -0.35, 0.4, 0.08),
            (64, 44, 92) if rain else (255, 150, 130),
        )
        if not rain:
            x, y = camera.find_point(0.15, 0.16, 0.05)
            add_glow(canvas, x, y, 0.9 * camera.unit, (255, 130, 80), 0.55)
        for k, row in enumerate(towers):
            draw_layer(canvas, camera, row)
            if k == 1:
                for cx, cy, pace in cars:
                    way = 1 if cy > 0.46 else -1
                    px, py = camera.find_point((cx + way * pace * moment.time + 1.6) % 3.2 - 1.6, cy - 0.05, 0.7)
                    add_glow(canvas, px, py, 0.02 * camera.unit, (255, 236, 200) if way > 0 else (255, 60, 40), 0.9)
        return canvas

    def front(canvas: F32, _camera: Camera, moment: Moment) -> None:
        _draw_rain(canvas, moment, fall, 0.55)

    return Place(back, front if rain else None)


def _make_rain(rng: np.random.Generator) -> F32:
    tile = np.zeros((TILE, TILE), np.uint8)
    for x, y, long, bright in rng.uniform((0, 0, 24, 50), (TILE, TILE, 80, 190), (170, 4)):
        for dx in (-TILE, 0, TILE):
            for dy in (-TILE, 0, TILE):
                start, end = (
                    (int((x + dx) * 8), int((y + dy) * 8)),
                    (int((x + dx - long * 0.22) * 8), int((y + dy + long) * 8)),
                )
                cv2.line(tile, start, end, int(bright), 1, cv2.LINE_AA, 3)
    return tile.astype(np.float32)


def _draw_rain(canvas: F32, moment: Moment, tile: F32, strength: float) -> None:
    height, width = canvas.shape[:2]
    for k, (heights, pace) in enumerate(((1.0, 1.9), (1.7, 2.7))):  # far and near drops; heights a tile
        scale = heights * height / TILE
        shift = (moment.time * pace) % heights * height
        matrix = np.array([[scale, 0, -0.22 * shift + 40 * k], [0, scale, shift]], dtype=np.float32)
        drops = cv2.warpAffine(tile, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        add_light(canvas, np.asarray(drops, dtype=np.float32), (0.8, 0.92, 1.0), strength)


def build_storm(rng: np.random.Generator) -> Place:
    """High seas, torn clouds, rain, lightning."""
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    fall = _make_rain(rng)
    bolts = [np.cumsum(rng.normal(0, 0.035, 22)) for _ in range(24)]
    waves: list[tuple[float, float, float, float, Colour]] = [
        (0.14, 0.04, 9.0, 1.1, (70, 92, 100)),
        (0.22, 0.06, 6.5, 1.5, (50, 74, 84)),
        (0.34, 0.085, 4.6, 1.9, (32, 54, 66)),
        (0.5, 0.12, 3.2, 2.4, (14, 28, 38)),
    ]

    def strike(moment: Moment) -> float:
        """Light of the lightning, 0..1: two shots of three have one, rising over some frames as light in cloud does."""
        since = moment.age - 0.28
        return 0.0 if moment.shot % 3 == 2 or since < -0.12 else math.exp(-abs(since) * (9 if since < 0 else 3.5))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (8, 12, 18)), (-0.3, (30, 42, 50)), (0.15, (96, 116, 116))])
        flash = strike(moment)
        for size, pace, colour in ((2.4, 0.12, (120.0, 136.0, 138.0)), (1.5, 0.22, (14.0, 20.0, 28.0))):
            cover = see_tile(camera, clouds, size=size, depth=0.1, x=moment.time * pace, squash=0.55)
            mix_colour(canvas, np.clip(cover * 1.7 - 0.6, 0, 0.85) * band(camera, -0.4, 0.45, 0.1), colour)
        if flash > 0:
            bolt = bolts[moment.shot % len(bolts)]
            at = camera.find_point(0.7 * math.sin(moment.shot * 2.4), -0.6, 0.1)
            add_glow(canvas, at[0], at[1] + 0.15 * camera.unit, 1.0 * camera.unit, (150, 170, 220), 0.7 * flash)
            line = np.stack([at[0] + bolt * camera.unit, at[1] + np.linspace(0, 0.75, 22) * camera.unit], axis=1)
            mask = np.zeros(canvas.shape[:2], np.uint8)
            cv2.polylines(mask, [(line * 8).astype(np.int32)], False, 255, max(1, camera.height // 180), cv2.LINE_AA, 3)
            cv2.polylines(
                mask,
                [((line[8:15] + (line[8:15] - line[8]) * (0.9, 0)) * 8).astype(np.int32)],
                False,
                160,
                1,
                cv2.LINE_AA,
                3,
            )
            light = mask.astype(np.float32) + cv2.GaussianBlur(mask.astype(np.float32), (0, 0), camera.height / 60) * 3
            add_light(canvas, light, (0.85, 0.9, 1.0), flash)
        x = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.unit
        for k, (base, rise, often, pace, colour) in enumerate(waves):
            depth = 0.15 + 0.28 * k
            wx = x + camera.x * depth
            line = np.sin(wx * often + moment.time * pace) + 0.45 * np.sin(
                wx * often * 2.3 - moment.time * pace * 1.4 + k
            )
            chop = np.sin(wx * often * 5.3 + moment.time * 4 + k) + np.sin(wx * often * 11.7 - moment.time * 6)
            line = 1 - (line * line + 0.03) ** 0.5 + 0.05 * chop  # crests sharper than troughs
            crest = (
                camera.find_point(0, base, depth)[1]
                - line * rise * camera.unit
                - math.sin(camera.roll) * x * camera.unit
            )
            first = int(np.clip(crest.min() - 2, 0, camera.height))
            if first >= camera.height:
                continue
            under = np.arange(first, camera.height, dtype=np.float32)[:, None] + 0.5 - crest[None, :]
            mix_colour(canvas[first:], np.clip(under + 0.5, 0, 1), blend_colour(colour, (160, 180, 190), 0.3 * flash))
            fall_off = np.exp(-np.maximum(under, 0) / np.float32(0.05 * camera.unit))
            foam = (0.4 * fall_off + fall_off**7) * np.clip(under + 0.5, 0, 1) * np.clip(line, 0, 1)[None, :] ** 2
            add_light(canvas[first:], foam, (0.8, 0.95, 1.0), 60 + 70 * flash)
        return canvas

    def front(canvas: F32, _camera: Camera, moment: Moment) -> None:
        _draw_rain(canvas, moment, fall, 0.6 + 0.3 * strike(moment))

    return Place(back, front)


def build_deep(rng: np.random.Generator, height: int) -> Place:
    """Under water: swaying rays from above, fish, bubbles, weed."""
    beams = make_noise(rng, 1, 1024, power=0.7, low=8)[0]
    bed = [
        paint_ridge(rng, height, base=0.4, rise=0.16, rough=1.5, near=(12, 84, 104), far=(8, 62, 84), depth=0.25),
        paint_ridge(
            rng, height, base=0.55, rise=0.16, rough=1.4, near=(6, 44, 62), far=(3, 26, 40), depth=0.7, trees=0.1
        ),
    ]
    shoal = rng.uniform((-0.35, -0.12, 0.6), (0.35, 0.12, 1.3), (40, 3))
    bubbles = rng.uniform((-1.5, 0, 0.3, 0), (1.5, 1.4, 1.0, 6.28), (46, 4))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(
            camera,
            [(-0.9, (130, 226, 222)), (-0.4, (42, 160, 180)), (0.1, (12, 92, 126)), (0.6, (2, 34, 62))],
            depth=0.4,
        )
        wx, wy = map_pixels(camera, 0.4, step=2)
        angle = np.arctan2(wx - 0.15, wy + 1.3) * 260 + 512
        rays = (
            beams[(angle + moment.time * 9).astype(np.int32) % 1024]
            * beams[(angle * 1.3 - moment.time * 14).astype(np.int32) % 1024]
        )
        rays = cv2.GaussianBlur(rays, (0, 0), 1.2 * camera.height / 360) * np.clip(0.75 - wy, 0, 1.2) ** 1.5
        add_light(canvas, cv2.resize(rays, (camera.width, camera.height)), (120, 170, 150))
        draw_layer(canvas, camera, bed[0])
        mask = np.zeros(canvas.shape[:2], np.uint8)
        way = (moment.time * 0.16) % 3.4 - 1.7
        for fx, fy, size in shoal:
            wiggle = math.sin(moment.time * 9 + fx * 40)
            px, py = camera.find_point(way + fx, -0.08 + fy + 0.05 * math.sin(moment.time * 0.8 + 3 * fx), 0.6)
            long = 0.02 * size * camera.unit
            body = np.array(
                [
                    (1, 0),
                    (0.2, -0.28),
                    (-0.7, 0),
                    (-1.15, -0.3 + 0.1 * wiggle),
                    (-1.15, 0.3 + 0.1 * wiggle),
                    (-0.7, 0),
                    (0.2, 0.28),
                ]
            )
            cv2.fillPoly(mask, [((body * long + (px, py)) * 8).astype(np.int32)], 190, cv2.LINE_AA, 3)
        mix_colour(canvas, mask.astype(np.float32) / np.float32(255), (8, 52, 76))
        draw_layer(canvas, camera, bed[1])
        return canvas

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        for bx, by, size, phase in bubbles:
            y = 0.6 - (by + moment.time * 0.22 * size) % 1.4
            px, py = camera.find_point(bx + 0.02 * math.sin(moment.time * 3 + phase), y, 1.0)
            add_glow(canvas, px, py, 0.014 * size * camera.unit + 1, (190, 250, 250), 0.7)

    return Place(back, front)


def build_tunnel(rng: np.random.Generator) -> Place:
    """A tunnel of light, flown through."""
    streaks = make_noise(rng, TILE, TILE, power=0.8, low=5)
    flow = make_noise(rng, TILE, TILE, power=1.5, low=2)

    def back(camera: Camera, moment: Moment) -> F32:
        x, y = map_pixels(camera, 0.25, step=2)
        x = x + 0.05 * math.sin(moment.time * 1.7)
        y = y + 0.05 * math.cos(moment.time * 1.3)
        radius = np.hypot(x, y) + np.float32(0.02)
        angle = (np.arctan2(y, x) / (2 * np.pi) + camera.roll * 2 + 0.03 * moment.time) * TILE
        away = 0.3 / radius
        fast = read_tile(streaks, angle * 2, away * 60 + moment.time * 520)
        slow = read_tile(flow, angle, away * 150 + moment.time * 260)
        near = np.clip(radius * 1.5, 0, 1)
        small = lerp((46, 30, 130), (236, 70, 140), slow) * (0.3 + 0.9 * (slow - 0.5) * near + 0.45 * near)[..., None]
        add_light(small, np.clip(fast * 2.4 - 1.35, 0, 1) * near**1.5, (150, 220, 255))
        add_light(small, np.exp(-((radius / 0.15) ** 1.2)), (255, 244, 226))
        return np.asarray(cv2.resize(small, (camera.width, camera.height)), dtype=np.float32)

    return Place(back)


def build_stars(rng: np.random.Generator, height: int) -> Place:
    """Above the sky: a nebula, stars, the edge of the world below, and the other lanterns."""
    field = [
        paint_stars(rng, height, count=n, bright=b, depth=d, bottom=0.95)
        for n, b, d in ((1600, 0.7, 0.04), (500, 1.3, 0.15), (120, 2.2, 0.4))
    ]
    gas = make_noise(rng, TILE, TILE, power=1.7, low=1)
    dust = make_noise(rng, TILE, TILE, power=1.4, low=3)

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (6, 6, 22)), (0.2, (14, 12, 44)), (0.6, (30, 26, 70))])
        cloud = see_tile(camera, gas, size=2.6, depth=0.06)
        grain = see_tile(camera, dust, size=1.7, depth=0.06, x=0.4)
        cloud = np.clip(cloud * 1.5 - 0.55, 0, 1) * (0.45 + 0.55 * grain)
        add_light(canvas, cloud * (1 - grain), (60, 30, 150), 0.9)
        add_light(canvas, cloud * grain, (40, 160, 190), 0.9)
        add_light(canvas, np.maximum(cloud - 0.45, 0), (255, 120, 150), 1.4)
        for layer in field:
            draw_layer(canvas, camera, layer)
        x, y = camera.find_point(-0.1, 2.28, 0.3)
        first = int(np.clip(y - 2.3 * camera.unit, 0, camera.height))
        if first < camera.height:  # the edge of the world, and its air
            ys = (np.arange(first, camera.height, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(camera.unit)
            xs = (np.arange(camera.width, dtype=np.float32)[None, :] - np.float32(x)) / np.float32(camera.unit)
            out = np.sqrt(xs * xs + ys * ys) - np.float32(1.9)
            mix_colour(canvas[first:], np.clip(0.5 - out * camera.unit, 0, 1), (8, 22, 52))
            air = np.exp(-np.maximum(out * 20, out * -50))
            dawn = np.exp(-((xs - 0.45) ** 2) / np.float32(0.18))
            add_light(canvas[first:], air * (1 - dawn), (50, 110, 230), 0.9)
            add_light(canvas[first:], air * dawn, (255, 190, 120), 0.9)
        draw_company(canvas, camera, moment, count=26, depth=0.9)
        return canvas

    return Place(back)


def build_places(seed: int, height: int) -> Mapping[str, Place]:
    """Every place of the film by name, for pictures `height` pixels tall."""
    rng = [np.random.default_rng([seed, k]) for k in range(10)]
    return {
        "valley": build_valley(rng[0], height, evening=True),
        "forest": build_forest(rng[1], height),
        "sea": build_sea(rng[2], height),
        "desert": build_desert(rng[3], height),
        "city": build_city(rng[4], height, rain=False),
        "rain": build_city(rng[5], height, rain=True),
        "storm": build_storm(rng[6]),
        "deep": build_deep(rng[7], height),
        "tunnel": build_tunnel(rng[8]),
        "stars": build_stars(rng[9], height),
        "morning": build_valley(np.random.default_rng([seed, 0]), height, evening=False),
    }
