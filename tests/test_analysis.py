"""The pass over a film: the same in parts as in one go, whatever the file is like, and on the container's clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import analysis as module
from pipeline import workdir
from pipeline.analysis import Part, Seen, Threads, are_whole, look_at, read_samples
from pipeline.levels import Levels
from pipeline.media import probe_film
from pipeline.records import Analysis
from pipeline.settings import GuardSettings, ShotSettings
from pipeline.shots import cut_shots, find_cuts
from pipeline.sound import Sound
from pipeline.watch import choose_samples
from pipeline.workdir import Artifact, write_record
from pipeline.writing import write_film
from tests.synthetic import analyse

RATE = Fraction(24)
SHOTS = [40, 75, 30, 61, 90, 24, 55, 48, 33, 70, 44, 30]  # pictures; 25 s


def draw(size: tuple[int, int] = (320, 180)) -> list[NDArray[np.uint8]]:
    """Shots of coloured noise that drift: every picture differs from every other."""
    pictures = []
    for seed, frames in enumerate(SHOTS):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(30, 226, (9, 16, 3), dtype=np.uint8)
        ground = cv2.resize(coarse, (size[0] + 2 * frames, size[1]), interpolation=cv2.INTER_CUBIC)
        pictures += [np.ascontiguousarray(ground[:, 2 * n : 2 * n + size[0]]) for n in range(frames)]
    return pictures


def sound(seconds: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    steady = np.sin(2 * np.pi * 300 * np.arange(round(seconds * 48000)) / 48000)
    return (0.2 * steady * np.repeat(rng.random(len(steady) // 4800 + 1), 4800)[: len(steady)])[:, None].astype(
        np.float32
    )


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key frames about every 2 s, B-frames in a pyramid, groups of pictures that are not closed, and sound."""
    path = tmp_path_factory.mktemp("analysis") / "long.mp4"
    options = {"preset": "veryfast", "x264-params": "keyint=48:scenecut=0:bframes=3:b-pyramid=normal:open-gop=1"}
    write_film(path, draw(), frame_rate=RATE, sound=sound(sum(SHOTS) / 24), crf=20, options=options)
    return path


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few seconds, so that a small film has many."""
    monkeypatch.setattr(module, "SHORTEST_PART", 2.0)


class Recorded(Threads):
    """Threads that note how many parts they were given, and whether what was seen of these could be used."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.parts: list[Part] = []
        self.used = False

    def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
        self.parts += parts
        seen = super().__call__(parts, tell)
        self.used = are_whole(seen)
        return seen


def assert_same(one: Analysis, other: Analysis) -> None:
    for field in fields(Analysis):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            assert np.array_equal(a, b), field.name
        else:
            assert a == b, field.name


@pytest.mark.usefixtures("short_parts")
@pytest.mark.parametrize("workers", [2, 3])
def test_in_parts_as_in_one_go(long: Path, workers: int) -> None:
    film = probe_film(long)
    spread = Recorded(workers)
    whole = analyse(film)
    parted = analyse(film, spread=spread)
    assert len(spread.parts) > 6  # the sound, and five parts at least
    assert spread.used
    assert_same(whole, parted)
    assert find_cuts(whole, ShotSettings()).tolist() == list(accumulate(SHOTS))[:-1]
    assert len(whole.times) == sum(SHOTS)
    assert len(whole.sound) == pytest.approx(10 * sum(SHOTS) / 24, abs=2)


@pytest.mark.usefixtures("short_parts")
def test_other_codecs_and_containers_in_parts(tmp_path: Path) -> None:
    pictures = draw((160, 96))
    for name, codec, options in (
        ("a.mkv", "libx264", {"preset": "veryfast", "g": "30"}),
        ("b.ts", "mpeg2video", {"g": "15", "bf": "2"}),
        ("c.avi", "mpeg4", {"g": "24"}),
        ("e.ts", "libx264", {"preset": "veryfast", "g": "30", "bf": "3"}),
        ("f.mpg", "mpeg2video", {"g": "15", "bf": "2"}),
        ("d.mov", "mjpeg", {}),
    ):
        path = tmp_path / name
        fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        heard = None if name == "f.mpg" else sound(25.0)  # AAC has no place in a program stream
        write_film(path, pictures, frame_rate=RATE, sound=heard, codec=codec, options=options, pixel_format=fmt)
        film = probe_film(path)
        spread = Recorded(2)
        assert_same(analyse(film), analyse(film, spread=spread))
        assert len(spread.parts) > 3, name
        assert spread.used is (name != "f.mpg"), name  # where few packets carry a time nobody can begin in the middle


@pytest.mark.usefixtures("short_parts")
def test_a_file_that_cannot_be_parted_is_read_in_one_go(tmp_path: Path, long: Path) -> None:
    path = tmp_path / "one-key.mp4"
    options = {"preset": "veryfast", "x264-params": "keyint=infinite:scenecut=0"}
    write_film(path, draw((160, 96)), frame_rate=RATE, crf=20, options=options)
    film = probe_film(path)
    spread = Recorded(2)
    assert_same(analyse(film), analyse(film, spread=spread))
    assert not spread.parts

    class Misled(Recorded):
        """Parts that begin a picture after their key frame: what a broken index leads to."""

        def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
            late = [replace(p, start=p.start and replace(p.start, time=p.start.time + 1 / 24)) for p in parts]
            return super().__call__(late, tell)

    film = probe_film(long)
    misled = Misled(2)
    assert_same(analyse(film), analyse(film, spread=misled))
    assert misled.parts
    assert not misled.used


@pytest.mark.usefixtures("short_parts")
def test_a_damaged_film_is_read_in_one_go(long: Path, tmp_path: Path) -> None:
    """Zeros over a picture in the middle: what the decoder makes of it hangs on where it began."""
    data = bytearray(long.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    film = probe_film(path)
    spread = Recorded(2)
    whole, parted = analyse(film), analyse(film, spread=spread)
    assert_same(whole, parted)
    assert "damaged packets" in whole.warnings[-1]
    assert spread.parts
    assert not spread.used


@pytest.mark.usefixtures("short_parts")
def test_an_error_in_a_part_ends_the_work_and_an_interruption_too(long: Path, tmp_path: Path) -> None:
    film = probe_film(long)

    class Broken(Threads):
        def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
            return super().__call__([replace(p, scratch=tmp_path / "absent") for p in parts], tell)

    with pytest.raises(FileNotFoundError):
        analyse(film, spread=Broken(2))

    def interrupt(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(film, spread=Threads(2), progress=interrupt)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("analysis")]


def test_progress_grows_to_the_end(long: Path) -> None:
    shares: list[float] = []
    analyse(probe_film(long), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


def test_where_every_picture_looks_like_a_cut_some_are_kept_all_the_same(tmp_path: Path) -> None:
    """Grain between two scenes, and a film of slides."""
    times = np.arange(24 * 12) / 24
    scores = np.full((len(times), 3), 40.0, np.float32)
    seconds = times[choose_samples(times, scores)]
    assert np.diff(seconds).max() <= 0.5 + 1 / 24
    slides = np.arange(60.0)
    assert choose_samples(slides, np.full((60, 3), 40.0, np.float32)).all()


@pytest.mark.usefixtures("short_parts")
def test_a_change_on_the_very_edge_of_a_likely_cut_is_seen_alike_as_it_comes_and_afterwards(tmp_path: Path) -> None:
    """Lossless 10 x 10 px: sums of changes that are 60 in one precision and a hair less in the other."""
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 255, (10, 10, 3), dtype=np.uint8) // 3 for _ in range(400)]
    write_film(tmp_path / "edge.mkv", pictures, frame_rate=RATE, codec="ffv1", pixel_format="yuv444p")
    film = probe_film(tmp_path / "edge.mkv")
    spread = Recorded(2)
    assert_same(analyse(film), analyse(film, spread=spread))


def test_samples_follow_cuts_and_the_clock_and_nothing_else() -> None:
    """At 24 pictures a second with cuts at 5 and 20.3 s: one soon after a cut, dense for 3 s, then every 2 s."""
    times = 100 + np.arange(24 * 30) / 24
    scores = np.zeros((len(times), 3), np.float32)
    scores[[120, 487]] = 60.0
    seconds = times[choose_samples(times, scores)] - 100
    after = seconds[(seconds >= 5) & (seconds < 20)]
    assert after[0] == pytest.approx(5 + 1 / 6, abs=1 / 24)
    assert after[1:7] == pytest.approx([5.5, 6, 6.5, 7, 7.5, 8], abs=1e-6)
    assert after[7:] == pytest.approx([10, 12, 14, 16, 18], abs=1e-6)
    assert seconds[0] == 0
    cut = 487 / 24
    assert not ((seconds >= cut) & (seconds < cut + 1 / 6)).any()
    later = choose_samples(times[240:], scores[240:])  # its own beginning apart, a later start changes nothing
    assert np.array_equal(later[80:], choose_samples(times, scores)[320:])


def test_sampled_pictures_are_upright_in_square_pixels_and_large_enough(tmp_path: Path) -> None:
    picture = np.zeros((180, 320, 3), np.uint8)
    picture[:90, :160] = (255, 0, 0)  # red at the top left
    write_film(tmp_path / "wide.mp4", [picture] * 30, frame_rate=RATE, crf=8)
    film = probe_film(tmp_path / "wide.mp4")
    turned = read_samples(analyse(replace(film, rotation=90)), np.array([0]))[0]
    assert turned.shape == (320, 180, 3)
    assert turned[300, 40, 2] > 200  # counter-clockwise: the top left corner comes to the bottom left
    assert turned[20, 40, 2] < 60
    stretched = read_samples(analyse(replace(film, pixel_aspect=Fraction(4, 3))), np.array([0]))[0]
    assert stretched.shape == (180, 426, 3)
    large = [cv2.resize(picture, (1280, 720))] * 12
    write_film(tmp_path / "large.mp4", large, frame_rate=RATE)
    assert read_samples(analyse(probe_film(tmp_path / "large.mp4")), np.array([0]))[0].shape == (256, 456, 3)


def test_bars_are_those_of_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    picture = np.full((180, 320, 3), 200, np.uint8)
    picture[:18] = 0  # a tenth above
    picture[:, 240:] = 0  # a quarter on the right
    write_film(tmp_path / "bars.mp4", [picture] * 30, frame_rate=RATE, crf=8)
    film = probe_film(tmp_path / "bars.mp4")
    for rotation, bars in (
        (0, (0, 0.1, 0.25, 0)),
        (90, (0.1, 0.25, 0, 0)),
        (180, (0.25, 0, 0, 0.1)),
        (270, (0, 0, 0.1, 0.25)),
    ):
        seen = analyse(replace(film, rotation=rotation)).letterbox
        assert seen.tolist() == pytest.approx(bars, abs=0.02), rotation


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuvj420p"])
def test_scores_and_luma_hardly_depend_on_the_pixel_format(tmp_path: Path, pixel_format: str) -> None:
    pictures = draw((160, 96))[:120]
    codec = "mjpeg" if pixel_format == "yuvj420p" else "libx264"
    write_film(tmp_path / "p.mkv", pictures, frame_rate=RATE, crf=4, codec=codec, pixel_format=pixel_format)
    write_film(tmp_path / "q.mkv", pictures, frame_rate=RATE, crf=4)
    one, other = analyse(probe_film(tmp_path / "p.mkv")), analyse(probe_film(tmp_path / "q.mkv"))
    gray = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).mean() for p in pictures]
    assert one.luma[:, 0] == pytest.approx(gray, abs=3)
    assert np.abs(one.scores - other.scores).mean() < 2.5
    assert find_cuts(one, ShotSettings()).tolist() == [40]


def test_a_part_of_sound_alone_hears_what_the_pass_hears(long: Path, tmp_path: Path) -> None:
    film = probe_film(long)
    heard = look_at(Part(film, tmp_path, "sound", pictures=False, sound=True)).heard
    assert heard is not None
    assert np.array_equal(heard.levels, analyse(film).sound)


@pytest.mark.usefixtures("short_parts")
def test_a_network_sees_every_picture_and_its_judgement_parts_the_shots(long: Path) -> None:
    """A network that finds one cut, after picture 99, and a dissolve from 150 to 170, in red light."""
    film, count = probe_film(long), sum(SHOTS)
    seen: list[NDArray[np.uint8]] = []

    def judge(file: Path, n: int, tell: Callable[[float], None]) -> NDArray[np.float32]:
        tell(1.0)
        seen.append(np.fromfile(file, np.uint8).reshape(n, 27, 48, 3))
        judgement = np.zeros((n, 2), np.float32)
        judgement[99] = 0.9
        judgement[155:166, 0] = judgement[150:171, 1] = 0.8
        return judgement

    whole, parted = (analyse(film, spread=Threads(workers), network=judge) for workers in (1, 2))
    assert_same(whole, parted)
    assert np.array_equal(*seen)
    drawn = np.array([cv2.resize(p, (48, 27), interpolation=cv2.INTER_AREA) for p in draw()], np.int16)
    assert seen[0].shape == (count, 27, 48, 3)
    assert np.abs(drawn - seen[0]).mean() < 6  # of 255; the colours in their order, the pictures in theirs
    shots = cut_shots(whole, ShotSettings(), GuardSettings())
    assert [span.start for span in shots.spans[1:]] == [float(whole.times[100]), float(whole.times[161])]
    assert shots.clear[1].end == float(whole.times[150])
    assert shots.clear[2].start == float(whole.times[171])


def test_what_has_been_analysed_is_mapped_and_not_read(
    long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workdir, "MAPPED_BYTES", 1000)
    analysis = analyse(probe_film(long))
    write_record(tmp_path / "a.npz", analysis)
    loaded = Artifact(tmp_path / "a.npz", "key", Analysis).load()
    assert isinstance(loaded.sample_bytes, np.memmap)
    assert_same(analysis, loaded)
    assert read_samples(loaded, np.array([3]))[0].shape == (180, 320, 3)


def test_sound_with_a_wild_timestamp_or_beyond_all_levels_does_no_harm() -> None:
    levels = Levels()
    for time, value in ((0.0, 0.5), (0.1, 1e30), (0.2, float("nan")), (1e7, 0.5), (0.3, 0.25)):
        levels.add(Sound(time, np.full(1600, value, np.float32)))
    rms, start = levels.finish()
    assert start == 0.0
    assert rms.shape == (4, 8)
    assert np.isfinite(rms).all()
    assert rms[0, 0] > rms[3, 0] > rms[2, 0] == 0
