"""Let one process at a time do something on this machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError


@contextmanager
def hold_lock(path: Path, *, waiting: Callable[[], None] | None = None, hint: str = "") -> Iterator[None]:
    """Hold the lock of that name: a file that is made, and stays. The kernel frees it however the process ends.

    waiting: called once where another process holds it. hint: follows the message of the InputError that is raised where
    the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"cannot write in {path.parent}: {error.strerror}{hint}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
