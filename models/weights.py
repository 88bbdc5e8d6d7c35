"""Fetch weights into the folder of weights: with its models/download.py the only module that touches the network.

A file grows as FILE.partial with what is known of the remote file in FILE.partial.json, is held against its SHA-256, and
only then gets its name. Broken off for whatever reason, the same call goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from models.download import Line, Wanted, check_room, download, forget, open_client, shown, size_of
from models.known_weights import (
    WeightFile,
    Weights,
    check_recorded,
    digest_of,
    hash_file,
    partial_of,
    read_digest,
    write_digest,
)
from models.lock import hold_lock
from pipeline.errors import InputError

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 20  # bytes copied at once
PATIENCE = 30.0  # s without a byte before a connection counts as dead

Say = Callable[[str], None]
Progress = Callable[[str, float], None]
Convert = Callable[[Path, Path], str]

# table: the SHA-256 stood in the table. server: the server named it. recorded: in FILE.sha256, by an earlier run.
# first use: nothing was known, and what came is what is expected from now on. conversion: made here of what was checked.
Known = Literal["table", "server", "recorded", "first use", "conversion"]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file that is there now. sha256: hex. how: it came, or was there. known: what its SHA-256 was held against."""

    path: Path
    size: int
    sha256: str
    how: Literal["fetched", "copied", "there", "converted"]
    known: Known


@dataclass(frozen=True, slots=True)
class _Places:
    """Where each file, by its path in the folder, is taken from: copies on this machine, or addresses."""

    copies: dict[str, Path]
    urls: dict[str, str]


def fetch_weights(
    weights: Weights,
    folder: Path,
    *,
    source: str | None = None,
    token: str = "",
    convert: Convert | None = None,
    say: Say,
    progress: Progress,
    pause: Callable[[float], None] = time.sleep,
    patience: float = PATIENCE,
    transport: httpx.BaseTransport | None = None,
) -> list[Fetched]:
    """Bring weights into the folder, check them and convert what is to be converted. What is there is checked, not fetched.

    source: a file, a folder, or the http(s) address of a mirror, in place of the official address. token: for huggingface.co
    alone. progress takes the name of a file and the share that is done. patience: seconds without a byte. Two calls at once
    wait for one another. Raises InputError for a source, file or hash that cannot be used, MissingDependencyError where
    nothing can be reached.
    """
    if token and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InputError("HF_TOKEN holds characters that no token has")
    places = _find_places(weights, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder of weights {folder}: {error.strerror} (TRAILER_WEIGHTS_DIR)"
        ) from error
    with ExitStack() as stack:
        # the second of two fetches finds what the first has brought
        lock = folder / f".{weights.name}.lock"
        said = f"{weights.name} is being fetched by another run: waiting for it"
        stack.enter_context(hold_lock(lock, waiting=lambda: say(said), hint=" (TRAILER_WEIGHTS_DIR)"))
        converted = folder / weights.converted
        if weights.converted and converted.is_file():
            return [_check_there(weights.name, WeightFile("", weights.converted), converted, progress)]
        missing = [file for file in weights.files if not (folder / file.path).exists()]
        if missing and weights.gated and source is None and not token:
            raise InputError(
                f"{weights.name} is given only to those who accept its licence at {weights.gated}: do so, and set HF_TOKEN "
                "to a token of that account that may read"
            )
        check_room(folder, _bytes_to_come(weights, missing, folder))
        if missing:
            restricted = ": not for commercial use, nor is what is made with it" * weights.non_commercial
            say(f"{weights.name}: licence {weights.licence}{restricted}")
        line = None
        if missing and places.urls:
            client = stack.enter_context(open_client(patience, transport))
            asked = token if weights.gated else ""  # a token that has run out would close even what is open to all
            line = Line(client, asked, say, lambda share: progress(weights.name, share), pause)
        got = [_bring(file, folder / file.path, weights, places, line, say, progress) for file in weights.files]
        if weights.converted:
            if convert is None:
                raise ValueError(f"{weights.name} is to be converted, and nothing was given that can")
            got[0] = _convert(got[0].path, converted, convert, say)
        return got


def _find_places(weights: Weights, source: str | None) -> _Places:
    if source is None:
        return _Places({}, {file.path: file.url for file in weights.files})
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme is None:
        return _Places(_find_copies(weights, Path(source).expanduser()), {})
    try:
        host, _ = urlsplit(source).hostname, urlsplit(source).port
    except ValueError as error:  # not shown: it could hold a password
        raise InputError(f"--from is not an address: {error}") from error
    if scheme[1].lower() not in ("http", "https") or not host:
        raise InputError(f"--from takes a file, a folder, or an address with http or https: {shown(source)}")
    if len(weights.files) == 1 and urlsplit(source).path.endswith(f"/{weights.files[0].name}"):
        return _Places({}, {weights.files[0].path: source})
    return _Places({}, {file.path: f"{source.rstrip('/')}/{file.name}" for file in weights.files})


def _find_copies(weights: Weights, source: Path) -> dict[str, Path]:
    if source.is_file():
        if len(weights.files) > 1:
            names = ", ".join(file.name for file in weights.files)
            raise InputError(f"{weights.name} has {len(weights.files)} files: --from takes the folder with {names}")
        return {weights.files[0].path: source}
    copies = {file.path: source / file.name for file in weights.files}
    lacking = [copy.name for copy in copies.values() if not copy.is_file()]
    if lacking:
        raise InputError(f"no {', '.join(lacking)} in {source}")
    return copies


def _bytes_to_come(weights: Weights, missing: list[WeightFile], folder: Path) -> int:
    """Bytes that the disk must still take, as far as the table knows."""
    begun = sum(size_of(partial_of(folder / file.path)) for file in missing)
    made = weights.files[0].size or 0 if weights.converted else 0  # the conversion is at most as large as its source
    return max(0, sum(file.size or 0 for file in missing) - begun) + made


def _bring(
    file: WeightFile, target: Path, weights: Weights, places: _Places, line: Line | None, say: Say, progress: Progress
) -> Fetched:
    if target.exists():
        return _check_there(weights.name, file, target, progress)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, offered = partial_of(target), None
    if line is None:
        where = str(places.copies[file.path])
        _copy(places.copies[file.path], partial, lambda share: progress(weights.name, share))
    else:
        where = shown(places.urls[file.path])
        offered = download(_describe(file, target, places.urls[file.path], weights), line).sha256
    recorded = read_digest(target)
    expected = file.sha256 or recorded or offered
    known: Known = "table" if file.sha256 else "recorded" if recorded else "server" if offered else "first use"
    computed = hash_file(partial, lambda share: progress(f"{weights.name} check", share))
    if expected is not None and computed != expected:
        size = size_of(partial)
        forget(partial)
        record = f" ({digest_of(target)} says so)" * (known == "recorded")
        raise InputError(
            f"{file.name} from {where} ({size} bytes) is not the file that is expected: its SHA-256 is {computed}, it must "
            f"be {expected}{record}. Nothing was kept: try again, or another place with --from"
        )
    partial.replace(target)
    write_digest(target, computed)
    forget(partial)
    if known == "first use":
        say(f"{file.name}: no SHA-256 was known; {computed} came, and is expected from now on ({digest_of(target)})")
    return Fetched(target, target.stat().st_size, computed, "copied" if line is None else "fetched", known)


def _describe(file: WeightFile, target: Path, url: str, weights: Weights) -> Wanted:
    gated = f": accept the licence at {weights.gated}, and set HF_TOKEN to a token of that account"
    more = f" (and its {len(weights.files) - 1} companions, see `trailer weights list --json`)" * (
        len(weights.files) > 1
    )
    by_hand = (
        f"without a network, bring {file.url} from elsewhere to {target}{more}, and run `trailer weights fetch "
        f"{weights.name}` again, which checks it"
    )
    return Wanted(url, partial_of(target), file.size, gated * bool(weights.gated), by_hand)


def _check_there(name: str, file: WeightFile, target: Path, progress: Progress) -> Fetched:
    """A file that lies there already, put there by hand or by an earlier run."""
    size = target.stat().st_size
    if file.size is not None and size != file.size:
        raise InputError(f"{target} has {size} bytes, it must have {file.size}: remove it and fetch it again")
    computed = hash_file(target, lambda share: progress(f"{name} check", share))
    if file.sha256 is not None and computed != file.sha256:
        raise InputError(
            f"{target} is not the file that is expected: its SHA-256 is {computed}, it must be {file.sha256}. Remove it and "
            "fetch it again"
        )
    recorded = read_digest(target)
    if file.sha256 is None:
        check_recorded(target, computed)
    write_digest(target, computed)
    known: Known = "table" if file.sha256 is not None else "recorded" if recorded is not None else "first use"
    return Fetched(target, size, computed, "there", known)


def _convert(source: Path, target: Path, convert: Convert, say: Say) -> Fetched:
    say(f"{source.name} is converted to {target.name}: it holds a pickle, which is not to be read again")
    sha256 = convert(source, target)
    source.unlink()
    digest_of(source).unlink(missing_ok=True)
    say(f"{source.name} was removed")
    return Fetched(target, target.stat().st_size, sha256, "converted", "conversion")


def _copy(source: Path, partial: Path, progress: Callable[[float], None]) -> None:
    forget(partial)  # a download's beginning, and its note
    size = source.stat().st_size
    check_room(partial.parent, size)
    with source.open("rb") as reading, partial.open("wb") as writing:
        while block := reading.read(CHUNK):
            writing.write(block)
            progress(min(1.0, writing.tell() / max(1, size)))
        os.fsync(writing.fileno())  # what will be renamed is on the disk
