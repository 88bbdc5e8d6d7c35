"""Seconds from one change of a trailer to the finished file, as a share of the first run on the film.

    python benchmarks/refine.py FILM [--music TRACK] [--set a.b=v]

`trailer make` in an empty work folder, and after it `trailer refine --swap` of a slot in the middle: each from start to end, a
process of its own. The goal is under a tenth for one slot of 45.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(arguments: list[str], work: Path) -> tuple[float, dict[str, object]]:
    """Seconds, and what the command said."""
    environment = {**os.environ, "TRAILER_WORK_DIR": str(work), "PREFECT_API_URL": "", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    command = [sys.executable, "-m", "flows.cli", *arguments, "--json"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, check=True)
    return time.monotonic() - started, json.loads(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("film", type=Path)
    parser.add_argument("--music", type=Path)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, out = Path(folder, "work"), Path(folder, "t.mp4")
        settings = [word for assignment in given.set for word in ("--set", assignment)]
        music = ["--music", str(given.music)] if given.music else []
        first, made = run(["make", str(given.film), "--out", str(out), *music, *settings], work)
        slots = int(str(made["slots"]))
        edit = out.with_suffix(".edit.json")
        later, told = run(["refine", str(edit), "--swap", str(slots // 2)], work)
        print(f"| first run, {slots} slots | {first:.1f} s | 1.00 | {tell(made)} |")
        print(f"| one slot swapped | {later:.1f} s | {later / first:.2f} | {tell(told)} |")
        print(f"changed: {told['changes']}")


def tell(answer: dict[str, object]) -> str:
    steps = answer["steps"]
    assert isinstance(steps, list)
    return ", ".join(f"{step['name']} {step['seconds']:.1f}" for step in steps if step["seconds"] >= 0.5)


if __name__ == "__main__":
    main()
