"""Write a hand-off as XML: FCPXML 1.8 (Final Cut Pro, Resolve) and Final Cut 7's xmeml 4 (Premiere, Resolve).

Both want a dissolve in the middle of what it joins, and a cut there: so the cut lies half a dissolve later here than in the
edit list, and every frame of the trailer shows the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from xml.etree.ElementTree import Comment, Element, SubElement, indent, tostring

from pipeline.handoff import MARK, Handoff, Item, TrackPlan, tell_rounding, tell_unmixed
from pipeline.handoff_media import Medium
from pipeline.timecode import format_timecode, nominal_rate

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# of srcFrameRate, where a film's rate is not the trailer's
RATE_NAMES = {
    Fraction(24000, 1001): "23.98",
    Fraction(24): "24",
    Fraction(25): "25",
    Fraction(30000, 1001): "29.97",
    Fraction(30): "30",
    Fraction(50): "50",
    Fraction(60000, 1001): "59.94",
    Fraction(60): "60",
}
TITLE_EFFECT = ".../Titles.localized/Bumper:Opener.localized/Basic Title.localized/Basic Title.moti"
TITLE_SHARE, NOTE_SHARE = 0.09, 0.045  # of the picture's height that letters have
PAIR = 2  # tracks that a stereo sound takes in xmeml
LABELS = {"beat": "Forest", "line": "Mango"}


@dataclass(frozen=True, slots=True)
class _Placed:
    """An item as it lies in the picture track when dissolves are centred. into: of the dissolve at its start, frames."""

    item: Item
    into: int


def _clean(text: str) -> str:
    """Without the characters that no XML can hold."""
    return NOT_XML.sub(" ", text)


def _centre_dissolves(track: TrackPlan) -> list[_Placed]:
    """The items, each beginning half a dissolve later and ending half a dissolve later than in the edit list."""
    shifts = [item.dissolve // 2 for item in track.items] + [0]
    placed = []
    for item, (own, following) in zip(track.items, pairwise(shifts), strict=True):
        moved = replace(item, start=item.start + own, frames=item.frames - own + following)
        placed.append(_Placed(moved, own))
    return placed


def _first_shown(placed: _Placed) -> int:
    """Frame of the medium, slowed down where it is, from its first, that the item's first frame shows."""
    item = placed.item
    return (item.slowed_source if item.speed != 1 else item.source) + placed.into


# --- FCPXML -----------------------------------------------------------------------------------------------------------


def write_fcpxml(handoff: Handoff) -> tuple[str, list[str]]:
    """The file's text, and what it does not carry. Every time in it is a whole number of frames, as a fraction."""
    root = Element("fcpxml", version="1.8")
    root.append(Comment(f" {MARK} {handoff.version.replace('--', '- -')} "))
    resources = SubElement(root, "resources")
    writer = _Fcpxml(handoff, resources)
    event = SubElement(SubElement(root, "library"), "event", name=_clean(handoff.title))
    project = SubElement(event, "project", name=_clean(handoff.title))
    sequence = SubElement(
        project,
        "sequence",
        format="r1",
        duration=writer.time(handoff.frames),
        tcStart=writer.time(handoff.start),
        tcFormat="DF" if handoff.drop else "NDF",
        audioLayout="stereo",
        audioRate="48k",
    )
    writer.fill_spine(SubElement(sequence, "spine"))
    left = []
    media = [medium for medium in handoff.media if medium.size is not None]
    if any(medium.first_channel for medium in media):
        left.append("which of the film's sound tracks is heard")
    return _print(root, "fcpxml"), [*left, *tell_rounding(handoff), *tell_unmixed(handoff)]


class _Fcpxml:
    def __init__(self, handoff: Handoff, resources: Element) -> None:
        self._handoff, self._resources = handoff, resources
        self._formats: dict[tuple[Fraction, tuple[int, int]], str] = {}
        self._assets: dict[Medium, str] = {}
        self._count = 0
        self._find_format(handoff.rate, handoff.size)  # r1
        for medium in handoff.media:
            self._assets[medium] = self._add_asset(medium)
        if any(item.medium is None for item in handoff.picture.items):
            self._title = self._next_id()
            SubElement(resources, "effect", id=self._title, name="Basic Title", uid=TITLE_EFFECT)

    def time(self, frames: int, rate: Fraction | None = None) -> str:
        """Frames as a fraction of a second."""
        return _fraction(frames / (rate or self._handoff.rate))

    def _next_id(self) -> str:
        self._count += 1
        return f"r{self._count}"

    def _find_format(self, rate: Fraction, size: tuple[int, int]) -> str:
        if (rate, size) not in self._formats:
            name = self._formats[rate, size] = self._next_id()
            # never shortened: readers look for the stroke
            lasts = f"{rate.denominator}/{rate.numerator}s"
            SubElement(self._resources, "format", id=name, frameDuration=lasts, width=str(size[0]), height=str(size[1]))
        return self._formats[rate, size]

    def _add_asset(self, medium: Medium) -> str:
        facts = {"name": _clean(medium.path.name), "src": medium.url, "start": self.time(medium.first, medium.rate)}
        facts["duration"] = self.time(medium.frames, medium.rate)
        if medium.size is not None:
            facts |= {"hasVideo": "1", "format": self._find_format(medium.rate, medium.size)}
        if medium.channels:
            facts |= {"hasAudio": "1", "audioSources": "1", "audioChannels": str(medium.channels)}
            facts |= {"audioRate": str(medium.sample_rate)}
        name = self._next_id()
        SubElement(self._resources, "asset", {"id": name, **facts})
        return name

    def fill_spine(self, spine: Element) -> None:
        """The picture from its first frame to its last, and in it what lies under it."""
        placed = _centre_dissolves(self._handoff.picture)
        elements = []
        for entry in placed:
            if entry.item.dissolve:
                begin = entry.item.start - entry.into
                lasts = self.time(entry.item.dissolve)
                SubElement(spine, "transition", name="Cross Dissolve", offset=self.time(begin), duration=lasts)
            element, local = self._add_picture(spine, entry)
            elements.append((entry.item, element, local))
        for lane, track in enumerate(self._handoff.sounds, 1):
            for item in track.items:
                over, parent, local = next(e for e in elements if e[0].start <= item.start < e[0].end)
                self._add_sound(parent, item, -lane, track.name, local + (item.start - over.start) / self._handoff.rate)
        for mark in self._handoff.marks:
            over, parent, local = next(e for e in elements if e[0].start <= mark.frame < e[0].end)
            at = _fraction(local + (mark.frame - over.start) / self._handoff.rate)
            SubElement(parent, "marker", start=at, duration=self.time(1), value=_clean(mark.name))

    def _add_picture(self, spine: Element, placed: _Placed) -> tuple[Element, Fraction]:
        """A spine element, and the time in it, s, at which it begins."""
        item = placed.item
        place = {"offset": self.time(item.start), "duration": self.time(item.frames)}
        if item.medium is None:
            return self._add_title(spine, item, place)
        medium = item.medium
        begin = Fraction(medium.first) / medium.rate
        # what lies before it in the film is counted in the film's frames, what the dissolve moved in the trailer's
        local = begin + (_first_shown(placed) - placed.into) / medium.rate + placed.into / self._handoff.rate
        facts = {"ref": self._assets[medium], "name": _clean(item.name), **place, "start": _fraction(local)}
        facts |= {"tcFormat": "DF" if medium.drop else "NDF", "srcEnable": "video"}
        element = SubElement(spine, "asset-clip", facts)
        if medium.rate != self._handoff.rate and medium.rate in RATE_NAMES:
            SubElement(element, "conform-rate", scaleEnabled="0", srcFrameRate=RATE_NAMES[medium.rate])
        if item.speed != 1:
            whole = medium.frames / medium.rate
            slowed = whole / Fraction(item.speed).limit_denominator(10**4)
            map_ = SubElement(element, "timeMap")
            for time, value in ((begin, begin), (begin + slowed, begin + whole)):
                SubElement(map_, "timept", time=_fraction(time), value=_fraction(value), interp="linear")
        return element, local

    def _add_title(self, spine: Element, item: Item, place: dict[str, str]) -> tuple[Element, Fraction]:
        local = 3600 * nominal_rate(self._handoff.rate) / self._handoff.rate  # as Final Cut does: room before it
        element = SubElement(
            spine, "title", {"ref": self._title, "name": _clean(item.name), **place, "start": _fraction(local)}
        )
        height = self._handoff.size[1]
        texts = [(item.text, TITLE_SHARE)] + ([(f"\n{item.note}", NOTE_SHARE)] if item.note else [])
        text = SubElement(element, "text")
        for number, (words, share) in enumerate(texts):
            style = f"ts{item.start}-{number}"
            SubElement(text, "text-style", ref=style).text = _clean(words)
            defined = SubElement(element, "text-style-def", id=style)
            SubElement(
                defined,
                "text-style",
                font="Helvetica",
                fontSize=str(round(height * share)),
                fontColor="1 1 1 1",
                alignment="center",
            )
        return element, Fraction(local)

    def _add_sound(self, parent: Element, item: Item, lane: int, role: str, offset: Fraction) -> None:
        medium = item.medium
        assert medium is not None
        element = SubElement(
            parent,
            "asset-clip",
            {
                "ref": self._assets[medium],
                "name": _clean(item.name),
                "lane": str(lane),
                "offset": _fraction(offset),
                "duration": self.time(item.frames),
                "start": self.time(medium.first + item.source, medium.rate),
                "srcEnable": "audio",
                "audioRole": _role(role),
            },
        )
        if item.fade_out:
            level = SubElement(SubElement(element, "adjust-volume"), "param", name="amount")
            SubElement(level, "fadeOut", type="easeIn", duration=self.time(item.fade_out))


def _role(track: str) -> str:
    return {"Film": "effects", "Music": "music"}.get(track, "dialogue")


def _fraction(seconds: Fraction | int) -> str:
    seconds = Fraction(seconds)
    return f"{seconds.numerator}s" if seconds.denominator == 1 else f"{seconds.numerator}/{seconds.denominator}s"


# --- Final Cut 7 ------------------------------------------------------------------------------------------------------


def write_fcp7(handoff: Handoff) -> tuple[str, list[str]]:
    """The file's text, and what it does not carry."""
    root = Element("xmeml", version="4")
    root.append(Comment(f" {MARK} {handoff.version.replace('--', '- -')} "))
    sequence = SubElement(root, "sequence", id="sequence-1")
    _add(sequence, "name", handoff.title)
    _add(sequence, "duration", handoff.frames)
    _add_rate(sequence, handoff.rate)
    _add_timecode(sequence, handoff.start, handoff.rate, drop=handoff.drop)
    media = SubElement(sequence, "media")
    video = SubElement(media, "video")
    looks = SubElement(SubElement(video, "format"), "samplecharacteristics")
    _add_rate(looks, handoff.rate)
    _add_size(looks, handoff.size)
    writer = _Xmeml(handoff)
    writer.fill_picture(SubElement(video, "track"))
    audio = SubElement(media, "audio")
    _add(audio, "numOutputChannels", PAIR)
    for track in handoff.sounds:
        writer.fill_sound(audio, track)
    for mark in handoff.marks:
        marker = SubElement(sequence, "marker")
        for name, value in (("name", mark.name), ("comment", mark.kind), ("in", mark.frame), ("out", -1)):
            _add(marker, name, value)
    left = ["dissolves of a single frame"] if any(i.dissolve == 1 for i in handoff.picture.items) else []
    return _print(root, "xmeml"), [*left, *tell_rounding(handoff), *tell_unmixed(handoff)]


class _Xmeml:
    def __init__(self, handoff: Handoff) -> None:
        self._handoff = handoff
        self._files: dict[Medium, str] = {}
        self._count = 0

    def fill_picture(self, track: Element) -> None:
        """Cards as text generators, cuts as clips; what a dissolve joins has -1 for its edge there."""
        placed = _centre_dissolves(self._handoff.picture)
        for number, entry in enumerate(placed):
            item, into = entry.item, _centred(entry.item)
            after = placed[number + 1].item if number + 1 < len(placed) else None
            out_of = _centred(after) if after is not None else 0
            if into:
                self._add_transition(track, item.start - entry.into, into)
            element = self._start_item(track, item, "generatoritem" if item.medium is None else "clipitem")
            begin = 0 if item.medium is None else self._find_in(entry)
            ahead, behind = (entry.into if into else 0), out_of - out_of // 2
            _add(element, "start", -1 if into else item.start)
            _add(element, "end", -1 if out_of else item.end)
            scale = Fraction(1) if item.medium is None else item.medium.rate / self._handoff.rate
            _add(element, "in", begin - round(ahead * scale))
            _add(element, "out", begin + round((item.frames + behind) * scale))
            if item.medium is None:
                self._add_lettering(element, item)
                continue
            self._add_file(element, item.medium)
            if item.speed != 1:
                _add_slowdown(element, item.speed)

    def _find_in(self, placed: _Placed) -> int:
        """The in point as Final Cut counts it: of the slowed-down clip where it is slowed down."""
        medium = placed.item.medium
        assert medium is not None
        return _first_shown(placed) - placed.into + round(placed.into * medium.rate / self._handoff.rate)

    def fill_sound(self, audio: Element, plan: TrackPlan) -> None:
        """A track of each side; the two of a clip are linked."""
        sides = max((min(PAIR, item.medium.channels) for item in plan.items if item.medium is not None), default=1)
        first = len(audio.findall("track")) + 1
        tracks = []
        for side in range(sides):
            facts = {"currentExplodedTrackIndex": str(side), "totalExplodedTrackCount": str(sides)}
            tracks.append(SubElement(audio, "track", facts))
        for place, item in enumerate(plan.items, 1):
            medium = item.medium
            assert medium is not None
            scale = medium.rate / self._handoff.rate
            elements = []
            for side, track in enumerate(tracks):
                element = self._start_item(track, item, "clipitem")
                for name, value in (("start", item.start), ("end", item.end), ("in", item.source)):
                    _add(element, name, value)
                _add(element, "out", item.source + round(item.frames * scale))
                self._add_file(element, medium)
                source = SubElement(element, "sourcetrack")
                _add(source, "mediatype", "audio")
                _add(source, "trackindex", medium.first_channel + 1 + min(side, max(0, medium.channels - 1)))
                elements.append(element)
            for element in elements if sides > 1 else ():
                for number, other in enumerate(elements):
                    link = SubElement(element, "link")
                    for tag, text in (("linkclipref", other.get("id", "")), ("mediatype", "audio")):
                        _add(link, tag, text)
                    _add(link, "trackindex", first + number)
                    _add(link, "clipindex", place)
        last = plan.items[-1]
        for track in tracks if last.fade_out else ():
            self._add_transition(track, last.end - last.fade_out, last.fade_out, sound=True)

    def _start_item(self, track: Element, item: Item, tag: str) -> Element:
        self._count += 1
        element = SubElement(track, tag, id=f"{tag}-{self._count}")
        _add(element, "name", item.name)
        _add(element, "enabled", "TRUE")
        medium = item.medium
        length = item.frames if medium is None else medium.frames
        _add(element, "duration", round(length / Fraction(item.speed).limit_denominator(10**4)))
        _add_rate(element, self._handoff.rate if medium is None else medium.rate)
        return element

    def _add_file(self, clip: Element, medium: Medium) -> None:
        """The file whole where it is first used, by its id afterwards."""
        if medium in self._files:
            SubElement(clip, "file", id=self._files[medium])
            return
        self._files[medium] = f"file-{len(self._files) + 1}"
        file = SubElement(clip, "file", id=self._files[medium])
        _add(file, "name", medium.path.name)
        _add(file, "pathurl", medium.url.replace("file:///", "file://localhost/", 1))
        _add_rate(file, medium.rate)
        _add(file, "duration", medium.frames)
        _add_timecode(file, medium.first, medium.rate, drop=medium.drop)
        media = SubElement(file, "media")
        if medium.size is not None:
            looks = SubElement(SubElement(media, "video"), "samplecharacteristics")
            _add_rate(looks, medium.rate)
            _add_size(looks, medium.size)
        if medium.channels:
            audio = SubElement(media, "audio")
            _add(SubElement(audio, "samplecharacteristics"), "samplerate", medium.sample_rate)
            _add(audio, "channelcount", medium.channels)

    def _add_transition(self, track: Element, start: int, frames: int, *, sound: bool = False) -> None:
        element = SubElement(track, "transitionitem")
        for name, value in (("start", start), ("end", start + frames)):
            _add(element, name, value)
        _add(element, "alignment", "end-black" if sound else "center")
        _add_rate(element, self._handoff.rate)
        effect = SubElement(element, "effect")
        title = "Cross Fade (+3dB)" if sound else "Cross Dissolve"
        for name, text in (("name", title), ("effectid", "KGAudioTransCrossFade3dB" if sound else title)):
            _add(effect, name, text)
        _add(effect, "effecttype", "transition")
        _add(effect, "mediatype", "audio" if sound else "video")

    def _add_lettering(self, element: Element, item: Item) -> None:
        effect = SubElement(element, "effect")
        for name, text in (("name", "Text"), ("effectid", "Text"), ("effectcategory", "Text")):
            _add(effect, name, text)
        _add(effect, "effecttype", "generator")
        _add(effect, "mediatype", "video")
        words = f"{item.text}\n{item.note}" if item.note else item.text
        for name, value in (("str", words), ("fontsize", round(self._handoff.size[1] * TITLE_SHARE))):
            parameter = SubElement(effect, "parameter")
            _add(parameter, "parameterid", name)
            _add(parameter, "name", "Text" if name == "str" else "Size")
            _add(parameter, "value", value)


def _centred(item: Item) -> int:
    """Frames of its dissolve; one of a single frame has no middle."""
    return item.dissolve if item.dissolve > 1 else 0


def _add_slowdown(clip: Element, speed: float) -> None:
    effect = SubElement(SubElement(clip, "filter"), "effect")
    for name, text in (("name", "Time Remap"), ("effectid", "timeremap"), ("effectcategory", "motion")):
        _add(effect, name, text)
    _add(effect, "effecttype", "motion")
    _add(effect, "mediatype", "video")
    for name, value in (("variablespeed", "0"), ("speed", f"{100 * speed:.10g}"), ("reverse", "FALSE")):
        parameter = SubElement(effect, "parameter")
        _add(parameter, "parameterid", name)
        _add(parameter, "name", name)
        _add(parameter, "value", value)


def _add(parent: Element, name: str, value: str | int) -> Element:
    element = SubElement(parent, name)
    element.text = _clean(str(value))
    return element


def _add_rate(parent: Element, rate: Fraction) -> None:
    count = nominal_rate(rate)
    element = SubElement(parent, "rate")
    _add(element, "timebase", count)
    _add(element, "ntsc", "TRUE" if rate == Fraction(count * 1000, 1001) else "FALSE")


def _add_timecode(parent: Element, first: int, rate: Fraction, *, drop: bool) -> None:
    element = SubElement(parent, "timecode")
    _add_rate(element, rate)
    _add(element, "string", format_timecode(first, rate, drop=drop))
    _add(element, "frame", first)
    _add(element, "displayformat", "DF" if drop else "NDF")


def _add_size(parent: Element, size: Sequence[int]) -> None:
    _add(parent, "width", size[0])
    _add(parent, "height", size[1])


def _print(root: Element, kind: str) -> str:
    indent(root, space=" ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE {kind}>\n{tostring(root, encoding="unicode")}\n'
