"""Hear a finished trailer once, and hold its sound against the mix that its edit list asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from av.audio.frame import AudioFrame

from pipeline.blends import find_runs
from pipeline.records import F32, F64, Bool, Check
from pipeline.sound import MOST_JITTER, Resampler

SAMPLE_RATE = 16000  # Hz that sound is compared at
WINDOW = 0.1  # s
SILENCE_DB = -60.0
# Mix and file differ by one gain and by what the limiter takes of the loudest: this far under it the sound is gone
LOST_DB = 25.0
AUDIBLE_DB = -50.0  # of the mix, brought to the trailer's loudness: what may be lost below it nobody hears
LONGEST_LOST = 0.3  # s; AAC smears over 0.02 s, and a window is 0.1
PLACE, PLACES_APART = 3.0, 5.0  # s of sound that are looked for in the trailer, and from one place to the next
SEARCH = 0.4  # s around its place
LEAST_ALIKE = 0.5  # correlation; of the mix with itself after limiter and AAC it is over 0.9, of other music under 0.1
# Sound that repeats itself, a tone or a loop, fits at many places nearly as well: the one nearest to its own counts
AS_GOOD = 0.98
LEAST_SHARE = 0.5  # of the places at which the mix must be found


class Heard:
    """What was heard: level by window of WINDOW s from 0 on, and the first `keep` seconds, (n, 2) at SAMPLE_RATE."""

    def __init__(self, keep: float) -> None:
        self.samples: F32 = np.zeros((round(keep * SAMPLE_RATE), 2), np.float32)
        self.start: float | None = None
        self.end = 0.0
        self._resampler = Resampler(layout="stereo", rate=SAMPLE_RATE)
        self._clock: float | None = None  # time of the next sample out of the resampler
        self._sums: F64 = np.zeros(1024)

    def add(self, frame: AudioFrame) -> None:
        """Take the next frame, at its own time: holes stay silent."""
        if frame.time is None or not frame.samples:
            return
        self.start = frame.time if self.start is None else self.start
        self.end = max(self.end, frame.time + frame.samples / frame.sample_rate)
        if self._clock is None or abs(frame.time - self._clock) > MOST_JITTER:
            self._clock = frame.time
        frame.pts = None
        for block in self._resampler.resample(frame):
            self._take(np.nan_to_num(cast(F32, block.to_ndarray()).reshape(-1, 2)))

    def _take(self, block: F32) -> None:
        assert self._clock is not None
        first = round(self._clock * SAMPLE_RATE)
        self._clock += len(block) / SAMPLE_RATE
        low, high = max(0, first), min(len(self.samples), first + len(block))
        if high > low:
            self.samples[low:high] = block[low - first : high - first]
        own = block[max(0, -first) :]
        windows = (max(0, first) + np.arange(len(own))) // round(WINDOW * SAMPLE_RATE)
        if len(own):
            if windows[-1] >= len(self._sums):
                self._sums = np.concatenate([self._sums, np.zeros(max(len(self._sums), windows[-1]))])
            base = int(windows[0])
            sums = np.bincount(windows - base, weights=np.mean(own.astype(np.float64) ** 2, axis=1))
            self._sums[base : base + len(sums)] += sums

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return 0.0 if self.start is None else self.end - self.start

    @property
    def levels(self) -> F64:
        """RMS in dB of full scale of every whole window, (w,)."""
        power = self._sums[: int(self.end / WINDOW + 1e-6)] / round(WINDOW * SAMPLE_RATE)
        return 10 * np.log10(np.maximum(power, 1e-20))


def check_silence(heard: Heard, cards: Sequence[tuple[float, float]], most: float) -> Check:
    """The longest silence outside the cards, each (start, end) in seconds of trailer."""
    silent: Bool = heard.levels < SILENCE_DB
    for start, end in cards:
        silent[int(start / WINDOW) : int(np.ceil(end / WINDOW))] = False
    longest = _longest(silent) * WINDOW
    return Check("longest_silence_seconds", longest <= most + 1e-6, round(longest, 2), f"<= {most:g}")


def check_mix(heard: Heard, pictures_late: float, mix: F32, most: float) -> list[Check]:
    """Look for the mix (n, 2) at 48 kHz in the trailer's sound: is it in step with the pictures, and all there?

    pictures_late: s by which the pictures lie after their places. most: s of offset.
    """
    from scipy.signal import resample_poly

    own: F32 = np.asarray(resample_poly(mix, 1, 3, axis=0), np.float32)
    limit = f"<= {most:g} either way"
    found, looked = _find_places(own, heard.samples)
    offsets = [offset - pictures_late for offset in found]
    if not looked:
        return []  # a silent mix: the loudness says so
    if len(found) < LEAST_SHARE * looked:
        told = f"the mix is heard at {len(found)} of {looked} places"
        return [Check("sound_offset_seconds", False, told, limit)]
    worst = max(offsets, key=abs)
    return [
        Check("sound_offset_seconds", abs(worst) <= most, round(worst, 4), limit),
        _check_lost(heard, own),
    ]


def _find_places(own: F32, heard: F32) -> tuple[list[float], int]:
    """How late, in s, the mix is heard at each place where it is, and at how many it sounds."""
    found, looked = [], 0
    size, reach = round(PLACE * SAMPLE_RATE), round(SEARCH * SAMPLE_RATE)
    around = np.pad(heard, ((reach, reach + size), (0, 0)))
    for at in range(0, max(1, len(own) - size + 1), round(PLACES_APART * SAMPLE_RATE)):
        place = own[at : at + size]
        if 10 * np.log10(max(float(np.mean(place**2)), 1e-20)) < SILENCE_DB:
            continue
        looked += 1
        alike = _correlate(place, around[at : at + len(place) + 2 * reach])
        if alike.max() < LEAST_ALIKE:
            continue
        lags = np.flatnonzero(alike >= AS_GOOD * alike.max()) - reach
        found.append(float(lags[np.argmin(np.abs(lags))]) / SAMPLE_RATE)
    return found, looked


def _correlate(one: F32, other: F32) -> F64:
    """Normalised cross-correlation of (n, 2) with every stretch as long of (m, 2): (m - n + 1,), -1..1."""
    from scipy.signal import correlate

    mine, theirs = one.astype(np.float64), other.astype(np.float64)
    # side by side, not their mean: what is opposite on the two sides would cancel
    products = sum(correlate(theirs[:, side], mine[:, side], mode="valid", method="fft") for side in range(2))
    sums = np.concatenate([[0.0], np.cumsum(np.sum(theirs**2, axis=1))])
    power = np.maximum(sums[len(mine) :] - sums[: len(sums) - len(mine)], 1e-9)
    alike: F64 = products / np.sqrt(np.sum(mine**2) * power)
    return alike


def _check_lost(heard: Heard, own: F32) -> Check:
    """The longest stretch in which the mix sounds and the trailer does not; what lies past its end is a wrong length."""
    size = round(WINDOW * SAMPLE_RATE)
    whole = min(len(own), len(heard.samples), round(heard.end * SAMPLE_RATE)) // size
    wanted, got = (
        10 * np.log10(np.maximum(np.mean(sound[: whole * size].reshape(whole, -1) ** 2, axis=1), 1e-12))
        for sound in (own, heard.samples)
    )
    loud = wanted > wanted.max() - 30
    # the upper quarter's: there may be as much that is lost as is not, and the limiter holds down what is loud
    gain = float(np.quantile(got[loud] - wanted[loud], 0.75)) if loud.any() else 0.0
    lost = (wanted + gain > AUDIBLE_DB) & (got < wanted + gain - LOST_DB)
    longest = _longest(lost) * WINDOW
    return Check("lost_sound_seconds", longest <= LONGEST_LOST + 1e-6, round(longest, 2), f"<= {LONGEST_LOST}")


def _longest(flags: Bool) -> int:
    return max((end - start for start, end in find_runs(flags)), default=0)
