"""Draw the storyboard: the contact sheet, and one self-contained HTML page about a trailer."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from urllib.parse import quote

import cv2
import numpy as np

from pipeline.coverage import PARTS, PUBLISHED, measure_coverage
from pipeline.guards import TWIN_OF
from pipeline.records import U8, Cut, EditList, QualityReport

ENCODER_KEYS = ("encoder", "encoder_licence", "encoder_weights")  # older edit lists have the first alone
SHEET_COLUMNS = 8
SHEET_PICTURE = 200  # px wide
SHEET_MOST_BYTES = 210_000  # Prefect keeps the sheet in its database: under 300 kB as base64

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bad: #c62828; --good: #2e7d32; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { margin: .2rem 0; } h2 { margin-top: 2rem; }
video { width: 100%; max-height: 70vh; background: #000; border-radius: .4rem; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; padding: 0;
  list-style: none; }
.sheet li { border: 1px solid var(--line); border-radius: .4rem; overflow: hidden; font-size: .8rem; }
.sheet img { width: 100%; display: block; background: #000; } .sheet p { margin: 0; padding: .3rem .5rem; }
.sheet .caption { opacity: .75; padding-top: 0; }
.bar { height: .3rem; background: var(--soft); } .bar i { display: block; height: 100%; background: #3f7fd0; }
.strip { position: relative; height: 2.2rem; background: var(--soft); border-radius: .3rem; }
.strip i { position: absolute; top: 0; bottom: 0; background: #3f7fd0; min-width: 2px; border-radius: 1px; }
.strip i.out { background: #c6282899; top: 70%; }
details { border-bottom: 1px solid var(--line); padding: .2rem 0; } details p { margin: .2rem 1rem; opacity: .85; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
.failed { color: var(--bad); font-weight: 600; } .passed { color: var(--good); }
.warning { border-left: .3rem solid #f9a825; padding: .2rem .8rem; background: var(--soft); }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; border-radius: .3rem; }
"""


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


def clock(seconds: float) -> str:
    """1:02:03.4, with every figure in its place."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest // 10:02d}.{rest % 10}" if hours else f"{minutes}:{rest // 10:02d}.{rest % 10}"


def draw_report(
    edit: EditList,
    quality: QualityReport,
    thumbnails: Sequence[U8],
    video: str,
    excluded: Mapping[str, str] | None,
) -> str:
    """The page. video: the trailer's file name beside it. excluded: shot -> why it could not be chosen; none: not known."""
    title = html.escape(edit.title or "Trailer")
    length = clock(float(edit.output.frames / edit.output.frame_rate))
    facts = (
        f"{length} · {len(edit.cuts)} shots · {edit.output.width}×{edit.output.height} at "
        f"{float(edit.output.frame_rate):.3f} frames/s · seed {edit.seed} · QC "
        + ('<span class="passed">passed</span>' if quality.passed else '<span class="failed">failed</span>')
    )
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in edit.warnings)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: trailer</title><style>{STYLE}</style></head><body>
<h1>{title}</h1><p>{facts}</p>
<video controls preload="metadata" src="{html.escape(quote(video))}"></video>
{warnings}
<h2>Shots in order</h2><ol class="sheet">{_sheet_items(edit, thumbnails)}</ol>
<h2>Lines in order</h2>{_lines(edit)}
<h2>Where they come from</h2>{_coverage(edit, excluded or {})}
<h2>Left out</h2>{_left_out(edit, excluded)}
<h2>Quality</h2><table><tr><th>check</th><th>measured</th><th>limit</th><th></th></tr>{_quality_rows(quality)}</table>
<h2>Made with</h2><table>{_made_with(edit)}</table>
</body></html>
"""


def _sheet_items(edit: EditList, thumbnails: Sequence[U8]) -> str:
    items = []
    for piece, thumbnail in zip(edit.pieces, thumbnails, strict=True):
        at = clock(float(piece.start_frame / edit.output.frame_rate))
        picture = base64.b64encode(bytes(thumbnail)).decode()
        if isinstance(piece, Cut):
            text = f"<b>{piece.slot + 1}</b> · {at}<br>shot {piece.shot} at {clock(piece.source.start)}"
            text += _how_shown(piece, edit.output.frame_rate)
            shown = piece.caption
            label, bar = (
                f"slot {piece.slot + 1}, shot {piece.shot}",
                f'<i style="width:{100 * piece.confidence:.0f}%"></i>',
            )
        else:
            text, label, bar = f"{at}<br>card", f"card: {piece.text}", ""
            shown = piece.note
        caption = f'<p class="caption">{html.escape(shown)}</p>' if shown else ""
        items.append(
            f'<li><img alt="{html.escape(label, quote=True)}" src="data:image/jpeg;base64,{picture}">'
            f'<div class="bar" title="confidence">{bar}</div><p>{text}</p>{caption}</li>'
        )
    return "".join(items)


def _how_shown(cut: Cut, frame_rate: Fraction) -> str:
    """What was done to a cut beyond cutting it."""
    ways = []
    if cut.pinned:
        ways.append("pinned")
    if cut.speed < 1:
        ways.append(f"slowed down to {100 * cut.speed:.0f} %")
    if cut.dissolve:
        ways.append(f"dissolves in over {float(cut.dissolve / frame_rate):.2f} s")
    if not cut.sound:
        ways.append("without its sound")
    return f"<br>{', '.join(ways)}" if ways else ""


def _lines(edit: EditList) -> str:
    source = html.escape(str(edit.models.get("lines", "")))
    if not edit.narration:
        return f"<p>None.{f' Lines of the film: {source}.' if source else ''}</p>"
    rows = []
    for placed in edit.narration:
        at, end = (float(placed.start_frame / edit.output.frame_rate) + s for s in (0.0, placed.span.duration))
        heard = clock(placed.span.start) if placed.voice is None else placed.voice.name
        rows.append(
            f"<tr><td>{clock(at)} – {clock(end)}</td><td>{placed.slot + 1}</td><td>{html.escape(placed.text)}</td>"
            f"<td>{html.escape(heard)}</td><td>{placed.similarity:.2f}</td></tr>"
        )
    head = "<tr><th>heard</th><th>from slot</th><th>line</th><th>in the film</th><th>goes with the shot</th></tr>"
    return f"<table>{head}{''.join(rows)}</table><p>Lines of the film: {source}.</p>"


def _coverage(edit: EditList, excluded: Mapping[str, str]) -> str:
    start, length = edit.film.start, edit.film.duration
    marks = []
    for number, css in [(int(shot), ' class="out"') for shot in excluded] + [(cut.shot, "") for cut in edit.cuts]:
        span = edit.shots[number]
        left, width = 100 * (span.start - start) / length, 100 * span.duration / length
        marks.append(
            f'<i{css} style="left:{left:.2f}%;width:{width:.2f}%" title="shot {number}, {clock(span.start)}"></i>'
        )
    return (
        f'<div class="strip" role="img" aria-label="the film from start to end; used shots marked">{"".join(marks)}</div>'
        "<p>The film from its start to its end: used shots blue and high, shots that could not be chosen red and low.</p>"
        + _coverage_table(edit)
    )


def _coverage_table(edit: EditList) -> str:
    coverage = measure_coverage(edit)
    rows = []
    for (first, last), count, share, usual in zip(
        pairwise(PARTS), coverage.counts, coverage.shares, PUBLISHED, strict=True
    ):
        begin, end = (clock(edit.film.start + part * edit.film.duration) for part in (first, last))
        rows.append(
            f"<tr><td>{100 * first:g} – {100 * last:g} %</td><td>{begin} – {end}</td><td>{count}</td>"
            f'<td>{100 * share:.0f} %<div class="bar"><i style="width:{100 * share:.0f}%"></i></div></td>'
            f'<td>{100 * usual:.0f} %<div class="bar"><i style="width:{100 * usual:.0f}%"></i></div></td></tr>'
        )
    head = "<tr><th>part of the film</th><th>from – to</th><th>shots</th><th>share</th><th>usual in trailers</th></tr>"
    return (
        f"<table>{head}{''.join(rows)}</table>"
        f"<p>{100 * coverage.distance:.0f} % of the shots would have to come from elsewhere for the usual shares.</p>"
    )


def _left_out(edit: EditList, excluded: Mapping[str, str] | None) -> str:
    if excluded is None:
        return "<p>Not known: the film is cut differently now than when this trailer was planned.</p>"
    if not excluded:
        return "<p>Nothing: every shot could be chosen.</p>"
    groups: dict[str, list[str]] = {}
    for number, reason in sorted((int(shot), reason) for shot, reason in excluded.items()):
        kind, of, other = reason.partition(TWIN_OF)
        at = f"{clock(edit.shots[number].start)} (shot {number}{f', as {other}' if of else ''})"
        groups.setdefault(f"{kind}{of}another" if of else kind, []).append(at)
    folds = "".join(
        f"<details><summary>{html.escape(kind)}: {len(times)}</summary><p>{html.escape(' · '.join(times))}</p></details>"
        for kind, times in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    )
    seconds = sum(edit.shots[int(shot)].duration for shot in excluded)
    return (
        f"<p>{len(excluded)} of {len(edit.shots)} shots could not be chosen, {100 * seconds / edit.film.duration:.0f} % "
        f"of the film. Film times:</p>{folds}"
    )


def _quality_rows(quality: QualityReport) -> str:
    rows = []
    for check in quality.checks:
        verdict = '<td class="passed">passed</td>' if check.passed else '<td class="failed">failed</td>'
        value = f"{check.value:g}" if isinstance(check.value, float) else check.value
        rows.append(
            f"<tr><td>{html.escape(check.name)}</td><td>{html.escape(value)}</td><td>{html.escape(check.limit)}</td>{verdict}</tr>"
        )
    return "".join(rows)


def _made_with(edit: EditList) -> str:
    models = edit.models
    rows = {
        "film": f"{edit.film.path} ({edit.film.fingerprint[:12]})",
        "music": f"{edit.music.path} ({edit.music.fingerprint[:12]})",
        "encoder": ", ".join(str(models[key])[:64] for key in ENCODER_KEYS if models.get(key)),
        "shot detector": str(models.get("detector", "")),
        "lines": str(models.get("lines", "")),
        "lines chosen by": str(models.get("chooser", "")),
        "captions": str(models.get("captioner", "")),
        "selector": " ".join(str(v)[:24] for v in dict(edit.models.get("selector", {})).values()),
        "version": edit.version,
    }
    return "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items() if value)
