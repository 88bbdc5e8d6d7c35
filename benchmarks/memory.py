"""Peak memory of `trailer make` on a feature-length film: the whole process tree, sampled from /proc.

    python benchmarks/memory.py FILM [--times 10] [--music TRACK]

The film is repeated without re-encoding (ffmpeg -stream_loop) until it is that many times as long, so that no feature has
to be stored. Linux only. The figure is the largest sum of proportional set sizes (PSS) of `trailer make` and its children,
and the largest resident set (RSS) of any one of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.media import find_ffmpeg, probe_film

SAMPLE_SECONDS = 0.25
MIB = 1024 * 1024


def children(pid: int) -> list[int]:
    """This process and all below it."""
    found = [pid]
    for number in found:
        try:
            for task in Path(f"/proc/{number}/task").iterdir():
                found.extend(int(child) for child in (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
    return found


def memory(pid: int) -> tuple[int, int]:
    """(PSS, RSS) of one process in bytes; (0, 0) once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:] if line.endswith("kB")}
    return values.get("Pss", 0), values.get("Rss", 0)


def main() -> None:
    """Repeat the film, make its trailer, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--music", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / f"long{options.film.suffix}"
        loop = ["-v", "error", "-stream_loop", str(options.times - 1), "-i", str(options.film), "-c", "copy", str(film)]
        subprocess.run([str(find_ffmpeg()), *loop], check=True)
        minutes = probe_film(film).duration / 60
        music = ["--music", str(options.music)] if options.music else []
        command = [sys.executable, "-m", "flows.cli", "make", str(film), "--out", f"{folder}/trailer.mp4", *music]
        environment = os.environ | {"TRAILER_WORK_DIR": f"{folder}/work"}
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment)
        most_pss = most_rss = 0
        while process.poll() is None:
            figures = [memory(pid) for pid in children(process.pid)]
            most_pss = max(most_pss, sum(pss for pss, _ in figures))
            most_rss = max(most_rss, *(rss for _, rss in figures))
            time.sleep(SAMPLE_SECONDS)
    print(
        f"{minutes:.1f} min of film: exit {process.returncode} after {time.monotonic() - started:.0f} s, "
        f"peak {most_pss / MIB:.0f} MiB for all processes together (PSS), {most_rss / MIB:.0f} MiB for the largest (RSS)"
    )


if __name__ == "__main__":
    main()
