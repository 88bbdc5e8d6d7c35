"""Follow the pictures of a stretch of film: how much each differs from the last, how bright it is, and some to keep.

A film may be watched in one go or in stretches that begin at key frames; joined, they give the same in either case. What is
large goes to files in a scratch folder, so that memory does not grow with the film.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

import cv2
import numpy as np
from av.video.frame import VideoFrame

from pipeline.records import F32, F64, I64, U8, Bool, Film
from pipeline.shrink import Sampler, shrink_for_comparing

# px of the pictures compared. PySceneDetect takes 256 of them in the same way, four neighbours a pixel: that is a sample of
# the change, and 160 x 90 of them estimate the same mean (the same 126 cuts on Big Buck Bunny, in 40 % of the time).
LONGEST = 160
TINY = 5  # the pictures kept of every moment are this many times smaller still
SAMPLE_SHORTEST, SAMPLE_LONGEST = 256, 1024  # px; encoders look at 224 to 256
JPEG_QUALITY = 85
FIGURES = 9  # kept of every picture: time, three scores, two of luma, three of focus
LIKELY_CUT = 20.0  # mean change of hue, saturation and value at which a shot probably begins
SAMPLE_OLD = 2.0  # s between sampled pictures
SAMPLE_YOUNG = 0.5  # s between them while a shot is young
YOUNG = 3.0  # s
SETTLED = 1 / 6  # s from a cut to the first sampled picture: a cut's neighbours are often blended
LUMA_BLACK, LUMA_WHITE = 16, 235  # of a limited-range picture
BLACK_EDGE = 33  # luma (16 is black) up to which a border row or column counts as black
LIT_SHARE = (
    0.05  # of a row or column must be brighter, so that one hot pixel or a subtitle corner does not open the bars
)
NETWORK_SIZE = (48, 27)  # px that TransNetV2 looks at


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a stretch of film that begins at a key frame (or at the film's first picture).

    times (n,), scores (n, 3) (row 0 zero: there is no picture before it), luma (n, 2): as in Analysis. focus (n, 3): so too,
    row 0 zero, but places are those in the picture as it is stored. sampled (m,):
    numbers of the pictures kept; lit_rows (m, h), lit_columns (m, w): which rows and columns of them are not black.
    samples: file of their JPEGs end to end, jpeg_sizes (m,) bytes of each. tiny: file of every picture's luma (th, tw)
    uint8, 1/25 the size of those compared; network: of every picture as TransNetV2 wants it, if it was asked for. first,
    last (h, w, 3): hue, saturation, value of the first and last picture. beyond: time and picture (h, w, 3) that follow.
    """

    times: F64
    scores: F32
    luma: F32
    focus: F32
    sampled: I64
    lit_rows: Bool
    lit_columns: Bool
    samples: Path
    jpeg_sizes: I64
    tiny: Path
    tiny_shape: tuple[int, int]
    network: Path | None
    first: U8
    last: U8
    beyond: tuple[float, U8] | None


class Watch:
    """Takes the pictures of one stretch, in order, and gives a Look. It owns three files in `scratch`, named by `name`."""

    def __init__(self, film: Film, scratch: Path, name: str, *, network: bool, middle: bool) -> None:
        """network: keep every picture for TransNetV2. middle: the stretch does not begin the film."""
        self._shrinker = shrink_for_comparing(film, LONGEST)
        self._sampler = Sampler(film, shortest=SAMPLE_SHORTEST, longest=SAMPLE_LONGEST)
        self._middle = middle
        height, width = self._shrinker.height, self._shrinker.width
        self._bgr: U8 = np.empty((height, width, 3), np.uint8)
        self._change: U8 = np.empty((height, width, 3), np.uint8)
        self._hsv: list[U8] = [np.empty((height, width, 3), np.uint8) for _ in range(2)]
        self._first: U8 | None = None
        self._count = 0
        self._figures: list[F64] = []  # blocks of rows of FIGURES
        self._rows: list[tuple[float, ...]] = []
        self._begun = -np.inf  # when the shot probably began
        self._time = -np.inf
        self._sampled: list[int] = []
        self._sizes: list[int] = []
        self._lit: list[tuple[Bool, Bool]] = []
        self._tiny_size = (max(1, width // TINY), max(1, height // TINY))
        self._paths = [scratch / f"{name}.{kind}.partial" for kind in ("samples", "tiny", "network")]
        self._files: list[BufferedWriter] = [path.open("wb") for path in self._paths[: 2 + network]]

    @property
    def count(self) -> int:
        """Pictures so far."""
        return self._count

    @property
    def time(self) -> float:
        """Of the last picture, s on the film's clock."""
        return self._time

    def add(self, frame: VideoFrame) -> None:
        """Take the next picture."""
        assert frame.time is not None
        hsv = self._look(frame, self._hsv[self._count % 2])
        score, focus = [0.0, 0.0, 0.0], (0.0, 0.0, 0.0)
        if self._count:
            cv2.absdiff(hsv, self._hsv[(self._count + 1) % 2], dst=self._change)
            # rounded as it will be kept, so that choose_samples decides on the same figures
            score = [float(np.float32(channel)) for channel in cv2.mean(self._change)[:3]]
            focus = find_focus(self._change)
        else:
            self._first = hsv.copy()
        mean, deviation = cv2.meanStdDev(self._shrinker.luma)
        self._rows.append((frame.time, *score, mean[0, 0], deviation[0, 0], *focus))
        if len(self._rows) == 4096:  # plain numbers cost thirty times the memory of an array
            self._pack()
        self._files[1].write(cv2.resize(self._shrinker.luma, self._tiny_size, interpolation=cv2.INTER_AREA).tobytes())
        if len(self._files) > 2:
            rgb = cv2.cvtColor(self._bgr, cv2.COLOR_BGR2RGB)
            self._files[2].write(cv2.resize(rgb, NETWORK_SIZE, interpolation=cv2.INTER_AREA).tobytes())
        if self._is_due(frame.time, sum(score) / 3 >= LIKELY_CUT):
            self._sample(frame)
        self._time = frame.time
        self._count += 1

    def _look(self, frame: VideoFrame, into: U8) -> U8:
        cv2.cvtColor(self._shrinker.shrink(frame), cv2.COLOR_YUV2BGR_I420, dst=self._bgr)
        return np.asarray(cv2.cvtColor(self._bgr, cv2.COLOR_BGR2HSV, dst=into), np.uint8)

    def _is_due(self, time: float, cut: bool) -> bool:
        """choose_samples() as the pictures come; in the middle of a film it errs on the side of more."""
        if not self._count:
            self._begun = time
            return True
        begun, unknown = self._begun, self._middle
        if cut:
            self._begun, self._middle = time, False
        if unknown:  # the shot before began where the stretch does, or some time before
            young = _ticks(time, self._time, SAMPLE_YOUNG)
            if cut:
                return young
            return (
                self._time - begun < SETTLED or _ticks(time, self._time, SAMPLE_OLD) or (time - begun < YOUNG and young)
            )
        return _due(time, self._time, self._begun, begun)

    def _sample(self, frame: VideoFrame) -> None:
        picture = self._sampler.show(frame)
        done, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise RuntimeError(f"no JPEG of a picture of {frame.width} x {frame.height}")
        self._sampled.append(self._count)
        self._sizes.append(len(jpeg))
        self._files[0].write(jpeg.tobytes())
        lit = (self._sampler.luma > BLACK_EDGE).astype(np.float32)
        self._lit.append((lit.mean(axis=1) > LIT_SHARE, lit.mean(axis=0) > LIT_SHARE))

    def _pack(self) -> None:
        self._figures.append(np.array(self._rows, np.float64).reshape(-1, FIGURES))
        self._rows = []

    def finish(self, beyond: VideoFrame | None) -> Look:
        """What was seen. beyond: the picture that follows the stretch, where one does."""
        self._pack()
        self.close()
        height, width = self._shrinker.height, self._shrinker.width
        figures = np.concatenate(self._figures)
        blank: U8 = np.zeros((height, width, 3), np.uint8)
        last = self._hsv[(self._count + 1) % 2] if self._count else blank
        follows = None
        if beyond is not None:
            assert beyond.time is not None
            follows = (beyond.time, self._look(beyond, np.empty_like(blank)))
        return Look(
            times=figures[:, 0].copy(),  # a view would keep all columns
            scores=figures[:, 1:4].astype(np.float32),
            focus=figures[:, 6:].astype(np.float32),
            luma=((figures[:, 4:6] - (LUMA_BLACK, 0)) * (255 / (LUMA_WHITE - LUMA_BLACK))).astype(np.float32),
            sampled=np.array(self._sampled, np.int64),
            lit_rows=np.array([rows for rows, _ in self._lit]),
            lit_columns=np.array([columns for _, columns in self._lit]),
            samples=self._paths[0],
            jpeg_sizes=np.array(self._sizes, np.int64),
            tiny=self._paths[1],
            tiny_shape=self._tiny_size[::-1],
            network=self._paths[2] if len(self._files) > 2 else None,
            first=blank if self._first is None else self._first,
            last=last,
            beyond=follows,
        )

    def close(self) -> None:
        """Close the files; finish() does."""
        for file in self._files:
            file.close()


def find_focus(change: U8) -> tuple[float, float, float]:
    """Where a picture changes more than elsewhere: (x, y) of the middle, 0..1 from the left and the top, and how much.

    change (h, w, 3): difference of hue, saturation and value to the picture before. What is at most twice the mean counts
    as a move of the camera, and the weight, 0..255, is the mean of what is left.
    """
    value = cv2.extractChannel(change, 2)
    moved = cv2.threshold(value, 2 * cv2.mean(value)[0], 0, cv2.THRESH_TOZERO)[1]
    moments = cv2.moments(moved)
    total = moments["m00"]
    if total <= 0:
        return 0.0, 0.0, 0.0
    tall, wide = value.shape
    return (moments["m10"] / total + 0.5) / wide, (moments["m01"] / total + 0.5) / tall, total / value.size


def turn_focus(focus: F32, rotation: int) -> F32:
    """(n, 3) places in the picture as it is stored -> as it is shown, turned by so many degrees counter-clockwise."""
    x, y, weight = focus.T
    for _ in range(rotation // 90):
        x, y = y, 1 - x
    turned: F32 = np.stack([x, y, weight], axis=1).astype(np.float32)
    return turned


def _ticks(time: float, before: float, step: float) -> bool:
    return time // step != before // step


def _due(time: float, before: float, begun: float, begun_before: float) -> bool:
    """Whether a picture is kept: its time, that of the picture before, and when the shots of either probably began."""
    young = _ticks(time, before, SAMPLE_YOUNG)
    if time - begun < SETTLED:
        return young and before - begun_before < SETTLED
    return before - begun < SETTLED or _ticks(time, before, SAMPLE_OLD) or (time - begun < YOUNG and young)


def choose_samples(times: F64, scores: F32) -> Bool:
    """(n,) True = this picture is kept: the film's first, one soon after each likely cut, then on a grid of film time.

    The grid is dense while a shot is young, and where every picture looks like a cut (action, grain, slides). It hangs on
    nothing but the last three seconds, so that a film may be watched in stretches.
    """
    likely = scores.astype(np.float64).sum(axis=1) / 3 >= LIKELY_CUT
    likely[0] = True
    begun = np.maximum.accumulate(np.where(likely, times, -np.inf))
    before, begun_before = (np.concatenate([of[:1], of[:-1]]) for of in (times, begun))
    old, young = ((times // step) != (before // step) for step in (SAMPLE_OLD, SAMPLE_YOUNG))
    age = times - begun
    settled = (before - begun < SETTLED) | old | ((age < YOUNG) & young)
    due: Bool = np.where(age < SETTLED, young & (before - begun_before < SETTLED), settled)
    due[0] = True
    return due


def find_bars(rows: Bool, columns: Bool, rotation: int) -> F32:
    """Left, top, right, bottom bars as fractions of the picture as it is shown.

    rows (h,), columns (w,): True = seen lit, in the picture as it is stored; rotation: degrees counter-clockwise to show it.
    """
    bars = [0.0, 0.0, 0.0, 0.0]
    for (low, high), lit in (((1, 3), rows), ((0, 2), columns)):
        places = np.flatnonzero(lit)
        if len(places):
            bars[low], bars[high] = places[0] / len(lit), 1 - (places[-1] + 1) / len(lit)
    turns = rotation // 90  # each turns top to left, right to top ...
    return np.array(bars[turns:] + bars[:turns], np.float32)
