"""Listen to a track: where its beats and onsets are, how loud it is, and how its rhythm goes.

Everything is a pure function of arrays. A frame is one hop of the onset strength (11.6 ms). Times are seconds from the
first sample given. What is ours and not a paper's is marked **choice**.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from models.lock import hold_lock
from pipeline.records import F32, F64, I64, Bool

RATE = 22050  # samples/s that the analysis runs at
HOP = 256  # published
FRAME_RATE = RATE / HOP
TEMPOGRAM_FRAMES = 384  # librosa's window: 4.5 s of onset strength
COARSE_FRAMES = 8  # frames a tempogram column: 93 ms
MOST_COLUMNS = 1600  # KernelCPD takes 0.4 s for as many with 300 change points, and four times that for twice as many
SILENT_PEAK = 1e-4  # -80 dBFS
RANGE_DB = 60.0  # quieter than this below the loudest is not heard
QUIET_DB = 35.0  # changes below this under the loudest are no events: a tail that dies away is one thing
CLEAR_PULSE = 0.15  # least autocorrelation of the onsets for beats; noise and steady tones reach 0.10, music 0.4
CLEARLY = 1.02  # times stronger onsets that another tempo's beats must lie on
APART = 0.12  # s; of accents closer than this the stronger stays: a click and its end, a beat and what is played on it
FINE_WINDOW, FINE_HOP = 512, 64  # samples, for the exact place of an accent: 23 and 2.9 ms
FINE_BLOCK = 60.0  # s of fine onset strength made at once: all of ten minutes would take a gigabyte
EARLY, LATE = 0.035, 0.03  # s around a coarse accent in which its attack lies: librosa's is 10 to 40 ms late
BARE = 0.1  # strength of a beat that nothing is played on: it is in the listener's foot
FAINT = 0.3  # least strength of an onset
UNCLEAR = 0.5  # share of the strength of an onset that does not stand out where it is
LEAD = 0.01  # s before an accent at which the sound before it ends


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard in (part of) a track.

    tempogram (columns, 384): rhythm, a column every `every` frames. loudness (f,): RMS over 0.2 s per frame, in dB
    below the loudest. beats (b,): s. accents (a,): s, beats and strong onsets between them, increasing. strength (a,):
    BARE a beat that nothing is played on, 1 a strong onset, up to 3 where the music starts or stops.
    """

    tempogram: F64
    every: int
    loudness: F64
    beats: F64
    accents: F64
    strength: F64


def listen(samples: F32, sample_rate: int) -> Hearing:
    """Rhythm, loudness, beats and accents of (n,) finite samples."""
    with hold_librosa():
        return _listen(samples, sample_rate)


def hold_librosa() -> AbstractContextManager[None]:
    """One process of this user at a time in librosa.

    Its compiled functions are kept on disk at first use, and two processes that compile them at once leave a cache that
    crashes every later process (numba's cached gufuncs; seen as a segmentation fault in librosa.beat).
    """
    return hold_lock(Path(tempfile.gettempdir()) / f"trailer-librosa-{os.getuid()}.lock")


def _listen(samples: F32, sample_rate: int) -> Hearing:
    from librosa import resample
    from librosa.onset import onset_strength
    from scipy.ndimage import maximum_filter1d
    from scipy.signal import butter, sosfilt, sosfilt_zi

    # direct current is no sound: silence beside music that swings to one side must measure as silence
    blocker = butter(1, 20.0, "highpass", fs=sample_rate, output="sos")
    sound: F64 = sosfilt(blocker, samples.astype(np.float64), zi=sosfilt_zi(blocker) * float(samples[0]))[0]
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
    beats, (onset_frames, clear) = _find_beats(onsets, tempogram, sound), _find_onsets(onsets)
    kept = audible[onset_frames]
    onset_frames, clear = onset_frames[kept], clear[kept]
    # a beat on which something is played lies where that is
    gaps = np.abs(beats[:, None] - onset_frames)
    played = gaps.min(axis=1, initial=len(onsets)) <= APART * FRAME_RATE
    on_beat = np.zeros(len(onset_frames), bool)
    if played.any():
        on_beat[gaps[played].argmin(axis=1)] = True
    bare = beats[~played & audible[beats]]
    frames = np.concatenate([onset_frames, bare])
    if not len(frames):
        none = np.zeros(0)
        return Hearing(tempogram, every, loudness, none, none, none)
    heard = maximum_filter1d(onsets, 5)[onset_frames]
    loudest_tenth = float(np.percentile(heard, 90)) if len(heard) else 1.0
    strength = np.concatenate(
        [
            FAINT + (1 - FAINT) * np.clip(heard / max(loudest_tenth, 1e-9), 0, 1) * np.where(clear, 1.0, UNCLEAR),
            np.full(len(bare), BARE),
        ]
    )
    order = np.argsort(frames, kind="stable")
    accents = _sharpen(frames[order] / FRAME_RATE, sound)
    played = strength[order] > BARE
    strength = strength[order] + np.where(played, _measure_steps(sound, accents), 0.0)
    is_beat = np.concatenate([on_beat, np.ones(len(bare), bool)])[order]
    kept = keep_apart(accents, strength + 9.0 * is_beat)
    return Hearing(tempogram, every, loudness, accents[is_beat & kept], accents[kept], strength[kept])


def keep_apart(times: F64, worth: F64) -> Bool:
    """Which of increasing times (n,) to keep so that no two lie closer than APART; the worthier of two stays."""
    kept = np.ones(len(times), np.bool_)
    for i in np.argsort(-worth, kind="stable"):
        if kept[i]:
            first, last = np.searchsorted(times, [times[i] - APART, times[i] + APART])
            kept[first:last] = False
            kept[i] = True
    return kept


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


def _find_beats(onsets: F64, tempogram: F64, sound: F64) -> I64:
    """Frames of the beats; none where the onsets have no period between 0.25 and 2 s.

    **choice**: in music whose tempo is doubtful librosa's guess hangs on the hop. That of our tempogram and that of
    librosa.beat.beat_track's defaults are both tried, and the one whose beats lie on the stronger onsets is taken.
    """
    from librosa.beat import beat_track
    from librosa.feature import tempo
    from librosa.onset import onset_strength
    from scipy.ndimage import maximum_filter1d

    wave = onsets - onsets.mean()
    if not wave.any():
        return np.zeros(0, np.int64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(wave, 2 * len(wave))) ** 2)
    pulse = correlation[round(0.25 * FRAME_RATE) : round(2 * FRAME_RATE)].max() / correlation[0]
    if pulse < max(CLEAR_PULSE, 3.5 / np.sqrt(len(wave))):  # chance reaches the second in a short piece of noise
        return np.zeros(0, np.int64)
    slower = onset_strength(y=sound, sr=RATE, hop_length=2 * HOP, aggregate=np.median)
    tempi = [tempo(tg=tempogram.T, sr=RATE, hop_length=HOP), tempo(onset_envelope=slower, sr=RATE, hop_length=2 * HOP)]
    # the tracker puts a beat on the last frame whatever happens there, and bends those before it: let that be silence
    padded = np.pad(onsets, (0, round(2 * FRAME_RATE)))
    heard, best, strongest = maximum_filter1d(onsets, 5), np.zeros(0, np.int64), 0.0
    for bpm in tempi:
        _, beats = beat_track(onset_envelope=padded, sr=RATE, hop_length=HOP, bpm=bpm, trim=False)
        beats = np.asarray(beats[beats < len(onsets)], np.int64)
        # twice as slow a pulse takes the stronger half of the beats: only a clear difference counts
        if len(beats) and heard[beats].mean() > strongest * CLEARLY:
            best, strongest = beats, float(heard[beats].mean())
    return best


def _find_onsets(onsets: F64) -> tuple[I64, Bool]:
    """Frames of the onsets, and of each whether it stands out where it is, by librosa.onset.onset_detect's rule.

    That rule: 0.07 of the largest over the mean of 0.1 s before and after. What lies 4.5 deviations over the median of all
    is an onset as well. White noise has hardly any; what begins or ends with the file is not an onset.
    """
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import find_peaks

    apart = round(APART * FRAME_RATE)
    median = float(np.median(onsets))
    deviation = 1.4826 * float(np.median(np.abs(onsets - median)))
    rise = onsets - uniform_filter1d(onsets, 2 * round(0.1 * FRAME_RATE) + 1)
    clear = (rise > 0.07 * float(np.ptp(onsets))) & (onsets > median + max(2 * deviation, 0.3))
    peaks, _ = find_peaks(np.where(clear | (onsets > median + max(4.5 * deviation, 0.3)), onsets, 0.0), distance=apart)
    peaks = peaks[(peaks >= apart) & (peaks < len(onsets) - apart) & (onsets[peaks] > 0)]
    return np.asarray(peaks, np.int64), np.asarray(clear[peaks], np.bool_)


def _sharpen(times: F64, sound: F64) -> F64:
    """Move times (a,) to the attack that each of them stands for; where none is clear, as far as the others moved.

    **choice**: librosa's onsets come 10 to 40 ms late (its 93 ms window is shifted by half its length), most of a film
    frame. With a quarter of the window they are right to 5 ms.
    """
    fine, rate = _listen_finely(sound), RATE / FINE_HOP
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


def _listen_finely(sound: F64) -> F64:
    """Onset strength every 2.9 ms, made in blocks."""
    from librosa.onset import onset_strength

    step, lap = round(FINE_BLOCK * RATE / FINE_HOP), round(RATE / FINE_HOP)
    blocks: list[F64] = []
    for first in range(0, max(1, ceil(len(sound) / FINE_HOP)), step):
        begin = max(0, first - lap)
        piece = sound[begin * FINE_HOP : (first + step) * FINE_HOP + FINE_WINDOW]
        if len(piece) < FINE_WINDOW:
            break
        fine = onset_strength(y=piece, sr=RATE, n_fft=FINE_WINDOW, hop_length=FINE_HOP, n_mels=40, center=False)
        blocks.append(fine[first - begin : first - begin + step].astype(np.float64))
    return np.concatenate(blocks)


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
