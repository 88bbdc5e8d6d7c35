"""Read films and their trailers as shot features, in the layout of the public CMTD data set.

A folder holds FILM.npy (I, D), the film's shots in order, and FILM-1.npy, FILM-2.npy ... (J, D), its trailers' shots.
I film shots, J trailer shots (slots), D feature width, B batch.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputError

ROUNDING = 1e-12  # equal rows may differ by this after a matrix product: still a tie
TRAILER_NAME = re.compile(r"(?P<film>.+)-(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One trailer and its film. Rows are float32 and of length 1 (a zero vector stays zero).

    name: the trailer file's stem. film: the film file's stem. movie_ID, trailer_JD: features in order.
    labels_J int64: which film shot each trailer shot is.
    """

    name: str
    film: str
    movie_ID: NDArray[np.float32]
    trailer_JD: NDArray[np.float32]
    labels_J: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples padded with zeros to the longest film and trailer. labels_BJ is 0 on padding, lengths are true."""

    movie_BID: Tensor
    trailer_BJD: Tensor
    labels_BJ: Tensor
    movie_lengths: Tensor
    trailer_lengths: Tensor


def load_samples(folder: Path) -> list[Sample]:
    """Every trailer of the folder, sorted by name; the arrays of a film are shared among its trailers.

    Rows are scaled to length 1: eq 12 compares directions only, and input tokens of one length suit every encoder.
    Raises InputError, naming the file, for one that is missing, truncated, not (rows, D) numbers, not finite, or of
    another width than the rest, and for a folder without trailers. Nothing is unpickled.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder of features: {folder}")
    stems = sorted(path.stem for path in folder.glob("*.npy"))
    pairs = [(stem, match["film"]) for stem in stems if (match := TRAILER_NAME.fullmatch(stem))]
    if not pairs:
        raise InputError(f"no trailers in {folder}: expected FILM.npy and FILM-1.npy")
    films: dict[str, NDArray[np.float32]] = {}
    samples: list[Sample] = []
    for stem, film in pairs:
        if film not in films:
            films[film] = read_features(folder / f"{film}.npy")
        movie, trailer = films[film], read_features(folder / f"{stem}.npy")
        width = samples[0].movie_ID.shape[1] if samples else movie.shape[1]
        for name, array in ((film, movie), (stem, trailer)):
            if array.shape[1] != width:
                raise InputError(f"{folder / name}.npy has features of width {array.shape[1]}, the others {width}")
        samples.append(Sample(stem, film, movie, trailer, align_shots(trailer, movie)))
    return samples


def read_features(path: Path) -> NDArray[np.float32]:
    """One file of features, (rows, D) float32 rows of length 1, or InputError naming it."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot read features {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, SyntaxError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(f"not a whole .npy file of numbers: {path}: {str(error).splitlines()[0][:120]}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"features must be numbers of shape (shots, width): {path} is {what}")
    if not np.isfinite(array).all():
        raise InputError(f"features hold NaN or infinity: {path}, first in row {_first_bad_row(array)}")
    return unit_rows(array).astype(np.float32)


def unit_rows(array: NDArray[np.number]) -> NDArray[np.float64]:
    """Rows scaled to length 1, in float64; a zero row stays zero."""
    rows = array.astype(np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


def align_shots(trailer_JD: NDArray[np.number], movie_ID: NDArray[np.number]) -> NDArray[np.int64]:
    """g_j = argmax_i cos(v_j, m_i), (J,): ties go to the lowest i, a zero vector has cosine 0 (method.md section 1)."""
    cosines = cosine_matrix(trailer_JD, movie_ID)
    best = cosines.max(axis=1, keepdims=True)
    labels: NDArray[np.int64] = (cosines >= best - ROUNDING).argmax(axis=1)
    return labels


def cosine_matrix(a_ND: NDArray[np.number], b_MD: NDArray[np.number]) -> NDArray[np.float64]:
    """Cosines (N, M) in float64; 0 where a vector is zero."""
    cosines: NDArray[np.float64] = unit_rows(a_ND) @ unit_rows(b_MD).T
    return cosines


def mean_cosine(samples: Sequence[Sample]) -> float:
    """Mean cosine between different shots of one film, over the films of the samples."""
    films = {sample.film: sample.movie_ID.astype(np.float64) for sample in samples}
    means = []
    for rows in films.values():
        if len(rows) > 1:
            total = np.square(rows.sum(axis=0)).sum() - np.square(rows).sum()  # sum over i != k of m_i . m_k
            means.append(total / (len(rows) * (len(rows) - 1)))
    return float(np.mean(means)) if means else 0.0


def make_batch(samples: Sequence[Sample], device: str | torch.device = "cpu") -> Batch:
    """Pad samples to one batch on a device."""
    n_shots, n_slots = max(len(s.movie_ID) for s in samples), max(len(s.trailer_JD) for s in samples)
    width = samples[0].movie_ID.shape[1]
    movie = np.zeros((len(samples), n_shots, width), np.float32)
    trailer = np.zeros((len(samples), n_slots, width), np.float32)
    labels = np.zeros((len(samples), n_slots), np.int64)
    for b, sample in enumerate(samples):
        movie[b, : len(sample.movie_ID)] = sample.movie_ID
        trailer[b, : len(sample.trailer_JD)] = sample.trailer_JD
        labels[b, : len(sample.labels_J)] = sample.labels_J
    return Batch(
        torch.from_numpy(movie).to(device),
        torch.from_numpy(trailer).to(device),
        torch.from_numpy(labels).to(device),
        torch.tensor([len(s.movie_ID) for s in samples], device=device),
        torch.tensor([len(s.trailer_JD) for s in samples], device=device),
    )


def split_by_film(
    samples: Sequence[Sample], share: float, rng: np.random.Generator
) -> tuple[list[Sample], list[Sample]]:
    """(training, held out): about `share` of the FILMS are held out, one at least if there are two; none is in both."""
    films = sorted({sample.film for sample in samples})
    count = min(max(round(share * len(films)), 1), len(films) - 1)
    held = {films[i] for i in rng.permutation(len(films))[:count]}
    return [s for s in samples if s.film not in held], [s for s in samples if s.film in held]


def _first_bad_row(array: NDArray[np.number]) -> int:
    return int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
