"""Let one piece of work at a time use a GPU.

A machine's GPU is guarded by a lock file, which the kernel releases when its holder dies, however it dies. What else
guards it, such as a limit that several machines share, is handed in: this package knows no server.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

log = logging.getLogger("trailer")

POLL = 0.2  # s between two looks at whether it is free


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who runs the work that may have to wait.

    told: hears once that there is a wait, and for what. waiting: called again and again meanwhile; what it raises ends the
    wait. limit: opens what else is to be held while the GPU is used.
    """

    told: Callable[[str], None]
    waiting: Callable[[], None] = _do_nothing
    limit: Callable[[], AbstractContextManager[None]] = nullcontext


WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Within this, use_gpu() tells this watcher. Around a whole step: at the end no memory of a GPU is kept."""
    token = WATCHER.set(watcher)
    try:
        yield
    finally:
        WATCHER.reset(token)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # what torch keeps for later is lacking to whoever has the GPU next


@contextmanager
def use_gpu(device: str) -> Iterator[None]:
    """Hold the GPU while the block runs; wait for it where others hold it. device: as choose_device() gives it.

    Nothing is waited for where the device is the CPU. Raises InputError where the lock file cannot be opened.
    """
    if not device.startswith("cuda"):
        yield
        return
    watcher = WATCHER.get() or Watcher(told=log.warning)
    with _lock(lock_path(device), watcher), watcher.limit():
        yield


def lock_path(device: str) -> Path:
    """The lock file of a device, for all processes of this machine that have the same folder for temporary files."""
    return Path(tempfile.gettempdir()) / f"trailer-gpu-{_name_card(device)}.lock"


def _name_card(device: str) -> str:
    """The card that `cuda` or `cuda:1` means to this process: CUDA_VISIBLE_DEVICES renumbers them."""
    number = device.partition(":")[2] or "0"
    visible = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    card = visible[int(number)] if number.isdigit() and int(number) < len(visible) else number
    return "".join(c if c.isalnum() or c == "-" else "-" for c in card)


@contextmanager
def _lock(path: Path, watcher: Watcher) -> Iterator[None]:
    try:
        import fcntl  # not on every system
    except ImportError:
        yield
        return
    file, told = -1, False
    try:
        while True:
            if file < 0:
                file = _open(path)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    watcher.told("waiting for the GPU, which another run uses")
                    told = True
                watcher.waiting()
                time.sleep(POLL)
                continue
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), path.stat()):
                    break
            os.close(file)  # swept away meanwhile: others lock the new one
            file = -1
        with suppress(PermissionError):  # another user's
            os.utime(file)  # what sweeps the folder goes by age
        yield
    finally:
        if file >= 0:
            os.close(file)


def _open(path: Path) -> int:
    """Any user's lock file, made where there is none; it is never written to."""
    flags = os.O_RDONLY | os.O_NOFOLLOW
    try:
        while True:
            with suppress(FileNotFoundError):
                return os.open(path, flags)
            # apart from opening: in a shared folder Linux refuses O_CREAT on another user's file
            with suppress(FileExistsError):
                file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(file, 0o644)  # whatever the umask
                return file
    except OSError as error:
        raise InputError(
            f"cannot use the GPU's lock file {path}: {error.strerror} (remove it, or set TMPDIR)"
        ) from error
