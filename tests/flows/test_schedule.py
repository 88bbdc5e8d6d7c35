"""A schedule that is deployed gives runs: what Prefect's server is pinned for, seen at the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.flow
ROOT = Path(__file__).resolve().parents[2]


def test_the_nightly_pass_is_scheduled(prefect_server: None) -> None:
    """With SQLAlchemy 2.1 the server of Prefect 3.8.8 takes the schedule, and plans no run; only its log says why."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.schedules import Cron

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (nightly,) = next(d["schedules"] for d in deployments if d["name"] == "library")

    @flow
    def stand_in() -> None:
        """Has a schedule, and is never run."""

    planned = stand_in.to_deployment("nightly", schedule=Cron(nightly["cron"], timezone=nightly["timezone"]))
    number = planned.apply()
    with get_client(sync_client=True) as client:
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": number}, json={})
        runs = [run for run in client.read_flow_runs() if run.deployment_id == number]
    times = sorted(run.expected_start_time for run in runs if run.expected_start_time)
    assert times, "no run was planned"
    assert {(t.hour, t.minute) for t in times} == {(2, 0)}
    assert datetime.now(UTC) < times[0] <= datetime.now(UTC) + timedelta(days=1)
