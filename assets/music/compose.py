"""Compose the two music beds that come with the product, out of nothing but numbers.

    python assets/music/compose.py              # dark_rise and bright_step: .ogg, and .json with the true beat times
    python assets/music/compose.py dark_rise    # one of them

Both have a trailer's form: quiet opening, set-up on a steady pulse, escalation, climax, a stop-down (almost nothing for
a bar), one last hit whose tail dies into silence. Every note is synthesised here, so nobody else's rights are in them.

Same script, same numpy and scipy: same samples. A stereo signal is (2, n) float64 at RATE, a mono one (n,). Times are
seconds of the bed, pitches MIDI numbers, gains factors unless a name says dB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

F64 = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
RATE = 48000  # samples/s; Opus knows no other
BIT_RATE = 128_000  # bit/s: 70 s are 1.1 MB
BEATS_PER_BAR = 4
TAIL_SECONDS = 5.6  # after the last hit; it fades over FADE_SECONDS, the last quarter second is digital silence
FADE_SECONDS = 3.0
LOUDNESS_LUFS = -15.0
CEILING_DBFS = -2.0  # true peak before encoding: Opus overshoots by up to a decibel, and -1 is the bound on the file
LICENCE = "CC0-1.0, composed by the project"


@dataclass(frozen=True)
class Score:
    """What a bed is, before a sample of it exists. sections: name -> first bar; the last one is the last hit's bar."""

    name: str
    title: str
    mood: str
    tempo: float  # beats/min
    seed: int
    sections: dict[str, int]
    chords: tuple[str, ...]  # one a bar; the last one is the last hit's

    @property
    def beat(self) -> float:
        return 60.0 / self.tempo

    @property
    def bar(self) -> float:
        return BEATS_PER_BAR * self.beat

    @property
    def bars(self) -> int:
        """Bars before the last hit."""
        return len(self.chords) - 1

    @property
    def duration(self) -> float:
        return self.bars * self.bar + TAIL_SECONDS

    def beats(self) -> list[float]:
        """True beat times in seconds, the first at 0, the last one the last hit."""
        return [round(i * self.beat, 6) for i in range(self.bars * BEATS_PER_BAR + 1)]

    def section(self, bar: int) -> str:
        return [name for name, first in self.sections.items() if first <= bar][-1]

    def facts(self) -> dict[str, Any]:
        """What stands in the .json beside the bed."""
        starts = [round(first * self.bar, 6) for first in self.sections.values()]
        ends = [*starts[1:], round(self.duration, 6)]
        sections = [{"name": n, "start": s, "end": e} for n, s, e in zip(self.sections, starts, ends, strict=True)]
        return {"title": self.title, "mood": self.mood, "tempo": self.tempo, "duration": round(self.duration, 6),
                "licence": LICENCE, "sections": sections, "beats": self.beats()}


def _form(opening: int, setup: int, escalation: int, climax: int, stop_down: int = 1) -> dict[str, int]:
    """Bars a section -> the bar at which each begins."""
    firsts = np.cumsum([0, opening, setup, escalation, climax, stop_down]).tolist()
    return dict(zip(("opening", "set-up", "escalation", "climax", "stop-down", "last hit"), firsts, strict=True))


DARK_RISE = Score(
    "dark_rise", "Dark Rise", "dark, tense, rising", 104.0, 1, _form(4, 8, 8, 6),
    ("Dm", "Dm", "Bb", "Bb", "Dm", "Dm", "Bb", "Bb", "Gm", "Gm", "A", "A", "Dm", "Bb", "F", "C", "Gm", "Bb", "A", "A",
     "Dm", "Bb", "F", "C", "Gm", "A", "A", "Dm"))
BRIGHT_STEP = Score(
    "bright_step", "Bright Step", "bright, warm, hopeful", 118.0, 2, _form(4, 8, 8, 8),
    ("D", "D", "G", "G", "D", "A", "Bm", "G", "D", "A", "G", "A", "D", "A", "Bm", "G", "Em", "Bm", "G", "A",
     "D", "A", "Bm", "G", "D", "F#m", "G", "A", "A", "D"))
SCORES = {score.name: score for score in (DARK_RISE, BRIGHT_STEP)}


# --- harmony ----------------------------------------------------------------------------------------------------------

_NOTES = {"C": 0, "C#": 1, "D": 2, "Eb": 3, "E": 4, "F": 5, "F#": 6, "G": 7, "Ab": 8, "A": 9, "Bb": 10, "B": 11}


def spell(chord: str) -> tuple[int, int, int]:
    """Root, third and fifth of `D` or `F#m` as pitch classes 0..11."""
    minor = chord.endswith("m")
    root = _NOTES[chord.removesuffix("m")]
    return root, (root + (3 if minor else 4)) % 12, (root + 7) % 12


def lead(chords: Sequence[str], lowest: int, highest: int, voices: int) -> list[tuple[int, ...]]:
    """Voice a progression: of all voicings in the range that hold the whole chord, the one that moves least.

    The root is doubled before other notes; no two neighbouring voices lie more than an octave apart.
    """
    voicings: list[tuple[int, ...]] = []
    for chord in chords:
        root, third, fifth = spell(chord)
        pitches = [p for p in range(lowest, highest + 1) if p % 12 in (root, third, fifth)]
        whole = [v for v in combinations(pitches, voices)
                 if {p % 12 for p in v} >= {root, third, fifth} and max(np.diff(v)) <= 12
                 and sum(p % 12 == third for p in v) == 1]
        before = voicings[-1] if voicings else tuple(np.linspace(lowest, highest, voices + 2)[1:-1].tolist())
        voicings.append(min(whole, key=lambda v: (sum(abs(a - b) for a, b in zip(v, before, strict=True)), v)))
    return voicings


def root_of(chord: str, lowest: int) -> int:
    """The chord's root as the first pitch at or above lowest."""
    return lowest + (spell(chord)[0] - lowest) % 12


# --- sounds: each returns a mono (n,) or a stereo (2, n) signal -------------------------------------------------------


def clock(seconds: float) -> F64:
    return np.arange(round(seconds * RATE)) / RATE


def fades(n: int, attack: float, release: float) -> F64:
    """(n,) envelope: raised-cosine rise over attack s, fall over release s, 1 between."""
    a, r = (max(1, min(n // 2, round(x * RATE))) for x in (attack, release))
    envelope = np.ones(n)
    envelope[:a] = 0.5 - 0.5 * np.cos(np.pi * np.arange(a) / a)
    envelope[n - r:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, r + 1) / r)
    return envelope


@cache
def _table(hertz: float, cutoff: float) -> F64:
    """One period of a sawtooth behind a 12 dB/octave low-pass, without partials above 16 kHz, peak 1."""
    k = np.arange(1, max(2, int(16000 / hertz)))
    spectrum = np.zeros(2049, complex)
    spectrum[k[k < 2049]] = (-1j / k / (1 + (k * hertz / cutoff) ** 2))[k < 2049]
    period = np.fft.irfft(spectrum)
    return np.append(period, period[0]) / np.abs(period).max()


def tone(pitch: float, seconds: float, cutoff: float, phase: float = 0.0) -> F64:
    """A steady filtered sawtooth."""
    hertz = 440.0 * 2 ** ((pitch - 69) / 12)
    table = _table(round(hertz, 3), cutoff)
    return np.interp((clock(seconds) * hertz + phase) % 1.0 * 4096, np.arange(4097), table)


def strings(pitches: Sequence[int], seconds: float, cutoff: float, rng: np.random.Generator, attack: float) -> F64:
    """A section: each pitch three times, some cents apart, spread over the width; overlaps the next chord by 0.4 s."""
    seconds += 0.4
    out = np.zeros((2, round(seconds * RATE)))
    for pitch in pitches:
        for cents, pan in ((-7, -0.8), (1, 0.0), (6, 0.8)):
            wave = tone(pitch + (cents + rng.uniform(-1, 1)) / 100, seconds, cutoff, rng.random())
            out += np.outer(pan_gains(pan), wave)
    return out * fades(out.shape[1], attack, 0.5) / (3 * len(pitches))


def brass(pitches: Sequence[int], seconds: float, rng: np.random.Generator) -> F64:
    """A swell: from nothing and dull to loud and bright, cut off at the end."""
    ramp = np.linspace(0, 1, round(seconds * RATE)) ** 2.2
    out = np.zeros((2, len(ramp)))
    for pitch in pitches:
        for cents, pan in ((-5, -0.5), (5, 0.5)):
            at, phase = pitch + cents / 100, rng.random()
            dull, bright = tone(at, seconds, 250.0, phase), tone(at, seconds, 2800.0, phase)
            out += np.outer(pan_gains(pan), dull + ramp * (bright - dull))
    return np.tanh(2.0 * out * ramp / len(pitches)) * fades(len(ramp), 0.05, 0.06)


def staccato(pitch: int, seconds: float, cutoff: float) -> F64:
    """A short bowed or plucked-synth note."""
    wave = tone(pitch, seconds, cutoff) + 0.7 * tone(pitch + 0.08, seconds, cutoff, 0.3)
    return wave * np.exp(-clock(seconds) / (0.35 * seconds)) * fades(len(wave), 0.004, 0.03) / 1.7


def bar_chime(pitch: int, partials: Sequence[tuple[float, float, float]]) -> F64:
    """A struck bar. partials: (ratio to the fundamental, level, seconds to 1/e)."""
    hertz = 440.0 * 2 ** ((pitch - 69) / 12)
    t = clock(6 * max(tau for _, _, tau in partials))
    wave = sum(level * np.exp(-t / tau) * np.sin(2 * np.pi * hertz * ratio * t)
               for ratio, level, tau in partials if hertz * ratio < 18000)
    return wave * fades(len(t), 0.0015, 0.02)


@cache
def marimba(pitch: int) -> F64:
    return bar_chime(pitch, ((1.0, 1.0, 0.28), (3.93, 0.35, 0.07), (9.2, 0.12, 0.025)))


@cache
def glockenspiel(pitch: int) -> F64:
    return bar_chime(pitch, ((1.0, 1.0, 0.55), (2.76, 0.4, 0.3), (5.4, 0.2, 0.14), (8.93, 0.08, 0.05)))


def noise(seconds: float, low: float, high: float, rng: np.random.Generator) -> F64:
    """Band-passed noise with RMS 1."""
    sos = signal.butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    wave = signal.sosfilt(sos, rng.standard_normal(round(seconds * RATE)))
    return wave / wave.std()


def drum(start: float, end: float, bend: float, ring: float, snap: float, rng: np.random.Generator) -> F64:
    """A skin that falls from start to end Hz within bend s and rings for ring s to 1/e. snap: level of its noise."""
    t = clock(6 * ring)
    phase = 2 * np.pi * (end * t + (start - end) * bend * (1 - np.exp(-t / bend)))
    wave = np.sin(phase) * np.exp(-t / ring) + snap * noise(6 * ring, 150, 3500, rng) * np.exp(-t / 0.02)
    return np.tanh(1.6 * wave) * fades(len(t), 0.001, 0.1)


def burst(seconds: float, low: float, high: float, rng: np.random.Generator) -> F64:
    """Noise that dies to 1/e in `seconds`: tick, hat, shaker, cymbal."""
    wave = noise(7 * seconds, low, high, rng) * np.exp(-clock(7 * seconds) / seconds)
    return 0.3 * wave * fades(len(wave), 0.001, 0.01)


def clap(rng: np.random.Generator) -> F64:
    """Four bursts within 35 ms: hands never meet at once."""
    out = np.zeros(round(0.4 * RATE))
    for delay, level in ((0.0, 0.6), (0.011, 0.5), (0.021, 0.7), (0.032, 1.0)):
        hand = burst(0.045 if level == 1.0 else 0.008, 900, 4200, rng)
        at = round(delay * RATE)
        out[at:at + len(hand)] += level * hand
    return out


def riser(seconds: float, rng: np.random.Generator) -> F64:
    """Stereo noise whose band climbs from 300 Hz to 6 kHz while it swells."""
    t = clock(seconds) / seconds
    phase = 2 * np.pi * np.cumsum(300 * 20**t) / RATE
    sides = [noise(seconds, 40, 700, rng) * np.cos(phase + turn) for turn in (0.0, 1.3)]
    return 0.3 * np.array(sides) * t**2.5 * fades(len(t), 0.01, 0.03)


# --- desk: laying sounds down, room, master ---------------------------------------------------------------------------


def pan_gains(pan: float) -> F64:
    """(2,) equal-power gains; pan -1 left .. 1 right."""
    angle = (pan + 1) * np.pi / 4
    return np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])


@dataclass
class Desk:
    """Two stereo buses: what is heard directly, and what is sent into the room."""

    score: Score
    dry: F64 = field(init=False)
    room: F64 = field(init=False)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.dry, self.room = (np.zeros((2, round(self.score.duration * RATE))) for _ in range(2))
        self.rng = np.random.default_rng(self.score.seed)

    def lay(self, sound: F64, bar: float, beat: float, gain: float, pan: float = 0.0, send: float = 0.25) -> None:
        """Add a sound from bar and beat (both from 0) on. send: share that goes into the room as well."""
        at = round((bar * self.score.bar + beat * self.score.beat) * RATE)
        stereo = gain * (np.outer(pan_gains(pan), sound) if sound.ndim == 1 else sound)
        stereo = stereo[:, : self.dry.shape[1] - at]
        self.dry[:, at:at + stereo.shape[1]] += stereo
        self.room[:, at:at + stereo.shape[1]] += send * stereo

    def stop(self, bar: float) -> None:
        """Damp everything laid so far within 0.15 s from bar on; only the room rings on."""
        at, n = round(bar * self.score.bar * RATE), round(0.15 * RATE)
        damp = np.zeros(self.dry.shape[1] - at)
        damp[:n] = 0.5 + 0.5 * np.cos(np.pi * np.arange(n) / n)
        self.dry[:, at:] *= damp
        self.room[:, at:] *= damp

    def master(self, decay: float) -> F64:
        """(2, n): dry + room, saturated, at LOUDNESS_LUFS, limited, faded. decay: seconds to -60 dB of the room."""
        impulse = room_impulse(decay, self.rng)
        wet = signal.fftconvolve(self.room, impulse, axes=1)[:, : self.room.shape[1]]
        mix = self.dry + wet
        mix += 0.5 * signal.sosfilt(signal.butter(1, 1500, "highpass", fs=RATE, output="sos"), mix)  # a shelf: air
        mix = np.tanh(1.1 * mix / np.percentile(np.abs(mix), 99.9))  # only the loudest thousandth bends noticeably
        mix = signal.sosfilt(signal.butter(2, 28, "highpass", fs=RATE, output="sos"), mix)  # no DC, no rumble
        n = round(FADE_SECONDS * RATE)
        silent = RATE // 4
        mix[:, -n - silent: -silent] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(n) / n)
        mix[:, -silent:] = 0.0
        peaks = measure_peaks(mix)
        out, gain = mix, 1.0
        for _ in range(4):  # the limiter takes a little loudness away: give it back
            gain *= 10 ** ((LOUDNESS_LUFS - loudness(out)) / 20)
            out = limit(gain * mix, gain * peaks)
        return out


def room_impulse(decay: float, rng: np.random.Generator) -> F64:
    """(2, n) impulse response: dense noise, highs die three times as fast as lows, sides independent, unit energy."""
    t = clock(decay)
    sides = []
    for _ in range(2):
        bands = [(90, 500, 1.0, 1.0), (500, 2500, 0.7, 0.8), (2500, 9000, 0.35, 0.45)]
        side = sum(level * noise(decay, low, high, rng) * 10 ** (-3 * t / (decay * share))
                   for low, high, share, level in bands)
        sides.append(side * fades(len(t), 0.012, 0.05))  # the rise is the way to the nearest wall
    impulse = np.array(sides)
    return impulse / np.sqrt((impulse**2).sum() / 2)


def measure_peaks(samples: F64) -> F64:
    """(n,) true peak around each sample: 4 x oversampled, the larger of both sides."""
    fine = np.abs(signal.resample_poly(samples, 4, 1, axis=1)).max(axis=0)
    return np.maximum(fine.reshape(-1, 4).max(axis=1), np.abs(samples).max(axis=0))


def limit(samples: F64, peaks: F64) -> F64:
    """Look-ahead limiter: peaks (n,) stay under CEILING_DBFS, the gain moves within 40 ms."""
    window = round(0.04 * RATE) | 1
    need = np.minimum(1.0, 10 ** (CEILING_DBFS / 20) / np.maximum(peaks, 1e-9))
    need = np.pad(ndimage.minimum_filter1d(need, window), window // 2, mode="edge")
    hann = signal.windows.hann(window)
    # the smoothing window is no wider than the minimum's: the smoothed gain is never above what any peak needs
    return samples * signal.fftconvolve(need, hann / hann.sum(), mode="valid")


def loudness(samples: F64) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4: K weighting at 48 kHz, 400 ms blocks, both gates)."""
    shelf = signal.lfilter((1.53512485958697, -2.69169618940638, 1.19839281085285),
                           (1.0, -1.69065929318241, 0.73248077421585), samples)
    power = np.cumsum(signal.lfilter((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621), shelf) ** 2, axis=1)
    block, hop = int(0.4 * RATE), int(0.1 * RATE)
    ends = np.arange(block, power.shape[1], hop)
    blocks = ((power[:, ends] - power[:, ends - block]) / block).sum(axis=0)
    blocks = blocks[blocks > 10 ** ((-70 + 0.691) / 10)]
    return float(-0.691 + 10 * np.log10(blocks[blocks > 0.1 * blocks.mean()].mean()))


# --- the two pieces ---------------------------------------------------------------------------------------------------


def compose_dark_rise() -> F64:
    """Drones, an ostinato, big drums, brass swells, risers, a ticking clock. (2, n)"""
    s = DARK_RISE
    desk = Desk(s)
    rng = desk.rng
    last = s.bars
    big = drum(150, 42, 0.05, 0.55, 0.5, rng)
    boom = drum(70, 30, 0.25, 0.9, 0.15, rng)
    toms = [drum(1.9 * f, f, 0.03, 0.2, 0.3, rng) for f in (68, 84, 105)]
    tick, tock = burst(0.012, 6500, 12000, rng), burst(0.016, 4200, 8000, rng)
    crash = burst(0.9, 3500, 14000, rng)
    low = lead(s.chords, 50, 69, 4)
    high = lead(s.chords, 69, 86, 4)
    for bar, chord in enumerate(s.chords[:-1]):
        part, root = s.section(bar), root_of(chord, 33)
        into = bar - s.sections[part]  # bars into the section
        if part == "stop-down":
            desk.stop(bar)
            for eighth in range(8):
                desk.lay(tick if eighth % 2 == 0 else tock, bar, eighth / 2, 0.5, 0.3, 0.8)
            desk.lay(strings((57, 69), s.bar - 0.5, 700.0, rng, 0.3), bar, 0, 0.10)
            desk.lay(riser(s.bar, rng), bar, 0, 0.30, send=0.1)
            continue
        base, growth = {"opening": (0.30, 0.03), "set-up": (0.45, 0.02), "escalation": (0.62, 0.03), "climax": (1, 0)}[part]
        level = base + growth * into
        # the drone breathes under everything
        desk.lay(strings((26, 38), s.bar, 180.0 + 300 * level, rng, 0.35), bar, 0, 0.55 * level)
        attack = 0.5 if part == "opening" else 0.15
        desk.lay(strings(low[bar], s.bar, 500 + 1600 * level, rng, attack), bar, 0, 0.60 * level)
        for sixteenth in range(16):  # the clock: eighths, then sixteenths
            if sixteenth % (4 if part == "opening" else 2 if part == "set-up" else 1) == 0:
                accent = 1.0 if sixteenth % 4 == 0 else 0.55
                desk.lay(tick if sixteenth % 4 == 0 else tock, bar, sixteenth / 4, 0.34 * level * accent,
                         0.5 if sixteenth % 4 else -0.3, 0.4)
        if part == "opening":
            if bar % 2 == 0:
                desk.lay(boom, bar, 0, 0.42, send=0.5)
                desk.lay(bar_chime(86 if bar else 81, ((1, 1, 0.9), (2.0, 0.25, 0.5))), bar, 2, 0.035, -0.4, 0.9)
            continue
        for eighth in range(8):  # the pulse
            accent = 1.0 if eighth % 2 == 0 else 0.6
            desk.lay(staccato(root + (12 if eighth in (3, 6) else 0), 0.5 * s.beat, 500 + 900 * level), bar, eighth / 2,
                     0.52 * level * accent, send=0.08)
        if part == "set-up":
            desk.lay(big, bar, 0, 0.55, send=0.35)
            if into >= 4:
                desk.lay(toms[0], bar, 2, 0.35, -0.2, 0.35)
                desk.lay(toms[0], bar, 3.5, 0.25, 0.2, 0.35)
                for quarter in range(4):
                    desk.lay(staccato(low[bar][quarter], s.beat, 1500.0), bar, quarter + 0.5, 0.20, 0.6, 0.4)
            if into == 7:
                desk.lay(brass((root_of(chord, 45), root_of(chord, 45) + 7), s.bar, rng), bar, 0, 0.22, send=0.3)
            continue
        # escalation and climax: sixteenths above, drums below
        top = high[bar] if part == "climax" or into >= 4 else low[bar]
        for sixteenth, voice in enumerate((0, 2, 1, 2, 3, 2, 1, 2) * 2):
            accent = 1.0 if sixteenth % 4 == 0 else 0.62
            desk.lay(staccato(top[voice], 0.40 * s.beat, 3600.0), bar, sixteenth / 4, 0.42 * level * accent,
                     0.55 if sixteenth % 2 else -0.55, 0.3)
        desk.lay(big, bar, 0, 0.85 * level, send=0.35)
        for beat, which, gain in ((1.0, 1, 0.35), (1.5, 0, 0.5), (2.0, 0, 0.7), (3.0, 1, 0.5), (3.5, 2, 0.55)):
            desk.lay(toms[which], bar, beat, gain * level, 0.35 * (which - 1), 0.3)
        if part == "escalation" and into % 2 == 1:
            desk.lay(brass([p - 12 for p in low[bar]], s.bar, rng), bar, 0, 0.26 * level, send=0.3)
        if part == "escalation" and into >= 6:
            desk.lay(riser(2 * s.bar, rng), bar, 0, 0.55) if into == 6 else None
            for sixteenth in range(16 if into == 7 else 0):
                desk.lay(toms[sixteenth // 6], bar, sixteenth / 4, 0.15 + 0.03 * sixteenth, 0.0, 0.2)
        if part == "climax":
            desk.lay(crash, bar, 0, 0.42 if into % 2 == 0 else 0.25, 0.3, 0.3)
            desk.lay(big, bar, 2, 0.8, send=0.35)
            for beat, length in ((0, 1.5), (2, 1.0), (3, 1.0)):
                chord_hit = strings([p - 12 for p in low[bar]] + [low[bar][0] - 24], length * s.beat, 2600.0, rng, 0.02)
                desk.lay(np.tanh(3 * chord_hit), bar, beat, 0.34, send=0.25)
            desk.lay(strings([high[bar][3], high[bar][1]], s.bar, 4000.0, rng, 0.2), bar, 0, 0.42)
    desk.lay(big, last, 0, 1.2, send=0.7)
    desk.lay(boom, last, 0, 1.1, send=0.3)
    desk.lay(crash, last, 0, 0.6, -0.2, 0.5)
    braam = strings((26, 38, 45, 50, 57), 1.3, 1900.0, rng, 0.01)
    desk.lay(np.tanh(3 * braam) * np.exp(-clock(1.7) / 0.6), last, 0, 0.8, send=0.5)
    return desk.master(decay=3.2)


def compose_bright_step() -> F64:
    """Marimba arpeggios, bass, kicks and claps, a glockenspiel tune, warm pads. (2, n)"""
    s = BRIGHT_STEP
    desk = Desk(s)
    rng = desk.rng
    last = s.bars
    kick = drum(160, 52, 0.025, 0.16, 0.15, rng)
    hands = [clap(rng) for _ in range(3)]
    hat, shaker = burst(0.025, 7000, 15000, rng), burst(0.04, 5000, 11000, rng)
    crash = burst(0.8, 4500, 15000, rng)
    pads = lead(s.chords, 54, 74, 4)
    arps = lead(s.chords, 62, 83, 4)
    # the tune, as steps of D major above D6 for two bars at a time: (beat, step, level)
    degrees = (0, 2, 4, 5, 7, 9, 11)
    tune = {0: ((0, 4, 1.0), (1.5, 5, 0.8), (2, 4, 0.9), (3, 2, 0.8)), 1: ((0, 1, 1.0), (1.5, 2, 0.8), (2.5, 4, 0.8)),
            2: ((0, 3, 1.0), (1, 2, 0.8), (2, 1, 0.9), (3, 3, 0.7)),
            3: ((0, 3, 1.0), (1.5, 1, 0.8), (2, 6, 0.9), (3, 4, 0.7))}
    for bar, chord in enumerate(s.chords[:-1]):
        part, root = s.section(bar), root_of(chord, 33)
        into = bar - s.sections[part]
        if part == "stop-down":
            desk.stop(bar)
            desk.lay(strings(pads[bar], s.bar - 0.4, 900.0, rng, 0.3), bar, 0, 0.20)
            for beat, pitch in ((2.0, 81), (2.5, 83), (3.0, 85), (3.5, 88)):
                desk.lay(glockenspiel(pitch + 12), bar, beat, 0.12, 0.2, 0.5)
            continue
        base, growth = {"opening": (0.42, 0.02), "set-up": (0.55, 0.02), "escalation": (0.72, 0.025), "climax": (1, 0)}[part]
        level = base + growth * into
        attack = 0.6 if part == "opening" else 0.2
        desk.lay(strings(pads[bar], s.bar, 500 + 1500 * level**2, rng, attack), bar, 0, 0.62 * level)
        if part == "opening":
            for beat, voice in ((0, 0), (1, 2), (2, 1), (3, 3)):
                desk.lay(marimba(arps[bar][voice]), bar, beat, 0.16 + 0.02 * into, 0.4 - 0.25 * voice, 0.5)
            if bar % 2 == 1:
                desk.lay(glockenspiel(arps[bar][2] + 12), bar, 2, 0.07, 0.5, 0.7)
            continue
        figure = (0, 2, 1, 3, 2, 1, 3, 2) if part == "set-up" else (0, 2, 1, 3, 2, 3, 1, 2) * 2
        for step, voice in enumerate(figure):
            on_beat = step % (len(figure) // 4) == 0
            desk.lay(marimba(arps[bar][voice]), bar, step * 4 / len(figure), 0.36 * level * (1.0 if on_beat else 0.6),
                     0.7 * (voice - 1.5) / 1.5, 0.2)
            if part == "climax" and on_beat:
                desk.lay(marimba(arps[bar][voice] + 12), bar, step * 4 / len(figure), 0.2, -0.5, 0.3)
        beats = {"set-up": (0, 2), "escalation": (0, 1, 2, 2.5, 3), "climax": (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5)}[part]
        for beat in beats:  # bass
            pitch = root + (7 if beat == 2.5 else 12 if beat == 3.5 else 0)
            held = s.beat * (1.6 if part == "set-up" else 0.9)
            desk.lay(staccato(pitch, held, 700.0), bar, beat, 0.62 * level, send=0.04)
        four = part == "climax" or (part == "escalation" and into >= 4)
        for beat in (0, 1, 2, 3) if four else (0, 2):
            desk.lay(kick, bar, beat, (0.75 if part == "set-up" else 0.95) * level, send=0.05)
        for eighth in range(8):
            sound, gain = (hat, 0.11) if eighth % 2 else (shaker, 0.16)
            desk.lay(sound, bar, eighth / 2, gain * level, 0.45, 0.1)
        if part != "set-up":
            for beat in (1, 3):
                desk.lay(hands[(bar + beat) % 3], bar, beat, 0.95 * level, -0.1, 0.3)
            for beat, step, gain in tune[into % 4]:
                pitch = 86 + 12 * (step // 7) + degrees[step % 7]
                desk.lay(glockenspiel(pitch), bar, beat, 0.20 * level * gain, 0.25, 0.45)
                if part == "climax":
                    desk.lay(staccato(pitch - 12, s.beat, 3500.0), bar, beat, 0.22 * gain, -0.3, 0.4)
        if part == "escalation" and into >= 6:
            desk.lay(riser(2 * s.bar, rng), bar, 0, 0.45) if into == 6 else None
            for sixteenth in range(16 if into == 7 else 0):
                desk.lay(hands[sixteenth % 3], bar, sixteenth / 4, 0.15 + 0.035 * sixteenth, 0.0, 0.2)
        if part == "climax":
            desk.lay(crash, bar, 0, 0.4 if into % 4 == 0 else 0.16, 0.4, 0.3)
            desk.lay(strings([p + 12 for p in pads[bar][1:]], s.bar, 3200.0, rng, 0.1), bar, 0, 0.5)
            for sixteenth in range(16):
                desk.lay(hat, bar, sixteenth / 4, 0.10, -0.5, 0.1)
    for pitch in (62, 66, 69, 74, 78, 86):
        desk.lay(marimba(pitch), last, 0, 0.35, (pitch - 74) / 14, 0.5)
        desk.lay(glockenspiel(pitch + 12), last, 0, 0.10, (74 - pitch) / 14, 0.6)
    chord_hit = strings((38, 50, 57, 62, 66, 69), 1.4, 2400.0, rng, 0.01)
    desk.lay(chord_hit * np.exp(-clock(1.8) / 0.7), last, 0, 1.3, send=0.5)
    for sound, gain in ((kick, 1.1), (hands[0], 0.8), (crash, 0.5)):
        desk.lay(sound, last, 0, gain, send=0.4)
    return desk.master(decay=2.4)


COMPOSERS = {"dark_rise": compose_dark_rise, "bright_step": compose_bright_step}


# --- files ------------------------------------------------------------------------------------------------------------


def encode_bed(samples: F64, path: Path, title: str) -> None:
    """Write (2, n) as Opus in Ogg: under its own name only when it is whole."""
    partial = path.with_suffix(".partial")
    # bitexact: no random stream number and no version text, so the same samples make the same file
    with av.open(str(partial), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        container.metadata.update({"title": title, "license": LICENCE})
        stream = container.add_stream("libopus", rate=RATE, layout="stereo", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).astype(np.float32), format="flt", layout="stereo")
        frame.sample_rate = RATE
        frame.pts = 0
        frame.time_base = Fraction(1, RATE)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    partial.replace(path)


def main(names: Sequence[str]) -> None:
    for name in names or list(SCORES):
        score = SCORES[name]
        samples = COMPOSERS[name]()
        encode_bed(samples, HERE / f"{name}.ogg", score.title)
        (HERE / f"{name}.json").write_text(json.dumps(score.facts(), indent=1) + "\n", encoding="utf-8")
        peak, size = 20 * np.log10(np.abs(samples).max()), (HERE / f"{name}.ogg").stat().st_size / 1e6
        print(f"{name}: {score.duration:.2f} s, {loudness(samples):.2f} LUFS, peak {peak:.2f} dBFS, {size:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
