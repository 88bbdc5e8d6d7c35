"""Make a trailer: the sequence of steps, written once, run by whichever runner is given."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import narration_steps as speaking
from pipeline import steps
from pipeline.choices import check_request
from pipeline.editfile import edit_to_json, read_edit
from pipeline.errors import InputError, TrailerError
from pipeline.media import probe_film, probe_track
from pipeline.music import choose_bed
from pipeline.quality import Measured
from pipeline.records import Analysis, EditList, Film, QualityReport, Selection
from pipeline.refine import Refinement, Request, resolve
from pipeline.report import draw_report, draw_sheet
from pipeline.runner import Runner, StepTime
from pipeline.settings import Site, TrailerConfig
from pipeline.storyboard import Candidate
from pipeline.storyboard_music import trace_music
from pipeline.storyboard_page import clock
from pipeline.subtitles import find_sources, read_source
from pipeline.voicefile import read_voice
from pipeline.workdir import WorkDir, deliver_file, deliver_text

log = logging.getLogger("trailer")

# from here on a file name no longer speaks of the title: year, resolution, source, codec
AFTER_TITLE = re.compile(
    r"[\s(\[]*\b((19|20)\d\d|\d{3,4}x\d{3,4}|\d{3,4}[pi]|4k|uhd|hdr|x26[45]|h26[45]|hevc|bluray|bdrip|brrip|web(rip|dl)?|dvdrip|remux)\b.*",
    re.IGNORECASE,
)


# the plan, its contact sheet as JPEG, whether the gate passed it -> what is to be changed; None: it is handed over
Approve = Callable[[EditList, bytes, bool], Request | None]


class NotApprovedError(TrailerError):
    """A person was asked, and did not want the trailer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was made. trailer: the file, or where it was put aside when the gate refused it."""

    trailer: Path
    edit: Path
    report: Path
    qc: Path
    duration: float
    slots: int
    passed: bool
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    steps: tuple[StepTime, ...]


def make_trailer(
    film_path: Path,
    config: TrailerConfig,
    site: Site,
    runner: Runner,
    *,
    music: Path | None = None,
    out: Path | None = None,
    subtitles: Path | None = None,
    voice: Path | None = None,
    refinement: Refinement | None = None,
    approve: Approve | None = None,
) -> Outcome:
    """Film in, trailer out: `out` (default: <film>-trailer.mp4 here) with its .edit.json, .report.html and .qc.json.

    music: track; none: the bundled bed that fits the film. subtitles: file with the film's lines; none: one beside the film,
    or in it. voice: file of recordings that are heard instead of the film's own voices (voicefile.read_voice).
    refinement: what a person keeps of an earlier trailer of this film, with this track and these settings.
    approve: asks a person before anything is handed over; what they ask for is filled again, and they are asked again.
    Nothing appears at a final name before it is whole; what the gate refuses lies beside it as X.rejected.*. Raises
    TrailerError for what a user can mend.
    """
    film = probe_film(film_path)
    out = check_out(out or name_trailer(film_path), film_path, music)
    track = probe_track(music) if music is not None else None
    steps.ffmpeg_at(site)
    check_request(config, site)
    if config.narration.enabled:
        check_voice(film, config, subtitles, voice)
    elif voice is not None:
        raise InputError(f"{voice} says what the trailer is to say, and narration is off: leave out one of the two")
    work = WorkDir(site.work_dir, film.fingerprint)
    title = config.title or title_from_name(film_path.stem)

    analysis = runner.step("analysis", steps.analyse, work, film, config, site, runner.spread)
    shots = runner.step("shots", steps.find_shots, work, analysis, config)
    seen = analysis.load()
    room = steps.find_room(
        seen, shots.load(), config
    )  # first: a film of too few shots is refused before the long steps
    features = runner.step("features", steps.encode, work, analysis, shots, config, site)
    if track is None:
        luma, motion = steps.mean_look(seen)
        track = probe_track(choose_bed(luma=luma, motion=motion))
    segments = runner.step("music", steps.segment, work, track, config, room)
    while True:
        selection = runner.step(
            "selection", steps.select, work, analysis, shots, features, segments, config, site, refinement
        )
        lines = script = captions = narration = None
        if config.narration.enabled:
            lines = runner.step("lines", speaking.find_lines, work, film, config, site, subtitles)
            placed = refinement is not None and refinement.narration is not None
            if not placed and (len(lines.load()) or voice is not None):
                script = runner.step(
                    "script",
                    speaking.write_script,
                    work,
                    film,
                    lines,
                    analysis,
                    shots,
                    segments,
                    config,
                    title,
                    voice,
                )
                captions = runner.step(
                    "captions",
                    speaking.caption,
                    work,
                    analysis,
                    shots,
                    features,
                    lines,
                    script,
                    selection,
                    config,
                    site,
                )
                narration = runner.step(
                    "narration", speaking.narrate, work, analysis, shots, segments, script, captions, config
                )
        edit = runner.step(
            "edit",
            steps.make_edit,
            work,
            film,
            track,
            analysis,
            shots,
            segments,
            selection,
            lines,
            script,
            captions,
            narration,
            config,
            site,
            title,
            refinement,
        )
        plan = edit.load()
        for warning in plan.warnings:
            log.warning(warning)
        runner.show_table("shots", shot_table(plan), "Shots in order")
        if plan.narration:
            runner.show_table("lines", line_table(plan), "Lines in order")
        rendered = runner.step("render", steps.render, work, edit, site)
        measured = runner.step("quality", steps.check, work, edit, rendered, site).load()
        sheet = draw_sheet(measured.thumbnails, plan)
        runner.show_picture("contact-sheet", sheet, f"Contact sheet: {title}")
        request = approve(plan, sheet, measured.report.passed) if approve is not None else None
        if request is None:
            break
        refinement = resolve(plan, request)
        if request.reseed is not None:
            config = config.model_copy(update={"seed": request.reseed})

    file = work.folder / rendered.load().name
    chosen = selection.load()
    outcome = hand_over(
        plan,
        measured,
        chosen.excluded,
        file,
        out,
        runner.times,
        remasked=chosen.remasked,
        candidates=picture_runners_up(chosen, plan, seen),
    )
    runner.show_table("quality", quality_table(measured.report), "Quality")
    runner.show_table(
        "timing", [{"step": t.name, "seconds": round(t.seconds, 2), "reused": t.reused} for t in runner.times], "Timing"
    )
    results = {"trailer": outcome.trailer, "report": outcome.report, "edit list": outcome.edit}
    runner.show_files("result", results, title)
    return outcome


def picture_runners_up(chosen: Selection, plan: EditList, seen: Analysis) -> dict[int, list[Candidate]]:
    """For each slot the shots that it could have had, with a picture of each: the sampled one nearest to its middle."""
    told: dict[int, list[Candidate]] = {}
    for slot, runners in enumerate(chosen.runners_up):
        told[slot] = []
        for shot, p in runners:
            span = plan.shots[shot]
            picture = None
            if len(seen.sample_times):
                nearest = int(np.abs(seen.sample_times - (span.start + span.end) / 2).argmin())
                if span.start <= seen.sample_times[nearest] < span.end:
                    first, last = seen.sample_offsets[nearest : nearest + 2]
                    picture = np.asarray(seen.sample_bytes[first:last], np.uint8)
            told[slot].append((shot, p, picture))
    return told


def hand_over(
    plan: EditList,
    measured: Measured,
    excluded: Mapping[str, str] | None,
    rendered: Path,
    out: Path,
    times: Sequence[StepTime],
    *,
    given: Path | None = None,
    remasked: Sequence[int] | None = None,
    candidates: Mapping[int, Sequence[Candidate]] | None = None,
) -> Outcome:
    """Lay down the trailer with its edit list, report and measurements; all four aside, as X.rejected.*, if it failed.

    given: the edit list's own file, where the plan came from one: never written over. remasked, candidates: as draw_report
    shows them.
    """
    final = out if measured.report.passed else out.with_name(f"{out.stem}.rejected.mp4")
    edit, report, qc = (final.with_name(f"{final.stem}.{name}") for name in ("edit.json", "report.html", "qc.json"))
    if given is None or not (edit.exists() and edit.samefile(given)):
        deliver_text(edit_to_json(plan), edit)
    deliver_text(quality_to_json(measured.report), qc)
    page = draw_report(
        plan,
        measured.report,
        measured.thumbnails,
        final.name,
        excluded,
        candidates=candidates,
        remasked=remasked,
        music=trace_music(plan),
    )
    deliver_text(page, report)
    deliver_file(rendered, final)  # last: what has this name is whole in every part
    return Outcome(
        trailer=final,
        edit=edit,
        report=report,
        qc=qc,
        duration=float(plan.output.frames / plan.output.frame_rate),
        slots=len(plan.cuts),
        passed=measured.report.passed,
        failures=tuple(c.name for c in measured.report.checks if not c.passed),
        warnings=plan.warnings,
        steps=tuple(times),
    )


def name_trailer(film: Path) -> Path:
    """The trailer's file where none is named: in the folder of the process."""
    return Path(f"{film.stem}-trailer.mp4")


def check_voice(film: Film, config: TrailerConfig, subtitles: Path | None, voice: Path | None) -> None:
    """Refuse, before any long work, what the user named and cannot be used. Raises InputError."""
    if subtitles is not None:
        for source in find_sources(film, config.lines, subtitles, heard=config.sound.language):
            read_source(source)
    if voice is not None:
        read_voice(voice, None)


def check_out(out: Path, film: Path, music: Path | None) -> Path:
    """The absolute path to write to. Raises InputError where writing there would lose something or cannot work."""
    if out.suffix.lower() != ".mp4":
        raise InputError(f"--out {out} must end in .mp4")
    out = Path(out).absolute()
    for source, what in ((film, "film"), (music, "track")):
        if source is not None and out.exists() and out.samefile(source):
            raise InputError(f"--out {out} is the {what} itself; choose another name")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file")
    if out.exists() and out.stat().st_size > 0 and not _is_ours(out):
        raise InputError(
            f"{out} exists and was not made by this program (no edit list beside it); choose another --out"
        )
    return out


def _is_ours(out: Path) -> bool:
    try:
        read_edit(out.with_name(f"{out.stem}.edit.json"))
    except InputError:
        return False
    return True


def title_from_name(stem: str) -> str:
    """`big_buck_bunny_640x360` -> `Big Buck Bunny`; a name that is nothing but tags is left as it is."""
    words = re.sub(r"[._]+", " ", stem).strip()
    title = AFTER_TITLE.sub("", words).strip(" -") or words
    return title if any(c.isupper() for c in title) else title.title()


def shot_table(edit: EditList) -> list[dict[str, Any]]:
    """One row a cut, for a table."""
    return [
        {
            "slot": cut.slot,
            "at": clock(float(cut.start_frame / edit.output.frame_rate)),
            "seconds": round(float(cut.frames / edit.output.frame_rate), 2),
            "shot": cut.shot,
            "film time": clock(cut.source.start),
            "confidence": round(cut.confidence, 2),
        }
        for cut in edit.cuts
    ]


def line_table(edit: EditList) -> list[dict[str, Any]]:
    """One row a line, for a table."""
    return [
        {
            "at": clock(float(placed.start_frame / edit.output.frame_rate)),
            "seconds": round(placed.span.duration, 2),
            "slot": placed.slot,
            "line": placed.line,
            "text": placed.text,
            "from": clock(placed.span.start) if placed.voice is None else placed.voice.name,
            "similarity": round(placed.similarity, 2),
        }
        for placed in edit.narration
    ]


def quality_table(report: QualityReport) -> list[dict[str, Any]]:
    """One row a check, for a table."""
    return [
        {"check": c.name, "measured": _figure(c.value), "limit": c.limit, "passed": c.passed} for c in report.checks
    ]


def _figure(value: float | str) -> float | str:
    """JSON has no infinity: silence measures -inf LUFS."""
    return value if isinstance(value, str) or math.isfinite(value) else str(value)


def quality_to_json(report: QualityReport) -> str:
    """X.qc.json."""
    return json.dumps({"passed": report.passed, "checks": quality_table(report)}, indent=1) + "\n"
