"""What all tests share: places of their own, and the rings that need something from outside."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.settings import Site

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
