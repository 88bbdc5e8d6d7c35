"""Measure how loud a sound is to the ear, in LUFS: ITU-R BS.1770-5, annex 1."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import numpy as np

from pipeline.errors import MediaError
from pipeline.media import run_ffmpeg
from pipeline.records import F32, F64

RATE = 48000  # Hz; the filters' coefficients hold at this rate alone
# tables 1 and 2 of BS.1770: the head as a shelf, and the curve of low sounds
SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
OFFSET_LUFS = -0.691  # equation 2: a sine of 997 Hz at full scale on one side is -3.01 LUFS
BLOCK, HOP = round(0.4 * RATE), round(0.1 * RATE)  # samples: blocks of 400 ms that overlap by three quarters
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
SILENT_LUFS = -np.inf


def measure_samples(samples: F32) -> float:
    """Gated loudness of (n, channels) at 48 kHz in LUFS, left and right of equal weight; -inf where all is silent.

    What is shorter than a block of 400 ms is one block.
    """
    from scipy.signal import lfilter

    if not len(samples):
        return SILENT_LUFS
    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples.astype(np.float64), axis=0), axis=0)
    power = cast(F64, np.sum(weighted**2, axis=1))
    if len(power) < BLOCK:
        blocks = np.array([power.mean()])
    else:
        sums = np.concatenate([[0.0], np.cumsum(power)])
        starts = np.arange(0, len(power) - BLOCK + 1, HOP)
        blocks = np.maximum((sums[starts + BLOCK] - sums[starts]) / BLOCK, 0.0)
    loud = blocks[blocks > _to_power(ABSOLUTE_GATE_LUFS)]
    if not len(loud):
        return SILENT_LUFS
    loud = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return float(OFFSET_LUFS + 10 * np.log10(loud.mean()))


def _to_power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_LUFS) / 10))


def measure_loudness(program: Path, source: list[str], timeout: float) -> tuple[float, float]:
    """Integrated loudness in LUFS and true peak in dBTP (EBU R128, by ffmpeg's ebur128) of ffmpeg's input arguments."""
    listen = ["-map", "0:a:0", "-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-"]
    log_text = run_ffmpeg(program, ["-v", "info", *source, *listen], timeout=timeout)
    summary = log_text[log_text.rfind("Summary:") :]
    loudness = re.search(r"I:\s+(-?[\d.]+|-?inf|nan) LUFS", summary)
    peak = re.search(r"Peak:\s+(-?[\d.]+|-?inf|nan) dBFS", summary)
    if loudness is None or peak is None:
        raise MediaError("ffmpeg's ebur128 gave no loudness", source, summary[-500:])
    return float(loudness[1]), float(peak[1])
