"""Seconds that a pass over a library takes in which nothing, or one film, is to be made.

    python benchmarks/library.py [--films 200]

The library holds copies of a film of 28 s, no two alike. The trailer of the first is made; the others are given the same
trailer with an edit list that names their own film, as if each had been made. Then, each as `trailer library` from start to
end: a pass with an empty memory (every film and edit list is read), a second pass, and one after one film was touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ["--min-minutes", "0", "--settle", "0", "--set", "length=6", "--set", "edit.card_seconds=1", "--json"]


def do_pass(library: Path, work: Path) -> tuple[float, dict[str, int]]:
    """Seconds, and how many films stand how."""
    environment = {**os.environ, "TRAILER_WORK_DIR": str(work), "PREFECT_API_URL": "", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    command = [sys.executable, "-m", "flows.cli", "library", str(library), *SETTINGS]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    seconds = time.monotonic() - started
    return seconds, {name: count for name, count in json.loads(answer.stdout)["counts"].items() if count}


def main() -> None:
    sys.path.insert(0, str(ROOT))  # for tests
    from pipeline.media import fingerprint_file
    from tests.synthetic import barcode_film

    parser = argparse.ArgumentParser()
    parser.add_argument("--films", type=int, default=200)
    films = parser.parse_args().films
    with tempfile.TemporaryDirectory() as folder:
        library, work = Path(folder, "films"), Path(folder, "work")
        library.mkdir()
        first = library / "film 000.mp4"
        barcode_film(first, frame_rate=Fraction(25), shots=[50] * 14, size=(160, 90))
        seconds, counts = do_pass(library, work)
        print(f"| the first film is made | {seconds:.1f} s | {counts} |")
        data, trailer = first.read_bytes(), library / "film 000-trailer.mp4"
        edit = json.loads(trailer.with_suffix(".edit.json").read_text())
        for number in range(1, films):
            film = library / f"film {number:03d}.mp4"
            film.write_bytes(data + b"\0\0\0\x10free" + f"{number:08d}".encode())
            out = library / f"film {number:03d}-trailer.mp4"
            shutil.copyfile(trailer, out)
            edit["film"] |= {"path": str(film), "fingerprint": fingerprint_file(film)}
            edit["config"]["title"] = f"Film {number:03d}"
            out.with_suffix(".edit.json").write_text(json.dumps(edit))
        shutil.rmtree(work / "library")
        for what in ("empty memory", "second pass"):
            seconds, counts = do_pass(library, work)
            print(f"| {what}, {films} films | {seconds:.1f} s | {counts} |")
        os.utime(library / f"film {films // 2:03d}.mp4")
        seconds, counts = do_pass(library, work)
        print(f"| after one was touched | {seconds:.1f} s | {counts} |")


if __name__ == "__main__":
    main()
