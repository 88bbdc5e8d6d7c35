"""What the command line and Prefect cost: `trailer make` with and without a server, against its bare steps in one process.

    python benchmarks/orchestration.py [--film FILM] [--rounds 3] [--markdown table.md]

Without --film: the demo film (`trailer demo`). Each round makes its trailer in three ways, one after another, once with an
empty work folder and once more with everything to be reused. The server is started here, on 127.0.0.1, its database in a
temporary folder, and stopped at the end. First step: seconds from the start of the process until its first step begins, seen
from outside by the step's scratch folder; of a run that reuses everything, until its first step has ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.making import draw_demo
from flows.server import server_answers
from flows.tables import Table, figure

ROOT = str(Path(__file__).resolve().parents[1])
SERVER_SECONDS = 180.0  # for the server to start
SETTINGS = ["length=20", "video.draft=true"]  # short and rough: what is measured stands beside the work, not in it
BARE = """
import sys
from pathlib import Path
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.trailer import make_trailer
film, out, *settings = sys.argv[1:]
said = lambda line: print(line, file=sys.stderr, flush=True)
make_trailer(Path(film), load_config(None, settings), Site(), LocalRunner(said), out=Path(out))
"""
WAYS = {
    "bare steps, one process": "bare",
    "trailer make, no server": "command",
    "trailer make, with a server": "server",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What a process and its children took: s of wall time, until the first step, and of CPU, and MiB of the largest."""

    wall: float
    first: float
    cpu: float
    peak: float


def measure(command: list[str], environment: dict[str, str], work: Path) -> Run:
    """Run a command that makes a trailer, its work in `work`."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    begun: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set() and not begun:
            if any(work.glob("*/.analysis-*")):
                begun.append(time.monotonic())
            time.sleep(0.005)

    looking = threading.Thread(target=look)
    looking.start()
    assert process.stderr is not None
    lines, first = [], 0.0
    for line in process.stderr:
        first = first or time.monotonic()
        lines.append(line)
    _, status, usage = os.wait4(process.pid, 0)  # with the children that it has waited for
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    looking.join()
    if process.returncode != 0:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{''.join(lines)}")
    if not lines or not lines[0].startswith("analysis: "):
        raise SystemExit(f"the first line is not the first step's: {lines[:1]}")
    begin = (begun or [first])[0] - started
    return Run(wall, begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@contextmanager
def run_server(home: Path) -> Iterator[str]:
    """A Prefect server of our own; gives its API address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], env=list_environment(home), stdout=log, stderr=log
        )
        try:
            until = time.monotonic() + SERVER_SECONDS
            while not server_answers(url, 2.0):
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit((home / "server.log").read_text()[-2000:])
                time.sleep(0.5)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def list_environment(home: Path) -> dict[str, str]:
    """Nobody's settings but ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAILER_"))}
    ours = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    return clean | ours | {"TRAILER_DEVICE": "cpu", "PYTHONPATH": ROOT}


def make(way: str, film: Path, folder: Path, url: str) -> tuple[Run, Run]:
    """A trailer made in this way: with an empty work folder, and with everything to be reused."""
    environment = list_environment(folder.parent) | {"TRAILER_WORK_DIR": str(folder / "work")}
    out = str(folder / "t.mp4")
    command = [sys.executable, "-c", BARE, str(film), out, *SETTINGS]
    if way != "bare":
        chosen = [word for setting in SETTINGS for word in ("--set", setting)]
        command = [sys.executable, "-m", "flows.cli", "make", str(film), "--out", out, *chosen]
    if way == "server":
        environment["PREFECT_API_URL"] = url
    return measure(command, environment, folder / "work"), measure(command, environment, folder / "work")


def draw(title: str, runs: dict[str, list[Run]], rounds: int) -> Table:
    """Medians, and the medians of the ratios to the bare steps of the same round."""
    cells = []
    for name, way in WAYS.items():
        row = [name]
        for field, digits in (("wall", 1), ("first", 1), ("cpu", 1), ("peak", 0)):
            own = [getattr(run, field) for run in runs[way]]
            ratio = statistics.median(a / getattr(b, field) for a, b in zip(own, runs["bare"], strict=True))
            row += [figure(statistics.median(own), digits), figure(ratio, 2)]
        cells.append(row)
    columns = ["way", "wall s", "of bare", "first step s", "of bare", "CPU-s", "of bare", "peak RSS MiB", "of bare"]
    return Table(title, columns, cells, f"Medians of {rounds}; the largest process.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args()
    cold: dict[str, list[Run]] = {way: [] for way in WAYS.values()}
    reused: dict[str, list[Run]] = {way: [] for way in WAYS.values()}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        film = asked.film.resolve() if asked.film else draw_demo(home, 0, say=print, bar=lambda *_: None)
        with run_server(home) as url:
            for number in range(asked.rounds):
                for way in WAYS.values():
                    folder = home / f"{way}-{number}"
                    folder.mkdir()
                    first, second = make(way, film, folder, url)
                    cold[way].append(first)
                    reused[way].append(second)
                    print(f"round {number + 1}, {way}: {first.wall:.1f} s, reused {second.wall:.1f} s", flush=True)
    tables = [draw("Empty work folder", cold, asked.rounds), draw("All reused", reused, asked.rounds)]
    print("\n".join(table.draw() for table in tables))
    if asked.markdown:
        asked.markdown.write_text("\n".join(table.markdown() for table in tables))


if __name__ == "__main__":
    main()
