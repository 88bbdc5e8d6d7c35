"""Cut a track into segments, one trailer slot each.

Published (section 8 of the method): onset strength with hop 256 -> tempogram -> change points by ruptures' KernelCPD
with the linear kernel, int(duration / 2) - 1 of them. Here they are then moved to where the ear hears an accent, and
the lengths follow the loudness: long where the music is quiet, down to a beat where it is loud. What is ours and not
the paper's is marked **choice**.

Everything is a pure function of arrays; decode.py reads the file. A frame is one hop of the onset strength (11.6 ms).
Times are seconds from the start of the used part of the track.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np

from models.lock import hold_lock
from pipeline.errors import InputError
from pipeline.records import F32, F64, I64, SAME_TIME, Bool, Segments, Span, Track
from pipeline.settings import ASSETS, MusicSettings

RATE = 22050  # samples/s that the analysis runs at
HOP = 256  # published
FRAME_RATE = RATE / HOP
TEMPOGRAM_FRAMES = 384  # librosa's window: 4.5 s of onset strength
COARSE_FRAMES = 8  # frames a tempogram column: 93 ms
MOST_COLUMNS = 1600  # KernelCPD takes 0.4 s for as many with 300 change points, and four times that for twice as many
SHORTEST_TRACK = 4.0  # s; less holds no tempogram window
SILENT_PEAK = 1e-4  # -80 dBFS
RANGE_DB = 60.0  # quieter than this below the loudest is not heard
QUIET_DB = 35.0  # changes below this under the loudest are no events: a tail that dies away is one thing
CLEAR_PULSE = 0.15  # least autocorrelation of the onsets for beats; noise and steady tones reach 0.10, music 0.4
APART = 0.1  # s; onsets closer than this to a beat are the beat
FINE_WINDOW, FINE_HOP = 512, 64  # samples, for the exact place of an accent: 23 and 2.9 ms
EARLY, LATE = 0.07, 0.03  # s around a coarse accent in which its attack lies: librosa's is 10 to 40 ms late
LEAD = 0.01  # s before an accent at which the sound before it ends
LONGEST = 3.0  # times the mean length: longer segments are split
LEAST = 0.4  # share of the mean length that a segment must have by the clock of place_edges
PACE, PACE_DB = 4.0, 8.0  # segments are 4 times shorter 8 dB above the median loudness, as many times longer 8 dB below
PEAK_STRENGTH = 0.8  # of an accent that nobody should speak into: 1 is as loud as the loudest tenth of the onsets
NO_ACCENT = 0.05  # worth of a cut where nothing is heard, against an accent's 0.1 to 3
OFFSET_REACH = 2.0  # s around the ideal start of a part in which an accent to start on is looked for


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard in (part of) a track.

    tempogram (columns, 384): rhythm, a column every `every` frames. loudness (f,): RMS over 0.2 s per frame, in dB
    below the loudest. beats (b,): s. accents (a,): s, beats and strong onsets between them, increasing. strength (a,):
    0.1 a beat that nothing is played on, 1 a strong onset, up to 3 where the music starts or stops.
    """

    tempogram: F64
    every: int
    loudness: F64
    beats: F64
    accents: F64
    strength: F64


def segment_music(
    track: Track,
    samples: F32,
    sample_rate: int,
    settings: MusicSettings,
    *,
    length: float | None = None,
    offset: float = 0.0,
) -> Segments:
    """Cut `length` seconds of a track, from `offset` seconds on, into segments for a trailer's slots.

    samples: the whole track, mono (n,), at sample_rate. length: none takes all from offset on. The spans cover
    [0, length) exactly: the last segment ends there, whatever the music does (choose_offset finds a part that ends as
    the track ends). Where there is no accent to hold on to the grid is even.
    Raises InputError for a track shorter than 4 s or than what is asked of it, or with samples that are not numbers.
    """
    duration = len(samples) / sample_rate
    bad = ~np.isfinite(samples)
    if bad.any():
        raise InputError(
            f"{track.path} decodes to samples that are not numbers, the first at {np.argmax(bad) / sample_rate:.2f} s: "
            "convert it to WAV or FLAC, or take other music"
        )
    if duration < SHORTEST_TRACK:
        raise InputError(f"{track.path} lasts {duration:.2f} s; music must last at least {SHORTEST_TRACK:g} s")
    length = duration - offset if length is None else length
    if offset < 0 or length > duration - offset + SAME_TIME:
        after = f" from {offset:.2f} s on" if offset else ""
        raise InputError(
            f"{track.path} lasts {duration:.2f} s and cannot fill {length:.2f} s{after}: "
            "ask for a shorter trailer, or take longer music"
        )
    if length < SHORTEST_TRACK:
        raise InputError(f"{length:.2f} s of music are asked for; the least is {SHORTEST_TRACK:g} s")
    first = round(offset * sample_rate)
    part = samples[first : first + ceil(length * sample_rate)]
    hearing = listen(part, sample_rate)
    # int(duration / mean) - 1 change points, as published, make int(duration / mean) segments
    count = max(1, min(int(length / settings.mean_seconds), int(length / settings.min_seconds)))
    edges = np.linspace(0, length, count + 1)
    if len(hearing.accents):
        edges = place_edges(hearing, find_changes(hearing, count, settings.min_seconds), length, count, settings)
    spans = tuple(Span(float(a), float(b)) for a, b in pairwise(edges))
    beats = hearing.beats[hearing.beats < length]
    peaks = hearing.accents[(hearing.strength >= PEAK_STRENGTH) & (hearing.accents < length)]
    return Segments(track, spans, rank_loudness(part, sample_rate, spans), beats, offset, peaks)


# --- hearing ----------------------------------------------------------------------------------------------------------


def listen(samples: F32, sample_rate: int) -> Hearing:
    """Rhythm, loudness, beats and accents of (n,) finite samples.

    One process of this user at a time: librosa's compiled functions are kept on disk at first use, and two processes that
    compile them at once leave a cache that crashes every later process (numba's cached gufuncs; seen as a segmentation
    fault in librosa.beat).
    """
    with hold_lock(Path(tempfile.gettempdir()) / f"trailer-librosa-{os.getuid()}.lock"):
        return _listen(samples, sample_rate)


def _listen(samples: F32, sample_rate: int) -> Hearing:
    from librosa import resample
    from librosa.onset import onset_strength
    from scipy.ndimage import maximum_filter1d

    sound = samples.astype(np.float64) - samples.mean(dtype=np.float64)
    peak = float(np.abs(sound).max())
    if peak < SILENT_PEAK:
        none = np.zeros(0)
        return Hearing(np.zeros((0, TEMPOGRAM_FRAMES)), COARSE_FRAMES, none, none, none, none)
    sound = resample(sound / peak, orig_sr=sample_rate, target_sr=RATE)
    onsets: F64 = onset_strength(y=sound, sr=RATE, hop_length=HOP).astype(np.float64)
    every = max(COARSE_FRAMES, ceil(len(onsets) / MOST_COLUMNS))
    tempogram = make_tempogram(onsets, every)
    loudness = _measure_loudness(sound, len(onsets))
    audible = loudness > -RANGE_DB
    beat_frames, strong = _find_beats(onsets, tempogram), _find_strong(onsets)
    beat_frames, strong = beat_frames[audible[beat_frames]], strong[audible[strong]]
    distance = np.abs(strong[:, None] - beat_frames).min(axis=1, initial=len(onsets))
    frames = np.sort(np.concatenate([beat_frames, strong[distance > APART * FRAME_RATE]]))
    if not len(frames):
        none = np.zeros(0)
        return Hearing(tempogram, every, loudness, none, none, none)
    accents = _sharpen(frames / FRAME_RATE, sound)
    heard = maximum_filter1d(onsets, 5)[frames]
    # a beat that nothing is played on still counts a little: it is in the listener's foot
    strength = 0.1 + 0.9 * np.clip(heard / max(float(np.percentile(heard, 90)), 1e-9), 0, 1)
    beats = accents[np.isin(frames, beat_frames)]
    return Hearing(tempogram, every, loudness, beats, accents, strength + _measure_steps(sound, accents))


def make_tempogram(onsets: F64, every: int) -> F64:
    """(columns, 384): every `every`-th column of librosa.feature.tempogram, which makes all of them.

    **choice**: change points cost the square of the columns, and all columns of ten minutes cost half a gigabyte. A
    column looks at 4.5 s, so one every 93 ms (fewer in tracks over 2.5 minutes) loses nothing that the accents do not
    give back.
    """
    padded = np.pad(onsets, TEMPOGRAM_FRAMES // 2, mode="linear_ramp", end_values=0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, TEMPOGRAM_FRAMES)[: len(onsets) : every]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(TEMPOGRAM_FRAMES) / TEMPOGRAM_FRAMES)
    spectrum = np.fft.rfft(windows * hann, 2 * TEMPOGRAM_FRAMES, axis=1)
    tempogram: F64 = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :TEMPOGRAM_FRAMES]
    largest = np.abs(tempogram).max(axis=1, keepdims=True)
    return tempogram / np.where(largest > np.finfo(np.float64).tiny, largest, 1.0)


def _measure_loudness(sound: F64, frames: int) -> F64:
    from scipy.ndimage import uniform_filter1d

    power = np.pad(sound**2, (0, max(0, frames * HOP - len(sound))))[: frames * HOP].reshape(frames, HOP).mean(axis=1)
    smooth = uniform_filter1d(power, round(0.2 * FRAME_RATE), mode="nearest")
    decibels: F64 = 10 * np.log10(np.maximum(smooth, 1e-12) / smooth.max())
    return np.maximum(decibels, -RANGE_DB)


def _find_beats(onsets: F64, tempogram: F64) -> I64:
    """Frames of the beats; none where the onsets have no period between 0.25 and 2 s."""
    from librosa.beat import beat_track
    from librosa.feature import tempo

    wave = onsets - onsets.mean()
    if not wave.any():
        return np.zeros(0, np.int64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2)
    pulse = correlation[round(0.25 * FRAME_RATE) : round(2 * FRAME_RATE)].max() / correlation[0]
    if pulse < max(CLEAR_PULSE, 3.5 / np.sqrt(len(wave))):  # chance reaches the second in a short piece of noise
        return np.zeros(0, np.int64)
    bpm = tempo(tg=tempogram.T, sr=RATE, hop_length=HOP)
    # the tracker puts a beat on the last frame whatever happens there, and bends those before it: let that be silence
    padded = np.pad(onsets, (0, round(2 * FRAME_RATE)))
    _, beats = beat_track(onset_envelope=padded, sr=RATE, hop_length=HOP, bpm=bpm, trim=False)
    return np.asarray(beats[beats < len(onsets)], np.int64)


def _find_strong(onsets: F64) -> I64:
    """Frames of the onsets that stand out: 4.5 deviations over the median, and at least 0.3 dB.

    White noise has hardly any; what begins or ends with the file is not an onset.
    """
    from scipy.signal import find_peaks

    apart = round(APART * FRAME_RATE)
    median = float(np.median(onsets))
    deviation = 1.4826 * float(np.median(np.abs(onsets - median)))
    peaks, _ = find_peaks(onsets, height=median + max(4.5 * deviation, 0.3), distance=apart)
    return np.asarray(peaks[(peaks >= apart) & (peaks < len(onsets) - apart)], np.int64)


def _sharpen(times: F64, sound: F64) -> F64:
    """Move times (a,) to the attack that each of them stands for; where none is clear, as far as the others moved.

    **choice**: librosa's onsets come 10 to 40 ms late (its 93 ms window is shifted by half its length), most of a film
    frame. With a quarter of the window they are right to 5 ms.
    """
    from librosa.onset import onset_strength

    fine: F64 = onset_strength(y=sound, sr=RATE, n_fft=FINE_WINDOW, hop_length=FINE_HOP, n_mels=40, center=False)
    rate = RATE / FINE_HOP
    median = np.median(fine)
    clear = median + 4.5 * 1.4826 * np.median(np.abs(fine - median)) + 0.3
    moves = np.full(len(times), np.nan)
    for i, time in enumerate(times):
        first = max(0, round((time - EARLY) * rate))
        window = fine[first : round((time + LATE) * rate)]
        if len(window) and window.max() > clear:
            # a rise shows as soon as the window touches it: half of the half window early in the mean
            moves[i] = (first + int(np.argmax(window))) / rate + FINE_WINDOW / 4 / RATE - time
    usual = np.nanmedian(moves) if np.isfinite(moves).any() else 0.0
    return np.maximum.accumulate(np.maximum(times + np.where(np.isfinite(moves), moves, usual), 0.0))


def _measure_steps(sound: F64, accents: F64) -> F64:
    """(a,) 0..2: by how many times 10 dB, beyond the first 3 dB, the music is louder or quieter from an accent on.

    **choice**: a stop is as good a place to cut as a hit and has no onset, and a tempogram, which is normalised, sees
    neither. 0 for accents with a larger step within a second.
    """
    from scipy.signal import lfilter

    forget = np.exp(-1 / (0.5 * RATE))  # what lies half a second off counts 1/e
    before = lfilter([1 - forget], [1, -forget], sound**2)
    after = lfilter([1 - forget], [1, -forget], sound[::-1] ** 2)[::-1]
    at = np.clip(np.round((accents - LEAD) * RATE).astype(np.int64), 0, len(sound) - 1)
    floor = max(before.max(), after.max()) * 10 ** (-QUIET_DB / 10)
    steps = np.abs(10 * np.log10(np.maximum(after[at], floor) / np.maximum(before[at], floor)))
    largest = np.where(np.abs(accents[:, None] - accents) < 1.0, steps, 0).max(axis=1)
    return np.where(steps >= largest, np.clip((steps - 3) / 10, 0, 2), 0)


# --- segments ---------------------------------------------------------------------------------------------------------


def find_changes(hearing: Hearing, count: int, min_seconds: float) -> F64:
    """Seconds of the count - 1 changes of rhythm; none where there are too few columns for as many."""
    from ruptures import KernelCPD

    columns = len(hearing.tempogram)
    if count < 2 or columns < 2 * count:
        return np.zeros(0)
    least = max(1, min(int(min_seconds * FRAME_RATE / hearing.every), columns // (count + 1)))
    changes = KernelCPD(kernel="linear", min_size=least).fit(hearing.tempogram).predict(n_bkps=count - 1)
    return np.array(changes[:-1]) * hearing.every / FRAME_RATE


def place_edges(hearing: Hearing, changes: F64, length: float, count: int, settings: MusicSettings) -> F64:
    """(segments + 1,) edges from 0 to length: changes on their accents, then more until there are `count` segments.

    **choice**: lengths are compared on a clock that runs faster where the music is loud, so that the climax is cut
    short and the opening long, as real trailers are. The shortest segment is min_seconds, and by that clock LEAST of
    the mean; the longest is LONGEST times the mean.
    """
    from scipy.ndimage import uniform_filter1d

    grid = np.arange(len(hearing.loudness) + 1) / FRAME_RATE
    level = uniform_filter1d(hearing.loudness, round(2 * FRAME_RATE), mode="nearest")
    pace = PACE ** np.clip((level - np.median(level)) / PACE_DB, -1, 1)
    clock = np.concatenate([[0.0], np.cumsum(pace / pace.mean())]) / FRAME_RATE
    longest = LONGEST * settings.mean_seconds
    least = max(settings.min_seconds, LEAST * settings.mean_seconds)
    inside = (hearing.accents > 0) & (hearing.accents < length)
    accents, strength = hearing.accents[inside], hearing.strength[inside]
    edges = np.array([0.0, length])

    def fits(times: F64) -> Bool:
        """(n,) True where an edge at that time leaves no segment too short."""
        after = np.searchsorted(edges, times)
        start, end = edges[after - 1], edges[after]
        real = np.minimum(times - start, end - times)
        a, b, c = (np.interp(t, grid, clock) for t in (start, times, end))
        by_clock = np.where(end - start > longest, real, np.minimum(b - a, c - b))
        fit: Bool = (real >= settings.min_seconds) & (by_clock >= least)
        return fit

    for i in _snap(changes, accents, strength, settings.mean_seconds / 2):
        if fits(accents[i : i + 1])[0]:
            edges = np.sort(np.append(edges, accents[i]))
    while True:
        fit = fits(accents)
        # where nothing is heard, or no accent fits for far too long, the middle is as good as any place
        middles = (edges[:-1] + edges[1:]) / 2
        heard = np.searchsorted(accents, edges[1:], "left") > np.searchsorted(accents, edges[:-1], "right")
        bare = fits(middles) & (~heard | (np.diff(edges) > longest + settings.mean_seconds))
        bare[np.searchsorted(edges, accents[fit]) - 1] = False
        times = np.concatenate([accents[fit], middles[bare]])
        worth = np.concatenate([strength[fit], np.full(int(bare.sum()), NO_ACCENT)])
        segment = np.searchsorted(edges, times) - 1
        too_long = np.diff(edges)[segment] > longest
        if not len(times) or (not too_long.any() and len(edges) > count):
            return edges
        central = np.sin(np.pi * (times - edges[segment]) / np.diff(edges)[segment])
        score = worth * (0.5 + central) * np.diff(np.interp(edges, grid, clock))[segment]
        edges = np.sort(np.append(edges, times[np.argmax(score + too_long * score.max())]))


def _snap(changes: F64, accents: F64, strength: F64, reach: float) -> list[int]:
    """The accent of each change: near and strong, at most `reach` s away. Strongest first, each once.

    A change without one is the tempogram's blur, and is dropped.
    """
    chosen: set[int] = set()
    for change in changes:
        near = np.clip(1 - np.abs(accents - change) / reach, 0, None) * strength
        if near.max(initial=0.0) > 0:
            chosen.add(int(np.argmax(near)))
    return sorted(chosen, key=lambda i: (-strength[i], i))


def rank_loudness(samples: F32, sample_rate: int, spans: tuple[Span, ...]) -> F32:
    """(n,) rank of each span's RMS, 0 the quietest .. 1 the loudest; equal to 0.1 dB is equal; 0.5 where all are."""
    from scipy.stats import rankdata

    if len(spans) == 1:
        return np.full(1, 0.5, np.float32)
    power = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    edges = np.array([[round(s.start * sample_rate), min(round(s.end * sample_rate), len(samples))] for s in spans])
    mean = (power[edges[:, 1]] - power[edges[:, 0]]) / np.maximum(edges[:, 1] - edges[:, 0], 1)
    decibels = np.round(10 * np.log10(np.maximum(mean, 1e-10)), 1)
    return np.asarray((rankdata(decibels) - 1) / (len(spans) - 1), np.float32)


# --- which music, and which part of it --------------------------------------------------------------------------------


def choose_offset(samples: F32, sample_rate: int, length: float) -> float:
    """Seconds of a track to skip so that `length` s from there end as the track ends, and begin on an accent.

    samples: the whole track, mono (n,), finite. A trailer wants the climax and the last hit more than the opening bars.
    0.0 when the track is no longer than `length`.
    """
    duration = len(samples) / sample_rate
    spare = duration - length
    if spare <= 0:
        return 0.0
    hearing = listen(samples, sample_rate)
    audible = np.flatnonzero(hearing.loudness > -RANGE_DB)
    end = min(duration, float(audible[-1] + 1) / FRAME_RATE) if len(audible) else length
    ideal = max(0.0, end - length)
    starts = np.concatenate([[0.0], np.maximum(hearing.accents - LEAD, 0.0)])
    worth = np.concatenate([[1.0], hearing.strength]) * np.clip(1 - np.abs(starts - ideal) / OFFSET_REACH, 0, None)
    worth[starts > spare] = 0.0
    return float(starts[np.argmax(worth)]) if worth.max() > 0 else ideal


def choose_bed(*, luma: float, motion: float) -> Path:
    """The bundled bed for a film: dark_rise for dark or restless pictures, bright_step for the others.

    luma: the film's mean luma, 0..255. motion: mean change of luma from one picture to the next, 0..255. Measured: Big
    Buck Bunny (128, 4) is bright, the battle of Tears of Steel (99, 17) is dark; the brighter, the more it must move.
    """
    return ASSETS / "music" / ("dark_rise.ogg" if luma < 90 + 2 * motion else "bright_step.ogg")
