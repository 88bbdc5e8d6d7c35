"""Which picture is the film's, whether it has fields, and what is said about a file that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.writing import write_film
from tests.test_media import numbered, ramp


def ffmpeg(*arguments: str | Path) -> None:
    run_ffmpeg(find_ffmpeg(), ["-v", "error", "-y", *(str(argument) for argument in arguments)], timeout=60)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 48, 2 s, with sound."""
    path = tmp_path_factory.mktemp("small") / "small.mp4"
    write_film(path, numbered(50), frame_rate=Fraction(25), sound=ramp(2), options={"g": "10"})
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 x 90, 2 s."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    write_film(path, numbered(50, (160, 90)), frame_rate=Fraction(25))
    return path


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single JPEG, larger than either film."""
    path = tmp_path_factory.mktemp("cover") / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=600x800", "-frames:v", "1", path)
    return path


def both(first: Path, second: Path, out: Path, *options: str) -> tuple[int, int]:
    """The size of the picture that is chosen out of two."""
    ffmpeg("-i", first, "-i", second, "-map", "0:v", "-map", "1:v", "-c", "copy", *options, out)
    film = probe_film(out)
    return film.width, film.height


def test_the_largest_picture_is_the_film_unless_the_container_says_another(
    tmp_path: Path, small: Path, large: Path
) -> None:
    assert both(small, large, tmp_path / "small-first.ts") == (160, 90)
    assert both(large, small, tmp_path / "large-first.ts") == (160, 90)
    default = ("-disposition:v:0", "default", "-disposition:v:1", "0")
    assert both(small, large, tmp_path / "default.mkv", *default) == (64, 48)


@pytest.mark.parametrize("name", ["flagged.mp4", "unflagged.mp4", "unflagged.mkv"])
@pytest.mark.parametrize("first", [True, False])
def test_cover_art_is_not_the_film_wherever_it_stands(
    tmp_path: Path, small: Path, cover: Path, name: str, first: bool
) -> None:
    files = (cover, small) if first else (small, cover)
    disposition = "attached_pic" if name.startswith("flagged") else "0"
    options = (f"-disposition:v:{0 if first else 1}", disposition)
    assert both(*files, tmp_path / name, *options) == (64, 48)


def test_a_film_of_stills_is_one(tmp_path: Path, small: Path) -> None:
    for codec, name in (("mjpeg", "a.mkv"), ("png", "b.mkv"), ("png", "c.mov")):
        ffmpeg("-i", small, "-an", "-c:v", codec, tmp_path / name)
        assert probe_film(tmp_path / name).codec == codec


@pytest.mark.parametrize("interlaced", [True, False])
def test_a_film_is_interlaced_where_most_of_it_is(tmp_path: Path, interlaced: bool) -> None:
    """A logo of one kind, then the film of another; MPEG-2 says for each picture whether it is of fields."""
    for name, seconds, fields in (("logo", 1, not interlaced), ("rest", 8, interlaced)):
        options = ("-vf", "setfield=tff", "-flags", "+ildct+ilme") if fields else ()
        picture = f"testsrc=s=160x96:r=25:d={seconds}"
        ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "mpeg2video", "-g", "12", *options, tmp_path / f"{name}.ts")
    (tmp_path / "list").write_text(f"file '{tmp_path / 'logo.ts'}'\nfile '{tmp_path / 'rest.ts'}'\n")
    ffmpeg("-f", "concat", "-safe", "0", "-i", tmp_path / "list", "-c", "copy", tmp_path / "film.ts")
    assert probe_film(tmp_path / "film.ts").interlaced is interlaced
    assert probe_film(tmp_path / "logo.ts").interlaced is not interlaced  # as the first picture of both says


def write_encrypted(film: Path, out: Path) -> None:
    key = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    ffmpeg("-i", film, "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, out)


def write_cut_short(film: Path, out: Path) -> None:
    """As a recording whose end never came: pictures without their index."""
    out.write_bytes(film.read_bytes()[: film.read_bytes().index(b"moov") - 4])


def write_index_alone(film: Path, out: Path) -> None:
    ffmpeg("-i", film, "-c", "copy", "-movflags", "+faststart", out)
    out.write_bytes(out.read_bytes()[: out.read_bytes().index(b"mdat") + 4])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_encrypted, "is encrypted"),
        (write_cut_short, "was cut short, its index is missing"),
        (write_index_alone, "announces 50 pictures and holds none"),
        (lambda film, out: out.write_bytes(b"PK\x03\x04" + bytes(999)), "is an archive"),
        (lambda film, out: out.write_bytes(bytes(9999)), "begins with zeros"),
        (lambda film, out: out.write_text("What is this?\nA film.\n" * 99), "is text"),
        (lambda film, out: out.write_bytes(np.random.default_rng(7).bytes(9999)), "not a media file"),
        (lambda film, out: ffmpeg("-i", film, "-vn", "-c:a", "copy", out), "holds only sound"),
    ],
)
def test_a_line_says_what_is_wrong_with_a_file(
    tmp_path: Path, small: Path, write: Callable[[Path, Path], None], said: str
) -> None:
    path = tmp_path / "film.mp4"
    write(small, path)
    with pytest.raises(InputError, match=said) as caught:
        probe_film(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_is_no_film_whatever_its_name(tmp_path: Path, cover: Path) -> None:
    other = tmp_path / "film.mp4"
    other.write_bytes(cover.read_bytes())
    for path in (cover, other):
        with pytest.raises(InputError, match="is a picture"):
            probe_film(path)
