"""Draw light, layers and a paper lantern: what the demo film's places are made of.

World coordinates: one unit is the picture's height, x to the right, y down, (0, 0) the middle of the wide view. Layers
are painted once, wider than the picture; a picture is then a few scaled copies and sums. Pictures stay float32
(h, w, 3) RGB on 0..255 until they are finished. Noise is made on fixed grids: a smaller film shows the same hills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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
class Layer:
    """picture (h, w, 4) premultiplied RGBA; left, top: world position of its corner; scale: pixels a world unit."""

    picture: U8
    left: float
    top: float
    scale: float
    depth: float


# Noise and light --------------------------------------------------------------------------------------------------


def make_noise(rng: np.random.Generator, rows: int, columns: int, *, power: float, low: float = 1.0) -> F32:
    """(rows, columns) repeating noise, 0..1; amplitude falls with frequency ** -power from `low` cycles a tile on."""
    spectrum = np.fft.rfft2(rng.standard_normal((rows, columns)))
    frequency = np.hypot(np.fft.fftfreq(rows, 1 / rows)[:, None], np.fft.rfftfreq(columns, 1 / columns)[None, :])
    spectrum *= np.where(frequency < low, 0.0, np.maximum(frequency, low) ** -power)
    noise = np.fft.irfft2(spectrum, s=(rows, columns))
    lowest, highest = np.percentile(noise, (1, 99))
    return np.asarray(np.clip((noise - lowest) / (highest - lowest), 0, 1), dtype=np.float32)


@cache
def _glow_sprite() -> F32:
    y, x = np.mgrid[-1:1:257j, -1:1:257j]
    r = np.clip(np.hypot(x, y), 0, 1)
    return np.asarray((1 - r) ** 2 / (1 + 12 * r * r), dtype=np.float32)


def add_light(canvas: F32, light: NDArray[Any], colour: Colour, power: float = 1.0) -> None:
    """Add light (h, w) of one colour."""
    cv2.add(canvas, tint_light(light, colour, power), dst=canvas)  # OpenCV: a third of the time of broadcasting


def tint_light(light: NDArray[Any], colour: Colour, power: float = 1.0) -> F32:
    light = np.asarray(light, dtype=np.float32)
    return np.asarray(cv2.merge([light * np.float32(part * power) for part in colour]), dtype=np.float32)


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
    add_light(canvas[top:bottom, left:right], light, colour, power)


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
        layer.picture,
        matrix,
        (camera.width, camera.height - first),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    through = cv2.bitwise_not(cv2.merge([seen[..., 3]] * 3))  # 255 - alpha
    below = canvas[first:]
    cv2.multiply(below, through, dst=below, scale=1 / 255, dtype=cv2.CV_32F)
    cv2.add(below, cv2.cvtColor(seen, cv2.COLOR_RGBA2RGB), dst=below, dtype=cv2.CV_32F)


def see_tile(
    camera: Camera, tile: F32, *, size: float, depth: float, x: float = 0.0, y: float = 0.0, squash: float = 1.0
) -> F32:
    """(h, w) of a repeating tile that is `size` heights wide, shifted by (x, y) heights; squash < 1 flattens it."""
    small = Camera(camera.x, camera.y, camera.zoom, camera.roll, camera.width // 2, camera.height // 2)
    matrix = small.place_layer(depth, TILE / size, x, y)
    matrix[:, 1] *= squash
    seen = cv2.warpAffine(tile, matrix, (small.width, small.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(cv2.resize(seen, (camera.width, camera.height)), dtype=np.float32)


def map_pixels(camera: Camera, depth: float, *, step: int) -> tuple[F32, F32]:
    """World x (1, w) and y (h, 1) of every step-th pixel, roll aside."""
    x = (np.arange(0, camera.width, step) + 0.5 - camera.width / 2) / camera.unit + camera.x * depth
    y = (np.arange(0, camera.height, step) + 0.5 - camera.height / 2) / camera.unit + camera.y * depth
    return x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]


def read_tile(tile: F32, u: NDArray[Any], v: NDArray[Any]) -> F32:
    """A repeating tile at pixels (u, v), each (h, w), wherever they lie."""
    u, v = (np.ascontiguousarray(np.broadcast_to(part % TILE, u.shape), dtype=np.float32) for part in (u, v))
    return np.asarray(cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), dtype=np.float32)


def mix_colour(canvas: F32, weight: NDArray[Any], colour: Colour) -> None:
    """Pull the canvas towards a colour by weight (h, w), 0..1."""
    weight = np.asarray(weight, dtype=np.float32)
    through = 1 - weight
    cv2.multiply(canvas, cv2.merge([through, through, through]), dst=canvas)
    add_light(canvas, weight, colour)


def band(camera: Camera, middle: float, spread: float, depth: float) -> F32:
    """(h, 1) bell over world y."""
    _, y = map_pixels(camera, depth, step=1)
    return np.asarray(np.exp(-(((y - middle) / spread) ** 2)), dtype=np.float32)


def lerp(a: Colour, b: Colour, t: F32) -> F32:
    """(h, w, 3) from one colour to another by t (h, w)."""
    return np.asarray(cv2.merge([x + (y - x) * t for x, y in zip(a, b, strict=True)]), dtype=np.float32)


def blend_colour(a: Colour, b: Colour, t: float) -> Colour:
    red, green, blue = (x + (y - x) * t for x, y in zip(a, b, strict=True))
    return red, green, blue


def draw_disc(canvas: F32, x: float, y: float, radius: float, colour: Colour) -> None:
    top, bottom = max(0, int(y - radius - 2)), min(canvas.shape[0], int(y + radius + 3))
    left, right = max(0, int(x - radius - 2)), min(canvas.shape[1], int(x + radius + 3))
    if top >= bottom or left >= right:
        return
    ys, xs = np.mgrid[top:bottom, left:right].astype(np.float32)
    mix_colour(
        canvas[top:bottom, left:right], np.clip(radius - np.hypot(xs + 0.5 - x, ys + 0.5 - y) + 0.5, 0, 1), colour
    )


# Layers -----------------------------------------------------------------------------------------------------------


def _empty_layer(height: int, depth: float, top: float, bottom: float) -> tuple[F32, F32, F32, float, float]:
    """World x (1, w) and y (h, 1) of a layer's pixels, its pixels a unit, and its left edge."""
    scale = LAYER_SCALE * height
    half = WIDEST_HALF + WIDEST_SHIFT * depth
    x = -half + (np.arange(int(2 * half * scale), dtype=np.float32)[None, :] + 0.5) / scale
    y = top + (np.arange(int((bottom - top) * scale), dtype=np.float32)[:, None] + 0.5) / scale
    return x, y, np.zeros((y.size, x.size, 4), np.float32), scale, -half


def paint_ridge(
    rng: np.random.Generator,
    height: int,
    *,
    base: float,
    rise: float,
    rough: float,
    near: Colour,
    far: Colour,
    depth: float,
    fade: float = 0.35,
    trees: float = 0.0,
    relief: float = 0.0,
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
    colour = lerp(near, far, np.clip((y - ground[None, :]) / fade, 0, 1) ** 0.8)
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
    rgba[..., :3] = lerp(near, far, np.broadcast_to(np.clip((y + 0.35) / 0.9, 0, 1), alpha.shape)) * alpha[..., None]
    rgba[..., 3] = mask
    return Layer(rgba.astype(np.uint8), left, -1.0, scale, depth)


def paint_skyline(
    rng: np.random.Generator,
    height: int,
    *,
    base: float,
    tall: float,
    near: Colour,
    far: Colour,
    depth: float,
    lit: float,
) -> Layer:
    """Towers with windows. lit: share of the windows with light."""
    top = base - tall * 1.25
    _, y, rgba, scale, left = _empty_layer(height, depth, top, base + 0.7)
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
            alpha[
                int((roof - tall * 0.22 - top) * scale) :, max(0, mast) : max(0, mast + max(1, int(0.004 * scale)))
            ] = 1
        warm = np.array(((255, 196, 110), (255, 225, 170), (150, 205, 255))[int(rng.choice(3, p=[0.55, 0.3, 0.15]))])
        for row in np.arange(roof + pane, base + 0.35, pane * 2):
            for column in np.arange(at + pane, at + wide - pane, pane * 1.8):
                a, b = int((column - left) * scale), int((row - top) * scale)
                if rng.random() < lit and a > 0:
                    c, d = int(max(a + 1, a + pane * scale * 0.9)), int(max(b + 1, b + pane * scale * 1.1))
                    lights[b:d, a:c] = warm * rng.uniform(0.35, 1.0)
        at += wide * rng.uniform(0.95, 1.15)
    lights += cv2.GaussianBlur(lights, (0, 0), 0.012 * scale) * 0.8  # a little bloom
    wall = lerp(near, far, np.broadcast_to(np.clip((y - top) / (base + 0.3 - top), 0, 1), alpha.shape))
    rgba[..., :3] = np.clip(wall * alpha[..., None] + lights * (0.5 + 0.5 * depth), 0, 255)
    rgba[..., 3] = alpha * 255
    return Layer(rgba.astype(np.uint8), left, top, scale, depth)


def paint_stars(
    rng: np.random.Generator, height: int, *, count: int, bright: float, depth: float, bottom: float
) -> Layer:
    """Points of light above world y `bottom`; they add to the sky, for they cover nothing."""
    _, y, rgba, scale, left = _empty_layer(height, depth, -0.95, bottom)
    rows, columns = rgba.shape[:2]
    px, py = rng.uniform(2, columns - 3, count), rng.uniform(2, rows - 3, count)
    power = bright * rng.pareto(2.2, count).clip(0.15, 4) * 70
    tint = np.stack([rng.uniform(0.8, 1, count), rng.uniform(0.85, 1, count), rng.uniform(0.85, 1, count)], axis=1)
    radius = 0.6 * scale / 540
    light = rgba[..., :3]
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            ix, iy = px.astype(int) + dx, py.astype(int) + dy
            spread = np.exp(-(((ix - px + 0.5) ** 2 + (iy - py + 0.5) ** 2) / (2 * radius**2 + 0.3)))
            np.add.at(light, (iy, ix), (power * spread)[:, None] * tint)
    light *= np.clip((bottom - y) / 0.3, 0, 1)[..., None]
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
