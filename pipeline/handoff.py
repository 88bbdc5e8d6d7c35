"""Hand a trailer to an editor: its edit list as tracks of clips, written as OTIO, EDL, FCPXML, Final Cut 7 XML or SRT.

Everything is counted in whole frames here: trailer frames from the trailer's first on, source frames from a film's first
picture on. A film's own time code is added where a format is written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

from pipeline.cards import count_frames, write_srt
from pipeline.editfile import read_edit
from pipeline.errors import InputError
from pipeline.handoff_media import ROUNDED, Links, Medium, find_picture
from pipeline.media import probe_film
from pipeline.mix import choose_fade
from pipeline.records import Card, Cut, EditList, Film, Music, Span
from pipeline.timecode import can_drop, format_timecode, nominal_rate, parse_timecode
from pipeline.workdir import deliver_text

log = logging.getLogger("trailer")

MARK = "trailer-pipeline"  # in each file that has a place for it: what holds it may be written over
MOST_BYTES = 64 << 20  # of a file that is looked through for the mark


class Format(StrEnum):
    """What can be written."""

    otio = "otio"
    edl = "edl"
    fcpxml = "fcpxml"
    fcp7 = "fcp7"
    srt = "srt"


SUFFIXES = {
    Format.otio: ".otio",
    Format.edl: ".edl",
    Format.fcpxml: ".fcpxml",
    Format.fcp7: ".xml",
    Format.srt: ".srt",
}


@dataclass(frozen=True, slots=True)
class Item:
    """Trailer frames [start, start + frames) of one track.

    medium: none for a card, whose text and note are shown. source: frame of the medium, from its first (0) on. seconds:
    the same in seconds, not rounded. speed: of the film, less than 1: slowed down. dissolve: frames at its start over which
    the item before it, played on, fades into it. fade_out: frames at its end over which a sound fades. facts: what the edit
    list says beyond, for formats that keep it.
    """

    name: str
    start: int
    frames: int
    medium: Medium | None = None
    source: int = 0
    seconds: float = 0.0
    speed: float = 1.0
    dissolve: int = 0
    fade_out: int = 0
    text: str = ""
    note: str = ""
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.start + self.frames

    @property
    def slowed_source(self) -> int:
        """The first frame, of all that the slowed-down medium has, that shows frame `source`."""
        return math.ceil(self.source / Fraction(self.speed).limit_denominator(10**4))


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """Items that do not overlap, in order. sound: whether they are heard and not seen."""

    name: str
    sound: bool
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker at a trailer frame. kind: "beat" or "line"."""

    frame: int
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Handoff:
    """A trailer as an editor sees it. start: number of its first frame, by its time code; drop: how that counts."""

    title: str
    edit_name: str
    version: str
    rate: Fraction
    frames: int
    size: tuple[int, int]
    start: int
    drop: bool
    picture: TrackPlan
    sounds: tuple[TrackPlan, ...]
    marks: tuple[Mark, ...]
    facts: dict[str, object]

    @property
    def media(self) -> tuple[Medium, ...]:
        """Every file that is linked, once."""
        used = (item.medium for track in (self.picture, *self.sounds) for item in track.items)
        return tuple(dict.fromkeys(medium for medium in used if medium is not None))


def export_edit(
    edit_path: Path, out: Path, *, to: str | None = None, start: str | None = None, relative: bool = False
) -> dict[str, object]:
    """Write an edit list for an editor, and say what was written. to: none: as the suffix of `out` says.

    start: time code of the trailer's first frame, with `;` before the frames for drop-frame; none: one hour. relative:
    link the media relative to the folder of `out`. Raises InputError for what cannot be used, and writes nothing then.
    """
    wanted = choose_format(to, out)
    edit = read_edit(edit_path)
    out = _check_place(out, edit_path, edit)
    if wanted is Format.srt:
        text = write_srt(edit)
        if not text:
            raise InputError(f"{edit_path} has no lines: there is nothing to write as subtitles")
        deliver_text(text, out)
        return {"out": str(out), "format": wanted.value, "lines": len(edit.narration), "left_out": []}
    from pipeline import handoff_edl, handoff_otio, handoff_xml

    handoff = plan_handoff(edit, edit_path, out, start=start, relative=relative)
    write = {
        Format.otio: handoff_otio.write_otio,
        Format.edl: handoff_edl.write_edl,
        Format.fcpxml: handoff_xml.write_fcpxml,
        Format.fcp7: handoff_xml.write_fcp7,
    }[wanted]
    text, left_out = write(handoff)
    deliver_text(text, out)
    if left_out:
        log.warning("%s does not carry %s", out.name, "; ".join(left_out))
    return {
        "out": str(out),
        "format": wanted.value,
        "rate": f"{handoff.rate.numerator}/{handoff.rate.denominator}",
        "start": format_timecode(handoff.start, handoff.rate, drop=handoff.drop),
        "frames": handoff.frames,
        "cuts": len(edit.cuts),
        "cards": len(edit.cards),
        "lines": len(edit.narration),
        "markers": len(handoff.marks),
        "media": [str(medium.path) for medium in handoff.media],
        "left_out": left_out,
    }


def choose_format(to: str | None, out: Path) -> Format:
    """The format asked for, or that of the suffix. Raises InputError where the two do not agree."""
    suffix = out.suffix.lower()
    if to is not None:
        if to not in list(Format):
            raise InputError(f"--to {to} is none of {', '.join(Format)}")
        if suffix != SUFFIXES[Format(to)]:
            raise InputError(f"--out {out} must end in {SUFFIXES[Format(to)]} for --to {to}")
        return Format(to)
    for wanted, usual in SUFFIXES.items():
        if suffix == usual:
            return wanted
    known = ", ".join(f"{usual} ({wanted.value})" for wanted, usual in SUFFIXES.items())
    raise InputError(f"--out {out} does not say what to write: name --to, or end it in {known}")


def _check_place(out: Path, edit_path: Path, edit: EditList) -> Path:
    """The absolute path to write to. Raises InputError where writing there would lose something or cannot work."""
    out = out.absolute()
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file")
    if not out.exists():
        return out
    voices = [placed.voice for placed in edit.narration if placed.voice is not None]
    for used in (edit_path, edit.film.path, edit.music.path, *voices):
        if used.exists() and out.samefile(used):
            raise InputError(f"--out {out} is what the trailer is made from; choose another name")
    if out.stat().st_size and not _is_ours(out):
        raise InputError(f"{out} exists and was not written by this program; choose another --out, or remove it")
    return out


def _is_ours(out: Path) -> bool:
    """Whether a file may be written over: it holds our mark, or, as subtitles cannot, our edit list lies beside it."""
    if out.suffix.lower() == SUFFIXES[Format.srt]:
        try:
            read_edit(out.with_name(f"{out.stem}.edit.json"))
        except InputError:
            return False
        return True
    try:
        return out.stat().st_size <= MOST_BYTES and MARK.encode() in out.read_bytes()
    except OSError:
        return False


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan_handoff(
    edit: EditList, edit_path: Path, out: Path, *, start: str | None = None, relative: bool = False
) -> Handoff:
    """Lay the edit list out in tracks. Raises InputError where a file it names is gone or has become another one."""
    rate, total = edit.output.frame_rate, edit.output.frames
    shown = _probe_film(edit)
    links = Links(out.parent if relative else None, rate)
    film, counted = links.add_film(shown, edit)
    first, drop = _choose_start(start, rate, film)
    picture = TrackPlan("Picture", False, tuple(_lay_picture(piece, edit, film, counted) for piece in edit.pieces))
    sounds = []
    if film.channels:
        own = [_lay_sound(item) for item, piece in zip(picture.items, edit.pieces, strict=True) if _is_heard(piece)]
        sounds += [TrackPlan("Film", True, tuple(own))] if own else []
    sounds += _lay_lines(edit, film, counted, links)
    music = tuple(_lay_music(edit.music, links.add_music(edit.music), rate, total))
    sounds += [TrackPlan("Music", True, music)] if music else []
    return Handoff(
        title=" ".join(edit.title.split()) or edit_path.name.removesuffix(".json").removesuffix(".edit"),
        edit_name=edit_path.name,
        version=edit.version,
        rate=rate,
        frames=total,
        size=(edit.output.width, edit.output.height),
        start=first,
        drop=drop,
        picture=picture,
        sounds=tuple(sounds),
        marks=tuple(_place_marks(edit)),
        facts={
            "fade_in": edit.output.fade_in,
            "fade_out": edit.output.fade_out,
            "loudness_lufs": edit.output.loudness_lufs,
            "bars": list(edit.film.bars),
            "width": edit.output.width,
            "height": edit.output.height,
        },
    )


def _probe_film(edit: EditList) -> Film:
    film = probe_film(edit.film.path)
    if film.fingerprint != edit.film.fingerprint:
        raise InputError(f"{edit.film.path} is not the film that the edit list was made from (its content has changed)")
    return replace(film, start=edit.film.start, duration=edit.film.duration)


def _choose_start(start: str | None, rate: Fraction, film: Medium) -> tuple[int, bool]:
    """Number of the trailer's first frame, and whether it counts drop-frame: as asked, else as the film does."""
    if start is not None:
        try:
            return parse_timecode(start, rate)
        except ValueError as error:
            raise InputError(f"--start {error}") from error
    drop = film.drop and can_drop(rate)
    return parse_timecode(f"01:00:00{';' if drop else ':'}00", rate)


def _lay_picture(piece: Cut | Card, edit: EditList, film: Medium, counted: Fraction) -> Item:
    if isinstance(piece, Card):
        name = " ".join(piece.text.split()) or "card"
        return Item(name, piece.start_frame, piece.frames, text=piece.text, note=piece.note)
    facts: dict[str, object] = {"shot": piece.shot, "slot": piece.slot, "confidence": piece.confidence}
    facts |= {"pinned": piece.pinned, "caption": piece.caption, "focus": [list(point) for point in piece.focus]}
    return Item(
        name=f"shot {piece.shot:03d}",
        start=piece.start_frame,
        frames=piece.frames,
        medium=film,
        source=min(find_picture(piece.source.start, edit.film.start, counted), film.frames - 1),
        seconds=piece.source.start - edit.film.start,
        speed=piece.speed,
        dissolve=piece.dissolve,
        facts=facts,
    )


def _is_heard(piece: Cut | Card) -> bool:
    return isinstance(piece, Cut) and piece.sound


def _lay_sound(item: Item) -> Item:
    """A cut's own sound. Under a slowed-down cut it is not stretched, and ends before."""
    frames = max(1, math.floor(item.frames * Fraction(item.speed).limit_denominator(10**4)))
    return replace(item, frames=frames, speed=1.0, dissolve=0)


def _lay_lines(edit: EditList, film: Medium, counted: Fraction, links: Links) -> list[TrackPlan]:
    """What is said, on as many tracks as it takes so that no line cuts another one off."""
    tracks: list[list[Item]] = []
    for placed in sorted(edit.narration, key=lambda placed: placed.start_frame):
        if placed.voice is None and not film.channels:
            raise InputError(f"the line “{placed.text}” is to come from {film.path}, which has no sound")
        medium = film if placed.voice is None else links.add_sound(placed.voice)
        seconds = placed.span.start - (edit.film.start if placed.voice is None else 0.0)
        frames = min(count_frames(placed, edit.output), edit.output.frames - placed.start_frame)
        item = Item(
            name=f"line {placed.line + 1}: {' '.join(placed.text.split())}",
            start=placed.start_frame,
            frames=max(1, frames),
            medium=medium,
            source=max(0, round(Fraction(seconds) * (counted if medium is film else medium.rate))),
            seconds=max(0.0, seconds),
            text=placed.text,
            facts={"line": placed.line, "similarity": placed.similarity},
        )
        room = next((track for track in tracks if track[-1].end <= item.start), None)
        if room is None:
            tracks.append([item])
        else:
            room.append(item)
    names = ["Dialogue", *(f"Dialogue {number + 2}" for number in range(len(tracks)))]
    return [TrackPlan(name, True, tuple(track)) for name, track in zip(names, tracks, strict=False)]


def _lay_music(music: Music, medium: Medium, rate: Fraction, total: int) -> Iterable[Item]:
    """The track's parts one after the other, as far as trailer and track go."""
    whole = Span(music.offset, music.offset + float(total / rate))
    parts: Sequence[Span] = music.parts or (whole,)
    fade = round(choose_fade(music, float(total / rate), medium.seconds) * rate)
    laid: list[Item] = []
    at = 0.0
    for number, part in enumerate(parts):
        begin, end = round(at * rate), min(total, round((at + part.duration) * rate))
        seconds = part.start + float(begin / rate) - at  # a part may begin between two frames: what is heard there
        at += part.duration
        frames = min(end - begin, math.floor((medium.seconds - seconds) * rate + ROUNDED))
        if frames > 0:
            name = medium.path.stem if len(parts) == 1 else f"{medium.path.stem}, part {number + 1}"
            source = max(0, round(Fraction(seconds) * rate))
            laid.append(Item(name, begin, frames, medium, min(source, medium.frames - 1), max(0.0, seconds)))
    if laid and fade:
        laid[-1] = replace(laid[-1], fade_out=min(fade, laid[-1].frames))
    return laid


def _place_marks(edit: EditList) -> Iterable[Mark]:
    """Beats on the nearest frame, lines on their first one; in order, a line before a beat."""
    rate, total = edit.output.frame_rate, edit.output.frames
    marks = [Mark(p.start_frame, f"line {p.line + 1}: {' '.join(p.text.split())}", "line") for p in edit.narration]
    beats = dict.fromkeys(round(Fraction(beat) * rate) for beat in edit.music.beats if beat >= 0)
    marks += [Mark(frame, "beat", "beat") for frame in beats if frame < total]
    return sorted(marks, key=lambda mark: (mark.frame, mark.kind == "beat"))


def tell_unmixed(handoff: Handoff) -> list[str]:
    """What no format carries of this trailer, in words."""
    left = ["sound levels and how the music is turned down under the lines"] if handoff.sounds else []
    film = next((medium for medium in handoff.media if medium.size is not None), None)
    width, height = handoff.size
    cropped = any(_bars(handoff))
    if film is not None and film.size is not None:
        cropped = cropped or abs(width * film.size[1] / (height * film.size[0]) - 1) > 0.01
    if cropped:
        left.append(f"the crop to {width}x{height}")
    if handoff.facts["fade_in"] or handoff.facts["fade_out"]:
        left.append(f"the picture's fades ({handoff.facts['fade_in']} and {handoff.facts['fade_out']} frames)")
    return left


def _bars(handoff: Handoff) -> list[float]:
    bars = handoff.facts["bars"]
    return bars if isinstance(bars, list) else []


def tell_rounding(handoff: Handoff) -> list[str]:
    """Says that sound lies on whole frames, where it does not begin on one."""
    lies = [
        i.seconds * i.medium.rate for track in handoff.sounds for i in track.items if i.medium and not i.medium.size
    ]
    if all(abs(place - round(place)) < 0.01 for place in lies):
        return []
    half = 500 / nominal_rate(handoff.rate)
    return [f"where music and voices begin within a frame (they are at most {half:.0f} ms off)"]
