"""Clips: encoded by whatever codec, joined frame for frame, kept under a name of all that they show."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.cards import Subtitle
from pipeline.clips import Clip, Lettering, clip_job, count_jobs, encode_clip, make_clip_key, make_pictures
from pipeline.colours import choose_colours
from pipeline.encoders import choose_encoder, describe_software, scale_crf
from pipeline.errors import MediaError, MissingDependencyError
from pipeline.media import find_ffmpeg, probe_film
from pipeline.pictures import from_rgb, make_black, split_planes
from pipeline.records import Card, EditList, Film, Output
from pipeline.settings import Codec, EncoderKind, VideoSettings
from pipeline.writing import join_clips
from tests.plans import plan_edit, take, write_raw
from tests.synthetic import barcode_film, read_barcode

SIZE = (128, 96)  # no encoder refuses it
QUICK = VideoSettings(crf=12, preset="ultrafast", encoder=EncoderKind.software)
PROGRAM = find_ffmpeg()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    path = tmp_path_factory.mktemp("films") / "f.mp4"
    barcode_film(path, frame_rate=Fraction(24), shots=[48, 48], size=(320, 240), sound=False)
    return probe_film(path)


def encode(edit: EditList, film: Film, folder: Path, video: VideoSettings) -> list[Path]:
    encoder = choose_encoder(video, PROGRAM, (edit.output.width, edit.output.height))
    paths = []
    for number, piece in enumerate(edit.pieces):
        clip = Clip(folder / f"{number}.mp4", piece, ())
        encode_clip(clip, edit, film, encoder, PROGRAM)
        paths.append(clip.path)
    return paths


@pytest.mark.parametrize("codec", list(Codec))
def test_clips_of_every_codec_join_frame_for_frame(tmp_path: Path, film: Film, codec: Codec) -> None:
    """Cuts of 1 to 30 frames and a card, one file: every frame at its tick, the one that was asked for, in one order of
    decoding; tagged so that players know it."""
    lengths = [1, 30, 2, 5, 12]
    starts = [3, 50, 11, 20, 30]
    cuts = [take(film, (s + 0.5) / 24, n) for s, n in zip(starts, lengths, strict=True)]
    edit = plan_edit(film, [*cuts[:3], Card("TITLE", 0, 7), *cuts[3:]], size=(320, 240))
    paths = encode(edit, film, tmp_path, QUICK.model_copy(update={"codec": codec, "preset": "veryfast"}))
    joined = tmp_path / "joined.mp4"
    join_clips(paths, [piece.frames for piece in edit.pieces], Fraction(24), joined)
    with av.open(str(joined)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec.canonical_name == codec
        decoding = [packet.dts for packet in container.demux(stream) if packet.dts is not None]
        assert np.diff(decoding).min() > 0
    with av.open(str(joined)) as container:
        frames = list(container.decode(video=0))
    assert [Fraction(f.pts) * f.time_base for f in frames] == [Fraction(k, 24) for k in range(57)]
    numbers = [read_barcode(np.asarray(f.to_ndarray(format="rgb24"), np.uint8)) for f in frames]
    wanted = [s + k for s, n in zip(starts, lengths, strict=True) for k in range(n)]
    assert numbers[:33] + numbers[40:] == wanted
    assert {f.format.name for f in frames} == {"yuv420p"}


@pytest.mark.parametrize("height", [96, 720])
def test_clips_carry_the_tags_of_the_films_colours_and_cards_the_same(tmp_path: Path, height: int) -> None:
    """BT.709 and the SD matrices are kept; HD that says nothing is BT.709, or it would be shown as SD once scaled down."""
    kinds = {"bt709": (1, 1, 1, 1), "smpte170m": (6, 6, 6, 1), "": (2, 2, 2, 0) if height < 720 else (1, 1, 1, 1)}
    size = (height * 4 // 3, height)
    for name, wanted in kinds.items():
        said = ("-vf", f"setparams=color_primaries={name}:color_trc={name}:colorspace={name}:range=tv") if name else ()
        source = write_raw(tmp_path / f"f{name}.mkv", [make_black(size)[: height * 3 // 2]] * 3, *said, "-c:v", "ffv1",
                           size=size, pixel_format="yuv420p")  # fmt: skip
        edit = plan_edit(source, [take(source, 0, 2), Card("A", 0, 2)], size=SIZE)
        folder = tmp_path / f"clips{name}"
        folder.mkdir()
        joined = folder / "joined.mp4"
        join_clips(encode(edit, source, folder, QUICK), [2, 2], Fraction(24), joined)
        with av.open(str(joined)) as container:
            frames = list(container.decode(video=0))
        tags = {(int(f.colorspace), int(f.color_primaries), int(f.color_trc), int(f.color_range)) for f in frames}
        assert tags == {wanted}


@pytest.mark.parametrize("yuv", [(62, 102, 239), (172, 42, 26), (145, 109, 149)], ids=["red", "green", "skin"])
def test_colours_come_out_as_they_went_in(tmp_path: Path, yuv: tuple[int, int, int]) -> None:
    picture = make_black(SIZE)
    for plane, value in zip(split_planes(picture, SIZE), yuv, strict=True):
        plane[:] = value
    source = write_raw(tmp_path / "f.mkv", [picture] * 3, "-c:v", "ffv1", size=SIZE, pixel_format="yuv420p")
    (path,) = encode(plan_edit(source, [take(source, 0, 2)]), source, tmp_path, QUICK)
    with av.open(str(path)) as container:
        frame = np.asarray(next(container.decode(video=0)).to_ndarray(), np.uint8)
    assert [p.mean() for p in split_planes(frame, SIZE)] == pytest.approx(yuv, abs=1.5)


def test_a_damaged_clip_is_one_error_that_says_which(tmp_path: Path, film: Film) -> None:
    edit = plan_edit(film, [take(film, 0, 4)], size=SIZE)
    (clip,) = encode(edit, film, tmp_path, QUICK)
    with pytest.raises(MediaError, match="holds 4 frames and not 5"):
        join_clips([clip], [5], Fraction(24), tmp_path / "joined.mp4")
    clip.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(MediaError, match=r"0\.mp4 cannot be read"):
        join_clips([clip], [4], Fraction(24), tmp_path / "joined.mp4")


# Lettering --------------------------------------------------------------------------------------------------------


def test_lettering_changes_its_own_pixels_alone() -> None:
    """White at half its strength in the lower right of a red picture."""
    colours = choose_colours(Film(Path("f"), "f", 0.0, 9.0, Fraction(24), *SIZE, 0, matrix="1"))
    red = from_rgb(np.full((SIZE[1], SIZE[0], 3), (200, 30, 30), np.uint8), colours)
    drawn = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    drawn[80:90, 64:] = (255, 255, 255, 128)
    laid = Lettering(drawn, colours).lay_over(red)
    white = from_rgb(np.full((SIZE[1], SIZE[0], 3), 255, np.uint8), colours)
    for was, new, whole, step in zip(*(split_planes(p, SIZE) for p in (red, laid, white)), (1, 2, 2), strict=True):
        wanted = was.astype(float)
        area = (slice(80 // step, 90 // step), slice(64 // step, None))
        wanted[area] += (whole[area].astype(float) - was[area]) * 128 / 255
        assert np.abs(new - wanted).max() <= 1
    empty = Lettering(np.zeros((SIZE[1], SIZE[0], 4), np.uint8), colours)
    assert (empty.lay_over(red) == red).all()


def test_what_is_said_is_in_view_over_its_own_frames(film: Film) -> None:
    edit = plan_edit(film, [take(film, 0.5 / 24, 6)], size=(320, 240))
    plain = list(make_pictures(Clip(Path("c"), edit.cuts[0], ()), edit, film))
    over = list(make_pictures(Clip(Path("c"), edit.cuts[0], (Subtitle("Run!", 2, 4),)), edit, film))
    assert [bool((a != b).any()) for a, b in zip(plain, over, strict=True)] == [False, False, True, True, False, False]
    changed = np.flatnonzero((plain[2][:240] != over[2][:240]).any(axis=1))
    assert changed.min() >= 0.9 * 240 - 1


# Keys -------------------------------------------------------------------------------------------------------------


def test_a_clips_name_changes_with_all_that_it_shows_and_with_nothing_else(film: Film) -> None:
    encoder = describe_software("libx264", QUICK)

    def keys(edit: EditList, **how: object) -> list[str]:
        named = {"font": "", "encoder": encoder, **how}
        return [
            make_clip_key(p, (), edit, film, named["encoder"], font=str(named["font"]))  # type: ignore[arg-type]
            for p in edit.pieces
        ]

    first, second = take(film, 0.1, 10), take(film, 1.0, 10)
    card = Card("A", 0, 6)
    plain = keys(plan_edit(film, [first, second, card]))
    assert keys(plan_edit(film, [first, second, card], config={"seed": 3})) == plain
    assert keys(plan_edit(film, [second, first, card]))[0] == plain[1]  # where it stands in the trailer does not matter
    for changed in (
        replace(second, speed=0.9, source=replace(second.source, end=1.0 + 9 / 24)),
        replace(second, focus=((0.1, 0.5),)),
        replace(second, dissolve=3),
        take(film, 1.01, 10),
        take(film, 1.0, 11),
    ):
        assert [a == b for a, b in zip(keys(plan_edit(film, [first, changed, card])), plain, strict=True)] == [
            True,
            False,
            True,
        ]
    dissolved = keys(plan_edit(film, [first, replace(second, dissolve=3), card]))
    moved = keys(plan_edit(film, [take(film, 0.2, 10), replace(second, dissolve=3), card]))
    assert dissolved[1] != moved[1]  # its first frames show the cut before
    assert keys(plan_edit(film, [first, second, replace(card, note="B")]))[2] != plain[2]
    faded = keys(plan_edit(film, [first, second, card], fade_in=4, fade_out=3))
    assert [a == b for a, b in zip(faded, plain, strict=True)] == [False, True, False]
    barred = keys(plan_edit(film, [first, second, card], bars=(0, 0.1, 0, 0.1)))
    assert [a == b for a, b in zip(barred, plain, strict=True)] == [False, False, True]
    other = describe_software("libx264", QUICK.model_copy(update={"crf": 13}))
    assert not set(keys(plan_edit(film, [first, second, card]), encoder=other)) & set(plain)
    assert not set(keys(plan_edit(film, [first, second, card], size=(160, 120)))) & set(plain)


# Encoders ---------------------------------------------------------------------------------------------------------


def fake_ffmpeg(path: Path, body: str) -> Path:
    """A program that stands in for ffmpeg: a shell script. It reads what it is fed, as ffmpeg does."""
    path.write_text(f"#!/bin/sh\ncat > /dev/null\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_hardware_is_used_where_it_really_works_and_software_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ffmpeg whose nvenc works, and one that lists it but has no device: only a real encode tells."""
    nvenc = describe_nvenc()
    monkeypatch.setattr("pipeline.encoders.describe_hardware", lambda kind, video: nvenc if kind == "nvenc" else None)
    able = fake_ffmpeg(tmp_path / "able", "exit 0")
    unable = fake_ffmpeg(tmp_path / "unable", 'case "$*" in *nvenc*) exit 1;; esac')
    auto = VideoSettings()
    assert choose_encoder(auto, able, SIZE).name == "h264_nvenc"
    assert choose_encoder(auto, unable, SIZE).name == "libx264"
    assert choose_encoder(QUICK, able, SIZE).name == "libx264"
    assert "hardware" in choose_encoder(auto, able, SIZE).description
    with pytest.raises(MissingDependencyError, match=r"no nvenc encoder for h264 works here.*video\.encoder=auto"):
        choose_encoder(VideoSettings(encoder=EncoderKind.nvenc), unable, SIZE)


def describe_nvenc() -> object:
    from pipeline.encoders import Encoder

    return Encoder("h264_nvenc", Codec.h264, True, (("cq", "18"),))


def test_a_codec_that_ffmpeg_lacks_is_refused_with_what_to_do(tmp_path: Path) -> None:
    without = fake_ffmpeg(tmp_path / "bare", 'case "$*" in *libx264*) exit 0;; *) exit 8;; esac')
    with pytest.raises(MissingDependencyError, match=r"cannot encode av1 \(tried libsvtav1, libaom-av1\).*codec=h264"):
        choose_encoder(VideoSettings(codec=Codec.av1, encoder=EncoderKind.software), without, SIZE)
    none = fake_ffmpeg(tmp_path / "none", "exit 8")
    with pytest.raises(MissingDependencyError, match="TRAILER_FFMPEG"):
        choose_encoder(QUICK, none, SIZE)


def test_a_draft_is_small_and_quick() -> None:
    draft = VideoSettings(draft=True)
    assert (draft.tallest, VideoSettings().tallest, VideoSettings(draft=True, max_height=180).tallest) == (
        360,
        1080,
        180,
    )
    assert dict(describe_software("libx264", draft).options) == {"preset": "veryfast", "crf": "28", "threads": "1"}
    assert [scale_crf(VideoSettings(codec=codec)) for codec in Codec] == [18, 22, 27]


def test_memory_bounds_how_many_are_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def jobs(width: int, height: int, pixel_format: str, out: tuple[int, int]) -> int:
        source = Film(Path("f"), "f", 0.0, 9.0, Fraction(24), width, height, 0, pixel_format=pixel_format)
        return count_jobs(source, Output(*out, Fraction(24), 24, -14.0), Codec.h264)

    assert jobs(1280, 720, "yuv420p", (1280, 720)) >= 4
    assert jobs(3840, 2160, "yuv420p10le", (1920, 1080)) == 1
    assert jobs(320, 180, "yuv420p", (320, 180)) > 10


def test_a_job_names_every_option_of_its_encoder() -> None:
    colours = choose_colours(Film(Path("f"), "f", 0.0, 9.0, Fraction(24), *SIZE, 0, matrix="1"))
    encoder = describe_software("libx265", QUICK.model_copy(update={"codec": Codec.hevc}))
    job = clip_job(Path("c.mp4"), Output(*SIZE, Fraction(30000, 1001), 9, -14.0), encoder, colours)
    text = " ".join(job)
    assert "-tag:v hvc1" in text
    assert "-video_track_timescale 30000" in text
    assert "-framerate 30000/1001" in text
