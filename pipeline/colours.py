"""Which colours a film's pictures have, which a trailer's have, and the way from one to the other.

A trailer is 8-bit, 4:2:0, limited range. BT.709 and the SD matrices stay what they are and are tagged so; BT.2020, PQ
(SMPTE ST 2084) and HLG (ITU-R BT.2100) become BT.709 through a table of colours, a .cube file for libavfilter's lut3d. A
table made here, and not zscale or libplacebo: these are not in every build of FFmpeg, nor in PyAV's, and lut3d is in all;
the curve is ours to test, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.records import F64, Film

# as the container numbers them (ITU-T H.273) -> as ffmpeg's options name them
PRIMARIES = {"1": "bt709", "5": "bt470bg", "6": "smpte170m"}
TRANSFERS = {"1": "bt709", "6": "smpte170m"}
MATRICES = {"1": "bt709", "5": "bt470bg", "6": "smpte170m"}
FOREIGN_MATRICES = {"4": "fcc", "7": "smpte240m"}  # read, and turned into BT.709
BT709 = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709"}
MATRIX_NUMBERS = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020": 9}
PQ, HLG = "16", "18"
WIDE = ("9", "10")  # BT.2020's matrices; 9 is its primaries, too
HD_HEIGHT, HD_WIDTH = (
    720,
    1280,
)  # px; from there on a picture that says nothing is BT.709, below it BT.601: every player's guess

GRID = 33  # points of the table along each axis; tests/test_colours.py measures what lies between them
DIFFUSE_WHITE = 203.0  # cd/m2, ITU-R BT.2408, 2.1
PEAK = 1000.0  # cd/m2; what HDR is graded for most, and HLG's nominal display (BT.2100, table 5). Above it all is white
GREY = 0.18
SDR_GAMMA = 2.4  # ITU-R BT.1886: the display that BT.709 is graded on
HLG_SYSTEM_GAMMA = 1.2  # BT.2100, table 5, at 1000 cd/m2
# Linear RGB of BT.2020 -> of BT.709, ITU-R BT.2087, 2.2 (its inverse)
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])


@dataclass(frozen=True, slots=True)
class Colours:
    """How a film's colours are read and what the trailer's are tagged as.

    source, target: names of the YUV matrices of the film's and of the trailer's pictures, as swscale knows them. tags: as
    ffmpeg's setparams takes them; empty where the film says nothing. curve: the transfer by which a table maps the
    colours ("16", "18", or "" for BT.2020 in SDR); None: no table.
    """

    source: str
    target: str
    tags: dict[str, str]
    curve: str | None


def choose_colours(film: Film) -> Colours:
    """The colours of a film's trailer."""
    hd = film.height >= HD_HEIGHT or film.width >= HD_WIDTH
    if film.transfer in (PQ, HLG) or (film.primaries in WIDE or film.matrix in WIDE):
        source = MATRICES.get(film.matrix, "bt2020")
        return Colours(source, "bt709", BT709, film.transfer if film.transfer in (PQ, HLG) else "")
    if film.matrix in FOREIGN_MATRICES:
        return Colours(FOREIGN_MATRICES[film.matrix], "bt709", BT709, None)
    if _is_rgb(film) or (hd and film.matrix not in MATRICES):
        return Colours("bt709", "bt709", BT709, None)
    matrix = MATRICES.get(film.matrix, "smpte170m")
    named = {
        "color_primaries": PRIMARIES.get(film.primaries),
        "color_trc": TRANSFERS.get(film.transfer),
        "colorspace": MATRICES.get(film.matrix),
    }
    return Colours(matrix, matrix, {name: value for name, value in named.items() if value is not None}, None)


def _is_rgb(film: Film) -> bool:
    return film.matrix == "0" or any(mark in film.pixel_format for mark in ("rgb", "bgr", "gbr", "pal8"))


@contextmanager
def write_table(colours: Colours) -> Iterator[Path | None]:
    """The .cube file of the colours' table while it is needed: a filter reads it once. None where there is no table."""
    if colours.curve is None:
        yield None
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "colours.cube"
        path.write_text(_draw_table(colours.curve))
        yield path


@cache
def _draw_table(curve: str) -> str:
    axis = np.linspace(0.0, 1.0, GRID)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # a .cube file counts red fastest
    shown = map_colours(np.stack([red, green, blue], axis=-1).reshape(-1, 3), curve)
    return f"LUT_3D_SIZE {GRID}\n" + "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in shown) + "\n"


def map_colours(signal: F64, curve: str) -> F64:
    """R'G'B' (n, 3) of BT.2020 in PQ ("16"), HLG ("18") or SDR (""), 0..1 -> R'G'B' (n, 3) of BT.709, 0..1.

    Light is brought to BT.709's primaries first, where what lies outside them is clipped (BT.2087 allows it: a primary
    of BT.2020 becomes that of BT.709). Then all three are scaled by what the tone curve makes of the largest: hue and
    saturation stay, no channel is clipped, and grey stays grey.
    """
    light = _to_light(np.asarray(signal, np.float64), curve)
    light = np.maximum(light @ TO_BT709.T, 0.0)
    if curve:
        largest = light.max(axis=1, keepdims=True)
        light *= np.divide(tone_curve(largest), largest, out=np.ones_like(largest), where=largest > 0)
    return np.asarray(np.clip(light, 0.0, 1.0) ** (1 / SDR_GAMMA), np.float64)


def tone_curve(light: F64) -> F64:
    """Light in units of diffuse white -> SDR light 0..1.

    Reinhard et al., "Photographic tone reproduction for digital images" (2002), equation 4, with the peak as its white and
    an exposure at which 18 % grey stays 18 %. Diffuse white (203 cd/m2) comes to 79 % of the signal, 400 cd/m2 to 89 %, 600
    to 94 %, the peak to 100 %.
    """
    exposed = _exposure() * np.minimum(np.asarray(light, np.float64), PEAK / DIFFUSE_WHITE)
    return _reinhard(exposed, _exposure() * PEAK / DIFFUSE_WHITE)


def _reinhard(light: F64, white: float) -> F64:
    return np.asarray(light * (1 + light / white**2) / (1 + light), np.float64)


@cache
def _exposure() -> float:
    """The gain before the curve that keeps 18 % grey: by bisection, the curve rises with it."""
    low, high = 1.0, 2.0
    for _ in range(50):
        middle = (low + high) / 2
        shown = float(_reinhard(np.array([middle * GREY]), middle * PEAK / DIFFUSE_WHITE)[0])
        low, high = (middle, high) if shown < GREY else (low, middle)
    return low


def _to_light(signal: F64, curve: str) -> F64:
    """R'G'B' -> linear light of the display in units of diffuse white; of SDR's white for SDR."""
    if curve == PQ:  # SMPTE ST 2084 = BT.2100, table 4
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        root = signal ** (1 / m2)
        return np.asarray(10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) / DIFFUSE_WHITE, np.float64)
    if curve == HLG:  # BT.2100, table 5: the inverse OETF, then the OOTF of a display of 1000 cd/m2
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
        return np.asarray(PEAK * luminance[:, None] ** (HLG_SYSTEM_GAMMA - 1) * scene / DIFFUSE_WHITE, np.float64)
    return np.asarray(signal**SDR_GAMMA, np.float64)
