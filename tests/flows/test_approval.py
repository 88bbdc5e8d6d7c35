"""A trailer that waits for a person: the form, what is asked for in it, and what is done without an answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.editfile import read_edit
from pipeline.errors import InputError
from pipeline.records import Span
from pipeline.settings import load_config
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film

pytestmark = pytest.mark.flow

QUICK = load_config(None, ["length=6", "edit.card_seconds=1", "video.preset=ultrafast"])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    barcode_film(path, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
    return path


class Person:
    """Runs the flow in another thread, and answers it through the API."""

    def __init__(self, film: Path, out: Path, **asked: Any) -> None:
        from prefect.client.orchestration import get_client

        from flows.trailer import make_trailer

        self.client = get_client(sync_client=True)
        self._pool = ThreadPoolExecutor(1)
        self.state = self._pool.submit(
            copy_context().run, lambda: make_trailer(film, QUICK, out=out, approve=True, return_state=True, **asked)
        )
        self.seen: set[str] = set()

    def wait(self) -> Any:
        """The run, as soon as it waits for an answer to a question that was not seen before."""
        for _ in range(600):
            for run in self.client.read_flow_runs(limit=20):
                if run.state is not None and run.state.is_paused():
                    key = f"{run.id} {run.state.state_details.pause_key}"
                    if key not in self.seen and run.state.state_details.run_input_keyset:
                        time.sleep(0.5)  # the form is saved after the state
                        self.seen.add(key)
                        return run
            if self.state.done():
                pytest.fail(f"it did not wait: {self.state.result()}")
            time.sleep(0.2)
        pytest.fail("it did not wait for an answer")

    def answer(self, run: Any, **fields: Any) -> None:
        from prefect.flow_runs import resume_flow_run

        resume_flow_run(run.id, run_input=fields)

    def done(self) -> Any:
        state = self.state.result(timeout=120)
        self._pool.shutdown()
        return state


@pytest.fixture(autouse=True)
def short_polls(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    import flows.approval

    monkeypatch.setattr(flows.approval, "POLL", 1)
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path_factory.getbasetemp() / "approval-work"))


@pytest.mark.usefixtures("prefect_server")
def test_a_ban_is_submitted_and_the_shot_is_gone(film: Path, tmp_path: Path) -> None:
    from prefect.input.actions import read_flow_run_input

    out = tmp_path / "t.mp4"
    person = Person(film, out)
    run = person.wait()
    assert not out.exists()  # nothing is handed over before
    description = read_flow_run_input(run.state.state_details.run_input_keyset["description"], flow_run_id=run.id)
    assert description.startswith("# A\n")
    assert "data:image/jpeg;base64," in description
    rows = [line.split(" | ") for line in description.splitlines() if line.startswith("| ") and "---" not in line][1:]
    shots = [int(row[2]) for row in rows]
    person.answer(run, decision="refill", bans=str(shots[1]))
    again = person.wait()
    assert again.id == run.id
    person.answer(again, decision="approve")
    state = person.done()
    assert state.is_completed()
    edit = read_edit(tmp_path / "t.edit.json")
    assert out.stat().st_size > 0
    assert shots[1] not in {cut.shot for cut in edit.cuts}
    assert [cut.shot for cut in edit.cuts if cut.slot != 1] == [shot for slot, shot in enumerate(shots) if slot != 1]


@pytest.mark.usefixtures("prefect_server")
def test_what_cannot_be_done_is_asked_again_and_stop_leaves_nothing(film: Path, tmp_path: Path) -> None:
    from prefect.input.actions import read_flow_run_input

    person = Person(film, tmp_path / "t.mp4")
    person.answer(person.wait(), decision="refill", pins="99=1")
    run = person.wait()
    description = read_flow_run_input(run.state.state_details.run_input_keyset["description"], flow_run_id=run.id)
    assert "That cannot be done: there is no slot 99" in description
    person.answer(run, decision="stop")
    state = person.done()
    assert (state.name, state.message) == ("NotApproved", "not approved: stopped by who was asked")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("unanswered", "name"), [("stop", "NotApproved"), ("approve", "Completed")])
def test_without_an_answer_what_was_agreed_is_done(unanswered: str, name: str, film: Path, tmp_path: Path) -> None:
    from flows.approval import Unanswered

    person = Person(film, tmp_path / "t.mp4", approve_hours=2 / 3600, unanswered=Unanswered(unanswered))
    state = person.done()
    assert state.name == name
    assert (tmp_path / "t.mp4").exists() == (unanswered == "approve")


def test_the_forms_fields_are_read_as_the_command_reads_them(film: Path) -> None:
    from flows.approval import Approval, Decision, read_answer
    from pipeline.media import probe_film

    read = probe_film(film)
    plan = plan_edit(read, [take(read, read.start + 0.2, 24), take(read, read.start + 2.2, 24)])
    plan = replace(plan, shots=plan.shots + (Span(20.0, 30.0),) * 30)
    request = read_answer(plan, Approval(decision=Decision.refill, pins="0=5, 1=7", bans="17 20-22", swaps="", keep=""))
    assert request.pins == {0: 5, 1: 7}
    assert request.bans == (17, 20, 21, 22)
    assert request.keep is None
    with pytest.raises(InputError, match="swaps takes slots"):
        read_answer(plan, Approval(decision=Decision.refill, swaps="x"))
