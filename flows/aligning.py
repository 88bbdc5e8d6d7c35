"""Align trailers with their film: which film shot is each trailer shot, and what a model can learn from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.looking import draw_table
from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.encoders import Encoder
    from pipeline.align import Alignment, Pictures
    from pipeline.records import Analysis, Film, Shots
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, TrailerConfig
    from pipeline.workdir import Artifact

log = logging.getLogger("trailer")


@dataclass(frozen=True, slots=True)
class Aligned:
    """A trailer of a film, and where its shots come from. path: as the user named it."""

    path: Path
    shots: Shots
    alignment: Alignment


@dataclass(frozen=True, slots=True)
class AlignedFilm:
    """A film, its trailers in the order they were named, and the files of training data: the film's, then theirs."""

    path: Path
    shots: Shots
    trailers: tuple[Aligned, ...]
    data: tuple[Path, ...] = ()


def align_film(
    film_path: Path,
    trailer_paths: Sequence[Path],
    config: TrailerConfig,
    site: Site,
    runner: LocalRunner,
    *,
    data: Path | None = None,
    name: str | None = None,
) -> AlignedFilm:
    """Compare trailers with their film, by the same steps as `make`, and with `data` add them to that folder.

    What is written for a trailer is, for every shot that was found, the *film's* row of that shot, not the trailer's own:
    the nearest row is then the shot that was found, and a slot holds what it holds when a trailer is made. Black shots
    and doubtful ones (title cards, logos, shots that the film does not have) are left out.
    """
    from models.encoders import identify_encoder, load_encoder
    from pipeline import steps
    from pipeline.align import align_trailer
    from pipeline.choices import check_request
    from pipeline.media import probe_film
    from pipeline.pairs import add_pair, check_pair, name_film
    from pipeline.workdir import WorkDir

    if data is None and name is not None:
        raise InputError(f"--name {name} names files in a folder of training data: say which with --data")
    film = probe_film(film_path)
    trailers = [probe_film(path) for path in trailer_paths]
    _refuse_copies([film_path, *trailer_paths], [film, *trailers])
    check_request(config, site, encoder=data is not None, selection=False)
    name = name_film(film_path.stem) if name is None else name
    if data is not None:
        check_pair(data, name, identify_encoder(config.features).width)

    encoder = load_encoder(config.features, site)  # absent weights are told before a film is decoded
    analysis, cut, seen = _look(film, "", encoder, config, site, runner)
    aligned = []
    for path, trailer in zip(trailer_paths, trailers, strict=True):
        _, trailer_cut, trailer_seen = _look(trailer, f" of {path.name}", encoder, config, site, runner)
        shots = trailer_cut.load()
        found = align_trailer(trailer_seen, seen, shots.flags)
        if not found.found.any():
            message = f"no shot of {path} was found in {film_path}: is it a trailer of this film?"
            if data is not None:
                raise InputError(f"{message} Nothing was added to --data {data}")
            log.warning(message)
        aligned.append(Aligned(path, shots, found))

    del encoder  # the next step loads its own: not two networks in memory
    written: tuple[Path, ...] = ()
    if data is not None:
        work = WorkDir(site.work_dir, film.fingerprint)
        rows = runner.step("features", steps.encode, work, analysis, cut, config, site).load().vectors
        chosen = [rows[one.alignment.film_shots[one.alignment.found]] for one in aligned]
        written = tuple(add_pair(data, name, rows, chosen))
    return AlignedFilm(film_path, cut.load(), tuple(aligned), written)


def _refuse_copies(paths: Sequence[Path], films: Sequence[Film]) -> None:
    seen: dict[str, Path] = {}
    for path, film in zip(paths, films, strict=True):
        if film.fingerprint in seen:
            what = "the film itself" if seen[film.fingerprint] == paths[0] else f"the same as {seen[film.fingerprint]}"
            raise InputError(f"the trailer {path} is {what}: name each file once")
        seen[film.fingerprint] = path


def _look(
    film: Film, whose: str, encoder: Encoder, config: TrailerConfig, site: Site, runner: LocalRunner
) -> tuple[Artifact[Analysis], Artifact[Shots], Pictures]:
    """A file's shots and pictures. whose: follows the names of the steps."""
    from pipeline import steps
    from pipeline.align import look_at_pictures
    from pipeline.choices import choose_encoder_device
    from pipeline.gpu import use_gpu
    from pipeline.workdir import WorkDir

    work = WorkDir(site.work_dir, film.fingerprint)
    analysis = runner.step(f"analysis{whose}", steps.analyse, work, film, config, site)
    cut = runner.step(f"shots{whose}", steps.find_shots, work, analysis, config)
    seen = analysis.load()
    for warning in seen.warnings:
        log.warning("%s: %s", film.path.name, warning)
    label = f"pictures{whose}"
    with use_gpu(choose_encoder_device(config, site)):
        pictures = look_at_pictures(seen, cut.load(), encoder, progress=lambda share: runner.progress(label, share))
    runner.progress(label, 1.0)
    return analysis, cut, pictures


def tell_alignment(aligned: AlignedFilm) -> dict[str, Any]:
    """What `align --json` prints; times in seconds, a trailer shot's on the trailer's clock, a film shot's on the film's.

    data: the files of training data, the film's first; left_out: how many of the shots are black or doubtful.
    """
    return {
        "film": str(aligned.path),
        "trailers": [
            {
                "trailer": str(one.path),
                "shots": _tell_shots(one, aligned.shots),
                "left_out": int((~one.alignment.found).sum()),
            }
            for one in aligned.trailers
        ],
        "data": [str(path) for path in aligned.data],
    }


def _tell_shots(one: Aligned, film: Shots) -> list[dict[str, Any]]:
    found = one.alignment
    rows = []
    for number, (span, shot) in enumerate(zip(one.shots.spans, found.film_shots.tolist(), strict=True)):
        rows.append(
            {
                "number": number,
                "start": round(span.start, 6),
                "end": round(span.end, 6),
                "film_shot": shot,
                "film_start": round(film.spans[shot].start, 6),
                "film_end": round(film.spans[shot].end, 6),
                "similarity": round(float(found.similarity[number]), 4),
                "margin": round(float(found.margin[number]), 4),
                "doubtful": bool(found.doubtful[number]),
                "black": bool(found.black[number]),
            }
        )
    return rows


def describe_alignment(aligned: AlignedFilm) -> str:
    """What `align` prints for people: a table and a sentence for each trailer."""
    blocks = []
    for number, one in enumerate(aligned.trailers):
        shots, found = _tell_shots(one, aligned.shots), one.alignment
        rows = [
            {
                "shot": row["number"],
                "start-end": f"{row['start']:.2f}-{row['end']:.2f}",
                "film shot": row["film_shot"],
                "film start-end": f"{row['film_start']:.2f}-{row['film_end']:.2f}",
                "similarity": row["similarity"],
                "margin": row["margin"],
                "doubtful": "black" if row["black"] else row["doubtful"],
            }
            for row in shots
        ]
        count, black = int(found.found.sum()), int(found.black.sum())
        doubtful = len(shots) - count - black
        lines = [f"{one.path}", draw_table(rows), f"{count} of {len(shots)} shots found in {aligned.path}"]
        if black or doubtful:
            what = "left out" if aligned.data else "not counted"
            lines[-1] += f"; {what}: {doubtful} doubtful, {black} black"
        if aligned.data:
            lines.append(f"  {aligned.data[number + 1]}: {count} rows")
        blocks.append("\n".join(lines))
    if aligned.data:
        blocks.append(f"{aligned.data[0]}: {len(aligned.shots)} rows")
    return "\n\n".join(blocks)
