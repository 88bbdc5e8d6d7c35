"""Check what the schemas cannot know about the containers: `make compose-check`.

Every rule takes parsed files and returns the problems it found, one line each. Needs PyYAML and nothing of the product.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")  # ${NAME}, ${NAME:-default}, ${NAME:?why it is needed}
SECRET = re.compile(r"PASSWORD|AUTH_STRING|SECRET|TOKEN|_KEY$|CONNECTION_URL|NOTIFY_URL")
PINNED = re.compile(r":[\w.-]*\d[\w.-]*$|@sha256:[0-9a-f]{64}$")  # a tag with a version in it
PREFECT_KEYS = {"name", "prefect-version", "build", "push", "pull", "deployments", "definitions"}
DEPLOYMENT_KEYS = {
    "name", "entrypoint", "description", "tags", "parameters", "schedules", "concurrency_limit", "work_pool", "triggers",
    "version", "enforce_parameter_schema", "pull", "build", "push", "paused",
}  # fmt: skip


def fill_in(text: str) -> str:
    """A compose value as it is with nothing set: defaults taken, needed ones empty."""
    return VARIABLE.sub(lambda found: found[3] or "" if found[2] == ":-" else "", text)


def find_strings(tree: Any) -> Iterator[str]:
    """Every text in a parsed file."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from find_strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from find_strings(value)
    elif isinstance(tree, str):
        yield tree


def check_compose(compose: dict[str, Any]) -> list[str]:
    """Health, ports, images, passwords, users and what services wait for."""
    problems = []
    services: dict[str, Any] = compose["services"]
    for name, service in services.items():
        health = service.get("healthcheck", {})
        if not service.get("x-no-healthcheck") and not health.get("test"):
            problems.append(f"{name}: no healthcheck, and no x-no-healthcheck that says why")
        if service.get("restart") not in ("unless-stopped", "no"):
            problems.append(f"{name}: restart is {service.get('restart')!r}")
        ports = [str(port) for port in service.get("ports", [])]
        problems += [
            f"{name}: port {p} is open to more than 127.0.0.1" for p in ports if not p.startswith("127.0.0.1:")
        ]
        if not PINNED.search(fill_in(service.get("image", ""))):
            problems.append(f"{name}: image {service.get('image')} has no version")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            problems.append(f"{name}: may gain privileges (security_opt)")
        own = service.get("build", {}).get("target") != "server"  # Prefect's image has its own user
        if own and "build" in service and re.fullmatch(r"(0|root)?(:.*)?", fill_in(service.get("user", ""))):
            problems.append(f"{name}: runs as root")
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and value and not VARIABLE.search(str(value)):
                problems.append(f"{name}: {variable} is written down")
            filled = [found[1] for found in VARIABLE.finditer(str(value)) if found[2] != ":?" and found[3]]
            problems += [f"{name}: {secret} has a default" for secret in filled if SECRET.search(secret)]
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                problems.append(f"{name}: waits for {other}, which is not there")
            elif how["condition"] == "service_healthy" and not services[other].get("healthcheck", {}).get("test"):
                problems.append(f"{name}: waits for the health of {other}, which has no healthcheck")
        for volume in service.get("volumes", []):
            source = fill_in(volume).split(":")[0]
            if source and not source.startswith((".", "/")) and source not in compose["volumes"]:
                problems.append(f"{name}: volume {source} is not declared")
    for needed in ("PREFECT_SERVER_API_AUTH_STRING", "POSTGRES_PASSWORD", "LIBRARY"):
        uses = [found for text in find_strings(compose) for found in VARIABLE.finditer(text) if found[1] == needed]
        if not uses or any(found[2] != ":?" or not found[3] for found in uses):
            problems.append(f"{needed} is not required by ${{{needed}:?...}} everywhere")
    return problems


def check_settings(compose: dict[str, Any], example: str) -> list[str]:
    """Every variable of the compose file is explained in .env.example, with the default that it has, and no other is."""
    used: dict[str, set[str]] = {}
    for text in find_strings(compose):
        for found in VARIABLE.finditer(text):
            used.setdefault(found[1], set()).add(found[3] if found[2] == ":-" else "")
    problems, explained, comment = [], {}, ""
    for line in example.splitlines():
        if line.startswith("#"):
            comment = line
            continue
        name, equals, value = line.partition("=")
        if equals:
            explained[name] = value
            if not comment:
                problems.append(f"{name} has no explanation in .env.example")
        else:
            comment = ""
    problems += [f"{name} is not in .env.example" for name in used.keys() - explained.keys()]
    problems += [f"{name} of .env.example is not used" for name in explained.keys() - used.keys()]
    for name in used.keys() & explained.keys():
        if used[name] != {explained[name]}:
            problems.append(f"{name} is {explained[name]!r} in .env.example, {sorted(used[name])} in compose.yaml")
    return sorted(problems)


def read_dockerfile(text: str) -> list[tuple[str, str]]:
    """Instructions and what follows them, lines joined, comments gone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def check_dockerfile(text: str, root: Path, ignored: str) -> list[str]:
    """What is copied is there and not ignored; the user is not root; packages are pinned; no address, no secret."""
    problems = []
    let_through = [line[1:] for line in ignored.splitlines() if line.startswith("!")]
    user, entry = "", ""
    for word, rest in read_dockerfile(text):
        if word == "COPY" and "--from" not in rest:
            *sources, _ = (part for part in rest.split() if not part.startswith("--"))
            for source in sources:
                if not (root / source).exists():
                    problems.append(f"COPY {source}: not there")
                if "*" in ignored.splitlines() and not any(
                    PurePosixPath(source).is_relative_to(path) for path in let_through
                ):
                    problems.append(f"COPY {source}: left out by .dockerignore")
        if word == "ADD":
            problems.append(f"ADD {rest}: COPY says what it does")
        if word == "RUN" and "pip install" in rest and rest.count("pip install") != rest.count("--constraint"):
            problems.append(f"RUN {rest}: pip install without --constraint")
        if word in ("ENV", "ARG") and SECRET.search(rest):
            problems.append(f"{word} {rest}: a secret would stay in the image")
        if re.search(r"https?://(?!127\.0\.0\.1)", rest):
            problems.append(f"{word} {rest}: names an address")
        if word == "FROM" and not rest.startswith("${") and rest.split()[0] not in ("base", "build", "runtime"):
            problems.append(f"FROM {rest}: the base image is not an ARG")
        user = rest if word == "USER" else user
        entry = rest if word == "ENTRYPOINT" else entry
    if not user.isdigit() or user == "0":
        problems.append(f"USER {user or 'root'}: a number that is not 0, so that Kubernetes can tell")
    if not entry.endswith('"trailer"]'):
        problems.append(f"ENTRYPOINT {entry}: not trailer")
    return problems


def check_deployments(deployments: dict[str, Any], compose: dict[str, Any], root: Path) -> list[str]:
    """Keys that Prefect knows, flows that are there, pools that a worker of the compose file serves."""
    problems = [f"prefect.yaml: {key} is no key" for key in deployments.keys() - PREFECT_KEYS]
    commands = [service.get("command", []) for service in compose["services"].values()]
    served = {command[command.index("--pool") + 1] for command in commands if "--pool" in command}
    if not deployments.get("pull"):
        problems.append("prefect.yaml: without a pull step Prefect copies the worker's folder for each run")
    for deployment in deployments["deployments"]:
        name = deployment["name"]
        problems += [f"{name}: {key} is no key of a deployment" for key in deployment.keys() - DEPLOYMENT_KEYS]
        if not has_flow(deployment["entrypoint"], root):
            problems.append(f"{name}: no flow {deployment['entrypoint']}")
        if deployment["work_pool"]["name"] not in served:
            problems.append(f"{name}: no worker serves the pool {deployment['work_pool']['name']}")
        for schedule in deployment.get("schedules", []):
            if len(schedule["cron"].split()) != 5:
                problems.append(f"{name}: {schedule['cron']!r} has not five fields")
            try:
                ZoneInfo(schedule["timezone"])
            except (KeyError, ValueError, ZoneInfoNotFoundError):
                problems.append(f"{name}: no timezone {schedule.get('timezone')}")
        limit = deployment.get("concurrency_limit")
        if limit and limit.get("collision_strategy") not in ("CANCEL_NEW", "ENQUEUE"):
            problems.append(f"{name}: no collision strategy {limit.get('collision_strategy')}")
    return problems


def has_flow(entrypoint: str, root: Path) -> bool:
    """Whether the function that `package.module.function` names is there and is a flow. Nothing is imported."""
    module, _, function = entrypoint.rpartition(".")
    source = root / f"{module.replace('.', '/')}.py"
    if not source.is_file():
        return False
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function:
            marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
            return any(ast.unparse(mark).split(".")[-1] == "flow" for mark in marks)
    return False


def check_kubernetes(manifests: list[dict[str, Any]], names: set[str]) -> list[str]:
    """Nobody is root, everybody has limits, claims are there, secrets are not. names: images that kustomize pins."""
    problems = [f"{m['metadata']['name']}: a Secret in a file" for m in manifests if m["kind"] == "Secret"]
    claims = {m["metadata"]["name"] for m in manifests if m["kind"] == "PersistentVolumeClaim"}
    for manifest in manifests:
        if manifest["kind"] not in ("Deployment", "Job"):
            continue
        name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser"):
            problems.append(f"{name}: may run as root")
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            problems.append(f"{name}: no seccomp profile")
        if pod.get("automountServiceAccountToken") is not False:
            problems.append(f"{name}: carries a token of the cluster that it has no use for")
        for volume in pod.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                problems.append(f"{name}: no claim {claim}")
        for container in pod["containers"]:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities", {}).get("drop") != ["ALL"]:
                problems.append(f"{name}: keeps privileges")
            if not own.get("readOnlyRootFilesystem"):
                problems.append(f"{name}: writes into its image")
            if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
                problems.append(f"{name}: no limits of cpu and memory")
            if manifest["kind"] == "Deployment" and "livenessProbe" not in container:
                problems.append(f"{name}: no liveness probe")
            if not PINNED.search(container["image"]) and container["image"] not in names:
                problems.append(f"{name}: image {container['image']} has no version")
            plain = [v["name"] for v in container.get("env", []) if "secretKeyRef" not in v.get("valueFrom", {})]
            problems += [f"{name}: {variable} is written down" for variable in plain if SECRET.search(variable)]
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            problems += [f"{name}: {path} cannot be written" for path in ("/tmp", "/home/trailer") if path not in paths]  # noqa: S108
    return problems


def read_manifests(folder: Path) -> list[dict[str, Any]]:
    """Every manifest of the folder, the kustomization left out."""
    files = sorted(path for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
    return [manifest for path in files for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def check_all(root: Path = ROOT) -> list[str]:
    """The problems of the repository's own files."""
    folder = root / "docker"
    compose = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))
    deployments = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
    kustomization = yaml.safe_load((folder / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8"))
    ignored = (root / ".dockerignore").read_text(encoding="utf-8")
    return [
        *check_compose(compose),
        *check_settings(compose, (folder / ".env.example").read_text(encoding="utf-8")),
        *check_dockerfile((folder / "Dockerfile").read_text(encoding="utf-8"), root, ignored),
        *check_deployments(deployments, compose, root),
        *check_kubernetes(
            read_manifests(folder / "kubernetes"),
            {image["name"] for image in kustomization["images"] if image.get("newTag")},
        ),
    ]


if __name__ == "__main__":
    found = check_all()
    print("\n".join(found) or "containers, deployments and manifests: no problem found")  # noqa: T201
    sys.exit(1 if found else 0)
