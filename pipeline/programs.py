"""Run our own modules in processes of their own: one film's crash is not another's, and a server outlives no command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import InputError
from pipeline.media import CAN_DIE, collect_lines, die_with_parent

STOP_SECONDS = 10.0  # for a program to end when it is asked to


def run_python(
    module: str, request: str, *, timeout: float, on_line: Callable[[str], None], log_lines: int = 20
) -> tuple[int, str, str]:
    """Run a module of ours in a process of its own, with a request on its standard input.

    on_line: is told each line of its standard error, from another thread. Returns its exit code (negative: the signal that
    ended it), what it wrote to standard output, and the last lines of its standard error. timeout: seconds; then, as on an
    error here, it is ended.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=die_with_parent if CAN_DIE else None,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    lines: deque[str] = deque(maxlen=log_lines)
    reader = threading.Thread(target=collect_lines, args=(process.stderr, lines, on_line), daemon=True)
    reader.start()
    overdue = threading.Timer(timeout, process.kill)
    overdue.start()
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(request.encode())
        with suppress(BrokenPipeError):
            process.stdin.close()
        answer = process.stdout.read().decode("utf-8", "replace")
        code = process.wait()
    finally:
        overdue.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()
        process.stdout.close()
        process.stderr.close()
    return code, answer, "\n".join(lines)


@contextmanager
def keep_running(
    module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[Callable[[], bool]]:
    """Run a module as a program that stays, with its output in a file; it is ended with the block.

    environment: on top of ours. Gives a function that says whether it runs. Raises InputError for a log that cannot be
    written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    except OSError as error:
        raise InputError(f"cannot write {log}: {error.strerror}") from error
    with output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            preexec_fn=die_with_parent if CAN_DIE else None,
            start_new_session=True,  # Ctrl-C is for us: we end it when we are done
        )
    try:
        yield lambda: process.poll() is None
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
