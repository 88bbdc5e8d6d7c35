"""Serve the flows to a Prefect server: started from its UI, its API, by a schedule, or when a film arrives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import serve
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments import run_deployment
from prefect.deployments.runner import RunnerDeployment
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.settings import PREFECT_UI_URL
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.library import library
from flows.passes import look
from flows.runner import REPORTING_FAULTS, first_line
from flows.trailer import make_trailer
from flows.watchman import ensure_watchman
from pipeline.errors import InputError, TrailerError
from pipeline.ledger import PENDING
from pipeline.library import LibrarySettings, check_library
from pipeline.media import probe_film
from pipeline.settings import Site, TrailerConfig

log = logging.getLogger("trailer")

ARRIVAL = "trailer.film-arrived"  # an event of this name, with the film's path, makes its trailer
LIBRARY_RUN = "library/library"
WATCH_SECONDS = 30.0  # between two looks into a folder that is watched
START_SECONDS = 120.0  # for the deployments to be known to the server


@dataclass(frozen=True, slots=True)
class Shelf:
    """A library that is served: its folder and how it is kept. cron: when, "" for never; timezone: of cron."""

    folder: Path
    settings: LibrarySettings
    config: TrailerConfig
    cron: str
    timezone: str
    watch: bool


def check_shelf(shelf: Shelf) -> None:
    """Raises InputError for a folder, a schedule or a time zone that cannot be used."""
    check_library(shelf.folder, shelf.settings)
    check_cron(shelf.cron, shelf.timezone)


def check_cron(cron: str, timezone: str) -> None:
    """Raises InputError for a schedule or a time zone that cannot be used."""
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"--timezone {timezone!r} is no time zone: a name such as Europe/Berlin") from error
    if cron:
        try:
            CronSchedule(cron=cron)
        except ValidationError as error:
            raise InputError(f"--cron {cron!r} is no cron expression: five fields, as in '0 2 * * *'") from error


def serve_flows(film: Path | None, shelf: Shelf | None, cron: str, timezone: str, say: Callable[[str], None]) -> None:
    """Serve the deployments `trailer` and, for a library, `library` until stopped. cron: when to make `film` by itself.

    A library has its first pass at once. Raises InputError for what cannot be used.
    """
    if film is not None:
        film = probe_film(film).path
    check_cron(cron, timezone)
    deployments = [describe_trailer(film, cron, timezone)]
    if shelf is not None:
        check_shelf(shelf)
        deployments.append(describe_library(shelf))
    ensure_watchman()
    for line in _tell(deployments, shelf):
        say(line)
    if shelf is not None:
        threading.Thread(target=_attend, args=(shelf,), daemon=True, name="watch").start()
    together = shelf.settings.together if shelf is not None else 1
    # one more than films: the pass that waits for them. Paused on shutdown, a schedule would not come back with the next one
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False, limit=together + 1)


def serve_films(together: int) -> None:
    """Serve the deployment `trailer` alone, for a pass that finds nobody who does."""
    serve(describe_trailer(None, "", "UTC"), pause_on_shutdown=False, print_starting_message=False, limit=together)


def describe_trailer(film: Path | None, cron: str, timezone: str) -> RunnerDeployment:
    """The deployment `trailer`: on demand, by the event ARRIVAL, and for one film by a schedule."""
    arrival = DeploymentEventTrigger(
        name="trailer: a film has arrived",
        expect={ARRIVAL},
        parameters={"film": "{{ event.resource['path'] }}", "keep": True},
    )
    return cast(
        RunnerDeployment,
        make_trailer.to_deployment(
            "trailer",
            schedules=[Cron(cron, timezone=timezone)] if cron else [],
            parameters={} if film is None else {"film": str(film)},
            triggers=[arrival],
            description="A film file in, a finished trailer out.",
            tags=["trailer"],
            entrypoint_type=EntrypointType.MODULE_PATH,  # found from any folder
        ),
    )


def describe_library(shelf: Shelf) -> RunnerDeployment:
    """The deployment `library`: passes over a folder, one at a time."""
    parameters: dict[str, Any] = {
        "folder": str(shelf.folder.absolute()),
        "settings": shelf.settings.model_dump(mode="json"),
        "config": shelf.config.model_dump(mode="json"),
    }
    return cast(
        RunnerDeployment,
        library.to_deployment(
            "library",
            schedules=[Cron(shelf.cron, timezone=shelf.timezone)] if shelf.cron else [],
            parameters=parameters,
            # passes that were missed, or that come while one works, have nothing to add
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            description="The trailers of all films in a folder that are new, or have changed.",
            tags=["trailer", "library"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    )


def _tell(deployments: list[RunnerDeployment], shelf: Shelf | None) -> list[str]:
    names = " and ".join(f"{deployment.flow_name}/{deployment.name}" for deployment in deployments)
    lines = [f"serving {names}; watch and start runs at {PREFECT_UI_URL.value()}/deployments; Ctrl-C ends it"]
    if shelf is not None:
        when = [f"at {shelf.cron!r} ({shelf.timezone})"] if shelf.cron else []
        when += ["when a film arrives"] if shelf.watch else []
        lines.append(f"library {shelf.folder}: a first pass now" + "".join(f", then {text}" for text in when))
    return lines


def _attend(shelf: Shelf) -> None:
    """In a thread: have the library looked over once at the start, and again when a film arrives that is not made yet."""
    _begin_pass()
    tried: set[tuple[Path, int, int]] = set()
    while shelf.watch:
        time.sleep(WATCH_SECONDS)
        try:
            standings = look(shelf.folder, shelf.settings, shelf.config, Site())
        except TrailerError as error:  # the share is away for a moment
            log.warning("cannot look into the library: %s", first_line(error))
            continue
        pending = {(s.entry.path, s.entry.size, s.entry.changed) for s in standings if s.fate in PENDING}
        try:
            if pending - tried and not _pass_goes_on():
                _begin_pass()
                tried |= pending
        except REPORTING_FAULTS as error:
            log.warning("cannot have the library looked over (%s); trying again", first_line(error))


def _begin_pass() -> None:
    """Start a run of the library's deployment, once the server knows it."""
    latest = time.monotonic() + START_SECONDS
    while True:
        try:
            run_deployment(LIBRARY_RUN, timeout=0, as_subflow=False)
        except (ObjectNotFound, *REPORTING_FAULTS) as error:
            if time.monotonic() > latest:
                log.warning("the library's first pass could not be started (%s)", first_line(error))
                return
            time.sleep(1.0)
        else:
            return


def _pass_goes_on() -> bool:
    going = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "PENDING"]}}})
    with get_client(sync_client=True) as client:
        return bool(
            client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["library"])), flow_run_filter=going)
        )


if __name__ == "__main__":  # see flows.library_commands
    import sys

    serve_films(int(sys.argv[1]))
