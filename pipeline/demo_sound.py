"""Make the demo film's sound: the air of every place, a slow music under it, hits where the story turns.

Everything is a sum of shaped noise and sines that begin and end at zero, so that nothing clicks. Times are seconds of
film; samples are float32 (n, 2), full scale = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.records import F32

SAMPLE_RATE = 48000
LOOP_SECONDS = 8.0  # air repeats after this; made by inverse FFT, so its end meets its start
CROSSFADE_SECONDS = 0.08  # between the air of two places
PEAK = 0.84  # of full scale, -1.5 dBFS, before encoding

# place: layers of (lowest Hz, highest Hz, level RMS, swells a loop, depth of the swell 0..1)
AIR: dict[str, tuple[tuple[float, float, float, int, float], ...]] = {
    "valley": ((180, 700, 0.030, 2, 0.6), (2500, 5000, 0.003, 3, 0.9)),
    "forest": ((250, 1100, 0.020, 3, 0.5), (4200, 5200, 0.005, 40, 0.9)),
    "sea": ((120, 900, 0.060, 2, 0.9), (900, 5000, 0.016, 2, 1.0)),
    "desert": ((350, 900, 0.035, 3, 0.8), (1200, 1900, 0.010, 5, 0.9)),
    "city": ((70, 260, 0.060, 4, 0.3), (500, 1800, 0.012, 5, 0.6)),
    "rain": ((900, 9000, 0.055, 7, 0.2), (80, 300, 0.050, 3, 0.4)),
    "storm": ((1000, 8000, 0.060, 9, 0.3), (90, 500, 0.120, 3, 0.7)),
    "deep": ((50, 240, 0.110, 3, 0.5), (500, 900, 0.012, 26, 0.95)),
    "tunnel": ((400, 6000, 0.050, 12, 0.7), (60, 200, 0.080, 5, 0.4)),
    "stars": ((1500, 4000, 0.006, 3, 0.7), (90, 200, 0.020, 2, 0.4)),
    "morning": ((200, 900, 0.020, 2, 0.6), (3000, 4800, 0.007, 24, 0.95)),
}
CHORDS = ((57, 60, 64), (53, 57, 60), (48, 55, 64), (55, 59, 62))  # MIDI: A minor, F, C, G
BEATS_A_MINUTE = (60, 96, 132, 60)
BEATS_A_CHORD = (5, 6, 6, 5)
SCALE = (69, 72, 74, 76, 79, 81)  # A minor pentatonic, for the bells


@dataclass(frozen=True, slots=True)
class Cue:
    """A shot as the sound sees it."""

    start: float
    seconds: float
    place: str


def _pitch(midi: float) -> float:
    return float(440.0 * 2 ** ((midi - 69) / 12))


def _make_air(rng: np.random.Generator, low: float, high: float, level: float, swells: int, depth: float) -> F32:
    """(n, 2) noise between two frequencies that repeats without a seam."""
    n = int(LOOP_SECONDS * SAMPLE_RATE)
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 1.0)
    middle, spread = np.log(low * high) / 2, np.log(high / low) / 2
    shape = np.exp(-(((np.log(frequency) - middle) / spread) ** 2)) / np.sqrt(frequency)
    out = np.empty((n, 2), np.float32)
    phase = np.arange(n) / n * 2 * np.pi * swells
    for channel in range(2):
        spectrum = shape * np.exp(2j * np.pi * rng.random(frequency.size))
        noise = np.fft.irfft(spectrum, n)
        swell = 1 - depth * (0.5 + 0.5 * np.cos(phase + 0.7 * channel))
        out[:, channel] = noise / noise.std() * level * swell
    return out


def _add(mix: F32, start: float, sound: F32) -> None:
    """Add (n, 2) at `start` seconds; what lies outside the film is dropped."""
    at = round(start * SAMPLE_RATE)
    if at < 0:
        sound, at = sound[-at:], 0
    part = mix[at : at + len(sound)]
    part += sound[: len(part)]


def _envelope(n: int, attack: float, release: float) -> F32:
    """(n,) from 0 up within attack s, down to 0 over the last release s."""
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    rise, fall = np.clip(t / attack, 0, 1), np.clip((n / SAMPLE_RATE - t) / release, 0, 1)
    return np.asarray(np.sin(rise * np.pi / 2) ** 2 * np.sin(fall * np.pi / 2) ** 2, dtype=np.float32)


def _pad(frequency: float, seconds: float, level: float) -> F32:
    n = int(seconds * SAMPLE_RATE)
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    out = np.empty((n, 2), np.float32)
    for channel, tune in enumerate((0.9985, 1.0015)):
        w = np.float32(2 * np.pi * frequency * tune) * t
        out[:, channel] = np.sin(w) + 0.3 * np.sin(2.002 * w) + 0.1 * np.sin(3.001 * w)
    out *= (_envelope(n, min(1.4, seconds / 3), min(1.8, seconds / 3)) * np.float32(level))[:, None]
    return out


def _bell(frequency: float, level: float, pan: float, decay: float = 1.1) -> F32:
    n = int(decay * 3.2 * SAMPLE_RATE)
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    w = np.float32(2 * np.pi * frequency) * t
    tone = np.exp(-t / decay) * np.sin(w) + 0.4 * np.exp(-t / (decay * 0.5)) * np.sin(2.756 * w)
    tone *= _envelope(n, 0.006, 0.4) * np.float32(level)
    return np.asarray(np.stack([tone * np.sqrt(1 - pan), tone * np.sqrt(pan)], axis=1), dtype=np.float32)


def _hit(rng: np.random.Generator, level: float, seconds: float, *, rumble: float) -> F32:
    """A drum or thunder: a falling sine, and low noise over it. rumble: share of the noise, 0..1."""
    n = int(seconds * SAMPLE_RATE)
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE
    sweep = np.sin(2 * np.pi * (38 * t + 50 * 0.09 * (1 - np.exp(-t / 0.09)))) * np.exp(-t / (seconds * 0.22))
    noise = rng.standard_normal((n, 2))
    spectrum = np.fft.rfft(noise, axis=0)
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)[:, None]
    noise = np.fft.irfft(spectrum / (1 + (frequency / 180) ** 2), n, axis=0)
    noise *= (np.exp(-t / (seconds * 0.3)) / noise.std())[:, None] * 0.35
    out = ((1 - rumble) * sweep[:, None] + rumble * noise) * _envelope(n, 0.006, seconds * 0.3)[:, None] * level
    return np.asarray(out, dtype=np.float32)


def make_sound(cues: Sequence[Cue], acts: Sequence[float], duration: float, *, seed: int) -> F32:
    """(n, 2) of the whole film at SAMPLE_RATE. cues: its shots; acts: where acts begin, and the last one ends."""
    rng = np.random.default_rng([seed, 200])
    mix = np.zeros((round(duration * SAMPLE_RATE), 2), np.float32)
    air = {place: sum(_make_air(rng, *layer) for layer in layers) for place, layers in AIR.items()}
    half = CROSSFADE_SECONDS / 2
    for cue in cues:
        n = int((cue.seconds + CROSSFADE_SECONDS) * SAMPLE_RATE)
        at = round((cue.start - half) * SAMPLE_RATE)
        loop = np.take(air[cue.place], np.arange(at, at + n), axis=0, mode="wrap")
        _add(mix, cue.start - half, loop * _envelope(n, CROSSFADE_SECONDS, CROSSFADE_SECONDS)[:, None])
    _score_acts(mix, rng, acts, duration)
    for number, cue in enumerate(cues):
        if cue.place == "storm" and number % 3 != 2:  # where build_storm lets lightning strike
            _add(mix, cue.start + 0.2, _hit(rng, 0.55, 2.4, rumble=0.8))
        elif acts[2] <= cue.start < acts[3]:
            _add(mix, cue.start - 0.01, _hit(rng, 0.35, 0.9, rumble=0.3))
    for start in acts[:-1]:
        _add(mix, start - 0.01, _hit(rng, 0.6, 2.5, rumble=0.35))
    mix *= _envelope(len(mix), 0.6, 2.5)[:, None]
    return np.asarray(np.tanh(mix * 1.15) * PEAK, dtype=np.float32)


def _score_acts(mix: F32, rng: np.random.Generator, acts: Sequence[float], duration: float) -> None:
    """The music: chords throughout, bells in the calm acts, a pulse that quickens in the others."""
    edges = [0.0, *acts[1:-1], acts[-1]]
    hits = [_hit(rng, level, 0.5, rumble=0.15) for level in (0.16, 0.34)]
    for act, (start, end) in enumerate(zip(edges, [*edges[1:]], strict=False)):
        beat = 60 / BEATS_A_MINUTE[act]
        long = beat * BEATS_A_CHORD[act]
        for number in range(int(np.ceil((end - start) / long))):
            chord, at = CHORDS[number % len(CHORDS)], start + number * long
            for note in (chord[0] - 12, *chord, *((chord[2] + 12,) if act in (1, 3) else ())):
                _add(mix, at - 0.5, _pad(_pitch(note), long + 1.6, (0.05, 0.045, 0.06, 0.05)[act]))
            for step in range(BEATS_A_CHORD[act] * 2):
                now = at + step * beat / 2
                if now >= end - 0.1:
                    break
                if act in (1, 2):
                    note = chord[step % 3] - (0 if act == 1 else 12)
                    _add(mix, now, _bell(_pitch(note), (0.05, 0.08)[act - 1], 0.35 + 0.3 * (step % 2), 0.22))
                    if step % 2 == 0 and (act == 2 or now > start + 12):
                        _add(mix, now, hits[act - 1])
                elif step % 2 == 0 and rng.random() < 0.6:
                    _add(mix, now, _bell(_pitch(float(rng.choice(SCALE))), 0.07, rng.uniform(0.25, 0.75)))
    for number, chord in enumerate((*CHORDS, CHORDS[0])):  # under the credits
        for note in (chord[0] - 12, *chord):
            _add(
                mix,
                acts[-1] + 4 * number - 0.5,
                _pad(_pitch(note), min(6.0, duration - acts[-1] - 4 * number + 0.5), 0.05),
            )
