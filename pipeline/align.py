"""Find out which film shot each shot of a trailer came from.

Pictures are compared, not the shots' feature vectors: a trailer shows a part of a shot under other sound, and of the 60
shots of a trailer of Big Buck Bunny the nearest `descriptor@1` vector was the right one for 45, by pictures for 59.
I film shots, J trailer shots, N pictures of a file, W looks of an encoder, P places in a picture, C values of a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from models.encoders import Encoder, ShotContent
from pipeline.analysis import read_samples
from pipeline.decode import read_pictures
from pipeline.features import crop_bars, encode_all
from pipeline.records import F32, F64, I64, U8, Analysis, Bool, Shots, Span
from pipeline.shrink import Sampler
from pipeline.watch import SAMPLE_LONGEST, SAMPLE_SHORTEST

COPY_WIDTH = 80  # px of the small copies that are kept
SOUGHT_WIDTH = 24  # px of the trailer's copies when they are sought in the film's; with 16 px a few more are mistaken
ZOOMS = (1.0, 0.93, 0.87, 0.8, 0.74)  # of the film's picture's width that a trailer may show
BORDER = 1  # px of a sought copy that do not count: where bars end is known to a pixel only
SURE = 0.8  # how well a copy must fit to say where it lies in the film's picture
NEAR = 0.05  # of a side: two pictures agree on what the trailer shows
AGREED = 0.2  # of a trailer's pictures must agree
ASKED = 24  # pictures that are looked at closely to say exactly
PLAIN = 0.5  # mean contrast of a copy, in steps of Lab lightness, below which it says nothing
CHANNEL_WEIGHTS = np.array([1, 2, 2], np.float32)[:, None, None]  # Lab: chroma spans less of its range than lightness
LOOK_WEIGHT = 0.2  # of the encoder's cosine beside the copies'
EXACT_WEIGHT = 0.3  # of the copies at the exact place, beside anywhere: shots may be reframed one by one
UNSEEN_PARTS = (0.25, 0.5, 0.75)  # of a shot of which no picture was sampled: where it is looked at
UNSEEN = -1.0  # similarity to a film shot of which there is no picture
# Below this a shot is probably not of the film. Chosen with `descriptor` on the trailers of benchmarks/alignment.py, four
# films and five recipes: none of 2,260 times that a shot was looked for in a film that does not have it reached it (highest
# 0.762), and 92 % of the 752 shots that were found lie above it.
DOUBTFUL_BELOW = 0.77


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a file's pictures look like, shot by shot.

    spans: the file's shots. times (N,) float64: when each picture is shown, on the file's clock, increasing.
    looks (N, W): how an encoder sees each, unit rows. copies (N, h, w, 3): small, BGR; without any, looks count alone.
    """

    spans: tuple[Span, ...]
    times: F64
    looks: F32
    copies: U8 = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))


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


def look_at_pictures(
    analysis: Analysis, shots: Shots, encoder: Encoder, *, progress: Callable[[float], None] | None = None
) -> Pictures:
    """The sampled pictures of a film or trailer, without black bars; of a shot without any, some are read from the file.

    The encoder is shown each picture as a shot of this one still. A small copy stays beside what it sees, whichever it is:
    a learned encoder is trained to see what is shown and not where, so that two shots of one face are alike to it.
    Raises InputError where the file can no longer be read, MissingDependencyError where a single picture does not fit into
    the device's memory.
    """
    unseen, added = _read_unseen(analysis, shots)
    times = np.concatenate([analysis.sample_times, unseen])
    order = np.argsort(times, kind="stable")
    left, top, right, bottom = analysis.letterbox.tolist()
    width, height = analysis.film.display_size
    shape = (height * (1 - top - bottom)) / (width * (1 - left - right))
    copies = np.zeros((len(times), max(2 * BORDER + 1, round(COPY_WIDTH * shape)), COPY_WIDTH, 3), np.uint8)

    def show(number: int) -> ShotContent:
        index = int(order[number])
        if index < len(analysis.sample_times):
            picture = read_samples(analysis, np.array([index]), shortest=encoder.shortest)[0]
        else:
            picture = added[index - len(analysis.sample_times)]
        picture = crop_bars(picture, analysis)
        cv2.resize(picture, (COPY_WIDTH, copies.shape[1]), dst=copies[number], interpolation=cv2.INTER_AREA)
        return ShotContent([picture], np.zeros((0, 3), np.float32), np.zeros((0, 1), np.float32))

    looks = encode_all(encoder, len(times), show, progress=progress)
    return Pictures(shots.spans, times[order], looks, copies)


def _read_unseen(analysis: Analysis, shots: Shots) -> tuple[F64, list[U8]]:
    """Times and pictures (h, w, 3) of the shots without a sampled one: short, or begun by a cut that hardly showed."""
    seen = np.searchsorted(analysis.sample_times, [[span.start, span.end] for span in shots.spans])
    sampler = Sampler(analysis.film, shortest=SAMPLE_SHORTEST, longest=SAMPLE_LONGEST)
    times: list[float] = []
    pictures: list[U8] = []
    for clear, (first, last) in zip(shots.clear, seen.tolist(), strict=True):
        if first == last:
            wanted = [clear.start + part * clear.duration for part in UNSEEN_PARTS]
            pictures += [sampler.show(frame) for frame in read_pictures(analysis.film, wanted)]
            times += wanted
    return np.array(times, np.float64), pictures


def compare_shots(trailer: Pictures, film: Pictures) -> F64:
    """Similarity (J, I): the mean over the trailer shot's pictures of the best similarity to a picture of the film shot.

    Each picture of the trailer shot should be found in the film shot, not the reverse: a trailer shows only a part.
    """
    alike = compare_pictures(trailer, film)
    best = np.full((len(alike), len(film.spans)), UNSEEN)
    for number, inside in enumerate(_pictures_of(film)):
        if inside.stop > inside.start:
            best[:, number] = alike[:, inside].max(axis=1)
    rows = []
    for span, inside in zip(trailer.spans, _pictures_of(trailer), strict=True):
        nearest = int(np.argmin(np.abs(trailer.times - (span.start + span.end) / 2)))
        rows.append(best[inside if inside.stop > inside.start else slice(nearest, nearest + 1)].mean(axis=0))
    return np.array(rows)


def compare_pictures(trailer: Pictures, film: Pictures) -> F64:
    """Similarity of each picture of a trailer to each of the film, up to 1.

    The encoder's cosine, and how well the small copy of the trailer's picture fits into the film's: the correlation of
    their Lab values, each channel less its mean, so that another exposure or tint is the same picture. It is sought
    anywhere and at several sizes, coarsely; then, where most pictures agree on what the trailer cuts off, exactly there:
    that tells views from one camera apart, and zooms into one pattern. Where a copy is plain the encoder alone counts.
    """
    from models.ssmp.data import cosine_matrix

    looks = cosine_matrix(trailer.looks, film.looks)
    if not len(trailer.copies) or not len(film.copies):
        return looks
    fits, frames = _fit_anywhere(trailer.copies, film.copies)
    alike = LOOK_WEIGHT * looks + (1 - LOOK_WEIGHT) * fits
    nearest = alike.argmax(axis=1)
    each = np.arange(len(nearest))
    frame = _agree(trailer.copies, film.copies[nearest], frames[each, nearest], fits[each, nearest])
    if frame is not None:
        fits = (1 - EXACT_WEIGHT) * fits + EXACT_WEIGHT * _fit_there(trailer.copies, film.copies, frame)
        alike = LOOK_WEIGHT * looks + (1 - LOOK_WEIGHT) * fits
    plain = fits.max(axis=1, keepdims=True) == 0
    return np.where(plain, looks, alike)


def _fit_anywhere(trailer: U8, film: U8) -> tuple[F64, F32]:
    """How well each copy (n, h, w, 3) of a trailer fits into each (m, H, W, 3) of a film: (n, m), up to 1.

    And where: (n, m, 4), left, top, right, bottom as fractions of the film's picture.
    """
    (high, wide), (height, width) = trailer.shape[1:3], film.shape[1:3]
    size = SOUGHT_WIDTH, max(2 * BORDER + 1, round(SOUGHT_WIDTH * high / wide))
    window = size[1] - 2 * BORDER, size[0] - 2 * BORDER
    fit = max(size[0], size[1] * width / height)  # px of the film's width into which the trailer's picture just fits
    # a set: small steps may round to one size
    sizes = sorted({(max(size[0], round(fit / z)), max(size[1], round(fit / z * height / width))) for z in ZOOMS})
    corners = [np.mgrid[: h - window[0] + 1, : w - window[1] + 1].reshape(2, -1)[::-1].T - BORDER for w, h in sizes]
    frames = np.concatenate(
        [np.hstack([at, at + size]) / (w, h, w, h) for at, (w, h) in zip(corners, sizes, strict=True)]
    )
    sought_NC = _standardise(np.array([_trim(_to_lab(copy, size)) for copy in trailer]))
    fits, places = np.empty((len(trailer), len(film))), np.empty((len(trailer), len(film)), np.int64)
    for number, copy in enumerate(film):
        places_PC = np.concatenate([_standardise(_cut_places(_to_lab(copy, wider), window)) for wider in sizes])
        cosines = sought_NC @ places_PC.T
        places[:, number] = cosines.argmax(axis=1)
        fits[:, number] = cosines.max(axis=1)
    return fits, frames.astype(np.float32)[places]


def _agree(trailer: U8, film: U8, frames: F32, fits: F64) -> F32 | None:
    """What a trailer shows of the film's pictures, (4,): left, top, right, bottom; None where its pictures do not agree.

    trailer, film (n, ...): copies, each beside the one that it fits best; frames (n, 4), fits (n,): where, and how well.
    """
    sure = np.flatnonzero(fits >= SURE)
    if not len(sure):
        return None
    near = np.abs(frames[sure][:, None] - frames[sure][None]).max(axis=2) <= NEAR
    most = int(near.sum(axis=1).argmax())
    agreed = sure[near[most]]
    if len(agreed) < AGREED * len(fits):
        return None
    best = agreed[np.argsort(-fits[agreed], kind="stable")[:ASKED]]
    return _refine(trailer[best], film[best], float((frames[agreed, 2] - frames[agreed, 0]).mean()))


def _refine(trailer: U8, film: U8, share: float) -> F32:
    """Where copies (n, h, w, 3) of a trailer's pictures fit best, all at one place, into the film's beside them: (4,).

    share: of the width of the film's pictures that the trailer shows, about.
    """
    (high, wide), (height, width) = trailer.shape[1:3], film.shape[1:3]
    size = max(8, round(2 * share * width)), max(8, round(2 * share * width * high / wide))  # half a pixel counts
    sought = [np.ascontiguousarray(_trim(_to_lab(copy, size)).transpose(1, 2, 0)) for copy in trailer]
    best, frame = -np.inf, np.array([0, 0, 1, 1], np.float32)
    for zoom in np.arange(1 - NEAR, 1 + NEAR, NEAR / 10):
        wider = max(size[0], round(2 * width * zoom)), max(size[1], round(2 * height * zoom))
        shown = [np.ascontiguousarray(_to_lab(copy, wider).transpose(1, 2, 0)) for copy in film]
        fits = np.sum(
            [cv2.matchTemplate(a, b, cv2.TM_CCOEFF_NORMED) for a, b in zip(shown, sought, strict=True)], axis=0
        )
        _, fit, _, (x, y) = cv2.minMaxLoc(fits)
        if fit > best:
            at = np.array([x, y, x, y]) - BORDER + [0, 0, *size]
            best, frame = fit, (at / [*wider, *wider]).astype(np.float32)
    return frame


def _fit_there(trailer: U8, film: U8, frame: F32) -> F64:
    """As _fit_anywhere(), in this frame alone, a pixel of the copies around it: (n, m)."""
    height, width = film.shape[1:3]
    left, top, right, bottom = (frame * [width, height, width, height]).tolist()
    size = max(2 * BORDER + 1, round(right - left)), max(2 * BORDER + 1, round(bottom - top))
    across, down = (right - left) / size[0], (bottom - top) / size[1]
    # of a pixel of the part to one of the copy, both counted from their middles
    move = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])
    sought_NC = _standardise(np.array([_trim(_to_lab(copy, size)) for copy in trailer]))
    fits = np.empty((len(trailer), len(film)))
    for number, copy in enumerate(film):
        part = cv2.warpAffine(
            copy, move, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        places_PC = _standardise(_cut_places(_to_lab(part, size), (size[1] - 2 * BORDER, size[0] - 2 * BORDER)))
        fits[:, number] = (sought_NC @ places_PC.T).max(axis=1)
    return fits


def _to_lab(bgr: U8 | cv2.typing.MatLike, size: tuple[int, int]) -> F32:
    """A copy of (w, h) px as Lab values (3, h, w), chroma weighted."""
    lab = cv2.cvtColor(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    return np.asarray(lab.transpose(2, 0, 1) * CHANNEL_WEIGHTS, np.float32)


def _trim(lab: F32) -> F32:
    """Without its border."""
    return lab[:, BORDER:-BORDER, BORDER:-BORDER]


def _cut_places(lab: F32, window: tuple[int, int]) -> F32:
    """All parts of (h, w) px of a copy (3, height, width): (P, 3, h, w)."""
    parts = sliding_window_view(lab, window, axis=(1, 2)).transpose(1, 2, 0, 3, 4)
    return np.asarray(parts.reshape(-1, 3, *window))


def _standardise(parts: F32) -> F32:
    """Parts (P, 3, h, w) as unit rows (P, C), each channel less its mean; zero where a part is plain."""
    rows = (parts - parts.mean(axis=(2, 3), keepdims=True)).reshape(len(parts), -1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.maximum(norms, 1e-9)
    rows[norms[:, 0] < PLAIN * np.sqrt(rows.shape[1] / 3)] = 0
    return np.asarray(rows, np.float32)


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
