"""Draw the parts of the storyboard that show the film: where the shots come from, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from pipeline.coverage import PARTS, PUBLISHED, measure_coverage
from pipeline.guards import TWIN_OF
from pipeline.records import EditList
from pipeline.storyboard_page import clock, draw_table, show


def draw_coverage(edit: EditList, excluded: Mapping[str, str]) -> str:
    """The trailer above, the film below, a line from each slot to where its shot lies; the shares of the film's parts."""
    film, frames = edit.film, edit.output.frames

    def across(second: float) -> float:
        return 1000 * (second - film.start) / film.duration

    left_out = "".join(
        f'<rect x="{across(span.start):.1f}" y="104" height="12" '
        f'width="{max(1.0, 1000 * span.duration / film.duration):.1f}"/>'
        for span in (edit.shots[int(shot)] for shot in excluded)
    )
    links, marks = [], []
    for cut in edit.cuts:
        span = edit.shots[cut.shot]
        top = 1000 * (cut.start_frame + cut.frames / 2) / frames
        below = across((cut.source.start + cut.source.end) / 2)
        links.append(f'<path data-slot="{cut.slot}" d="M{top:.1f} 8C{top:.1f} 55 {below:.1f} 45 {below:.1f} 90"/>')
        width = max(3.0, 1000 * span.duration / film.duration)
        marks.append(f'<rect x="{across(span.start):.1f}" y="90" width="{width:.1f}" height="14"/>')
    edges = "".join(f"M{1000 * piece.start_frame / frames:.1f} 0V8" for piece in edit.pieces)
    return (
        '<svg class="map" viewBox="0 0 1000 116" preserveAspectRatio="none" role="img" aria-label="Where each slot’s shot '
        'lies in the film, from its start to its end; the table below has the figures">'
        '<rect class="ground" x="0" y="0" width="1000" height="8"/>'
        '<rect class="ground" x="0" y="90" width="1000" height="26"/>'
        f'<path class="cuts" d="{edges}"/><g class="links">{"".join(links)}</g><g class="used">{"".join(marks)}</g>'
        f'<g class="out">{left_out}</g></svg>'
        f'<p class="axis" aria-hidden="true"><span>{clock(film.start)}</span><span>the film</span>'
        f"<span>{clock(film.start + film.duration)}</span></p>"
        '<p class="key"><span class="used">used</span> <span class="out">could not be chosen</span> '
        "Above the trailer, below the film, each from its start to its end.</p>"
        f"{_draw_parts(edit)}{_draw_sources(edit)}"
    )


def _draw_parts(edit: EditList) -> str:
    coverage = measure_coverage(edit)
    rows = []
    for (first, last), count, share, usual in zip(
        pairwise(PARTS), coverage.counts, coverage.shares, PUBLISHED, strict=True
    ):
        begin, end = (clock(edit.film.start + part * edit.film.duration) for part in (first, last))
        rows.append(
            f'<tr><th scope="row">{100 * first:g} – {100 * last:g} %</th><td>{begin} – {end}</td><td>{count}</td>'
            f"<td>{_draw_share(share)}</td><td>{_draw_share(usual)}</td></tr>"
        )
    head = ("Part of the film", "From – to", "Shots", "Share", "Usual in trailers")
    return (
        f"{draw_table(head, rows, 'Shares of the film’s parts')}"
        f"<p>{100 * coverage.distance:.0f} % of the shots would have to come from elsewhere for the usual shares.</p>"
    )


def _draw_share(share: float) -> str:
    figure = f"{100 * share:.0f} %"
    return (
        f'<span class="figure">{figure}</span> <svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect width="100" height="8" class="ground"/><rect width="{100 * share:.1f}" height="8"/></svg>'
    )


def _draw_sources(edit: EditList) -> str:
    rows = [
        f'<tr><th scope="row"><a href="#slot-{cut.slot}">slot {cut.slot}</a></th><td>{cut.shot}</td>'
        f"<td>{clock(cut.source.start)} – {clock(cut.source.end)}</td></tr>"
        for cut in edit.cuts
    ]
    table = draw_table(("Slot", "Shot", "In the film"), rows, "Where each slot’s shot comes from")
    return f"<details><summary>Slot by slot</summary>{table}</details>"


def draw_left_out(edit: EditList, excluded: Mapping[str, str] | None) -> str:
    """What could not be chosen, grouped by its reason."""
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
        f"<details><summary>{show(kind)}: {len(times)}</summary><p>{show(' · '.join(times))}</p></details>"
        for kind, times in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    )
    seconds = sum(edit.shots[int(shot)].duration for shot in excluded)
    return (
        f"<p>{len(excluded)} of {len(edit.shots)} shots could not be chosen, {100 * seconds / edit.film.duration:.0f} % "
        f"of the film. Film times:</p>{folds}"
    )
