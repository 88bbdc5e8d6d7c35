"""The mix by arithmetic: tones in, tones out, at the levels and places planted."""

from __future__ import annotations

import logging
import wave
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.loudness import measure_loudness, measure_samples
from pipeline.media import find_ffmpeg
from pipeline.mix import RATE, choose_fade, duck_curve, frame_to_sample, mix_sound
from pipeline.records import Cut, Music, Placement, Span
from pipeline.settings import SoundSettings

NTSC = Fraction(24000, 1001)


def tone(frequency: float, seconds: float, level: float) -> NDArray[np.float32]:
    wave = level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return np.repeat(wave[:, None], 2, axis=1).astype(np.float32)


def mix(
    music: NDArray[np.float32],
    pieces: list[NDArray[np.float32]],
    cuts: tuple[Cut, ...],
    rate: Fraction,
    frames: int,
    *,
    lines: Sequence[tuple[Placement, NDArray[np.float32]]] = (),
    fade_seconds: float = 0.0,
    **settings: float,
) -> NDArray[np.float32]:
    return mix_sound(
        music, pieces, cuts, lines, rate, frames, settings=SoundSettings(**settings), fade_seconds=fade_seconds
    )


def level_of(samples: NDArray[np.float32], frequency: float) -> float:
    n = np.arange(len(samples))
    return float(2 * abs(np.mean(samples[:, 0] * np.exp(-2j * np.pi * frequency * n / RATE))))


def cuts(frames: list[int]) -> tuple[Cut, ...]:
    starts = np.concatenate([[0], np.cumsum(frames)[:-1]])
    return tuple(Cut(i, i, Span(0.0, f / 24), int(s), f) for i, (s, f) in enumerate(zip(starts, frames, strict=True)))


def test_film_sound_lies_under_the_music_by_the_depth_asked_for() -> None:
    music, own = tone(440, 4, 0.5), tone(1000, 2, 0.01)
    mixed = mix(music, [own, own], cuts([48, 48]), Fraction(24), 96, film_db=-12)
    assert len(mixed) == 4 * RATE
    assert level_of(mixed, 440) == pytest.approx(0.5, rel=0.01)
    middle = mixed[RATE // 2 : RATE // 2 * 3]
    # 0.01 would need +22 dB to come within 12 dB of the music; at most 9 dB are given
    assert level_of(middle, 1000) == pytest.approx(0.01 * 10 ** (9 / 20), rel=0.02)
    loud = mix(music, [tone(1000, 2, 0.4)] * 2, cuts([48, 48]), Fraction(24), 96, film_db=-12)
    assert level_of(loud[RATE // 2 : RATE // 2 * 3], 1000) == pytest.approx(0.5 * 10 ** (-12 / 20), rel=0.02)


def test_each_piece_sounds_in_its_own_cut_and_nowhere_else() -> None:
    frequencies = [500, 900, 1500]
    pieces = [tone(f, 1, 0.2) for f in frequencies]
    mixed = mix(np.zeros((0, 2), np.float32), pieces, cuts([24, 24, 24]), Fraction(24), 96, film_db=-6)
    for number in range(3):
        inside = mixed[number * RATE + 2000 : (number + 1) * RATE - 2000]
        levels = [level_of(inside, f) for f in frequencies]
        assert levels[number] > 0.02
        assert all(level < 0.002 for other, level in enumerate(levels) if other != number)
    assert not mixed[3 * RATE :].any()  # the card has no film sound


def test_no_piece_clicks_at_its_edges() -> None:
    constant = np.full((RATE, 2), 0.3, np.float32)
    mixed = mix(np.zeros((0, 2), np.float32), [constant] * 2, cuts([24, 24]), Fraction(24), 48, film_db=-6)
    assert np.abs(np.diff(mixed[:, 0])).max() < 0.001


def test_silent_film_sound_is_not_lifted_into_noise() -> None:
    hiss = (np.random.default_rng(0).standard_normal((RATE, 2)) * 2e-4).astype(np.float32)
    mixed = mix(np.zeros((0, 2), np.float32), [hiss], cuts([24]), Fraction(24), 24, film_db=-6)
    assert not mixed.any()


def test_music_that_goes_on_is_faded_out_and_music_that_ends_is_not() -> None:
    music = tone(440, 5, 0.5)
    faded = mix(music, [], (), Fraction(24), 96, film_db=-12, fade_seconds=1.2)
    whole = mix(music, [], (), Fraction(24), 96, film_db=-12)
    assert np.abs(faded[-200:]).max() < 0.01
    assert np.abs(whole[-200:]).max() > 0.4


def test_the_fade_is_the_planned_one_unless_the_trailer_ends_before_its_music() -> None:
    plain = Music(Path("t.ogg"), "0", 10.0, (0.0,))
    assert choose_fade(plain, 50.0, 60.0) == 0.0  # the track ends there
    assert choose_fade(plain, 40.0, 60.0) == 1.2
    parts = replace(plain, parts=(Span(0.0, 10.0), Span(40.0, 60.0)), fade_seconds=0.5)
    assert choose_fade(parts, 30.0, 60.0) == 0.5
    assert choose_fade(parts, 25.0, 60.0) == 1.2
    assert choose_fade(replace(parts, fade_seconds=0.0), 30.0, 60.0) == 0.0


def test_places_do_not_drift_over_many_cuts() -> None:
    for frame in (0, 1, 75 * 47, 3000):
        assert frame_to_sample(frame, NTSC) == round(frame * 1001 / 24000 * RATE)


# Lines ------------------------------------------------------------------------------------------------------------

MUSIC, AMBIENCE = 220.0, 330.0  # Hz
LINES = (700.0, 1100.0, 1700.0)  # Hz, one a line
FPS = Fraction(24)
STARTS, SECONDS = (48, 120, 216), (1.5, 2.0, 1.0)  # frames, s
RECORDED_DB = (-40.0, -10.0, -25.0)  # RMS


def spoken(
    starts: Sequence[int] = STARTS, seconds: Sequence[float] = SECONDS, recorded: Sequence[float] = RECORDED_DB
) -> list[tuple[Placement, NDArray[np.float32]]]:
    return [
        (Placement(n, f"line {n}", Span(0.0, length), 0, start, 0.0), tone(LINES[n], length, 10 ** ((db + 3.01) / 20)))
        for n, (start, length, db) in enumerate(zip(starts, seconds, recorded, strict=True))
    ]


def level_db(samples: NDArray[np.float32], frequency: float) -> float:
    return 20 * np.log10(max(level_of(samples, frequency), 1e-9))


def part(samples: NDArray[np.float32], start: float, end: float) -> NDArray[np.float32]:
    return samples[round(start * RATE) : round(end * RATE)]


def placed(number: int, margin: float = 0.05) -> tuple[float, float]:
    """Where a line is heard, seconds of trailer, without its fades."""
    start = STARTS[number] / 24
    return start + margin, start + SECONDS[number] - margin


@pytest.mark.parametrize("depth", [12.0, 20.0, 6.0])
def test_music_drops_by_the_depth_asked_for_and_is_back_within_half_a_second(depth: float) -> None:
    music = tone(MUSIC, 12, 0.3)
    mixed = mix(music, [], (), FPS, 288, lines=spoken(), duck_db=depth)
    full = level_db(part(mixed, 0.2, 1.2), MUSIC)
    assert full == pytest.approx(20 * np.log10(0.3), abs=0.1)
    for number, (start, length) in enumerate(zip(STARTS, SECONDS, strict=True)):
        assert level_db(part(mixed, *placed(number)), MUSIC) - full == pytest.approx(-depth, abs=0.5)
        begin, end = start / 24, start / 24 + length
        # fully down as the line starts: the tenth of a second at its beginning is as low as the rest
        assert level_db(part(mixed, begin, begin + 0.1), MUSIC) - full == pytest.approx(-depth, abs=0.5)
        assert level_db(part(mixed, end + 0.5, end + 0.9), MUSIC) - full == pytest.approx(0.0, abs=0.1)
        assert level_db(part(mixed, begin - 0.5, begin - 0.35), MUSIC) - full == pytest.approx(0.0, abs=0.3)


def test_lines_are_equally_loud_and_well_over_the_music() -> None:
    music = tone(MUSIC, 12, 0.3)
    mixed = mix(music, [], (), FPS, 288, lines=spoken())
    own = [level_db(part(mixed, *placed(n)), LINES[n]) for n in range(3)]
    heard = [measure_samples(tone(LINES[n], SECONDS[n], 10 ** (own[n] / 20))) for n in range(3)]
    assert max(heard) - min(heard) < 0.5
    for number, level in enumerate(own):
        assert level - level_db(part(mixed, *placed(number)), MUSIC) >= 10.0
        assert all(level_db(part(mixed, *placed(number)), f) < level - 40 for f in LINES if f != LINES[number])
    # as loud as the music was, where that will do
    mixed = mix(music, [], (), FPS, 288, lines=spoken(), line_over_music_db=6.0)
    heard_first = tone(LINES[0], SECONDS[0], level_of(part(mixed, *placed(0)), LINES[0]))
    assert measure_samples(heard_first) == pytest.approx(measure_samples(music), abs=0.1)


def test_all_lines_get_louder_together_where_one_is_over_loud_music() -> None:
    music = tone(MUSIC, 12, 0.05)
    music[9 * RATE : 10 * RATE] *= 12.0  # under the last line
    mixed = mix(music, [], (), FPS, 288, lines=spoken())
    own = [level_db(part(mixed, *placed(n)), LINES[n]) for n in range(3)]
    assert own[2] - level_db(part(mixed, *placed(2)), MUSIC) == pytest.approx(11.0, abs=0.4)
    heard = [measure_samples(tone(LINES[n], SECONDS[n], 10 ** (own[n] / 20))) for n in range(3)]
    assert max(heard) - min(heard) < 0.5


def test_a_line_is_what_it_was_and_starts_on_its_sample() -> None:
    """The ducking never touches it: against the mix without it, only it is added, times one factor."""
    music = tone(MUSIC, 6, 0.3)
    rng = np.random.default_rng(0)
    own = (0.1 * rng.standard_normal((2 * RATE, 2))).astype(np.float32)
    line = (Placement(0, "", Span(0.0, 2.0), 0, 61, 0.0), own)
    mixed = mix(music, [], (), NTSC, 140, lines=[line])
    quiet = mix(music, [], (), NTSC, 140, lines=[(line[0], own * 1e-30)])  # ducked as well, nothing heard
    added = mixed - quiet
    start = round(61 * 1001 / 24000 * RATE)
    assert not added[:start].any()
    assert np.abs(added[start + 2 * RATE :]).max() < 1e-6
    middle = slice(start + round(0.015 * RATE), start + 2 * RATE - round(0.04 * RATE))
    ratio = added[middle] / own[middle.start - start : middle.stop - start]
    strong = np.abs(own[middle.start - start : middle.stop - start]) > 0.01
    assert ratio[strong].std() / ratio[strong].mean() < 1e-3
    assert np.abs(added[start : start + 3]).max() < 0.01  # faded in
    assert np.abs(added[start + 2 * RATE - 3 : start + 2 * RATE]).max() < 0.01


def test_the_films_own_sound_ducks_further_and_a_silent_cut_has_none() -> None:
    music, own = tone(MUSIC, 4, 0.3), tone(AMBIENCE, 2, 0.1)
    lines = spoken([24], [1.0], [-20.0])
    plan = cuts([48, 48])
    mixed = mix(music, [own, own], plan, FPS, 96, lines=lines)
    full, under = level_db(part(mixed, 2.6, 3.6), AMBIENCE), level_db(part(mixed, 1.05, 1.95), AMBIENCE)
    assert full - under == pytest.approx(24.0, abs=0.5)
    silent = mix(music, [own, own], (plan[0], replace(plan[1], sound=False)), FPS, 96, lines=lines)
    assert level_db(part(silent, 2.6, 3.6), AMBIENCE) < -80
    assert level_db(part(silent, 0.2, 0.6), AMBIENCE) == pytest.approx(
        level_db(part(mixed, 0.2, 0.6), AMBIENCE), abs=0.1
    )


def test_music_stays_down_between_two_near_lines_and_comes_up_between_far_ones() -> None:
    seconds = 0.3
    near, far = round((2 * seconds + 0.39) * RATE), round((2 * seconds + 0.41) * RATE)
    for gap, up in ((near, False), (far, True)):
        curve = duck_curve([(2 * RATE + gap, 3 * RATE + gap), (RATE, 2 * RATE)], 6 * RATE, seconds)
        between = curve[2 * RATE : 2 * RATE + gap]
        assert bool(between.min() == 0.0) is up
        assert (curve[RATE : 2 * RATE] == 1.0).all()
        assert np.abs(np.diff(curve)).max() <= np.pi / 2 / (seconds * RATE) * 1.001  # a raised cosine's steepest step
    assert (curve >= 0).all()


def test_a_line_at_the_very_start_and_one_over_the_end_are_cut_to_the_trailer() -> None:
    lines = [*spoken([0], [0.5], [-20.0]), *spoken([90], [3.0], [-20.0])]
    mixed = mix(tone(MUSIC, 4, 0.3), [], (), FPS, 96, lines=lines)
    assert len(mixed) == 4 * RATE
    assert np.isfinite(mixed).all()
    assert level_db(part(mixed, 3.8, 4.0), LINES[0]) > -30


def test_lines_over_silence_are_heard_and_a_line_without_sound_is_not_lifted_endlessly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = np.zeros((0, 2), np.float32)
    mixed = mix(nothing, [], (), FPS, 288, lines=spoken())
    assert measure_samples(part(mixed, *placed(1))) == pytest.approx(-23.0, abs=0.5)
    hiss = (np.random.default_rng(0).standard_normal((RATE, 2)) * 10 ** (-75 / 20)).astype(np.float32)
    whisper = (Placement(0, "whisper", Span(0, 1), 0, 24, 0.0), hiss)
    void = (Placement(1, "void", Span(0, 1), 0, 72, 0.0), np.zeros((RATE, 2), np.float32))
    with caplog.at_level(logging.WARNING, "trailer"):
        mixed = mix(tone(MUSIC, 12, 0.3), [], (), FPS, 288, lines=[whisper, void, spoken()[2]])
    assert "'whisper' has almost no sound" in caplog.text
    assert "'void' has almost no sound" in caplog.text
    alone = mix(nothing, [], (), FPS, 288, lines=[whisper])
    assert 20 * np.log10(np.sqrt(np.mean(part(alone, 1.1, 1.9) ** 2))) == pytest.approx(-45.0, abs=0.5)
    # the others do not become louder for it
    assert level_db(part(mixed, *placed(2)), LINES[2]) == pytest.approx(level_db(tone(MUSIC, 1, 0.3), MUSIC), abs=2.5)


def test_loudness_is_that_of_the_standard_and_of_ffmpeg(tmp_path: Path) -> None:
    """EBU Tech 3341, case 1: a stereo sine of 1 kHz at -23 dBFS is -23.0 LUFS; and ffmpeg's ebur128 on uneven noise."""
    assert measure_samples(tone(1000, 5, 10 ** (-23 / 20))) == pytest.approx(-23.0, abs=0.1)
    assert measure_samples(np.zeros((RATE, 2), np.float32)) == -np.inf
    assert measure_samples(np.zeros((0, 2), np.float32)) == -np.inf
    assert measure_samples(tone(1000, 0.2, 10 ** (-23 / 20))) == pytest.approx(-23.0, abs=0.3)
    noise = (
        np.random.default_rng(2).standard_normal((8 * RATE, 2)) * np.repeat([0.1, 0.02, 0.001, 0.2], 2 * RATE)[:, None]
    )
    with wave.open(str(tmp_path / "n.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(noise, -1, 1) * 32767).astype("<i2").tobytes())
    theirs, _ = measure_loudness(find_ffmpeg(), ["-i", str(tmp_path / "n.wav")], 60)
    assert measure_samples(noise.astype(np.float32)) == pytest.approx(theirs, abs=0.15)
