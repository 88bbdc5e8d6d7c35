"""Draw the storyboard: the contact sheet, and one self-contained HTML page about a trailer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.records import U8, Cut, EditList, QualityReport
from pipeline.refine import BANNED
from pipeline.settings import ASSETS, Chooser, TrailerConfig
from pipeline.storyboard import (
    PICTURES_MOST_BYTES,
    Candidate,
    Known,
    collect_data,
    draw_slots,
    draw_timeline,
    fit_pictures,
)
from pipeline.storyboard_film import draw_coverage, draw_left_out
from pipeline.storyboard_page import Places, clock, draw_table, embed_data, fill_page, link_file, show

ENCODER_KEYS = ("encoder", "encoder_licence", "encoder_weights")  # older edit lists have the first alone
SHEET_COLUMNS = 8
SHEET_PICTURE = 200  # px wide
SHEET_MOST_BYTES = 210_000  # Prefect keeps the sheet in its database: under 300 kB as base64


def draw_sheet(thumbnails: Sequence[U8], edit: EditList) -> bytes:
    """A contact sheet as JPEG: one picture a piece in trailer order, with its time and the film's. Under 210 kB."""
    pieces = edit.pieces
    pictures = [np.asarray(cv2.imdecode(t, cv2.IMREAD_COLOR), np.uint8) for t in thumbnails]
    if not pictures:
        raise ValueError("no pictures for a contact sheet")
    tall = round(SHEET_PICTURE * pictures[0].shape[0] / pictures[0].shape[1])
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = np.full((rows * (tall + 16), SHEET_COLUMNS * SHEET_PICTURE, 3), 24, np.uint8)
    for number, (picture, piece) in enumerate(zip(pictures, pieces, strict=True)):
        y, x = number // SHEET_COLUMNS * (tall + 16), number % SHEET_COLUMNS * SHEET_PICTURE
        sheet[y : y + tall, x : x + SHEET_PICTURE] = cv2.resize(
            picture, (SHEET_PICTURE, tall), interpolation=cv2.INTER_AREA
        )
        at = clock(float(piece.start_frame / edit.output.frame_rate))
        label = f"{at}  shot {piece.shot} @ {clock(piece.source.start)}" if isinstance(piece, Cut) else f"{at}  card"
        cv2.putText(
            sheet, label, (x + 3, y + tall + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (230, 230, 230), 1, cv2.LINE_AA
        )
    for quality in (85, 70, 55, 40, 25):
        jpeg = bytes(np.asarray(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], np.uint8))
        if len(jpeg) <= SHEET_MOST_BYTES:
            break
    return jpeg


def draw_report(
    edit: EditList,
    quality: QualityReport,
    thumbnails: Sequence[U8],
    video: str,
    excluded: Mapping[str, str] | None,
    *,
    plan: str | None = None,
    candidates: Mapping[int, Sequence[Candidate]] | None = None,
    remasked: Sequence[int] | None = None,
    music: Sequence[float] | None = None,
) -> str:
    """The page. video: the trailer's file, as a path from the page. excluded: shot -> why it could not be chosen.

    plan: the edit list's file, as a path from the page; none: X.edit.json beside the page of X.mp4. candidates: slot -> its
    next best shots: (shot, probability, picture as JPEG or None), best first. remasked: times that each slot was hidden
    again. music: its loudness over the trailer (trace_music). None: not known, and not shown.
    """
    known = Known(candidates or {}, remasked, music, plan or str(Path(video).with_suffix(".edit.json")))
    places = Places()
    if excluded is not None:
        excluded = {**dict.fromkeys(map(str, edit.banned), BANNED), **excluded}
    title = edit.title or "Trailer"
    length = clock(float(edit.output.frames / edit.output.frame_rate))
    facts = [
        length,
        f"{len(edit.cuts)} shots",
        f"{edit.output.width}×{edit.output.height}",
        f"{float(edit.output.frame_rate):.5g} frames/s",
        f"seed {edit.seed}",
    ]
    verdict = f'<span class="{"passed" if quality.passed else "failed"}">QC {_verdict(quality.passed)}</span>'
    pictures = fit_pictures(thumbnails, PICTURES_MOST_BYTES)
    return fill_page(
        {
            "title": show(title),
            "facts": "".join(f"<li>{show(fact)}</li>" for fact in facts) + f"<li>{verdict}</li>",
            "warnings": _warnings(edit),
            "video": link_file(video),
            "video_name": show(video),
            "timeline": draw_timeline(edit, known, places),
            "slots": draw_slots(edit, pictures, known),
            "seed": str(edit.seed + 1),
            "lines": _lines(edit),
            "coverage": draw_coverage(edit, excluded or {}),
            "left_out": draw_left_out(edit, excluded),
            "quality": _quality_rows(quality),
            "made_with": _made_with(edit),
            "settings": _settings(edit),
            "data": embed_data(collect_data(edit, known)),
        },
        places,
    )


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


def _warnings(edit: EditList) -> str:
    if not edit.warnings:
        return ""
    items = "".join(f"<li>{show(text)}</li>" for text in edit.warnings)
    return f'<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2><ul>{items}</ul></section>'


def _lines(edit: EditList) -> str:
    source = show(edit.models.get("lines", ""))
    if not edit.narration:
        return f"<p>None.{f' Lines of the film: {source}.' if source else ''}</p>"
    rows = []
    for placed in edit.narration:
        at, end = (float(placed.start_frame / edit.output.frame_rate) + s for s in (0.0, placed.span.duration))
        heard = clock(placed.span.start) if placed.voice is None else placed.voice.name
        rows.append(
            f"<tr><td>{clock(at)} – {clock(end)}</td><td>{placed.slot}</td><td><bdi>{show(placed.text)}</bdi></td>"
            f"<td>{show(heard)}</td><td>{placed.similarity:.2f}</td></tr>"
        )
    table = draw_table(("Heard", "From slot", "Line", "In the film", "Goes with the shot"), rows, "Lines in order")
    return f"{table}<p>Lines of the film: {source}.</p>"


def _quality_rows(quality: QualityReport) -> str:
    rows = []
    for check in quality.checks:
        value = f"{check.value:g}" if isinstance(check.value, float) else check.value
        verdict = _verdict(check.passed)
        rows.append(
            f'<tr><th scope="row">{show(check.name)}</th><td>{show(value)}</td><td>{show(check.limit)}</td>'
            f'<td class="{verdict}">{verdict}</td></tr>'
        )
    return draw_table(("Check", "Measured", "Limit", "Verdict"), rows, "What was measured on the finished file")


def _made_with(edit: EditList) -> str:
    models = edit.models
    rows = {
        "film": f"{edit.film.path} ({edit.film.fingerprint[:12]})",
        "music": f"{edit.music.path} ({edit.music.fingerprint[:12]})",
        "music's licence": "CC0, composed by the project" if edit.music.path.parent == ASSETS / "music" else "",
        "encoder": ", ".join(str(models[key])[:64] for key in ENCODER_KEYS if models.get(key)),
        "shot detector": str(models.get("detector", "")),
        "lines": str(models.get("lines", "")),
        "lines chosen by": str(models.get("chooser", "")),
        "captions": str(models.get("captioner", "")),
        "selector": " ".join(str(v)[:24] for v in dict(edit.models.get("selector", {})).values()),
        "seed": str(edit.seed),
        "version": edit.version,
    }
    return _draw_pairs({name: value for name, value in rows.items() if value})


def _settings(edit: EditList) -> str:
    usual = dict(_flatten(TrailerConfig().model_dump(mode="json")))
    given = dict(_flatten(edit.config))
    if given.get("narration.chooser") != Chooser.llm:  # nobody was asked: no address stands in the page
        given = {name: value for name, value in given.items() if not name.startswith("llm.")}
    changed = {name: value for name, value in given.items() if usual.get(name) != value}
    told = _draw_pairs(changed) if changed else "<p>All as they are by default.</p>"
    return (
        f"<h3>Settings that differ from the defaults</h3>{told}"
        f"<details><summary>All {len(given)} settings</summary>{_draw_pairs(given)}</details>"
    )


def _flatten(settings: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


def _draw_pairs(pairs: Mapping[str, Any]) -> str:
    items = "".join(f"<div><dt>{show(n)}</dt><dd><bdi>{show(_tell(v))}</bdi></dd></div>" for n, v in pairs.items())
    return f'<dl class="pairs">{items}</dl>'


def _tell(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
