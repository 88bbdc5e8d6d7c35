"""The gate: it passes a good trailer, and catches each fault that is planted in one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.editfile import read_edit
from pipeline.errors import InputError
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg, run_ffmpeg
from pipeline.quality import check_trailer
from pipeline.records import EditList, Span
from pipeline.render import render_trailer
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.trailer import make_trailer
from tests.synthetic import barcode_film, click_track

SETTINGS = ["video.preset=ultrafast", "edit.card_seconds=1.5"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EditList, Site]:
    folder = tmp_path_factory.mktemp("good")
    film = barcode_film(folder / "film.mp4", frame_rate=Fraction(25), shots=[60] * 14, size=(160, 90))
    click_track(folder / "clicks.wav", bpm=120, seconds=12.0)
    site = Site(work_dir=folder / "work", device="cpu")
    outcome = make_trailer(
        film.path,
        load_config(None, SETTINGS),
        site,
        LocalRunner(lambda line: None),
        music=folder / "clicks.wav",
        out=folder / "t.mp4",
    )
    return outcome.trailer, read_edit(outcome.edit), site


def failed(path: Path, edit: EditList | None, site: Site) -> set[str]:
    return {check.name for check in check_trailer(path, edit, site).report.checks if not check.passed}


def doctored(source: Path, out: Path, arguments: list[str]) -> Path:
    run_ffmpeg(
        find_ffmpeg(), ["-v", "error", "-i", str(source), *arguments, "-movflags", "+faststart", str(out)], timeout=60
    )
    return out


ENCODE = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-video_track_timescale", "25"]


def test_a_good_trailer_passes_with_a_picture_for_every_piece(good: tuple[Path, EditList, Site]) -> None:
    path, edit, site = good
    measured = check_trailer(path, edit, site)
    assert measured.report.passed
    assert len(measured.thumbnails) == len(edit.pieces)
    assert all(bytes(t[:2]) == b"\xff\xd8" for t in measured.thumbnails)  # JPEG
    assert failed(path, None, site) == set()


def test_a_black_stretch_is_caught(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    black = ["-vf", "drawbox=enable='between(t,2,3)':color=black:t=fill", *ENCODE, "-c:a", "copy"]
    assert {"longest_black_seconds", "picture_difference"} & failed(
        doctored(path, tmp_path / "b.mp4", black), edit, site
    )
    assert "longest_black_seconds" in failed(doctored(path, tmp_path / "c.mp4", black), None, site)


def test_a_frozen_stretch_is_caught(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    frozen = ["-vf", "select='lt(n,50)+gt(n,149)',fps=25", *ENCODE, "-c:a", "copy"]
    assert "longest_frozen_seconds" in failed(doctored(path, tmp_path / "f.mp4", frozen), edit, site)


def test_silence_is_caught_inside_and_a_missing_sound_stream_too(
    good: tuple[Path, EditList, Site], tmp_path: Path
) -> None:
    path, edit, site = good
    muted = ["-c:v", "copy", "-af", "volume=0:enable='between(t,1,9)'"]
    assert "longest_silence_seconds" in failed(doctored(path, tmp_path / "s.mp4", muted), edit, site)
    assert "audio_codec" in failed(doctored(path, tmp_path / "n.mp4", ["-c:v", "copy", "-an"]), edit, site)


@pytest.mark.parametrize(("gain", "fault"), [("6dB", "true_peak_dbtp"), ("-6dB", "loudness_lufs")])
def test_a_wrong_level_is_caught(good: tuple[Path, EditList, Site], tmp_path: Path, gain: str, fault: str) -> None:
    path, edit, site = good
    assert fault in failed(doctored(path, tmp_path / "l.mp4", ["-c:v", "copy", "-af", f"volume={gain}"]), edit, site)


def test_a_wrong_length_and_a_wrong_size_are_caught(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    assert {"frames", "duration_seconds"} <= failed(
        doctored(path, tmp_path / "s.mp4", ["-c", "copy", "-t", "10"]), edit, site
    )
    scaled = ["-vf", "scale=80:-2", *ENCODE, "-c:a", "copy"]
    assert "size" in failed(doctored(path, tmp_path / "z.mp4", scaled), edit, site)


def test_a_foreign_frame_is_caught(good: tuple[Path, EditList, Site]) -> None:
    """The plan says another place of the film than the file shows."""
    path, edit, site = good
    cuts = list(edit.cuts)
    other = next(n for n in range(len(edit.shots)) if n not in {c.shot for c in cuts})
    start = edit.shots[other].start + 0.2
    cuts[1] = replace(cuts[1], shot=other, source=Span(start, start + cuts[1].source.duration))
    assert "picture_difference" in failed(path, replace(edit, cuts=tuple(cuts)), site)


def test_a_shot_used_twice_is_caught(good: tuple[Path, EditList, Site]) -> None:
    path, edit, site = good
    cuts = sorted(edit.cuts, key=lambda cut: cut.frames)
    start, seconds = cuts[-1].source.start, cuts[0].source.duration
    cuts[0] = replace(cuts[0], shot=cuts[-1].shot, source=Span(start, start + seconds))
    assert "shots_used_twice" in failed(path, replace(edit, cuts=tuple(cuts)), site)


def test_a_truncated_file_is_caught_or_refused(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    data = path.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert {"frames", "damaged_packets"} & failed(tmp_path / "cut.mp4", edit, site)
    (tmp_path / "head.mp4").write_bytes(data[:500])
    with pytest.raises(InputError):
        check_trailer(tmp_path / "head.mp4", edit, site)


def test_the_index_must_come_first(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    run_ffmpeg(find_ffmpeg(), ["-v", "error", "-i", str(path), "-c", "copy", str(tmp_path / "slow.mp4")], timeout=60)
    assert failed(tmp_path / "slow.mp4", edit, site) == {"faststart"}


def test_a_film_that_is_gone_or_changed_is_said(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    path, edit, site = good
    gone = replace(edit, film=replace(edit.film, path=tmp_path / "gone.mp4"))
    assert "picture_difference" in failed(path, gone, site)
    with pytest.raises(InputError, match="no such film"):
        render_trailer(gone, tmp_path / "x.mp4", tmp_path / "clips", site)
    changed = replace(edit, film=replace(edit.film, fingerprint="0" * 32))
    with pytest.raises(InputError, match="content has changed"):
        render_trailer(changed, tmp_path / "x.mp4", tmp_path / "clips", site)
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("target", [-14.0, -23.0])
def test_loudness_reaches_its_target(good: tuple[Path, EditList, Site], tmp_path: Path, target: float) -> None:
    _, edit, site = good
    config = load_config(None, [*SETTINGS, f"sound.loudness_lufs={target}"]).model_dump(mode="json")
    plan = replace(edit, config=config, output=replace(edit.output, loudness_lufs=target))
    render_trailer(plan, tmp_path / "l.mp4", site.work_dir / "clips", site)
    loudness, peak = measure_loudness(find_ffmpeg(), ["-i", str(tmp_path / "l.mp4")], 60)
    assert loudness == pytest.approx(target, abs=0.5)
    assert peak <= -1.0


def test_an_unchanged_cut_is_not_encoded_again(good: tuple[Path, EditList, Site], tmp_path: Path) -> None:
    _, edit, site = good
    clips = tmp_path / "clips"
    render_trailer(edit, tmp_path / "a.mp4", clips, site)
    before = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    cuts = list(edit.cuts)
    shift = 2 / 25
    cuts[2] = replace(cuts[2], source=Span(cuts[2].source.start + shift, cuts[2].source.end + shift))
    render_trailer(replace(edit, cuts=tuple(cuts)), tmp_path / "b.mp4", clips, site)
    after = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(before) == len(edit.pieces)
    assert len(after) == len(before) + 1
    assert all(after[name] == stamp for name, stamp in before.items())
