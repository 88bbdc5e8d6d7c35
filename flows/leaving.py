"""End a command in time, also where Prefect's server no longer answers.

Prefect waits minutes for a server that hangs: for the run's last state, and at exit for what is still to be sent. What was
made is there by then, and the command says so.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from flows.server import find_server, server_answers

AGAIN_SECONDS = 2.0  # to the next interruption: Prefect catches the first one, and tries to report that
ANSWER_SECONDS = 2.0  # for the server to say that it is there
FLUSH_SECONDS = 15.0  # for a server that is there to take what is left to be sent


class SilentServerError(Exception):
    """Prefect's server was waited for long enough."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise SilentServerError("it does not answer")


@contextmanager
def interruptible() -> Iterator[None]:
    """Within this, and in the main thread, hurry() can be called."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, _interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def hurry(seconds: float) -> None:
    """From so many seconds on raise SilentServerError in the main thread, again and again, until interruptible() ends."""
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _interrupt:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)


def leave(code: int) -> NoReturn:
    """End the process. Where Prefect was used it may send what is left, if its server is there, but not for ever."""
    url = find_server(os.environ) if "prefect" in sys.modules else None
    if url is not None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if not server_answers(url, ANSWER_SECONDS):
            os._exit(code)
        overdue = threading.Timer(FLUSH_SECONDS, os._exit, (code,))
        overdue.daemon = True
        overdue.start()
    sys.exit(code)
