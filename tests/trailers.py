"""Trailers of synthetic films without the planner: an edit list over known shots, cut on the beats of a click track."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.media import find_ffmpeg, probe_film, probe_track, run_ffmpeg
from pipeline.records import Card, Cut, EditList, FilmReference, Music, Output, Placement, Span
from pipeline.settings import load_config
from tests.synthetic import click_track

EDGES = (0.0, 1.5, 3.0, 4.5, 6.5, 8.0, 10.0)  # s; the cuts begin on beats at 120 a minute, the card at the last
SECONDS = 12.0
SHOTS = (4, 0, 5, 2, 1, 3)  # of the film, in the trailer's order
START = 0.24  # s into its shot that a cut begins; enough for a margin at any rate
SETTINGS = ("video.preset=ultrafast", "video.encoder=software")


def make_music(folder: Path) -> Music:
    """A click track of 12 s at 120 beats a minute, its beats the accents."""
    path = folder / "clicks.wav"
    beats = tuple(float(beat) for beat in click_track(path, bpm=120, seconds=SECONDS))
    return Music(path, probe_track(path).fingerprint, 0.0, EDGES[:-1], beats, beats)


def plan_trailer(
    film: Path,
    shots: Sequence[float | Fraction],
    music: Music,
    *,
    rate: Fraction,
    size: tuple[int, int] | None = None,
    settings: Sequence[str] = (),
    speed: float = 1.0,
    dissolve: int = 0,
    narration: tuple[Placement, ...] = (),
    bars: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    **output: Any,
) -> EditList:
    """Six cuts and a card. shots: seconds at which the film's shots begin, and its end. speed, dissolve: of every other."""
    probed = probe_film(film)
    width, height = size or probed.display_size
    config = load_config(None, [*SETTINGS, *settings])
    spans = tuple(Span(float(a), float(b)) for a, b in pairwise(shots))
    edges = [round(edge * rate) for edge in (*map(Fraction, EDGES), Fraction(SECONDS))]
    cuts = []
    for slot, (shot, (first, last)) in enumerate(zip(SHOTS, pairwise(edges), strict=False)):
        odd = slot % 2 == 1
        pace = speed if odd else 1.0
        start = spans[shot].start + START
        seconds = float((last - first) / rate) * pace
        cuts.append(
            Cut(
                slot=slot,
                shot=shot,
                source=Span(start, start + seconds),
                start_frame=first,
                frames=last - first,
                speed=pace,
                dissolve=dissolve if odd else 0,
            )
        )
    return EditList(
        version="0",
        seed=0,
        title="Film",
        film=FilmReference(
            probed.path,
            probed.fingerprint,
            probed.duration,
            probed.frame_rate,
            probed.width,
            probed.height,
            probed.start,
            bars,
            story=(spans[0].start, spans[-1].end),
        ),
        output=Output(width, height, rate, edges[-1], config.sound.loudness_lufs, **output),
        cuts=tuple(cuts),
        cards=(Card("FILM", edges[-2], edges[-1] - edges[-2]),),
        narration=narration,
        music=music,
        models={},
        config=config.model_dump(mode="json"),
        shots=spans,
    )


def doctor(source: Path, out: Path, arguments: Sequence[str], *, before: Sequence[str] = ()) -> Path:
    """The file with a fault, as ffmpeg's arguments plant it. before: options of a second look at the same file."""
    again = [*before, "-i", str(source)] if before else []
    arguments = ["-v", "error", "-i", str(source), *again, *arguments, "-movflags", "+faststart", "-y", str(out)]
    run_ffmpeg(find_ffmpeg(), arguments, timeout=60)
    return out
