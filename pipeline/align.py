"""Find out which film shot each shot of a trailer came from.

Pictures are compared, not the shots' feature vectors: a trailer shows a part of a shot under other sound, and of the 60
shots of a trailer of Big Buck Bunny the nearest `descriptor@1` vector was the right one for 45, by pictures for 59.
I film shots, J trailer shots, N pictures sampled from a file, S signature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from models.encoders import Encoder, ShotContent, encode_shot
from models.encoders.descriptor import Descriptor
from pipeline.analysis import read_samples
from pipeline.features import crop_bars
from pipeline.records import F32, F64, I64, U8, Analysis, Bool, Shots, Span

THUMBNAIL = (16, 9)  # px
CHROMA_WEIGHT = 2.0  # chroma spans less of its range than lightness
UNSEEN = -1.0  # similarity to a film shot of which no picture was sampled
# Below this a shot is probably not of the film. Chosen on trailers that `make` cut from four films, each as made, with
# another grade, dull and small, cropped by a tenth, and cropped to scope: 98 % of their 621 shots lie above it, none of
# their 21 title cards does (highest 0.72), and none of 1,688 times that a shot was looked for in another film (0.711).
DOUBTFUL_BELOW = 0.73
PROGRESS_PICTURES = 100


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a file's sampled pictures look like, shot by shot.

    spans: the file's shots. times (N,) float64: when each picture is shown, on the file's clock, increasing.
    signatures (N, S): unit rows.
    """

    spans: tuple[Span, ...]
    times: F64
    signatures: F32


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the shots of a trailer come from; arrays of J entries, one a trailer shot.

    film_shots int64: the film shot that looks most like it; two trailer shots may have the same. similarity float64: how
    much, up to 1. margin float64: by how much more than the second-best film shot; near 0 where the film has look-alikes.
    doubtful: True = probably not of the film. black: True = a black shot, which says nothing.
    """

    film_shots: I64
    similarity: F64
    margin: F64
    doubtful: Bool
    black: Bool

    @property
    def found(self) -> Bool:
        """(J,) True = a shot of the film, neither doubtful nor black."""
        found: Bool = ~(self.doubtful | self.black)
        return found


def look_at_pictures(analysis: Analysis, shots: Shots, *, progress: Callable[[float], None] | None = None) -> Pictures:
    """All sampled pictures of a film or trailer, without black bars, as signatures."""
    count = len(analysis.sample_times)
    encoder = Descriptor()
    rows = []
    for number in range(count):
        picture = crop_bars(read_samples(analysis, np.array([number]))[0], analysis)
        rows.append(_sign(picture, encoder))
        if progress is not None and number % PROGRESS_PICTURES == PROGRESS_PICTURES - 1:
            progress((number + 1) / count)
    return Pictures(shots.spans, analysis.sample_times, np.array(rows, np.float32))


def _sign(bgr: U8, encoder: Encoder) -> F32:
    """Unit vector (S,): how the encoder sees the picture, and a small copy of it, with equal weight.

    The descriptor sees colours and edges: it bears a crop, but not another grade, and finds title cards like dark shots.
    The small copy bears a grade and tells such pictures apart.
    """
    silent = ShotContent([bgr], np.zeros((0, 3), np.float32), np.zeros((0, 1), np.float32))
    look = encode_shot(encoder, silent)
    small = cv2.resize(cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB), THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))  # another exposure or tint is the same picture
    small[:, :, 1:] *= CHROMA_WEIGHT
    norm = float(np.linalg.norm(small))
    sign = np.concatenate([look, small.reshape(-1) / norm if norm > 1.0 else np.zeros(small.size)])
    return np.asarray(sign / np.linalg.norm(sign), np.float32)


def compare_shots(trailer: Pictures, film: Pictures) -> F64:
    """Similarity (J, I): the mean over the trailer shot's pictures of the best cosine with a picture of the film shot.

    Each picture of the trailer shot should be found in the film shot, not the reverse: a trailer shows only a part.
    """
    from models.ssmp.data import cosine_matrix

    cosines = cosine_matrix(trailer.signatures, film.signatures)
    best = np.full((len(cosines), len(film.spans)), UNSEEN)
    for number, inside in enumerate(_pictures_of(film)):
        if inside.stop > inside.start:
            best[:, number] = cosines[:, inside].max(axis=1)
    rows = []
    for span, inside in zip(trailer.spans, _pictures_of(trailer), strict=True):
        nearest = int(np.argmin(np.abs(trailer.times - (span.start + span.end) / 2)))
        rows.append(best[inside if inside.stop > inside.start else slice(nearest, nearest + 1)].mean(axis=0))
    return np.array(rows)


def _pictures_of(file: Pictures) -> list[slice]:
    """The pictures within each shot; an empty slice where a shot was too short for one to be sampled."""
    edges = np.searchsorted(file.times, [*(span.start for span in file.spans), np.inf])
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def align_trailer(trailer: Pictures, film: Pictures, flags: Sequence[frozenset[str]]) -> Alignment:
    """The film shot of each trailer shot; ties go to the earliest. flags: those of the trailer's shots.

    A shot is doubtful whose similarity is below DOUBTFUL_BELOW, or of which no picture was sampled.
    """
    similarity_JI = compare_shots(trailer, film)
    order = np.sort(similarity_JI, axis=1)
    best = order[:, -1]
    second = order[:, -2] if order.shape[1] > 1 else np.zeros(len(order))
    unseen = np.array([inside.stop == inside.start for inside in _pictures_of(trailer)])
    return Alignment(
        # equal pictures may differ in the last digits after a matrix product: still a tie
        film_shots=(similarity_JI >= best[:, None] - 1e-9).argmax(axis=1),
        similarity=best,
        margin=best - second,
        doubtful=(best < DOUBTFUL_BELOW) | unseen,
        black=np.array(["black" in shot for shot in flags]),
    )
