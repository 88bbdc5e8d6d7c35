"""Mix the trailer's sound: one continuous stream of music, the film's own sound under it, and the lines over both."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.loudness import RATE, measure_samples
from pipeline.records import F32, Cut, Music, Placement
from pipeline.settings import SoundSettings

log = logging.getLogger("trailer")

EDGE_FADE = 0.02  # s at each end of a piece of film sound, so that no cut clicks
LINE_FADE_IN, LINE_FADE_OUT = 0.015, 0.04  # s; short: the line's first and last sounds stay
MUSIC_FADE_OUT = 1.2  # s, when the music would go on after the trailer's end
ENDS_WITHIN = 0.1  # s; music that ends so much after the trailer ends with it
LEVEL_WINDOW = 1.0  # s over which the music's level is followed
MUSIC_FLOOR_DB = -15.0  # the film's sound follows the music down to this far below the music's mean, not into silence
MOST_LIFT_DB = 9.0  # quiet film sound is not lifted further than this: its noise would come up with it
SILENCE_DB = -60.0  # film sound below this is left out rather than lifted
STAY_DOWN = 0.4  # s of music between two lines for which it is not worth coming up: it would pump
FILM_DUCK_DB = 12.0  # by which the film's own sound drops under a line further than the music
SILENT_LINE_DB, MOST_LINE_LIFT_DB = -60.0, 30.0  # a line below this holds nearly no sound: lifted so far and no further
LUFS_WITHOUT_MUSIC = -23.0  # of the lines where no music says how loud they should be


def choose_fade(music: Music, seconds: float, track_seconds: float) -> float:
    """Seconds over which the music fades at the end of a trailer of so many seconds: as planned for where it ends.

    A trailer that ends before its parts do (too few shots) fades by MUSIC_FADE_OUT at least, and so does an edit list
    without parts and fade, where the track of track_seconds goes on.
    """
    if music.parts:
        planned = sum(part.duration for part in music.parts)
        return max(music.fade_seconds, MUSIC_FADE_OUT) if planned > seconds + ENDS_WITHIN else music.fade_seconds
    goes_on = track_seconds - music.offset > seconds + ENDS_WITHIN
    return music.fade_seconds or (MUSIC_FADE_OUT if goes_on else 0.0)


@dataclass(frozen=True, slots=True)
class _Laid:
    """A line on the trailer's clock. start: its first sample; own (n, 2): it, faded, as the film has it."""

    text: str
    start: int
    own: F32

    @property
    def end(self) -> int:
        return self.start + len(self.own)


def mix_sound(
    music: F32,
    pieces: Iterable[F32],
    cuts: Sequence[Cut],
    lines: Iterable[tuple[Placement, F32]],
    frame_rate: Fraction,
    frames: int,
    *,
    settings: SoundSettings,
    fade_seconds: float,
) -> F32:
    """The whole mix, (n, 2) at 48 kHz, n samples for `frames` frames.

    music (m, 2): the track from the trailer's first frame on. pieces: the film's sound of each cut, (k, 2), in order; it
    is laid film_db under the music's local level, and left out where the cut is to have none. lines: what is said, (k, 2),
    each from its placement's frame on, all equally loud; music and film are turned down under them, they themselves never.
    fade_seconds: of the music at the trailer's end; 0: the track itself ends here.
    """
    total = frame_to_sample(frames, frame_rate)
    mixed = np.zeros((total, 2), np.float32)
    played = music[:total]
    mixed[: len(played)] = played
    fade = min(total, round(fade_seconds * RATE))
    mixed[total - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32))[:, None] ** 2
    laid = [
        _lay_line(placement.text, frame_to_sample(placement.start_frame, frame_rate), own, total)
        for placement, own in lines
    ]
    duck = duck_curve([(line.start, line.end) for line in laid], total, settings.duck_seconds)
    level = _local_level(mixed)
    loudness = measure_samples(mixed) if laid else 0.0
    mixed *= _to_gain(-settings.duck_db * duck)
    gains = _line_gains(laid, mixed, loudness, settings.line_over_music_db)
    film_duck = _to_gain(-(settings.duck_db + FILM_DUCK_DB) * duck)
    for piece, cut in zip(pieces, cuts, strict=True):
        if not cut.sound:
            continue
        start = frame_to_sample(cut.start_frame, frame_rate)
        end = min(total, frame_to_sample(cut.start_frame + cut.frames, frame_rate), start + len(piece))
        own = piece[: end - start]
        gain = _follow_gain(own, level[start:end], settings.film_db)
        mixed[start:end] += _fade_edges(own, EDGE_FADE, EDGE_FADE) * gain * film_duck[start:end]
    for line, factor in zip(laid, gains, strict=True):
        mixed[line.start : line.end] += line.own * factor
    return mixed


def frame_to_sample(frame: int, frame_rate: Fraction) -> int:
    """First sample of a trailer frame. From whole frames, so that nothing adds up over many cuts."""
    return round(frame / frame_rate * RATE)


def duck_curve(lines: Sequence[tuple[int, int]], total: int, seconds: float) -> F32:
    """How far down the music is at each sample, (total,): 0 not at all, 1 fully, a raised cosine between.

    lines: first and last sample + 1 of each, in any order. Fully down from the first sample of a line to its last; so long
    before and after it takes to move. Between two lines too near to one another it stays down.
    """
    curve = np.zeros(total, np.float32)
    slope = max(1, round(seconds * RATE))
    apart = 2 * slope + round(STAY_DOWN * RATE)
    joined: list[tuple[int, int]] = []
    for start, end in sorted(lines):
        if joined and start - joined[-1][1] < apart:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    fall = (0.5 - 0.5 * np.cos(np.pi * np.arange(slope) / slope)).astype(np.float32)  # from 0 to just under 1
    for start, end in joined:
        curve[start:end] = 1.0
        before = curve[max(0, start - slope) : start]
        before[:] = fall[slope - len(before) :]
        after = curve[end : end + slope]
        after[:] = fall[::-1][: len(after)]
    return curve


def _to_gain(decibels: F32) -> F32:
    """(n,) dB -> (n, 1) factors."""
    return np.asarray(np.float32(10) ** (decibels / np.float32(20)), np.float32)[:, None]


def _lay_line(text: str, start: int, own: F32, total: int) -> _Laid:
    """A line where it starts, faded; what would lie outside the trailer is left out."""
    faded = _fade_edges(own, LINE_FADE_IN, LINE_FADE_OUT)
    first = min(max(start, 0), total)
    return _Laid(text, first, faded[first - start : max(first - start, total - start)])


def _line_gains(lines: Sequence[_Laid], ducked: F32, music_lufs: float, over_music_db: float) -> list[np.float32]:
    """A factor for each line that makes all equally loud: as loud as the music is on the whole without them.

    If a line were then not over_music_db over the ducked music (n, 2) in its own span, all become louder together. A line
    without sound does not ask for that.
    """
    common = music_lufs if np.isfinite(music_lufs) else LUFS_WITHOUT_MUSIC
    loudness = [measure_samples(line.own) for line in lines]
    silent = [
        level_db(line.own) < SILENT_LINE_DB or not np.isfinite(own) for line, own in zip(lines, loudness, strict=True)
    ]
    for line, own, nothing in zip(lines, loudness, silent, strict=True):
        if not nothing:
            over = level_db(line.own) + common - own - level_db(ducked[line.start : line.end])
            common += max(0.0, over_music_db - over)
    gains = []
    for line, own, nothing in zip(lines, loudness, silent, strict=True):
        lift = common - own if np.isfinite(own) else MOST_LINE_LIFT_DB
        if nothing:
            lift = min(lift, MOST_LINE_LIFT_DB)
            log.warning("the line %r has almost no sound (%.0f dBFS)", line.text, level_db(line.own))
        gains.append(np.float32(10 ** (lift / 20)))
    return gains


def level_db(samples: F32) -> float:
    """RMS of (n, 2) in dB of full scale; -200 for none."""
    power = float(np.mean(samples.astype(np.float64) ** 2)) if len(samples) else 0.0
    return 10 * float(np.log10(max(power, 1e-20)))


def _local_level(music: F32) -> F32:
    """RMS of the music around each sample (n,), not below the floor under its mean; 0.05 (-26 dB) where there is none."""
    from scipy.ndimage import uniform_filter1d

    power = np.mean(music**2, axis=1)
    mean = float(power.mean())
    if mean < 1e-8:
        return np.full(len(music), 0.05, np.float32)
    local = uniform_filter1d(power, round(LEVEL_WINDOW * RATE), mode="nearest")
    return np.asarray(np.sqrt(np.maximum(local, mean * 10 ** (MUSIC_FLOOR_DB / 10))), np.float32)


def _follow_gain(own: F32, level: F32, film_db: float) -> F32:
    """Gain (n, 1) that keeps a piece of film sound film_db under the music, following the music smoothly."""
    rms = float(np.sqrt(np.mean(own**2))) if len(own) else 0.0
    if rms < 10 ** (SILENCE_DB / 20):
        return np.zeros((len(own), 1), np.float32)
    lift = 10 ** (MOST_LIFT_DB / 20)
    gain: F32 = np.minimum(level[: len(own)] * np.float32(10 ** (film_db / 20) / rms), np.float32(lift))
    return gain[:, None]


def _fade_edges(piece: F32, fade_in: float, fade_out: float) -> F32:
    """A copy of (n, 2) that rises and falls within so many seconds at its ends, half its length at most each."""
    shaped = piece.copy()
    rise, fall = (min(len(piece) // 2, round(seconds * RATE)) for seconds in (fade_in, fade_out))
    shaped[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)[:, None]
    shaped[len(piece) - fall :] *= np.linspace(1, 0, fall, dtype=np.float32)[:, None]
    return shaped
