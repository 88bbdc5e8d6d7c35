"""CPU time of a film's analysis beside a plain decode of it, and beside PySceneDetect's own command.

    python benchmarks/analysis.py FILM [FILM ...] [--rounds 5]

Whole processes, start to end, in turn: (a) ffmpeg -i FILM -f null -; (b) scenedetect -i FILM detect-adaptive; ours: shots,
descriptor features and sound levels, as the first three steps of `trailer make`. User and system seconds, medians; wall time
beside them. Then where ours goes, and how its hard cuts agree with (b)'s, with (b)'s shortest scene of 15 pictures.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ONE_PICTURE = 0.021  # s; half a picture at 24 a second: cuts closer than that are one cut
LEAST = 15  # pictures from one cut to the next, as the command has it by default

OURS = """
import json, sys, time
from pathlib import Path
marks = [("start", time.process_time())]
def mark(name): marks.append((name, time.process_time()))
from pipeline import steps
from pipeline.media import probe_film
from pipeline.settings import Site, TrailerConfig
from pipeline.workdir import WorkDir
mark("imports")
film = probe_film(Path(sys.argv[1]))
site, config, quiet = Site(work_dir=Path(sys.argv[2]), device="cpu"), TrailerConfig(), lambda share: None
work = WorkDir(site.work_dir, film.fingerprint)
mark("probe")
analysis = steps.analyse(work, film, config, site, progress=quiet).artifact
mark("decode, scores, samples, sound")
shots = steps.find_shots(work, analysis, config, progress=quiet).artifact
mark("shots and flags")
steps.encode(work, analysis, shots, config, site, progress=quiet)
mark("features")
from pipeline.shots import find_hard_cuts
seen = analysis.load()
cuts, last = [], 0
for cut in find_hard_cuts(seen, config.shots):
    if cut - last >= int(sys.argv[3]):
        cuts.append(float(seen.times[cut]))
        last = cut
parts = {name: round(then - before, 2) for (_, before), (name, then) in zip(marks, marks[1:])}
print(json.dumps({"parts": parts, "cuts": cuts}))
"""


@dataclass(frozen=True)
class Run:
    cpu: float
    wall: float
    out: str


def measure(command: list[str], folder: str) -> Run:
    """Run a program to its end: user and system seconds of it and its children."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(cpu, time.monotonic() - started, done.stdout)


def read_cuts(path: Path) -> list[float]:
    """Starts of PySceneDetect's scenes but the first, seconds."""
    with path.open() as file:
        return [float(row[3]) for row in list(csv.reader(file))[3:]]


def agree(ours: list[float], theirs: list[float]) -> float:
    """F1 of two lists of cuts."""
    left = sorted(theirs)
    hits = sum(any(abs(cut - other) < ONE_PICTURE for other in left) for cut in ours)
    return 2 * hits / (len(ours) + len(theirs)) if ours or theirs else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, nargs="+", metavar="FILM")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    from pipeline.media import find_ffmpeg

    ffmpeg = str(find_ffmpeg(None))
    scenedetect = str(Path(sys.executable).with_name("scenedetect"))
    for film in (path.resolve() for path in asked.films):
        runs: dict[str, list[Run]] = {"a": [], "b": [], "ours": []}
        told = {}
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory() as folder:
                runs["a"].append(measure([ffmpeg, "-v", "error", "-i", str(film), "-f", "null", "-"], folder))
                command = [scenedetect, "-q", "-i", str(film), "detect-adaptive", "list-scenes", "-f", "cuts.csv"]
                runs["b"].append(measure(command, folder))
                runs["ours"].append(
                    measure([sys.executable, "-c", OURS, str(film), f"{folder}/work", str(LEAST)], folder)
                )
                told = json.loads(runs["ours"][-1].out)
                theirs = read_cuts(Path(folder) / "cuts.csv")
        cpu = {name: statistics.median(run.cpu for run in of) for name, of in runs.items()}
        wall = {name: statistics.median(run.wall for run in of) for name, of in runs.items()}
        by_a = statistics.median(o.cpu / a.cpu for o, a in zip(runs["ours"], runs["a"], strict=True))
        by_b = statistics.median(o.cpu / b.cpu for o, b in zip(runs["ours"], runs["b"], strict=True))
        print(film.name)
        for name, what in (("a", "plain decode"), ("b", "scenedetect detect-adaptive"), ("ours", "ours")):
            print(f"  {what:28} {cpu[name]:6.1f} CPU-s {wall[name]:6.1f} s")
        print(f"  ours / plain decode {by_a:.2f}, ours / scenedetect {by_b:.2f} (medians of {asked.rounds} pairs)")
        print(f"  where ours goes, CPU-s: {told['parts']}")
        print(
            f"  cuts: {len(told['cuts'])} ours, {len(theirs)} theirs, F1 {agree(told['cuts'], theirs):.4f}", flush=True
        )


if __name__ == "__main__":
    main()
