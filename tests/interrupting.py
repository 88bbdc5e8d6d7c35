"""Run a command of `trailer` in which a signal is sent in the middle of a step.

python -m tests.interrupting STEP SIGNAL PID ARGUMENT ...: to the process PID when the step begins its work; with PID 0 to
this process, when the step has done its work and has half written its record.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.cli import main
from pipeline import workdir
from pipeline.workdir import Made, WorkDir

SECONDS = 1.5  # that the step waits after the signal: progress is reported about once a second


def interrupt(step: str, number: int, pid: int) -> None:
    """Patch what every step goes through."""
    original = WorkDir.reuse_or_make

    def hit(partial: Path, path: Path) -> None:
        os.truncate(partial, partial.stat().st_size // 2)
        os.kill(os.getpid(), number)
        time.sleep(60)

    def reuse_or_make(
        self: WorkDir,
        name: str,
        version: int,
        inputs: Mapping[str, Any],
        kind: type[Any],
        make: Callable[[], Any],
        valid: Callable[[Any], bool] | None = None,
    ) -> Made[Any]:
        def make_and_hit() -> Any:
            if pid:
                os.kill(pid, number)
                time.sleep(SECONDS)
                return make()
            record = make()
            workdir.finish_file = hit
            return record

        return original(self, name, version, inputs, kind, make_and_hit if name == step else make, valid)

    WorkDir.reuse_or_make = reuse_or_make  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    step, number, pid, *arguments = sys.argv[1:]
    interrupt(step, int(number), int(pid))
    sys.argv = ["trailer", *arguments]
    main()
