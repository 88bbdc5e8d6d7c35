"""Mix the trailer's sound: one continuous stream, the music with the film's own sound under it."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from pipeline.records import F32, Cut

RATE = 48000  # Hz
EDGE_FADE = 0.02  # s at each end of a piece of film sound, so that no cut clicks
MUSIC_FADE_OUT = 1.2  # s, when the music goes on after the trailer's end
LEVEL_WINDOW = 1.0  # s over which the music's level is followed
MUSIC_FLOOR_DB = -15.0  # the film's sound follows the music down to this far below the music's mean, not into silence
MOST_LIFT_DB = 9.0  # quiet film sound is not lifted further than this: its noise would come up with it
SILENCE_DB = -60.0  # film sound below this is left out rather than lifted


def mix_sound(
    music: F32,
    pieces: Iterable[F32],
    cuts: tuple[Cut, ...],
    frame_rate: Fraction,
    frames: int,
    *,
    film_db: float,
    ends: bool,
) -> F32:
    """The whole mix, (n, 2) at 48 kHz, n samples for `frames` frames.

    music (m, 2): the track from the trailer's first frame on. pieces: the film's sound of each cut, (k, 2), in order; it
    is laid film_db under the music's local level. ends: the track itself ends here, so it needs no fade.
    """
    total = frame_to_sample(frames, frame_rate)
    mixed = np.zeros((total, 2), np.float32)
    played = music[:total]
    mixed[: len(played)] = played
    if not ends:
        fade = min(total, round(MUSIC_FADE_OUT * RATE))
        mixed[total - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))[:, None] ** 2
    level = _local_level(mixed)
    for piece, cut in zip(pieces, cuts, strict=True):
        start = frame_to_sample(cut.start_frame, frame_rate)
        end = min(total, frame_to_sample(cut.start_frame + cut.frames, frame_rate), start + len(piece))
        own = piece[: end - start]
        gain = _duck_gain(own, level[start:end], film_db)
        mixed[start:end] += _fade_edges(own) * gain
    return mixed


def frame_to_sample(frame: int, frame_rate: Fraction) -> int:
    """First sample of a trailer frame. From whole frames, so that nothing adds up over many cuts."""
    return round(frame / frame_rate * RATE)


def _local_level(music: F32) -> F32:
    """RMS of the music around each sample (n,), not below the floor under its mean; 0.05 (-26 dB) where there is none."""
    from scipy.ndimage import uniform_filter1d

    power = np.mean(music**2, axis=1)
    mean = float(power.mean())
    if mean < 1e-8:
        return np.full(len(music), 0.05, np.float32)
    local = uniform_filter1d(power, round(LEVEL_WINDOW * RATE), mode="nearest")
    return np.asarray(np.sqrt(np.maximum(local, mean * 10 ** (MUSIC_FLOOR_DB / 10))), np.float32)


def _duck_gain(own: F32, level: F32, film_db: float) -> F32:
    """Gain (n, 1) that keeps a piece of film sound film_db under the music, following the music smoothly."""
    rms = float(np.sqrt(np.mean(own**2))) if len(own) else 0.0
    if rms < 10 ** (SILENCE_DB / 20):
        return np.zeros((len(own), 1), np.float32)
    lift = 10 ** (MOST_LIFT_DB / 20)
    gain: F32 = np.minimum(level[: len(own)] * np.float32(10 ** (film_db / 20) / rms), np.float32(lift))
    return gain[:, None]


def _fade_edges(piece: F32) -> F32:
    fade = min(len(piece) // 2, round(EDGE_FADE * RATE))
    shaped = piece.copy()
    ramp = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
    shaped[:fade] *= ramp
    shaped[len(piece) - fade :] *= ramp[::-1]
    return shaped
