"""The make-trailer flow: one film, as a run that Prefect shows, retries and schedules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.approval import Approver, Unanswered
from flows.leaving import SilentServerError, hurry, interruptible
from flows.making import summarise
from flows.runner import REPORTING_FAULTS, PrefectRunner, first_line
from flows.spreading import choose_spread
from pipeline.errors import InputError, TrailerError
from pipeline.ledger import Fate, Ledger, keep_current
from pipeline.settings import Site, TrailerConfig
from pipeline.trailer import NotApprovedError, Outcome, name_trailer, title_from_name
from pipeline.trailer import make_trailer as run_sequence

log = logging.getLogger("trailer")
DEFAULTS = TrailerConfig()
# state of a run that had nothing to make
NOTHING_MADE = {Fate.current: "UpToDate", Fate.busy: "Busy", Fate.skipped: "Skipped"}
END_SECONDS = 8.0  # that a command waits for the server to take the run's last state
SILENT_SECONDS = 2.0  # the same, where it did not answer before


@dataclass(slots=True)
class Caller:
    """Who runs the flow in this process and watches it: where lines and progress go, and what came of it."""

    say: Callable[[str], None]
    bar: Callable[[str, float], None]
    outcome: Outcome | None = None
    error: TrailerError | None = None


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def _name_run() -> str:
    """The run's name: the title where one is given, else the film's."""
    given = runtime.flow_run.parameters
    config = given.get("config") or {}
    title = config.get("title", "") if isinstance(config, dict) else config.title
    return title or title_from_name(Path(str(given["film"])).stem) or "trailer"


ONE_AT_A_TIME = cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner[Any](max_workers=1))


@flow(name="make-trailer", flow_run_name=_name_run, task_runner=ONE_AT_A_TIME)
def make_trailer(
    film: Path,
    config: TrailerConfig = DEFAULTS,
    music: Path | None = None,
    out: Path | None = None,
    subtitles: Path | None = None,
    voice: Path | None = None,
    keep: bool = False,
    approve: bool = False,
    approve_hours: float = 24.0,
    unanswered: Unanswered = Unanswered.stop,
) -> Any:
    """Make a trailer from one film.

    Args:
        film: The film file, as the machine that runs this sees it.
        config: What trailer to make.
        music: Track to cut to; none: the bundled one that fits the film.
        out: Where to write the trailer, ending in .mp4; none: FILM-trailer.mp4 in the folder of the process.
        subtitles: File with the film's lines; none: one beside the film, or in it.
        voice: JSON file that names recordings to be heard instead of the film's own voices.
        keep: Do nothing where the trailer is there already, made of this film with these settings.
        approve: Pause before it is handed over, until a person has looked at the contact sheet.
        approve_hours: How long to wait for an answer.
        unanswered: What is done without one.
    """
    caller = CALLER.get()
    title = config.title or title_from_name(film.stem)
    say, bar = (caller.say, caller.bar) if caller else (None, None)
    site = Site()
    runner = PrefectRunner(title, say=say, bar=bar, gpu_limit=site.gpu_limit)

    def make() -> Outcome:
        runner.spread = choose_spread(site, prefect=True)
        ask = Approver(title, approve_hours, unanswered) if approve else None
        return run_sequence(
            film, config, site, runner, music=music, out=out, subtitles=subtitles, voice=voice, approve=ask
        )

    try:
        with warnings_shown():
            if keep:
                kept = keep_current(film, out or name_trailer(film), config, Ledger(site.work_dir), make)
                outcome = kept.outcome
            else:
                outcome = make()
    except NotApprovedError as error:
        if caller is not None:
            caller.error = error
        return Completed(name="NotApproved", message=str(error))
    except TrailerError as error:
        if caller is not None:
            caller.error = error
        return Failed(message=first_line(error))
    finally:
        if caller is not None:  # who waits for what was made, and not for Prefect
            hurry(SILENT_SECONDS if runner.silent else END_SECONDS)
    if outcome is None:
        return Completed(name=NOTHING_MADE[kept.fate], message=kept.why or kept.fate.value)
    if caller is not None:
        caller.outcome = outcome
    if not outcome.passed:
        message = f"failed {', '.join(outcome.failures)}; put aside as {outcome.trailer}"
        return Failed(name="RejectedByQuality", message=message)
    message = f"{outcome.trailer}: {outcome.duration:.1f} s, {outcome.slots} shots, checked"
    return Completed(message=message, data=summarise(outcome))


@contextmanager
def warnings_shown() -> Iterator[None]:
    """The product's warnings in the run's log."""
    handler = APILogHandler(level=logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def run_flow(
    film: Path,
    config: TrailerConfig,
    *,
    music: Path | None,
    out: Path | None,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
    subtitles: Path | None = None,
    voice: Path | None = None,
) -> Outcome:
    """Run the flow here, for a command. Raises what the work raised: TrailerError, or a bug's own exception."""
    caller = Caller(say, bar)
    token = CALLER.set(caller)
    try:
        # the heartbeat's thread would be waited for at the end, up to a second
        with interruptible(), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            state = cast(State[Any], make_trailer(film, config, music, out, subtitles, voice, return_state=True))
    except (*REPORTING_FAULTS, SilentServerError) as error:
        if caller.outcome is not None:
            log.warning("trailer made, could not report to Prefect (%s)", first_line(error))
            return caller.outcome
        if caller.error is None:
            told = f"Prefect failed before the trailer was made ({first_line(error)})"
            raise InputError(f"{told}; look at its server, or run without it (unset PREFECT_API_URL)") from error
    finally:
        CALLER.reset(token)
    if caller.error is not None:
        raise caller.error
    if caller.outcome is None:
        state.result()  # a bug: raises it
        raise AssertionError(f"the flow ended {state.name} without an outcome")
    return caller.outcome
