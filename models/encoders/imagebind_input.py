"""Bring pictures and sound into the shape that ImageBind's towers read.

Vision (arXiv 2305.05665, section 4, and the published example): 5 clips of 2 s spread evenly over a shot, of each its first
and last picture, the short side brought to 224, 3 square crops along the long side; a shot's vector is the mean of the 15.
The published resize is bilinear without antialiasing, which drops detail when a picture shrinks a lot; ours come in at about
256 px, and there it makes no difference to speak of. Sound: 3 clips of 2 s as Kaldi's log mel filterbank.

Shapes: V views (clips x crops) of a shot, 2 pictures a view, 3 colours (red, green, blue), 224 x 224 px.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.encoders import Identity

F32: TypeAlias = NDArray[np.float32]
Views: TypeAlias = Literal["official", "one"]

LICENCE = "CC-BY-NC-SA 4.0 (non-commercial)"
WIDTH = 1024
IDENTITIES: dict[Views, Identity] = {
    "official": Identity("imagebind@1", WIDTH, LICENCE),
    "one": Identity("imagebind-light@1", WIDTH, LICENCE),  # other vectors, so another name
}
CLIPS: dict[Views, int] = {"official": 5, "one": 1}
CLIP_SECONDS = 2.0
SIDE = 224  # px
COLOUR_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, red, green, blue, of 0..1
COLOUR_DEVIATION = (0.26862954, 0.26130258, 0.27577711)

SOUND_RATE = 16_000  # Hz
SOUND_CLIPS = 3
WINDOW, STEP = SOUND_RATE * 25 // 1000, SOUND_RATE * 10 // 1000  # samples: 25 ms every 10 ms
FFT = 512  # samples: WINDOW, rounded up to a power of two
BINS, FRAMES = 128, 204
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97
LEAST_POWER = float(np.finfo(np.float32).eps)
SOUND_MEAN, SOUND_DEVIATION = -4.268, 9.138  # of AudioSet's log mel values


@dataclass(frozen=True, slots=True)
class Seen:
    """What the vision tower looks at in one shot.

    pixels (V, 3, 2, 224, 224) float16, 0..1: half precision keeps more than the 8 bits that were there, at half the size.
    shares (V,) float32, sum 1: a view that would be there several times (a still, a short shot) is there once.
    """

    pixels: NDArray[np.float16]
    shares: F32


def clip_starts(seconds: float, clips: int) -> list[float]:
    """Where clips of CLIP_SECONDS begin in something that long, spread evenly; a single one lies in the middle."""
    room = max(seconds - CLIP_SECONDS, 0.0)
    return [room / 2] if clips == 1 else [room * k / (clips - 1) for k in range(clips)]


def clip_moments(seconds: float, views: Views) -> list[float]:
    """First and last moment of each clip, clip after clip. Clips overlap in a shot under 10 s: the list goes back, too."""
    length = min(seconds, CLIP_SECONDS)
    return [start + edge for start in clip_starts(seconds, CLIPS[views]) for edge in (0.0, length)]


def view_pictures(pictures: Sequence[NDArray[np.uint8]], views: Views) -> Seen:
    """A shot's pictures -> its views. pictures: BGR (h, w, 3), one for each of clip_moments, or one for all of them."""
    if len(pictures) == 1:
        pictures = [pictures[0]] * (2 * CLIPS[views])
    if len(pictures) != 2 * CLIPS[views]:
        raise ValueError(f"{len(pictures)} pictures for {CLIPS[views]} clips of two")
    # equal moments give the same picture object, not merely an equal one
    pairs = Counter((id(first), id(last)) for first, last in zip(pictures[::2], pictures[1::2], strict=True))
    resized = {id(picture): resize(picture) for picture in pictures}
    pixels: list[F32] = []
    counts: list[int] = []
    for (first, last), count in pairs.items():
        for view, times in _crop_pair(resized[first], resized[last], views):
            pixels.append(view)
            counts.append(count * times)
    shares = np.asarray(counts, np.float32)
    return Seen(np.stack(pixels).astype(np.float16), shares / shares.sum())


def resize(bgr: NDArray[np.uint8]) -> F32:
    """A BGR picture (h, w, 3) -> red, green, blue (3, h', w'), 0..1, short side SIDE, long side rounded down."""
    import torch

    height, width = bgr.shape[:2]
    short = min(height, width)
    size = [SIDE if side == short else side * SIDE // short for side in (height, width)]
    planes = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1].transpose(2, 0, 1)))[None].float() / 255
    resized: F32 = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)[0].numpy()
    return resized


def crop_starts(length: int, views: Views) -> list[int]:
    """Where squares of SIDE begin along a side of that length: its beginning, middle and end, or its middle alone."""
    middle = math.ceil((length - SIDE) / 2)
    return [0, middle, length - SIDE] if views == "official" else [middle]


def _crop_pair(first: F32, last: F32, views: Views) -> Iterator[tuple[F32, int]]:
    """Two resized pictures -> their crops (3, 2, SIDE, SIDE), each with how often it counts."""
    crops = [_crop(first, views), _crop(last, views)]
    if first.shape[1] == first.shape[2] and last.shape[1] == last.shape[2]:  # a square picture's crops are one
        yield np.stack([crops[0][0], crops[1][0]], axis=1), len(crops[0])
        return
    for pair in zip(*crops, strict=True):
        yield np.stack(pair, axis=1), 1


def _crop(planes: F32, views: Views) -> list[F32]:
    _, height, width = planes.shape
    if height > width:
        return [planes[:, y : y + SIDE] for y in crop_starts(height, views)]
    return [planes[:, :, x : x + SIDE] for x in crop_starts(width, views)]


def hear_clips(waveform: F32) -> F32:
    """Sound (samples,) at SOUND_RATE, mono, full scale = 1 -> spectra (k, 1, BINS, FRAMES), k = SOUND_CLIPS or, where the
    clips would be equal, 1. Raises ValueError for what is not one-dimensional or not finite.
    """
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError("a waveform is one row of finite samples")
    length = round(CLIP_SECONDS * SOUND_RATE)
    starts = {int(start * SOUND_RATE) for start in clip_starts(len(waveform) / SOUND_RATE, SOUND_CLIPS)}
    clips = [log_mel(waveform[start : start + length]) for start in sorted(starts)]
    frames = np.stack([fit_frames(clip) for clip in clips])
    return ((frames - SOUND_MEAN) / SOUND_DEVIATION).transpose(0, 2, 1)[:, None].astype(np.float32)


def fit_frames(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, BINS) -> (FRAMES, BINS): cut, or zeros behind, as the published model was fed (zero is loud here, not silence)."""
    fitted = np.zeros((FRAMES, BINS))
    fitted[: len(frames)] = frames[:FRAMES]
    return fitted


def log_mel(waveform: F32) -> NDArray[np.float64]:
    """Kaldi's log mel filterbank of a waveform, its mean taken off before: (frames, BINS), natural logarithm of power.

    Kaldi's fbank with htk_compat, Hann window, no dither, no energy, edges snipped. Less than one window is padded to one
    with silence. In double precision: a bin far below its neighbours would else hold their rounding.
    """
    samples = waveform.astype(np.float64)
    samples -= samples.mean() if len(samples) else 0.0
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - PREEMPHASIS * before) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2
    return np.log(np.maximum(power @ mel_weights(), LEAST_POWER))


@lru_cache(maxsize=1)
def mel_weights() -> NDArray[np.float64]:
    """Triangles, evenly spaced on the mel scale from LOWEST_HZ to half the rate: (FFT / 2 + 1, BINS)."""
    mels = _to_mel(np.arange(FFT // 2 + 1) * SOUND_RATE / FFT)
    edges = np.linspace(_to_mel(LOWEST_HZ), _to_mel(SOUND_RATE / 2), BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mels[:, None] - left) / (centre - left), (right - mels[:, None]) / (right - centre)
    weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return weights


def _to_mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    mel: NDArray[np.float64] = 1127 * np.log(1 + np.asarray(hertz) / 700)
    return mel
