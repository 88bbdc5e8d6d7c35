"""The mix by arithmetic: tones in, tones out, at the levels and places planted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.mix import RATE, frame_to_sample, mix_sound
from pipeline.records import Cut, Span

NTSC = Fraction(24000, 1001)


def tone(frequency: float, seconds: float, level: float) -> NDArray[np.float32]:
    wave = level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)
    return np.repeat(wave[:, None], 2, axis=1).astype(np.float32)


def level_of(samples: NDArray[np.float32], frequency: float) -> float:
    n = np.arange(len(samples))
    return float(2 * abs(np.mean(samples[:, 0] * np.exp(-2j * np.pi * frequency * n / RATE))))


def cuts(frames: list[int]) -> tuple[Cut, ...]:
    starts = np.concatenate([[0], np.cumsum(frames)[:-1]])
    return tuple(Cut(i, i, Span(0.0, f / 24), int(s), f) for i, (s, f) in enumerate(zip(starts, frames, strict=True)))


def test_film_sound_lies_under_the_music_by_the_depth_asked_for() -> None:
    music, own = tone(440, 4, 0.5), tone(1000, 2, 0.01)
    mixed = mix_sound(music, [own, own], cuts([48, 48]), Fraction(24), 96, film_db=-12, ends=True)
    assert len(mixed) == 4 * RATE
    assert level_of(mixed, 440) == pytest.approx(0.5, rel=0.01)
    middle = mixed[RATE // 2 : RATE // 2 * 3]
    # 0.01 would need +22 dB to come within 12 dB of the music; at most 9 dB are given
    assert level_of(middle, 1000) == pytest.approx(0.01 * 10 ** (9 / 20), rel=0.02)
    loud = mix_sound(music, [tone(1000, 2, 0.4)] * 2, cuts([48, 48]), Fraction(24), 96, film_db=-12, ends=True)
    assert level_of(loud[RATE // 2 : RATE // 2 * 3], 1000) == pytest.approx(0.5 * 10 ** (-12 / 20), rel=0.02)


def test_each_piece_sounds_in_its_own_cut_and_nowhere_else() -> None:
    frequencies = [500, 900, 1500]
    pieces = [tone(f, 1, 0.2) for f in frequencies]
    mixed = mix_sound(np.zeros((0, 2), np.float32), pieces, cuts([24, 24, 24]), Fraction(24), 96, film_db=-6, ends=True)
    for number in range(3):
        inside = mixed[number * RATE + 2000 : (number + 1) * RATE - 2000]
        levels = [level_of(inside, f) for f in frequencies]
        assert levels[number] > 0.02
        assert all(level < 0.002 for other, level in enumerate(levels) if other != number)
    assert not mixed[3 * RATE :].any()  # the card has no film sound


def test_no_piece_clicks_at_its_edges() -> None:
    constant = np.full((RATE, 2), 0.3, np.float32)
    mixed = mix_sound(
        np.zeros((0, 2), np.float32), [constant] * 2, cuts([24, 24]), Fraction(24), 48, film_db=-6, ends=True
    )
    assert np.abs(np.diff(mixed[:, 0])).max() < 0.001


def test_silent_film_sound_is_not_lifted_into_noise() -> None:
    hiss = (np.random.default_rng(0).standard_normal((RATE, 2)) * 2e-4).astype(np.float32)
    mixed = mix_sound(np.zeros((0, 2), np.float32), [hiss], cuts([24]), Fraction(24), 24, film_db=-6, ends=True)
    assert not mixed.any()


def test_music_that_goes_on_is_faded_out_and_music_that_ends_is_not() -> None:
    music = tone(440, 5, 0.5)
    faded = mix_sound(music, [], (), Fraction(24), 96, film_db=-12, ends=False)
    whole = mix_sound(music, [], (), Fraction(24), 96, film_db=-12, ends=True)
    assert np.abs(faded[-200:]).max() < 0.01
    assert np.abs(whole[-200:]).max() > 0.4


def test_places_do_not_drift_over_many_cuts() -> None:
    for frame in (0, 1, 75 * 47, 3000):
        assert frame_to_sample(frame, NTSC) == round(frame * 1001 / 24000 * RATE)
