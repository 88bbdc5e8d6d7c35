"""Read films and their trailers as shot features, in the layouts of the public CMTD and MMSC data sets.

One folder with FILM.npy (I, D), the film's shots in order, and FILM-1.npy, FILM-2.npy ... (J, D), its trailers' shots; or
two, X_movie_shot_embs with FILM.npy and X_trailer_shot_embs with FILM.npy or FILM-1.npy.
I film shots, J trailer shots (slots), D feature width, B batch.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tokenize
import zipfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.errors import InputError

ROUNDING = 1e-12  # equal rows may differ by this after a matrix product: still a tie
TRAILER_NAME = re.compile(r"(?P<film>.+)-(?P<number>\d+)")
# what numpy raises for a .npy file that is cut short, or whose header holds other bytes
NO_ARRAY = (
    ValueError, EOFError, SyntaxError, MemoryError, TypeError, OverflowError, RecursionError, tokenize.TokenError,
    zipfile.BadZipFile,
)  # fmt: skip
MOVIES, TRAILERS = "movie_shot_embs", "trailer_shot_embs"  # how the two folders' names end
YEAR = re.compile(r"\b(?:19|20)\d\d\b")


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
    """Samples padded with zeros to the longest film and trailer. labels_BJ is 0 on padding.

    Lengths are true, and stay on the host: whoever needs them to lay out a GPU's work must not wait for the GPU.
    """

    movie_BID: Tensor
    trailer_BJD: Tensor
    labels_BJ: Tensor
    movie_lengths: Tensor
    trailer_lengths: Tensor


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a film beside its features: for tables by period and by genre."""

    year: int | None
    genres: tuple[str, ...]


def load_samples(folder: Path) -> list[Sample]:
    """Every trailer of the folder, sorted by name; the arrays of a film are shared among its trailers.

    Rows are scaled to length 1: eq 12 compares directions only, and input tokens of one length suit every encoder.
    Raises InputError, naming the file, for one that is missing, truncated, not (rows, D) numbers, not finite, or of
    another width than the rest, and for a folder without trailers. Nothing is unpickled.
    """
    films: dict[Path, NDArray[np.float32]] = {}
    samples: list[Sample] = []
    for film, trailer in find_pairs(folder):
        if film not in films:
            films[film] = read_features(film)
        movie_ID, trailer_JD = films[film], read_features(trailer)
        width = samples[0].movie_ID.shape[1] if samples else movie_ID.shape[1]
        for path, array in ((film, movie_ID), (trailer, trailer_JD)):
            if array.shape[1] != width:
                raise InputError(f"{path} has features of width {array.shape[1]}, the others {width}")
        if len(trailer_JD) > len(movie_ID):
            raise InputError(f"{trailer} has {len(trailer_JD)} shots, its film {film.name} only {len(movie_ID)}")
        samples.append(Sample(trailer.stem, film.stem, movie_ID, trailer_JD, align_shots(trailer_JD, movie_ID)))
    return samples


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(film's file, trailer's file) for every trailer of the folder, sorted by the trailer's name.

    A-1 is a trailer of A, unless A-1-1 is there too: then A-1 is a film. Raises InputError where there are none.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder of features: {folder}")
    movies, trailers = folder, folder
    if not _list_features(folder):
        ends = {end: sorted(path for path in folder.glob(f"*{end}") if path.is_dir()) for end in (MOVIES, TRAILERS)}
        if any(len(found) != 1 for found in ends.values()):
            raise InputError(
                f"no features in {folder}: expected FILM.npy and FILM-1.npy, or one folder *{MOVIES} and one *{TRAILERS}"
            )
        movies, trailers = ends[MOVIES][0], ends[TRAILERS][0]
    stems = {path.stem for path in _list_features(trailers)}
    named = {stem: match["film"] for stem in stems if (match := TRAILER_NAME.fullmatch(stem))}
    if movies == trailers:
        pairs = {stem: film for stem, film in named.items() if stem not in named.values()}
    else:  # every file is a trailer; one of a film's own name is its only one
        known = {path.stem for path in _list_features(movies)}
        pairs = {stem: stem if stem in known else named.get(stem, stem) for stem in stems}
    if not pairs:
        raise InputError(f"no trailers in {folder}: expected FILM.npy and FILM-1.npy")
    return [(movies / f"{film}.npy", trailers / f"{stem}.npy") for stem, film in sorted(pairs.items())]


def _list_features(folder: Path) -> list[Path]:
    """Files of features; what begins with a dot is some system's own."""
    return [path for path in folder.glob("*.npy") if not path.name.startswith(".")]


def digest_samples(samples: Sequence[Sample]) -> str:
    """SHA-256 of names, labels and all features: the same data, or other data."""
    digest = hashlib.sha256()
    films: set[str] = set()
    for sample in samples:
        new = () if sample.film in films else (sample.movie_ID,)
        films.add(sample.film)
        digest.update(f"|{sample.name}|{sample.film}|".encode())
        for array in (sample.labels_J, sample.trailer_JD, *new):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def choose_samples(samples: Sequence[Sample], names: Collection[str]) -> list[Sample]:
    """The samples whose trailer or film is named, in their order. Raises InputError for a name that none has."""
    unknown = sorted(set(names) - {s.name for s in samples} - {s.film for s in samples})
    if unknown:
        raise InputError(f"the list names {len(unknown)} that the data does not have: {', '.join(unknown[:5])}")
    return [sample for sample in samples if sample.name in names or sample.film in names]


def read_lists(paths: Iterable[Path]) -> set[str]:
    """Names of films or trailers, one a line; blank lines and what follows a # are left out. InputError if unreadable."""
    names: set[str] = set()
    for path in paths:
        lines = _read_text(path).splitlines()
        found = {name for line in lines if (name := line.partition("#")[0].strip().removesuffix(".npy"))}
        if not found:
            raise InputError(f"no names in the list {path}: one film or trailer a line, such as 12 or 12-1")
        names |= found
    return names


def read_facts(path: Path) -> dict[str, Facts]:
    """Film -> year and genres, from a CSV file.

    Either with a header that has the column film, and year and genres (separated by |) where known; or, as the index of
    the public set, without one: title, film. A title's last number that can be a year is the year.
    Raises InputError, naming the line, for what cannot be read.
    """
    try:
        rows = [row for row in csv.reader(_read_text(path).splitlines()) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"not a table: {path}: {error}") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    facts: dict[str, Facts] = {}
    for number, row in enumerate(rows[1:] if "film" in header else rows, 2 if "film" in header else 1):
        if "film" in header:
            named = dict(zip(header, (cell.strip() for cell in row), strict=False))
            film, year = named.get("film", ""), named.get("year", "")
            genres = tuple(genre.strip().lower() for genre in named.get("genres", "").split("|") if genre.strip())
        else:
            years = YEAR.findall(",".join(row[:-1]))
            film, year, genres = row[-1].strip(), years[-1] if years else "", ()
        if not film or (year and not re.fullmatch("[0-9]{4}", year)) or len(row) < 2:
            raise InputError(
                f"{path}, row {number}: expected film,year,genres or title,film; got {','.join(row)[:80]!r}"
            )
        facts[film] = Facts(int(year) if year else None, genres)
    return facts


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")  # the public index has titles in other encodings
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def read_features(path: Path) -> NDArray[np.float32]:
    """One file of features, (rows, D) float32 rows of length 1, or InputError naming it."""
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot read features {path}: {error.strerror or error}") from error
    except NO_ARRAY as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"not a whole .npy file of numbers: {path}: {why}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(f"features must be numbers of shape (shots, width): {path} is {what}")
    if not np.isfinite(array).all():
        raise InputError(f"features hold NaN or infinity: {path}, first in row {_first_bad_row(array)}")
    return unit_rows(array).astype(np.float32)


def unit_rows(array: NDArray[np.number]) -> NDArray[np.float64]:
    """Rows scaled to length 1, in float64; a zero row stays zero."""
    rows = array.astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows /= np.where(largest > 0, largest, 1)  # else the squares of very large numbers are infinite
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
    return Feeder(samples, device).batch(range(len(samples)))


class Feeder:
    """Makes batches of some samples; what fits into half of a GPU's free memory is sent there once, for all batches."""

    def __init__(self, samples: Sequence[Sample], device: str | torch.device) -> None:
        self.samples, self.device = samples, torch.device(device)
        arrays: dict[int, NDArray[np.generic]] = {  # films are shared among their trailers
            id(a): a for sample in samples for a in (sample.movie_ID, sample.trailer_JD)
        }
        resident = self.device.type == "cuda" and (
            sum(a.nbytes for a in arrays.values()) < torch.cuda.mem_get_info(self.device)[0] / 2
        )
        home = self.device if resident else torch.device("cpu")
        arrays |= {id(sample.labels_J): sample.labels_J for sample in samples}
        self._tensors = {key: torch.from_numpy(array).to(home) for key, array in arrays.items()}

    def batch(self, chosen: Iterable[int]) -> Batch:
        """The samples of these numbers, padded."""
        samples = [self.samples[i] for i in chosen]

        def pad(arrays: Iterable[NDArray[np.generic]]) -> Tensor:
            return pad_sequence([self._tensors[id(array)] for array in arrays], batch_first=True).to(self.device)

        return Batch(
            pad(s.movie_ID for s in samples),
            pad(s.trailer_JD for s in samples),
            pad(s.labels_J for s in samples),
            torch.tensor([len(s.movie_ID) for s in samples]),
            torch.tensor([len(s.trailer_JD) for s in samples]),
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
