"""A Prefect server of our own, for a machine where none is configured."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flows.server import prepare_prefect
from pipeline.errors import MissingDependencyError
from pipeline.programs import keep_running
from pipeline.settings import Site

HOST, PORT = "127.0.0.1", 4200  # Prefect's own
START_SECONDS = 180.0
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # a lease that is kept in memory outlives a holder that died and a server that was started again
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
}


@contextmanager
def own_server(site: Site) -> Iterator[str]:
    """The address of a server on this machine's loopback: the one at Prefect's own port, else one that ends with the block.

    Its runs are kept where Prefect keeps them (PREFECT_HOME). Raises MissingDependencyError where it does not start.
    """
    url = f"http://{HOST}:{PORT}/api"
    if is_prefect(url):
        yield url
        return
    url = f"http://{HOST}:{(port := _find_port())}/api"
    log = site.work_dir / "prefect-server.log"
    environment = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    # one process; `prefect server start` is two, and the second outlives a killed first
    arguments = ["--factory", "prefect.server.api.server:create_app", "--host", HOST, "--port", str(port)]
    with keep_running("uvicorn", arguments, log, environment | {"PREFECT_API_URL": url}) as lives:
        latest = time.monotonic() + START_SECONDS
        while not is_prefect(url):
            if time.monotonic() > latest or not lives():
                raise MissingDependencyError(f"Prefect's server did not start: {log} says why")
            time.sleep(0.5)
        yield url


def is_prefect(url: str) -> bool:
    """Whether a Prefect server answers there; not any other program that speaks HTTP."""
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=2.0).json() is True
    except (httpx.HTTPError, ValueError):
        return False


def _find_port() -> int:
    """Prefect's own port, or one that is free."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise MissingDependencyError(f"no port of {HOST} is free")


def use_server(url: str) -> None:
    """Let Prefect, and every process that is started from here, speak to this server. Before Prefect is imported."""
    os.environ["PREFECT_API_URL"] = url
    prepare_prefect(os.environ)
