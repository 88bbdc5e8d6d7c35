"""A run that is cancelled in Prefect's UI ends at once, with all that it started, and leaves nothing half made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pipeline.settings import load_config
from tests.flows.servers import list_environment, list_programs
from tests.synthetic import barcode_film

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

pytestmark = pytest.mark.flow

ROOT = Path(__file__).resolve().parents[2]
# slow to encode, so that it can be caught at it
SLOW = ["length=10", "edit.card_seconds=1", "video.preset=slower", "video.crf=0", "narration.enabled=false"]
GONE_WITHIN, WATCHED = 5.0, 8.0  # s after which ffmpeg must be gone for good, and for which that is watched


def wait_for(what: Callable[[], object], seconds: float) -> float:
    """Seconds until it is so; fails where it takes too long."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.fixture
def serving(prefect_server: None, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`trailer serve` on the tests' server."""
    from prefect.settings import PREFECT_API_URL

    environment = list_environment(Path(os.environ["PREFECT_HOME"]), 0) | {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "TRAILER_WORK_DIR": str(tmp_path / "work"),
        "TRAILER_DEVICE": "cpu",
    }
    log = (tmp_path / "serve.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve"], cwd=ROOT, env=environment, stdout=log, stderr=log, text=True
    )
    with log:
        yield process
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def test_a_cancelled_run_stops_and_says_so(serving: subprocess.Popen[str], tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelling

    film, out = tmp_path / "A small film.mp4", tmp_path / "out" / "t.mp4"
    barcode_film(film, frame_rate=Fraction(25), shots=[75] * 20, size=(320, 180))
    config = load_config(None, SLOW)
    with get_client(sync_client=True) as client:

        def find_deployment() -> UUID | None:
            assert serving.poll() is None, (tmp_path / "serve.log").read_text()
            try:
                return client.read_deployment_by_name("make-trailer/trailer").id
            except ObjectNotFound:
                return None

        def read_run() -> FlowRun:
            return client.read_flow_run(run)

        def read_state() -> State:
            state = read_run().state
            assert state is not None
            return state

        wait_for(find_deployment, 120)
        deployment = find_deployment()
        assert deployment is not None
        parameters = {"film": str(film), "config": config.model_dump(mode="json"), "out": str(out)}
        run = client.create_flow_run_from_deployment(deployment, parameters=parameters).id
        wait_for(lambda: list_programs(tmp_path) or read_state().is_final(), 180)
        assert not read_state().is_final(), read_state()
        client.set_flow_run_state(run, Cancelling(), force=True)
        asked = seen = time.monotonic()
        while not read_state().is_final() or time.monotonic() < asked + WATCHED:
            assert time.monotonic() < asked + 60, "not cancelled within a minute"
            if list_programs(tmp_path):  # one ends, and the next begins: what counts is the last one
                seen = time.monotonic()
            time.sleep(0.02)
        ended = read_run()
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        tasks = {task.name: task.state for task in client.read_task_runs(flow_run_filter=chosen)}
    assert seen - asked < GONE_WITHIN
    assert ended.state_name == "Cancelled"
    assert ended.state is not None
    assert "cancelled" in str(ended.state.message)
    assert ended.name == "A small film"
    assert not out.parent.exists() or not list(out.parent.iterdir())
    assert not list((tmp_path / "work").glob("*/render-*"))
    assert not list((tmp_path / "work").glob("*/trailer-*"))
    assert not list((tmp_path / "work").rglob(".*.partial*"))
    rendering = tasks["render: A small film"]
    assert rendering is not None
    assert (rendering.name, rendering.message) == ("Cancelled", "the run ended while render was at work")
