"""Find where a film's story begins and ends: after its logos and opening titles, before its end credits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.blends import find_runs
from pipeline.glances import Glances, find_zones
from pipeline.lettering import LETTERS
from pipeline.records import F32, F64, Analysis, Bool, Span

BLACK_RUN = 0.1  # s; shorter darkness is a flash, not a fade
BLACK_LUMA, BLACK_DEVIATION = 20.0, 12.0  # a dark picture with more contrast than this shows something
CARD_LETTERS = 4  # a row of so many on a plain ground is lettering
LETTERS_IN_STORY = 24  # foliage and fences reach 20 now and then
TITLE_STANDS = (0.4, 2.5)  # s; fewer marks than these count where they are seen again after so long, and not longer
OPENING_GAP = 25.0  # s between two opening titles, or before the first; a title after more than that ends a cold open
LOGO_MOST = 15.0  # s; studio logos last 3 to 12
CREDITS_GAP = 6.0  # s without lettering that credits may have
CREDITS_LEAST = 6.0  # s of lettering that count as credits
CREDITS_DENSE = 0.45  # of the pictures in them; over moving pictures a third of the names are not seen
CREDITS_OVER_STORY = 3.0  # as dense as what is taken for lettering amid the story: signs, intertitles, patterns
CREDITS_REST = 0.5  # of the film from there on, lettered: then it is credits, whatever stands between them
CREDITS_AFTER = 0.12  # of the film: credits over pictures may have scenes after them, so long
CARDS_IN_STORY = 3  # a film with so many lettered cards amid its story has intertitles: silent, or in chapters


def is_black(luma: F32) -> Bool:
    """(n,) whether pictures of this luma, (n, 2) mean and deviation, are black."""
    return (luma[:, 0] < BLACK_LUMA) & (luma[:, 1] < BLACK_DEVIATION)


def find_black(analysis: Analysis) -> list[Span]:
    """The film's black stretches, on its clock, without flashes."""
    spans = []
    for first, last in find_runs(is_black(analysis.luma)):
        until = float(analysis.times[last]) if last < len(analysis.times) else analysis.film.end
        if until - analysis.times[first] >= BLACK_RUN:
            spans.append(Span(float(analysis.times[first]), until))
    return spans


def find_lettering(glances: Glances) -> Bool:
    """(k,) which glances show lettering: many marks in rows, or some on a plain ground, or fewer that stand a while."""
    sure = (glances.letters >= LETTERS_IN_STORY) | (glances.card & (glances.letters >= CARD_LETTERS))
    likely = (glances.letters >= LETTERS) | glances.logo
    marks = glances.times[likely | sure]
    first, last = (np.searchsorted(marks, glances.times + step) for step in TITLE_STANDS)
    latest, earliest = (np.searchsorted(marks, glances.times - step, "right") for step in TITLE_STANDS)
    again = (last > first) | (latest > earliest)
    return np.asarray(sure | (likely & again), np.bool_)


def find_story(analysis: Analysis, spans: Sequence[Span], glances: Glances) -> tuple[float, float]:
    """Where the story begins and ends on the film's clock, at the edges of shots. spans: the shots.

    It begins after the last of the logos and titles that follow one another closely from the film's start, and it ends where
    the end credits begin: what follows them belongs to them.
    """
    lettered = find_lettering(glances)
    begin = _find_opening(analysis, glances, lettered)
    end = _find_credits(analysis, glances, lettered)
    opening = next((s.end for s in spans if s.end >= begin), spans[-1].end) if begin > analysis.film.start else begin
    credits = next((s.start for s in reversed(spans) if s.start <= end), end) if end < analysis.film.end else end
    return min(opening, credits), credits


def _find_opening(analysis: Analysis, glances: Glances, lettered: Bool) -> float:
    """When the last logo or title of the opening is seen, s; the film's start where there is none."""
    until, _ = find_zones(analysis)
    marks = [float(time) for time in glances.times[lettered & (glances.times < until)]]
    marks += _find_logos(analysis, glances, until)
    begin = analysis.film.start
    for mark in sorted(marks):
        if mark - begin > OPENING_GAP:
            break
        begin = mark
    return begin


def _find_logos(analysis: Analysis, glances: Glances, until: float) -> list[float]:
    """The ends of what stands between the black stretches at the film's start on a plain ground: logos, lettered or not."""
    black = find_black(analysis)
    ends: list[float] = []
    at = analysis.film.start
    for span in black:
        if span.start >= until or span.start - at > LOGO_MOST:
            break
        inside = (glances.times >= at) & (glances.times < span.start)
        if span.start - at > BLACK_RUN:
            if not glances.card[inside].any():
                break
            ends.append(span.start)
        at = span.end
    return ends


def _find_credits(analysis: Analysis, glances: Glances, lettered: Bool) -> float:
    """When the end credits begin, s; the film's end where there are none."""
    film = analysis.film
    _, since = find_zones(analysis)
    late = glances.times >= since
    times, shown, card = glances.times[late], lettered[late], glances.card[late]
    if not len(times):
        return film.end
    dark = _is_dark(analysis, times)
    held = np.diff(np.append(times, film.end))  # s that each of them stands for
    tail = _find_tail(times, shown | dark | card, shown | card)
    early = (glances.times < since) & (glances.times >= find_zones(analysis)[0])
    silent = int((lettered & glances.card & early).sum()) >= CARDS_IN_STORY
    usual = float(lettered[early].mean()) if early.any() else 0.0
    least = max(CREDITS_DENSE, min(1.0, CREDITS_OVER_STORY * usual))
    marks = np.flatnonzero(shown)
    breaks = np.flatnonzero(np.diff(times[marks]) > CREDITS_GAP) if len(marks) else np.zeros(0, np.int64)
    for block in np.split(marks, breaks + 1):
        if not len(block) or times[block[0]] >= tail:
            break
        first, last = int(block[0]), int(block[-1])
        within = slice(first, last + 1)
        length = held[within].sum()
        dense = shown[within].sum() / max(1, (~dark[within] | shown[within]).sum()) >= least
        rest = held[first:][shown[first:] | dark[first:]].sum() / held[first:].sum()
        plain = bool(card[block].mean() > 0.5 or dark[within].mean() > 0.5 or _on_black(analysis, times[block]))
        if length < CREDITS_LEAST or not dense:
            continue
        if rest >= CREDITS_REST or (plain and not silent) or film.end - times[first] <= CREDITS_AFTER * film.duration:
            return float(times[first])
    return tail if tail < np.inf else film.end


def _find_tail(times: F64, idle: Bool, marked: Bool) -> float:
    """When the film's last stretch begins that shows nothing but cards, lettering and black; infinity where it has none."""
    first = len(times)
    while first and idle[first - 1]:
        first -= 1
    marks = np.flatnonzero(marked[first:])
    return float(times[first + marks[0]]) if len(marks) else np.inf


def _is_dark(analysis: Analysis, times: F64) -> Bool:
    """(n,) whether the film is black at these times."""
    return is_black(analysis.luma)[np.clip(np.searchsorted(analysis.times, times), 0, len(analysis.times) - 1)]


def _on_black(analysis: Analysis, times: F64) -> bool:
    """Whether the pictures at these times are mostly dark, as those of a roll are."""
    luma = analysis.luma[np.clip(np.searchsorted(analysis.times, times), 0, len(analysis.times) - 1), 0]
    return bool(np.median(luma) < 2 * BLACK_LUMA)


def fade_edges(analysis: Analysis) -> list[int]:
    """First picture of each dark stretch, and first after it."""
    edges = []
    for span in find_black(analysis):
        edges += [int(np.searchsorted(analysis.times, time)) for time in (span.start, span.end)]
    return [edge for edge in edges if 0 < edge < len(analysis.times)]
