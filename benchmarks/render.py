"""CPU time and memory of rendering 45 two-second cuts, beside encoding the same pictures and beside two other ways.

    python benchmarks/render.py FILM [--cuts 45] [--height 720] [--only ours a b c]

The film's first four minutes are scaled to the height first, which is not counted. (a) ffmpeg encodes the same pictures
from a raw file: the floor. (b) MoviePy: subclips, concatenated. (c) one ffmpeg filter graph with 45 inputs. Ours: the clips
and their join, a process from start to end. All by libx264 with the default settings, one thread an encode, no sound. User
and system seconds of a process and its children; memory is the largest sum over the process tree, sampled: of proportional
set sizes (PSS) and of resident ones (RSS). Then one cut of the edit list is moved, and it is rendered again. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from memory import MIB, children, memory

from pipeline.encoders import describe_software
from pipeline.media import find_ffmpeg, probe_film
from pipeline.settings import VideoSettings

SECONDS = 2.0  # of a cut
LENGTH = 240.0  # s of the film that is scaled
SAMPLE_SECONDS = 0.1

OURS = """
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from pipeline.clips import encode_clips, make_pictures, plan_clips
from pipeline.encoders import choose_encoder
from pipeline.media import find_ffmpeg, probe_film
from pipeline.records import Cut, EditList, FilmReference, Music, Output, Span
from pipeline.settings import TrailerConfig
from pipeline.writing import join_clips
film, folder, starts = probe_film(Path(sys.argv[1])), Path(sys.argv[2]), [float(s) for s in sys.argv[3:]]
frames = round(2 * film.frame_rate)
cuts = tuple(Cut(n, 0, Span(s, s + float(frames / film.frame_rate)), n * frames, frames) for n, s in enumerate(starts))
reference = FilmReference(film.path, film.fingerprint, film.duration, film.frame_rate, film.width, film.height, film.start)
output = Output(*film.display_size, film.frame_rate, frames * len(cuts), -14.0)
music = Music(Path("none"), "", 0.0, (0.0,))
edit = EditList("0", 0, "", reference, output, cuts, (), (), music, {}, {}, (Span(film.start, film.end),))
config, program = TrailerConfig(), find_ffmpeg()
encoder = choose_encoder(config.video, program, (output.width, output.height))
folder.mkdir(exist_ok=True)
clips = plan_clips(edit, film, config, encoder, folder)
if folder.name == "raw":  # the pictures themselves, for (a)
    with (folder / "pictures.yuv").open("wb") as file:
        for clip in clips:
            file.writelines(picture.data for picture in make_pictures(clip, edit, film))
    sys.exit()
encode_clips(clips, edit, film, encoder, program)
join_clips([clip.path for clip in clips], [frames] * len(clips), film.frame_rate, folder / "joined.mp4")
"""
MOVIEPY = """
import json, sys
from moviepy import VideoFileClip, concatenate_videoclips
options = json.loads(sys.argv[3])
film = VideoFileClip(sys.argv[1], audio=False)
clips = [film.subclipped(float(s), float(s) + 2) for s in sys.argv[4:]]
concatenate_videoclips(clips).write_videofile(sys.argv[2], codec="libx264", audio=False, logger=None, threads=1,
    preset=options["preset"], ffmpeg_params=["-crf", options["crf"], "-rc-lookahead", "20", "-pix_fmt", "yuv420p"])
"""


@dataclass(frozen=True)
class Run:
    cpu: float
    wall: float
    pss: int
    rss: int


def measure(command: list[str]) -> Run:
    """Run a program to its end: seconds and peak bytes of it and its children."""
    root = str(Path(__file__).resolve().parents[1])
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    most = [0, 0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            figures = [memory(pid) for pid in children(process.pid)]
            most[:] = [max(old, sum(f[k] for f in figures)) for k, old in enumerate(most)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        raise SystemExit(f"{command[0]} failed with {code}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(cpu, time.monotonic() - started, *most)


def scale_film(source: Path, height: int, path: Path) -> None:
    command = ["-v", "error", "-t", str(LENGTH), "-i", str(source), "-vf", f"scale=-2:{height}:flags=bicubic", "-an"]
    subprocess.run([str(find_ffmpeg()), *command, "-preset", "fast", "-crf", "20", str(path)], check=True)


def main() -> None:
    """Make the film, run each way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("--cuts", type=int, default=45)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--only", nargs="+", choices=["ours", "a", "b", "c"], default=["a", "ours", "b", "c"])
    parser.add_argument("--scaled", type=Path, help="where the scaled film is kept; made where it is absent")
    asked = parser.parse_args()
    ffmpeg, video = str(find_ffmpeg()), VideoSettings()
    options = {"preset": video.preset, "crf": str(video.crf)}
    encoder = describe_software("libx264", video)
    encode = ["-c:v", encoder.name, *(word for name, value in encoder.options for word in (f"-{name}", value)), "-y"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scaled = asked.scaled or folder / "film.mp4"
        if not scaled.exists():
            scale_film(asked.film, asked.height, scaled)
        film = probe_film(scaled)
        step = (film.duration - SECONDS - 1) / asked.cuts
        half = 0.5 / float(film.frame_rate)
        starts = [f"{film.start + round(n * step * film.frame_rate) / float(film.frame_rate) + half:.6f}"
                  for n in range(asked.cuts)]  # fmt: skip
        inputs = [w for s in starts for w in ("-threads", "1", "-ss", s, "-t", str(SECONDS), "-i", str(scaled))]
        joins = "".join(f"[{n}:v]" for n in range(asked.cuts)) + f"concat=n={asked.cuts}:v=1[v]"
        graph = [ffmpeg, "-v", "error", *inputs, "-filter_complex", joins, "-map", "[v]"]
        ours = [sys.executable, "-c", OURS, str(scaled), str(folder / "clips"), *starts]
        runs: dict[str, Run] = {}
        if "ours" in asked.only:
            runs["ours"] = measure(ours)
            moved = [*starts[:-1], f"{float(starts[-1]) + 0.5:.6f}"]
            runs["ours, one cut moved"] = measure([*ours[:5], *moved])
        if "a" in asked.only:
            raw = folder / "raw" / "pictures.yuv"
            measure([*ours[:4], str(raw.parent), *starts])
            size = f"{film.width}x{film.height}"
            source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", size, "-framerate", str(film.frame_rate)]
            runs["a"] = measure([ffmpeg, "-v", "error", *source, "-i", str(raw), *encode, str(folder / "a.mp4")])
            raw.unlink()
        if "b" in asked.only:
            runs["b"] = measure(
                [sys.executable, "-c", MOVIEPY, str(scaled), str(folder / "b.mp4"), json.dumps(options), *starts]
            )
        if "c" in asked.only:
            runs["c"] = measure([*graph, *encode, str(folder / "c.mp4")])
    floor = runs["a"].cpu if "a" in runs else float("nan")
    print(f"{asked.cuts} cuts of {SECONDS:.0f} s, {film.width}x{film.height}, {float(film.frame_rate):.3f} frames/s")
    print("| way | CPU-s | of (a) | wall s | peak PSS MiB | peak RSS MiB |\n| --- | --- | --- | --- | --- | --- |")
    for way, run in runs.items():
        memory_text = f"{run.pss / MIB:.0f} | {run.rss / MIB:.0f}"
        print(f"| {way} | {run.cpu:.1f} | {run.cpu / floor:.3f} | {run.wall:.1f} | {memory_text} |")


if __name__ == "__main__":
    main()
