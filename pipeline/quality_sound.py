"""Measure whether a finished trailer's lines are heard: where they should be, whole, and over all else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.errors import InputError
from pipeline.quality_mix import SAMPLE_RATE, Heard
from pipeline.records import F32, F64, Check, EditList, Film
from pipeline.settings import SoundSettings
from pipeline.sound import read_lines

SEARCH = 0.25  # s around its place in which a line is looked for
OFFSET_WITHIN = 0.02  # s; from 45 ms on a viewer sees that sound leads the picture (ITU-R BT.1359)
LEAST_SHARE = 0.25  # of the sound's power that the line must explain; of what is not there it explains about 0.01
LEAST_OVER_DB = 6.0  # the mix aims at 10 over the music; the film's own sound, the limiter and AAC take their part
AIM_MARGIN_DB = 4.0  # the same, for whoever aims lower than 10
NOT_THERE_DB = -100.0  # of a line without sound
TAPS = 17  # of the filter that fits the line to the trailer: half a millisecond to each side
FIT_SECONDS = 0.1  # s that are fitted at once: the limiter lets go within 60 ms, so its gain moves within a line


@dataclass(frozen=True, slots=True)
class Found:
    """How a line is heard. offset: s after its place; share: of the power there that it explains, 0..1; over_db: its level
    over all else in its span."""

    offset: float
    share: float
    over_db: float


def check_lines(heard: Heard, edit: EditList, film: Film, settings: SoundSettings) -> list[Check]:
    """Look for the source of each placed line in the trailer's sound around its place."""
    limit = f"all within {1000 * OFFSET_WITHIN:.0f} ms"
    least = min(LEAST_OVER_DB, settings.line_over_music_db - AIM_MARGIN_DB)
    try:
        found = list(_listen(heard.samples, edit, film, settings))
    except InputError as error:
        return [Check("lines_heard", False, str(error), limit)]
    there = sum(line.share >= LEAST_SHARE and abs(line.offset) <= OFFSET_WITHIN for line in found)
    over = min(line.over_db for line in found)
    return [
        Check("lines_heard", there == len(found), f"{there} of {len(found)}", limit),
        Check("line_over_music_db", over >= least, round(over, 1), f">= {least:g}"),
    ]


def _listen(samples: F32, edit: EditList, film: Film, settings: SoundSettings) -> Iterator[Found]:
    """samples (n, 2): the trailer's sound at SAMPLE_RATE from its beginning on."""
    length = float(edit.output.frames / edit.output.frame_rate)
    reach = round(SEARCH * SAMPLE_RATE)
    sources = read_lines(edit.narration, film, settings.language, sample_rate=SAMPLE_RATE, channels=2)
    for placement, source in zip(edit.narration, sources, strict=True):
        start = float(placement.start_frame / edit.output.frame_rate)
        said = source[: max(0, round((length - start) * SAMPLE_RATE))]
        first = round((start - SEARCH) * SAMPLE_RATE)
        around = np.zeros((len(said) + 2 * reach, 2), np.float32)
        there = samples[max(0, first) : max(0, first + len(around))]
        around[max(0, -first) : max(0, -first) + len(there)] = there
        yield find_line(said, around)


def find_line(said: F32, around: F32) -> Found:
    """A line's own sound (n, 2) in the trailer's sound (m, 2) from SEARCH seconds before its place to as long after its end.

    The place is where the normalised cross-correlation is highest; there the line, through a short filter, is fitted by
    least squares to each side, and what is left over is all else.
    """
    from scipy.signal import correlate

    one, other = said.astype(np.float64), around.astype(np.float64)
    own = float(np.sum(one**2))
    if not len(one) or len(one) > len(other) or own < 1e-12:
        return Found(0.0, 0.0, NOT_THERE_DB)
    # side by side, not their mean: what is opposite on the two sides would cancel
    products = sum(correlate(other[:, side], one[:, side], mode="valid", method="fft") for side in range(2))
    sums = np.concatenate([[0.0], np.cumsum(np.sum(other**2, axis=1))])
    power = np.maximum(sums[len(one) :] - sums[: -len(one)], 1e-12)
    alike = products / np.sqrt(own * power)
    best = int(np.argmax(alike))
    share = max(0.0, float(alike[best])) ** 2
    return Found(best / SAMPLE_RATE - SEARCH, share, _measure_over(said, around[best : best + len(said)]))


def _measure_over(said: F32, heard: F32) -> float:
    """Level in dB of what the line (n, 2) explains of the trailer's sound there (n, 2) over what it does not."""
    reach = TAPS // 2
    explained, rest = 0.0, 0.0
    for side in range(2):
        shifted = np.lib.stride_tricks.sliding_window_view(np.pad(said[:, side].astype(np.float64), reach), TAPS)
        target: F64 = heard[:, side].astype(np.float64)
        for at in range(0, len(target), round(FIT_SECONDS * SAMPLE_RATE)):
            part = slice(at, at + round(FIT_SECONDS * SAMPLE_RATE))
            fit = shifted[part] @ np.linalg.lstsq(shifted[part], target[part], rcond=1e-6)[0]
            explained += float(fit @ fit)
            rest += float(np.sum((target[part] - fit) ** 2))
    return max(NOT_THERE_DB, 10 * float(np.log10(max(explained, 1e-12) / max(rest, 1e-12))))
