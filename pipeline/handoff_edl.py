"""Write a hand-off as an EDL, CMX 3600: one event a line, time codes only, and comments for what that cannot say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from pipeline.handoff import MARK, Handoff, Item, Mark, TrackPlan, tell_rounding, tell_unmixed
from pipeline.handoff_media import Medium
from pipeline.timecode import format_timecode, nominal_rate

BLACK = "BL"  # the reel of what comes from no tape
MOST_EVENTS, MOST_DISSOLVE, MOST_SOUNDS = 999, 255, 4
COLOURS = {"beat": "GREEN", "line": "YELLOW"}


@dataclass(frozen=True, slots=True)
class _Event:
    item: Item
    channel: str
    before: Item | None  # what it dissolves out of


def write_edl(handoff: Handoff) -> tuple[str, list[str]]:
    """The list's text, and what it does not carry."""
    events = _list_events(handoff)
    lines = [f"TITLE: {_flatten(handoff.title)}", f"FCM: {'DROP FRAME' if handoff.drop else 'NON-DROP FRAME'}", ""]
    for number, event in enumerate(events, 1):
        marks = handoff.marks if event.channel == "V" else ()
        lines += [*_write_event(number, event, handoff, marks), ""]
    lines.insert(-1, f"* {MARK} {handoff.version}: {_flatten(handoff.edit_name)}")  # as a comment of the last event
    return "\n".join(lines), _tell_left(handoff, events)


def _list_events(handoff: Handoff) -> list[_Event]:
    """In the order in which they are recorded, picture before sound."""
    tracks: list[tuple[str, TrackPlan]] = [("V", handoff.picture)]
    tracks += [("A" if n == 0 else f"A{n + 1}", track) for n, track in enumerate(handoff.sounds[:MOST_SOUNDS])]
    events = []
    for channel, track in tracks:
        for before, item in zip((None, *track.items), track.items, strict=False):
            events.append(_Event(item, channel, before if item.dissolve else None))
    return sorted(events, key=lambda event: (event.item.start, event.channel != "V", event.channel))


def _write_event(number: int, event: _Event, handoff: Handoff, marks: tuple[Mark, ...]) -> list[str]:
    item, rate = event.item, handoff.rate
    record = [_record(handoff, frame) for frame in (item.start, item.end)]
    source = _find_source(item, rate)
    reel = BLACK if item.medium is None else item.medium.reel
    lines = []
    if event.before is not None:
        before = event.before
        edge = _find_source(before, rate)[1]
        left = BLACK if before.medium is None else before.medium.reel
        lines.append(_write_line(number, left, event.channel, "C", [edge, edge, record[0], record[0]]))
        length = f"D    {min(item.dissolve, MOST_DISSOLVE):03d}"
        lines.append(_write_line(number, reel, event.channel, length, [*source, *record]))
        lines += [f"* FROM CLIP NAME:  {_flatten(before.name)}", f"* TO CLIP NAME:  {_flatten(item.name)}"]
    else:
        lines.append(_write_line(number, reel, event.channel, "C", [*source, *record]))
        lines.append(f"* FROM CLIP NAME:  {_flatten(item.name)}")
    if item.medium is not None:
        lines.append(f"* FROM FILE: {_flatten(_name_file(item.medium))}")
    if item.speed != 1:  # readers take this line by its columns, and colons only
        lines.append(f"M2   {reel:8}       {item.speed * nominal_rate(rate):05.1f}                {_colons(source[0])}")
    if item.medium is None:
        lines.append(f"* TITLE: {_flatten(item.text)}")
        lines += [f"* SUBTITLE: {_flatten(item.note)}"] if item.note else []
    for mark in marks:
        if item.start <= mark.frame < item.end:
            lines.append(f"* LOC: {_record(handoff, mark.frame)} {COLOURS[mark.kind]:7} {_flatten(mark.name)}")
    return lines


def _write_line(number: int, reel: str, channel: str, kind: str, codes: list[str]) -> str:
    return f"{number:03d}  {reel:8} {channel:5} {kind:8} {' '.join(codes)}"


def _record(handoff: Handoff, frame: int) -> str:
    return format_timecode(handoff.start + frame, handoff.rate, drop=handoff.drop)


def _find_source(item: Item, rate: Fraction) -> list[str]:
    """Time codes of a source's in and out, by the source's own count, at the list's rate: an EDL knows one."""
    medium = item.medium
    if medium is None:
        return [format_timecode(frame, rate) for frame in (0, item.frames)]
    begin = medium.first + item.source
    if medium.rate != rate:
        begin = math.floor(Fraction(medium.first * nominal_rate(rate), nominal_rate(medium.rate)))
        begin += math.floor(item.source * rate / medium.rate + Fraction(1, 100))
    drop = medium.drop and medium.rate == rate
    frames = math.ceil(item.frames * Fraction(item.speed).limit_denominator(10**4))
    return [format_timecode(frame, rate, drop=drop) for frame in (begin, begin + frames)]


def _name_file(medium: Medium) -> str:
    """A path, as an EDL has no addresses."""
    from urllib.parse import unquote

    return str(medium.path) if medium.url.startswith("file:") else unquote(medium.url)


def _colons(code: str) -> str:
    return code.replace(";", ":")


def _flatten(text: str) -> str:
    """On one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _tell_left(handoff: Handoff, events: list[_Event]) -> list[str]:
    left = []
    if any(item.medium is None for item in handoff.picture.items):
        left.append("the cards' lettering (black, with the text as a comment)")
    if any(item.fade_out for track in handoff.sounds for item in track.items):
        left.append("the music's fade")
    if any(item.dissolve > MOST_DISSOLVE for item in handoff.picture.items):
        left.append(f"dissolves of more than {MOST_DISSOLVE} frames")
    if any(item.speed != 1 for item in handoff.picture.items):
        left.append(f"speeds finer than a tenth of a frame a second of {nominal_rate(handoff.rate)} (M2)")
    if len(handoff.sounds) > MOST_SOUNDS:
        left.append(f"more than {MOST_SOUNDS} sound tracks")
    if len(events) > MOST_EVENTS:
        left.append(f"events past {MOST_EVENTS} in a way that every reader takes ({len(events)} are written)")
    if any(medium.size is not None and medium.rate != handoff.rate for medium in handoff.media):
        left.append("the film's own rate (its time codes are counted at the trailer's)")
    return [*left, *tell_rounding(handoff), *tell_unmixed(handoff)]
