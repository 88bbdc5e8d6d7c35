"""Measure how loud a film is, moment by moment and band by band."""

from __future__ import annotations

import numpy as np

from pipeline.records import F32, F64
from pipeline.sound import LONGEST_GAP, Sound

SAMPLE_RATE = 16000  # Hz that the film's sound is listened to at
SOUND_STEP = 0.1  # s per window of sound levels
BAND_EDGES = (0.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # Hz, octaves
WINDOW = round(SOUND_STEP * SAMPLE_RATE)  # samples
LOUDEST = 8.0  # full scale = 1; floating-point sound may hold anything
AT_ONCE = 20 * WINDOW  # samples that are kept before they are measured together


class Levels:
    """Adds up sound power per window and band, each sample in the window that its time says."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._pending: list[F32] = []
        self._count = 0  # samples pending
        self._at = 0  # sample number of the first pending one, counted from _start
        self._numbers: list[int] = []  # window number of the first row of each block
        self._blocks: list[F32] = []
        frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
        self._edges = np.searchsorted(frequencies, BAND_EDGES)
        self._taper = np.hanning(WINDOW).astype(np.float32)
        self._scale = 2.0 / float(np.sum(self._taper) ** 2 / np.sum(self._taper**2)) / WINDOW

    def add(self, sound: Sound) -> None:
        """Take a block of mono samples at SAMPLE_RATE, in the order of the file."""
        if self._start is None:
            self._start = sound.time
        samples = sound.samples
        at = round((sound.time - self._start) * SAMPLE_RATE)
        if at - self._at - self._count > LONGEST_GAP * SAMPLE_RATE:  # a wild timestamp, and not silence to be kept
            return
        if abs(at - self._at - self._count) > WINDOW // 2:  # a hole, or a jump back: start anew on the window grid
            self._measure()
            self._at = max(0, -(-at // WINDOW) * WINDOW)
            samples = samples[self._at - at :]
            self._pending, self._count = [], 0
        self._pending.append(samples)
        self._count += len(samples)
        if self._count >= AT_ONCE:
            self._measure()

    def _measure(self) -> None:
        """Measure the whole windows that are pending; a begun one stays."""
        whole = self._count // WINDOW
        if not whole:
            return
        samples = np.concatenate(self._pending)
        blocks = samples[: whole * WINDOW].reshape(whole, WINDOW)
        power = (
            np.abs(np.fft.rfft(np.clip(np.nan_to_num(blocks), -LOUDEST, LOUDEST) * self._taper, axis=1)) ** 2
            * self._scale
        )
        levels: F64 = np.add.reduceat(power, self._edges, axis=1)
        self._numbers.append(self._at // WINDOW)
        self._blocks.append(np.sqrt(levels).astype(np.float32))
        self._pending = [samples[whole * WINDOW :]]
        self._count -= whole * WINDOW
        self._at += whole * WINDOW

    def finish(self) -> tuple[F32, float]:
        """RMS (w, bands), and the time of window 0 on the film's clock."""
        self._measure()
        if not self._blocks or self._start is None:
            return np.zeros((0, len(BAND_EDGES)), np.float32), 0.0
        pairs = list(zip(self._numbers, self._blocks, strict=True))
        levels = np.zeros((max(number + len(block) for number, block in pairs), len(BAND_EDGES)), np.float32)
        for number, block in pairs:
            levels[number : number + len(block)] = block
        return levels, self._start
