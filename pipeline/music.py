"""Cut a track into segments, one trailer slot each.

Published (section 8 of the method): onset strength with hop 256 -> tempogram -> change points by ruptures' KernelCPD with
the linear kernel, int(duration / 2) - 1 of them. Here they are then moved to where the ear hears an accent, and the
lengths follow the loudness: long where the music is quiet, down to a beat where it is loud. The places that are ours
and not the paper's are marked **choice**.

Everything is a pure function of arrays; decode.py reads the file. A "frame" is one hop of the onset strength (11.6 ms).
Times are seconds from the start of the used part of the track.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import find_peaks, lfilter
from scipy.stats import rankdata

from pipeline.errors import InputError
from pipeline.records import F32, F64, I64, SAME_TIME, Bool, Segments, Span, Track
from pipeline.settings import ASSETS, MusicSettings

RATE = 22050  # samples/s that the analysis runs at
HOP = 256  # published
FRAME_RATE = RATE / HOP
TEMPOGRAM_FRAMES = 384  # librosa's window: 4.5 s of onset strength
SHORTEST_TRACK = 4.0  # s; less holds no tempogram window
COARSE_FRAMES = 8  # frames a tempogram column: 93 ms
MOST_COLUMNS = 1600  # KernelCPD takes 0.4 s for as many with 300 change points, and four times that for twice as many
LOUDNESS_WEIGHT = 4.0  # of 10 dB against the tempogram's 384 lags of 0..1
SILENT_PEAK = 1e-4  # -80 dBFS
RANGE_DB = 60.0  # quieter than this below the loudest is not heard
QUIET_DB = 35.0  # changes below this under the loudest are no events: a tail that dies away is one thing
STEP_LEAD = 0.01  # s before an accent at which the sound before it ends
FINE_WINDOW, FINE_HOP = 512, 64  # samples, for the exact place of an accent: 23 and 2.9 ms
LATE, EARLY = 0.03, 0.07  # s around a coarse accent in which its attack lies: librosa's is 10 to 40 ms late
CLEAR_PULSE = 0.15  # least autocorrelation of the onset strength for beats; noise and steady tones reach 0.10, music 0.4
LONGEST = 3.0  # times the mean length: longer segments are split
LEAST = 0.4  # share of the mean length that a segment must have by the clock of place_edges
PACE, PACE_DB = 4.0, 8.0  # segments are 4 times shorter 8 dB above the median loudness, as many times longer 8 dB below
NO_ACCENT = 0.05  # worth of a cut where nothing is heard, against an accent's 0.1 to 3


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard in the used part of a track.

    onsets (f,): onset strength per frame, mean rise over the bands in dB. loudness (f,): RMS over 0.2 s in dB below the
    loudest. beats (b,): s. accents (a,): s, beats and strong onsets between them, increasing. strength (a,): 0.1..3.
    """

    onsets: F64
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
    [0, length) exactly: the last segment ends there, whatever the music does (choose_offset finds a part that ends
    with the track's own ending). Where there is no accent to hold on to the grid is even.
    Raises InputError for a track shorter than 4 s or than what is asked of it, or with samples that are not numbers.
    """
    duration = len(samples) / sample_rate
    if not np.isfinite(samples).all():
        first = int(np.argmin(np.isfinite(samples))) / sample_rate
        raise InputError(f"{track.path} decodes to samples that are not numbers, the first at {first:.2f} s: convert it to WAV or FLAC")
    if duration < SHORTEST_TRACK:
        raise InputError(f"{track.path} lasts {duration:.2f} s; music must last at least {SHORTEST_TRACK:.0f} s")
    length = duration - offset if length is None else length
    if offset < 0 or length > duration - offset + SAME_TIME:
        after = f" after the {offset:.2f} s to be skipped" if offset else ""
        raise InputError(f"{track.path} lasts {duration:.2f} s and cannot fill {length:.2f} s{after}: ask for less, or take longer music")
    if length < SHORTEST_TRACK:
        raise InputError(f"{length:.2f} s of music are asked for; the least is {SHORTEST_TRACK:.0f} s")
    first = round(offset * sample_rate)
    part = samples[first : first + ceil(length * sample_rate)]
    hearing = listen(part, sample_rate)
    # int(duration / mean) - 1 change points, as published, make int(duration / mean) segments
    count = max(1, min(int(length / settings.mean_seconds), int(length / settings.min_seconds)))
    edges = np.linspace(0, length, count + 1)
    if len(hearing.accents):
        edges = place_edges(hearing, find_changes(hearing, count, settings.min_seconds), length, count, settings)
    spans = tuple(Span(float(a), float(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))
    beats = hearing.beats[hearing.beats < length]
    return Segments(track, spans, rank_loudness(part, sample_rate, spans), beats, offset)


# --- hearing --------------------------------------------------------------------------------------------------------------


def listen(samples: F32, sample_rate: int) -> Hearing:
    """Onset strength, loudness, beats and accents of (n,) samples."""
    import librosa

    sound = samples.astype(np.float64) - samples.mean(dtype=np.float64)
    peak = float(np.abs(sound).max())
    if peak < SILENT_PEAK:
        frames = ceil(len(sound) / sample_rate * FRAME_RATE)
        return Hearing(np.zeros(frames), np.zeros(frames), np.zeros(0), np.zeros(0), np.zeros(0))
    sound = librosa.resample(sound / peak, orig_sr=sample_rate, target_sr=RATE)
    onsets = librosa.onset.onset_strength(y=sound, sr=RATE, hop_length=HOP).astype(np.float64)
    loudness = _measure_loudness(sound, len(onsets))
    strong = _find_strong(onsets)
    beats = _find_beats(onsets)
    audible = loudness > -RANGE_DB
    beats, strong = beats[audible[beats]], strong[audible[strong]]
    # an onset close to a beat is that beat
    apart = round(0.1 * FRAME_RATE)
    between = strong[[not len(beats) or bool(np.abs(beats - s).min() > apart) for s in strong]] if len(strong) else strong
    frames = np.sort(np.concatenate([beats, between]))
    accents = _sharpen(frames / FRAME_RATE, sound)
    heard = maximum_filter1d(onsets, 5)[frames]
    # a beat that nothing is played on still counts a little: it is in the listener's foot
    strength = 0.1 + 0.9 * np.clip(heard / max(float(np.percentile(heard, 90)), 1e-9), 0, 1) if len(heard) else heard
    strength = strength + _measure_steps(sound, accents)
    return Hearing(onsets, loudness, accents[np.isin(frames, beats)], accents, strength)


def _measure_loudness(sound: F64, frames: int) -> F64:
    power = np.pad(sound**2, (0, max(0, frames * HOP - len(sound))))[: frames * HOP].reshape(frames, HOP).mean(axis=1)
    smooth = uniform_filter1d(power, round(0.2 * FRAME_RATE), mode="nearest")
    return np.maximum(10 * np.log10(np.maximum(smooth, 1e-12) / smooth.max()), -RANGE_DB)


def _measure_steps(sound: F64, accents: F64) -> F64:
    """(a,) 0..2: by how many times 10 dB, beyond the first 3, the music is louder or quieter from an accent on than before.

    A stop is as good a place to cut as a hit, and has no onset. 0 for accents with a larger step within a second.
    """
    if not len(accents):
        return accents
    forget = np.exp(-1 / (0.5 * RATE))  # what lies half a second off counts 1/e
    before = lfilter([1 - forget], [1, -forget], sound**2)
    after = lfilter([1 - forget], [1, -forget], sound[::-1] ** 2)[::-1]
    at = np.clip(np.round((accents - STEP_LEAD) * RATE).astype(np.int64), 0, len(sound) - 1)
    floor = max(before.max(), after.max()) * 10 ** (-QUIET_DB / 10)
    steps = np.abs(10 * np.log10(np.maximum(after[at], floor) / np.maximum(before[at], floor)))
    near = np.abs(accents[:, None] - accents) < 1.0
    return np.where(steps >= np.where(near, steps, 0).max(axis=1), np.clip((steps - 3) / 10, 0, 2), 0)


def _find_strong(onsets: F64) -> I64:
    """Frames of the onsets that stand out: 4.5 deviations over the median, and at least 0.3 dB.

    White noise has none of them; what begins with the file's first sample is not an onset.
    """
    median = np.median(onsets)
    deviation = 1.4826 * np.median(np.abs(onsets - median))
    height = median + max(4.5 * deviation, 0.3)
    peaks, _ = find_peaks(onsets, height=height, distance=round(0.1 * FRAME_RATE))
    edge = round(0.1 * FRAME_RATE)
    return peaks[(peaks >= edge) & (peaks < len(onsets) - edge)].astype(np.int64)


def _find_beats(onsets: F64) -> I64:
    """Frames of the beats; none where the onsets have no period between 0.25 and 2 s."""
    import librosa

    wave = onsets - onsets.mean()
    if not wave.any():
        return np.zeros(0, np.int64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2)
    pulse = correlation[round(0.25 * FRAME_RATE) : round(2 * FRAME_RATE)].max() / correlation[0]
    if pulse < max(CLEAR_PULSE, 3.5 / np.sqrt(len(wave))):  # chance reaches the second in a short piece of noise
        return np.zeros(0, np.int64)
    _, beats = librosa.beat.beat_track(onset_envelope=onsets, sr=RATE, hop_length=HOP, trim=False)
    return np.asarray(beats, np.int64)


def _sharpen(times: F64, sound: F64) -> F64:
    """Move times (a,) to the attack that each of them stands for; where none is clear, as far as the others moved.

    **choice**: librosa's onsets come 10 to 40 ms late (its 93 ms window is shifted by half its length), most of a film
    frame. With a quarter of the window they are right to 5 ms.
    """
    import librosa

    if not len(times):
        return times
    fine = librosa.onset.onset_strength(y=sound, sr=RATE, n_fft=FINE_WINDOW, hop_length=FINE_HOP, n_mels=40, center=False)
    rate = RATE / FINE_HOP
    clear = np.median(fine) + 4.5 * 1.4826 * np.median(np.abs(fine - np.median(fine))) + 0.3
    moves = np.full(len(times), np.nan)
    for i, time in enumerate(times):
        first = max(0, round((time - EARLY) * rate))
        window = fine[first : max(first + 1, round((time + LATE) * rate))]
        if len(window) and window.max() > clear:
            # a rise shows as soon as the window touches it: half of the half window early in the mean
            moves[i] = (first + int(np.argmax(window))) / rate + FINE_WINDOW / 4 / RATE - time
    usual = float(np.nanmedian(moves)) if np.isfinite(moves).any() else 0.0
    return np.maximum.accumulate(np.maximum(times + np.where(np.isfinite(moves), moves, usual), 0.0))


def rank_loudness(samples: F32, sample_rate: int, spans: tuple[Span, ...]) -> F32:
    """(n,) rank of each span's RMS, 0 the quietest .. 1 the loudest; equal to 0.1 dB is equal; 0.5 where all are."""
    if len(spans) == 1:
        return np.full(1, 0.5, np.float32)
    power = np.cumsum(np.concatenate([[0.0], samples.astype(np.float64) ** 2]))
    edges = np.array([[round(s.start * sample_rate), min(round(s.end * sample_rate), len(samples))] for s in spans])
    mean = (power[edges[:, 1]] - power[edges[:, 0]]) / np.maximum(edges[:, 1] - edges[:, 0], 1)
    decibels = np.round(10 * np.log10(mean + 1e-10), 1)
    return ((rankdata(decibels) - 1) / (len(spans) - 1)).astype(np.float32)


# --- change points ----------------------------------------------------------------------------------------------------------


def make_tempogram(onsets: F64, every: int) -> F64:
    """(columns, 384): every `every`-th column of librosa.feature.tempogram, which makes all of them.

    **choice**: change points cost the square of the columns, and all columns of ten minutes take gigabytes. A column looks
    at 4.5 s, so one every 93 ms (more seldom in tracks over 2.5 minutes) loses nothing that the accents do not give back.
    """
    half = TEMPOGRAM_FRAMES // 2
    padded = np.pad(onsets, half, mode="linear_ramp", end_values=0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, TEMPOGRAM_FRAMES)[: len(onsets) : every]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(TEMPOGRAM_FRAMES) / TEMPOGRAM_FRAMES)
    spectrum = np.fft.rfft(windows * hann, 2 * TEMPOGRAM_FRAMES, axis=1)
    tempogram = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :TEMPOGRAM_FRAMES]
    largest = np.abs(tempogram).max(axis=1, keepdims=True)
    return tempogram / np.where(largest > np.finfo(np.float64).tiny, largest, 1.0)


def find_changes(hearing: Hearing, count: int, min_seconds: float) -> F64:
    """Seconds of the count - 1 changes of rhythm and loudness.

    **choice**: loudness is one more row beside the lags: a tempogram is normalised per column, and does not see the
    drums of a climax come in on the old beat, nor the music stop.
    """
    from ruptures import KernelCPD

    frames = len(hearing.onsets)
    every = max(COARSE_FRAMES, ceil(frames / MOST_COLUMNS))
    columns = ceil(frames / every)
    least = max(1, min(int(min_seconds * FRAME_RATE / every), columns // (count + 1)))
    if count < 2 or columns < 2 * count:
        return np.zeros(0)
    loudness = uniform_filter1d(np.maximum(hearing.loudness, -QUIET_DB), round(FRAME_RATE), mode="nearest")[::every]
    rows = np.column_stack([make_tempogram(hearing.onsets, every), LOUDNESS_WEIGHT * loudness / 10])
    changes = KernelCPD(kernel="linear", min_size=least).fit(rows).predict(n_bkps=count - 1)
    return np.array(changes[:-1]) * every / FRAME_RATE


# --- edges ------------------------------------------------------------------------------------------------------------------


def place_edges(hearing: Hearing, changes: F64, length: float, count: int, settings: MusicSettings) -> F64:
    """(segments + 1,) edges from 0 to length: changes on their accents, then more accents until there are `count` segments.

    **choice**: lengths are compared on a clock that runs faster where the music is loud, so that the climax is cut short
    and the opening long, as real trailers are. The shortest segment is min_seconds, and by that clock also a share of the
    mean; the longest is 3 x the mean.
    """
    grid = np.arange(len(hearing.loudness) + 1) / FRAME_RATE
    level = uniform_filter1d(hearing.loudness, round(2 * FRAME_RATE), mode="nearest")
    pace = PACE ** np.clip((level - np.median(level)) / PACE_DB, -1, 1)
    clock = np.concatenate([[0.0], np.cumsum(pace / pace.mean())]) / FRAME_RATE
    longest = LONGEST * settings.mean_seconds
    least_paced = max(settings.min_seconds, LEAST * settings.mean_seconds)
    inside = (hearing.accents > 0) & (hearing.accents < length)
    accents, strength = hearing.accents[inside], hearing.strength[inside]
    edges = np.array([0.0, length])

    def fits(times: F64) -> Bool:
        """(n,) True where an edge at that time leaves no segment too short."""
        if not len(times):
            return np.zeros(0, np.bool_)
        after = np.searchsorted(edges, times)
        before, after = edges[after - 1], edges[after]
        paced = [np.interp(t, grid, clock) for t in (before, times, after)]
        real = np.minimum(times - before, after - times)
        least = np.where(after - before > longest, real, np.minimum(paced[1] - paced[0], paced[2] - paced[1]))
        return (real >= settings.min_seconds) & (least >= least_paced)

    def insert(time: float) -> F64:
        return np.insert(edges, np.searchsorted(edges, time), time)

    for i in _snap(changes, accents, strength, settings.mean_seconds / 2):
        if fits(accents[i : i + 1])[0]:
            edges = insert(float(accents[i]))
    while True:
        here = fits(accents)
        # where nothing is heard, the middle of the segment is as good as any place
        middles = (edges[:-1] + edges[1:]) / 2
        bare = ~np.isin(np.arange(len(middles)), np.searchsorted(edges, accents[here]) - 1) & fits(middles)
        times = np.concatenate([accents[here], middles[bare]])
        worth = np.concatenate([strength[here], np.full(int(bare.sum()), NO_ACCENT)])
        segment = np.searchsorted(edges, times) - 1
        too_long = np.diff(edges)[segment] > longest
        if not len(times) or (not too_long.any() and len(edges) > count):
            return edges
        central = np.sin(np.pi * (times - edges[segment]) / np.diff(edges)[segment])
        score = worth * (0.5 + central) * np.diff(np.interp(edges, grid, clock))[segment]
        edges = insert(float(times[np.argmax(np.where(too_long, score + score.max(), score))]))


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


# --- which music, and which part of it ---------------------------------------------------------------------------------------


def choose_bed(*, luma: float, motion: float) -> Path:
    """The bundled bed for a film: dark_rise for dark or restless pictures, bright_step for the others.

    luma: the film's mean luma, 0..255. motion: mean change from one picture to the next, 0..255. Big Buck Bunny (128, 4)
    is bright; the battle of Tears of Steel (99, 17) is dark; a bright film must move a lot to be called dark.
    """
    return ASSETS / "music" / ("dark_rise.ogg" if luma < 90 + 2 * motion else "bright_step.ogg")
