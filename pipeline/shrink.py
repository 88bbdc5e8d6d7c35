"""Make small pictures of decoded ones, at a fraction of what converting them whole would cost."""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipeline.records import U8, Film

# Planar formats whose planes are scaled as they lie; all others are converted first. Name -> bits a sample.
PLANAR = {
    **{f"yuv4{sampling}p": 8 for sampling in ("20", "22", "44", "11", "10", "40")},
    **{f"yuv4{sampling}p{bits}le": bits for sampling in ("20", "22", "44") for bits in (10, 12)},
}
LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG


class Shrinker:
    """Small copies of a film's pictures, all of one size. Not for several threads at once.

    width, height: px of the copies, even. smooth: every pixel of the picture counts, for copies that are looked at; else
    only the nearest four, as PySceneDetect scales: of a large picture little is read. The buffer that shrink() hands out is
    its own.
    """

    def __init__(self, width: int, height: int, *, smooth: bool) -> None:
        self.width, self.height = width, height
        self._smooth = smooth
        self._yuv: U8 = np.empty((height * 3 // 2, width), np.uint8)  # I420: luma, then both chroma planes end to end
        chroma = self._yuv[height:].reshape(-1)
        quarter = width * height // 4
        self._planes = (
            self._yuv[:height],
            chroma[:quarter].reshape(height // 2, width // 2),
            chroma[quarter : 2 * quarter].reshape(height // 2, width // 2),
        )
        self._reformatter = VideoReformatter()

    @property
    def luma(self) -> U8:
        """(height, width) luma of the picture that was shrunk last, 16 = black, 235 = white."""
        return self._planes[0]

    def shrink(self, frame: VideoFrame) -> U8:
        """A picture as I420 (height * 3 / 2, width), limited range, overwritten by the next one."""
        bits = PLANAR.get(frame.format.name)
        if bits is None or frame.color_range == FULL_RANGE:
            how = Interpolation.AREA if self._smooth else Interpolation.FAST_BILINEAR
            frame = self._reformatter.reformat(
                frame, self.width, self.height, "yuv420p", interpolation=how, dst_color_range=LIMITED_RANGE
            )
            bits = 8
        for plane, target in zip(frame.planes, self._planes, strict=True):
            size = (target.shape[1], target.shape[0])
            picture = view_plane(plane, np.uint8 if bits == 8 else np.uint16)
            if self._smooth:
                picture = _halve(picture, size)
            if bits == 8:
                cv2.resize(picture, size, dst=target, interpolation=cv2.INTER_LINEAR)
            else:
                small = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
                cv2.convertScaleAbs(small, dst=target, alpha=0.5 ** (bits - 8))
        return self._yuv


def _halve(picture: NDArray[np.unsignedinteger], size: tuple[int, int]) -> NDArray[np.unsignedinteger]:
    """A whole fraction of a picture's size, not below `size` (w, h): means of whole blocks, the quickest good way."""
    factor = min(picture.shape[1] // size[0], picture.shape[0] // size[1])
    if factor < 2:
        return picture
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    whole = picture[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def view_plane(plane: VideoPlane, kind: type[np.uint8] | type[np.uint16]) -> NDArray[np.unsignedinteger]:
    """A decoded plane (height, width) where it lies, not copied: valid as long as its frame."""
    samples: NDArray[np.unsignedinteger] = np.frombuffer(memoryview(plane), kind)
    return samples.reshape(-1, plane.line_size // samples.itemsize)[: plane.height, : plane.width]


def shrink_for_comparing(film: Film, longest: int) -> Shrinker:
    """Copies as the film is stored, their longer side `longest` px; no picture is enlarged."""
    scale = min(1.0, longest / max(film.width, film.height))
    return Shrinker(_even(film.width * scale), _even(film.height * scale), smooth=False)


class Sampler:
    """Pictures as they are shown: turned upright, in square pixels, BGR.

    shortest: px of the shorter side (no picture is enlarged); longest: px that the other side may have at most.
    """

    def __init__(self, film: Film, *, shortest: int, longest: int) -> None:
        size = size_samples(film, shortest, longest)
        self._turns = film.rotation // 90
        self._shrinker = Shrinker(*(size[::-1] if self._turns % 2 else size), smooth=True)

    @property
    def luma(self) -> U8:
        """(h, w) luma of the picture that was shown last, as it is stored, 16 = black."""
        return self._shrinker.luma

    def show(self, frame: VideoFrame) -> U8:
        """(h, w, 3)."""
        picture = np.asarray(cv2.cvtColor(self._shrinker.shrink(frame), cv2.COLOR_YUV2BGR_I420), np.uint8)
        return np.ascontiguousarray(np.rot90(picture, self._turns)) if self._turns else picture


def size_samples(film: Film, shortest: int, longest: int) -> tuple[int, int]:
    """(width, height) of the pictures that a Sampler shows."""
    width, height = film.display_size
    scale = min(1.0, shortest / min(width, height), longest / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)
