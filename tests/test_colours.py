"""HDR becomes SDR: planted light lands where it should, in the mathematics and through a real film."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.colours import DIFFUSE_WHITE, GRID, HLG, PQ, TO_BT709, choose_colours, map_colours, tone_curve
from pipeline.pictures import show_pictures
from pipeline.records import F64, U8
from tests.plans import plan_edit, take, write_raw

GREY, WHITE = 0.18 * DIFFUSE_WHITE, DIFFUSE_WHITE


def encode_pq(light: F64) -> F64:
    """cd/m2 -> PQ signal, SMPTE ST 2084, equations 5.1 and 5.2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    y = (np.asarray(light, np.float64) / 10000) ** m1
    return np.asarray(((c1 + c2 * y) / (1 + c3 * y)) ** m2)


def grey_signal(light: float, curve: str = PQ) -> float:
    """The BT.709 signal that a grey of so many cd/m2 becomes."""
    signal = float(encode_pq(np.array(light))) if curve == PQ else light
    shown = map_colours(np.full((1, 3), signal), curve)[0]
    assert np.ptp(shown) < 0.002  # neutral stays neutral: BT.2087's matrix is rounded to four digits
    return float(shown.mean())


def test_diffuse_white_and_grey_land_where_sdr_has_them() -> None:
    assert 0.75 < grey_signal(WHITE) < 0.90
    assert grey_signal(GREY) == pytest.approx(0.18 ** (1 / 2.4), abs=0.005)  # as a display of BT.1886 shows 18 %
    assert grey_signal(0.0) == 0.0


def test_highlights_up_to_1000_stay_apart_and_rise() -> None:
    steps = [grey_signal(light) for light in (203, 300, 400, 600, 800, 1000)]
    assert np.diff(steps).min() > 0.02  # five levels of 255
    assert steps[-1] == pytest.approx(1.0, abs=0.001)
    light = np.linspace(0, 6, 600)
    assert (np.diff(tone_curve(light)) >= 0).all()


def test_hlg_has_white_and_grey_where_pq_has_them() -> None:
    """BT.2408, table 1: HLG's diffuse white is 75 % of the signal and 203 cd/m2, 18 % grey 38 % and 26 cd/m2."""
    assert grey_signal(0.75, HLG) == pytest.approx(grey_signal(203.0), abs=0.005)
    assert grey_signal(0.38, HLG) == pytest.approx(grey_signal(26.0), abs=0.01)
    assert grey_signal(1.0, HLG) == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("light", [50.0, 203.0, 800.0])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_primaries_keep_their_hue(light: float, channel: int) -> None:
    signal = np.zeros((1, 3))
    signal[0, channel] = float(encode_pq(np.array(light)))
    shown = map_colours(signal, PQ)[0]
    others = np.delete(shown, channel)
    assert shown[channel] > 0.4
    assert others.max() < 0.02


def test_a_colour_inside_bt709_keeps_its_hue_and_saturation() -> None:
    """A skin tone of 709, planted in BT.2020: the ratios of its channels, in light, are those it had."""
    skin = np.array([0.6, 0.35, 0.25])
    wide = np.linalg.inv(TO_BT709) @ skin * DIFFUSE_WHITE
    shown = map_colours(encode_pq(wide)[None], PQ)[0] ** 2.4
    assert shown / shown[0] == pytest.approx(skin / skin[0], abs=0.01)


PATCHES = {  # cd/m2 of R, G and B
    "black": (0, 0, 0),
    "grey": (GREY, GREY, GREY),
    "white": (203, 203, 203),
    "bright": (600, 600, 600),
    "peak": (1000, 1000, 1000),
    "red": (100, 0, 0),
    "sky": (60, 110, 250),
    "leaf": (20, 60, 10),
}


@pytest.mark.parametrize(("curve", "name"), [(PQ, "smpte2084"), (HLG, "arib-std-b67"), ("", "bt2020-10")])
def test_a_film_of_ten_bits_is_shown_as_the_mathematics_say(tmp_path: Path, curve: str, name: str) -> None:
    """Patches in 10-bit BT.2020, lossless, through the table. Within 3 of 255: 10 bits in, 8-bit YUV out, and a table of
    33 points between them. A dark channel may be off by more: near BT.709's edge the table's straight lines round off the
    corner where a channel is clipped to 0."""
    light = np.array(list(PATCHES.values()), np.float64)
    signal = encode_pq(light) if curve == PQ else np.clip(light / 1000, 0, 1) ** 0.5
    picture = np.repeat(np.repeat(signal[None], 16, axis=0), 16, axis=1)  # (16, 16 * patches, 3)
    codes = np.rint(picture * 65535).astype("<u2")
    film = write_raw(
        tmp_path / "f.mkv",
        [codes.view(np.uint8)] * 4,
        "-vf",
        "scale=out_color_matrix=bt2020:out_range=tv:flags=accurate_rnd+full_chroma_inp,format=yuv444p10le,"
        f"setparams=color_primaries=bt2020:color_trc={name}:colorspace=bt2020nc:range=tv",
        *("-c:v", "ffv1"),
        size=(16 * len(PATCHES), 16),
        pixel_format="rgb48le",
    )
    colours = choose_colours(film)
    assert (colours.curve, colours.target) == (curve, "bt709")
    assert set(colours.tags.values()) == {"bt709"}
    (shown,) = show_pictures(film, cut := take(film, 0, 2), plan_edit(film, [cut]), [1])
    wanted = np.rint(255 * map_colours(signal, curve))
    for number, patch in enumerate(PATCHES):
        middle: U8 = shown[6:10, 16 * number + 6 : 16 * number + 10]
        off = np.abs(middle.mean(axis=(0, 1)) - wanted[number])
        assert (off <= np.where(wanted[number] > 20, 3, 12)).all(), patch


@pytest.mark.parametrize("curve", [PQ, HLG])
def test_the_table_is_fine_enough(curve: str) -> None:
    """Between the points of the table along the greys: within 1.5 of 255 of the mathematics."""
    points = np.linspace(0, 1, GRID)
    table = map_colours(np.repeat(points[:, None], 3, axis=1), curve)[:, 0]
    signal = np.linspace(0, 1, 2000)
    exact = map_colours(np.repeat(signal[:, None], 3, axis=1), curve)[:, 0]
    assert 255 * np.abs(np.interp(signal, points, table) - exact).max() < 1.5
