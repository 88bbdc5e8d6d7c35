"""The same steps by both runners, and what Prefect shows of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipeline.errors import InputError, MediaError, NoSolutionError
from pipeline.runner import LocalRunner, Runner
from pipeline.settings import Site, TrailerConfig, load_config
from pipeline.trailer import Outcome, make_trailer
from pipeline.workdir import Artifact, Made, WorkDir
from tests.synthetic import barcode_film

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Artifact as Shown
    from prefect.client.schemas.objects import FlowRun, State, TaskRun

pytestmark = pytest.mark.flow

QUICK = load_config(None, ["length=6", "edit.card_seconds=1", "video.preset=ultrafast"])
NAMES = ["analysis", "shots", "features", "music", "selection", "lines", "edit", "render", "quality"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a_small_film.mp4"
    barcode_film(path, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
    return path


@pytest.fixture(scope="module")
def made(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the local runner has made t.mp4, its work in work/."""
    folder = tmp_path_factory.mktemp("made")
    make_trailer(
        film, QUICK, Site(work_dir=folder / "work", device="cpu"), LocalRunner(lambda line: None), out=folder / "t.mp4"
    )
    return folder


@dataclass(frozen=True)
class Run:
    """A flow run as the server knows it, its task runs in order, and what it shows."""

    run: FlowRun
    tasks: list[TaskRun]
    shown: dict[str, Shown]


def read_run(state: State[Any], *, tasks: int | None = None) -> Run:
    """Ask the server. Task runs reach it by way of events, a moment late: waits until `tasks` of them have ended."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    assert state.state_details.flow_run_id is not None
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        for _ in range(150):
            found = client.read_task_runs(flow_run_filter=chosen)
            if tasks is None or sum(t.state is not None and t.state.is_final() for t in found) == tasks:
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"{len(found)} task runs, not {tasks}: {[(t.name, t.state_name) for t in found]}")
        run = client.read_flow_run(state.state_details.flow_run_id)
        shown = {a.key: a for a in client.read_artifacts(flow_run_filter=chosen) if a.key}
    return Run(run, sorted(found, key=lambda task: str(task.start_time)), shown)


def run(film: Path, config: Any = QUICK, **parameters: Any) -> State[Any]:
    """The product's flow, and the state that it ended in."""
    from flows.trailer import make_trailer as make_trailer_flow

    state: Any = make_trailer_flow(film, config, return_state=True, **parameters)
    return cast("State[Any]", state)


def in_a_flow(work: Callable[[Runner], Any], **options: Any) -> tuple[Any, State[Any]]:
    """Do work with a PrefectRunner in a flow run of its own. Returns what came of it (or the exception), and the state."""
    from prefect import flow
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.runner import PrefectRunner

    made: list[Any] = []

    @flow(name="test", task_runner=cast(Any, ThreadPoolTaskRunner[Any](max_workers=1)))
    def run_it() -> None:
        try:
            made.append(work(PrefectRunner("A film", **options)))
        except BaseException as error:
            made.append(error)
            raise

    state = run_it(return_state=True)
    return made[0], state


RUNNERS: dict[str, Callable[[Callable[[Runner], Any]], Any]] = {
    "local": lambda work: work(LocalRunner(lambda line: None)),
    "prefect": lambda work: in_a_flow(work)[0],
}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", RUNNERS)
def test_both_runners_make_the_same_and_reuse_it(name: str, film: Path, site: Site, tmp_path: Path, made: Path) -> None:
    def make(runner: Runner) -> Outcome:
        return make_trailer(film, QUICK, site, runner, out=tmp_path / "t.mp4")

    expected = (made / "t.edit.json").read_bytes()
    first = RUNNERS[name](make)
    assert isinstance(first, Outcome)
    assert first.passed
    assert [(step.name, step.reused) for step in first.steps] == [(step, False) for step in NAMES]
    assert first.edit.read_bytes() == expected
    trailer = first.trailer.read_bytes()
    again = RUNNERS[name](make)
    assert [(step.name, step.reused) for step in again.steps] == [(step, True) for step in NAMES]
    assert again.edit.read_bytes() == expected
    assert again.trailer.read_bytes() == trailer


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_shows_what_it_does(film: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the local runner has left: nothing is made again."""

    monkeypatch.setenv("TRAILER_WORK_DIR", str(made / "work"))
    state = run(film, QUICK, out=tmp_path / "t.mp4")
    summary = state.result()
    assert summary["passed"] is True
    assert all(step["reused"] for step in summary["steps"])
    seen = read_run(state, tasks=9)
    assert (seen.run.name, seen.run.state_name) == ("A Small Film", "Completed")
    assert [task.name for task in seen.tasks] == [f"{name}: A Small Film" for name in NAMES]
    assert [task.state_name for task in seen.tasks] == ["Cached"] * len(NAMES)
    assert all(task.state and str(task.state.message).startswith("reused, made ") for task in seen.tasks)
    made_by = {task.id: name for task, name in zip(seen.tasks, NAMES, strict=True)}
    edges = {
        name: {made_by[result.id] for result in task.task_inputs["inputs"] if hasattr(result, "id")}
        for task, name in zip(seen.tasks, NAMES, strict=True)
    }
    assert edges["analysis"] == edges["music"] == set()
    assert edges["shots"] == {"analysis"}
    assert edges["selection"] == {"analysis", "shots", "features", "music"}
    assert edges["edit"] == {"analysis", "shots", "music", "selection", "lines"}
    assert edges["quality"] == {"edit", "render"}
    assert {"shots", "quality", "timing", "contact-sheet", "result"} <= set(seen.shown)
    assert {seen.shown[key].type for key in ("shots", "quality", "timing")} == {"table"}
    assert seen.shown["contact-sheet"].type == "image"
    assert str(seen.shown["contact-sheet"].data).startswith("data:image/jpeg;base64,")
    assert seen.shown["result"].type == "markdown"
    assert (tmp_path / "t.mp4").as_uri() in str(seen.shown["result"].data)


@pytest.mark.usefixtures("prefect_server")
def test_an_unusable_film_fails_with_one_line_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.trailer import run_flow

    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "work"))
    film = tmp_path / "odd.mp4"
    film.write_bytes(b"no film" * 100)
    state = run(film)
    seen = read_run(state, tasks=0)
    assert (seen.run.state_name, seen.run.run_count) == ("Failed", 1)
    assert seen.run.state is not None
    assert str(seen.run.state.message).startswith(f"the film {film} is not a media file")
    with pytest.raises(InputError, match="is not a media file"):
        run_flow(film, TrailerConfig(), music=None, out=None, say=lambda line: None, bar=lambda name, share: None)


@pytest.mark.usefixtures("prefect_server")
def test_what_the_gate_refuses_says_so(film: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("TRAILER_WORK_DIR", str(made / "work"))
    monkeypatch.setattr("pipeline.quality.LOUDNESS_WITHIN", -1.0)
    config = QUICK.model_copy(update={"title": "REFUSED"})  # or the check that was passed would be reused
    state = run(film, config, out=tmp_path / "t.mp4")
    assert (state.name, state.type.value) == ("RejectedByQuality", "FAILED")
    assert state.message == f"failed loudness_lufs; put aside as {tmp_path / 't.rejected.mp4'}"


# steps of the tests' own


@dataclass(frozen=True, slots=True)
class Number:
    value: int


def add(work: WorkDir, *numbers: Artifact[Number], progress: Callable[[float], None]) -> Made[Number]:
    for share in (0.25, 0.5, 0.75):
        progress(share)
    total = 1 + sum(number.load().value for number in numbers)
    return work.reuse_or_make("add", 1, {"numbers": [n.key for n in numbers]}, Number, lambda: Number(total))


@pytest.mark.usefixtures("prefect_server")
def test_progress_and_odd_names_are_shown(tmp_path: Path) -> None:
    work = WorkDir(tmp_path, "x")
    heard: list[float] = []

    def do(runner: Runner) -> None:
        runner.step("add up", add, work)
        runner.show_table("Odd Key!", [{"value": float("nan")}], "not a number")
        runner.show_files("files", {"a [film](x)": tmp_path / "*a* (b) é.mp4"}, "# <b>Title</b>\nof two lines")
        runner.show_picture("too-large", bytes(400_000), "a picture")

    _, state = in_a_flow(do, progress_every=0.0, bar=lambda name, share: heard.append(share))
    seen = read_run(state, tasks=1)
    assert heard == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (seen.shown["progress-add-up"].type, seen.shown["progress-add-up"].data) == ("progress", 100.0)
    assert seen.shown["odd-key"].data == '[{"value": "nan"}]'
    text = str(seen.shown["files"].data)
    assert r"# \# \<b\>Title\</b\> of two lines" in text
    assert r"a \[film\]\(x\): [" in text
    assert "%2Aa%2A%20%28b%29%20%C3%A9.mp4)" in text
    assert "too-large" not in seen.shown


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("error", "times"),
    [
        (InputError("the film is unusable\nand why"), 1),
        (NoSolutionError("no shots"), 1),
        (MediaError("ffmpeg failed with 1: ffmpeg -i x"), 1),
        (ValueError("a bug"), 1),
        (FileNotFoundError(2, "No such file"), 1),
        (OSError(5, "a share that blinked"), 3),
        (MediaError("ffmpeg took longer than 60 s: ffmpeg -i x", timed_out=True), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_may_pass_is_tried_again(
    error: Exception, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.runner.exponential_backoff", lambda backoff_factor: 0)
    calls: list[int] = []

    def fail(*, progress: Callable[[float], None]) -> Made[Number]:
        calls.append(1)
        raise error

    raised, state = in_a_flow(lambda runner: runner.step("fail", fail))
    assert raised is error
    assert len(calls) == times
    task = read_run(state, tasks=1).tasks[0]
    assert task.state is not None
    assert task.state_name == "Failed"
    assert task.run_count == times
    if isinstance(error, InputError):
        assert task.state.message == "the film is unusable"


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_is_gone_stops_nothing_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    work = WorkDir(tmp_path, "x")
    asked: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        asked.append("table")
        raise httpx.ConnectError("Connection refused")

    def do(runner: Runner) -> int:
        first = runner.step("first", add, work)
        monkeypatch.setattr("flows.runner.create_table_artifact", refuse)
        runner.show_table("one", [], "one")
        runner.show_table("two", [], "two")
        return runner.step("second", add, work, first).load().value

    total, _ = in_a_flow(do)
    assert total == 2
    assert asked == ["table"]
    warnings = [record.getMessage() for record in caplog.records if record.name == "trailer"]
    assert warnings == ["cannot report to Prefect any more (Connection refused); the work goes on"]


@pytest.mark.usefixtures("prefect_server")
def test_a_step_that_prefect_cannot_run_is_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx
    from prefect import Task

    work = WorkDir(tmp_path, "x")

    def refuse(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("Connection refused")

    def do(runner: Runner) -> int:
        first = runner.step("first", add, work)
        monkeypatch.setattr(Task, "submit", refuse)
        second = runner.step("second", add, work, first)
        return runner.step("third", add, work, first, second).load().value

    total, _ = in_a_flow(do)
    assert total == 4
    assert "the work goes on" in caplog.text


@pytest.mark.usefixtures("prefect_server")
def test_a_trailer_that_is_made_but_not_reported_is_made(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    import flows.trailer

    outcome = Outcome(film, film, film, film, 6.0, 3, True, (), (), ())

    def lose_the_server(*_: Any, **__: Any) -> None:
        caller = flows.trailer.CALLER.get()
        assert caller is not None
        caller.outcome = outcome
        raise httpx.ConnectError("Connection refused")

    def lose_it_at_once(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("Connection refused")

    watch: dict[str, Any] = {"music": None, "out": None, "say": lambda line: None, "bar": lambda name, share: None}
    monkeypatch.setattr(flows.trailer, "make_trailer", lose_the_server)
    assert flows.trailer.run_flow(film, QUICK, **watch) is outcome
    assert "trailer made, could not report to Prefect (Connection refused)" in caplog.text
    monkeypatch.setattr(flows.trailer, "make_trailer", lose_it_at_once)
    with pytest.raises(InputError, match="Prefect failed before the trailer was made"):
        flows.trailer.run_flow(film, QUICK, **watch)


def test_the_form_knows_the_settings() -> None:
    from flows.trailer import make_trailer as make_trailer_flow

    schema = make_trailer_flow.parameters.model_dump()
    assert schema["required"] == ["film"]
    assert schema["properties"]["film"]["format"] == "path"
    assert "the machine that runs this" in schema["properties"]["film"]["description"]
    assert schema["definitions"]["SoundSettings"]["properties"]["loudness_lufs"]["maximum"] == -8


@pytest.mark.usefixtures("prefect_server")
def test_a_wrong_parameter_is_refused_before_the_work(film: Path) -> None:

    state = run(film, {"sound": {"loudness_lufs": 3}})
    assert state.is_failed()
    assert "loudness_lufs" in str(state.message)


def test_the_server_imports() -> None:
    """With a fastapi that is too new `import prefect` works, and the server does not start."""
    import prefect.server.api.server

    assert callable(prefect.server.api.server.create_app)
