"""The library flow: one pass over a folder of films, each made by a run of its own."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import flow, runtime
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling, Completed, Failed

from flows.notify import notify
from flows.passes import Report, Row, look, make_all, printable, require_films, tabulate
from flows.runner import REPORTING_FAULTS, first_line
from flows.trailer import warnings_shown
from pipeline.errors import InputError, TrailerError
from pipeline.ledger import Fate, Kept, Standing
from pipeline.library import LibrarySettings
from pipeline.settings import Site, TrailerConfig

log = logging.getLogger("trailer")

DEPLOYMENT = "make-trailer/trailer"  # that makes the films
POLL = 2.0  # s between two looks at the runs
PATIENCE = 900.0  # s that the server may be away
TRIES = 3  # of a film whose run crashed: its process, its machine or its worker died
SETTINGS, CONFIG = LibrarySettings(), TrailerConfig()
# names of a film's final state -> what came of it; any other name of a completed one means that it was made
FATES = {"UpToDate": Fate.current, "Busy": Fate.busy, "Skipped": Fate.skipped, "NotApproved": Fate.skipped}


@dataclass(slots=True)
class Watcher:
    """Who runs the flow in this process and watches it, and what came of it."""

    say: Callable[[str], None]
    bar: Callable[[str, float], None]
    report: Report | None = None
    error: TrailerError | None = None


WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


def _name_run() -> str:
    return f"library {Path(str(runtime.flow_run.parameters['folder'])).name}"


def stop_films(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """A pass that is cancelled takes its films with it: those that wait are cancelled, those that are made are stopped."""
    del flow, state
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[_tag(str(flow_run.id))]))
        films: list[FlowRun] = []
        while some := client.read_flow_runs(flow_run_filter=wanted, offset=len(films)):  # the server gives so many at a time
            films += some
        for film in films:
            if film.state is None or film.state.is_final():
                continue
            started = film.state.type in (StateType.RUNNING, StateType.PENDING)
            client.set_flow_run_state(film.id, Cancelling() if started else Cancelled())


def say_that_it_failed(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Tell whoever asked to be told that a pass came to nothing."""
    del flow
    notify(f"Trailers: the pass {flow_run.name} failed", state.message or state.name or "", {}, failed=True)


@flow(
    name="library",
    flow_run_name=_name_run,
    on_cancellation=[stop_films],
    on_failure=[say_that_it_failed],
    on_crashed=[say_that_it_failed],
    persist_result=False,
)
def library(
    folder: Path, settings: LibrarySettings = SETTINGS, config: TrailerConfig = CONFIG, deployment: str = DEPLOYMENT
) -> Any:
    """Make the trailers of all films in a folder that are new, or have changed.

    Args:
        folder: The library, as the machines that run this see it.
        settings: Which files are films, and where their trailers go.
        config: What trailers to make; the title is each film's own.
        deployment: Makes each film, as a run of its own.
    """
    watcher = WATCHER.get()
    try:
        with warnings_shown():
            standings = look(folder, settings, config, Site())
            require_films(standings, folder)
            shown = _Progress(folder, watcher)
            report = make_all(folder, standings, Dispatcher(deployment, settings.together), shown)
    except TrailerError as error:
        if watcher is not None:
            watcher.error = error
        return Failed(message=first_line(error))
    if watcher is not None:
        watcher.report = report
    _report(
        lambda: create_table_artifact(tabulate(report), "library", f"Library {report.folder.name}: {report.summary}")
    )
    if report.count(Fate.made, Fate.failed):
        notify(
            f"Trailers: {report.folder.name}", report.summary, {"films": tabulate(report)}, failed=bool(report.failed)
        )
    name = "CompletedWithFailures" if report.failed else "Completed"
    return Completed(name=name, message=printable(report.summary))


class _Progress:
    """Shows how many of the films are done."""

    def __init__(self, folder: Path, watcher: Watcher | None) -> None:
        self._what = f"films of {folder.name}"
        self._watcher = watcher
        self._artifact: UUID | None = None

    def __call__(self, row: Row, done: int, of: int) -> None:
        line = f"{printable(row.name)}: {row.fate.value}" + (f", {printable(row.why)}" if row.why else "")
        (log.warning if row.fate is Fate.failed else log.info)(line)
        if self._watcher is not None:
            self._watcher.say(line)
            self._watcher.bar("library", done / of)
        percent = 100 * done / of
        if self._artifact is None:
            created = _report(lambda: create_progress_artifact(percent, "progress-library", self._what))
            self._artifact = created if isinstance(created, UUID) else None
        else:
            artifact = self._artifact
            _report(lambda: update_progress_artifact(artifact, progress=percent))


def _report(send: Callable[[], Any]) -> Any:
    """Tell Prefect; what cannot be told never stops the work."""
    try:
        return send()
    except REPORTING_FAULTS as error:
        log.warning("cannot report to Prefect (%s); the work goes on", first_line(error))
        return None


class Dispatcher:
    """Has films made by a deployment, wherever a worker for it is free; so many at a time."""

    def __init__(self, deployment: str, together: int) -> None:
        self._deployment = deployment
        self._together = together

    def __call__(self, pending: Sequence[Standing]) -> Iterator[tuple[Standing, Kept, float]]:
        waiting = deque((standing, 1) for standing in pending)
        running: dict[UUID, tuple[Standing, int]] = {}
        answered = time.monotonic()
        with get_client(sync_client=True) as client:
            while waiting or running:
                try:
                    while waiting and len(running) < self._together:
                        running[self._start(*waiting[0])] = waiting[0]
                        waiting.popleft()
                    ended = _find_ended(client, list(running))
                    answered = time.monotonic()
                except ObjectNotFound as error:
                    raise InputError(
                        f"there is no deployment {self._deployment}: `trailer serve` makes it, or `prefect deploy`"
                    ) from error
                except REPORTING_FAULTS as error:
                    if time.monotonic() - answered > PATIENCE:
                        raise
                    log.warning("Prefect's server does not answer (%s); asking again", first_line(error))
                    ended = []
                for run in ended:
                    standing, tries = running.pop(run.id)
                    if run.state is not None and run.state.is_crashed() and tries < TRIES:
                        log.warning("%s: %s; it is resumed", printable(standing.entry.name), run.state.message)
                        waiting.append((standing, tries + 1))
                    else:
                        yield standing, _read_state(run), run.total_run_time.total_seconds()
                if running and not ended:
                    time.sleep(POLL)

    def _start(self, standing: Standing, tries: int) -> UUID:
        entry, run = standing.entry, str(runtime.flow_run.id)
        place = hashlib.sha256(os.fsencode(entry.out)).hexdigest()[:24]
        created = run_deployment(
            self._deployment,
            parameters={
                "film": printable(str(entry.path)),
                "config": standing.config.model_dump(mode="json"),
                "out": printable(str(entry.out)),
                "keep": True,
            },
            flow_run_name=printable(entry.name),
            timeout=0,
            as_subflow=True,
            tags=["library", _tag(run)],
            # asked for again after a fault on the way, it is the same run
            idempotency_key=f"{run}-{runtime.flow_run.run_count}-{place}-{tries}",
        )
        return cast(FlowRun, created).id


def _find_ended(client: SyncPrefectClient, ids: list[UUID]) -> list[FlowRun]:
    ended = []
    for first in range(0, len(ids), 100):
        some = FlowRunFilter(id=FlowRunFilterId(any_=ids[first : first + 100]))
        runs = client.read_flow_runs(flow_run_filter=some, limit=100)
        ended += [run for run in runs if run.state is not None and run.state.is_final()]
    return ended


def _read_state(run: FlowRun) -> Kept:
    """What came of a film, by the state that its run ended in."""
    assert run.state is not None
    message = run.state.message or ""
    if run.state.is_completed():
        fate = FATES.get(run.state.name or "", Fate.made)
        return Kept(fate, "" if fate in (Fate.made, Fate.current) else message)
    if run.state.is_cancelled():
        return Kept(Fate.failed, "its run was cancelled")
    if run.state.is_crashed():
        return Kept(Fate.failed, f"its run crashed {TRIES} times: {message}")
    return Kept(Fate.failed, message or (run.state.name or "failed"))


def _tag(run: str) -> str:
    return f"pass:{run}"


def run_library(
    folder: Path,
    settings: LibrarySettings,
    config: TrailerConfig,
    deployment: str,
    *,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
) -> Report:
    """Run the flow here, for a command. Raises TrailerError, or a bug's own exception."""
    watcher = Watcher(say, bar)
    token = WATCHER.set(watcher)
    try:
        state = cast(State[Any], library(folder, settings, config, deployment, return_state=True))
    except REPORTING_FAULTS as error:
        if watcher.report is None:
            raise InputError(
                f"Prefect failed before the pass was over ({first_line(error)}): look at its server, or run without it "
                "(unset PREFECT_API_URL)"
            ) from error
        log.warning("the pass is over, could not report to Prefect (%s)", first_line(error))
    finally:
        WATCHER.reset(token)
    if watcher.error is not None:
        raise watcher.error
    if watcher.report is None:
        state.result()  # a bug: raises it
        raise AssertionError(f"the flow ended {state.name} without a report")
    return watcher.report
