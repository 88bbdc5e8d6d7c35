"""Cuts against PySceneDetect's own detector, fades, and the flags that keep a shot out of a trailer."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from pipeline.decode import decode_film
from pipeline.errors import InputError
from pipeline.lettering import count_glyphs, find_logo
from pipeline.media import probe_film
from pipeline.packets import Damage
from pipeline.records import Analysis, Shots
from pipeline.settings import GuardSettings, ShotSettings
from pipeline.shots import _adaptive_cuts, cut_shots, find_cuts, find_hard_cuts
from pipeline.writing import write_film
from tests.synthetic import analyse

SIZE = (320, 180)
RATE = Fraction(24)


def scene(seed: int, frames: int, speed: float = 1.0) -> list[NDArray[np.uint8]]:
    """Discs of one palette that drift."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 220, 3)
    discs = [(rng.uniform(0, 320), rng.uniform(0, 180), rng.uniform(10, 50), rng.integers(0, 255, 3)) for _ in range(8)]
    pictures = []
    for n in range(frames):
        picture = np.full((SIZE[1], SIZE[0], 3), ground, np.uint8)
        for x, y, radius, colour in discs:
            cv2.circle(
                picture, (int(x + 1.5 * speed * n), int(y + speed * n)), int(radius), tuple(int(c) for c in colour), -1
            )
        pictures.append(picture)
    return pictures


def lettered(lines: list[str], frames: int) -> list[NDArray[np.uint8]]:
    """White words on black, rolling up."""
    pictures = []
    for n in range(frames):
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        for row, line in enumerate(lines):
            cv2.putText(
                picture, line, (60, 60 + 22 * row - n // 4), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (240,) * 3, 1, cv2.LINE_AA
            )
        pictures.append(picture)
    return pictures


def analysed(path: Path, pictures: list[NDArray[np.uint8]], rate: Fraction = RATE) -> Analysis:
    write_film(path, pictures, frame_rate=rate, crf=12)
    return analyse(probe_film(path))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    path = tmp_path_factory.mktemp("shots") / "plain.mp4"
    return analysed(path, [p for seed in range(12) for p in scene(seed, 30 + seed)])


def flagged(shots: Shots, time: float) -> frozenset[str]:
    return next(flags for span, flags in zip(shots.spans, shots.flags, strict=True) if span.start <= time < span.end)


def test_every_hard_cut_is_found_to_the_frame(plain: Analysis) -> None:
    planted = np.cumsum([30 + seed for seed in range(12)])[:-1]
    assert find_cuts(plain, ShotSettings()).tolist() == planted.tolist()


def test_the_decision_is_pyscenedetects_own_on_full_pictures(plain: Analysis) -> None:
    """The library's detector on every picture, fully decoded; ours saw them without loop filter and small."""
    detector = AdaptiveDetector(min_scene_len=1)
    theirs: list[int] = []
    frames = (item for item in decode_film(plain.film, damage=Damage()) if isinstance(item, VideoFrame))
    for number, frame in enumerate(frames):
        picture = frame.to_ndarray(format="bgr24")
        theirs += [code.frame_num for code in detector.process_frame(FrameTimecode(number, 24.0), picture)]
    assert len(theirs) == 11
    assert find_hard_cuts(plain, ShotSettings()) == theirs


def test_a_cut_between_busy_pictures_is_found(tmp_path: Path) -> None:
    """Noise that changes wholly from picture to picture, so that the adaptive ratio stays below 3 at a cut of ground."""
    rng = np.random.default_rng(0)

    def busy(ground: tuple[int, int, int], frames: int) -> list[NDArray[np.uint8]]:
        spots = rng.random((frames, 18, 32, 1)) < 0.12
        pictures = np.where(spots, 255 - np.array(ground), np.array(ground)).astype(np.uint8)
        return [cv2.resize(p, SIZE, interpolation=cv2.INTER_NEAREST) for p in pictures]

    pictures = [*busy((40, 90, 160), 40), *busy((200, 60, 70), 40), *busy((60, 170, 90), 40)]
    analysis = analysed(tmp_path / "busy.mp4", pictures)
    assert _adaptive_cuts(analysis.scores, RATE, ShotSettings()) == []  # what the second rule is for
    assert find_hard_cuts(analysis, ShotSettings()) == [40, 80]


def test_a_cut_in_the_dark_is_found_and_a_flicker_of_the_encoder_is_not(tmp_path: Path) -> None:
    def dim(colour: tuple[int, int, int], frames: int) -> list[NDArray[np.uint8]]:
        picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        picture[40:140, 60:260] = colour
        return [np.roll(picture, n // 4, axis=1) for n in range(frames)]

    pictures = [*dim((22, 6, 4), 60), *dim((4, 8, 26), 60), *scene(5, 120)]
    analysis = analysed(tmp_path / "dim.mp4", pictures)
    assert analysis.luma[50:70, 0].max() < 20
    assert find_hard_cuts(analysis, ShotSettings()) == [60, 120]
    popped = replace(analysis, scores=analysis.scores.copy())
    popped.scores[180] = 12.0  # a key frame of another quality, in the light
    assert find_hard_cuts(popped, ShotSettings()) == [60, 120]


@pytest.mark.parametrize("length", [8, 14, 24, 40])
def test_a_dissolve_parts_shots_in_its_middle_and_is_shown_by_neither(tmp_path: Path, length: int) -> None:
    before, after = scene(1, 60 + length, 0.3), scene(2, 60 + length, 0.3)
    shares = [(n + 1) / (length + 1) for n in range(length)]
    mixed = [cv2.addWeighted(before[60 + n], 1 - s, after[n], s, 0) for n, s in enumerate(shares)]
    pictures = [*before[:60], *[np.asarray(m, np.uint8) for m in mixed], *after[length:]]
    analysis = analysed(tmp_path / "d.mp4", pictures)
    shots = cut_shots(analysis, ShotSettings(), GuardSettings())
    assert len(shots) == 2
    assert shots.spans[1].start == pytest.approx((60 + length / 2) / 24, abs=2.5 / 24)
    # at its ends a dissolve hardly differs from the shots themselves: an eighth of it may be missed at either
    slack = (0.125 * length + 0.5) / 24
    assert shots.clear[0].end <= 60 / 24 + slack
    assert shots.clear[1].start >= (60 + length) / 24 - slack
    assert shots.clear[0].end > 60 / 24 - 0.75  # and no more is given up than needed
    assert shots.clear[1].start < (60 + length) / 24 + 0.75


def test_what_moves_pans_fades_or_brightens_is_no_dissolve(tmp_path: Path) -> None:
    wide = np.concatenate([scene(seed, 1)[0] for seed in (6, 7, 8)], axis=1)
    pan = [np.ascontiguousarray(wide[:, 6 * n : 6 * n + 320]) for n in range(96)]
    still = scene(9, 1)[0]
    brighter = [np.clip(still * (0.4 + n / 60), 0, 255).astype(np.uint8) for n in range(48)]
    fade = [(still * (1 - n / 24)).astype(np.uint8) for n in range(24)]
    analysis = analysed(tmp_path / "p.mp4", [*scene(1, 60), *pan, *brighter, *fade, *scene(2, 60)])
    assert analysis.blends.tolist() == []


def test_shots_touch_cover_the_film_and_begin_on_pictures(plain: Analysis) -> None:
    shots = cut_shots(plain, ShotSettings(), GuardSettings())
    assert shots.spans[0].start == plain.film.start
    assert shots.spans[-1].end == pytest.approx(plain.film.end)
    assert all(span.start in plain.times for span in shots.spans)
    assert len(shots) == 12


def test_a_faster_threshold_means_fewer_cuts(plain: Analysis) -> None:
    assert len(find_cuts(plain, ShotSettings(min_score=255))) == 0
    assert len(find_cuts(plain, ShotSettings(min_seconds=5))) < 5


def test_a_fade_through_black_parts_shots_and_is_black(tmp_path: Path) -> None:
    pictures = scene(1, 48)
    fade = [(p * (1 - n / 24)).astype(np.uint8) for n, p in enumerate(scene(1, 24))]
    dark = [np.zeros_like(pictures[0])] * 24
    shots = cut_shots(
        analysed(tmp_path / "f.mp4", [*pictures, *fade, *dark, *scene(2, 48)]), ShotSettings(), GuardSettings()
    )
    assert "black" in flagged(shots, 3.5)
    assert "black" not in flagged(shots, 1.0)
    assert "black" not in flagged(shots, 5.0)


def test_a_still_picture_is_static_and_a_held_frame_too(tmp_path: Path) -> None:
    still = [scene(3, 1)[0]] * 60
    shots = cut_shots(
        analysed(tmp_path / "s.mp4", [*scene(1, 60), *still, *scene(2, 60)]), ShotSettings(), GuardSettings()
    )
    assert "static" in flagged(shots, 3.5)
    assert "static" not in flagged(shots, 1.0)
    times = [Fraction(n, 24) for n in range(60)] + [Fraction(60 + 48 + n, 24) for n in range(60)]
    write_film(tmp_path / "h.mp4", scene(4, 120), frame_rate=RATE, timestamps=times)
    held = cut_shots(analyse(probe_film(tmp_path / "h.mp4")), ShotSettings(), GuardSettings())
    assert "static" in flagged(held, 2.6)


def test_titles_credits_and_the_ending_are_flagged_and_the_story_is_not(tmp_path: Path) -> None:
    """A film of 100 s: a title in the first 8 %, credits from 85 s, one more scene after them."""
    rate = Fraction(8)  # few pictures for the length
    title = lettered(["THE FIRST TITLE", "OF THIS FILM"], 24)
    story = [p for seed in range(20) for p in scene(seed, 32)]
    roll = lettered(["DIRECTED BY NOBODY", "WRITTEN BY NOBODY ELSE", "MUSIC BY SOMEONE", "THANKS TO EVERYONE"], 80)
    pictures = [*scene(50, 16), *title, *story, *roll, *scene(60, 40)]
    analysis = analysed(tmp_path / "c.mp4", pictures, rate)
    shots = cut_shots(analysis, ShotSettings(), GuardSettings())
    story_start, story_end = 40 / 8, (40 + len(story)) / 8
    assert "opening" in flagged(shots, 1.0)
    assert "opening" in flagged(shots, 3.5)
    assert flagged(shots, story_start + 2) == frozenset()
    assert "credits" in flagged(shots, story_end + 3)
    assert "credits" in flagged(shots, analysis.film.end - 1)  # the scene after the credits belongs to them
    assert "ending" in flagged(shots, story_end - 1)
    assert "ending" not in flagged(shots, story_end - 0.2 * (story_end - story_start))


def test_a_film_without_credits_keeps_its_story(plain: Analysis) -> None:
    shots = cut_shots(plain, ShotSettings(), GuardSettings())
    assert not any("credits" in flags or "opening" in flags for flags in shots.flags)
    free = cut_shots(plain, ShotSettings(), GuardSettings(ending=0))
    assert not any(free.flags)


def test_glyphs_are_counted_on_titles_and_not_on_pictures_or_subtitles() -> None:
    assert count_glyphs(lettered(["DIRECTED BY NOBODY", "MUSIC BY SOMEONE"], 1)[0]) >= 20
    assert max(count_glyphs(scene(seed, 1)[0]) for seed in range(10)) < 8
    picture = scene(3, 1)[0].copy()
    cv2.putText(
        picture, "I never said that to you", (60, 168), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,) * 3, 1, cv2.LINE_AA
    )
    assert count_glyphs(picture) < 8


def test_a_logo_of_letters_that_touch_is_found_and_clouds_are_not() -> None:
    picture = scene(3, 1)[0].copy()
    for number, letter in enumerate("HIMMEL"):
        cv2.putText(picture, letter, (70 + 20 * number, 95), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (250,) * 3, 5, cv2.LINE_AA)
    assert find_logo(picture)
    assert count_glyphs(picture) < 12  # one shape is no row
    assert not any(find_logo(scene(seed, 1)[0]) for seed in range(20))
    sky = np.full((180, 320, 3), (235, 180, 90), np.uint8)
    for x, y, r in ((80, 60, 24), (110, 50, 30), (140, 62, 22), (240, 40, 18)):
        cv2.circle(sky, (x, y), r, (250, 250, 250), -1)
    assert not find_logo(sky)


def test_a_title_of_few_widely_set_letters_is_a_title() -> None:
    picture = scene(3, 1)[0].copy()
    for number, letter in enumerate("LANTERN"):
        cv2.putText(picture, letter, (70 + 26 * number, 95), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255,) * 3, 2, cv2.LINE_AA)
    assert count_glyphs(picture) >= 12
    assert max(count_glyphs(scene(seed, 1)[0]) for seed in range(20)) < 12


def test_energy_ranks_motion(tmp_path: Path) -> None:
    slow = [scene(1, 40)[n // 8] for n in range(40)]
    pictures = [*slow, *scene(2, 40), *scene(1, 120)[::3]]  # the same scene, 24 times as fast
    shots = cut_shots(analysed(tmp_path / "e.mp4", pictures), ShotSettings(), GuardSettings())
    assert shots.energy[0] < shots.energy[2]
    assert sorted(shots.energy.tolist()) == [0.0, 0.5, 1.0]


def test_times_speak_the_containers_clock(tmp_path: Path) -> None:
    """A transport stream that starts late: nothing may be counted from zero."""
    pictures = [*scene(1, 48), *scene(2, 48), *scene(3, 48)]
    times = [Fraction(3600) + Fraction(n, 24) for n in range(len(pictures))]
    write_film(tmp_path / "late.ts", pictures, frame_rate=RATE, timestamps=times, crf=12)
    analysis = analyse(probe_film(tmp_path / "late.ts"))
    cuts = analysis.times[find_cuts(analysis, ShotSettings())]
    assert cuts == pytest.approx(analysis.film.start + np.array([2.0, 4.0]), abs=1e-3)
    assert analysis.film.start > 3599


def test_letterbox_is_measured_and_one_picture_is_no_film(tmp_path: Path) -> None:
    boxed = []
    for picture in scene(1, 30):
        framed = np.zeros((180, 320, 3), np.uint8)
        framed[36:144] = picture[36:144]
        boxed.append(framed)
    bars = analysed(tmp_path / "b.mp4", boxed).letterbox
    assert bars.tolist() == pytest.approx([0, 0.2, 0, 0.2], abs=0.02)
    write_film(tmp_path / "one.mp4", scene(1, 1), frame_rate=RATE)
    with pytest.raises(InputError, match=r"1 picture\(s\)"):
        analyse(probe_film(tmp_path / "one.mp4"))


def test_a_shorter_film_than_announced_is_said(plain: Analysis) -> None:
    longer = replace(plain.film, duration=plain.film.duration * 2)
    assert any("can be decoded" in warning for warning in analyse(longer).warnings)
