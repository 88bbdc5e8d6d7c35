"""A film looked at on the workers of a Dask cluster: the same as in one go, shown by Prefect, and its faults told."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import analysis as module
from pipeline.analysis import Part, analyse_film
from pipeline.errors import InputError, MissingDependencyError
from pipeline.media import probe_film
from pipeline.records import Analysis, Film
from pipeline.runner import Runner
from pipeline.settings import Site, TrailerConfig
from pipeline.steps import analyse
from pipeline.workdir import WorkDir
from pipeline.writing import write_film
from tests.flows.test_flows import Run, in_a_flow, read_run
from tests.test_analysis import SHOTS, assert_same, draw, sound

if TYPE_CHECKING:
    from distributed import LocalCluster

    from flows.spreading import DaskSpread

pytestmark = pytest.mark.flow

CONFIG = TrailerConfig.model_validate({"shots": {"detector": "adaptive"}})


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """25 s, a key frame every 2 s."""
    path = tmp_path_factory.mktemp("spreading") / "a_long_film.mp4"
    options = {"preset": "veryfast", "x264-params": "keyint=48:scenecut=0"}
    tone = sound(sum(SHOTS) / 24)
    write_film(path, draw((160, 96)), frame_rate=Fraction(24), sound=tone, crf=20, options=options)
    return probe_film(path)


@pytest.fixture(scope="module")
def expected(film: Film, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """One pass from beginning to end."""
    return analyse_film(film, tmp_path_factory.mktemp("one"))


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few seconds, so that a small film has many."""
    monkeypatch.setattr(module, "SHORTEST_PART", 2.0)


def start_cluster() -> LocalCluster:
    """Two processes with a thread each, on this machine only."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with start_cluster() as started:
        yield started


def spread_over(address: str, **options: Any) -> DaskSpread:
    from flows.spreading import DaskSpread

    return DaskSpread(address, **options)


def analyse_in_a_flow(film: Film, site: Site, spread: Any) -> tuple[Any, Any]:
    """The step, by a PrefectRunner. Returns its record (or the exception) and the flow's state."""

    def do(runner: Runner) -> Analysis:
        work = WorkDir(site.work_dir, film.fingerprint)
        return runner.step("analysis", analyse, work, film, CONFIG, site, runner.spread).load()

    return in_a_flow(do, spread=spread)


def read_sub_run(state: Any, *, tasks: int) -> Run:
    """The run of the parts, below the run that ended in this state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

    below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=below)
    assert run.state is not None
    return read_run(run.state, tasks=tasks)


@pytest.mark.usefixtures("prefect_server")
def test_on_a_cluster_as_in_one_go_and_prefect_shows_each_part(
    film: Film, expected: Analysis, cluster: LocalCluster, site: Site
) -> None:
    spread = spread_over(cluster.scheduler_address)
    made, state = analyse_in_a_flow(film, site, spread)
    assert isinstance(made, Analysis), made
    assert_same(made, expected)
    assert spread.workers == 2
    below = read_sub_run(state, tasks=9)
    assert (below.run.name, below.run.state_name) == ("8 parts: A Long Film", "Completed")
    names = {f"part {number} of 8: A Long Film" for number in range(1, 9)} | {"sound: A Long Film"}
    assert {task.name for task in below.tasks} == names
    assert {task.state_name for task in below.tasks} == {"Completed"}
    assert not below.shown  # the step's progress is the step's
    assert list(read_run(state, tasks=2).shown) == ["progress-analysis"]


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_is_gone_stops_nothing(
    film: Film, expected: Analysis, cluster: LocalCluster, site: Site, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    import httpx
    from prefect import Flow

    def refuse(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("Connection refused")

    class Lost(type(spread_over(cluster.scheduler_address))):  # type: ignore[misc]
        """The server goes when the step has begun."""

        def __call__(self, *arguments: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(Flow, "__call__", refuse)
                return super().__call__(*arguments)

    made, _ = analyse_in_a_flow(film, site, Lost(cluster.scheduler_address))
    assert isinstance(made, Analysis), made
    assert_same(made, expected)
    assert "cannot report the parts of the film to Prefect (Connection refused); the work goes on" in caplog.text


def test_without_prefect_and_on_processes_of_its_own(film: Film, expected: Analysis, tmp_path: Path) -> None:
    shares: list[float] = []
    spread = spread_over("local", prefect=False, cores=2)
    assert_same(analyse_film(film, tmp_path, spread=spread, progress=shares.append), expected)
    assert shares == sorted(shares)
    assert 0 < min(share for share in shares if share) < 0.9  # it was told before all was seen
    assert shares[-1] > 0.9


@pytest.mark.usefixtures("prefect_server")
def test_a_parts_error_arrives_as_itself_in_one_line(film: Film, cluster: LocalCluster, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.path.read_bytes()[:4000])
    spread = spread_over(cluster.scheduler_address)
    for part, error, message in (
        (Part(replace(film, path=broken), tmp_path, "a"), InputError, f"the film {broken} is not a media file"),
        (
            Part(replace(film, path=tmp_path / "b.mp4"), tmp_path, "b"),
            InputError,
            f"cannot read the film {tmp_path}/b.mp4",
        ),
        (Part(film, tmp_path / "c", "c"), InputError, f"cannot write in {tmp_path}/c: TRAILER_WORK_DIR must lie on"),
        (Part(film, tmp_path, "d", pictures=False), AssertionError, ""),  # a bug
    ):
        raised, state = in_a_flow(lambda runner, part=part: spread([part], lambda seconds: None))  # type: ignore[misc]
        assert type(raised) is error
        assert message in str(raised)
        (task,) = read_sub_run(state, tasks=1).tasks
        assert task.state is not None
        assert (task.state_name, task.run_count) == ("Failed", 1)
        assert message in str(task.state.message)


def test_an_interruption_ends_the_parts_that_are_on_their_way(
    film: Film, cluster: LocalCluster, tmp_path: Path
) -> None:
    told: list[float] = []

    def interrupt(seconds: float) -> None:
        told.append(seconds)
        if seconds:
            raise KeyboardInterrupt

    parts = [Part(film, tmp_path, f"part-{number}") for number in range(20)]
    with pytest.raises(KeyboardInterrupt):
        spread_over(cluster.scheduler_address, prefect=False)(parts, interrupt)
    assert told[0] == 0
    left = sorted(tmp_path.iterdir())
    time.sleep(1)
    assert sorted(tmp_path.iterdir()) == left  # nobody writes any more
    assert len(left) < 3 * 20


def test_a_cluster_that_is_lost_is_one_line(film: Film, tmp_path: Path) -> None:
    with start_cluster() as lost:

        def lose(seconds: float) -> None:
            lost.scale(0)
            lost.close()

        parts = [Part(film, tmp_path, f"part-{number}") for number in range(20)]
        with pytest.raises(InputError, match=r"the Dask cluster was lost .*unset TRAILER_DASK"):
            spread_over(lost.scheduler_address, prefect=False)(parts, lose)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1", "no such address", "x://a:1"])
def test_a_scheduler_that_does_not_answer_is_one_line_and_soon(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.spreading

    monkeypatch.setattr(flows.spreading, "CONNECT_SECONDS", 1.0)
    before, began = threading.enumerate(), time.monotonic()
    with pytest.raises(InputError) as caught:
        _ = spread_over(address).workers
    assert time.monotonic() - began < 10
    assert str(caught.value).startswith(f"no Dask scheduler answers at {address} (")
    assert "\n" not in str(caught.value)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "IO loop" and thread not in before]


def test_a_scheduler_without_workers_and_a_missing_package_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    import flows.spreading

    monkeypatch.setattr(flows.spreading, "WORKER_SECONDS", 0.5)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as idle,
        pytest.raises(InputError, match="has no workers: start some with `dask worker tcp://"),
    ):
        _ = spread_over(idle.scheduler_address).workers
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trailer-pipeline\[dask\]'"):
        flows.spreading.choose_spread(Site(dask="local"), prefect=True)
    assert flows.spreading.choose_spread(Site(dask=""), prefect=True) is None
