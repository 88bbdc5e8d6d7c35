"""Processes that tests stop or kill: a Prefect server of their own, and ffmpeg."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PATIENCE = 180.0  # s for a server to start


def find_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def list_environment(home: Path, port: int) -> dict[str, str]:
    """The environment of the server and of those who use it: nobody's settings but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAILER_"))}
    return clean | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "results"),
        "DO_NOT_TRACK": "1",
    }


@contextmanager
def run_server(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers, its database in `home`; killed at the end, whatever was done to it."""
    # the server itself and not the command around it, which would start a process of its own
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        "prefect.server.api.server:create_app",
        "--host",
        "127.0.0.1",
    ]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=list_environment(home, port), stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError((home / "server.log").read_text()[-2000:])
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def list_programs(folder: Path) -> list[int]:
    """The processes that run ffmpeg on something in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile
            continue
        if b"ffmpeg" in words[0] and any(os.fsencode(folder) in word for word in words):
            found.append(int(entry.name))
    return found
