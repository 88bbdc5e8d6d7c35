"""Change a trailer by hand, for the command line: what was asked is held against the edit list, the rest is made as ever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.editfile import read_edit
from pipeline.errors import InputError
from pipeline.refine import Request, describe_change, name_next, resolve

if TYPE_CHECKING:
    from pipeline.records import EditList, Film, Track
    from pipeline.runner import Runner
    from pipeline.settings import Site, TrailerConfig
    from pipeline.trailer import Outcome


@dataclass(frozen=True, slots=True)
class Refined:
    """A changed trailer, and what changed, a line a slot."""

    outcome: Outcome
    changes: tuple[str, ...]


def refine_edit(
    path: Path,
    edit: EditList,
    request: Request,
    out: Path | None,
    site: Site,
    runner: Runner,
    *,
    place_lines: bool = True,
    subtitles: Path | None = None,
    voice: Path | None = None,
) -> Refined:
    """Fill the open slots again in the context of what stays, and render what changed.

    out: None: X-2.mp4 beside X.edit.json, or the next number that is free. Raises TrailerError for what a user can mend.
    """
    from pipeline.trailer import make_trailer

    refinement = resolve(edit, request)
    if not place_lines:
        refinement = replace(refinement, narration=edit.narration)
    film, track, config = find_sources(edit, path)
    if request.reseed is not None:
        config = config.model_copy(update={"seed": request.reseed})
    if out is None:
        out = path.with_name(name_next(path, (entry.name for entry in path.parent.iterdir())))
    if (out.with_name(f"{out.stem}.edit.json")).resolve() == path.resolve():
        raise InputError(
            f"--out {out} would write over {path}: choose another name, so that the trailer before is kept"
        )
    outcome = make_trailer(
        film.path,
        config,
        site,
        runner,
        music=track.path,
        out=out,
        subtitles=subtitles,
        voice=voice,
        refinement=refinement,
    )
    made = read_edit(outcome.edit)
    return Refined(outcome, tuple(describe_change(edit, made)))


def find_sources(edit: EditList, path: Path) -> tuple[Film, Track, TrailerConfig]:
    """The film and the track of an edit list, and its settings. Raises InputError where one is not what it was."""
    from pipeline.media import probe_film, probe_track
    from pipeline.settings import parse_config

    film, track = probe_film(edit.film.path), probe_track(edit.music.path)
    for found, wanted, what in ((film, edit.film, "film"), (track, edit.music, "track")):
        if found.fingerprint != wanted.fingerprint:
            raise InputError(f"the {what} {wanted.path} is not the one that {path} was made from")
    config = parse_config(edit.config)
    return film, track, config.model_copy(update={"title": edit.title, "seed": edit.seed})


def list_candidates(path: Path, edit: EditList, slot: int, most: int, site: Site, runner: Runner) -> dict[str, Any]:
    """What `refine --candidates` prints: the best shots for a slot where all others are as they are.

    Raises InputError for a slot that is not there.
    """
    from pipeline import steps
    from pipeline.storyboard_page import clock
    from pipeline.workdir import WorkDir

    if not 0 <= slot < len(edit.cuts):
        raise InputError(f"there is no slot {slot}: the trailer has {len(edit.cuts)}, counted from 0")
    film, track, config = find_sources(edit, path)
    work = WorkDir(site.work_dir, film.fingerprint)
    analysis = runner.step("analysis", steps.analyse, work, film, config, site, runner.spread)
    shots = runner.step("shots", steps.find_shots, work, analysis, config)
    room = steps.find_room(analysis.load(), shots.load(), config)
    features = runner.step("features", steps.encode, work, analysis, shots, config, site)
    segments = runner.step("music", steps.segment, work, track, config, room)
    order = [cut.shot for cut in sorted(edit.cuts, key=lambda cut: cut.slot)]
    found = steps.score_slot(
        analysis, shots, features, segments, config, site, order, slot, banned=edit.banned, most=most
    )
    start = edit.film.start
    return {
        "slot": slot,
        "shot": order[slot],
        "candidates": [
            {
                "shot": shot,
                "probability": round(p, 4),
                "film_time": clock(edit.shots[shot].start - start),
                "seconds": round(edit.shots[shot].duration, 2),
            }
            for shot, p in found
        ],
    }


def tell_refined(refined: Refined) -> dict[str, Any]:
    """What `refine --json` prints."""
    from flows.making import summarise

    return {**summarise(refined.outcome), "changes": list(refined.changes)}
