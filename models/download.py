"""Bring one file over HTTP, over as many connections as it takes: what only models/weights.py uses."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from pipeline.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import httpx

TRIES = 4  # in a row that brought less than WORTH
WORTH = 1 << 20  # bytes that make a try a success, though it broke off
LONGEST_PAUSE = 60.0  # s
MOST_REDIRECTS = 10
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that another try may mend
TOKEN_HOST = "huggingface.co"  # noqa: S105 (a host, no secret); nobody else is ever sent the token
SPARE = 64 << 20  # bytes that stay free


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to bring. size: bytes, where known. partial: where it grows, with PARTIAL.json beside it.

    refused, unreachable: what the user can do where the server says no (401, 403), or where none can be reached.
    """

    url: str
    partial: Path
    size: int | None
    refused: str
    unreachable: str


@dataclass(frozen=True, slots=True)
class Remote:
    """What is known of a remote file: bytes, the SHA-256 that the server names, and for If-Range its validator or ""."""

    url: str
    validator: str = ""
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """How to speak to servers and to the user. token: for TOKEN_HOST alone. progress: share that is done."""

    client: httpx.Client
    token: str
    say: Callable[[str], None]
    progress: Callable[[float], None]
    pause: Callable[[float], None]


class _PassingFault(Exception):
    """What another try may mend. wait: seconds that the server asks for. reached: the server had answered."""

    def __init__(self, reason: str, *, wait: float = 0.0, reached: bool = True) -> None:
        super().__init__(reason)
        self.wait, self.reached = wait, reached


@contextmanager
def open_client(patience: float, transport: httpx.BaseTransport | None) -> Iterator[httpx.Client]:
    """A client that takes its proxies from the environment. patience: seconds without a byte."""
    import httpx

    try:
        client = httpx.Client(timeout=patience, transport=transport)
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # a SOCKS proxy without its package, or no address
        raise MissingDependencyError(f"the proxy that the environment names cannot be used: {error}") from error
    with client:
        yield client


def download(wanted: Wanted, line: Line) -> Remote:
    """Bring the whole file to wanted.partial. What an earlier call has brought is used where the remote file is the same.

    Raises MissingDependencyError where the server cannot be reached or breaks off again and again (what came is kept), and
    InputError where it has no such file, or another one.
    """
    failures, reached = 0, False
    while True:
        begun = size_of(wanted.partial)
        try:
            return _transfer(wanted, line)
        except _PassingFault as fault:
            failures = 1 if size_of(wanted.partial) - begun >= WORTH else failures + 1
            reached = reached or fault.reached
            if failures == TRIES or not reached:  # a machine without a network is told so at once
                raise MissingDependencyError(_give_up(wanted, fault)) from fault
            wait = min(LONGEST_PAUSE, max(fault.wait, 2.0 ** (failures - 1)))
            here = size_of(wanted.partial)
            line.say(f"{urlsplit(wanted.url).hostname}: {fault}; trying again in {wait:.0f} s, {here} bytes are here")
            line.pause(wait)


def _give_up(wanted: Wanted, fault: _PassingFault) -> str:
    host = urlsplit(wanted.url).hostname
    if not fault.reached:
        return f"cannot reach {host} ({fault}): {wanted.unreachable}"
    kept = size_of(wanted.partial)
    return f"{shown(wanted.url)} did not come ({fault}): {kept} bytes are kept, and the same command goes on from there"


def _transfer(wanted: Wanted, line: Line) -> Remote:
    """One connection's worth. Raises _PassingFault, with what came kept in the partial."""
    import httpx

    remote, have = _resume(wanted)
    if have and have == remote.size:
        return remote  # whole, and only to be checked
    headers = {"Accept-Encoding": "identity"}  # what is hashed must be the file's own bytes
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": remote.validator}
    try:
        with _get(line, wanted.url, headers) as (response, sha256):
            if have and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return remote  # whole, though its size was not known
                forget(wanted.partial)
                raise _PassingFault("the remote file is another one now")
            _check_status(response, wanted)
            if response.status_code == httpx.codes.PARTIAL_CONTENT:
                start, size = _read_range(response)
                if start != have or _validator(response) not in ("", remote.validator):
                    forget(wanted.partial)
                    raise _PassingFault("the remote file is another one now")
            else:  # no range was asked for, the file is another one now, or the server knows no ranges: from the start
                have, size = 0, _read_length(response)
                remote = Remote(shown(wanted.url), _validator(response), size, sha256)
            _check_size(wanted, size)
            check_room(wanted.partial.parent, size - have if size is not None else 0)
            _remember(wanted.partial, remote)
            _write_body(response, wanted, have, size, line.progress)
    except httpx.TransportError as error:
        reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
        reason = " ".join(str(error).split()) or type(error).__name__  # a timeout has no text
        raise _PassingFault(reason, reached=reached) from error
    except httpx.InvalidURL as error:
        raise InputError(f"not an address: {shown(wanted.url)}: {error}") from error
    return remote


def _write_body(
    response: httpx.Response, wanted: Wanted, have: int, size: int | None, progress: Callable[[float], None]
) -> None:
    promised = size if size is not None else wanted.size
    with wanted.partial.open("r+b" if have else "wb") as writing:
        writing.seek(have)
        for block in response.iter_raw():  # as it comes: with a size it would hold back what a broken line has brought
            writing.write(block)
            have += len(block)
            if promised is not None and have > promised:
                break  # nobody fills the disk
            progress(have / promised if promised else 0.0)
        os.fsync(writing.fileno())  # what will be renamed is on the disk
    if promised is not None and have > promised:
        forget(wanted.partial)
    if promised is not None and have != promised:  # where the length was said, a short answer has raised before
        raise _PassingFault(f"{have} bytes came where {promised} were promised")


@contextmanager
def _get(line: Line, url: str, headers: dict[str, str]) -> Iterator[tuple[httpx.Response, str | None]]:
    """The answer after all redirects, its body unread, and the SHA-256 that a server on the way named."""
    sha256 = None
    for _ in range(MOST_REDIRECTS):
        parts = urlsplit(url)
        trusted = line.token and parts.scheme == "https" and parts.hostname == TOKEN_HOST
        sent = headers | ({"Authorization": f"Bearer {line.token}"} if trusted else {})
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # httpx logs addresses as they are
        response = line.client.send(
            line.client.build_request("GET", bare, headers=sent),
            auth=(unquote(user), unquote(password)) if user else None,
            stream=True,
        )
        try:
            sha256 = sha256 or _linked_digest(response)
            if not response.has_redirect_location:
                yield response, sha256
                return
            following = urljoin(url, response.headers["Location"])
        finally:
            response.close()
        if urlsplit(following).scheme != "https":
            raise InputError(f"{shown(url)} leads to {shown(following)}: only https is followed")
        url = following
    raise InputError(f"more than {MOST_REDIRECTS} redirects, the last to {shown(url)}")


def _check_status(response: httpx.Response, wanted: Wanted) -> None:
    status, where = response.status_code, shown(wanted.url)
    if status in (200, 206):
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise InputError(f"{where} comes compressed, which was not asked for: use another place with --from")
        return
    if status in PASSING:
        asked = response.headers.get("Retry-After", "")
        raise _PassingFault(f"the server answers {status}", wait=float(asked) if asked.isdecimal() else 0.0)
    if status in (401, 403):
        raise InputError(f"{where} may not be fetched (the server answers {status}){wanted.refused}")
    raise InputError(f"{where} cannot be fetched: the server answers {status}")


def _check_size(wanted: Wanted, size: int | None) -> None:
    if size is not None and wanted.size is not None and size != wanted.size:
        forget(wanted.partial)
        raise InputError(
            f"{shown(wanted.url)} is not the file that is expected: it has {size} bytes, it must have {wanted.size}; "
            "nothing was kept"
        )


def _read_range(response: httpx.Response) -> tuple[int, int | None]:
    """First byte and whole size of `Content-Range: bytes 5-9/10`; (-1, None) where it says nothing."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None:
        return -1, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _read_length(response: httpx.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: httpx.Response) -> str:
    """What If-Range takes: a strong ETag, else the time of the last change; a weak ETag does not serve (RFC 9110)."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _linked_digest(response: httpx.Response) -> str | None:
    """Hugging Face names the SHA-256 of an LFS file; of other files the header, where it is there, holds a git hash."""
    value = str(response.headers.get("X-Linked-ETag", "")).strip('"').lower()
    return value if re.fullmatch(r"[0-9a-f]{64}", value) else None


def _resume(wanted: Wanted) -> tuple[Remote, int]:
    """What is known of the partial's remote file, and how many bytes of it are here: 0 where they cannot be used."""
    fresh = Remote(shown(wanted.url))
    try:
        remote = Remote(**json.loads(_note_of(wanted.partial).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return fresh, 0
    have = size_of(wanted.partial)
    if remote.url != fresh.url or (remote.size is not None and have > remote.size):
        return fresh, 0
    return (remote, have) if remote.validator or have == remote.size else (fresh, 0)


def _remember(partial: Path, remote: Remote) -> None:
    noted = {"url": remote.url, "validator": remote.validator, "size": remote.size, "sha256": remote.sha256}
    _note_of(partial).write_text(json.dumps(noted), encoding="utf-8")


def _note_of(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def forget(partial: Path) -> None:
    """Remove what has come of a file, and what is known of it."""
    partial.unlink(missing_ok=True)
    _note_of(partial).unlink(missing_ok=True)


def check_room(folder: Path, wanted: int) -> None:
    """Raises InputError where the disk cannot take that many bytes and SPARE."""
    free = shutil.disk_usage(folder).free
    if wanted and wanted + SPARE > free:
        raise InputError(
            f"{folder} has {free / 1e9:.2f} GB free, {(wanted + SPARE) / 1e9:.2f} GB are needed (TRAILER_WEIGHTS_DIR)"
        )


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def shown(url: str) -> str:
    """An address without what could be secret in it: user, password, query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
