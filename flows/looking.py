"""Look at one stage: shots of a film, segments of a track, a finished file, an edit list."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError

log = logging.getLogger("trailer")

if TYPE_CHECKING:
    from pipeline.records import EditList, Film, Segments, Shots
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, TrailerConfig
    from pipeline.trailer import Outcome


def look_at_shots(film_path: Path, config: TrailerConfig, site: Site, runner: LocalRunner) -> Shots:
    """The film's shots, by the same steps and in the same work folder as `make`."""
    from pipeline import steps
    from pipeline.media import probe_film
    from pipeline.workdir import WorkDir

    film = probe_film(film_path)
    work = WorkDir(site.work_dir, film.fingerprint)
    analysis = runner.step("analysis", steps.analyse, work, film, config, site)
    return runner.step("shots", steps.find_shots, work, analysis, config).load()


def look_at_music(track_path: Path, config: TrailerConfig, site: Site, runner: LocalRunner) -> Segments:
    """The track's segments."""
    from pipeline import steps
    from pipeline.media import probe_track
    from pipeline.workdir import WorkDir

    track = probe_track(track_path)
    return runner.step("music", steps.segment, WorkDir(site.work_dir, track.fingerprint), track, config).load()


def look_at_lines(
    film_path: Path,
    subtitles: Path | None,
    config: TrailerConfig,
    site: Site,
    runner: LocalRunner,
    *,
    words: int | None = None,
) -> dict[str, Any]:
    """What `lines --json` prints; times in seconds on the film's clock, numbers as in edit lists.

    film_path: a film, or a subtitle file alone. words: only the lines that the embedded chooser takes within so many.
    """
    from pipeline import narration_steps, steps
    from pipeline.media import probe_film
    from pipeline.quotes import choose_quotes, find_allowed, hide_ending, measure_clearness
    from pipeline.records import Span
    from pipeline.subtitles import OTHER_SUFFIXES, SUBTITLE_SUFFIXES, read_alone
    from pipeline.workdir import WorkDir

    allowed, whole, clear = None, None, None
    if film_path.suffix.lower() in SUBTITLE_SUFFIXES | OTHER_SUFFIXES:
        lines = read_alone(film_path)
    else:
        film = probe_film(film_path)
        work = WorkDir(site.work_dir, film.fingerprint)
        lines = runner.step("lines", narration_steps.find_lines, work, film, config, site, subtitles).load()
        if words is not None and len(lines):
            analysis = runner.step("analysis", steps.analyse, work, film, config, site)
            shots = runner.step("shots", steps.find_shots, work, analysis, config).load()
            seen = analysis.load()
            allowed = find_allowed(lines, shots, config.guards)
            whole, clear = Span(seen.film.start, seen.film.end), measure_clearness([x.span for x in lines.lines], seen)
    for warning in lines.warnings:
        log.warning(warning)
    kept = list(range(len(lines)))
    if words is not None and len(lines):
        from models.sentences import load_sentences

        if allowed is None:
            allowed = hide_ending(lines, config.guards)
        script = choose_quotes(lines, allowed, words, load_sentences("cpu"), film=whole, clear=clear)
        kept = [line.number for line in script]
    return {
        "film": str(film_path),
        "source": lines.source,
        "language": lines.language,
        "lines": [
            {
                "number": number,
                "start": round(lines.lines[number].span.start, 3),
                "end": round(lines.lines[number].span.end, 3),
                "text": lines.lines[number].text,
            }
            for number in kept
        ],
    }


def tell_shots(shots: Shots) -> dict[str, Any]:
    """What `shots --json` prints; times in seconds on the film's clock, numbers as in edit lists."""
    rows = zip(shots.spans, shots.flags, shots.energy, shots.luma, strict=True)
    return {
        "film": str(shots.film.path),
        "fingerprint": shots.film.fingerprint,
        "duration": round(shots.film.duration, 6),
        "frame_rate": f"{shots.film.frame_rate.numerator}/{shots.film.frame_rate.denominator}",
        "shots": [
            {
                "number": number,
                "start": round(span.start, 6),
                "end": round(span.end, 6),
                "flags": sorted(flags),
                "motion": round(float(motion), 4),
                "luma": round(float(luma), 2),
            }
            for number, (span, flags, motion, luma) in enumerate(rows)
        ],
    }


def tell_music(segments: Segments) -> dict[str, Any]:
    """What `music --json` prints; tempo in beats a minute (null: no beat).

    Times in seconds of what is played; those of `parts`, played one after the other, and `offset` in seconds of the track.
    """
    from pipeline.records import Span

    beats = segments.beats
    steps = sorted(float(b - a) for a, b in pairwise(beats))
    parts = segments.parts or (Span(segments.offset, segments.offset + segments.duration),)
    return {
        "track": str(segments.track.path),
        "fingerprint": segments.track.fingerprint,
        "duration": round(segments.duration, 6),
        "offset": round(segments.offset, 6),
        "parts": [{"start": round(part.start, 6), "end": round(part.end, 6)} for part in parts],
        "fade_seconds": segments.fade_seconds,
        "beats": len(beats),
        "accents": [round(float(accent), 3) for accent in segments.accents],
        "tempo": round(60 / steps[len(steps) // 2], 1) if steps else None,
        "segments": [
            {"number": n, "start": round(s.start, 6), "end": round(s.end, 6), "energy": round(float(energy), 4)}
            for n, (s, energy) in enumerate(zip(segments.spans, segments.energy, strict=True))
        ],
    }


def render_edit(edit_path: Path, out: Path, site: Site, runner: LocalRunner, *, aspect: str | None = None) -> Outcome:
    """Render an edit list, measure it, and lay the four files down as `make` does. The list's own file is left as it is.

    aspect: another shape than the list's, such as 9:16.
    """
    from pipeline import steps
    from pipeline.editfile import edit_to_json, read_edit
    from pipeline.records import EditList
    from pipeline.render import find_film
    from pipeline.trailer import check_out, hand_over
    from pipeline.workdir import WorkDir

    edit = read_edit(edit_path)
    config_of(edit, edit_path)
    out = check_out(out, edit.film.path, edit.music.path)
    film = find_film(edit)
    if aspect is not None:
        edit = reshape(edit, film, aspect)
    work = WorkDir(site.work_dir, film.fingerprint)
    given = {"given": edit_to_json(edit)}
    planned = work.reuse_or_make("edit", steps.VERSION["edit"], given, EditList, lambda: edit).artifact
    rendered = runner.step("render", steps.render, work, planned, site)
    measured = runner.step("quality", steps.check, work, planned, rendered, site).load()
    excluded = find_excluded(edit, edit_path, site, runner)
    file = work.folder / rendered.load().name
    return hand_over(edit, measured, excluded, file, out, runner.times, given=edit_path)


def reshape(edit: EditList, film: Film, aspect: str) -> EditList:
    """The same trailer in another shape. Raises InputError for a shape that there is not."""
    from dataclasses import replace

    from pipeline.framing import choose_size
    from pipeline.settings import parse_config

    config = parse_config({**edit.config, "video": {**edit.config.get("video", {}), "aspect": aspect}})
    width, height = choose_size(film, config.video, edit.film.bars)
    output = replace(edit.output, width=width, height=height)
    return replace(edit, output=output, config=config.model_dump(mode="json"))


def report_edit(edit_path: Path, out: Path, trailer: Path | None, site: Site, runner: LocalRunner) -> None:
    """Write the storyboard of an edit list. trailer: its rendered file, for the pictures; none: X.mp4 beside X.edit.json."""
    from pipeline.editfile import read_edit
    from pipeline.media import check_readable
    from pipeline.quality import check_trailer
    from pipeline.report import draw_report
    from pipeline.storyboard_music import trace_music
    from pipeline.workdir import deliver_text

    edit = read_edit(edit_path)
    config_of(edit, edit_path)
    if trailer is None:
        trailer = edit_path.with_name(f"{edit_path.name.removesuffix('.json').removesuffix('.edit')}.mp4")
        if not trailer.is_file():
            raise InputError(
                f"no rendered trailer at {trailer}: name it with --trailer, or make it with `trailer render`"
            )
    check_readable(trailer, "trailer")
    if out.exists() and any(out.samefile(used) for used in (edit_path, trailer)):
        raise InputError(f"--out {out} is what the report is made from; choose another name")
    measured = check_trailer(trailer, edit, site, progress=lambda share: runner.progress("quality", share))
    runner.progress("quality", 1.0)
    if any(check.name == "frames" and not check.passed for check in measured.report.checks):
        raise InputError(
            f"{trailer} is not the trailer of {edit_path}: it does not have its {edit.output.frames} frames"
        )
    excluded = find_excluded(edit, edit_path, site, runner)
    video, plan = (os.path.relpath(file, out.parent) for file in (trailer, edit_path))
    page = draw_report(
        edit, measured.report, measured.thumbnails, video, excluded, plan=plan, music=trace_music(edit)
    )
    deliver_text(page, out)


def check_file(path: Path, edit_path: Path | None, site: Site, progress: Callable[[float], None]) -> dict[str, Any]:
    """What `check --json` prints: the gate's measurements of a file, with its edit list or without."""
    from pipeline.editfile import read_edit
    from pipeline.quality import check_trailer
    from pipeline.trailer import quality_table

    edit = read_edit(edit_path) if edit_path is not None else None
    if edit is not None and edit_path is not None:
        config_of(edit, edit_path)
    checked = check_trailer(path, edit, site, progress=progress).report
    progress(1.0)
    return {"file": str(path), "passed": checked.passed, "checks": quality_table(checked)}


def find_excluded(edit: EditList, edit_path: Path, site: Site, runner: LocalRunner) -> dict[str, str] | None:
    """Shot -> why it could not be chosen, by looking at the film again (mostly: reused); None where that is not known."""
    from pipeline.guards import keep_out

    config = config_of(edit, edit_path)
    shots = look_at_shots(edit.film.path, config, site, runner)
    if shots.spans != edit.shots:  # cut otherwise, or by hand: the numbers do not speak of the same shots
        return None
    return {str(number): reason for number, reason in keep_out(shots, config.guards).items()}


def config_of(edit: EditList, path: Path) -> TrailerConfig:
    """The settings that an edit list was made with. Raises InputError for settings that cannot be used."""
    from pipeline.settings import parse_config

    try:
        return parse_config(edit.config)
    except InputError as error:
        raise InputError(f"{path} cannot be used as an edit list: {error}") from error


def finite(value: Any) -> Any:
    """The same value with infinities and NaN as text: JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


def draw_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned columns of text."""
    if not rows:
        return "nothing"
    cells = [[str(name) for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    numeric = [all(type(row[name]) in (int, float) for row in rows) for name in rows[0]]
    lines = []
    for line in cells:
        columns = [
            text.rjust(w) if right else text.ljust(w) for text, w, right in zip(line, widths, numeric, strict=True)
        ]
        lines.append("  ".join(columns).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return str(value)
