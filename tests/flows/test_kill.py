"""A run that is killed, wherever it is, leaves nothing half made, and the next one goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.flows.servers import list_programs
from tests.synthetic import barcode_film

ROOT = Path(__file__).resolve().parents[2]
STEPS = [
    *("analysis", "shots", "features", "music", "selection", "lines", "script", "captions", "narration"),
    *("edit", "render", "quality"),
]
SETTINGS = ["--length", "6", "--set", "video.preset=ultrafast", "--set", "edit.card_seconds=1"]
SAID = ("Somebody in this house is a thief.", "Nobody survives a winter up there.", "You have until midnight.")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film with lines, so that every step has something to do."""
    path = tmp_path_factory.mktemp("film") / "spoken.mp4"
    barcode_film(path, frame_rate=Fraction(25), shots=[75] * 12, size=(160, 90))
    rows = [f"{n + 1}\n00:00:{4 + 6 * n:02},000 --> 00:00:{6 + 6 * n:02},000\n{text}\n" for n, text in enumerate(SAID)]
    path.with_name("spoken.en.srt").write_text("\n".join(rows))
    return path


def begin(module: list[str], film: Path, folder: Path, *more: str) -> subprocess.Popen[str]:
    """`trailer make` of this film in a process of its own, its work and its trailer in the folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "TRAILER_"))}
    clean |= {"TRAILER_WORK_DIR": str(folder / "work"), "TRAILER_DEVICE": "cpu", "PREFECT_HOME": str(folder / "none")}
    command = [sys.executable, "-m", *module, "make", str(film), "--out", str(folder / "out" / "t.mp4"), "--json"]
    return subprocess.Popen(
        [*command, *SETTINGS, *more], cwd=ROOT, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the run that is left in peace prints."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def list_artifacts(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies at final names in the work folder, with inode and time: another of either means made again."""
    found = [path for path in (folder / "work").rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.fixture(scope="module")
def undisturbed(film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    told = finish(begin(["flows.cli"], film, folder))
    assert [step["name"] for step in told["steps"]] == STEPS
    return folder


def test_killed_in_every_step_it_goes_on_from_there(film: Path, undisturbed: Path, tmp_path: Path) -> None:
    """One run after another dies in the step after the last one's, and the last goes through."""
    kept: dict[str, tuple[int, int]] = {}
    for number, step in enumerate(STEPS):
        dying = begin(["tests.interrupting", step, str(int(signal.SIGKILL)), "0"], film, tmp_path)
        _, err = dying.communicate(timeout=120)
        assert dying.returncode == -signal.SIGKILL, err
        # every step before it was there already, or was made in this run by the one that was killed last
        assert [line.partition(":")[0] for line in err.splitlines() if ": reused, made " in line] == STEPS[
            : max(0, number - 1)
        ]
        left = list_artifacts(tmp_path)
        assert {name: left.get(name) for name in kept} == kept, f"made again in the run that died in {step}"
        assert not any(name.startswith(f"{step}-") for name in left)
        assert all(any(name.startswith(f"{done}-") for name in left) for done in STEPS[:number])
        assert not (tmp_path / "out").exists()
        # the file of a render whose record was not written is joined again, from the clips that are kept
        kept = {name: at for name, at in left.items() if not (step == "render" and name.startswith("trailer-"))}
    told = finish(begin(["flows.cli"], film, tmp_path))
    assert [(s["name"], s["reused"]) for s in told["steps"]] == [(name, name != "quality") for name in STEPS]
    left = list_artifacts(tmp_path)
    assert {name: left.get(name) for name in kept} == kept
    assert Path(told["edit"]).read_bytes() == (undisturbed / "out" / "t.edit.json").read_bytes()
    assert told["passed"] is True
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "t.edit.json",
        "t.mp4",
        "t.qc.json",
        "t.report.html",
    ]
    again = finish(begin(["flows.cli"], film, tmp_path))
    assert all(step["reused"] for step in again["steps"])


def test_killed_while_ffmpeg_encodes(film: Path, undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 from outside: ffmpeg dies with it, and the clips that were done are not encoded again."""
    later = shutil.ignore_patterns("edit-*", "render-*", "quality-*", "trailer-*", "clips")
    shutil.copytree(undisturbed / "work", tmp_path / "work", ignore=later)
    slow = ("--set", "video.preset=slower", "--set", "video.crf=0")
    process = begin(["flows.cli"], film, tmp_path, *slow)
    clips = tmp_path / "work"
    until = time.monotonic() + 120
    programs: list[int] = []
    while time.monotonic() < until and process.poll() is None:
        programs = list_programs(tmp_path)
        if programs and any(not path.name.startswith(".") for path in clips.glob("*/clips/*.mp4")):
            break
        time.sleep(0.01)
    process.kill()
    _, err = process.communicate(timeout=30)
    assert programs, err
    assert process.returncode == -signal.SIGKILL
    until = time.monotonic() + 5
    while list_programs(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list_programs(tmp_path)
    kept = list_artifacts(tmp_path)
    assert any(path.name in kept for path in clips.glob("*/clips/*.mp4"))
    assert not any(name.startswith(("render-", "trailer-")) for name in kept)
    assert not (tmp_path / "out").exists()
    told = finish(begin(["flows.cli"], film, tmp_path, *slow))
    assert [s["name"] for s in told["steps"] if not s["reused"]] == ["render", "quality"]
    left = list_artifacts(tmp_path)
    assert {name: left.get(name) for name in kept} == kept
