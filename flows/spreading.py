"""Look at the parts of a long film on the workers of a Dask cluster, each part a Prefect task."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import uuid4

from pipeline.analysis import Part, Seen, Spread, count_cores, look_at
from pipeline.errors import InputError, MissingDependencyError, TrailerError
from pipeline.trailer import title_from_name

if TYPE_CHECKING:
    from distributed import Client, Future
    from prefect import Task
    from prefect.client.schemas.objects import State

    from pipeline.settings import Site

log = logging.getLogger("trailer")

LOCAL = "local"
CONNECT_SECONDS = 10.0  # for the scheduler to answer
WORKER_SECONDS = 30.0  # for its first worker to come
STOP_SECONDS = 15.0  # for parts that nobody waits for any more to notice it
POLL = 0.2  # s between two looks at what has come back
STOP = "stop"  # a file of this name in the scratch folder tells the workers that nobody waits any more


class DaskSpread:
    """Looks at parts on the workers of a Dask cluster (pipeline.analysis.Spread).

    The parts' pictures travel as files in the scratch folder: the work folder must lie on storage that all workers share,
    at the same path, and so must the film. The cluster is first asked when it is needed.
    """

    def __init__(self, address: str, *, prefect: bool = True, cores: int = 0) -> None:
        """address: of a scheduler, as in tcp://10.0.0.5:8786, or "local" for processes on this machine.

        prefect: show the parts as tasks of a sub-flow of the flow run that this is used in. cores: processes of a local
        cluster; 0: as many as there are cores. Raises MissingDependencyError where the `dask` extra is absent.
        """
        try:
            import prefect_dask  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "TRAILER_DASK needs a package: pip install 'trailer-pipeline[dask]' (or unset TRAILER_DASK)"
            ) from error
        self._address = address
        self._prefect = prefect
        self._cores = cores or count_cores()

    @cached_property
    def workers(self) -> int:
        """Threads of the whole cluster. Raises InputError where no scheduler answers, or none of its workers comes."""
        if self._address == LOCAL:
            return self._cores
        with _connect(self._address) as client:
            try:
                client.wait_for_workers(1, timeout=WORKER_SECONDS)
            except TimeoutError as error:
                raise InputError(
                    f"the Dask scheduler at {self._address} has no workers: start some with "
                    f"`dask worker {self._address}`, or unset TRAILER_DASK"
                ) from error
            return sum(client.nthreads().values())

    def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
        """look_at(part) for each, in order. tell: as in Spread.

        A part's error arrives as itself. Raises InputError where the cluster is lost, or a worker cannot see the files.
        """
        work = _Work([replace(part, scratch=part.scratch.absolute()) for part in parts], tell)
        with self._open() as address:
            if self._prefect:
                _look_through_prefect(address, work)
            _look_directly(address, work)
        return [work.seen[number] for number in range(len(parts))]

    @contextmanager
    def _open(self) -> Iterator[str]:
        """The address of the cluster; a local one lives as long as this."""
        if self._address != LOCAL:
            yield self._address
            return
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=self._cores,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # pictures are looked at one by one, and a worker that is killed costs its part
        ) as cluster:
            yield cluster.scheduler_address


def choose_spread(site: Site, *, prefect: bool) -> Spread | None:
    """What TRAILER_DASK asks for; None where it is not set. prefect, errors: as DaskSpread's."""
    if not site.dask:
        return None
    # workers is found when it is first read, which mypy takes for what cannot be set
    return cast(Spread, DaskSpread(site.dask, prefect=prefect, cores=site.workers))


class _Pending(Protocol):
    """A part on its way, through Dask alone or through Prefect."""

    def done(self) -> bool: ...

    def outcome(self) -> Seen | BaseException:
        """What came of it: what was seen, or the error that it ended with."""
        ...


class _Work:
    """The parts, and what came of them so far; known also where Prefect fails on the way.

    seen: by a part's number. error: what ended the work: a part's own error, or the cluster's.
    """

    def __init__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> None:
        self.parts = parts
        self.seen: dict[int, Seen] = {}
        self.error: BaseException | None = None
        self._tell = tell
        # progress belongs to the step that asked, not to the sub-flow in which it becomes known
        self._context = copy_context()

    @property
    def missing(self) -> dict[int, Part]:
        return {number: part for number, part in enumerate(self.parts) if number not in self.seen}

    def gather(self, pending: Mapping[int, _Pending]) -> None:
        """Wait for all, telling how far they are; at the first error, or an interruption, none of them goes on.

        A part that could not be begun because the worker did not reach Prefect stays missing.
        """
        waiting = dict(pending)
        try:
            while waiting:
                for number in [number for number, part in waiting.items() if part.done()]:
                    outcome = waiting.pop(number).outcome()
                    if isinstance(outcome, Seen):
                        self.seen[number] = outcome
                    elif not _lost_prefect(outcome):
                        self.error = _explain(outcome)
                        raise self.error
                self._context.run(self._tell, sum(map(_seconds, self.seen.values())))
                if waiting:
                    time.sleep(POLL)
        finally:
            if waiting:
                self._stop(waiting)

    def _stop(self, waiting: Mapping[int, _Pending]) -> None:
        """Let the workers leave the scratch folder before it is removed."""
        (self.parts[0].scratch / STOP).touch()
        latest = time.monotonic() + STOP_SECONDS
        while time.monotonic() < latest and not all(future.done() for future in waiting.values()):
            time.sleep(POLL)


def _explain(error: BaseException) -> BaseException:
    """A part's own error as it is; what Dask says of a cluster that is lost as a message for the user."""
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    if not isinstance(error, (CancelledError, CommClosedError, KilledWorker)):
        return error
    reason = str(error).partition("\n")[0] or type(error).__name__
    return InputError(f"the Dask cluster was lost ({reason}): run again, or unset TRAILER_DASK")


def _lost_prefect(error: BaseException) -> bool:
    """Whether it is what a worker says that cannot reach Prefect's server when its part begins."""
    return isinstance(error, RuntimeError) and str(error).startswith("Failed to reach API")


def _seconds(seen: Seen) -> float:
    """Seconds of film whose pictures were seen."""
    if seen.look is None or not len(seen.look.times):
        return 0.0
    return float(seen.look.times[-1] - seen.look.times[0])


def look_on_worker(part: Part) -> Seen:
    """look_at(part), on a worker. Raises InputError where this machine cannot use the scratch folder or the film."""
    if not os.access(part.scratch, os.W_OK | os.X_OK):
        raise InputError(
            f"the Dask worker on {socket.gethostname()} cannot write in {part.scratch}: TRAILER_WORK_DIR must lie on "
            "storage that all workers share, at the same path and with the same rights"
        )
    if not os.access(part.film.path, os.R_OK):
        raise InputError(
            f"the Dask worker on {socket.gethostname()} cannot read the film {part.film.path}: it must lie on storage that "
            "all workers share, at the same path and with the same rights"
        )
    stop = part.scratch / STOP

    def told(seconds: float) -> None:
        del seconds
        if stop.exists():
            raise _AbandonedError("nobody waits for this part any more")

    told(0.0)
    # a part that is looked at again never writes into the files of a worker that only seemed to be lost
    return look_at(replace(part, name=f"{part.name}-{uuid4().hex[:8]}"), told)


class _AbandonedError(Exception):
    """Ends a part whose result nobody waits for."""


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    from distributed import Client
    from distributed.comm import get_address_host_port, resolve_address

    try:
        # a client that finds nobody is left half-made, with a thread, and may hang when it is collected: look first
        socket.create_connection(get_address_host_port(resolve_address(address)), CONNECT_SECONDS).close()
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # ValueError: it is no address
        raise InputError(
            f"no Dask scheduler answers at {address} ({str(error).partition(chr(10))[0]}): start one with "
            "`dask scheduler`, or unset TRAILER_DASK"
        ) from error
    with client:
        yield client


def _look_directly(address: str, work: _Work) -> None:
    """What has not been seen yet, without Prefect."""
    if not work.missing:
        return
    with _connect(address) as client:
        work.gather({n: _DaskPending(client.submit(look_on_worker, p, pure=False)) for n, p in work.missing.items()})


class _DaskPending:
    """A part that was given to Dask."""

    def __init__(self, future: Future) -> None:
        self._future = future

    def done(self) -> bool:
        return bool(self._future.done())

    def outcome(self) -> Any:
        try:
            error = self._future.exception()
            return self._future.result() if error is None else error
        except CancelledError as error:  # the cluster's, not the part's
            return error


class _PrefectPending(_DaskPending):
    """A part that Prefect gave to Dask: what comes back is the state of its task."""

    def outcome(self) -> Any:
        state = super().outcome()
        return state if isinstance(state, BaseException) else state.result(raise_on_failure=False)


# a flow travels to the workers with each of its tasks: what it works on must not hang on it
WORK: ContextVar[_Work] = ContextVar("work")


def _look_through_prefect(address: str, work: _Work) -> None:
    """Run a sub-flow of the current flow run, a task a part. A server that is gone leaves parts unseen, with a WARNING."""
    from prefect import Flow
    from prefect.context import TaskRunContext
    from prefect_dask import DaskTaskRunner

    from flows.runner import REPORTING_FAULTS, first_line

    name = f"{sum(part.pictures for part in work.parts)} parts: {_name_film(work)}"
    flow = Flow(
        fn=_look_at_all,
        name="look-at-parts",
        flow_run_name=lambda: name,
        task_runner=DaskTaskRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS}),
        persist_result=False,
    )

    def run() -> State[Any]:
        WORK.set(work)
        cast(ContextVar[Any], TaskRunContext.__var__).set(None)  # the step's own task would travel, too, and cannot
        return cast("State[Any]", flow(return_state=True))

    try:
        state = copy_context().run(run)
    except (*REPORTING_FAULTS, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _lost_prefect(error):
            raise
        if work.error is None:
            log.warning("cannot report the parts of the film to Prefect (%s); the work goes on", first_line(error))
    else:
        if work.error is None:
            state.result()  # a bug: raises it
            if work.missing:
                log.warning("Dask workers do not reach Prefect's server; %d parts go on without it", len(work.missing))
    if work.error is not None:
        raise work.error


def _look_at_all() -> Any:
    """The sub-flow."""
    from prefect.states import Failed

    from flows.runner import first_line

    work = WORK.get()
    try:
        tasks = {number: _make_task(work, number).submit() for number in work.missing}
        work.gather({number: _PrefectPending(cast(Any, task).wrapped_future) for number, task in tasks.items()})
    except TrailerError as error:  # a state says it in one line; an exception would bring its traceback
        return Failed(message=first_line(error))
    return None


def _make_task(work: _Work, number: int) -> Task[..., Any]:
    from prefect.states import Failed

    from flows.runner import first_line, make_task

    part = work.parts[number]
    pictures = [other.name for other in work.parts if other.pictures]
    place = f"part {pictures.index(part.name) + 1} of {len(pictures)}" if part.pictures else part.name
    name = f"{place}: {_name_film(work)}"

    def look() -> Any:
        try:
            return look_on_worker(part)
        except TrailerError as error:
            return Failed(message=first_line(error), data=error)

    return make_task(look, "part", name)


def _name_film(work: _Work) -> str:
    return title_from_name(work.parts[0].film.path.stem)
