"""Look at a film once: one decode gives everything that the later stages need to know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from pipeline.decode import Damage, Picture, Sound, decode_film
from pipeline.errors import InputError
from pipeline.records import F32, F64, I64, U8, Analysis, Film

WIDTH = 320  # px of the pictures looked at: cut scores hold from about 256 on, lettering needs a little more
SAMPLE_RATE = 16000  # Hz
SOUND_STEP = 0.1  # s per window of sound levels
BAND_EDGES = (0.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # Hz, octaves
SAMPLE_EVERY = 0.5  # s between sampled pictures while a shot is young
SAMPLE_YOUNG = 3.0  # s; an older shot is sampled more rarely
SAMPLE_OLD = 2.0  # s between sampled pictures then
LIKELY_CUT = 20.0  # mean change of hue, saturation and value after which sampling starts anew
JPEG_QUALITY = 85
BLACK_EDGE = 20  # luma up to which a border row or column counts as black
PROGRESS_PICTURES = 48


def analyse_film(film: Film, *, progress: Callable[[float], None] | None = None) -> Analysis:
    """Decode a film once into an Analysis.

    The memory grows with the sampled pictures and the scores alone: about 10 kB a second of film.
    Raises InputError when fewer than two pictures can be decoded.
    """
    damage = Damage()
    watch = _Watch()
    levels = _Levels()
    for item in decode_film(film, width=WIDTH, sample_rate=SAMPLE_RATE, damage=damage):
        if isinstance(item, Sound):
            levels.add(item)
            continue
        watch.add(item)
        if progress is not None and len(watch.times) % PROGRESS_PICTURES == 0:
            progress(min(1.0, (item.time - film.start) / film.duration))
    if len(watch.times) < 2:
        raise InputError(
            f"the film {film.path} has {len(watch.times)} picture(s) that can be decoded; a trailer needs a film"
        )
    times = np.array(watch.times, dtype=np.float64)
    steps = np.diff(times)
    warnings = list(damage.notes)
    if damage.packets or damage.pictures:
        warnings.append(
            f"{damage.packets} damaged packets and {damage.pictures} pictures without a usable time were left out"
        )
    usual = float(np.median(steps))
    seen = replace(
        film,
        start=float(times[0]),
        duration=float(times[-1] - times[0]) + usual,
        variable_rate=bool(np.mean(np.abs(steps - usual) > max(0.0015, 0.1 * usual)) > 0.02),
    )
    if seen.duration < 0.9 * film.duration:
        warnings.append(
            f"only {seen.duration:.1f} s of the {film.duration:.1f} s that the file announces can be decoded"
        )
    sound, sound_start = levels.finish()
    return Analysis(
        film=seen,
        times=times,
        scores=np.array(watch.scores, dtype=np.float32).reshape(-1, 3),
        luma=np.array(watch.luma, dtype=np.float32).reshape(-1, 2),
        letterbox=watch.letterbox(),
        sample_times=np.array(watch.sample_times, dtype=np.float64),
        sample_bytes=np.concatenate(watch.jpegs),
        sample_offsets=np.concatenate([[0], np.cumsum([len(j) for j in watch.jpegs])]).astype(np.int64),
        sound=sound,
        sound_start=sound_start,
        sound_step=SOUND_STEP,
        warnings=tuple(warnings),
    )


class _Watch:
    """Follows the pictures: how much each differs from the last, how bright it is, and some kept as JPEG."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.scores: list[tuple[float, float, float]] = []
        self.luma: list[tuple[float, float]] = []
        self.sample_times: list[float] = []
        self.jpegs: list[U8] = []
        self._last: tuple[U8, U8, U8] | None = None
        self._next_sample = -np.inf
        self._shot_start = -np.inf
        self._bright_rows: U8 | None = None  # brightest value seen in each row and column so far
        self._bright_columns: U8 | None = None

    def add(self, picture: Picture) -> None:
        hue, saturation, value = cv2.split(cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2HSV))
        planes: tuple[U8, U8, U8] = (hue, saturation, value)  # type: ignore[assignment]
        score = (0.0, 0.0, 0.0)
        if self._last is not None:
            pixels = float(value.size)
            score = tuple(cv2.norm(a, b, cv2.NORM_L1) / pixels for a, b in zip(planes, self._last, strict=True))  # type: ignore[assignment]
        self._last = planes
        gray = cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY)
        mean, deviation = cv2.meanStdDev(gray)
        self.times.append(picture.time)
        self.scores.append(score)
        self.luma.append((float(mean[0, 0]), float(deviation[0, 0])))
        if sum(score) / 3 >= LIKELY_CUT:
            self._shot_start = picture.time
            # not the first picture of the shot: a cut's neighbours are often blended
            self._next_sample = min(self._next_sample, picture.time + SAMPLE_EVERY / 3)
        if picture.time >= self._next_sample:
            self._sample(picture, gray)

    def _sample(self, picture: Picture, gray: object) -> None:
        young = picture.time - self._shot_start < SAMPLE_YOUNG
        self._next_sample = picture.time + (SAMPLE_EVERY if young else SAMPLE_OLD)
        done, jpeg = cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError(f"no JPEG of a picture of shape {picture.bgr.shape}")
        self.sample_times.append(picture.time)
        self.jpegs.append(np.asarray(jpeg, dtype=np.uint8).reshape(-1))
        plane = np.asarray(gray)
        # the 95th percentile, so that one hot pixel or a subtitle corner does not open the bars
        rows = np.percentile(plane, 95, axis=1).astype(np.uint8)
        columns = np.percentile(plane, 95, axis=0).astype(np.uint8)
        self._bright_rows = rows if self._bright_rows is None else np.maximum(self._bright_rows, rows)
        self._bright_columns = columns if self._bright_columns is None else np.maximum(self._bright_columns, columns)

    def letterbox(self) -> F32:
        """Left, top, right, bottom bars as fractions."""
        bars = np.zeros(4, np.float32)
        for (low, high), bright in zip(((1, 3), (0, 2)), (self._bright_rows, self._bright_columns), strict=True):
            assert bright is not None
            lit = np.flatnonzero(bright > BLACK_EDGE)
            if len(lit):
                bars[low] = lit[0] / len(bright)
                bars[high] = 1 - (lit[-1] + 1) / len(bright)
        return bars


class _Levels:
    """Adds up sound power per window and band, each sample in the window that its time says."""

    def __init__(self) -> None:
        self._size = round(SOUND_STEP * SAMPLE_RATE)
        self._start: float | None = None
        self._pending: F32 = np.zeros(0, np.float32)
        self._pending_at = 0  # sample number of the first pending one, counted from _start
        self._windows: dict[int, F64] = {}
        frequencies = np.fft.rfftfreq(self._size, 1 / SAMPLE_RATE)
        self._band = np.digitize(frequencies, BAND_EDGES) - 1
        self._taper = np.hanning(self._size).astype(np.float32)
        self._scale = 2.0 / float(np.sum(self._taper) ** 2 / np.sum(self._taper**2)) / self._size

    def add(self, sound: Sound) -> None:
        if self._start is None:
            self._start = sound.time
            self._pending_at = 0
        at = round((sound.time - self._start) * SAMPLE_RATE)
        expected = self._pending_at + len(self._pending)
        if abs(at - expected) > self._size // 2:  # a hole, or a jump back: start anew on the window grid
            self._pending = np.zeros(0, np.float32)
            self._pending_at = max(0, -(-at // self._size) * self._size)
            skip = self._pending_at - at
            self._pending = sound.samples[skip:] if skip < len(sound.samples) else self._pending
        else:
            self._pending = np.concatenate([self._pending, sound.samples])
        while len(self._pending) >= self._size:
            self._measure(self._pending[: self._size])
            self._pending = self._pending[self._size :]
            self._pending_at += self._size

    def _measure(self, block: F32) -> None:
        power = np.abs(np.fft.rfft(np.nan_to_num(block) * self._taper)) ** 2 * self._scale
        levels = np.bincount(self._band, power, minlength=len(BAND_EDGES))
        self._windows[self._pending_at // self._size] = levels.astype(np.float64)

    def finish(self) -> tuple[F32, float]:
        """RMS (w, bands), and the time of window 0 on the film's clock."""
        if not self._windows or self._start is None:
            return np.zeros((0, len(BAND_EDGES)), np.float32), 0.0
        levels = np.zeros((max(self._windows) + 1, len(BAND_EDGES)), np.float32)
        for number, power in self._windows.items():
            levels[number] = np.sqrt(power)
        return levels, self._start


def read_samples(analysis: Analysis, numbers: I64) -> list[U8]:
    """The sampled pictures of these numbers, BGR (h, w, 3)."""
    pictures: list[U8] = []
    for number in numbers:
        low, high = analysis.sample_offsets[number], analysis.sample_offsets[number + 1]
        picture = cv2.imdecode(analysis.sample_bytes[low:high], cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"sampled picture {number} does not decode")
        pictures.append(np.asarray(picture, dtype=np.uint8))
    return pictures
