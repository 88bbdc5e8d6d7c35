"""Films and tracks whose truth is known because it was planted.

A barcode film shows its own frame number in every picture, changes its look at every planted cut, and sounds one steady
tone a shot: whoever decodes a trailer made from it can tell which film frame each trailer frame came from, and by
spectrum which shot each stretch of sound came from.
"""

from __future__ import annotations

import wave
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from models.encoders import Encoder, ShotContent
from pipeline.analysis import analyse_film
from pipeline.records import F32, F64, U8, Analysis, Bool, Film
from pipeline.writing import write_film

# The barcode: two rows of blocks along the top edge; the lower row is the upper one inverted. 16 columns hold the frame
# number in Gray code (from one picture to the next one column flips: little flicker, and a blend of two neighbours is
# unreadable rather than wrong), 4 its checksum (a crop that shifts the columns is unreadable rather than wrong).
NUMBER_BITS = 16
CHECK_BITS = 4
COLUMNS = NUMBER_BITS + CHECK_BITS
ROW_HEIGHT = 1 / 16  # of the picture's height, each of the two rows
LEAST_CONTRAST = 50  # of 255 between a block and its complement; H.264 leaves over 150, a fade to a third just this

# Without mbtree: with it x264's AVX-512 code gives other bytes on every run at some widths (measured at 160 and 320
# pixels, PyAV's and imageio's ffmpeg alike), and the same seed is to give the same file.
X264_OPTIONS = {"preset": "veryfast", "x264-params": "mbtree=0"}

SAMPLE_RATE = 48000
TONE_LEVEL = 0.2  # amplitude, full scale = 1
FIRST_TONE = 330.0  # Hz
TONE_STEP = 37.0  # Hz; a Hann window of 0.3 s tells tones 4 / 0.3 = 13 Hz apart
HIGHEST_TONE = 12000.0  # Hz; well inside what AAC keeps
RAMP_SECONDS = 0.005  # a tone rises and falls within its shot: no clicks that were not planted
CLICK_LEVEL = 0.9
CLICK_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class SyntheticFilm:
    """What was planted in a barcode film.

    shots: frames per shot. timestamps: true time of every frame, seconds; end: when the last picture ends. cuts: the
    first frame of every shot but the first. numbers: what the barcode of every frame says; None on black shots, which
    carry none, and on static shots the shot's first frame, for the whole picture stands still. tones: Hz, one a shot;
    clicks: seconds; both empty for a silent film.
    """

    path: Path
    frame_rate: Fraction
    size: tuple[int, int]
    shots: tuple[int, ...]
    timestamps: tuple[Fraction, ...]
    end: Fraction
    cuts: tuple[int, ...]
    numbers: tuple[int | None, ...]
    tones: tuple[float, ...]
    clicks: tuple[Fraction, ...]

    @property
    def edges(self) -> tuple[Fraction, ...]:
        """Seconds at which the shots begin, and the end of the film: one more than there are shots."""
        return (*(self.timestamps[frame] for frame in (0, *self.cuts)), self.end)

    def find_shot(self, frame: int) -> int:
        """The shot that a frame belongs to."""
        return int(np.searchsorted(self.cuts, frame, side="right"))


def analyse(film: Film, **how: Any) -> Analysis:
    """Look at a film with a scratch folder that is gone afterwards. how: as analyse_film takes it."""
    with TemporaryDirectory() as scratch:
        return analyse_film(film, Path(scratch), **how)


def encode_shot(encoder: Encoder, shot: ShotContent) -> F32:
    """One shot -> its unit vector (width,)."""
    vector: F32 = encoder.encode([encoder.prepare(shot)])[0]
    return vector


# Barcodes ---------------------------------------------------------------------------------------------------------


def _encode_number(number: int) -> Bool:
    """(COLUMNS,) the upper row of the barcode; True is white."""
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"no barcode for frame {number}")
    gray = number ^ (number >> 1)
    word = gray << CHECK_BITS | _check_number(gray)
    return np.array([word >> (COLUMNS - 1 - k) & 1 for k in range(COLUMNS)], dtype=bool)


def _check_number(gray: int) -> int:
    """CRC-4-ITU (x^4 + x + 1, G.704) of 16 bits, inverted so that all-black is not a number."""
    rest = gray << CHECK_BITS
    for bit in range(COLUMNS - 1, CHECK_BITS - 1, -1):
        if rest >> bit & 1:
            rest ^= 0b10011 << (bit - CHECK_BITS)
    return rest ^ 0b1111


def draw_barcode(picture: U8, number: int) -> None:
    """Write a frame number along the top of a picture (h, w, 3), in place."""
    height, width = picture.shape[:2]
    rows = [round(k * ROW_HEIGHT * height) for k in range(3)]
    edges = [round(k * width / COLUMNS) for k in range(COLUMNS + 1)]
    for k, white in enumerate(_encode_number(number)):
        picture[rows[0] : rows[1], edges[k] : edges[k + 1]] = 255 if white else 0
        picture[rows[1] : rows[2], edges[k] : edges[k + 1]] = 0 if white else 255


def read_barcode(picture: U8) -> int | None:
    """The frame number that a picture (h, w, 3) of any size carries, or None where its check bits fail.

    The picture may have been scaled, not cropped or letterboxed.
    """
    height, width = picture.shape[:2]
    if height < 2 / ROW_HEIGHT or width < 2 * COLUMNS:
        return None
    levels = np.empty((2, COLUMNS))
    for row in range(2):
        for k in range(COLUMNS):  # the inner half of each block: its edges bleed
            top, bottom = ((row + part) * ROW_HEIGHT * height for part in (0.25, 0.75))
            left, right = ((k + part) * width / COLUMNS for part in (0.25, 0.75))
            block = picture[int(top) : max(int(top) + 1, int(bottom)), int(left) : max(int(left) + 1, int(right))]
            levels[row, k] = block.mean()
    contrast = levels[0] - levels[1]
    if np.abs(contrast).min() < LEAST_CONTRAST:
        return None
    word = sum(1 << (COLUMNS - 1 - k) for k in range(COLUMNS) if contrast[k] > 0)
    gray, check = word >> CHECK_BITS, word & ((1 << CHECK_BITS) - 1)
    if check != _check_number(gray):
        return None
    number = 0
    while gray:
        number ^= gray
        gray >>= 1
    return number


# Pictures ---------------------------------------------------------------------------------------------------------


def _convert_hue(hue: float, saturation: float, value: float) -> F32:
    """(3,) RGB 0..255 of a colour; hue 0..1 around the circle."""
    wheel = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.asarray(255 * value * (1 - saturation + saturation * wheel), dtype=np.float32)


def _draw_content(rng: np.random.Generator, shot: int, frames: int, size: tuple[int, int]) -> Iterator[U8]:
    """The moving pictures of one shot: bars of the shot's own colours drift, a disc circles.

    Hues step by the golden ratio and brightness alternates, so that neighbouring shots differ by more than 60 of 255 in
    value and 0.38 of the circle in hue, far above what any cut detector asks, and no two of the first dozens look alike.
    """
    width, height = size
    hue = (0.1 + shot * 0.6180339887) % 1
    bright = 0.92 if shot % 2 == 0 else 0.5
    dark, light = _convert_hue(hue, 0.75, bright * 0.72), _convert_hue((hue + 0.06) % 1, 0.6, bright)
    angle, bars, speed = rng.uniform(0, np.pi), rng.uniform(2.0, 6.0), rng.uniform(0.15, 0.6)
    disc = _convert_hue((hue + 0.45) % 1, 0.8, 1.0 - 0.4 * (shot % 2))
    turn, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.2)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    across = (x * np.cos(angle) + y * np.sin(angle)) * bars
    for frame in range(frames):
        wave_ = 0.5 + 0.5 * np.sin(2 * np.pi * (across + speed * frame / 24))
        picture = dark + (light - dark) * wave_[..., None]
        cx = width / height * (0.5 + 0.3 * np.cos(turn + speed * frame / 6))
        cy = 0.56 + 0.22 * np.sin(turn + speed * frame / 6)
        inside = np.clip((radius - np.hypot(x - cx, y - cy)) * height / 2 + 0.5, 0, 1)
        picture += (disc - picture) * inside[..., None]
        yield picture.astype(np.uint8)


def _draw_pictures(
    shots: Sequence[int], size: tuple[int, int], black: Collection[int], static: Collection[int], seed: int
) -> Iterator[U8]:
    number = 0
    for shot, frames in enumerate(shots):
        if shot in black:
            for _ in range(frames):
                yield np.zeros((size[1], size[0], 3), np.uint8)
        elif shot in static:
            picture = next(_draw_content(np.random.default_rng([seed, shot]), shot, 1, size))
            draw_barcode(picture, number)
            for _ in range(frames):
                yield picture
        else:
            for k, picture in enumerate(_draw_content(np.random.default_rng([seed, shot]), shot, frames, size)):
                draw_barcode(picture, number + k)
                yield picture
        number += frames


# Sound ------------------------------------------------------------------------------------------------------------


def list_tones(shots: int) -> tuple[float, ...]:
    """Hz of the tone of each shot, all different; far apart for neighbours where there are few shots."""
    step = min(TONE_STEP, (HIGHEST_TONE - FIRST_TONE) / max(1, shots))
    return tuple(FIRST_TONE + step * k for k in range(shots))


def _make_click() -> F32:
    """(n,) a short burst that starts at full level, so that its first loud sample tells its time."""
    n = int(CLICK_SECONDS * SAMPLE_RATE)
    burst = np.where(np.arange(n) // 4 % 2 == 0, 1.0, -1.0) * np.linspace(1, 0.4, n)  # a square wave of 6 kHz
    return np.asarray(burst * CLICK_LEVEL, dtype=np.float32)


def _make_sound(edges: Sequence[Fraction], tones: Sequence[float], clicks: Sequence[Fraction]) -> F32:
    """(n, 2) tones from edge to edge, and clicks. Sample 0 is time 0."""
    samples = np.zeros(round(edges[-1] * SAMPLE_RATE), np.float32)
    ramp = int(RAMP_SECONDS * SAMPLE_RATE)
    for start, end, tone in zip(edges, edges[1:], tones, strict=False):
        a, b = round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)
        shape = np.clip(np.minimum(np.arange(b - a), np.arange(b - a)[::-1]) / ramp, 0, 1)
        samples[a:b] = TONE_LEVEL * shape * np.sin(2 * np.pi * tone * np.arange(b - a) / SAMPLE_RATE)
    click = _make_click()
    for time in clicks:
        at = round(time * SAMPLE_RATE)
        samples[at : at + len(click)] = click[: len(samples) - at]
    return np.repeat(samples[:, None], 2, axis=1)


def tone_level(samples: F32, rate: int, frequency: float, start: float, end: float) -> float:
    """Amplitude of a tone in samples (n,) over [start, end) seconds, by projection on a Hann-windowed wave.

    A full-scale sine reads 1; tones further than 4 / (end - start) Hz away read below 0.01 of their level.
    """
    a, b = max(0, round(start * rate)), min(len(samples), round(end * rate))
    if b - a < 16:
        raise ValueError(f"nothing to measure between {start} and {end} s")
    window = np.hanning(b - a)
    turn = np.exp(-2j * np.pi * frequency * np.arange(a, b) / rate)
    return float(2 * abs((samples[a:b].astype(np.float64) * window * turn).sum()) / window.sum())


# Films ------------------------------------------------------------------------------------------------------------


def vfr_timestamps(n: int, seed: int = 0, *, grid: int = 1000) -> list[Fraction]:
    """n times of a variable-rate film, in seconds from 0, on a grid of 1/grid s (1000 as in Matroska, 90000 as in MP4).

    Runs of 1/24 and 1/30 s as telecined film mixes them, and now and then a picture held for up to a second, as screen
    recorders and slide shows write.
    """
    rng = np.random.default_rng([seed, 7])
    steps: list[Fraction] = []
    while len(steps) < n:
        if rng.random() < 0.2:
            steps.append(Fraction(int(rng.integers(200, 1000)), 1000))
        else:
            steps += [Fraction(1, int(rng.choice([24, 30])))] * int(rng.integers(4, 20))
    return [Fraction(round(time * grid), grid) for time in accumulate(steps[: n - 1], initial=Fraction(0))]


def barcode_film(
    path: Path,
    *,
    frame_rate: Fraction,
    shots: Sequence[int],
    size: tuple[int, int] = (320, 180),
    timestamps: Sequence[Fraction] | None = None,
    sound: bool = True,
    clicks: bool = False,
    black: Collection[int] = (),
    static: Collection[int] = (),
    seed: int = 0,
    codec: str = "libx264",
    crf: int = 18,
) -> SyntheticFilm:
    """Write a barcode film; the container follows from the suffix.

    shots: frames per shot. timestamps: seconds, one a frame, for a variable rate. clicks: one on the first frame of each
    shot. black, static: shots that are black throughout, and that stand still; two black shots in a row have no cut
    between them that could be seen.
    """
    frames = sum(shots)
    if min(shots, default=0) < 1:
        raise ValueError("every shot needs a frame")
    if timestamps is not None and len(timestamps) != frames:
        raise ValueError(f"{len(timestamps)} timestamps for {frames} frames")
    times = tuple(timestamps) if timestamps is not None else tuple(Fraction(k) / frame_rate for k in range(frames))
    starts = [0, *accumulate(shots)]
    numbers: list[int | None] = []
    for shot, count in enumerate(shots):
        if shot in black:
            numbers += [None] * count
        else:
            numbers += [starts[shot] if shot in static else starts[shot] + k for k in range(count)]
    end = times[-1] + 1 / frame_rate
    film = SyntheticFilm(
        path=path,
        frame_rate=frame_rate,
        size=size,
        shots=tuple(shots),
        timestamps=times,
        end=end,
        cuts=tuple(starts[1:-1]),
        numbers=tuple(numbers),
        tones=list_tones(len(shots)) if sound else (),
        clicks=tuple(times[start] for start in starts[:-1]) if sound and clicks else (),
    )
    write_film(
        path,
        _draw_pictures(shots, size, black, static, seed),
        frame_rate=frame_rate,
        timestamps=timestamps,
        sound=_make_sound(film.edges, film.tones, film.clicks) if sound else None,
        sample_rate=SAMPLE_RATE,
        codec=codec,
        crf=crf,
        options=X264_OPTIONS if codec == "libx264" else {},
    )
    return film


def click_track(
    path: Path, *, bpm: float, seconds: float, step_at: float | None = None, rate: int = 44100, seed: int = 0
) -> F64:
    """Write a mono 16-bit wav of clicks on the beat and return the beat times in seconds.

    Every fourth click is accented. From step_at seconds on (half-way unless said) the track is four times as loud and a
    chord lies under the clicks: one plain edge for whoever cuts music into segments.
    """
    step_at = seconds / 2 if step_at is None else step_at
    rng = np.random.default_rng([seed, 8])
    samples = np.zeros(round(seconds * rate))
    beats = np.arange(0.5, seconds - 0.05, 60 / bpm)
    t = np.arange(int(0.04 * rate)) / rate
    for number, beat in enumerate(beats):
        strong = number % 4 == 0
        hit = np.exp(-t / 0.008) * (
            np.sin(2 * np.pi * (1500 if strong else 1000) * t) + 0.3 * rng.standard_normal(t.size)
        )
        at = round(beat * rate)
        part = samples[at : at + t.size]
        part += (hit * (0.5 if strong else 0.35))[: part.size]
    time = np.arange(samples.size) / rate
    for frequency in (220.0, 277.18, 329.63):
        samples += 0.07 * np.sin(2 * np.pi * frequency * time) * np.clip((time - step_at) / 0.01, 0, 1)
    samples += 0.002 * rng.standard_normal(samples.size)  # no digital silence between the clicks
    samples *= np.where(time < step_at, 0.2, 0.8)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return np.asarray(beats, dtype=np.float64)
