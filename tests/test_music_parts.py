"""pipeline/music_parts.py: tracks of known tempo brought to a length, and the joins listened to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from pipeline.hearing import LEAD, RATE, Hearing, listen
from pipeline.music import segment_music
from pipeline.music_parts import JOIN_SECONDS, MOST_SILENCE, find_body, join_hearing, join_parts
from pipeline.records import F32, F64, Segments, Span, Track
from pipeline.settings import ASSETS, MusicSettings
from pipeline.sound import read_track

BEAT_WITHIN = 0.005  # s; a beat at a join comes as the others do
CHORDS = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (196.0, 246.9, 311.1))


def make_bars(bpm: float, bars: int, *, tail: float = 0.5, rise: float = 1.0) -> tuple[F32, F64]:
    """Bars of four: a click on every beat, the first one lower and louder, over a chord that changes from bar to bar.

    rise: how many times louder the last bar is than the first. Returns samples at RATE and the beats' times, the last of
    them a hit on the first beat after the bars; tail: seconds after it.
    """
    beat = 60 / bpm
    beats = 0.2 + beat * np.arange(4 * bars + 1)
    t = np.arange(int((beats[-1] + tail) * RATE)) / RATE
    bar = np.clip((t - beats[0]) // (4 * beat), 0, bars - 1).astype(int)
    tones = np.zeros(len(t))
    for number, chord in enumerate(CHORDS):
        tones += sum(np.sin(2 * np.pi * f * t) for f in chord) * (bar % len(CHORDS) == number)
    samples = 0.02 * tones * (t < beats[-1]) + 1e-4 * np.random.default_rng(0).standard_normal(len(t))
    s = np.arange(int(0.06 * RATE)) / RATE
    for number, time in enumerate(beats):
        first = number % 4 == 0
        click = (0.5 if first else 0.3) * np.exp(-s / 0.012) * np.sin(2 * np.pi * (700 if first else 1400) * s)
        at = round(time * RATE)
        piece = samples[at : at + len(click)]
        piece += click[: len(piece)]
    samples *= rise ** np.linspace(0, 1, len(t))
    return (0.8 * samples / np.abs(samples).max()).astype(np.float32), beats


def segment(samples: F32, length: float) -> Segments:
    track = Track(ASSETS / "track.wav", "0", len(samples) / RATE, RATE)
    return segment_music(track, samples, RATE, MusicSettings(), length=length)


def play(samples: F32, segments: Segments) -> F32:
    return join_parts(samples, RATE, segments.parts, round(segments.duration * RATE))


def joins_of(parts: tuple[Span, ...]) -> list[float]:
    return [float(at) for at in np.cumsum([part.duration for part in parts])[:-1]]


def onsets_of(samples: F32) -> F64:
    """Attacks of the clicks, s, by the level over the chords' tones in each millisecond: no ears of the product's."""
    size = RATE // 1000
    high = sosfilt(butter(4, 550, "highpass", fs=RATE, output="sos"), samples)
    level = np.abs(high[: len(high) // size * size]).reshape(-1, size).max(axis=1)
    found, at = [], 0
    while at < len(level):
        if level[at] > 0.06:
            found.append(at * size / RATE)
            at += 150
        at += 1
    return np.array(found)


@pytest.mark.parametrize("bpm", [90.0, 104.0, 120.0])
def test_a_short_track_is_looped_without_a_broken_beat(bpm: float) -> None:
    samples, beats = make_bars(bpm, max(4, round(12 * bpm / 240)))
    segments = segment(samples, 60.0)
    assert segments.duration == 60.0
    assert len(segments.parts) > 1
    total = sum(part.duration for part in segments.parts)
    assert 60.0 - MOST_SILENCE <= total <= 60.0 + 1e-9
    played = play(samples, segments)
    heard = onsets_of(played)
    np.testing.assert_allclose(np.diff(heard), 60 / bpm, atol=BEAT_WITHIN)
    assert len(heard) >= int((60 - 2) * bpm / 60)
    # the lower click of a bar's first beat keeps coming every fourth beat
    low = [np.abs(np.fft.rfft(played[round(t * RATE) :][: RATE // 20], RATE))[650:750].max() for t in heard]
    high = [np.abs(np.fft.rfft(played[round(t * RATE) :][: RATE // 20], RATE))[1350:1450].max() for t in heard]
    first = np.flatnonzero(np.array(low) > np.array(high))
    assert (np.diff(first) == 4).all()
    # accents on the trailer's clock: one a beat, none twice at a join
    assert np.abs(segments.accents[:, None] - heard).min(axis=1).max() < 0.012
    assert np.diff(segments.accents).min() > 0.3
    assert np.diff(segments.beats).min() > 0.9 * 60 / bpm
    # it ends with the track's own last hit
    assert segments.parts[-1].end > beats[-1] + 0.2


def test_no_join_clicks_and_none_is_a_hole() -> None:
    samples, _ = make_bars(120, 6)
    segments = segment(samples, 60.0)
    played = play(samples, segments)
    usual = np.abs(np.diff(samples)).max()
    for join in joins_of(segments.parts):
        at = round(join * RATE)
        fade = round(JOIN_SECONDS * RATE)
        assert np.abs(np.diff(played[at - 2 * fade : at + fade])).max() <= usual
        # in the crossfade the chord goes on: no quieter than 3 dB under what lies before it, no louder than 3 dB over it
        ratio = np.std(played[at - fade : at]) / np.std(played[at - 3 * fade : at - fade])
        assert 0.7 < ratio < 1.42


def test_joined_parts_lie_where_they_should_to_the_sample() -> None:
    rng = np.random.default_rng(1)
    samples = rng.standard_normal((10 * 1000, 2)).astype(np.float32)
    parts = (Span(0.0, 2.5), Span(6.0, 8.0), Span(1.0, 1.5))
    joined = join_parts(samples, 1000, parts, 5200)
    fade = round(JOIN_SECONDS * 1000)
    np.testing.assert_array_equal(joined[: 2500 - fade], samples[: 2500 - fade])
    np.testing.assert_array_equal(joined[2500 : 4500 - fade], samples[6000 : 8000 - fade])
    np.testing.assert_array_equal(joined[4500:5000], samples[1000:1500])
    assert not joined[5000:].any()
    # noise and noise: equal power. The same and the same: as it was
    blended = np.mean(
        [
            np.std(
                join_parts(rng.standard_normal(4000).astype(np.float32), 1000, (*parts[:1], Span(2.9, 3.9)), 3500)[
                    2470:2500
                ]
            )
            for _ in range(200)
        ]
    )
    assert blended == pytest.approx(1.0, abs=0.1)  # 30 samples of noise are a little alike by chance
    steady = np.sin(2 * np.pi * 50 * np.arange(10000) / 1000).astype(np.float32)
    np.testing.assert_allclose(join_parts(steady, 1000, (Span(0, 2), Span(4, 6)), 4000), steady[:4000], atol=1e-5)


def test_a_part_from_the_middle_starts_without_a_click() -> None:
    joined = join_parts(np.full(48000, 0.5, np.float32), 48000, (Span(0.5, 1.0),), 24000)
    assert np.abs(np.diff(joined)).max() < 0.002
    assert joined[1000] == np.float32(0.5)


@pytest.mark.parametrize("length", [30.0, 90.0])
def test_a_long_track_gives_its_opening_and_its_ending(length: float) -> None:
    samples, beats = make_bars(120, 150, tail=3.0, rise=8.0)
    segments = segment(samples, length)
    assert segments.duration == length
    parts = segments.parts
    assert len(parts) == 2
    assert parts[0].start == 0.0
    assert parts[1].end > beats[-1] + 1.0  # the last hit, and most of its tail
    assert sum(part.duration for part in parts) == pytest.approx(length, abs=1e-9)
    # both cut just before a beat, at the same place of the bar
    cuts = np.array([parts[0].end, parts[1].start]) + LEAD
    numbers = (cuts - beats[0]) / 0.5
    assert np.abs(numbers - np.round(numbers)).max() < 0.02
    assert (round(numbers[1]) - round(numbers[0])) % 4 == 0
    played = play(samples, segments)
    np.testing.assert_allclose(np.diff(onsets_of(played[: round((length - 3.2) * RATE)])), 0.5, atol=BEAT_WITHIN)
    third = len(played) // 3
    assert np.std(played[third : 2 * third + third // 2]) > np.std(played[:third])


@pytest.mark.parametrize("name", ["dark_rise", "bright_step"])
@pytest.mark.parametrize("length", [5.0, 8.0, 15.0, 30.0, 60.0, 90.0])
def test_a_bed_of_any_length_ends_well(name: str, length: float) -> None:
    samples = read_track(ASSETS / "music" / f"{name}.ogg", sample_rate=RATE)[:, 0]
    segments = segment(samples, length)
    assert segments.duration == length
    assert len(segments) >= 5
    played = play(samples, segments)
    level = 20 * np.log10(
        np.maximum(np.sqrt(np.mean(played[: len(played) // RATE * RATE].reshape(-1, RATE) ** 2, axis=1)), 1e-6)
    )
    last = 20 * np.log10(np.sqrt(np.mean(played[-RATE:] ** 2)) + 1e-6)
    assert last > level.max() - 60  # no second of silence at the end
    assert segments.parts[-1].end > segments.track.duration - 6.5  # the track's own ending
    if length >= 30:
        third = len(level) // 3
        assert np.mean(10 ** (level[round(0.55 * len(level)) : round(0.85 * len(level))] / 10)) > 1.5 * np.mean(
            10 ** (level[:third] / 10)
        )
        # what is loudest in the parts is what is ranked highest
        loudest = segments.spans[int(np.argmax(segments.energy))]
        assert loudest.start > length / 3


def test_what_holds_nothing_to_join_at_still_lasts_as_long() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 220 * np.arange(5 * RATE) / RATE)).astype(np.float32)
    for samples in (tone, np.zeros(5 * RATE, np.float32), 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)):
        for length in (4.5, 30.0):
            segments = segment(np.asarray(samples, np.float32), length)
            assert segments.duration == length
            assert length - MOST_SILENCE - 1e-9 <= sum(part.duration for part in segments.parts) <= length + 1e-9


def test_silence_around_the_music_is_left_out() -> None:
    samples, beats = make_bars(120, 8, tail=3.0)
    quiet = np.zeros(3 * RATE, np.float32)
    whole = np.concatenate([quiet, samples, quiet])
    body = find_body(listen(whole, RATE), len(whole) / RATE)
    assert 2.5 < body.start <= 3.0 + beats[0]
    assert body.end < 3.0 + len(samples) / RATE + 1.0 + 0.1  # loudness is taken over 0.2 s


def test_hearing_of_parts_is_on_their_clock() -> None:
    times = np.arange(0.5, 10.0, 0.5)
    hearing = Hearing(np.ones((120, 384)), 8, np.linspace(-20, 0, 900), times, times, np.ones(len(times)))
    joined = join_hearing(hearing, (Span(0.0, 2.99), Span(5.99, 10.0)), 7.0)
    np.testing.assert_allclose(joined.accents, np.concatenate([np.arange(0.5, 3.0, 0.5)[:5], np.arange(3.0, 7.0, 0.5)]))
    np.testing.assert_array_equal(joined.beats, joined.accents)
    assert joined.loudness.max() == 0.0
