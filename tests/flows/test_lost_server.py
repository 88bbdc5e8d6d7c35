"""Prefect's server goes away, or hangs, in the middle of a run: the trailer is made, and soon after the command ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import pytest

from tests.flows.servers import find_port, list_environment, run_server
from tests.synthetic import barcode_film

pytestmark = pytest.mark.flow

ROOT = Path(__file__).resolve().parents[2]
MOST_ADDED = 15.0  # s that a lost server may cost a command in all
SETTINGS = ["--length", "6", "--set", "video.preset=ultrafast", "--set", "edit.card_seconds=1", "--no-narration"]


class Served:
    """A film, a work folder in which everything is made already, and a server that is there when a test begins."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.film = folder, folder / "A small film.mp4"
        self._stack, self._server = stack, ExitStack()
        self.process: subprocess.Popen[bytes] | None = None
        barcode_film(self.film, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
        self.port = find_port()
        stack.callback(lambda: self._server.close())

    def start(self) -> int:
        """Start the server where it is not running; its process."""
        if self.process is None or self.process.poll() is not None:
            self._server.close()
            self.process = self._server.enter_context(run_server(self.folder, self.port))
        return self.process.pid

    def make(self, step: str, number: int, pid: int) -> tuple[subprocess.CompletedProcess[str], float]:
        """`trailer make`, with a signal to the server in the step. Also seconds from the last step to the end."""
        work = self.folder / "work"
        environment = list_environment(self.folder, self.port)
        environment |= {"TRAILER_WORK_DIR": str(work), "TRAILER_DEVICE": "cpu"}
        command = [sys.executable, "-m", "tests.interrupting", step, str(number), str(pid), "make", str(self.film)]
        command += ["--out", str(self.folder / "t.mp4"), "--json", *SETTINGS]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stderr is not None
            assert process.stdout is not None
            lines, last = [], time.monotonic()
            for line in process.stderr:
                lines.append(line)
                if line.startswith("quality: "):
                    last = time.monotonic()
            out = process.stdout.read()
            code = process.wait()
        seconds = time.monotonic() - last
        return subprocess.CompletedProcess(command, code, out, "".join(lines)), seconds


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ExitStack() as stack:
        served = Served(tmp_path_factory.mktemp("served"), stack)
        served.start()
        done, _ = served.make("nothing", 0, 0)
        assert done.returncode == 0, done.stderr
        assert "warning" not in done.stderr
        yield served


@pytest.mark.parametrize("step", ["analysis", "render"])
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda number: number.name)
def test_the_trailer_is_made_without_the_server(served: Served, step: str, number: signal.Signals) -> None:
    pid = served.start()
    for artifact in (served.folder / "work").glob(f"*/{step}-*"):
        artifact.unlink()
    done, ending = served.make(step, int(number), pid)
    assert served.process is not None
    if number is signal.SIGSTOP:
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    assert "cannot report to Prefect any more" in done.stderr
    assert "trailer made, could not report to Prefect (" in done.stderr
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert [s["name"] for s in told["steps"] if not s["reused"]] == [step]
    assert Path(told["trailer"]).is_file()
    taken = next(s["seconds"] for s in told["steps"] if s["name"] == step)
    assert taken + ending < MOST_ADDED + 3.0  # of the step's own work, and of what it waits after the signal
