"""Run the steps of a trailer as Prefect tasks, and show in Prefect's UI how they go."""

from __future__ import annotations

import base64
import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import UUID

import httpx
from prefect import Task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.exceptions import PrefectException
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import exponential_backoff

from flows.limit import hold_limit
from flows.looking import finite
from pipeline.analysis import Spread
from pipeline.errors import MediaError, TrailerError
from pipeline.gpu import Watcher, watch
from pipeline.media import end_programs
from pipeline.runner import StepTime, describe_age
from pipeline.workdir import Artifact, Made

T = TypeVar("T")
log = logging.getLogger("trailer")

# what a server that is gone, or that refuses, can raise; TimeoutError and ConnectionError are OSErrors
REPORTING_FAULTS = (httpx.HTTPError, PrefectException, OSError)
RETRIES = 2
REPORT_SECONDS = 6.0  # that a step waits for the server to take what it is told
# a share that blinked, or a machine that was full for a moment; all else fails the same way again
PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
LARGEST_PICTURE = 300_000  # bytes; it is kept in Prefect's database
MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$])")


class PrefectRunner:
    """Submits each step as a task of the flow run that it is made in.

    title: names the task runs. say, bar: as LocalRunner's, for whoever also watches here. progress_every: least seconds
    between two updates of a progress artifact. gpu_limit: Prefect's concurrency limit that is held while a GPU is used, made
    with a limit of 1 where there is none; "": none.
    """

    def __init__(
        self,
        title: str,
        *,
        say: Callable[[str], None] | None = None,
        bar: Callable[[str, float], None] | None = None,
        progress_every: float = 1.0,
        spread: Spread | None = None,
        gpu_limit: str = "",
    ) -> None:
        self.times: list[StepTime] = []
        self.spread = spread
        self._gpu_limit = gpu_limit
        self._title = title
        self._say = say
        self._bar = bar
        self._every = progress_every
        self._futures: dict[str, PrefectFuture[Any]] = {}  # by the key of the artifact that the task made
        self._shown: dict[str, tuple[float, UUID | None]] = {}  # when a step's progress was last shown, and where
        self._shares: dict[str, float] = {}  # how far it was then
        self._stopped = False
        self._silent = False  # a server that is gone costs seconds a call: it is asked once
        self._reporter = ThreadPoolExecutor(1, "report")

    @property
    def silent(self) -> bool:
        """Whether the server has been given up."""
        return self._silent

    def step(self, name: str, function: Callable[..., Made[T]], *arguments: Any) -> Artifact[T]:
        started = time.monotonic()
        work = _Work(name, function, self)
        made = work.do(*arguments) if self._silent else self._submit(work, arguments)
        taken = StepTime(name, time.monotonic() - started, made.reused)
        self.times.append(taken)
        if self._bar is not None:
            self._bar(name, 1.0)
        if self._say is not None:
            self._say(f"{name}: {_describe_reuse(made) if made.reused else f'{taken.seconds:.1f} s'}")
        return made.artifact

    def _submit(self, work: _Work[T], arguments: tuple[Any, ...]) -> Made[T]:
        # a future in its artifact's place: Prefect waits for it and draws the edge
        inputs = [self._futures.get(a.key, a) if isinstance(a, Artifact) else a for a in arguments]
        try:
            future = self._make_task(work).submit(*inputs)
            made: Made[T] = future.result()
        except REPORTING_FAULTS as error:
            if work.failed is not None:  # the work's own
                raise
            self._fall_silent(error)
            return work.made or work.do(*arguments)
        except BaseException as stop:
            self._stopped = True
            if not isinstance(stop, Exception):  # the run is cancelled, or interrupted: nothing of it goes on
                end_programs()
            raise
        self._futures[made.artifact.key] = future
        return made

    def _make_task(self, work: _Work[T]) -> Task[..., Any]:
        def run(*inputs: Any) -> Any:
            self._shown[work.name] = (time.monotonic(), None)
            try:
                made = work.do(*(i.artifact if isinstance(i, Made) else i for i in inputs))
            except (TrailerError, KeyboardInterrupt) as error:
                if self._stopped:  # what its programs then say is not why
                    return Cancelled(message=f"the run ended while {work.name} was at work")
                if not isinstance(error, TrailerError):
                    raise
                # a state says it in one line; an exception would bring its traceback
                return Failed(message=first_line(error), data=error)
            if self._shown[work.name][1] is not None:
                self._show_progress(work.name, 1.0)
            if made.reused:
                return Completed(name="Cached", message=_describe_reuse(made), data=made)
            return made

        return make_task(run, work.name, f"{work.name}: {self._title}")

    def progress(self, name: str, fraction: float) -> None:
        if self._stopped:  # the flow has ended under the step
            raise KeyboardInterrupt
        if self._bar is not None:
            self._bar(name, fraction)
        shown, _ = self._shown.get(name, (0.0, None))
        if time.monotonic() - shown >= self._every and fraction != self._shares.get(name):
            self._show_progress(name, fraction)

    def _show_progress(self, name: str, fraction: float) -> None:
        percent = 100 * min(1.0, max(0.0, fraction))
        _, known = self._shown.get(name, (0.0, None))
        if known is None:
            what = f"{name}: {self._title}"
            created = self._report(lambda: create_progress_artifact(percent, _key(f"progress-{name}"), what))
            known = created if isinstance(created, UUID) else None
        else:
            artifact = known
            self._report(lambda: update_progress_artifact(artifact, progress=percent))
        self._shown[name], self._shares[name] = (time.monotonic(), known), fraction

    def show_table(self, key: str, rows: list[dict[str, Any]], description: str) -> None:
        self._report(lambda: create_table_artifact(finite(rows), _key(key), description))

    def show_picture(self, key: str, jpeg: bytes, description: str) -> None:
        if len(jpeg) > LARGEST_PICTURE:
            size = len(jpeg) // 1000
            log.warning("%s is too large to show in Prefect (%d kB); it stands in the report", description, size)
            return
        address = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
        self._report(lambda: create_image_artifact(image_url=address, key=_key(key), description=description))

    def show_files(self, key: str, files: dict[str, Path], description: str) -> None:
        lines = [f"- {escape(name)}: [{escape(str(path))}]({path.absolute().as_uri()})" for name, path in files.items()]
        text = f"# {escape(description)}\n\n" + "\n".join(lines) + "\n"
        self._report(lambda: create_markdown_artifact(text, _key(key), description))

    def watch_gpu(self, name: str) -> Watcher:
        """Who hears that a step waits for a GPU, and what it holds besides."""

        def told(text: str) -> None:
            if self._say is not None:
                self._say(f"{name}: {text}")
            get_run_logger().info(text)

        def waiting() -> None:
            if self._stopped:
                raise KeyboardInterrupt

        def limit() -> AbstractContextManager[None]:
            return nullcontext() if self._silent or not self._gpu_limit else self._hold_limit(told, waiting)

        return Watcher(told, waiting, limit)

    @contextmanager
    def _hold_limit(self, told: Callable[[str], None], waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a slot of the limit, if Prefect can be reached: the work never fails for the want of it."""
        with ExitStack() as held:
            try:
                held.enter_context(hold_limit(self._gpu_limit, told=told, waiting=waiting, patience=REPORT_SECONDS))
            except (*REPORTING_FAULTS, ConcurrencySlotAcquisitionError) as error:
                self._fall_silent(error)
            yield

    def _report(self, send: Callable[[], T]) -> T | None:
        """Tell Prefect; what cannot be told never stops the work, nor holds it up for long."""
        if self._silent:
            return None
        try:
            # a server that hangs would be waited for for minutes: its answer is left to come or not
            return self._reporter.submit(copy_context().run, send).result(REPORT_SECONDS)
        except REPORTING_FAULTS as error:
            self._fall_silent(error)
            return None

    def _fall_silent(self, error: Exception) -> None:
        """The server is gone: what is left to do is done without it."""
        if not self._silent:
            reason = "it does not answer" if isinstance(error, TimeoutError) else first_line(error)
            log.warning("cannot report to Prefect any more (%s); the work goes on", reason)
        self._silent = True


class _Work(Generic[T]):
    """A step's function and what came of it, known also where Prefect fails on the way."""

    def __init__(self, name: str, function: Callable[..., Made[T]], runner: PrefectRunner) -> None:
        self.name = name
        self.made: Made[T] | None = None
        self.failed: Exception | None = None  # by what could also have been Prefect's fault
        self._function = function
        self._runner = runner

    def do(self, *arguments: Any) -> Made[T]:
        self.failed = None
        self._runner.progress(self.name, 0.0)
        try:
            with watch(self._runner.watch_gpu(self.name)):
                self.made = self._function(*arguments, progress=lambda share: self._runner.progress(self.name, share))
        except REPORTING_FAULTS as error:
            self.failed = error
            raise
        return self.made


def make_task(function: Callable[..., Any], name: str, run_name: str) -> Task[..., Any]:
    """A task as all of ours are: nothing of it is kept by Prefect, and passing faults are tried again."""
    return Task(
        fn=function,
        name=name,
        task_run_name=lambda: run_name,
        # no tags: Prefect asks the server for each tag's limit before a task; 0.6 s for eight reused steps became 9 s
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=RETRIES,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_jitter_factor=0.2,
        retry_condition_fn=is_passing,
    )


def is_passing(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed step may well succeed the next time: retried. Bad input and bugs never are."""
    del task, run
    error = state.data
    if isinstance(error, MediaError):
        return error.timed_out
    return isinstance(error, OSError) and (error.errno in PASSING or isinstance(error, (TimeoutError, ConnectionError)))


def first_line(error: BaseException) -> str:
    """What went wrong, without ffmpeg's log."""
    return str(error).partition("\n")[0] or type(error).__name__


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _key(name: str) -> str:
    """A key that Prefect takes: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _describe_reuse(made: Made[Any]) -> str:
    return f"reused, made {describe_age(made.age)} ago"
