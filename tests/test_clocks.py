"""Odd files on the clock that their container states: ffmpeg is the witness of when each picture is shown, and how."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from pipeline import analysis as module
from pipeline.analysis import read_samples
from pipeline.media import probe_film
from pipeline.pictures import show_pictures
from pipeline.records import F64, U8, Film
from tests.plans import plan_edit, take
from tests.synthetic import analyse
from tests.test_analysis import Recorded, assert_same

pytestmark = pytest.mark.film

# showinfo prints seconds with six significant decimals, and ours are exact multiples of the container's tick
PRINTED = 1e-6  # s
WINDOW = 0.1  # s; the sound is measured in windows of that length
# The picture of a JPEG of 256 px beside ffmpeg's own scaling: mean difference per channel, of 255. Another orientation of
# the same picture differs by 20 and more.
SAME_PICTURE = 6.0

VARIABLE = ["gen/vfr.mp4", "real/moviepy_no_duration.webm", "real/mediabunny_annex-b-avc.mkv", "gen/short_0.4s.mp4"]
TURNED = ["gen/rotate90.mp4", "gen/rotate270.mp4"]
STRETCHED = [
    "gen/anamorphic_sar4_3.mp4",
    "real/autoeditor_SAR-2by3.mp4",
    "real/mediabunny_sar_2x1.mp4",
    "gen/odd_dims_427x241_yuv444.mp4",
]
DEEP = [
    "gen/h264_hi10p.mp4",
    "gen/hdr10_pq_hevc10.mp4",
    "gen/hlg_hevc10.mkv",
    "gen/prores.mov",
    "real/torchcodec_h265_10bits.mp4",
    "real/torchcodec_h264_10bits.mp4",
]
OFFSET = [
    "gen/starts_at_1h.ts",
    "gen/editlist_copycut.mp4",
    "gen/audio_late_3.2s.mp4",
    "gen/interlaced_mpeg2.mpg",
    "gen/h264.flv",
    "gen/multi_audio_commentary_first_two_subs.mkv",
    "real/lpms_bad-cuvid.ts",
    "real/lpms_kryp-1.ts",
    "real/lpms_portrait.ts",
    "real/lpms_vertical-sample.ts",
    "real/lpms_videotest.mp4",
    "real/mediabunny_0.ts",
    "real/mediabunny_entry24-segment3.ts",
    "real/mediabunny_hevc.ts",
    "real/mediabunny_missing-keyframe-labels.ts",
]
RATES = ["gen/fps1.mp4", "gen/fps23976.mp4", "gen/fps120.mp4", "real/moviepy_smpte-2997.mp4"]
CODECS = [
    "gen/alpha_qtrle.mov",
    "gen/av1_opus.mkv",
    "gen/gray.mkv",
    "gen/mjpeg_pcm8k.avi",
    "gen/mpeg4_mp3.avi",
    "gen/portrait_202x360.mp4",
    "gen/theora_vorbis.ogv",
    "gen/vp9_opus.webm",
    "real/mediabunny_transparency-faulty.webm",
    "real/moviepy_big_buck_bunny_0_30.webm",
    "real/moviepy_transparent.webm",
    "real/torchcodec_av1_video.mkv",
    "real/torchcodec_bt709_full_range.mp4",
    "real/torchcodec_nasa_13013.mp4",
]
BROKEN = ["gen/truncated.mkv", "gen/truncated_60pct_moov_front.mp4", "gen/zeroed_100k_hole.mp4"]
ODD = [*VARIABLE, *TURNED, *STRETCHED, *DEEP, *OFFSET, *RATES, *CODECS, *BROKEN]
REAL = ["big_buck_bunny_640x360.mp4", "tears_of_steel_battle_clip_800x332.webm", "synthetic_film.mp4"]


def ask_ffmpeg(
    film: Film, *filters: str, out: tuple[str, ...] = ("-f", "null", "-")
) -> subprocess.CompletedProcess[bytes]:
    """Run the ffmpeg that the tests have of their own: the film's chosen picture through filters, on its own clock."""
    return subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-hide_banner", "-nostdin", "-copyts", "-i", str(film.path), "-map", f"0:{film.video_index}", "-an"),
            *("-fps_mode", "passthrough", "-vf", ",".join(filters)),  # no picture is shown twice, and none dropped
            *out,
        ],
        capture_output=True,
        check=False,
    )


def witness_times(film: Film) -> F64:
    """When each picture is shown, s, as ffmpeg's showinfo says. -copyts: not counted from the file's beginning."""
    told = ask_ffmpeg(film, "showinfo").stderr.decode(errors="replace")
    return np.array([float(time) for time in re.findall(r"\bpts_time:\s*(\S+)", told)])


def witness_picture(film: Film, number: int, size: tuple[int, int]) -> U8:
    """Picture `number`, BGR (h, w, 3), as ffmpeg turns it upright by itself, scaled to size (w, h)."""
    chosen = (f"select=eq(n\\,{number})", f"scale={size[0]}:{size[1]}:flags=area")
    raw = ask_ffmpeg(film, *chosen, out=("-frames:v", "1", "-pix_fmt", "bgr24", "-f", "rawvideo", "-")).stdout
    return np.frombuffer(raw, np.uint8).reshape(size[1], size[0], 3)


@pytest.mark.parametrize("name", ODD)
def test_pictures_stand_where_the_container_puts_them(films: Path, name: str) -> None:
    film = probe_film(films / "odd" / name)
    seen, witness = analyse(film), witness_times(film)
    assert len(seen.times) == len(witness) > 0
    assert np.abs(seen.times - witness).max() < PRINTED
    assert seen.film.start == seen.times[0]
    assert set(seen.sample_times.tolist()) <= set(seen.times.tolist())


@pytest.mark.parametrize("name", ["gen/vfr.mp4", "real/mediabunny_annex-b-avc.mkv"])
def test_a_variable_rate_is_noticed(films: Path, name: str) -> None:
    seen = analyse(probe_film(films / "odd" / name))
    steps = np.diff(seen.times)
    assert steps.max() > 1.5 * steps.min()
    assert seen.film.variable_rate


def test_the_clock_begins_where_the_file_says(films: Path) -> None:
    late = analyse(probe_film(films / "odd/gen/starts_at_1h.ts"))
    assert 3600 < late.film.start < 3602
    assert late.film.end == pytest.approx(late.film.start + 20, abs=0.05)
    cut = analyse(probe_film(films / "odd/gen/editlist_copycut.mp4"))
    # copied from before the cut's key frame: the list hides the pictures before it, and the rest begins at 0
    assert cut.times[0] == 0


@pytest.mark.parametrize("name", [*TURNED, *STRETCHED, "gen/portrait_202x360.mp4", "gen/interlaced_mpeg2.mpg"])
def test_sampled_pictures_are_upright_in_square_pixels(films: Path, name: str) -> None:
    """As ffmpeg shows them when it turns them itself, at the size of ours; any other turn would show."""
    film = probe_film(films / "odd" / name)
    seen = analyse(film)
    number = len(seen.sample_times) // 2
    (picture,) = read_samples(seen, np.array([number]))
    height, width = picture.shape[:2]
    shown = film.width * float(film.pixel_aspect) / film.height
    aspect = 1 / shown if film.rotation in (90, 270) else shown
    assert width / height == pytest.approx(aspect, abs=2 * aspect / min(width, height))  # both are even numbers
    witness = witness_picture(film, int(np.searchsorted(seen.times, seen.sample_times[number])), (width, height))
    assert difference(picture, witness) < SAME_PICTURE
    for wrong in (picture[::-1], picture[:, ::-1], picture[::-1, ::-1]):
        assert difference(wrong, witness) > SAME_PICTURE


@pytest.mark.parametrize(
    "name",
    [
        *TURNED,
        *STRETCHED,
        *RATES,
        *VARIABLE,
        *CODECS,
        "gen/interlaced_mpeg2.mpg",
        "gen/starts_at_1h.ts",
        "gen/prores.mov",
    ],
)
def test_a_cut_shows_the_picture_that_ffmpeg_shows_then(films: Path, name: str) -> None:
    """The render's own chain, at the time of a picture in the middle of the file: upright, in its colours, the right one."""
    path = films / "odd" / name
    film = probe_film(path)
    times = witness_times(film)
    number = len(times) // 2
    cut = take(film, float(times[number]) + 1e-4, 1)
    (shown,) = show_pictures(film, cut, plan_edit(film, [cut]), [0], height=180)
    witness = witness_picture(film, number, (shown.shape[1], shown.shape[0]))[..., ::-1]
    assert difference(shown, witness) < SAME_PICTURE


def difference(one: U8, other: U8) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


@pytest.mark.parametrize("name", DEEP)
def test_pictures_of_ten_bits_are_seen_as_ffmpeg_shows_them(films: Path, name: str) -> None:
    film = probe_film(films / "odd" / name)
    seen = analyse(film)
    (picture,) = read_samples(seen, np.array([0]))
    witness = witness_picture(film, 0, picture.shape[1::-1])
    # in lightness: of what matrix the colours are is another matter, and some files do not say
    assert difference(picture.mean(axis=2), witness.mean(axis=2)) < SAME_PICTURE


def test_sound_lies_on_the_same_clock(films: Path) -> None:
    """A track that begins 3.2 s late; one of an hour-long clock; one that ends early. To a window's length: a codec's
    first block may begin a few hundredths of a second before the sound."""
    late = analyse(probe_film(films / "odd/gen/audio_late_3.2s.mp4"))
    assert late.sound_start == pytest.approx(3.2, abs=WINDOW)
    heard = late.sound_start + late.sound_step * np.flatnonzero(late.sound.max(axis=1) > 1e-4)
    assert heard[0] == pytest.approx(3.2, abs=2 * WINDOW)
    hour = analyse(probe_film(films / "odd/gen/starts_at_1h.ts"))
    assert hour.sound_start == pytest.approx(hour.film.start, abs=WINDOW)
    assert hour.sound_step == WINDOW
    early = analyse(probe_film(films / "odd/gen/audio_ends_early.mp4"))
    assert early.sound_start + early.sound_step * len(early.sound) < early.film.end - 10


@pytest.mark.parametrize("name", ODD)
def test_odd_files_in_parts_as_in_one_go(films: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_PART", 2.0)
    film = probe_film(films / "odd" / name)
    spread = Recorded(2)
    whole = analyse(film)
    assert_same(whole, analyse(film, spread=spread))
    if name in ("gen/vfr.mp4", "gen/starts_at_1h.ts", "gen/rotate90.mp4", "gen/editlist_copycut.mp4"):
        assert len(spread.parts) > 3  # really in parts


@pytest.mark.parametrize("name", REAL)
def test_real_films_in_parts_as_in_one_go(films: Path, name: str) -> None:
    """Parts as long as a user's; a clip that is too short for that has shorter ones."""
    film = probe_film(films / name)
    spread = Recorded(2)
    assert_same(analyse(film), analyse(film, spread=spread))
    assert len(spread.parts) > 3
