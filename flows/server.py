"""Know, without importing Prefect, whether a Prefect server is configured and whether it answers.

Importing Prefect takes three seconds, and it has no way to run without a server: one that is configured is used, and
where there is none the steps are run without Prefect.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger("trailer")

PATIENCE = 5.0  # s for the server to say that it is there
BEFORE_IMPORT = {  # Prefect reads its settings once, when it is imported
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its default of 20 s is on the edge on a busy machine
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLIENT_MAX_RETRIES": "3",  # with 5 a dead server costs 70 s a call; the work needs no server
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command says itself how it goes; the UI has the rest
    "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def find_server(environment: MutableMapping[str, str]) -> str | None:
    """The API address of the configured server: PREFECT_API_URL, else that of Prefect's active profile; None without."""
    if "PREFECT_API_URL" in environment:
        return environment["PREFECT_API_URL"] or None
    home = Path(environment.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        known = tomllib.loads(profiles.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        log.warning("Prefect's profiles in %s cannot be read (%s); running without Prefect", profiles, error)
        return None
    active = environment.get("PREFECT_PROFILE") or known.get("active")
    profile = known.get("profiles", {}).get(active, {})
    url = profile.get("PREFECT_API_URL") if isinstance(profile, dict) else None
    return url if isinstance(url, str) and url else None


def server_answers(url: str, patience: float = PATIENCE) -> bool:
    """Whether anything at that address speaks HTTP within so many seconds; what it says is Prefect's to judge."""
    import httpx

    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=patience)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return True


def prepare_prefect(environment: MutableMapping[str, str]) -> None:
    """Set what a command wants of Prefect, where the user has not said otherwise. Before its first import."""
    for name, value in BEFORE_IMPORT.items():
        environment.setdefault(name, value)
