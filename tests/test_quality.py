"""The gate: it passes a good trailer, and of each fault that is planted in one fails what measures it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.loudness import measure_loudness
from pipeline.media import find_ffmpeg, run_ffmpeg
from pipeline.quality import check_trailer
from pipeline.quality_mix import Heard
from pipeline.quality_pictures import Seen, watch
from pipeline.quality_plan import check_plan
from pipeline.records import U8, Check, EditList, Placement, Span
from pipeline.render import render_trailer
from pipeline.settings import GateSettings, Site, load_config
from pipeline.sound import read_track
from pipeline.trailer import quality_to_json
from pipeline.writing import write_film
from tests.synthetic import SyntheticFilm, barcode_film
from tests.trailers import SETTINGS, doctor, make_music, plan_trailer

FPS = Fraction(25)
SHOT = 60  # frames
ENCODE = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-video_track_timescale", "25"]
INSIDE = (120, 157)  # frames [first, last) well within the longest cut, from 4.5 to 6.5 s: 113 to 163


@dataclass(frozen=True)
class Good:
    """A trailer as it should be. shots: the pictures of the film, RGB."""

    path: Path
    edit: EditList
    site: Site
    film: SyntheticFilm


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("good")
    film = barcode_film(folder / "film.mp4", frame_rate=FPS, shots=[SHOT] * 8, size=(160, 90), static=[1])
    edit = plan_trailer(film.path, film.edges, make_music(folder), rate=FPS)
    site = Site(work_dir=folder / "work", device="cpu")
    render_trailer(edit, folder / "t.mp4", folder / "clips", site)
    return Good(folder / "t.mp4", edit, site, film)


def checks(path: Path, edit: EditList | None, site: Site) -> dict[str, Check]:
    report = check_trailer(path, edit, site).report
    json.loads(quality_to_json(report))  # what NumPy calls a figure or a truth, JSON does not
    return {check.name: check for check in report.checks}


def failed(path: Path, edit: EditList | None, site: Site) -> set[str]:
    return {name for name, check in checks(path, edit, site).items() if not check.passed}


def pictures(path: Path) -> list[U8]:
    with av.open(str(path)) as container:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]


def repainted(good: Good, out: Path, change: Callable[[list[U8]], None]) -> Path:
    """The trailer with other pictures, encoded well enough that nothing else shows, and its own sound."""
    shown = pictures(good.path)
    change(shown)
    write_film(out.with_suffix(".video.mp4"), shown, frame_rate=FPS, crf=12)
    sources = ["-i", str(out.with_suffix(".video.mp4")), "-i", str(good.path)]
    mapping = ["-map", "0:v", "-map", "1:a", "-c", "copy", "-video_track_timescale", "25", "-movflags", "+faststart"]
    run_ffmpeg(find_ffmpeg(), ["-v", "error", *sources, *mapping, str(out)], timeout=60)
    return out


def test_a_good_trailer_passes_with_a_picture_for_every_piece(good: Good) -> None:
    shares: list[float] = []
    measured = check_trailer(good.path, good.edit, good.site, progress=shares.append)
    assert [check.name for check in measured.report.checks if not check.passed] == []
    assert len(measured.thumbnails) == len(good.edit.pieces)
    assert all(bytes(t[:2]) == b"\xff\xd8" for t in measured.thumbnails)  # JPEG
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] <= 1
    assert failed(good.path, None, good.site) == set()
    found = {check.name: check for check in measured.report.checks}
    assert abs(float(found["sound_offset_seconds"].value)) <= 0.001
    assert found["cuts_on_beats"].value == 1.0
    assert {"size_megabytes", "colour", "display_aspect", "outside_story", "repeated_pictures"} <= found.keys()


# Faults in the file -----------------------------------------------------------------------------------------------


def black_out(good: Good, out: Path, first: int, last: int) -> Path:
    blackness = f"drawbox=enable='between(n,{first},{last})':color=black:t=fill"
    return doctor(good.path, out, ["-vf", blackness, *ENCODE, "-c:a", "copy"])


def test_a_black_stretch_is_caught(good: Good, tmp_path: Path) -> None:
    """0.8 s within a cut. Without the edit list black between two shots may be meant; amid one it is not."""
    found = checks(black_out(good, tmp_path / "b.mp4", 125, 144), good.edit, good.site)
    assert {name for name, check in found.items() if not check.passed} == {
        "longest_black_seconds",
        "picture_difference",
    }
    assert found["longest_black_seconds"].value == pytest.approx(0.8, abs=0.001)
    amid = black_out(good, tmp_path / "a.mp4", 170, 189)  # in the shot that stands still: it looks alike after it
    assert failed(amid, None, good.site) == {"longest_black_seconds"}
    assert failed(black_out(good, tmp_path / "c.mp4", 70, 119), None, good.site) == set()  # 2 s over three shots
    assert failed(black_out(good, tmp_path / "l.mp4", 70, 122), None, good.site) == {"longest_black_seconds"}


def test_a_frozen_stretch_is_caught(good: Good, tmp_path: Path) -> None:
    first, last = INSIDE
    frozen = doctor(good.path, tmp_path / "f.mp4", [
        "-filter_complex", f"[0:v][0:v]freezeframes=first={first}:last={last - 1}:replace={first}[v]",
        "-map", "[v]", "-map", "0:a", *ENCODE, "-c:a", "copy",
    ])  # fmt: skip
    found = checks(frozen, good.edit, good.site)
    assert {name for name, check in found.items() if not check.passed} == {
        "longest_frozen_seconds",
        "picture_difference",
    }
    assert found["longest_frozen_seconds"].value == pytest.approx((last - first) / 25, abs=0.001)


def test_seven_seconds_of_one_picture_are_caught_in_anybodys_trailer(good: Good, tmp_path: Path) -> None:
    filters = "select='lt(n,50)+gt(n,224)',fps=25"  # as the frame-rate filter fills a hole
    assert failed(doctor(good.path, tmp_path / "f.mp4", ["-vf", filters, *ENCODE]), None, good.site) == {
        "longest_frozen_seconds"
    }
    # a hole in the timestamps is the same to whoever looks
    hole = ["-vf", "select='lt(n,50)+gt(n,224)'", "-fps_mode", "passthrough", *ENCODE]
    assert failed(doctor(good.path, tmp_path / "h.mp4", hole), None, good.site) == {"longest_frozen_seconds"}


def test_a_silent_stretch_is_caught(good: Good, tmp_path: Path) -> None:
    muted = doctor(good.path, tmp_path / "s.mp4", ["-c:v", "copy", "-af", "volume=0:enable='between(t,4,8)'"])
    found = checks(muted, good.edit, good.site)
    assert {name for name, check in found.items() if not check.passed} == {
        "longest_silence_seconds",
        "lost_sound_seconds",
    }
    assert float(found["lost_sound_seconds"].value) == pytest.approx(4.0, abs=0.2)
    assert failed(muted, None, good.site) == {"longest_silence_seconds"}
    # half a second is no silence of its own; beside the mix it is a hole
    short = doctor(good.path, tmp_path / "h.mp4", ["-c:v", "copy", "-af", "volume=0:enable='between(t,8,8.6)'"])
    assert failed(short, good.edit, good.site) == {"lost_sound_seconds"}


@pytest.mark.parametrize(
    ("gain", "faults"), [("6dB", {"true_peak_dbtp", "loudness_lufs"}), ("-6dB", {"loudness_lufs"})]
)
def test_a_wrong_level_is_caught(good: Good, tmp_path: Path, gain: str, faults: set[str]) -> None:
    path = doctor(good.path, tmp_path / "l.mp4", ["-c:v", "copy", "-af", f"volume={gain}"])
    assert failed(path, good.edit, good.site) == faults


@pytest.mark.parametrize("late", [0.08, -0.08])
def test_sound_80_ms_off_the_pictures_is_caught(good: Good, tmp_path: Path, late: float) -> None:
    """By a filter: every timestamp is as it should be."""
    shift = "adelay=80|80,atrim=end=12" if late > 0 else "atrim=start=0.08,asetpts=PTS-STARTPTS,apad=whole_dur=12"
    path = doctor(good.path, tmp_path / "o.mp4", ["-c:v", "copy", "-af", shift, "-b:a", "256k"])
    found = checks(path, good.edit, good.site)
    assert {name for name, check in found.items() if not check.passed} == {"sound_offset_seconds"}
    assert found["sound_offset_seconds"].value == pytest.approx(late, abs=0.001)


@pytest.mark.parametrize("what", ["sound late", "sound early", "pictures late"])
def test_a_shift_by_the_container_is_caught(good: Good, tmp_path: Path, what: str) -> None:
    """Nothing is encoded anew: the times alone are others, in the MP4's edit lists."""
    offset = "-0.08" if what == "sound early" else "0.08"
    maps = ["-map", "1:v", "-map", "0:a"] if what == "pictures late" else ["-map", "0:v", "-map", "1:a"]
    path = doctor(good.path, tmp_path / "o.mp4", [*maps, "-c", "copy"], before=["-itsoffset", offset])
    found = checks(path, good.edit, good.site)
    assert not found["sound_offset_seconds"].passed
    late = float(found["sound_offset_seconds"].value)
    assert late == pytest.approx(0.08 if what == "sound late" else -0.08, abs=0.001)
    others = {name for name, check in found.items() if not check.passed} - {"sound_offset_seconds"}
    # what the shift does to starts and lengths besides
    assert others <= {"duration_seconds", "audio_seconds", "off_grid_seconds"}


def test_a_missing_stream_is_caught(good: Good, tmp_path: Path) -> None:
    silent = doctor(good.path, tmp_path / "n.mp4", ["-c:v", "copy", "-an"])
    assert failed(silent, good.edit, good.site) == {"audio_codec", "audio_seconds"}
    assert failed(silent, None, good.site) == {"audio_codec"}
    blind = doctor(good.path, tmp_path / "b.mp4", ["-c:a", "copy", "-vn"])
    assert failed(blind, good.edit, good.site) == {"video_codec", "frames"}
    assert failed(blind, None, good.site) == {"video_codec"}
    assert len(check_trailer(blind, good.edit, good.site).thumbnails) == len(good.edit.pieces)


def test_a_truncated_file_is_caught_or_refused(good: Good, tmp_path: Path) -> None:
    data = good.path.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    assert {"frames", "duration_seconds", "audio_seconds"} <= failed(tmp_path / "cut.mp4", good.edit, good.site)
    assert "duration_seconds" in failed(tmp_path / "cut.mp4", None, good.site)
    assert len(check_trailer(tmp_path / "cut.mp4", good.edit, good.site).thumbnails) == len(good.edit.pieces)
    (tmp_path / "head.mp4").write_bytes(data[:500])
    with pytest.raises(InputError):
        check_trailer(tmp_path / "head.mp4", good.edit, good.site)


def test_damage_in_the_middle_is_caught(good: Good, tmp_path: Path) -> None:
    """A hundred bytes of a picture and of the sound near it overwritten, as a bad disk leaves them."""
    data = bytearray(good.path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "d.mp4").write_bytes(data)
    assert "damaged_packets" in failed(tmp_path / "d.mp4", good.edit, good.site)
    assert "damaged_packets" in failed(tmp_path / "d.mp4", None, good.site)


def test_a_wrong_length_and_a_wrong_size_are_caught(good: Good, tmp_path: Path) -> None:
    short = doctor(good.path, tmp_path / "s.mp4", ["-c", "copy", "-t", "10"])
    assert failed(short, good.edit, good.site) == {"frames", "duration_seconds", "audio_seconds"}
    scaled = ["-vf", "scale=80:-2,setsar=1", *ENCODE, "-c:a", "copy"]
    assert {"size"} <= failed(doctor(good.path, tmp_path / "z.mp4", scaled), good.edit, good.site) <= {
        "size", "display_aspect", "picture_difference",
    }  # fmt: skip


def test_a_shot_that_is_shown_twice_is_caught(good: Good, tmp_path: Path) -> None:
    """The pictures of the third cut over the last one's: the edit list knows nothing of it."""
    one, other = good.edit.cuts[2], good.edit.cuts[5]

    def repeat(shown: list[U8]) -> None:
        for k in range(other.frames):
            shown[other.start_frame + k] = shown[one.start_frame + min(k, one.frames - 1)]

    path = repainted(good, tmp_path / "r.mp4", repeat)
    assert {"repeated_pictures"} <= failed(path, good.edit, good.site) <= {
        "repeated_pictures", "picture_difference", "longest_frozen_seconds",
    }  # fmt: skip


def test_a_shot_that_the_film_itself_repeats_is_caught(good: Good, tmp_path: Path) -> None:
    """A film that shows its first shot once more as its sixth: by the edit list two shots, by the pictures one."""
    shown = pictures(good.film.path)
    shown[5 * SHOT : 6 * SHOT] = shown[:SHOT]
    write_film(
        tmp_path / "film.mp4", shown, frame_rate=FPS, sound=read_track(good.film.path, sample_rate=48000, channels=2)
    )
    edit = plan_trailer(tmp_path / "film.mp4", good.film.edges, good.edit.music, rate=FPS)
    render_trailer(edit, tmp_path / "t.mp4", tmp_path / "clips", good.site)
    assert failed(tmp_path / "t.mp4", edit, good.site) == {"repeated_pictures"}
    pinned = tuple(replace(cut, pinned=cut.shot in (0, 5)) for cut in edit.cuts)
    assert failed(tmp_path / "t.mp4", replace(edit, cuts=pinned), good.site) == set()  # the user wants both
    config = load_config(None, [*SETTINGS, "guards.twins=false"]).model_dump(mode="json")
    assert failed(tmp_path / "t.mp4", replace(edit, config=config), good.site) == set()


@pytest.mark.parametrize("place", ["last", "first", "second"])
def test_a_foreign_frame_at_a_cuts_edge_is_caught(good: Good, tmp_path: Path, place: str) -> None:
    """One frame of the shot that follows in the film, or that came before, as a cut that starts late or ends late shows."""
    cut = good.edit.cuts[3]
    film = pictures(good.film.path)

    def plant(shown: list[U8]) -> None:
        if place == "last":
            shown[cut.start_frame + cut.frames - 1] = film[SHOT * (cut.shot + 1)]
        else:
            shown[cut.start_frame + (place == "second")] = film[SHOT * cut.shot - 1]

    path = repainted(good, tmp_path / "f.mp4", plant)
    assert failed(path, good.edit, good.site) == {"picture_difference"}


def test_frames_off_their_grid_and_a_wrong_rate_are_caught(good: Good, tmp_path: Path) -> None:
    late = doctor(good.path, tmp_path / "g.mp4", ["-c", "copy", "-bsf:v", "setts=ts=TS+12*gt(N\\,100)"])
    assert "off_grid_seconds" in failed(late, good.edit, good.site)
    faster = doctor(good.path, tmp_path / "r.mp4", ["-vf", "fps=50", *ENCODE[:-1], "50", "-c:a", "copy"])
    assert {"frames", "frame_rate", "off_grid_seconds"} <= failed(faster, good.edit, good.site)


def test_wrong_tags_and_formats_are_caught(good: Good, tmp_path: Path) -> None:
    full = ["-vf", "scale=out_range=full,format=yuvj420p", *ENCODE, "-c:a", "copy"]
    assert {"colour", "pixel_format"} <= failed(doctor(good.path, tmp_path / "f.mp4", full), good.edit, good.site)
    wide = ["-aspect", "4:3", "-c", "copy"]
    assert failed(doctor(good.path, tmp_path / "w.mp4", wide), good.edit, good.site) == {"display_aspect"}
    other = ["-c:v", "mpeg4", "-q:v", "2", "-c:a", "libmp3lame"]
    assert {"video_codec", "audio_codec"} <= failed(doctor(good.path, tmp_path / "o.mp4", other), good.edit, good.site)


def test_a_file_that_is_too_large_is_caught(good: Good) -> None:
    config = load_config(None, [*SETTINGS, "gate.most_mbps=0.1"]).model_dump(mode="json")
    assert failed(good.path, replace(good.edit, config=config), good.site) == {"size_megabytes"}


def test_the_index_must_come_first_in_an_mp4(good: Good, tmp_path: Path) -> None:
    for suffix, faults in (("mp4", {"faststart"}), ("mkv", set())):
        arguments = ["-v", "error", "-i", str(good.path), "-c", "copy", str(tmp_path / f"slow.{suffix}")]
        run_ffmpeg(find_ffmpeg(), arguments, timeout=60)
        found = checks(tmp_path / f"slow.{suffix}", None, good.site)
        assert {name for name, check in found.items() if not check.passed} == faults
        assert ("faststart" in found) == (suffix == "mp4")


def test_a_webm_of_somebody_else_is_measured(good: Good, tmp_path: Path) -> None:
    path = doctor(good.path, tmp_path / "t.webm", ["-c:v", "libvpx", "-crf", "20", "-b:v", "1M", "-c:a", "libopus"])
    found = checks(path, None, good.site)
    assert {name for name, check in found.items() if not check.passed} <= {"true_peak_dbtp"}  # Opus overshoots
    assert found["video_codec"].value == "vp8"
    assert found["audio_codec"].value == "opus"


# Faults in the plan -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(good: Good) -> Seen:
    return watch(good.path, good.edit, Heard(13.0), lambda _: None)


def planned(seen: Seen, edit: EditList) -> dict[str, Check]:
    return {check.name: check for check in check_plan(seen, edit, GateSettings())}


def unplanned(seen: Seen, edit: EditList) -> set[str]:
    return {name for name, check in planned(seen, edit).items() if not check.passed}


def test_a_shot_used_twice_is_caught(good: Good, seen: Seen) -> None:
    cuts = list(good.edit.cuts)
    cuts[0] = replace(cuts[0], shot=cuts[3].shot, source=Span(cuts[3].source.start, cuts[3].source.start + 38 / 25))
    assert unplanned(seen, replace(good.edit, cuts=tuple(cuts))) == {"shots_used_twice"}


def test_what_lies_outside_the_story_is_caught(good: Good, seen: Seen) -> None:
    """The third shot in the trailer is the last of those that it takes from the film."""
    source = good.edit.cuts[2].source

    def told(story: tuple[float, float] | None, **changes: Any) -> set[str]:
        return unplanned(seen, replace(good.edit, film=replace(good.edit.film, story=story), **changes))

    assert told((0.0, source.end)) == set()
    assert told((0.0, source.end - 0.1)) == {"outside_story"}
    first = min(cut.source.start for cut in good.edit.cuts)
    assert told((first, 100.0)) == set()
    assert told((first + 0.1, 100.0)) == {"outside_story"}
    assert "outside_story" not in planned(seen, replace(good.edit, film=replace(good.edit.film, story=None)))
    assert told((0.0, 5.0), cuts=tuple(replace(cut, pinned=True) for cut in good.edit.cuts)) == set()  # the user's word
    line = Placement(0, "Run!", Span(source.end + 1, source.end + 2), 0, 10, 0.5)
    assert told((0.0, source.end), narration=(line,)) == {"outside_story"}
    assert told((0.0, source.end), narration=(replace(line, voice=Path("voice.wav")),)) == set()
    # the cut after it dissolves out of it: meanwhile it plays on
    blended = (*good.edit.cuts[:3], replace(good.edit.cuts[3], dissolve=5), *good.edit.cuts[4:])
    assert told((0.0, source.end), cuts=blended) == {"outside_story"}
    assert told((0.0, source.end + 0.2), cuts=blended) == set()


def test_cuts_off_the_beat_are_caught_and_a_steady_tone_has_none(good: Good, seen: Seen) -> None:
    music = good.edit.music

    def heard(accents: Sequence[float], beats: Sequence[float] = ()) -> Check:
        edit = replace(good.edit, music=replace(music, accents=tuple(accents), beats=tuple(beats)))
        return planned(seen, edit)["cuts_on_beats"]

    off = heard([beat + 0.2 for beat in music.accents])
    assert (off.passed, off.value) == (False, 0.0)
    assert heard([beat + 0.02 for beat in music.accents]).passed  # half a frame, and the half that rounding took
    assert heard([]).value == "no beats"
    assert heard([]).passed
    assert heard([50.0]).value == "no beats"  # the music plays none here
    alone = heard([], [beat + 0.2 for beat in music.accents])
    assert (alone.passed, alone.value) == (True, 0.0)  # an older edit list: it knows the beats, not the onsets
    one_off = tuple(accent for accent in music.accents if abs(accent - 3.0) > 0.01)
    assert heard(one_off).passed  # one cut of six may lie where it must


def test_a_film_that_is_gone_or_changed_is_said(good: Good, tmp_path: Path) -> None:
    gone = replace(good.edit, film=replace(good.edit.film, path=tmp_path / "gone.mp4"))
    assert failed(good.path, gone, good.site) == {"picture_difference"}
    with pytest.raises(InputError, match="no such film"):
        render_trailer(gone, tmp_path / "x.mp4", tmp_path / "clips", good.site)
    changed = replace(good.edit, film=replace(good.edit.film, fingerprint="0" * 32))
    with pytest.raises(InputError, match="content has changed"):
        render_trailer(changed, tmp_path / "x.mp4", tmp_path / "clips", good.site)
    assert not (tmp_path / "x.mp4").exists()
    silent = replace(good.edit, music=replace(good.edit.music, path=tmp_path / "gone.wav"))
    assert failed(good.path, silent, good.site) == {"sound_offset_seconds"}


# The render under it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [-14.0, -23.0])
def test_loudness_reaches_its_target(good: Good, tmp_path: Path, target: float) -> None:
    config = load_config(None, [*SETTINGS, f"sound.loudness_lufs={target}"]).model_dump(mode="json")
    plan = replace(good.edit, config=config, output=replace(good.edit.output, loudness_lufs=target))
    render_trailer(plan, tmp_path / "l.mp4", good.path.parent / "clips", good.site)
    loudness, peak = measure_loudness(find_ffmpeg(), ["-i", str(tmp_path / "l.mp4")], 60)
    assert loudness == pytest.approx(target, abs=0.5)
    assert peak <= -1.0


def test_an_unchanged_cut_is_not_encoded_again(good: Good, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    render_trailer(good.edit, tmp_path / "a.mp4", clips, good.site)
    before = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    cuts = list(good.edit.cuts)
    shift = 2 / 25
    cuts[2] = replace(cuts[2], source=Span(cuts[2].source.start + shift, cuts[2].source.end + shift))
    render_trailer(replace(good.edit, cuts=tuple(cuts)), tmp_path / "b.mp4", clips, good.site)
    after = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(before) == len(good.edit.pieces)
    assert len(after) == len(before) + 1
    assert all(after[name] == stamp for name, stamp in before.items())
