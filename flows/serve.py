"""Serve the make-trailer flow to a Prefect server: started from its UI, by its API, or by a schedule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from prefect import serve
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_UI_URL
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.trailer import make_trailer
from pipeline.errors import InputError
from pipeline.media import probe_film


def serve_trailer(film: Path | None, cron: str | None, say: Callable[[str], None]) -> None:
    """Serve the flow as the deployment `trailer` until stopped. cron: when to make the trailer of `film` by itself.

    Raises InputError for a film or a schedule that cannot be used.
    """
    parameters = {}
    if film is not None:
        parameters["film"] = str(probe_film(film).path)
    if cron is not None:
        if film is None:
            raise InputError("--cron needs --film: which film to make a trailer of")
        try:
            CronSchedule(cron=cron)
        except ValidationError as error:
            raise InputError(f"--cron {cron!r} is no cron expression: five fields, as in '0 2 * * *'") from error
    deployment = make_trailer.to_deployment(
        "trailer",
        cron=cron,
        parameters=parameters,
        description="A film file in, a finished trailer out.",
        tags=["trailer"],
        entrypoint_type=EntrypointType.MODULE_PATH,  # found from any folder
    )
    say(f"serving make-trailer/trailer; watch and start runs at {PREFECT_UI_URL.value()}/deployments; Ctrl-C ends it")
    # paused on shutdown, the schedule would not come back with the next start
    serve(cast(RunnerDeployment, deployment), pause_on_shutdown=False, print_starting_message=False)
