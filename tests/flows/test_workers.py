"""Ten films shared between two workers, with the server's memory in PostgreSQL, and one worker killed in the middle.

A ring of its own (`make test-scale`): it takes minutes, and the programs of Debian's package `postgresql`.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import absent
from tests.synthetic import barcode_film

pytestmark = pytest.mark.scale

ROOT = Path(__file__).resolve().parents[2]
FILMS = 10
SHORT = ["--min-minutes", "0", "--settle", "0", "--set", "length=6", "--set", "edit.card_seconds=1", "--json"]


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path, **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **how,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a PostgreSQL of our own, on loopback."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        absent("scale", "PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="trailer-pg-", dir="/tmp"))
    how: dict[str, Any] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        how = {"user": user.pw_uid, "group": user.pw_gid, "cwd": str(folder)}
    bin, port = programs[-1].parent, find_port()
    environment = {**os.environ, "LC_ALL": "C"}
    data = str(folder / "data")
    subprocess.run(
        [str(bin / "initdb"), "-D", data, "-U", "trailer", "--auth=trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        env=environment,
        **how,
    )
    command = [
        str(bin / "postgres"),
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-k",
        str(folder),
    ]
    try:
        with running(command, environment, Path(tempfile.gettempdir(), f"{folder.name}.log"), **how):
            ready = [str(bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            wait_for(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, 60)
            yield f"postgresql+asyncpg://trailer@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(true: Any, seconds: float) -> None:
    latest = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < latest, f"not within {seconds} s"
        time.sleep(0.5)


def test_ten_films_between_two_workers_and_one_is_killed(database: str, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.settings import PREFECT_API_URL, temporary_settings

    url = f"http://127.0.0.1:{(port := find_port())}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "trailer",
        "TRAILER_WORK_DIR": str(tmp_path / "work"),
        "TRAILER_OUT_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    films = tmp_path / "films"
    films.mkdir()
    barcode_film(films / "film0.mp4", frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
    for number in range(1, FILMS):
        mark = b"\0\0\0\x10free" + f"{number:08d}".encode()
        (films / f"film{number}.mp4").write_bytes((films / "film0.mp4").read_bytes() + mark)

    def prefect(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "prefect", *arguments], env=environment, check=True, cwd=ROOT, capture_output=True
        )

    with ExitStack() as stack, temporary_settings({PREFECT_API_URL: url}):
        serve = [
            "uvicorn",
            "--factory",
            "prefect.server.api.server:create_app",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        stack.enter_context(running([sys.executable, "-m", *serve], environment, tmp_path / "server.log"))
        client = stack.enter_context(get_client(sync_client=True))
        wait_for(lambda: not isinstance(client.api_healthcheck(), Exception), 180)
        # three slots in all, two runs at most: the pool's limit is what holds them
        client.create_work_pool(WorkPoolCreate(name="films", type="process", concurrency_limit=2))
        prefect("--no-prompt", "deploy", "--name", "trailer")
        subprocess.run(
            [sys.executable, "-c", "from flows.watchman import ensure_watchman; ensure_watchman()"],
            env=environment,
            check=True,
        )
        work = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "films", "--type", "process"]
        workers = [
            stack.enter_context(
                running([*work, "--name", f"worker{n}", "--limit", "2"], environment, tmp_path / f"worker{n}.log")
            )
            for n in (1, 2)
        ]
        command = [sys.executable, "-m", "flows.cli", "library", str(films), *SHORT]
        library = subprocess.Popen(
            [*command, "--deployment", "make-trailer/trailer", "--together", str(FILMS)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "library.log").open("wb"),
        )
        wanted = FlowFilter(name=FlowFilterName(any_=["make-trailer"]))
        killed: set[str] = set()
        most, latest = 0, time.monotonic() + 900
        while library.poll() is None:
            assert time.monotonic() < latest, "the pass did not end"
            runs = client.read_flow_runs(flow_filter=wanted)
            going = [run for run in runs if run.state_name == "Running"]
            most = max(most, len(going))
            if not killed and sum(run.state_name == "Completed" for run in runs) >= 2:
                mine = children(workers[0].pid)
                held = {r.name for r in runs if any(str(r.id) in environment_of(pid) for pid in mine)}
                if held & {run.name for run in going}:  # the worker and what it works on, as when its machine goes
                    for pid in (workers[0].pid, *mine):
                        os.kill(pid, signal.SIGKILL)
                    killed = held
            time.sleep(0.5)
        assert library.stdout is not None
        told = json.loads(library.stdout.read())
        library.stdout.close()
        runs = client.read_flow_runs(flow_filter=wanted, limit=200)

    assert library.returncode == 0
    assert told["counts"]["made"] == FILMS
    ended = Counter((run.name, run.state_name) for run in runs)
    assert killed
    assert most == 2
    for number in range(FILMS):
        assert (films / f"film{number}-trailer.mp4").stat().st_size > 0
        assert ended[f"Film{number}", "Completed"] == 1
        assert ended[f"Film{number}", "Crashed"] == (1 if f"Film{number}" in killed else 0)
    # each step of each film left one artifact: nothing was made twice
    made = Counter(p.name.split("-")[0] for p in (tmp_path / "work").glob("*/quality-*.npz"))
    assert made == {"quality": FILMS}
    assert not list(films.glob(".*"))


def children(pid: int) -> list[int]:
    """All processes below one."""
    below: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            below += [child, *children(child)]
    return below


def environment_of(pid: int) -> str:
    """The environment that a process was started with: Prefect names its run there."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
