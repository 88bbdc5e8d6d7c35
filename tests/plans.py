"""Films of any kind, written by ffmpeg from pictures that are given, and small edit lists over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.records import U8, Card, Cut, EditList, Film, FilmReference, Music, Output, Span

MUSIC = Music(Path("track"), "track", 0.0, (0.0,))


def write_raw(
    path: Path,
    pictures: Iterable[U8],
    *options: str,
    size: tuple[int, int],
    rate: Fraction = Fraction(24),
    pixel_format: str = "rgb24",
) -> Film:
    """Encode pictures, as bytes of the pixel format, with ffmpeg's options."""
    source = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        pixel_format,
        "-video_size",
        f"{size[0]}x{size[1]}",
        "-framerate",
        str(rate),
    ]
    arguments = ["-v", "error", *source, "-i", "pipe:0", *options, "-y", str(path)]
    run_ffmpeg(find_ffmpeg(), arguments, chunks=(np.ascontiguousarray(p).tobytes() for p in pictures), timeout=60)
    return probe_film(path)


def plan_edit(
    film: Film,
    pieces: Sequence[Cut | Card],
    *,
    size: tuple[int, int] | None = None,
    bars: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    rate: Fraction | None = None,
    config: dict[str, Any] | None = None,
    music: Music = MUSIC,
    **output: Any,
) -> EditList:
    """An edit list of these pieces, one after the other, all of them from one shot that is the whole film."""
    width, height = size or film.display_size
    laid: list[Cut | Card] = []
    for piece in pieces:
        laid.append(replace(piece, start_frame=sum(p.frames for p in laid)))
    rate = rate or film.frame_rate
    return EditList(
        version="0",
        seed=0,
        title="t",
        film=FilmReference(
            film.path, film.fingerprint, film.duration, film.frame_rate, film.width, film.height, film.start, bars
        ),
        output=Output(width, height, rate, sum(p.frames for p in pieces), -14.0, **output),
        cuts=tuple(p for p in laid if isinstance(p, Cut)),
        cards=tuple(p for p in laid if isinstance(p, Card)),
        narration=(),
        music=music,
        models={},
        config=config or {},
        shots=(Span(film.start - 1, film.end + 10),),
    )


def take(film: Film, start: float, frames: int, *, rate: Fraction | None = None, **how: Any) -> Cut:
    """A cut of so many trailer frames from a time of the film on."""
    seconds = frames * Fraction(how.get("speed", 1.0)) / (rate or film.frame_rate)
    return Cut(0, 0, Span(start, start + float(seconds)), 0, frames, **how)
