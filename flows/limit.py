"""Hold one of Prefect's concurrency limits while something is done, as far as its server can be reached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from contextvars import copy_context

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

LEASE_SECONDS = 60.0  # after which the slot of a run that was killed is free again; Prefect's least
POLL = 0.2  # s between two looks at whether the slot is ours
ASK_EVERY = 2.0  # s between two questions to the server; Prefect's own wait may take 30 s, and cannot be ended


@contextmanager
def hold_limit(
    name: str, *, told: Callable[[str], None], waiting: Callable[[], None], patience: float
) -> Iterator[None]:
    """Hold a slot of the limit of that name; it is made, for one at a time, where there is none.

    told, waiting: as pipeline.gpu.Watcher's. patience: s for the server to answer. Raises what Prefect raises, or
    TimeoutError, where the slot cannot be had, and before the block; what goes wrong afterwards is left to the lease.
    """
    slot = _Slot(name)
    # the slot lives in a thread of its own: a server that hangs is then waited for there
    pool = ThreadPoolExecutor(1, "limit")
    holding = pool.submit(copy_context().run, slot.hold)
    pool.shutdown(wait=False)
    try:
        _wait_for_slot(slot, holding, told, waiting, patience)
        yield
    finally:
        slot.done.set()
        if slot.ours.is_set():
            wait_for([holding], patience)


def _wait_for_slot(
    slot: _Slot, holding: Future[None], told: Callable[[str], None], waiting: Callable[[], None], patience: float
) -> None:
    said = False
    while not slot.ours.wait(POLL):
        if holding.done():
            holding.result()  # raises what went wrong
        if time.monotonic() - slot.answered > patience + ASK_EVERY:
            raise TimeoutError("the server does not answer")
        if slot.taken and not said:
            told(f"waiting for the limit {slot.name!r}, which other runs hold")
            said = True
        waiting()


class _Slot:
    """A slot of a limit: asked for, held until `done` is set, and given back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ours, self.done = threading.Event(), threading.Event()
        self.taken = False  # by others, as the server last said
        self.answered = time.monotonic()

    def hold(self) -> None:
        _create_limit(self.name)
        while not self.done.is_set():
            self.answered = time.monotonic()
            try:
                with concurrency(
                    self.name,
                    lease_duration=LEASE_SECONDS,
                    strict=True,
                    max_retries=0,
                    raise_on_lease_renewal_failure=False,
                ):
                    self.ours.set()
                    self.done.wait()
            except ConcurrencySlotAcquisitionError as error:
                if not _is_taken(error):
                    raise
                self.taken, self.answered = True, time.monotonic()
                self.done.wait(ASK_EVERY)


def _create_limit(name: str) -> None:
    """Make the limit where there is none: Prefect heeds none that is absent."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another run has just made it
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


def _is_taken(error: ConcurrencySlotAcquisitionError) -> bool:
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED
