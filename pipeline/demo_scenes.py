"""Draw the places of the demo film, and the lantern that travels through them.

World coordinates: one unit is the picture's height, x to the right, y down, (0, 0) the middle of the wide view. Places
are built once, from layers painted wider than the picture; a picture is then a few scaled copies and sums. Pictures
stay float32 (h, w, 3) RGB on 0..255 until they are finished. Noise is made on fixed grids, so that a film drawn smaller
shows the same hills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from pipeline.records import F32, U8

Colour = tuple[float, float, float]

LAYER_SCALE = 1.5  # layer pixels a picture pixel of the wide view: a medium framing is sharp, a close one soft
TILE = 512  # pixels of a repeating noise tile
WIDEST_SHIFT = 1.0  # heights; no camera looks further aside
WIDEST_HALF = 1.0  # heights; half the widest picture, 16:9, and room for shake


@dataclass(frozen=True, slots=True)
class Camera:
    """Where the view looks (x, y in heights), how close (zoom, 1 is wide), and onto how many pixels. roll: radians."""

    x: float
    y: float
    zoom: float
    roll: float
    width: int
    height: int

    @property
    def unit(self) -> float:
        """Pixels a world unit."""
        return self.zoom * self.height

    def place_layer(self, depth: float, scale: float, left: float, top: float) -> F32:
        """(2, 3) from layer pixels to picture pixels. depth: 0 stands still, 1 moves with the subject."""
        k = self.unit / scale
        c, s = k * np.cos(self.roll), k * np.sin(self.roll)
        x, y = (left - self.x * depth) * scale, (top - self.y * depth) * scale
        return np.array(
            [[c, -s, c * x - s * y + self.width / 2], [s, c, s * x + c * y + self.height / 2]], dtype=np.float32
        )

    def find_point(self, x: float, y: float, depth: float) -> tuple[float, float]:
        """Picture pixels of a world point."""
        return (x - self.x * depth) * self.unit + self.width / 2, (y - self.y * depth) * self.unit + self.height / 2


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


@dataclass(frozen=True, slots=True)
class Layer:
    """picture (h, w, 4) premultiplied RGBA; left, top: world position of its corner; scale: pixels a world unit."""

    picture: U8
    left: float
    top: float
    scale: float
    depth: float


# Noise and light --------------------------------------------------------------------------------------------------


def make_noise(rng: np.random.Generator, rows: int, columns: int, *, power: float, low: float = 1.0) -> F32:
    """(rows, columns) repeating noise, 0..1, whose amplitude falls with frequency ** -power from `low` cycles a tile."""
    spectrum = np.fft.rfft2(rng.standard_normal((rows, columns)))
    frequency = np.hypot(np.fft.fftfreq(rows, 1 / rows)[:, None], np.fft.rfftfreq(columns, 1 / columns)[None, :])
    spectrum *= np.where(frequency < low, 0.0, np.maximum(frequency, low) ** -power)
    noise = np.fft.irfft2(spectrum, s=(rows, columns))
    lowest, highest = np.percentile(noise, (1, 99))
    return np.clip((noise - lowest) / (highest - lowest), 0, 1).astype(np.float32)


@cache
def _glow_sprite() -> F32:
    y, x = np.mgrid[-1:1:257j, -1:1:257j]
    r = np.clip(np.hypot(x, y), 0, 1)
    return np.asarray((1 - r) ** 2 / (1 + 12 * r * r), dtype=np.float32)


def add_glow(canvas: F32, x: float, y: float, radius: float, colour: Colour, power: float = 1.0) -> None:
    """Add light around pixel (x, y)."""
    height, width = canvas.shape[:2]
    left, right = max(0, int(x - radius)), min(width, int(x + radius) + 2)
    top, bottom = max(0, int(y - radius)), min(height, int(y + radius) + 2)
    if left >= right or top >= bottom or radius <= 0:
        return
    k = 128 / radius
    matrix = np.array([[k, 0, 128 + (left - x) * k], [0, k, 128 + (top - y) * k]], dtype=np.float32)
    light = cv2.warpAffine(
        _glow_sprite(), matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    canvas[top:bottom, left:right] += light[..., None] * (np.array(colour, np.float32) * np.float32(power))


def draw_sky(camera: Camera, stops: Sequence[tuple[float, Colour]], depth: float = 0.1) -> F32:
    """A picture filled with colours that change with world y."""
    rows = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.unit + camera.y * depth
    at = [y for y, _ in stops]
    column = np.stack([np.interp(rows, at, [colour[k] for _, colour in stops]) for k in range(3)], axis=1)
    return np.repeat(column.astype(np.float32)[:, None, :], camera.width, axis=1)


def draw_layer(canvas: F32, camera: Camera, layer: Layer) -> None:
    """Lay a layer over the canvas, from the first row that it can touch down."""
    matrix = camera.place_layer(layer.depth, layer.scale, layer.left, layer.top)
    lean = abs(np.tan(camera.roll)) * camera.width / 2
    first = int(np.clip(camera.find_point(0, layer.top, layer.depth)[1] - lean - 2, 0, camera.height))
    if first >= camera.height:
        return
    matrix[1, 2] -= first
    seen = cv2.warpAffine(
        layer.picture, matrix, (camera.width, camera.height - first), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    through = cv2.subtract(255, cv2.merge([seen[..., 3]] * 3))
    below = canvas[first:]
    cv2.multiply(below, through, dst=below, scale=1 / 255, dtype=cv2.CV_32F)
    cv2.add(below, cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB), dst=below, dtype=cv2.CV_32F)


def see_tile(camera: Camera, tile: F32, *, size: float, depth: float, x: float = 0.0, y: float = 0.0, squash: float = 1.0) -> F32:
    """(h, w) of a repeating tile that is `size` heights wide, shifted by (x, y) heights; squash < 1 flattens it."""
    small = Camera(camera.x, camera.y, camera.zoom, camera.roll, camera.width // 2, camera.height // 2)
    matrix = small.place_layer(depth, TILE / size, x, y)
    matrix[:, 1] *= squash
    seen = cv2.warpAffine(
        tile, matrix, (small.width, small.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    return np.asarray(cv2.resize(seen, (camera.width, camera.height)), dtype=np.float32)


def mix_colour(canvas: F32, weight: F32, colour: Colour) -> None:
    """Pull the canvas towards a colour by weight (h, w) or (h, 1), 0..1."""
    canvas += (np.array(colour, np.float32) - canvas) * weight[..., None]


def band(camera: Camera, middle: float, spread: float, depth: float) -> F32:
    """(h, 1) bell over world y."""
    rows = (np.arange(camera.height) + 0.5 - camera.height / 2) / camera.unit + camera.y * depth
    return np.exp(-(((rows - middle) / spread) ** 2)).astype(np.float32)[:, None]


# Layers -----------------------------------------------------------------------------------------------------------


def _empty_layer(height: int, depth: float, top: float, bottom: float) -> tuple[F32, F32, F32, float, float]:
    """World x (1, w) and y (h, 1) of a layer's pixels, its pixels a unit, and its left edge."""
    scale = LAYER_SCALE * height
    half = WIDEST_HALF + WIDEST_SHIFT * depth
    x = -half + (np.arange(int(2 * half * scale), dtype=np.float32)[None, :] + 0.5) / scale
    y = top + (np.arange(int((bottom - top) * scale), dtype=np.float32)[:, None] + 0.5) / scale
    return x, y, np.zeros((y.size, x.size, 4), np.float32), scale, -half


def _lerp(a: Colour, b: Colour, t: F32) -> F32:
    return np.array(a, np.float32) + (np.array(b, np.float32) - np.array(a, np.float32)) * t[..., None]


def paint_ridge(
    rng: np.random.Generator, height: int, *, base: float, rise: float, rough: float, near: Colour, far: Colour,
    depth: float, fade: float = 0.35, trees: float = 0.0, relief: float = 0.0,
) -> Layer:
    """A line of hills. near: colour of the crest; far: of the mist at its foot, `fade` heights below. trees: height of
    the pines on it. relief: how much one side of each hill is lit."""  # fmt: skip
    x, y, rgba, scale, left = _empty_layer(height, depth, base - rise - trees, base + fade + 0.5)
    profile = make_noise(rng, 1, 2048, power=rough, low=3)[0]
    grid = np.linspace(-2.2, 2.2, 2048)
    slope = np.gradient(cv2.GaussianBlur(profile[None, :], (0, 0), 14)[0], grid)
    crest = base - rise * np.interp(x[0], grid, profile)
    ground = crest.copy()
    if trees:
        for at in np.sort(rng.uniform(-2.2, 2.2, 260)):
            tall, wide = trees * rng.uniform(0.35, 1.0), trees * rng.uniform(0.14, 0.24)
            foot = np.interp(at, grid, base - rise * profile)
            from_stem = np.abs(x[0] - at) / wide
            twigs = 1 - from_stem - 0.16 * np.abs(((1 - from_stem) * 7) % 1 - 0.5)  # a saw: boughs
            crest = np.where(from_stem < 1, np.minimum(crest, foot + 0.01 - tall * twigs), crest)
    alpha = np.clip((y - crest[None, :]) * scale + 0.5, 0, 1)
    colour = _lerp(near, far, np.clip((y - ground[None, :]) / fade, 0, 1) ** 0.8)
    if relief:
        below = np.clip(y - ground[None, :], 0, 9)
        steep = np.interp(x + 0.55 * below + 0.25 * below**2, grid, slope)  # the light and dark sides run down aslant
        colour *= (1 + np.tanh(steep * 1.8) * np.exp(-below / 0.2) * relief)[..., None].astype(np.float32)
    rgba[..., :3] = np.clip(colour, 0, 255) * alpha[..., None]
    rgba[..., 3] = alpha * 255
    return Layer(rgba.astype(np.uint8), left, base - rise - trees, scale, depth)


def paint_trunks(
    rng: np.random.Generator, height: int, *, count: int, thick: float, near: Colour, far: Colour, depth: float
) -> Layer:
    """A row of bare trunks that reach out of the picture, lost in mist at the foot."""
    _, y, rgba, scale, left = _empty_layer(height, depth, -1.0, 1.0)
    mask = np.zeros(rgba.shape[:2], np.uint8)

    def polygon(points: Sequence[tuple[float, float]]) -> None:
        pixels = np.array([((px - left) * scale * 16, (py + 1.0) * scale * 16) for px, py in points])
        cv2.fillPoly(mask, [pixels.astype(np.int32)], 255, cv2.LINE_AA, 4)

    for at in np.linspace(left, -left, count) + rng.uniform(-0.6, 0.6, count) * (-2 * left / count):
        wide, lean = thick * rng.uniform(0.5, 1.2), rng.uniform(-0.06, 0.06)
        bend = rng.uniform(-0.02, 0.02)
        side = [(at + lean * (v + 1) / 2 + bend * np.sin(3 * v), v) for v in np.linspace(-1, 1, 12)]
        widths = [wide * (0.7 + 0.25 * (v + 1) / 2 + 0.5 * max(0.0, v - 0.35) ** 2) for _, v in side]
        polygon(
            [(px - w / 2, v) for (px, v), w in zip(side, widths, strict=True)]
            + [(px + w / 2, v) for (px, v), w in zip(side[::-1], widths[::-1], strict=True)]
        )
        for _ in range(int(rng.integers(4, 8))):  # boughs
            v, long, way = rng.uniform(-0.95, -0.05), rng.uniform(0.08, 0.3), rng.choice([-1.0, 1.0])
            px = at + lean * (v + 1) / 2 + bend * np.sin(3 * v)
            up = long * rng.uniform(0.2, 0.7)
            polygon([(px, v), (px + way * long * 0.5, v - up * 0.35), (px + way * long, v - up),
                     (px + way * long * 0.5, v - up * 0.25 + wide * 0.12), (px, v + wide * 0.3)])  # fmt: skip
    alpha = mask.astype(np.float32) / 255
    rgba[..., :3] = _lerp(near, far, np.broadcast_to(np.clip((y + 0.35) / 0.9, 0, 1), alpha.shape)) * alpha[..., None]
    rgba[..., 3] = mask
    return Layer(rgba.astype(np.uint8), left, -1.0, scale, depth)


def paint_skyline(
    rng: np.random.Generator, height: int, *, base: float, tall: float, near: Colour, far: Colour, depth: float, lit: float
) -> Layer:
    """Towers with windows. lit: share of the windows with light."""
    top = base - tall * 1.25
    x, y, rgba, scale, left = _empty_layer(height, depth, top, base + 0.7)
    alpha = np.zeros(rgba.shape[:2], np.float32)
    lights = np.zeros((*alpha.shape, 3), np.float32)
    pane = 0.0085 + 0.008 * depth
    at = left - 0.1
    while at < -left:
        wide = rng.uniform(0.07, 0.2) * (0.7 + 0.5 * depth)
        roof = base - tall * rng.uniform(0.25, 1.0) ** 1.3
        for inset, step in ((0.0, 0.0), (0.22, 0.06), (0.42, 0.1))[: int(rng.integers(1, 4))]:
            a, b = ((at + wide * inset / 2 - left) * scale, (at + wide * (1 - inset / 2) - left) * scale)
            alpha[max(0, int((roof - tall * step - top) * scale)) :, max(0, int(a)) : max(0, int(b))] = 1
        if rng.random() < 0.3:  # a mast
            mast = int((at + wide / 2 - left) * scale)
            alpha[int((roof - tall * 0.22 - top) * scale) :, max(0, mast) : max(0, mast + max(1, int(0.004 * scale)))] = 1
        warm = np.array(((255, 196, 110), (255, 225, 170), (150, 205, 255))[int(rng.choice(3, p=[0.55, 0.3, 0.15]))])
        for row in np.arange(roof + pane, base + 0.35, pane * 2):
            for column in np.arange(at + pane, at + wide - pane, pane * 1.8):
                if rng.random() < lit:
                    corner = ((column - left) * scale, (row - top) * scale)
                    far_corner = (corner[0] + pane * scale * 0.9, corner[1] + pane * scale * 1.1)
                    if corner[0] > 0:
                        lights[int(corner[1]) : max(int(corner[1]) + 1, int(far_corner[1])),
                               int(corner[0]) : max(int(corner[0]) + 1, int(far_corner[0]))] = warm * rng.uniform(0.35, 1.0)  # fmt: skip
        at += wide * rng.uniform(0.95, 1.15)
    lights += cv2.GaussianBlur(lights, (0, 0), 0.012 * scale) * 0.8  # a little bloom
    wall = _lerp(near, far, np.broadcast_to(np.clip((y - top) / (base + 0.3 - top), 0, 1), alpha.shape))
    rgba[..., :3] = np.clip(wall * alpha[..., None] + lights * (0.5 + 0.5 * depth), 0, 255)
    rgba[..., 3] = alpha * 255
    return Layer(rgba.astype(np.uint8), left, top, scale, depth)


def paint_stars(rng: np.random.Generator, height: int, *, count: int, bright: float, depth: float, bottom: float) -> Layer:
    """Points of light above world y `bottom`; they add to the sky, for they cover nothing."""
    _, y, rgba, scale, left = _empty_layer(height, depth, -0.95, bottom)
    rows, columns = rgba.shape[:2]
    px, py = rng.uniform(2, columns - 3, count), rng.uniform(2, rows - 3, count)
    power = bright * rng.pareto(2.2, count).clip(0.15, 4) * 70
    tint = np.stack([rng.uniform(0.8, 1, count), rng.uniform(0.85, 1, count), rng.uniform(0.85, 1, count)], axis=1)
    radius = 0.6 * scale / 540
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            ix, iy = px.astype(int) + dx, py.astype(int) + dy
            spread = np.exp(-(((ix - px + 0.5) ** 2 + (iy - py + 0.5) ** 2) / (2 * radius**2 + 0.3)))
            np.add.at(rgba, (iy, ix, slice(0, 3)), (power * spread)[:, None] * tint)
    rgba[..., :3] *= np.clip((bottom - y) / 0.3, 0, 1)[..., None]
    return Layer(np.clip(rgba, 0, 255).astype(np.uint8), left, -0.95, scale, depth)


# The lantern ------------------------------------------------------------------------------------------------------


@cache
def _lantern_sprite() -> U8:
    """(320, 256, 4) premultiplied: a paper lantern, open below, lit from inside."""
    y, x = np.mgrid[-1.25:1.25:320j, -1:1:256j]
    dome = 0.78 * np.clip(1 - np.clip((0.1 - y) / 1.24, 0, 1) ** 2.5, 0, 1) ** (1 / 2.5)
    half = np.where(y < 0.1, dome, 0.78 - 0.28 * np.clip((y - 0.1) / 0.95, 0, 1) ** 1.6)
    alpha = np.clip((half - np.abs(x)) * 110, 0, 1) * np.clip((1.02 - y) * 110, 0, 1) * np.clip((y + 1.15) * 110, 0, 1)
    across = np.clip(np.abs(x) / np.maximum(half, 1e-3), 0, 1)
    flame = np.exp(-((x / 0.42) ** 2) - (((y - 0.55) / 0.75) ** 2))
    body = 0.52 + 0.3 * (y + 1.2) / 2.4 - 0.24 * across**3 + 0.42 * flame
    for rib in (0.0, 0.52, 0.86):  # vertical seams of the paper
        body -= 0.1 * np.exp(-(((across - rib) / 0.03) ** 2))
    for ring in (-0.75, -0.2, 0.4):
        body -= 0.05 * np.exp(-(((y - ring - 0.06 * (1 - across**2)) / 0.022) ** 2))
    body = np.where(y > 0.94, 0.28, body)  # the hoop
    colour = np.stack([255 * np.clip(body * 1.5, 0, 1), 240 * np.clip(body * 1.02 - 0.08, 0, 1) ** 1.15,
                       190 * np.clip(body * 0.85 - 0.22, 0, 1) ** 1.5], axis=-1)  # fmt: skip
    return np.dstack([colour * alpha[..., None], alpha * 255]).astype(np.uint8)


def draw_lantern(canvas: F32, x: float, y: float, size: float, sway: float, *, glow: float = 1.0) -> None:
    """A lantern `size` pixels tall in the middle of (x, y), leaning by `sway` radians, and its light on the air."""
    add_glow(canvas, x, y + size * 0.15, size * 3.2 + 6, (255, 150, 60), 0.55 * glow)
    if size < 6:
        add_glow(canvas, x, y, size * 0.8 + 1, (255, 205, 130), 1.1 * glow)
        return
    half = int(size * 0.7) + 2
    left, top = int(x) - half, int(y) - half
    k = size / 320
    c, s = k * np.cos(sway), k * np.sin(sway)
    matrix = np.array([[c, -s, x - left - c * 128 + s * 160], [s, c, y - top - s * 128 - c * 160]], dtype=np.float32)
    shown = cv2.warpAffine(_lantern_sprite(), matrix, (2 * half, 2 * half), flags=cv2.INTER_AREA).astype(np.float32)
    a, b = max(0, left), min(canvas.shape[1], left + 2 * half)
    c0, d = max(0, top), min(canvas.shape[0], top + 2 * half)
    if a >= b or c0 >= d:
        return
    shown = shown[c0 - top : d - top, a - left : b - left]
    part = canvas[c0:d, a:b]
    part *= 1 - shown[..., 3:] / 255
    part += shown[..., :3]
    add_glow(canvas, x, y + size * 0.2, size * 0.9, (255, 190, 90), 0.45 * glow)


def draw_company(canvas: F32, camera: Camera, moment: Moment, *, count: int, depth: float) -> None:
    """Other lanterns, far and near, all rising."""
    rng = np.random.default_rng(77)
    for _ in range(count):
        x, y, far, pace = rng.uniform(-1.4, 1.4), rng.uniform(-0.8, 1.2), rng.uniform(0.3, 1.0), rng.uniform(0.01, 0.025)
        px, py = camera.find_point(x + 0.02 * np.sin(moment.time * 0.6 + 9 * x), (y - pace * moment.time + 0.8) % 2 - 0.8, depth * far)
        draw_lantern(canvas, px, py, 0.05 * far**2 * camera.unit, 0.1 * np.sin(moment.time + 5 * y), glow=0.75)


# Places -----------------------------------------------------------------------------------------------------------


def build_valley(rng: np.random.Generator, height: int, *, evening: bool) -> Place:
    """Hills behind hills. In the evening blue and still, in the morning gold and full of lanterns."""
    if evening:
        sky: list[tuple[float, Colour]] = [(-0.9, (14, 22, 52)), (-0.45, (38, 48, 98)), (-0.1, (128, 88, 128)), (0.12, (236, 146, 120)), (0.4, (255, 196, 140))]  # fmt: skip
        mist, dark, sun = (196.0, 132.0, 132.0), (12.0, 16.0, 34.0), (255.0, 150.0, 100.0)
    else:
        sky = [(-0.9, (60, 110, 168)), (-0.4, (124, 168, 200)), (-0.05, (244, 206, 158)), (0.15, (255, 226, 166)), (0.4, (255, 236, 190))]  # fmt: skip
        mist, dark, sun = (250.0, 214.0, 164.0), (44.0, 52.0, 46.0), (255.0, 220.0, 140.0)
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    stars = paint_stars(rng, height, count=500, bright=0.8, depth=0.03, bottom=0.0) if evening else None
    ridges = []
    for k, (base, rise, rough, depth, trees) in enumerate(
        ((0.22, 0.34, 1.5, 0.12, 0.0), (0.3, 0.24, 1.3, 0.25, 0.0), (0.38, 0.16, 1.2, 0.45, 0.025), (0.5, 0.12, 1.3, 0.75, 0.06))
    ):
        near = _lerp(mist, dark, np.array((k + 1.2) / 4.2, np.float32) ** 0.8)
        foot = _lerp(mist, dark, np.array(k / 5.0, np.float32))
        ridges.append(paint_ridge(rng, height, base=base, rise=rise, rough=rough, near=_colour(near), far=_colour(foot), depth=depth, trees=trees, relief=0.18))  # fmt: skip
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
            draw_company(canvas, camera, moment, count=22, depth=0.9)
        draw_layer(canvas, camera, front)
        return canvas

    return Place(back)


def _colour(values: F32) -> Colour:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def build_forest(rng: np.random.Generator, height: int) -> Place:
    """Trunks in fog, shafts of light, fireflies."""
    fog = make_noise(rng, TILE, TILE, power=1.7, low=2)
    rows = [
        paint_trunks(rng, height, count=26, thick=0.035, near=(96, 136, 132), far=(150, 182, 168), depth=0.2),
        paint_trunks(rng, height, count=20, thick=0.06, near=(54, 88, 92), far=(124, 160, 148), depth=0.45),
        paint_trunks(rng, height, count=13, thick=0.11, near=(20, 40, 46), far=(66, 98, 94), depth=0.85),
    ]
    floor = paint_ridge(rng, height, base=0.5, rise=0.08, rough=1.2, near=(18, 34, 32), far=(6, 12, 14), depth=0.9, trees=0.07, fade=0.2)
    flies = rng.uniform((-1.6, -0.3, 0), (1.6, 0.45, 6.28), (34, 3))
    tint = np.array((255, 244, 196), np.float32)

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (200, 222, 196)), (-0.2, (160, 194, 178)), (0.4, (92, 126, 122))])
        for k, row in enumerate(rows):
            draw_layer(canvas, camera, row)
            cover = see_tile(camera, fog, size=1.8 - 0.3 * k, depth=0.3 + 0.2 * k, x=moment.time * (0.02 + 0.01 * k), squash=0.5)
            mix_colour(canvas, cover * (0.6 - 0.13 * k) * band(camera, 0.3, 0.35, 0.4), (176, 204, 190))
        ys, xs = np.mgrid[0 : camera.height : 4, 0 : camera.width : 4].astype(np.float32)
        wx, wy = (xs - camera.width / 2) / camera.unit + camera.x * 0.4, (ys - camera.height / 2) / camera.unit + camera.y * 0.4
        slant = wx * 0.86 + wy * 0.5
        shafts = np.clip(np.sin(slant * 9 + 0.3) * np.sin(slant * 23 + moment.time * 0.25) - 0.1, 0, 1) * np.clip(0.55 - wy, 0, 1)
        canvas += cv2.resize(shafts.astype(np.float32), (camera.width, camera.height))[..., None] * tint * np.float32(0.3)
        draw_layer(canvas, camera, floor)
        return canvas

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        for fx, fy, phase in flies:
            x = fx + 0.05 * np.sin(moment.time * 0.7 + phase) + 0.03 * np.sin(moment.time * 1.9 + 2 * phase)
            px, py = camera.find_point(x, fy + 0.04 * np.sin(moment.time * 0.9 + 3 * phase), 1.0)
            add_glow(canvas, px, py, 0.022 * camera.unit, (240, 255, 140), 0.8 * max(0.0, np.sin(moment.time * 1.3 + phase)))

    return Place(back, front)


def build_sea(rng: np.random.Generator, height: int) -> Place:
    """A calm sea at night: moon, stars, glitter, and the lantern's light on the water."""
    ripples = make_noise(rng, TILE, TILE, power=0.9, low=6)
    clouds = make_noise(rng, TILE, TILE, power=1.6, low=2)
    stars = paint_stars(rng, height, count=900, bright=1.0, depth=0.03, bottom=0.1)
    isle = paint_ridge(rng, height, base=0.095, rise=0.07, rough=1.7, near=(14, 24, 46), far=(14, 24, 46), depth=0.1, fade=0.02)
    horizon = 0.1

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (4, 8, 26)), (-0.3, (12, 26, 62)), (0.1, (52, 84, 130))])
        draw_layer(canvas, camera, stars)
        moon_x, moon_y = camera.find_point(0.3, -0.24, 0.05)
        add_glow(canvas, moon_x, moon_y, 0.75 * camera.unit, (120, 150, 200), 0.8)
        _draw_disc(canvas, moon_x, moon_y, 0.052 * camera.unit, (250, 246, 226))
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


def _draw_disc(canvas: F32, x: float, y: float, radius: float, colour: Colour) -> None:
    top, bottom = max(0, int(y - radius - 2)), min(canvas.shape[0], int(y + radius + 3))
    left, right = max(0, int(x - radius - 2)), min(canvas.shape[1], int(x + radius + 3))
    if top >= bottom or left >= right:
        return
    ys, xs = np.mgrid[top:bottom, left:right].astype(np.float32)
    mix_colour(canvas[top:bottom, left:right], np.clip(radius - np.hypot(xs + 0.5 - x, ys + 0.5 - y) + 0.5, 0, 1), colour)


def _draw_water(camera: Camera, moment: Moment, ripples: F32, first: int, edge: float, moon_x: float, hero: tuple[float, float]) -> F32:
    """Rows [first, height) of a plane of water seen to the horizon at row `edge`, with the columns of light on it."""
    down = (np.arange(first, camera.height, dtype=np.float32)[:, None] + 0.5 - edge) / camera.unit
    x = np.arange(camera.width, dtype=np.float32)[None, :] + 0.5
    distance = 1 / (down + 0.03)
    across = ((x - camera.width / 2) / camera.unit * distance * 0.25 + camera.x * 0.4) * (TILE / 2)
    away = distance * 0.5 * (TILE / 2)
    waves = []
    for way, pace in ((1, 26.0), (-1, 17.0)):
        u = (across * (0.9 if way < 0 else 1.0) + moment.time * pace * way).astype(np.float32) % TILE
        v = np.broadcast_to((away + moment.time * pace * 0.8).astype(np.float32) % TILE, u.shape)
        waves.append(cv2.remap(ripples, u, np.ascontiguousarray(v), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
    swell = np.asarray(waves[0] * waves[1], dtype=np.float32)
    glitter = np.clip((swell - 0.3) * 5, 0, 1)
    moon = np.exp(-(((x - moon_x) / camera.unit / (0.05 + 0.45 * down)) ** 2)) * np.clip(0.25 + down * 3, 0, 1)
    warm = np.exp(-(((x - hero[0]) / camera.unit / (0.02 + 0.6 * hero[1] + 0.2 * down)) ** 2)) * min(1.0, 0.5 + 3 * hero[1])
    depth = np.clip(down / 0.45, 0, 1)
    water = _lerp((44, 74, 116), (6, 14, 34), np.broadcast_to(depth, swell.shape)) * (0.75 + 0.7 * swell[..., None])
    water += np.array((214, 220, 226), np.float32) * (glitter * moon * 0.95 + moon * 0.1)[..., None]
    water += np.array((255, 150, 60), np.float32) * (glitter * warm * 0.9 + warm * 0.12)[..., None]
    return np.asarray(water, dtype=np.float32)


def build_desert(rng: np.random.Generator, height: int) -> Place:
    """Dunes under a great sun, sand in the wind."""
    sand = make_noise(rng, TILE, TILE, power=1.3, low=3)
    dunes = [
        paint_ridge(rng, height, base=0.2, rise=0.14, rough=2.0, near=(222, 128, 84), far=(240, 166, 112), depth=0.12),
        paint_ridge(rng, height, base=0.32, rise=0.2, rough=2.1, near=(206, 100, 58), far=(228, 140, 88), depth=0.35, relief=0.3),
        paint_ridge(rng, height, base=0.46, rise=0.2, rough=2.2, near=(160, 66, 40), far=(196, 100, 60), depth=0.65, relief=0.4),
        paint_ridge(rng, height, base=0.64, rise=0.22, rough=2.3, near=(84, 32, 28), far=(128, 56, 38), depth=1.05, relief=0.4),
    ]

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (120, 50, 52)), (-0.35, (214, 98, 58)), (0.05, (255, 172, 84)), (0.3, (255, 206, 128))])
        x, y = camera.find_point(-0.3, -0.08, 0.06)
        add_glow(canvas, x, y, 1.0 * camera.unit, (255, 150, 60), 0.9)
        _draw_disc(canvas, x, y, 0.19 * camera.unit, (255, 236, 178))
        for k, dune in enumerate(dunes):
            draw_layer(canvas, camera, dune)
            if k in (1, 3):
                cover = see_tile(camera, sand, size=1.6, depth=0.5 + 0.2 * k, x=moment.time * (0.12 + 0.1 * k), squash=0.16)
                weight = np.clip(cover * 1.9 - 1.0, 0, 0.5) * band(camera, 0.2 + 0.08 * k, 0.1, 0.5)
                mix_colour(canvas, weight, (255, 190, 120))
        return canvas

    return Place(back)


def build_city(rng: np.random.Generator, height: int, *, rain: bool) -> Place:
    """Towers at dusk, thousands of windows, cars below; or the same in the rain."""
    dusk: list[tuple[float, Colour]] = [(-0.9, (22, 18, 60)), (-0.35, (84, 44, 112)), (0.0, (214, 92, 110)), (0.3, (255, 160, 104))]
    wet: list[tuple[float, Colour]] = [(-0.9, (10, 14, 22)), (-0.3, (28, 38, 50)), (0.3, (70, 88, 98))]
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    haze: tuple[Colour, Colour, Colour] = ((60, 74, 86), (36, 48, 60), (14, 20, 28)) if rain else ((132, 66, 108), (72, 40, 86), (22, 16, 40))
    towers = [
        paint_skyline(rng, height, base=0.36, tall=0.42, near=haze[0], far=(150, 86, 110) if not rain else haze[0], depth=0.15, lit=0.22),
        paint_skyline(rng, height, base=0.44, tall=0.52, near=haze[1], far=haze[0], depth=0.4, lit=0.3),
        paint_skyline(rng, height, base=0.58, tall=0.46, near=haze[2], far=haze[2], depth=0.9, lit=0.34),
    ]
    cars = rng.uniform((-1.6, 0.43, 0.15), (1.6, 0.49, 0.4), (36, 3))
    fall = _make_rain(rng)

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, wet if rain else dusk)
        cover = see_tile(camera, clouds, size=2.0, depth=0.08, x=moment.time * (0.08 if rain else 0.012), squash=0.4)
        mix_colour(canvas, np.clip(cover * 1.6 - 0.7, 0, 0.5) * band(camera, -0.35, 0.4, 0.08), (46, 58, 70) if rain else (255, 150, 130))
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

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        _draw_rain(canvas, moment, fall, 0.55)

    return Place(back, front if rain else None)


def _make_rain(rng: np.random.Generator) -> F32:
    tile = np.zeros((TILE, TILE), np.uint8)
    for x, y, long, bright in rng.uniform((0, 0, 24, 50), (TILE, TILE, 80, 190), (170, 4)):
        for dx in (-TILE, 0, TILE):
            for dy in (-TILE, 0, TILE):
                start, end = (int((x + dx) * 8), int((y + dy) * 8)), (int((x + dx - long * 0.22) * 8), int((y + dy + long) * 8))
                cv2.line(tile, start, end, int(bright), 1, cv2.LINE_AA, 3)
    return tile.astype(np.float32)


def _draw_rain(canvas: F32, moment: Moment, tile: F32, strength: float) -> None:
    height, width = canvas.shape[:2]
    for k, (heights, pace) in enumerate(((1.0, 1.9), (1.7, 2.7))):  # far and near drops; heights a tile
        scale = heights * height / TILE
        shift = (moment.time * pace) % heights * height
        matrix = np.array([[scale, 0, -0.22 * shift + 40 * k], [0, scale, shift]], dtype=np.float32)
        drops = cv2.warpAffine(tile, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        canvas += drops[..., None] * np.array((0.8, 0.92, 1.0), np.float32) * np.float32(strength)


def build_storm(rng: np.random.Generator, height: int) -> Place:
    """High seas, torn clouds, rain, lightning."""
    clouds = make_noise(rng, TILE, TILE, power=1.5, low=2)
    fall = _make_rain(rng)
    bolts = [np.cumsum(rng.normal(0, 0.035, 22)) for _ in range(24)]
    waves: list[tuple[float, float, float, float, Colour]] = [
        (0.14, 0.04, 9.0, 1.1, (70, 92, 100)), (0.22, 0.06, 6.5, 1.5, (50, 74, 84)), (0.34, 0.085, 4.6, 1.9, (32, 54, 66)), (0.5, 0.12, 3.2, 2.4, (14, 28, 38))]  # fmt: skip

    def strike(moment: Moment) -> float:
        """Light of the lightning, 0..1: two shots of three have one, rising over some frames as light in cloud does."""
        since = moment.age - 0.28
        return 0.0 if moment.shot % 3 == 2 or since < -0.12 else float(np.exp(-abs(since) * (9 if since < 0 else 3.5)))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (8, 12, 18)), (-0.3, (30, 42, 50)), (0.15, (96, 116, 116))])
        flash = strike(moment)
        for size, pace, colour in ((2.4, 0.12, (120.0, 136.0, 138.0)), (1.5, 0.22, (14.0, 20.0, 28.0))):
            cover = see_tile(camera, clouds, size=size, depth=0.1, x=moment.time * pace, squash=0.55)
            mix_colour(canvas, np.clip(cover * 1.7 - 0.6, 0, 0.85) * band(camera, -0.4, 0.45, 0.1), colour)
        if flash > 0:
            bolt = bolts[moment.shot % len(bolts)]
            at = camera.find_point(0.7 * np.sin(moment.shot * 2.4), -0.6, 0.1)
            add_glow(canvas, at[0], at[1] + 0.15 * camera.unit, 1.0 * camera.unit, (150, 170, 220), 0.7 * flash)
            line = np.stack([at[0] + bolt * camera.unit, at[1] + np.linspace(0, 0.75, 22) * camera.unit], axis=1)
            mask = np.zeros(canvas.shape[:2], np.uint8)
            cv2.polylines(mask, [(line * 8).astype(np.int32)], False, 255, max(1, camera.height // 180), cv2.LINE_AA, 3)
            cv2.polylines(mask, [((line[8:15] + (line[8:15] - line[8]) * (0.9, 0)) * 8).astype(np.int32)], False, 160, 1, cv2.LINE_AA, 3)
            light = mask.astype(np.float32) + cv2.GaussianBlur(mask.astype(np.float32), (0, 0), camera.height / 60) * 3
            canvas += light[..., None] * np.array((0.85, 0.9, 1.0), np.float32) * np.float32(flash)
        x = (np.arange(camera.width, dtype=np.float32) + 0.5 - camera.width / 2) / camera.unit
        for k, (base, rise, often, pace, colour) in enumerate(waves):
            depth = 0.15 + 0.28 * k
            wx = x + camera.x * depth
            line = np.sin(wx * often + moment.time * pace) + 0.45 * np.sin(wx * often * 2.3 - moment.time * pace * 1.4 + k)
            chop = np.sin(wx * often * 5.3 + moment.time * 4 + k) + np.sin(wx * often * 11.7 - moment.time * 6)
            line = 1 - (line * line + 0.03) ** 0.5 + 0.05 * chop  # crests sharper than troughs
            crest = camera.find_point(0, base, depth)[1] - line * rise * camera.unit - np.sin(camera.roll) * x * camera.unit
            first = int(np.clip(crest.min() - 2, 0, camera.height))
            if first >= camera.height:
                continue
            under = np.arange(first, camera.height, dtype=np.float32)[:, None] + 0.5 - crest[None, :]
            lit = np.array(colour, np.float32) * (1 + 0.6 * flash)
            mix_colour(canvas[first:], np.clip(under + 0.5, 0, 1), _colour(lit))
            white = np.exp(-np.clip(under, 0, None) / (0.05 * camera.unit)) * 0.4 + np.exp(-np.clip(under, 0, None) / (0.007 * camera.unit))
            foam = white * np.clip(under + 0.5, 0, 1) * np.clip(line, 0, 1)[None, :] ** 2
            canvas[first:] += foam[..., None] * (np.array((0.8, 0.95, 1.0), np.float32) * np.float32(60 + 70 * flash))
        return canvas

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        _draw_rain(canvas, moment, fall, 0.6 + 0.3 * strike(moment))

    return Place(back, front)


def build_deep(rng: np.random.Generator, height: int) -> Place:
    """Under water: swaying rays from above, fish, bubbles, weed."""
    beams = make_noise(rng, 1, 1024, power=0.7, low=8)[0]
    bed = [
        paint_ridge(rng, height, base=0.4, rise=0.16, rough=1.5, near=(12, 84, 104), far=(8, 62, 84), depth=0.25),
        paint_ridge(rng, height, base=0.55, rise=0.16, rough=1.4, near=(6, 44, 62), far=(3, 26, 40), depth=0.7, trees=0.1),
    ]
    shoal = rng.uniform((-0.35, -0.12, 0.6), (0.35, 0.12, 1.3), (40, 3))
    bubbles = rng.uniform((-1.5, 0, 0.3, 0), (1.5, 1.4, 1.0, 6.28), (46, 4))

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (130, 226, 222)), (-0.4, (42, 160, 180)), (0.1, (12, 92, 126)), (0.6, (2, 34, 62))], depth=0.4)
        ys, xs = np.mgrid[0 : camera.height : 2, 0 : camera.width : 2].astype(np.float32)
        wx, wy = (xs - camera.width / 2) / camera.unit + camera.x * 0.3, (ys - camera.height / 2) / camera.unit + camera.y * 0.4
        angle = np.arctan2(wx - 0.15, wy + 1.3) * 260 + 512
        rays = beams[(angle + moment.time * 9).astype(np.int32) % 1024] * beams[(angle * 1.3 - moment.time * 14).astype(np.int32) % 1024]
        rays = cv2.GaussianBlur(rays, (0, 0), 1.2 * camera.height / 360) * np.clip(0.75 - wy, 0, 1.2) ** 1.5
        canvas += cv2.resize(rays, (camera.width, camera.height))[..., None] * np.array((120, 170, 150), np.float32)
        draw_layer(canvas, camera, bed[0])
        mask = np.zeros(canvas.shape[:2], np.uint8)
        way = (moment.time * 0.16) % 3.4 - 1.7
        for fx, fy, size in shoal:
            wiggle = np.sin(moment.time * 9 + fx * 40)
            px, py = camera.find_point(way + fx, -0.08 + fy + 0.05 * np.sin(moment.time * 0.8 + 3 * fx), 0.6)
            long = 0.02 * size * camera.unit
            body = np.array([(1, 0), (0.2, -0.28), (-0.7, 0), (-1.15, -0.3 + 0.1 * wiggle), (-1.15, 0.3 + 0.1 * wiggle), (-0.7, 0), (0.2, 0.28)])
            cv2.fillPoly(mask, [((body * long + (px, py)) * 8).astype(np.int32)], 190, cv2.LINE_AA, 3)
        mix_colour(canvas, mask.astype(np.float32) / 255, (8, 52, 76))
        draw_layer(canvas, camera, bed[1])
        return canvas

    def front(canvas: F32, camera: Camera, moment: Moment) -> None:
        for bx, by, size, phase in bubbles:
            y = 0.6 - (by + moment.time * 0.22 * size) % 1.4
            px, py = camera.find_point(bx + 0.02 * np.sin(moment.time * 3 + phase), y, 1.0)
            add_glow(canvas, px, py, 0.014 * size * camera.unit + 1, (190, 250, 250), 0.7)

    return Place(back, front)


def build_tunnel(rng: np.random.Generator, height: int) -> Place:
    """A tunnel of light, flown through."""
    streaks = make_noise(rng, TILE, TILE, power=0.8, low=5)
    flow = make_noise(rng, TILE, TILE, power=1.5, low=2)

    def back(camera: Camera, moment: Moment) -> F32:
        width, rows = camera.width // 2, camera.height // 2
        ys, xs = np.mgrid[0:rows, 0:width].astype(np.float32)
        x = (xs - width / 2) / (rows * camera.zoom) + 0.25 * camera.x + 0.05 * np.sin(moment.time * 1.7)
        y = (ys - rows / 2) / (rows * camera.zoom) + 0.25 * camera.y + 0.05 * np.cos(moment.time * 1.3)
        radius = np.hypot(x, y) + 0.02
        angle = (np.arctan2(y, x) / (2 * np.pi) + camera.roll * 2 + 0.03 * moment.time) * TILE
        away = 0.3 / radius
        fast = cv2.remap(streaks, (angle * 2 % TILE).astype(np.float32), ((away * 60 + moment.time * 520) % TILE).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)  # fmt: skip
        slow = cv2.remap(flow, (angle % TILE).astype(np.float32), ((away * 150 + moment.time * 260) % TILE).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)  # fmt: skip
        near = np.clip(radius * 1.5, 0, 1)
        warm = _lerp((46, 30, 130), (236, 70, 140), np.asarray(slow)) * (0.3 + 0.9 * (slow - 0.5) * near + 0.45 * near)[..., None]
        light = np.clip(np.asarray(fast) * 2.4 - 1.35, 0, 1) * near**1.5
        small = warm + light[..., None] * np.array((150, 220, 255), np.float32)
        small += np.exp(-((radius / 0.15) ** 1.2))[..., None] * np.array((255, 244, 226), np.float32)
        return np.asarray(cv2.resize(small.astype(np.float32), (camera.width, camera.height)), dtype=np.float32)

    return Place(back)


def build_stars(rng: np.random.Generator, height: int) -> Place:
    """Above the sky: a nebula, stars, the edge of the world below, and the other lanterns."""
    field = [paint_stars(rng, height, count=n, bright=b, depth=d, bottom=0.95) for n, b, d in ((1600, 0.7, 0.04), (500, 1.3, 0.15), (120, 2.2, 0.4))]
    gas = make_noise(rng, TILE, TILE, power=1.7, low=1)
    dust = make_noise(rng, TILE, TILE, power=1.4, low=3)

    def back(camera: Camera, moment: Moment) -> F32:
        canvas = draw_sky(camera, [(-0.9, (6, 6, 22)), (0.2, (14, 12, 44)), (0.6, (30, 26, 70))])
        cloud = see_tile(camera, gas, size=2.6, depth=0.06)
        grain = see_tile(camera, dust, size=1.7, depth=0.06, x=0.4)
        cloud = np.clip(cloud * 1.5 - 0.55, 0, 1) * (0.45 + 0.55 * grain)
        canvas += _lerp((60, 30, 150), (40, 160, 190), grain) * cloud[..., None] * np.float32(0.9)
        canvas += (np.clip(cloud - 0.45, 0, 1) * 1.4)[..., None] * np.array((255, 120, 150), np.float32)
        for layer in field:
            draw_layer(canvas, camera, layer)
        x, y = camera.find_point(-0.1, 2.28, 0.3)
        first = int(np.clip(y - 2.3 * camera.unit, 0, camera.height))
        if first < camera.height:  # the edge of the world, and its air
            ys, xs = np.mgrid[first : camera.height, 0 : camera.width].astype(np.float32)
            out = np.hypot(xs - x, ys - y) / camera.unit - 1.9
            mix_colour(canvas[first:], np.clip(0.5 - out * camera.unit, 0, 1), (8, 22, 52))
            air = np.exp(-np.abs(out) / np.where(out > 0, 0.05, 0.02))
            dawn = np.exp(-(((xs - x) / camera.unit - 0.45) ** 2) / 0.18)
            canvas[first:] += (air * 0.9)[..., None] * _lerp((50, 110, 230), (255, 190, 120), dawn)
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
        "storm": build_storm(rng[6], height),
        "deep": build_deep(rng[7], height),
        "tunnel": build_tunnel(rng[8], height),
        "stars": build_stars(rng[9], height),
        "morning": build_valley(np.random.default_rng([seed, 0]), height, evening=False),
    }
