"""What a Prefect server must know to notice that a run has died, and to run GPU work one at a time."""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

WATCHMAN = "trailer: runs whose process has died"
BEAT_SECONDS = 30  # between two heartbeats of a run: the least that Prefect takes
SILENT_SECONDS = 90  # after which it is dead
# Prefect's final states, and ours: an event is named as its state
FINAL = (
    *("Completed", "Failed", "Cancelled", "Crashed"),
    *("CompletedWithFailures", "RejectedByQuality", "NotApproved", "UpToDate", "Busy", "Skipped"),
)


def ensure_watchman() -> bool:
    """Let the server mark runs as crashed that were heard of and then no more; whether it had to be told.

    Runs of deployments alone: a command's own run sends no heartbeat, and whoever waits for the command sees it die.
    """
    trigger = EventTrigger(
        after={"prefect.flow-run.heartbeat", "prefect.flow-run.Running"},  # it may die before its first heartbeat
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in FINAL)},
        match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
        match_related=ResourceSpecification({"prefect.resource.role": ["deployment"]}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_SECONDS),
    )
    crash = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message=f"nothing was heard of it for {SILENT_SECONDS} s: its process, its worker or its machine has died",
    )
    wanted = AutomationCore(
        name=WATCHMAN,
        description="Marks them as crashed, so that the library flow has them resumed.",
        enabled=True,
        trigger=trigger,
        actions=[crash],
    )
    with get_client(sync_client=True) as client:
        for there in client.read_automations_by_name(WATCHMAN):
            known = there.trigger
            if isinstance(known, EventTrigger) and known.after == trigger.after and known.expect == trigger.expect:
                return False
            client.update_automation(there.id, wanted)
            return True
        client.create_automation(wanted)
    return True
