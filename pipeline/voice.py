"""Find where what is said begins and ends, so that no word of a line is cut: subtitles come early and late.

A detector says for every 10 ms whether somebody speaks. Silero's network knows a voice from music and noise; by energy
alone whatever stands out of the background counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from pipeline.choices import name_detector
from pipeline.errors import MissingDependencyError
from pipeline.records import F32, F64, Bool, Film, Span
from pipeline.settings import LineSettings
from pipeline.sound import read_sound

SAMPLE_RATE = 16000  # Hz that lines are listened to at
STEP = SAMPLE_RATE // 100  # samples a decision: 10 ms
STEP_SECONDS = STEP / SAMPLE_RATE
REACH_BEFORE, REACH_AFTER = 0.6, 0.8  # s around a subtitle in which its speech is looked for
LEAD = 0.5  # s heard beyond the reach: the network's run-up, and background to judge by
PAD_BEFORE, PAD_AFTER = 0.05, 0.1  # s left around the speech: a soft onset, and the room's ring
PAUSE = 0.2  # s; a shorter pause is within a word or between two words of one sentence
SHORTEST = 0.05  # s; a shorter sound is a click
APART = 0.3  # s; speech this near to the subtitle's span belongs to it though the two do not touch
NEAR = 0.25  # s around a subtitle's own end in which a quiet point is looked for when the speech runs on
DISTANCE_DB = 20.0  # per s that a quiet point lies off
QUIETER_DB = 6.0  # by which it must be quieter than the subtitle's own end, or that stays
# by energy
VOICED_BAND, HISS_BAND = (150.0, 4000.0), (4000.0, 7500.0)  # Hz; an s or an f has little in the first
WINDOW = 2 * STEP  # samples a level is measured over
FLOOR_SHARE = 0.1  # of the quietest windows: the background
OVER_FLOOR_DB = 8.0  # least; noise in this band strays about 2 dB from its mean in 30 ms
SHARE_OF_RANGE = 0.3  # of the way from background to speech, where the background is loud
UNDER_PEAK_DB = 35.0  # most; a quieter sound beside speech is none of its words
NO_SOUND_DB = -100.0
# by Silero's network
CHUNK = 512  # samples that it takes at once, 32 ms
LATE = 2  # chunks; by as much it finds a beginning late (up to 60 ms on the test films)
SPEAKS, GOES_ON = 0.5, 0.35  # probability at which speech begins, and under which it has ended (the package's own)

Detector = Callable[[F32], Bool]
"""Mono samples (n,) at 16 kHz -> for every 10 ms, (n // STEP,), whether somebody speaks; True: speech."""


def choose_detector(settings: LineSettings) -> Detector:
    """The detector that the settings ask for. Raises MissingDependencyError where one named is not installed."""
    return load_silero() if name_detector(settings).startswith("silero") else detect_energy


def refine_spans(
    film: Film, spans: Sequence[Span], limits: Sequence[Span], settings: LineSettings, stream_index: int | None
) -> tuple[Span, ...]:
    """The spans of subtitles, on the film's clock, moved onto what is said; see refine_span.

    limits: one a span: where the line before it ends and the line after it begins. stream_index: the sound
    track in the film's file; none: the first. Raises InputError where the film has no such track.
    """
    detector = choose_detector(settings)
    # beyond the film's ends there is no background to judge by
    heard = [
        Span(
            max(film.start, min(span.start - REACH_BEFORE - LEAD, film.end)),
            min(film.end, max(span.end + REACH_AFTER + LEAD, film.start)),
        )
        for span in spans
    ]
    pieces = read_sound(film.path, heard, sample_rate=SAMPLE_RATE, channels=1, stream_index=stream_index, speech=True)
    return tuple(
        refine_span(piece[:, 0], part.start, span, detector, limits=limit)
        for piece, part, span, limit in zip(pieces, heard, spans, limits, strict=True)
    )


def refine_span(samples: F32, start_of_samples: float, span: Span, detector: Detector, *, limits: Span) -> Span:
    """Move the ends of a subtitle's span onto the speech, so that no word is cut and little silence is kept.

    samples (n,): mono at 16 kHz, from start_of_samples seconds on, on the clock of the span; best 1.1 s before the span
    to 1.3 s after it. limits: no end is moved out beyond them; one that lies beyond is not moved out at all. An end at
    which somebody goes on speaking beyond the reach stays where it is, or goes to the quietest point near it. Without
    speech the span comes back as it is.
    """
    steps = len(samples) // STEP
    low = max(span.start - REACH_BEFORE, min(limits.start, span.start), start_of_samples)
    high = min(span.end + REACH_AFTER, max(limits.end, span.end), start_of_samples + steps * STEP_SECONDS)
    if not steps or high - low < STEP_SECONDS:
        return span
    levels = measure_levels(samples)
    first, last = _step_at(low - start_of_samples, steps), _step_at(high - start_of_samples, steps)
    speech = _tidy(detector(samples))[first:last]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], speech, [False]]).astype(np.int8))) + first
    runs = [
        (start, end)
        for start, end in edges.reshape(-1, 2).tolist()
        if start_of_samples + end * STEP_SECONDS > span.start - APART
        and start_of_samples + start * STEP_SECONDS < span.end + APART
    ]
    runs = _leave_out_strangers(runs, first, last, span, start_of_samples)
    if not runs:
        return span
    begins, ends = runs[0][0], runs[-1][1]
    if begins > first:
        start = start_of_samples + begins * STEP_SECONDS - PAD_BEFORE
    else:
        start = _quiet_point(levels, start_of_samples, span.start, low, high)
    if ends < last:
        end = start_of_samples + ends * STEP_SECONDS + PAD_AFTER
    else:
        end = _quiet_point(levels, start_of_samples, span.end, low, high)
    start, end = max(low, start), min(high, end)
    return Span(start, end) if end - start > SHORTEST else span


def _leave_out_strangers(
    runs: list[tuple[int, int]], first: int, last: int, span: Span, start_of_samples: float
) -> list[tuple[int, int]]:
    """Runs without those that lie outside the subtitle's span and go on beyond the reach: somebody else's words."""
    own_start, own_end = ((t - start_of_samples) / STEP_SECONDS for t in (span.start, span.end))
    return [
        (start, end)
        for start, end in runs
        if not (start <= first and end <= own_start) and not (end >= last and start >= own_end)
    ]


def _step_at(seconds: float, steps: int) -> int:
    return min(steps, max(0, round(seconds / STEP_SECONDS)))


def _tidy(speech: Bool) -> Bool:
    """Short pauses closed, clicks left out."""
    tidy = speech.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], tidy, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2).tolist()
    for (_, end), (start, _) in pairwise(runs):
        if (start - end) * STEP_SECONDS < PAUSE:
            tidy[end:start] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], tidy, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2).tolist():
        if (end - start) * STEP_SECONDS < SHORTEST:
            tidy[start:end] = False
    return tidy


def _quiet_point(levels: F64, start_of_samples: float, end: float, low: float, high: float) -> float:
    """A subtitle's own end, on its clock, or the quietest point near it that is clearly quieter."""
    times = start_of_samples + (np.arange(len(levels)) + 0.5) * STEP_SECONDS
    near = np.flatnonzero((np.abs(times - end) <= NEAR) & (times >= low) & (times <= high))
    if not len(near):
        return end
    cost = levels[near] + DISTANCE_DB * np.abs(times[near] - end)
    best, own = near[np.argmin(cost)], near[np.argmin(np.abs(times[near] - end))]
    return float(times[best]) if levels[best] <= levels[own] - QUIETER_DB else end


def measure_levels(samples: F32, band: tuple[float, float] = VOICED_BAND) -> F64:
    """Level within a band (Hz) per 10 ms, (n // STEP,), in dB of full scale, over 30 ms around it."""
    steps = len(samples) // STEP
    if not steps:
        return np.zeros(0)
    padded = np.pad(samples[: steps * STEP].astype(np.float64), (WINDOW - STEP) // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    taper = np.hanning(WINDOW)
    spectrum = np.abs(np.fft.rfft(windows * taper, axis=1)) ** 2 * (2 / WINDOW / np.sum(taper**2))
    frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    power = spectrum[:, (frequencies >= band[0]) & (frequencies < band[1])].sum(axis=1)
    smooth = np.convolve(np.pad(power, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    return np.asarray(10 * np.log10(np.maximum(smooth, 10 ** (NO_SOUND_DB / 10))), np.float64)


def detect_energy(samples: F32) -> Bool:
    """Speech is what stands out of the background, in the band of voices or in that of hissed sounds."""
    voiced, hissed = (measure_levels(samples, band) for band in (VOICED_BAND, HISS_BAND))
    if not len(voiced):
        return np.zeros(0, np.bool_)
    peak = float(np.percentile(voiced, 95))
    return np.asarray((voiced > _threshold(voiced, peak)) | (hissed > _threshold(hissed, peak)), np.bool_)


def _threshold(levels: F64, peak: float) -> float:
    """Level in dB between the background of these levels and the peak of the speech."""
    quietest = np.sort(levels)[: max(1, round(FLOOR_SHARE * len(levels)))]
    floor = float(quietest.mean())
    over = max(OVER_FLOOR_DB, SHARE_OF_RANGE * min(peak - floor, UNDER_PEAK_DB))
    return max(floor + over, peak - UNDER_PEAK_DB)


def load_silero() -> Detector:
    """Silero's network, with the weights that its package carries. Raises MissingDependencyError where it is absent."""
    import torch

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad
    except ImportError as error:
        raise MissingDependencyError("silero-vad is absent: pip install 'trailer-pipeline[vad]'") from error
    finally:
        torch.set_num_threads(threads)  # the package sets it to one for the whole process
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package loads TorchScript, which torch deprecates
        network = load_silero_vad()

    def detect(samples: F32) -> Bool:
        chunks = -(-len(samples) // CHUNK)
        padded = torch.from_numpy(np.pad(samples.astype(np.float32), (0, chunks * CHUNK - len(samples))))
        network.reset_states()
        with torch.inference_mode():
            voiced = [float(network(part, SAMPLE_RATE).item()) for part in torch.split(padded, CHUNK)] if chunks else []
        return _spread(np.array(voiced), len(samples) // STEP)

    return detect


def _spread(probability: F64, steps: int) -> Bool:
    """The network's probabilities, one a chunk, as decisions every 10 ms; it must fall well to end what it began."""
    if not steps:
        return np.zeros(0, np.bool_)
    speaking, decided = False, np.zeros(len(probability), np.bool_)
    for number, value in enumerate(probability):
        before, speaking = speaking, bool(value >= (GOES_ON if speaking else SPEAKS))
        decided[number] = speaking
        if speaking and not before:
            decided[max(0, number - LATE) : number] = True
    middles = (np.arange(steps) * STEP + STEP // 2) // CHUNK
    return np.asarray(decided[middles], np.bool_)
