"""Clips: the film's colours and tags go in and come out, cards match them, titles are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.cards import Subtitle, draw_title
from pipeline.errors import MediaError
from pipeline.media import find_ffmpeg, run_ffmpeg
from pipeline.records import Film, Output
from pipeline.render import clip_job
from pipeline.settings import VideoSettings
from pipeline.writing import join_clips

SIZE = (64, 48)
FILM = Film(Path("f"), "f", 0.0, 9.0, Fraction(24), *SIZE, 0, pixel_format="yuv420p")
OUTPUT = Output(*SIZE, Fraction(24), 24, -14.0)
VIDEO = VideoSettings(crf=1, preset="ultrafast")


def encode(
    path: Path,
    film: Film,
    yuv: tuple[int, int, int] | None,
    frames: int = 4,
    over: Sequence[tuple[Path, Subtitle]] = (),
) -> Path:
    """A clip of one colour (Y, U, V as stored), or a white card where there is none. over: pictures laid over it."""
    if yuv is None:
        picture, pixel_format = bytes([255]) * (SIZE[0] * SIZE[1] * 3), "rgb24"
    else:
        pixels = SIZE[0] * SIZE[1]
        picture = bytes([yuv[0]]) * pixels + bytes([yuv[1]]) * (pixels // 4) + bytes([yuv[2]]) * (pixels // 4)
        pixel_format = "yuv420p"
    job = clip_job(path, SIZE, pixel_format, OUTPUT, VIDEO, film, drawn=yuv is None, over=over)
    run_ffmpeg(find_ffmpeg(), job, chunks=[picture] * frames, timeout=60)
    return path


def planes(path: Path) -> tuple[float, float, float]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        y, u, v = (
            np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].mean()
            for plane in frame.planes
        )
    return float(y), float(u), float(v)


@pytest.mark.parametrize("matrix", ["1", "6", "2"], ids=["BT.709", "BT.601", "untagged"])
@pytest.mark.parametrize("yuv", [(62, 102, 239), (172, 42, 26), (145, 109, 149)], ids=["red", "green", "skin"])
def test_colours_come_out_as_they_went_in(tmp_path: Path, matrix: str, yuv: tuple[int, int, int]) -> None:
    film = replace(FILM, matrix=matrix, primaries=matrix, transfer=matrix)
    assert planes(encode(tmp_path / "c.mp4", film, yuv)) == pytest.approx(yuv, abs=1.5)


def test_tags_are_kept_and_cards_can_be_joined_to_cuts(tmp_path: Path) -> None:
    film = replace(FILM, matrix="1", primaries="1", transfer="1")
    clips = [encode(tmp_path / "a.mp4", film, (62, 102, 239)), encode(tmp_path / "b.mp4", film, None)]
    join_clips(clips, [4, 4], Fraction(24), tmp_path / "joined.mp4")
    with av.open(str(tmp_path / "joined.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 8
    assert {(int(f.colorspace), int(f.color_primaries), int(f.color_trc), int(f.color_range)) for f in frames} == {
        (1, 1, 1, 1)
    }


@pytest.mark.parametrize("matrix", ["1", "6", "2"], ids=["BT.709", "BT.601", "untagged"])
def test_lettering_over_a_clip_changes_its_own_pixels_and_frames_alone(tmp_path: Path, matrix: str) -> None:
    """White in the right half of the picture, over frames 1 and 2 of 4; a % in the name is no pattern."""
    film = replace(FILM, matrix=matrix, primaries=matrix, transfer=matrix)
    white = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    white[:, SIZE[0] // 2 :] = 255
    (tmp_path / "%d.png").write_bytes(cv2.imencode(".png", white)[1].tobytes())
    over = [(tmp_path / "%d.png", Subtitle("white", 1, 3))]
    clips = [encode(tmp_path / f"{len(o)}.mp4", film, (62, 102, 239), over=o) for o in ([], over)]
    join_clips(clips, [4, 4], Fraction(24), tmp_path / "joined.mp4")  # they carry the same tags
    with av.open(str(clips[1])) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]  # Y above U and V
    left, right = (np.array([f[: SIZE[1], side].mean() for f in frames]) for side in (slice(2, 24), slice(40, 62)))
    assert left == pytest.approx([62] * 4, abs=1.5)
    assert right == pytest.approx([62, 235, 235, 62], abs=1.5)


def test_full_range_becomes_limited(tmp_path: Path) -> None:
    white = encode(tmp_path / "w.mp4", replace(FILM, full_range=True), (255, 128, 128))
    assert planes(white)[0] == pytest.approx(235, abs=1)


def test_a_damaged_clip_is_one_error_that_says_which(tmp_path: Path) -> None:
    clip = encode(tmp_path / "a.mp4", FILM, (62, 102, 239))
    clip.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be read"):
        join_clips([clip], [4], Fraction(24), tmp_path / "joined.mp4")


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
