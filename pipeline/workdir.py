"""Keep what a step made, find it again, and never show it half-written.

Every artifact is one .npz file named by its step and its key: the hash of everything that it was made from. It holds the
record's arrays as they are and the rest as JSON; nothing in it can run code. This store is the one truth about what is
done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import struct
import time
import types
import typing
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np

from pipeline.errors import InputError
from pipeline.media import sync_file

T = TypeVar("T")
log = logging.getLogger("trailer")

KEY_LENGTH = 24  # hex digits of a SHA-256: 96 bits
STALE_PARTIAL = 24 * 3600.0  # s; a partial file older than a day belongs to nobody
DELIVERY_SECONDS = (
    60.0  # s without a byte written, after which a partial file of a process that is gone belongs to nobody
)
JSON_NAME = "record"
# what a file that was damaged on the disk can raise when it is read: zipfile has a RuntimeError for "encrypted" and such
DAMAGE = (ValueError, OSError, EOFError, KeyError, TypeError, RuntimeError, zlib.error, zipfile.BadZipFile)
MAPPED_BYTES = 16 << 20  # arrays from this size on are mapped into memory


@dataclass(frozen=True, slots=True)
class Artifact(Generic[T]):
    """A record on disk. It travels between steps in the record's place: a path and a key, whatever the record's size."""

    path: Path
    key: str
    kind: type[T]

    def load(self) -> T:
        """Read the record back. Raises ValueError, OSError or KeyError when the file is not what the key says."""
        # one opening: a file that is put in its place meanwhile is another file
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            tree = json.loads(bytes(arrays[JSON_NAME]).decode())
            value = _decode(tree, self.kind, _Arrays(file, arrays))
        return typing.cast(T, value)


class _Arrays:
    """The arrays of an .npz, the large ones mapped and not read: a film's sampled pictures are hundreds of megabytes."""

    def __init__(self, file: BinaryIO, arrays: Mapping[str, Any]) -> None:
        self._file, self._arrays = file, arrays

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        file = self._file
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(f"{name}.npy")
        if entry.file_size < MAPPED_BYTES or entry.compress_type != zipfile.ZIP_STORED:
            return typing.cast("np.ndarray[Any, Any]", self._arrays[name])
        file.seek(entry.header_offset + 26)  # lengths of the name and of the extra field in the local header
        sizes = struct.unpack("<HH", file.read(4))
        file.seek(entry.header_offset + 30 + sum(sizes))
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, kind = read(file)
        if kind.hasobject:
            raise ValueError(f"{name} holds objects")
        return np.memmap(file, kind, "r", file.tell(), shape, "F" if fortran else "C")


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """What a step hands back: its artifact, and whether it was there already. age: seconds since it was made."""

    artifact: Artifact[T]
    reused: bool
    age: float = 0.0


def make_key(step: str, version: int, inputs: Mapping[str, Any]) -> str:
    """The name of what `step` makes of these inputs. inputs: JSON values; a float counts by its shortest text."""
    text = json.dumps({"step": step, "version": version, "inputs": inputs}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class WorkDir:
    """The folder of one film's artifacts: <work_dir>/<film fingerprint>/."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.folder = (root / fingerprint).absolute()  # other processes are given paths in it
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise InputError(
                f"cannot use the work folder {self.folder}: {error.strerror} (set TRAILER_WORK_DIR)"
            ) from error

    def _sweep(self) -> None:
        """Remove partial files that a killed run left behind."""
        for scratch in self.folder.glob(".*.scratch"):
            with suppress(FileNotFoundError):
                newest = max(path.stat().st_mtime for path in (scratch, *scratch.iterdir()))
                if time.time() - newest > STALE_PARTIAL:
                    shutil.rmtree(scratch)
        for partial in self.folder.rglob("*.partial*"):
            with suppress(FileNotFoundError):  # another run on this film has just finished it
                if time.time() - partial.stat().st_mtime > STALE_PARTIAL:
                    partial.unlink(missing_ok=True)

    @contextmanager
    def make_scratch(self, name: str) -> Iterator[Path]:
        """An empty folder for what a step needs while it runs; removed afterwards."""
        with TemporaryDirectory(prefix=f".{name}-", suffix=".scratch", dir=self.folder) as folder:
            yield Path(folder)

    def reuse_or_make(
        self,
        step: str,
        version: int,
        inputs: Mapping[str, Any],
        kind: type[T],
        make: Callable[[], T],
        valid: Callable[[T], bool] | None = None,
    ) -> Made[T]:
        """The artifact of this step and these inputs: the one on disk when it reads well and is valid, else a new one.

        valid: for a record that names a file, whether the file is still there.
        """
        key = make_key(step, version, inputs)
        artifact = Artifact(self.folder / f"{step}-{key}.npz", key, kind)
        if artifact.path.exists():
            try:
                with zipfile.ZipFile(artifact.path) as archive:
                    bad = archive.testzip()  # every byte once: what is mapped later is not checked again
                if bad is not None:
                    raise ValueError(f"{bad} is damaged")
                stored = artifact.load()
            except DAMAGE as error:
                log.warning("the stored %s cannot be read (%s); it is made again", artifact.path.name, error)
            else:
                if valid is None or valid(stored):
                    return Made(artifact, reused=True, age=max(0.0, time.time() - artifact.path.stat().st_mtime))
        write_record(artifact.path, make())
        return Made(artifact, reused=False)


def write_record(path: Path, record: object) -> None:
    """Write a record whole or not at all."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _encode(record, arrays, "")
    arrays[JSON_NAME] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    partial = partial_path(path)
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    finish_file(partial, path)


def partial_path(path: Path) -> Path:
    """Where to write before the final name is given; beside it, so that the rename is one step. The suffix stays."""
    return path.with_name(f".{path.stem[:100]}.{os.getpid()}-{time.monotonic_ns()}.partial{path.suffix}")


def finish_file(partial: Path, path: Path) -> None:
    """Give a finished file its name: a reader sees the old file or the new one, never half."""
    sync_file(partial)
    partial.replace(path)


def _sweep_partials(path: Path) -> None:
    """Remove what a run that was killed while it delivered this file left beside it."""
    name = re.compile(rf"\.{re.escape(path.stem[:100])}\.(\d+)-\d+\.partial{re.escape(path.suffix)}")
    for left in path.parent.iterdir():
        if (found := name.fullmatch(left.name)) and not _is_alive(int(found[1])):
            with suppress(OSError):
                if (
                    time.time() - left.stat().st_mtime > DELIVERY_SECONDS
                ):  # else another machine's run may be writing it
                    left.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def deliver_file(source: Path, path: Path) -> None:
    """Copy an artifact to where the user wants it, whole or not at all. Raises InputError when there is no room or right."""
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_partials(path)
        shutil.copyfile(source, partial)
        finish_file(partial, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself is the trouble there is nothing to remove
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def deliver_text(text: str, path: Path) -> None:
    """Write a text to where the user wants it, whole or not at all."""
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_partials(path)
        partial.write_text(text, encoding="utf-8")
        finish_file(partial, path)
    except OSError as error:
        with suppress(OSError):  # where the folder itself is the trouble there is nothing to remove
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _encode(value: Any, arrays: dict[str, np.ndarray[Any, Any]], name: str) -> Any:
    """A record as a JSON tree; its arrays go into `arrays` under the path that leads to them."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"$array": name}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name), arrays, f"{name}.{f.name}".lstrip(".")) for f in fields(value)}
    if isinstance(value, (Path, Fraction)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [_encode(item, arrays, f"{name}.{number}") for number, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): _encode(item, arrays, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{name}: a {type(value).__name__} cannot be stored")


def _decode(tree: Any, kind: Any, arrays: _Arrays) -> Any:
    """The reverse of _encode, led by the record's type hints."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(tree, dict) and set(tree) == {"$array"}:
        return arrays[tree["$array"]]
    if origin in (typing.Union, types.UnionType):
        if tree is None:
            return None
        return _decode(tree, next(part for part in parts if part is not type(None)), arrays)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{f.name: _decode(tree[f.name], hints[f.name], arrays) for f in fields(kind)})
    if origin is tuple:
        item_kinds = [parts[0]] * len(tree) if len(parts) == 2 and parts[1] is Ellipsis else list(parts)
        return tuple(_decode(item, item_kind, arrays) for item, item_kind in zip(tree, item_kinds, strict=True))
    if origin is frozenset:
        return frozenset(tree)
    if origin is dict:
        return {key: _decode(item, parts[1], arrays) for key, item in tree.items()}
    if kind in (Path, Fraction):
        return kind(tree)
    return tree
