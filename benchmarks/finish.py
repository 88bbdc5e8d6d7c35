"""Make the trailer of every film with every track, and measure what a viewer sees and hears of each.

The beats and onsets are librosa's own, by its defaults: nothing of what the trailer was cut by is used. They are heard in
the music as the trailer plays it and, for comparison, in the finished file, where steps, blows and voices are heard as
well. Prints Markdown, writes a contact sheet of each trailer, and exits 1 when a trailer is not as it should be: gate
passed, 90 % of the cuts within a frame of a beat or an onset of the music, 20 to 60 cuts a minute.

    python benchmarks/finish.py FILMS MUSIC [--out DIR] [--set A.B=V]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.decode import watch_trailer
from pipeline.editfile import read_edit
from pipeline.music_parts import join_parts
from pipeline.records import F32, F64, EditList, Span
from pipeline.report import draw_sheet
from pipeline.runner import LocalRunner
from pipeline.settings import Site, load_config
from pipeline.sound import read_track
from pipeline.trailer import make_trailer

FILM_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".ts")
MUSIC_SUFFIXES = (".ogg", ".mp3", ".flac", ".wav", ".m4a")
RATE, HOP = 22050, 512  # librosa's defaults
LEAST_ON_BEAT = 0.9
LEAST_PACE, MOST_PACE = 20.0, 60.0  # cuts a minute


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one trailer.

    on_beat: share of its cuts within a frame of a beat or an onset that librosa hears in the music; in_mix: in all sound.
    """

    film: str
    track: str
    passed: bool
    failures: tuple[str, ...]
    seconds: float
    cuts: int
    pace: float
    mean: float
    deviation: float
    on_beat: float
    in_mix: float

    @property
    def good(self) -> bool:
        return self.passed and self.on_beat >= LEAST_ON_BEAT and LEAST_PACE <= self.pace <= MOST_PACE


def play_music(edit: EditList) -> F32:
    """The music alone as the trailer plays it, mono at RATE."""
    music, seconds = edit.music, float(edit.output.frames / edit.output.frame_rate)
    parts = music.parts or (Span(music.offset, music.offset + seconds),)
    track = read_track(music.path, sample_rate=RATE, longest=max(part.end for part in parts) + 1.0)
    return join_parts(track[:, 0], RATE, parts, round(seconds * RATE))


def hear_marks(sound: F32) -> F64:
    """Seconds of the beats and onsets in mono sound at RATE, as librosa finds them by default."""
    from librosa.beat import beat_track
    from librosa.onset import onset_detect

    beats = beat_track(y=sound, sr=RATE, hop_length=HOP, units="time")[1]
    onsets = onset_detect(y=sound, sr=RATE, hop_length=HOP, units="time")
    return np.sort(np.concatenate([beats, onsets]))


def share_on_marks(edit: EditList, marks: F64) -> float:
    """Share of the cuts, the first left out, that begin within a frame (and librosa's own hop) of a mark."""
    rate = float(edit.output.frame_rate)
    starts = np.array([piece.start_frame / rate for piece in edit.pieces[1:]])
    nearest = np.abs(starts[:, None] - marks[None, :]).min(axis=1)
    return float(np.mean(nearest <= 1 / rate + HOP / RATE / 2))


def save_sheet(trailer: Path, edit: EditList, path: Path) -> None:
    """The middle of every piece of a trailer on one picture."""
    middles = {piece.start_frame + piece.frames // 2 for piece in edit.pieces}
    jpegs = [
        np.asarray(cv2.imencode(".jpg", picture.bgr)[1], np.uint8).reshape(-1)
        for number, picture in enumerate(watch_trailer(trailer, 320)[1])
        if number in middles
    ]
    path.write_bytes(bytes(draw_sheet(jpegs, edit)))


def _hush(*told: object) -> None:
    """Says nothing: the table is what is printed."""
    del told


def measure(film: Path, track: Path, out: Path, assignments: list[str]) -> Row:
    """Make one trailer, and measure it."""
    runner = LocalRunner(_hush, _hush)
    path = out / f"{film.stem}-{track.stem}.mp4"
    made = make_trailer(film, load_config(None, assignments), Site(), runner, music=track, out=path)
    edit = read_edit(made.edit)
    save_sheet(made.trailer, edit, path.with_suffix(".sheet.jpg"))
    lengths = np.array([float(cut.frames / edit.output.frame_rate) for cut in edit.cuts])
    return Row(
        film=film.stem,
        track=track.stem,
        passed=made.passed,
        failures=made.failures,
        seconds=made.duration,
        cuts=made.slots,
        pace=60 * made.slots / made.duration,
        mean=float(lengths.mean()),
        deviation=float(lengths.std()),
        on_beat=share_on_marks(edit, hear_marks(play_music(edit))),
        in_mix=share_on_marks(edit, hear_marks(read_track(made.trailer, sample_rate=RATE)[:, 0])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", type=Path, help="a film, or a folder of films")
    parser.add_argument("music", type=Path, help="a track, or a folder of tracks")
    parser.add_argument("--out", type=Path, default=Path("out/finish"))
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    films, tracks = (
        [place] if place.is_file() else sorted(path for path in place.iterdir() if path.suffix in suffixes)
        for place, suffixes in ((options.films, FILM_SUFFIXES), (options.music, MUSIC_SUFFIXES))
    )
    print(
        "| film | track | gate | length | cuts | cuts/min | cut, mean ± sd | on a beat or onset | of the whole sound |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for film in films:
        for track in tracks:
            row = measure(film, track, options.out, options.assignments)
            rows.append(row)
            print(
                f"| {row.film} | {row.track} | {'passed' if row.passed else ', '.join(row.failures)} | {row.seconds:.1f} s "
                f"| {row.cuts} | {row.pace:.1f} | {row.mean:.2f} ± {row.deviation:.2f} s | {100 * row.on_beat:.0f} % "
                f"| {100 * row.in_mix:.0f} % |",
                flush=True,
            )
    bad = [f"{row.film} with {row.track}" for row in rows if not row.good]
    print(f"\n{len(rows) - len(bad)} of {len(rows)} as they should be" + (f"; not: {', '.join(bad)}" if bad else ""))
    sys.exit(bool(bad) or not rows)


if __name__ == "__main__":
    main()
