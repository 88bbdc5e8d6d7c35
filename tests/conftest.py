"""What all tests share: places of their own, and the rings that need something from outside."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from flows.cli import run
from flows.display import WarningLines
from pipeline.settings import Site

# the same examples on every run, so that what failed fails again; HYPOTHESIS_PROFILE=search looks for new ones
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def absent(ring: str, reason: str) -> None:
    """Skip, or fail where TRAILER_REQUIRE says that this ring must run (TRAILER_REQUIRE=film,gpu)."""
    if ring in os.environ.get("TRAILER_REQUIRE", "").split(","):
        pytest.fail(f"{ring} ring is required: {reason}")
    pytest.skip(reason)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose work folder belongs to this test alone."""
    return Site(work_dir=tmp_path / "work", weights_dir=tmp_path / "weights", device="cpu")


@pytest.fixture(scope="session")
def films() -> Path:
    """The folder of real films: $TRAILER_TEST_FILMS, or ../shared/films."""
    folder = Path(os.environ.get("TRAILER_TEST_FILMS", SHARED / "films"))
    if not folder.is_dir():
        absent("film", f"no films at {folder}")
    return folder


@pytest.fixture(autouse=True)
def no_error_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The product logs what it changed as WARNING and raises what it cannot do; an ERROR in the log is a bug."""
    yield
    errors = [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR and r.name == "trailer"]
    assert not errors


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work folder of this test's own, no server, and no way to start one by accident."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "TRAILER_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("TRAILER_DEVICE", "cpu")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_ENABLED", "false")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trailer(environment: None, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs a command in this process, as main() does."""
    handler = WarningLines(logging.WARNING)
    logging.getLogger("trailer").addHandler(handler)

    def answer(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        streams = capsys.readouterr()
        return Answer(code, streams.out, streams.err)

    yield answer
    logging.getLogger("trailer").removeHandler(handler)
