"""What becomes of a film's pictures: whole from fields, without bars, in the output's aspect, upright, in its colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.pictures import cut_window, fade_weight, frame_cut, show_cut, show_pictures
from pipeline.records import FOCUS_STEP, U8, Cut, EditList, Film, Output
from tests.plans import plan_edit, take, write_raw
from tests.synthetic import barcode_film, draw_barcode, read_barcode

SIZE = (320, 180)
LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-preset", "ultrafast")
EXACT = ("-c:v", "ffv1")
PATCHES = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200], [128, 128, 128]], np.uint8)


def show(film: Film, cut: Cut, frames: list[int], *, height: int = 180, **how: object) -> list[U8]:
    edit: EditList = plan_edit(film, [cut], **how)  # type: ignore[arg-type]
    return show_pictures(film, cut, edit, frames, height=height)


def show_raw(film: Film, cut: Cut, edit: EditList, frames: range) -> list[U8]:
    """I420, as the encoder gets them."""
    return list(show_cut(film, cut, edit, frames, edit.output))


def middle(picture: U8, x: float, y: float) -> list[float]:
    """The mean colour around a place, shares of the picture."""
    height, width = picture.shape[:2]
    row, column = int(y * height), int(x * width)
    return [float(v) for v in picture[row - 3 : row + 4, column - 3 : column + 4].mean(axis=(0, 1))]


def quarters(width: int, height: int) -> U8:
    """A picture of four colours: left to right, top to bottom."""
    picture = np.empty((height, width, 3), np.uint8)
    for number, colour in enumerate(PATCHES):
        rows = slice(0, height // 2) if number < 2 else slice(height // 2, None)
        columns = slice(0, width // 2) if number % 2 == 0 else slice(width // 2, None)
        picture[rows, columns] = colour
    return picture


def centre(picture: U8) -> tuple[float, float]:
    """(x, y) px of the middle of what is bright."""
    gray = picture.astype(np.float64).mean(axis=2)
    gray = np.maximum(gray - 60, 0)
    rows, columns = np.indices(gray.shape)
    return float((columns * gray).sum() / gray.sum()), float((rows * gray).sum() / gray.sum())


# Fields -----------------------------------------------------------------------------------------------------------

FIELDS = 24  # film pictures


def draw_moment(picture: int, field: int, width: int, height: int) -> U8:
    """What the camera saw when it took a field: a white stick that moves 6 px a field, and the picture's number."""
    seen = np.full((height, width, 3), 40, np.uint8)
    x = 20 + 6 * (2 * picture + field)
    seen[height // 2 :, x : x + 30] = 220
    draw_barcode(seen, picture)
    return seen


def weave(width: int, height: int) -> Iterator[U8]:
    for picture in range(FIELDS):
        woven = draw_moment(picture, 0, width, height)
        woven[1::2] = draw_moment(picture, 1, width, height)[1::2]
        yield woven


def comb(picture: U8) -> float:
    """How much each row differs from both its neighbours in the same way, in the half where the stick moves."""
    gray = picture[picture.shape[0] // 2 + 8 :].astype(np.float64).mean(axis=2)
    return float(np.abs(gray[1:-1] - (gray[:-2] + gray[2:]) / 2).mean())


@pytest.mark.parametrize("codec", ["h264", "mpeg2video", "422"])
def test_fields_become_one_whole_picture_of_the_moment_and_none_is_lost(tmp_path: Path, codec: str) -> None:
    width, height = 640, 360
    options = {
        "h264": ("-c:v", "libx264", "-crf", "12", "-x264-params", "tff=1:keyint=8"),
        "mpeg2video": ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct", "-bf", "2"),
        "422": ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv422p", "-x264-params", "tff=1:keyint=8"),
    }[codec]
    suffix = "mpg" if codec == "mpeg2video" else "mkv"
    fields = ("-vf", "setfield=tff", *(() if codec == "422" else ("-pix_fmt", "yuv420p")), *options)
    film = write_raw(tmp_path / f"f.{suffix}", weave(width, height), *fields, size=(width, height), rate=Fraction(25))
    assert film.interlaced
    assert comb(next(weave(width, height))) > 3
    for first in (0, 9):
        cut = take(film, film.start + (first + 0.5) / 25, 12)
        shown = show(film, cut, list(range(12)), height=360)
        for number, picture in enumerate(shown):
            assert comb(picture) < 0.5
            assert read_barcode(picture) == first + number
            # the first field's moment, to half a step between two fields
            stick = picture[200:340, :, 1].astype(float).mean(axis=0)
            x = float(np.flatnonzero(stick > 130).mean())
            assert x == pytest.approx(20 + 12 * (first + number) + 14.5, abs=3)
    last = show(film, take(film, film.start + (FIELDS - 3 + 0.5) / 25, 3), [0, 1, 2], height=360)
    assert [read_barcode(picture) for picture in last] == [FIELDS - 3, FIELDS - 2, FIELDS - 1]


def test_a_picture_that_is_not_flagged_is_left_as_it_is(tmp_path: Path) -> None:
    """The same combs, said to be progressive: they stay, for stripes may be what the film shows."""
    film = write_raw(tmp_path / "f.mkv", weave(640, 360), *LOSSLESS, size=(640, 360))
    assert not film.interlaced
    assert comb(show(film, take(film, 0, 4), [2], height=360)[0]) > 3


# Geometry ---------------------------------------------------------------------------------------------------------


def test_black_bars_are_cropped(tmp_path: Path) -> None:
    """A barcode that fills the active picture can only be read where the crop is right to a few pixels."""

    def boxed() -> Iterator[U8]:
        for number in range(8):
            picture = np.zeros((240, 400, 3), np.uint8)
            active = np.full((180, 320, 3), 120, np.uint8)
            draw_barcode(active, number)
            picture[30:210, 40:360] = active
            yield picture

    film = write_raw(tmp_path / "f.mkv", boxed(), *EXACT, size=(400, 240))
    cut = take(film, 0.5 / 24, 8)  # Matroska's ticks are ms: a frame's own time is rounded
    shown = show(film, cut, list(range(8)), size=(320, 180), bars=(0.1, 0.125, 0.1, 0.125))
    assert [read_barcode(picture) for picture in shown] == list(range(8))
    assert min(float(p[-1].mean()) for p in shown) == pytest.approx(120, abs=3)
    assert min(float(p[30:, [0, -1]].mean()) for p in shown) == pytest.approx(120, abs=3)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_turned_film_is_upright_and_its_bars_are_those_of_the_shown_picture(tmp_path: Path, rotation: int) -> None:
    upright = quarters(160, 240)
    upright[:24] = 0  # a bar along the top as shown: 10 %
    stored = np.ascontiguousarray(np.rot90(upright, -rotation // 90))
    plain = tmp_path / "plain.mp4"
    film = write_raw(plain, [stored] * 6, *LOSSLESS, "-pix_fmt", "yuv420p", size=stored.shape[1::-1])
    turned = tmp_path / "turned.mp4"
    # film.rotation is counter-clockwise, and so is ffmpeg's option
    from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg

    run_ffmpeg(
        find_ffmpeg(),
        ["-v", "error", "-display_rotation", str(rotation), "-i", str(plain), "-c", "copy", str(turned)],
        timeout=60,
    )
    film = probe_film(turned)
    assert film.rotation == rotation
    shown = show(film, take(film, 0, 4), [1], size=(160, 216), bars=(0, 0.1, 0, 0), height=216)[0]
    assert shown.shape == (216, 160, 3)
    for number, (x, y) in enumerate([(0.25, 0.3), (0.75, 0.3), (0.25, 0.75), (0.75, 0.75)]):
        assert middle(shown, x, y) == pytest.approx(PATCHES[number].astype(float), abs=4)
    assert shown[0].mean() > 60  # no trace of the bar


def test_a_circle_stays_a_circle_where_pixels_are_not_square(tmp_path: Path) -> None:
    stored = np.full((180, 240, 3), 20, np.uint8)
    cv2.ellipse(stored, (120, 90), (45, 60), 0, 0, 360, (230, 230, 230), -1)  # 4:3 pixels make it round
    film = write_raw(tmp_path / "f.mkv", [stored] * 4, "-vf", "setsar=4/3", *EXACT, size=(240, 180))
    assert film.pixel_aspect == Fraction(4, 3)
    shown = show(film, take(film, 0, 2), [0])[0]
    assert shown.shape == (180, 320, 3)
    bright = shown.mean(axis=2) > 125
    assert np.ptp(np.flatnonzero(bright.any(axis=0))) == pytest.approx(
        np.ptp(np.flatnonzero(bright.any(axis=1))), abs=2
    )


def moving_square(points: Callable[[int], tuple[float, float]], size: tuple[int, int], count: int) -> Iterator[U8]:
    width, height = size
    for number in range(count):
        x, y = points(number)
        across = np.clip(12.5 - np.abs(np.arange(width) + 0.5 - x * width), 0, 1)  # how much of a pixel it covers
        down = np.clip(12.5 - np.abs(np.arange(height) + 0.5 - y * height), 0, 1)
        picture = np.repeat((40 + 190 * down[:, None] * across[None])[..., None], 3, axis=2).astype(np.uint8)
        yield picture


@pytest.mark.parametrize("upright", [True, False], ids=["9:16 of 16:9", "16:9 of 9:16"])
def test_the_window_follows_the_focus_and_does_not_tremble(tmp_path: Path, upright: bool) -> None:
    """A square that moves at a steady 1.3 px a frame stays in the middle of the window, to a fraction of a pixel."""
    size, target = ((640, 360), (202, 360)) if upright else ((360, 640), (360, 202))
    count, speed = 48, 1.3 / 640

    def place(number: int) -> tuple[float, float]:
        along = 0.4 + speed * number
        return (along, 0.5) if upright else (0.5, along)

    film = write_raw(tmp_path / "f.mkv", moving_square(place, size, count), *EXACT, size=size)
    steps = int(count / 24 / FOCUS_STEP) + 2
    focus = tuple(place(round(k * FOCUS_STEP * 24)) for k in range(steps))
    shown = show(film, take(film, 0.5 / 24, count, focus=focus), list(range(count)), size=target, height=target[1])
    places = np.array([centre(picture) for picture in shown])[:, 0 if upright else 1]
    across = np.array([centre(picture) for picture in shown])[:, 1 if upright else 0]
    middle_px = (target[0] if upright else target[1]) / 2 - 0.5
    assert np.abs(places - middle_px).max() < 1.0
    assert np.abs(np.diff(places)).max() < 0.25  # whole pixels, or pairs, would jump by 0.3 to 1.3
    assert np.ptp(across) < 0.1


def test_the_window_stops_at_the_edge_and_has_no_bars(tmp_path: Path) -> None:
    film = write_raw(tmp_path / "f.mkv", [np.full((360, 640, 3), 128, np.uint8)] * 30, *EXACT, size=(640, 360))
    cut = take(film, 0, 24, focus=((0.0, 0.5), (1.0, 0.5), (0.0, 0.5)))
    framing = frame_cut(film, plan_edit(film, [cut]).film, cut, Output(202, 360, Fraction(24), 24, -14.0), 24)
    assert framing.offsets[0] == 0
    assert framing.offsets.max() + 202 == pytest.approx(framing.strip[0], abs=8)
    for picture in show(film, cut, [0, 5, 12, 23], size=(202, 360), height=360):
        assert np.abs(picture.astype(int) - 128).max() <= 2


def test_without_a_focus_the_middle_is_shown_and_a_small_difference_is_not_cropped(tmp_path: Path) -> None:
    film = write_raw(tmp_path / "f.mkv", [quarters(427, 241)] * 4, *EXACT, size=(427, 241))
    cut = take(film, 0, 2)
    reference = plan_edit(film, [cut]).film
    assert frame_cut(film, reference, cut, Output(426, 240, Fraction(24), 2, -14.0), 2).box == (0, 0, 1, 1)
    framing = frame_cut(film, reference, cut, Output(240, 240, Fraction(24), 2, -14.0), 2)
    assert framing.strip == (240, 240)
    assert framing.box[0] == pytest.approx(1 - framing.box[2])
    shown = show(film, cut, [0], size=(240, 240), height=240)[0]
    assert middle(shown, 0.25, 0.25) == pytest.approx(PATCHES[0].astype(float), abs=4)
    assert middle(shown, 0.75, 0.75) == pytest.approx(PATCHES[3].astype(float), abs=4)


def test_a_window_between_pixels_is_where_it_should_be() -> None:
    """A wave moved by any part of a pixel is the wave there: to 1 of 255 and rounding."""
    x = np.arange(200)
    plane = np.repeat((128 + 90 * np.sin(x / 3.0))[None], 8, axis=0).round().astype(np.uint8)
    target = np.empty((8, 100), np.uint8)
    for offset in (40.0, 40.25, 40.5, 40.9):
        cut_window(plane, target, offset, 1)
        wanted = 128 + 90 * np.sin((np.arange(100) + offset) / 3.0)
        assert np.abs(target[3] - wanted).max() < 2
        upright = np.empty((100, 8), np.uint8)
        cut_window(np.ascontiguousarray(plane.T), upright, offset, 0)
        assert (target == upright.T).all()


# Colours ----------------------------------------------------------------------------------------------------------


KINDS = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv420p10le", "yuv422p10le", "yuv444p12le"),
    *("yuva420p", "yuvj420p", "yuvj444p", "gbrp", "gbrp10le", "bgra"),
]


@pytest.mark.parametrize(
    ("pixel_format", "tags"),
    [*((kind, "") for kind in KINDS), *((kind, tags) for kind in KINDS[:8:5] for tags in ("bt709", "smpte170m"))],
)
def test_any_kind_of_picture_keeps_its_colours(tmp_path: Path, pixel_format: str, tags: str) -> None:
    matrix = {"bt709": "bt709", "smpte170m": "smpte170m", "": "smpte170m"}[tags]  # small and untagged: BT.601
    said = f",setparams=color_primaries={tags}:color_trc={tags}:colorspace={tags}" if tags else ""
    if "gb" in pixel_format or "bgr" in pixel_format:
        said = ""
    film = write_raw(
        tmp_path / "f.mkv",
        [quarters(322, 182)] * 3,
        "-vf",
        f"scale=out_color_matrix={matrix}:flags=accurate_rnd,format={pixel_format}{said}",
        *EXACT,
        size=(322, 182),
    )
    assert film.pixel_format == pixel_format or pixel_format in ("yuvj420p", "yuvj444p", "gbrp")  # its names for these
    shown = show(film, take(film, 0, 2), [1])[0]
    for number, (x, y) in enumerate([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)]):
        assert middle(shown, x, y) == pytest.approx(PATCHES[number].astype(float), abs=4)


def test_grey_film_is_grey_and_as_bright_as_it_was(tmp_path: Path) -> None:
    picture = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[None].repeat(64, 0)[..., None], 3, axis=2)
    film = write_raw(tmp_path / "f.mkv", [picture] * 3, "-pix_fmt", "gray", *EXACT, size=(128, 64))
    shown = show(film, take(film, 0, 2), [0], height=64)[0]
    assert np.abs(shown.astype(int) - picture).max() <= 3


# Time -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def barcodes(tmp_path_factory: pytest.TempPathFactory) -> Film:
    from pipeline.media import probe_film

    path = tmp_path_factory.mktemp("films") / "f.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[72, 72], size=SIZE, sound=False)
    return probe_film(path)


def test_a_slowed_cut_shows_the_film_frame_of_its_own_clock(barcodes: Film) -> None:
    """Frame k shows what is on screen at start + k * speed / rate: some film frames stand twice, none is left out."""
    for speed in (0.85, 0.9, 1.0):
        cut = take(barcodes, 10.5 / 24, 40, speed=speed)
        numbers = [read_barcode(p) for p in show(barcodes, cut, list(range(40)))]
        assert numbers == [int(10.5 + k * speed) for k in range(40)]


def test_a_dissolve_is_the_weighted_mean_of_both_cuts_played_on(barcodes: Film) -> None:
    before, after = take(barcodes, 4.5 / 24, 20, speed=0.9), take(barcodes, 90.5 / 24, 20, dissolve=6)
    edit = plan_edit(barcodes, [before, after])
    plain = plan_edit(barcodes, [take(barcodes, 90.5 / 24, 20)])
    before, after = edit.cuts
    mixed = show_raw(barcodes, after, edit, range(10))
    own = show_raw(barcodes, plain.cuts[0], plain, range(10))
    on = plan_edit(barcodes, [take(barcodes, 4.5 / 24, 30, speed=0.9)])
    played_on = show_raw(barcodes, on.cuts[0], on, range(20, 26))
    numbers = [read_barcode(p) for p in show_pictures(barcodes, on.cuts[0], on, list(range(20, 26)))]
    assert numbers == [int(4.5 + 0.9 * k) for k in range(20, 26)]
    for number, picture in enumerate(mixed):
        weight = min(1.0, (number + 1) / 7)
        other = played_on[number] if number < 6 else own[number]
        wanted = weight * own[number] + (1 - weight) * other.astype(float)
        assert np.abs(picture - wanted).max() <= 0.51
    assert [read_barcode(p) for p in show_pictures(barcodes, before, edit, [0, 19])] == [4, 21]


def test_the_trailer_comes_from_black_and_goes_to_black(barcodes: Film) -> None:
    cut = take(barcodes, 10.5 / 24, 40)
    faded = plan_edit(barcodes, [cut], fade_in=8, fade_out=12)
    light = [p.mean() for p in show_pictures(barcodes, cut, faded, list(range(40)))]
    plain = [p.mean() for p in show_pictures(barcodes, cut, plan_edit(barcodes, [cut]), list(range(40)))]
    share = np.array(light) / np.array(plain)
    assert share[:8] == pytest.approx(np.arange(1, 9) / 9, abs=0.02)
    assert share[8:28] == pytest.approx(np.ones(20))
    assert share[28:] == pytest.approx(np.arange(12, 0, -1) / 13, abs=0.02)
    assert [fade_weight(faded.output, frame) for frame in (0, 8, 27, 39)] == [1 / 9, 1, 1, 1 / 13]
