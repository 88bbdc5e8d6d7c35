"""The limit that Prefect's server keeps of a GPU: taken while it is used, waited for, and given back."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.gpu import use_gpu
from pipeline.runner import Runner
from pipeline.workdir import Made, WorkDir
from tests.flows.test_flows import Number, in_a_flow

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def count_taken(name: str) -> int | None:
    """Slots of the limit that are taken; None where there is no such limit."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(name).active_slots
        except ObjectNotFound:
            return None


def use_device(
    work: WorkDir, device: str, seen: Callable[[], object], *, progress: Callable[[float], None]
) -> Made[Any]:
    """A step that does its work on a device, as the product's steps do."""

    def make() -> Number:
        with use_gpu(device):
            seen()
        return Number(1)

    return work.reuse_or_make("use", 1, {"device": device}, Number, make)


def test_it_is_made_taken_and_given_back(tmp_path: Path) -> None:
    name, work = "gpu-made", WorkDir(tmp_path, "x")
    during: list[int | None] = []

    def do(runner: Runner) -> None:
        runner.step("on the CPU", use_device, work, "cpu", lambda: during.append(count_taken(name)))
        runner.step("on a GPU", use_device, work, "cuda", lambda: during.append(count_taken(name)))
        runner.step("again", use_device, work, "cuda", lambda: during.append(-1))  # it is there already

    raised, state = in_a_flow(do, gpu_limit=name)
    assert raised is None
    assert state.is_completed()
    assert during == [None, 1]
    assert count_taken(name) == 0


def test_who_holds_it_is_waited_for_and_the_wait_is_told(tmp_path: Path) -> None:
    from flows.limit import hold_limit

    name, said = "gpu-held", []
    taken, give_back, used = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with hold_limit(name, told=print, waiting=lambda: None, patience=60):
            taken.set()
            give_back.wait(60)

    def say(line: str) -> None:
        said.append(line)
        if "waiting" in line:
            assert not used.is_set()
            give_back.set()

    other = threading.Thread(target=hold)
    other.start()
    assert taken.wait(60)
    assert count_taken(name) == 1
    raised, state = in_a_flow(
        lambda runner: runner.step("use", use_device, WorkDir(tmp_path, "x"), "cuda", used.set), gpu_limit=name, say=say
    )
    other.join()
    assert state.is_completed(), raised
    assert said[0] == f"use: waiting for the limit {name!r}, which other runs hold"
    assert used.is_set()
    assert count_taken(name) == 0


def test_without_the_server_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    used: list[int] = []

    def refuse(name: str) -> None:
        raise httpx.ConnectError("Connection refused")

    monkeypatch.setattr("flows.limit._create_limit", refuse)
    _, state = in_a_flow(
        lambda runner: runner.step("use", use_device, WorkDir(tmp_path, "x"), "cuda", lambda: used.append(1)),
        gpu_limit="gpu",
    )
    assert state.is_completed()
    assert used == [1]
    assert "cannot report to Prefect any more (Connection refused); the work goes on" in caplog.text


def test_work_that_fails_gives_it_back(tmp_path: Path) -> None:
    name = "gpu-failed"

    def fail() -> None:
        assert count_taken(name) == 1
        raise ValueError("a bug")

    raised, _ = in_a_flow(
        lambda runner: runner.step("use", use_device, WorkDir(tmp_path, "x"), "cuda", fail), gpu_limit=name
    )
    assert isinstance(raised, ValueError)
    assert count_taken(name) == 0
