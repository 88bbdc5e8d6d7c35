"""Ask a person, in Prefect's UI, whether a trailer is what they want, before it is handed over."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import NotPausedError
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Paused
from pydantic import Field

from flows.runner import LARGEST_PICTURE, REPORTING_FAULTS, escape, first_line
from pipeline.errors import InputError
from pipeline.records import EditList
from pipeline.refine import Request, parse_request, resolve
from pipeline.trailer import NotApprovedError, shot_table

log = logging.getLogger("trailer")

POLL = 3  # s between two looks for an answer
GRACE = 600.0  # s beyond our own time-out until Prefect's
AFTER_FAULT = 5.0  # s until a server is asked again that did not answer


class Decision(StrEnum):
    """What a person says to a trailer."""

    approve = "approve"
    refill = "refill"
    stop = "stop"


class Unanswered(StrEnum):
    """What is done where nobody answers in time."""

    approve = "approve"
    stop = "stop"


class Approval(RunInput):
    """The form. Slots and shots are counted from 0, as in the table."""

    decision: Decision = Decision.approve
    pins: str = Field("", description="Shots that stand in a slot, as SLOT=SHOT: 3=41 5=17", max_length=2000)
    bans: str = Field("", description="Shots or film time not to be shown: 17 20-22 1:02:10-1:03:00", max_length=2000)
    swaps: str = Field("", description="Slots that want another shot: 5 9", max_length=2000)
    keep: str = Field("", description="Slots that stay, where all others are to be filled anew: 0-5,9", max_length=2000)
    reseed: int | None = Field(
        None, description="Fill all that is not kept or pinned by another seed", ge=0, le=2**31 - 1
    )


@dataclass(slots=True)
class Approver:
    """Pauses the flow run that it is used in, and asks. hours: for an answer. unanswered: what is done without one."""

    title: str
    hours: float
    unanswered: Unanswered
    asked: int = 0
    _late: bool = False

    def __call__(self, plan: EditList, sheet: bytes, passed: bool) -> Request | None:
        """None: it is handed over as it is; else what is to be changed. Raises NotApprovedError."""
        trouble = "" if passed else "**The checks refuse this trailer: it will be put aside.**"
        latest = time.monotonic() + 3600 * self.hours
        while True:
            answer = self._ask(describe(self.title, plan, sheet, trouble), max(1.0, latest - time.monotonic()))
            if self._late:
                told = f"nobody answered within {self.hours:g} h"
                if answer.decision is Decision.stop:
                    raise NotApprovedError(f"not approved: {told}")
                log.warning("%s: handed over", told)
                return None
            if answer.decision is Decision.approve:
                return None
            if answer.decision is Decision.stop:
                raise NotApprovedError("not approved: stopped by who was asked")
            try:
                request = read_answer(plan, answer)
                resolve(plan, request)
            except InputError as error:
                log.warning("the request cannot be used (%s); asking again", error)
                trouble = f"**That cannot be done: {escape(str(error))}.**"
            else:
                return request

    def _ask(self, description: str, seconds: float) -> Approval:
        self.asked += 1
        key, run = f"approval-{self.asked}", cast(UUID, runtime.flow_run.id)
        form = Approval.with_initial_data(description=description, decision=Decision.approve)
        log.warning("waiting for approval: resume this run in the UI, or by the API")
        # a pause that ends by Prefect's own time-out fails the run: who waits in vain is answered by us
        context = copy_context()
        overdue = threading.Timer(seconds, lambda: context.run(self._answer_late, run))
        overdue.daemon = True
        overdue.start()
        try:
            return pause_flow_run(wait_for_input=form, timeout=int(seconds + GRACE), poll_interval=POLL, key=key)
        except REPORTING_FAULTS as error:
            log.warning("Prefect's server does not answer (%s); still waiting for approval", first_line(error))
            return self._wait_on(form, key, run)
        finally:
            overdue.cancel()

    def _answer_late(self, run: UUID) -> None:
        while True:
            try:
                resume_flow_run(run, run_input={"decision": self.unanswered.value})
            except NotPausedError:  # answered in the last moment
                return
            except REPORTING_FAULTS:
                time.sleep(AFTER_FAULT)
            else:
                self._late = True
                return

    def _wait_on(self, form: type[Approval], key: str, run: UUID) -> Approval:
        """After the server was away: it remembers that the run is paused, and what was answered."""
        keyset = keyset_from_paused_state(Paused(pause_key=key, timeout_seconds=60))
        while True:
            time.sleep(AFTER_FAULT)
            try:
                with get_client(sync_client=True) as client:
                    state = client.read_flow_run(run).state
                if state is not None and state.is_running():
                    return cast(Approval, form.load(keyset, flow_run_id=run))
                if state is not None and state.is_final():
                    raise NotApprovedError(f"not approved: the run is {state.name}")
            except REPORTING_FAULTS as error:
                log.debug("still no answer from Prefect's server: %s", first_line(error))


def read_answer(plan: EditList, answer: Approval) -> Request:
    """What the form asks for. Raises InputError for what is not understood."""
    swaps = _words(answer.swaps)
    if not all(word.isascii() and word.isdigit() for word in swaps):
        raise InputError(f"swaps takes slots, as in 5 9; got {answer.swaps!r}")
    return parse_request(
        plan,
        pins=_words(answer.pins),
        keep=_words(answer.keep),
        bans=_words(answer.bans),
        swaps=[int(word) for word in swaps],
        reseed=answer.reseed,
    )


def _words(text: str) -> Sequence[str]:
    return text.replace(",", " ").split()


def describe(title: str, plan: EditList, sheet: bytes, trouble: str) -> str:
    """What the form shows above its fields: the contact sheet and the shots, as Markdown."""
    lines = [f"# {escape(title)}", ""]
    if trouble:
        lines += [trouble, ""]
    if len(sheet) <= LARGEST_PICTURE:
        lines += [f"![Contact sheet](data:image/jpeg;base64,{base64.b64encode(sheet).decode()})", ""]
    lines += ["| slot | at | shot | film time | confidence |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['slot']} | {row['at']} | {row['shot']} | {row['film time']} | {row['confidence']} |"
        for row in shot_table(plan)
    ]
    lines += ["", "approve: hand it over. refill: change what the fields say, and ask again. stop: leave it."]
    return "\n".join(lines)
