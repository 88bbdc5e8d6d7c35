"""What `trailer make` does with damaged, unusual and hostile files: a trailer that passes the gate, or one clear line.

    python benchmarks/odd_media.py FOLDER [--only WORD] [--results FILE] [--table benchmarks/odd-media.md]

Every file of the folder, whatever it is, in a process, a work folder and an output folder of its own, with the bundled music
and no setting. The rules: exit 0 with a trailer and its three companions, or exit 2 with one line and nothing written; no
traceback, nothing half-written, and an end within BOUND + a factor of the film's length. Results are kept as lines of JSON:
an interrupted run goes on from there. Exits 1 when a rule is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

BOUND = 120.0  # s whatever the film: ten on a machine of its own, a minute on one whose cores are shared by eight
BOUND_FACTOR = 2.0  # and so many times as long as the film is
LONGEST_LINE = 300  # characters that a user reads
WRITTEN = {"t.mp4", "t.edit.json", "t.report.html", "t.qc.json"}
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Result:
    """What came of one file. broken: the rules that it broke."""

    file: str
    code: int | None
    seconds: float
    told: str
    warnings: tuple[str, ...]
    broken: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="files whose name holds this")
    parser.add_argument("--results", type=Path, help="file of results to add to; what it has is not run again")
    parser.add_argument("--table", type=Path, help="file to write the table to")
    asked = parser.parse_args()
    asked.folder = asked.folder.resolve()  # the command runs in a folder of its own
    done = dict(read_results(asked.results)) if asked.results is not None else {}
    for path in sorted(p for p in asked.folder.rglob("*") if p.is_file()):
        name = path.relative_to(asked.folder).as_posix()
        if asked.only not in name or name in done:
            continue
        done[name] = result = try_file(path, name)
        if asked.results is not None:
            with asked.results.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        print(f"{result.seconds:6.1f} s  {name}: {describe(result)}", flush=True)
        for warning in result.warnings:
            print(f"          warning: {warning}", flush=True)
    results = [done[name] for name in sorted(done)]
    if asked.table is not None:
        asked.table.write_text(draw_table(results))
    return int(any(result.broken for result in results))


def read_results(path: Path) -> Iterator[tuple[str, Result]]:
    """The results so far, by file."""
    if path.exists():
        for line in path.read_text().splitlines():
            kept = json.loads(line)
            yield kept["file"], Result(**{**kept, "warnings": tuple(kept["warnings"]), "broken": tuple(kept["broken"])})


def measure_film(path: Path) -> float:
    """The film's length as its container states it, s; 0 for what is none."""
    from pipeline.errors import InputError
    from pipeline.media import probe_film

    with suppress(InputError):
        return probe_film(path).duration
    return 0.0


def try_file(path: Path, name: str) -> Result:
    """Run the command on one file and hold what it did against the rules."""
    bound = BOUND + BOUND_FACTOR * measure_film(path)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = folder / "out"
        out.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TRAILER_", "PREFECT_"))}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
            "TRAILER_WORK_DIR": str(folder / "work"),
            "TRAILER_DEVICE": "cpu",
        }
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "make", str(path), "--out", str(out / "t.mp4"), "--json"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            printed, said = process.communicate(timeout=bound)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the encoders that it runs
            printed, said = process.communicate()
            code = None
        seconds = time.monotonic() - begun
        told, broken = judge(code, printed, said.splitlines(), out, path)
    if code is None:
        broken = [f"did not end within {bound:.0f} s"]
    lines = [line.removeprefix("warning: ") for line in said.splitlines() if line.startswith("warning: ")]
    warnings = tuple(line.replace(str(path), path.name) for line in lines)
    return Result(name, code, round(seconds, 1), told, warnings, tuple(broken))


def judge(code: int | None, printed: str, said: list[str], out: Path, path: Path) -> tuple[str, list[str]]:
    """What came of it, in words, and the rules that were broken."""
    broken = []
    if any(line.startswith("Traceback") for line in said):
        broken.append(f"traceback: {said[-1]}")
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    left = {file.name for file in out.iterdir()}
    if code == 2:
        told = " / ".join(errors).replace(str(path), path.name)
        if len(errors) != 1 or not said[-1].startswith("error: "):
            broken.append(f"{len(errors)} error lines, and the last line is {said[-1:]}")
        if path.exists() and "no such" in told:
            broken.append("the file was not found")
        if len(told) > LONGEST_LINE:
            broken.append(f"a line of {len(told)} characters")
        if left:
            broken.append(f"left behind: {sorted(left)}")
        return told, broken
    if code not in (0, 1) or not printed.startswith("{"):
        return "", [*broken, f"exit {code}"]
    result = json.loads(printed)
    edit = json.loads(Path(result["edit"]).read_text())
    output = edit["output"]
    told = (
        f"{result['duration']:.1f} s, {len(edit['cuts'])} cuts, {output['width']} x {output['height']}, "
        f"{output['frame_rate'].removesuffix('/1')} pictures a second"
    )
    if not result["passed"]:
        checks = json.loads(Path(result["qc"]).read_text())["checks"]
        failed = [f"{check['check']} {check['measured']}" for check in checks if not check["passed"]]
        broken.append(f"the gate failed: {', '.join(failed)}")
    elif code != 0 or left != WRITTEN or errors:
        broken.append(f"exit {code}, {len(errors)} error lines, and in the folder {sorted(left)}")
    return told, broken


def describe(result: Result) -> str:
    """One line on what came of a file."""
    what = {0: f"trailer: {result.told}", 2: f"refused: {result.told}"}.get(result.code or 0, result.told)
    if result.code is None:
        what = "no end"
    return f"BROKEN ({'; '.join(result.broken)}) {what}" if result.broken else what


def draw_table(results: list[Result]) -> str:
    """The Markdown page of all results."""
    made = [result for result in results if result.code == 0 and not result.broken]
    refused = [result for result in results if result.code == 2 and not result.broken]
    broken = [result for result in results if result.broken]
    longest = max(results, key=lambda result: result.seconds)
    head = [
        "# Damaged, unusual and hostile files",
        "",
        "    python benchmarks/odd_media.py FOLDER --table benchmarks/odd-media.md",
        "",
        f"{len(results)} files: {len(made)} trailers that passed the gate, {len(refused)} refused with one line, "
        f"{len(broken)} that broke a rule. The longest took {longest.seconds:.0f} s ({longest.file}); the bound is "
        f"{BOUND:.0f} s and {BOUND_FACTOR:g} times the film's length. Default settings, the bundled music; 2 cores that "
        "did other work, too.",
        "",
        "| file | what came of it | s |",
        "| --- | --- | --- |",
    ]
    rows = []
    for result in results:
        said = f"; {'; '.join(result.warnings)}" if result.warnings and result.code == 0 else ""
        rows.append(f"| {result.file} | {describe(result)}{said} | {result.seconds:.0f} |".replace("\n", " "))
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
