"""Show how long work goes: bars on a terminal, plain lines elsewhere. Everything goes to standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DONE, SHORT, UNUSABLE, INTERRUPTED = 0, 1, 2, 130  # exit codes
LINE_SECONDS = 10.0  # between two lines of one step, at most about that
LINE_SHARE, LINE_LEAST = 0.10, 2.0  # or when a tenth more is done, but not within 2 s


class Display:
    """Lines and progress on standard error. A context manager: the bars end with it."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._lines: dict[str, tuple[float, float]] = {}  # when a step's last line was printed, and at what share

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description:>10}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            console = Console(stderr=True, highlight=False)
            self._bars = Progress(
                *columns,
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
                redirect_stdout=False,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """One line."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False)
        else:
            print_error(text)

    def bar(self, name: str, fraction: float) -> None:
        """How far a step has come, 0..1."""
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=1.0)
            self._bars.update(self._tasks[name], completed=fraction)
            if fraction >= 1.0:
                self._bars.remove_task(self._tasks.pop(name))
            return
        now = time.monotonic()
        printed, share = self._lines.setdefault(name, (now, 0.0))
        ago = now - printed
        if fraction < 1.0 and (ago >= LINE_SECONDS or (fraction - share >= LINE_SHARE and ago >= LINE_LEAST)):
            self._lines[name] = (now, fraction)
            print_error(f"{name}: {100 * fraction:.0f} %")


class WarningLines(logging.Handler):
    """Each warning of the product as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(f"{record.levelname.lower()}: {record.getMessage()}")


def print_error(text: str) -> None:
    """A line on standard error as it is now: a running bar puts a stream of its own there."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def finish(result: dict[str, Any] | str, *, passed: bool = True) -> None:
    """Print the result, and end with 1 where it is short of the mark."""
    if isinstance(result, dict):
        from flows.looking import finite

        result = json.dumps(finite(result), indent=1)
    sys.stdout.write(f"{result}\n")
    sys.stdout.flush()
    if not passed:
        raise typer.Exit(SHORT)
