"""Add a film and its trailers, as features, to a folder of training data.

The folder has the layout of models/ssmp/data.py: FILM.npy (I, D), the film's shots in order, and FILM-1.npy, FILM-2.npy
... (J, D), its trailers' shots.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.records import F32
from pipeline.workdir import partial_path

TRAILER_NUMBER = re.compile(r"-(\d+)$")  # at the end of a stem it says: a trailer
LONGEST_NAME = 60  # characters; file systems take 255 bytes, and a character may have four
SAME = 1e-5  # features that differ by no more are the same


def name_film(stem: str) -> str:
    """A film file's stem as a name in the folder: letters, digits, _ . and -, and not taken for a trailer's.

    `Blade Runner-2049` -> `Blade_Runner_2049`.
    """
    name = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:LONGEST_NAME]
    return TRAILER_NUMBER.sub(r"_\1", name) or "film"


def check_pair(folder: Path, name: str, width: int) -> None:
    """Raises InputError where a film of this name with features of this width cannot go into the folder."""
    if not name or name.startswith(".") or re.search(r"[/\\\x00-\x1f]", name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"--name {name!r} is no name for a file: at most {LONGEST_NAME} characters, no / and no . first"
        )
    if TRAILER_NUMBER.search(name):
        raise InputError(f"--name {name} would be read as a trailer: end it otherwise, as in {name_film(name)}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--data {folder} is a file; name a folder")
    for path in _list_files(folder):
        found = _read_width(path)
        if found != width:
            raise InputError(
                f"--data {folder} holds features of width {found} ({path.name}), these have {width}: name another folder"
            )
    if not (folder / f"{name}.npy").exists() and _list_trailers(folder, name):
        raise InputError(f"--data {folder} holds trailers of {name}, but no {name}.npy: choose another --name")


def add_pair(folder: Path, name: str, film_ID: F32, trailers: Sequence[F32]) -> list[Path]:
    """Write NAME.npy and a NAME-<number>.npy for each trailer (J, D); give back the trailers' files in order, film first.

    What is there already with the same rows is left as it is and named again; nothing is ever written over. All files
    are whole before the first gets its name, and the film's is the first. Raises InputError, and has written nothing,
    where check_pair does, where the folder's NAME is another film, or where there is no room or right.
    """
    from models.ssmp.data import read_features

    check_pair(folder, name, film_ID.shape[1])
    film_path = folder / f"{name}.npy"
    new: dict[Path, F32] = {}
    if not film_path.exists():
        new[film_path] = film_ID
    elif not _equal(read_features(film_path), film_ID):
        raise InputError(
            f"{film_path} is another film, or this one cut into other shots: choose another --name or --data"
        )
    there = _list_trailers(folder, name)
    paths = [film_path]
    for rows in trailers:
        path = next((p for p in there.values() if _equal(new[p] if p in new else read_features(p), rows)), None)
        if path is None:
            number = max(there, default=0) + 1
            path = there[number] = folder / f"{name}-{number}.npy"
            new[path] = rows
        paths.append(path)
    _write_all(folder, new)
    return paths


def _write_all(folder: Path, arrays: dict[Path, F32]) -> None:
    partials: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, rows in arrays.items():
            partials[path] = partial_path(path)
            with partials[path].open("wb") as file:
                np.save(file, rows, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            os.link(partial, path)  # unlike a rename it never replaces what another run has just put there
    except FileExistsError as error:
        raise InputError(f"{error.filename2} was written just now by another run: try again") from error
    except OSError as error:
        raise InputError(f"cannot write to --data {folder}: {error.strerror or error}") from error
    finally:
        for partial in partials.values():
            with suppress(OSError):  # where the folder itself is the trouble there is nothing to remove
                partial.unlink(missing_ok=True)


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npy") if not path.name.startswith("."))


def _list_trailers(folder: Path, name: str) -> dict[int, Path]:
    """Number -> file of the trailers of a film."""
    found = {}
    for path in _list_files(folder):
        match = TRAILER_NUMBER.search(path.stem)
        if match and path.stem[: match.start()] == name:
            found[int(match[1])] = path
    return found


def _read_width(path: Path) -> int:
    """From the file's header: a folder of films can hold gigabytes."""
    from models.ssmp.data import NO_ARRAY

    try:
        _, width = np.lib.format.open_memmap(path, mode="r").shape
        return int(width)
    except (OSError, *NO_ARRAY) as error:
        raise InputError(f"--data holds a file that is no features: {path}: mend or remove it") from error


def _equal(a_ND: F32, b_ND: F32) -> bool:
    """Whether the rows point the same way; a folder's rows may have any length."""
    from models.ssmp.data import unit_rows

    return a_ND.shape == b_ND.shape and bool(np.abs(unit_rows(a_ND) - unit_rows(b_ND)).max() <= SAME)
