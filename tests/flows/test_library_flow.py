"""The library through Prefect: a run a film, what becomes of runs that fail, crash or are cancelled, and what is served."""

from __future__ import annotations

import shutil
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline.errors import InputError
from pipeline.ledger import Fate, Standing
from pipeline.library import Entry, LibrarySettings
from pipeline.settings import TrailerConfig
from tests.synthetic import barcode_film

pytestmark = pytest.mark.flow

SHORT = ["--set", "length=6", "--set", "edit.card_seconds=1", "--set", "video.preset=ultrafast"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    barcode_film(path, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
    return path


def pending(*names: str) -> list[Standing]:
    """Films that are to be made."""
    entries = [Entry(Path(f"/films/{n}.mkv"), 1, 1, Path(f"/films/{n}-trailer.mp4"), n) for n in names]
    return [Standing(entry, Fate.new, "", TrailerConfig(title=entry.title)) for entry in entries]


class FakeServer:
    """Runs whose states are told in advance: by film, one for each run of it."""

    def __init__(self, states: dict[str, list[Any]]) -> None:
        self.states = states
        self.started: list[dict[str, Any]] = []
        self.runs: dict[UUID, Any] = {}
        self.most = 0

    def run_deployment(self, name: str, **how: Any) -> Any:
        film = Path(how["parameters"]["film"]).stem
        state = self.states[film][sum(Path(s["parameters"]["film"]).stem == film for s in self.started)]
        self.started.append({"name": name, **how})
        run = SimpleNamespace(id=uuid4(), state=state, total_run_time=timedelta(seconds=2))
        self.runs[run.id] = run
        self.most = max(self.most, len(self.runs))
        return run

    def read_flow_runs(self, *, flow_run_filter: Any, limit: int) -> list[Any]:
        return [self.runs.pop(run) for run in flow_run_filter.id.any_][:limit]

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None: ...


def dispatch(
    states: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch, together: int = 1
) -> tuple[Any, FakeServer]:
    """What becomes of films whose runs end so."""
    import flows.library

    server = FakeServer(states)
    monkeypatch.setattr(flows.library, "run_deployment", server.run_deployment)
    monkeypatch.setattr(flows.library, "get_client", lambda **_: server)
    maker = flows.library.Dispatcher("make-trailer/trailer", together)
    return {s.entry.title: (kept.fate, kept.why) for s, kept, _ in maker(pending(*states))}, server


def test_a_run_a_film_and_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.states import Cancelled, Completed, Failed

    told, server = dispatch(
        {
            "made": [Completed()],
            "there": [Completed(name="UpToDate")],
            "busy": [Completed(name="Busy", message="another run makes it")],
            "bad": [Failed(message="too few shots")],
            "refused": [Failed(name="RejectedByQuality", message="failed loudness")],
            "stopped": [Cancelled()],
        },
        monkeypatch,
        together=2,
    )
    assert told == {
        "made": (Fate.made, ""),
        "there": (Fate.current, ""),
        "busy": (Fate.busy, "another run makes it"),
        "bad": (Fate.failed, "too few shots"),
        "refused": (Fate.failed, "failed loudness"),
        "stopped": (Fate.failed, "its run was cancelled"),
    }
    assert server.most == 2
    first = server.started[0]
    assert first["flow_run_name"] == "made"
    assert first["parameters"]["out"] == "/films/made-trailer.mp4"
    assert first["parameters"]["config"]["title"] == "made"
    assert first["parameters"]["keep"] is True


def test_a_run_that_died_is_resumed_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.states import Completed, Crashed

    dead = Crashed(message="nothing was heard of it")
    told, server = dispatch({"a": [dead, dead, Completed()], "b": [dead] * 3}, monkeypatch)
    assert told == {
        "a": (Fate.made, ""),
        "b": (Fate.failed, "its run crashed 3 times: nothing was heard of it"),
    }
    assert len({start["idempotency_key"] for start in server.started}) == 6  # each a run of its own


@pytest.mark.usefixtures("prefect_server")
def test_a_pass_that_is_cancelled_takes_its_films_with_it() -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Completed, Running, Scheduled

    from flows.library import stop_films

    @flow(name="film")
    def film() -> None: ...

    with get_client(sync_client=True) as client:
        mine = uuid4()
        states = (Scheduled(), Running(), Completed())
        runs = [client.create_flow_run(film, tags=["library", f"pass:{mine}"], state=state) for state in states]
        other = client.create_flow_run(film, tags=["library", f"pass:{uuid4()}"], state=Scheduled())
        stop_films(None, SimpleNamespace(id=mine), None)  # type: ignore[arg-type]
        names = [client.read_flow_run(run.id).state_name for run in (*runs, other)]
    assert names == ["Cancelled", "Cancelling", "Completed", "Scheduled"]


# --- what is served ------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The deployments that would be served, without serving them."""
    import flows.serve

    deployments: list[Any] = []
    monkeypatch.setattr(flows.serve, "serve", lambda *given, **options: deployments.extend([*given, options]))
    monkeypatch.setattr(flows.serve, "_attend", lambda shelf: None)
    return deployments


@pytest.mark.usefixtures("prefect_server")
def test_serving_tells_prefect_of_the_library_and_its_schedule(served: list[Any], tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    from flows.serve import Shelf, serve_flows
    from flows.watchman import WATCHMAN, ensure_watchman

    said: list[str] = []
    shelf = Shelf(
        tmp_path, LibrarySettings(together=3), TrailerConfig(length=30), "*/5 * * * *", "Europe/Berlin", watch=False
    )
    for _ in range(2):
        serve_flows(None, shelf, "", "UTC", said.append)
    one, library, options = served[:3]
    assert (one.name, library.name) == ("trailer", "library")
    assert (one.entrypoint, library.entrypoint) == ("flows.trailer.make_trailer", "flows.library.library")
    assert library.schedules[0].schedule.cron == "*/5 * * * *"
    assert library.schedules[0].schedule.timezone == "Europe/Berlin"
    assert library.parameters["folder"] == str(tmp_path)
    assert library.parameters["config"]["length"] == 30
    assert (library.concurrency_limit, library.concurrency_options.collision_strategy.value) == (1, "CANCEL_NEW")
    assert options == {"pause_on_shutdown": False, "print_starting_message": False, "limit": 4}
    assert "http://" in said[0]
    assert said[1] == f"library {tmp_path}: a first pass now, then at '*/5 * * * *' (Europe/Berlin)"
    with get_client(sync_client=True) as client:
        (watchman,) = client.read_automations_by_name(WATCHMAN)
        assert not ensure_watchman()
        old = watchman.trigger.model_copy(update={"expect": {"prefect.flow-run.Completed"}})
        left = AutomationCore(name=WATCHMAN, trigger=old, actions=watchman.actions)
        client.update_automation(watchman.id, left)
        assert ensure_watchman()  # as an older version left it
        assert client.read_automations_by_name(WATCHMAN)[0].trigger.expect == watchman.trigger.expect


@pytest.mark.usefixtures("prefect_server")
def test_serving_one_film_by_a_schedule(served: list[Any], film: Path) -> None:
    from flows.serve import serve_flows

    serve_flows(film, None, "0 2 * * *", "UTC", lambda line: None)
    assert served[0].parameters == {"film": str(film)}
    assert served[0].schedules[0].schedule.cron == "0 2 * * *"
    (arrival,) = served[0].triggers
    assert arrival.expect == {"trailer.film-arrived"}
    for cron, timezone, reason in (("every night", "UTC", "no cron expression"), ("0 2 * * *", "Mars", "no time zone")):
        with pytest.raises(InputError, match=reason):
            serve_flows(film, None, cron, timezone, lambda line: None)


# --- from end to end -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("prefect_server")
def test_a_library_with_a_broken_film(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, which has the films made by a process of its own: nobody else serves them."""
    import json

    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    from flows.cli import run

    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copyfile(film, folder / "a.mp4")
    (folder / "broken.mkv").write_bytes(b"no film")
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "work"))
    arguments = ["library", str(folder), "--min-minutes", "0", "--settle", "0", *SHORT, "--json"]
    assert run(arguments) == 1
    told = json.loads(capsys.readouterr().out)
    assert {Path(row["file"]).name: row["state"] for row in told["films"]} == {"a.mp4": "made", "broken.mkv": "failed"}
    assert "is not a media file" in told["films"][0]["why"]
    assert (folder / "a-trailer.mp4").stat().st_size > 0
    with get_client(sync_client=True) as client:
        runs = {r.name: r for r in client.read_flow_runs()}
        shown = {artifact.key for artifact in client.read_artifacts()}
    assert runs["library films"].state_name == "CompletedWithFailures"
    assert runs["A"].state_name == "Completed"
    assert str(runs["A"].state.message).startswith(f"{folder / 'a-trailer.mp4'}: ")
    assert runs["Broken"].state_name == "Failed"
    assert runs["A"].parent_task_run_id is not None
    assert {"library", "progress-library", "contact-sheet"} <= shown
    assert run(arguments) == 1  # the broken film is known, nothing is made
    again = json.loads(capsys.readouterr().out)
    assert {Path(row["file"]).name: row["state"] for row in again["films"]} == {
        "a.mp4": "up to date",
        "broken.mkv": "failed",
    }
