"""The containers' files: what the repository has is sound, and each fault that a rule is for is found when it is planted."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
Tree = dict[str, Any]


def load_check() -> ModuleType:
    """docker/check.py by its path: the folder is no package, it would hide the docker SDK."""
    spec = importlib.util.spec_from_file_location("docker_check", DOCKER / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load_check()


@pytest.fixture
def compose() -> Tree:
    read: Tree = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return read


@pytest.fixture
def deployments() -> Tree:
    read: Tree = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return read


@pytest.fixture
def manifests() -> list[Tree]:
    return check.read_manifests(DOCKER / "kubernetes")


@pytest.fixture
def dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text()


EXAMPLE = (DOCKER / ".env.example").read_text()
IGNORED = (ROOT / ".dockerignore").read_text()


def test_no_problem_is_found() -> None:
    assert check.check_all() == []


def test_the_folder_is_no_package() -> None:
    assert not (DOCKER / "__init__.py").exists()


def set_in(*path: str, to: Any) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        for key in path[:-1]:
            tree = tree[key]
        if to is None:
            del tree[path[-1]]
        else:
            tree[path[-1]] = to

    return change


COMPOSE_FAULTS = {
    "server: no healthcheck": set_in("services", "server", "healthcheck", to=None),
    "services: no healthcheck": set_in("services", "services", "x-no-healthcheck", to=None),
    "worker: waits for the health of server": set_in("services", "server", "healthcheck", to=None),
    "server: port 4200:4200 is open": set_in("services", "server", "ports", to=["4200:4200"]),
    "redis: image redis:latest has no version": set_in("services", "redis", "image", to="redis:latest"),
    "redis: image redis has no version": set_in("services", "redis", "image", to="redis"),
    "worker: restart is None": set_in("services", "worker", "restart", to=None),
    "worker: runs as root": set_in("services", "worker", "user", to="0:0"),
    "dispatcher: runs as root": set_in("services", "dispatcher", "user", to=None),
    "worker: may gain privileges": set_in("services", "worker", "security_opt", to=None),
    "postgres: POSTGRES_PASSWORD is written down": set_in(
        "services", "postgres", "environment", "POSTGRES_PASSWORD", to="hunter2"
    ),
    "postgres: POSTGRES_PASSWORD has a default": set_in(
        "services", "postgres", "environment", "POSTGRES_PASSWORD", to="${POSTGRES_PASSWORD:-prefect}"
    ),
    "worker: waits for db, which is not there": set_in(
        "services", "worker", "depends_on", to={"db": {"condition": "service_started"}}
    ),
    "worker: volume work is not declared": set_in("volumes", "work", to=None),
}


@pytest.mark.parametrize("told", COMPOSE_FAULTS)
def test_a_fault_in_the_stack_is_found(compose: Tree, told: str) -> None:
    compose = yaml.safe_load(yaml.dump(compose, Dumper=NoAliases))  # an anchor is one object in several places
    COMPOSE_FAULTS[told](compose)
    assert any(problem.startswith(told) for problem in check.check_compose(compose))


class NoAliases(yaml.SafeDumper):
    """Writes what anchors share out in full, so that one place can be changed alone."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("WORKER_LIMIT=1\n", "", "WORKER_LIMIT is not in .env.example"),
        ("WORKER_LIMIT=1\n", "WORKER_LIMIT=4\n", "WORKER_LIMIT is '4' in .env.example, ['1'] in compose.yaml"),
        ("WORKER_LIMIT=1\n", "WORKER_LIMIT=1\n\nWORKER_COLOUR=red\n", "WORKER_COLOUR of .env.example is not used"),
        ("WORKER_LIMIT=1\n", "WORKER_LIMIT=1\n\nWORKER_COLOUR=red\n", "WORKER_COLOUR has no explanation"),
    ],
)
def test_a_setting_that_is_not_explained_is_found(compose: Tree, before: str, after: str, told: str) -> None:
    assert before in EXAMPLE
    problems = check.check_settings(compose, EXAMPLE.replace(before, after))
    assert any(problem.startswith(told) for problem in problems)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("COPY assets assets", "COPY paintings paintings", "COPY paintings: not there"),
        ("COPY assets assets", "COPY tests tests", "COPY tests: left out by .dockerignore"),
        ("COPY assets assets", "ADD assets assets", "ADD assets"),
        ("pip install --constraint constraints.txt torch", "pip install torch", "RUN python3 -m venv"),
        ("USER 10001", "USER trailer", "USER trailer"),
        ("USER 10001\n", "", "USER root"),
        ("USER 10001", "ENV API_TOKEN=x\nUSER 10001", "ENV API_TOKEN"),
        ("ARG PIP_FIND_LINKS", "ARG PIP_FIND_LINKS=https://example.com/wheels", "ARG PIP_FIND_LINKS"),
        ("FROM ${PYTHON_IMAGE} AS base", "FROM python:3.11 AS base", "FROM python:3.11"),
        ('"tini", "-g", "--", "trailer"', '"bash"', "ENTRYPOINT"),
    ],
)
def test_a_fault_in_the_image_is_found(dockerfile: str, before: str, after: str, told: str) -> None:
    assert before in dockerfile
    problems = check.check_dockerfile(dockerfile.replace(before, after), ROOT, IGNORED)
    assert any(problem.startswith(told) for problem in problems)


DEPLOYMENT_FAULTS = {
    "trailer: no flow flows.trailer.make_poster": ("entrypoint", "flows.trailer.make_poster"),
    "trailer: no flow flows.posters.make_trailer": ("entrypoint", "flows.posters.make_trailer"),
    "trailer: no flow flows.trailer.run_flow": ("entrypoint", "flows.trailer.run_flow"),  # a function, and no flow
    "trailer: no worker serves the pool posters": ("work_pool", {"name": "posters"}),
    "trailer: colour is no key of a deployment": ("colour", "red"),
    "trailer: '0 2 * *' has not five fields": ("schedules", [{"cron": "0 2 * *", "timezone": "Etc/UTC"}]),
    "trailer: no timezone Mars/Olympus": ("schedules", [{"cron": "0 2 * * *", "timezone": "Mars/Olympus"}]),
    "trailer: no collision strategy WAIT": ("concurrency_limit", {"limit": 1, "collision_strategy": "WAIT"}),
}


@pytest.mark.parametrize("told", DEPLOYMENT_FAULTS)
def test_a_fault_in_a_deployment_is_found(deployments: Tree, compose: Tree, told: str) -> None:
    key, value = DEPLOYMENT_FAULTS[told]
    deployments["deployments"][0][key] = value
    assert told in check.check_deployments(deployments, compose, ROOT)


def test_a_pass_over_the_library_waits_in_a_pool_of_its_own(deployments: Tree) -> None:
    """With one slot, a pass in the films' pool would hold the slot that its first film needs."""
    pools = {deployment["name"]: deployment["work_pool"]["name"] for deployment in deployments["deployments"]}
    assert pools["library"] != pools["trailer"]
    library = next(d for d in deployments["deployments"] if d["name"] == "library")
    assert library["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert [schedule["cron"] for schedule in library["schedules"]] == ["0 2 * * *"]


POD = ("spec", "template", "spec")
MANIFEST_FAULTS = {
    "trailer-worker: may run as root": set_in(*POD, "securityContext", "runAsNonRoot", to=False),
    "trailer-worker: no claim films": set_in(
        *POD, "volumes", to=[{"name": "library", "persistentVolumeClaim": {"claimName": "films"}}]
    ),
    "trailer-worker: carries a token": set_in(*POD, "automountServiceAccountToken", to=None),
    "trailer-worker: no seccomp profile": set_in(*POD, "securityContext", "seccompProfile", to=None),
}
CONTAINER_FAULTS = {
    "trailer-worker: no limits": set_in("resources", "limits", to={"cpu": "1"}),
    "trailer-worker: keeps privileges": set_in("securityContext", "capabilities", to=None),
    "trailer-worker: writes into its image": set_in("securityContext", "readOnlyRootFilesystem", to=None),
    "trailer-worker: no liveness probe": set_in("livenessProbe", to=None),
    "trailer-worker: image trailer:latest has no version": set_in("image", to="trailer:latest"),
    "trailer-worker: PREFECT_API_AUTH_STRING is written down": set_in(
        "env", to=[{"name": "PREFECT_API_AUTH_STRING", "value": "admin:hunter2"}]
    ),
    "trailer-worker: /tmp cannot be written": set_in("volumeMounts", to=[]),
}


@pytest.mark.parametrize("told", [*MANIFEST_FAULTS, *CONTAINER_FAULTS])
def test_a_fault_in_a_manifest_is_found(manifests: list[Tree], told: str) -> None:
    worker = next(m for m in manifests if m["metadata"]["name"] == "trailer-worker")
    if told in MANIFEST_FAULTS:
        MANIFEST_FAULTS[told](worker)
    else:
        CONTAINER_FAULTS[told](worker["spec"]["template"]["spec"]["containers"][0])
    problems = check.check_kubernetes(manifests, {"trailer"})
    assert any(problem.startswith(told) for problem in problems)


def test_a_secret_in_a_file_is_found(manifests: list[Tree]) -> None:
    manifests.append({"kind": "Secret", "metadata": {"name": "trailer"}})
    assert check.check_kubernetes(manifests, {"trailer"}) == ["trailer: a Secret in a file"]


def test_every_manifest_is_applied_or_says_how(manifests: list[Tree]) -> None:
    text = (DOCKER / "kubernetes" / "kustomization.yaml").read_text()
    listed = set(re.findall(r"- (\S+\.yaml)", text))
    there = {path.name for path in (DOCKER / "kubernetes").glob("*.yaml")}
    assert there - listed == {"kustomization.yaml", "deploy.yaml"}
    assert listed <= there
    assert len({(m["kind"], m["metadata"]["name"]) for m in manifests}) == len(manifests)


def test_versions_agree(compose: Tree) -> None:
    """The server is the Prefect that the workers have, and the images are called after the product's version."""
    from pipeline import __version__

    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    server = check.fill_in(compose["services"]["server"]["build"]["args"]["PREFECT_IMAGE"])
    assert f"ARG PREFECT_IMAGE={server}\n" in (DOCKER / "Dockerfile").read_text()
    assert server.startswith(f"prefecthq/prefect:{pinned['prefect']}-python")
    assert check.fill_in(compose["services"]["worker"]["image"]) == f"trailer:{__version__}"
    assert pinned["SQLAlchemy"].startswith("2.0.")  # with 2.1 no schedule of Prefect 3.8.8 starts a run
    assert f"torch=={pinned['torch']}" in (DOCKER / "Dockerfile").read_text()
    kustomization = yaml.safe_load((DOCKER / "kubernetes" / "kustomization.yaml").read_text())
    assert [image["newTag"] for image in kustomization["images"]] == [__version__]


def run_deploy(folder: Path, out: str | None) -> tuple[int, list[str], str]:
    """deploy.sh with a `prefect` and a `python3` that only write down what they are asked; no pool is known yet."""
    asked, programs = folder / "asked", folder / "bin"
    programs.mkdir()
    for name in ("prefect", "python3"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "$PWD: {name} $*" >> {asked}\ncase "$*" in *inspect*) exit 1;; esac\n')
        program.chmod(0o755)
    for name in ("deploy.sh", "pending.yaml"):
        shutil.copy(DOCKER / name, folder)
    shutil.copy(ROOT / "prefect.yaml", folder)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"} | ({"TRAILER_OUT_DIR": out} if out else {})
    ran = subprocess.run(
        ["sh", str(folder / "deploy.sh")], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return ran.returncode, asked.read_text().splitlines() if asked.exists() else [], ran.stderr


def test_deploying_makes_pools_deployments_and_automations(tmp_path: Path) -> None:
    code, asked, _ = run_deploy(tmp_path, "/out")
    assert code == 0
    assert [line.partition(": ")[2] for line in asked if "inspect" not in line] == [
        "prefect work-pool create films --type process",
        "prefect work-pool create films-dispatch --type process",
        "prefect --no-prompt deploy --all",
        "python3 -c from flows.watchman import ensure_watchman; ensure_watchman()",
        f"prefect automation create --from-file {tmp_path}/pending.yaml",
    ]
    assert {line.partition(": ")[0] for line in asked} == {str(tmp_path)}  # where prefect.yaml lies


def test_deploying_without_a_folder_for_trailers_says_what_is_missing(tmp_path: Path) -> None:
    code, asked, told = run_deploy(tmp_path, None)
    assert code != 0
    assert asked == []
    assert "TRAILER_OUT_DIR" in told


def test_heartbeats_are_as_frequent_as_the_watchman_counts_them(compose: Tree) -> None:
    """Three are missed before a run is called dead; at Prefect's own 180 s, every run would be."""
    from flows.watchman import BEAT_SECONDS, SILENT_SECONDS

    for name in ("worker", "dispatcher", "worker-gpu"):
        assert compose["services"][name]["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(BEAT_SECONDS)
    settings = yaml.safe_load((DOCKER / "kubernetes" / "settings.yaml").read_text())
    assert settings["data"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(BEAT_SECONDS)
    assert SILENT_SECONDS >= 3 * BEAT_SECONDS


def test_a_run_that_begins_or_ends_in_time_is_left_alone() -> None:
    expected = {
        event.rpartition(".")[2] for event in yaml.safe_load((DOCKER / "pending.yaml").read_text())["trigger"]["expect"]
    }
    assert expected >= {"Running", "Scheduled", "Cancelling", "Completed", "Failed", "Cancelled", "Crashed"}
