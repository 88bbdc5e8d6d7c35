"""Run the steps of a trailer here and now, and print how they go. flows/runner.py runs the same steps through Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipeline.gpu import Watcher, watch
from pipeline.workdir import Artifact, Made

if TYPE_CHECKING:
    from pipeline.analysis import Spread

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StepTime:
    """How long a step took, and whether its artifact was there already."""

    name: str
    seconds: float
    reused: bool


class Runner(Protocol):
    """What the sequence in trailer.py needs: steps run, progress and artifacts shown.

    spread: who looks at the parts of a long film; none: threads of this process.
    """

    times: list[StepTime]
    spread: Spread | None

    def step(self, name: str, function: Callable[..., Made[T]], *arguments: Any) -> Artifact[T]:
        """Run function(*arguments, progress=...) and give back its artifact."""
        ...

    def progress(self, name: str, fraction: float) -> None:
        """Show that a step has come so far, 0..1. Called from the step's own thread."""
        ...

    def show_table(self, key: str, rows: list[dict[str, Any]], description: str) -> None:
        """Show a table to whoever watches. key: letters, digits and dashes."""
        ...

    def show_picture(self, key: str, jpeg: bytes, description: str) -> None:
        """Show a picture to whoever watches."""
        ...

    def show_files(self, key: str, files: dict[str, Path], description: str) -> None:
        """Show where the results lie."""
        ...


class LocalRunner:
    """Calls each step in turn. say: prints a line; bar: shows progress, by name and fraction, or None for no bar."""

    def __init__(self, say: Callable[[str], None], bar: Callable[[str, float], None] | None = None) -> None:
        self.times: list[StepTime] = []
        self.spread: Spread | None = None
        self._say = say
        self._bar = bar

    def step(self, name: str, function: Callable[..., Made[T]], *arguments: Any) -> Artifact[T]:
        started = time.monotonic()
        self.progress(name, 0.0)
        with watch(Watcher(told=lambda text: self._say(f"{name}: {text}"))):
            made = function(*arguments, progress=lambda fraction: self.progress(name, fraction))
        taken = StepTime(name, time.monotonic() - started, made.reused)
        self.times.append(taken)
        self.progress(name, 1.0)
        how = f"reused, made {describe_age(made.age)} ago" if made.reused else f"{taken.seconds:.1f} s"
        self._say(f"{name}: {how}")
        return made.artifact

    def progress(self, name: str, fraction: float) -> None:
        if self._bar is not None:
            self._bar(name, fraction)

    def show_table(self, key: str, rows: list[dict[str, Any]], description: str) -> None:
        """Tables stand in the report."""

    def show_picture(self, key: str, jpeg: bytes, description: str) -> None:
        """Pictures stand in the report."""

    def show_files(self, key: str, files: dict[str, Path], description: str) -> None:
        """The command says where the files are."""


def describe_age(seconds: float) -> str:
    """ "3 h", "2 days": roughly how long ago."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
