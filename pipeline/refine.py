"""Change a trailer by hand: what is kept, what is open, and what may not come back. Pure; the model fills what is open.

Masked prediction makes it natural: what a person keeps is visible to the model, as if it had been fixed in earlier rounds,
and the rest is masked and filled again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError
from pipeline.records import Cut, EditList, Placement, Span
from pipeline.settings import tell_faults

LARGEST_REQUEST = 1 << 20  # bytes
BANNED = "banned by hand"
NEVER = frozenset({"opening", "credits", "ending"})  # flags of a shot that may not even be pinned: the gate refuses it


class Request(BaseModel):
    """What a person asks for, as the storyboard writes it. Slots and shots are counted from 0, as in the edit list."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version: Literal[1] = Field(1, alias="schema")
    pins: dict[int, int] = {}
    keep: tuple[int, ...] | None = None
    bans: tuple[int, ...] = ()
    swaps: tuple[int, ...] = ()
    reseed: int | None = Field(None, ge=0, le=2**31 - 1)


@dataclass(frozen=True, slots=True)
class Refinement:
    """What the steps of a trailer are to do otherwise.

    cuts: by slot, those that stay as they are. pins: slot -> shot, what the model finds fixed: those, and what is pinned.
    pinned: slots that a person pinned, now or before. barred: slot -> a shot that may not stand there. banned: shots that
    may stand nowhere. narration: lines that stay where they are; None: they are placed again.
    """

    cuts: Mapping[int, Cut] = field(default_factory=dict)
    pins: Mapping[int, int] = field(default_factory=dict)
    pinned: frozenset[int] = frozenset()
    barred: Mapping[int, int] = field(default_factory=dict)
    banned: tuple[int, ...] = ()
    narration: tuple[Placement, ...] | None = None

    @property
    def key(self) -> dict[str, object]:
        """JSON values that name it: another one wherever the trailer could differ."""
        return {
            "pins": sorted(self.pins.items()),
            "pinned": sorted(self.pinned),
            "barred": sorted(self.barred.items()),
            "banned": sorted(self.banned),
            "narration": None if self.narration is None else [[p.text, p.start_frame] for p in self.narration],
            "cuts": [[slot, cut.source.start, cut.speed] for slot, cut in sorted(self.cuts.items())],
        }


def read_request(path: Path) -> Request:
    """Read what the storyboard's download holds. Raises InputError for a file that cannot be used."""
    try:
        if path.stat().st_size > LARGEST_REQUEST:
            raise InputError(f"{path} is too large for edits ({path.stat().st_size} bytes)")
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the edits {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} holds no edits: it is no JSON ({error})") from error
    try:
        return Request.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{path} cannot be used as edits: {tell_faults(error)}") from error


def parse_request(
    edit: EditList,
    *,
    pins: Sequence[str],
    keep: Sequence[str],
    bans: Sequence[str],
    swaps: Sequence[int],
    reseed: int | None,
) -> Request:
    """A request as it is typed: pins SLOT=SHOT; keep A-B,C; bans SHOT, A-B, or film time as in 1:02:10-1:03:00.

    Raises InputError for what is not understood.
    """
    pinned: dict[int, int] = {}
    for text in pins:
        found = re.fullmatch(r"(\d{1,9})=(\d{1,9})", text.strip())
        if found is None:
            raise InputError(f"--pin takes SLOT=SHOT, as in 3=41; got {text!r}")
        slot, shot = int(found[1]), int(found[2])
        if pinned.setdefault(slot, shot) != shot:
            raise InputError(f"slot {slot} cannot be pinned to shot {pinned[slot]} and to shot {shot}")
    kept = [number for text in keep for number in _numbers(text, "--keep", len(edit.cuts))]
    banned = [number for text in bans for number in _banned(text, edit)]
    return Request(
        pins=pinned,
        keep=tuple(sorted(set(kept))) if keep else None,
        bans=tuple(sorted(set(banned))),
        swaps=tuple(sorted(set(swaps))),
        reseed=reseed,
    )


def _numbers(text: str, option: str, most: int) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if found is None:
            raise InputError(f"{option} takes numbers, as in 0-5,9; got {text!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InputError(f"{option} {part.strip()}: {last} comes before {first}")
        if last >= most:
            raise InputError(f"{option} {part.strip()}: there are {most}, counted from 0")
        numbers += range(first, last + 1)
    return numbers


def _banned(text: str, edit: EditList) -> list[int]:
    if ":" not in text:
        return _numbers(text, "--ban", len(edit.shots))
    begin, dash, end = text.partition("-")
    span = (_film_time(begin, text), _film_time(end if dash else begin, text))
    if span[1] < span[0]:
        raise InputError(f"--ban {text}: it ends before it begins")
    # as players show it: from the film's first picture on
    start, stop = span[0] + edit.film.start, span[1] + edit.film.start
    found = [n for n, shot in enumerate(edit.shots) if shot.start <= stop and shot.end > start]
    if not found:
        raise InputError(f"--ban {text}: the film has no shot there; it lasts {edit.film.duration:.0f} s")
    return found


def _film_time(text: str, whole: str) -> float:
    found = re.fullmatch(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d{1,6})?)", text.strip())
    if found is None:
        raise InputError(f"--ban takes a shot, shots A-B, or film time as in 1:02:10-1:03:00; got {whole!r}")
    return 3600 * int(found[1] or 0) + 60 * int(found[2]) + float(found[3])


def resolve(edit: EditList, request: Request) -> Refinement:
    """What stays of a trailer and what is open.

    Where neither keep nor reseed is given, all that the request does not touch stays; with keep what is named, with reseed
    alone what was pinned before. Raises InputError for requests that contradict each other, or that ask for nothing.
    """
    cuts = {cut.slot: cut for cut in edit.cuts}
    _check(edit, request, cuts)
    holder = {cut.shot: slot for slot, cut in cuts.items()}
    touched = {*request.pins, *request.swaps}
    touched |= {holder[shot] for shot in (*request.pins.values(), *request.bans) if shot in holder}
    touched -= {slot for slot, shot in request.pins.items() if cuts[slot].shot == shot}  # it stands there already
    if request.keep is not None:
        kept = set(request.keep)
    elif request.reseed is not None:
        kept = {slot for slot, cut in cuts.items() if cut.pinned}
    else:
        kept = set(cuts)
    kept |= set(request.pins)
    kept -= touched
    pinned = {slot for slot in kept if cuts[slot].pinned} | set(request.pins)
    return Refinement(
        cuts={slot: cuts[slot] for slot in sorted(kept)},
        pins={**{slot: cuts[slot].shot for slot in sorted(kept)}, **request.pins},
        pinned=frozenset(pinned),
        barred={slot: cuts[slot].shot for slot in request.swaps},
        banned=tuple(sorted({*request.bans, *edit.banned} - set(request.pins.values()))),
    )


def _check(edit: EditList, request: Request, cuts: Mapping[int, Cut]) -> None:
    if sorted(cuts) != list(range(len(cuts))):
        raise InputError("the edit list's slots are not numbered from 0 on: it was changed by hand")
    if not (request.pins or request.bans or request.swaps or request.keep is not None or request.reseed is not None):
        raise InputError("nothing is to be changed: --pin, --ban, --swap, --keep or --reseed says what")
    keep = set(request.keep or ())
    for slot in (*request.pins, *request.swaps, *keep):
        if not 0 <= slot < len(cuts):
            raise InputError(f"there is no slot {slot}: the trailer has {len(cuts)}, counted from 0")
    for shot in (*request.pins.values(), *request.bans):
        if not 0 <= shot < len(edit.shots):
            raise InputError(f"there is no shot {shot}: the film has {len(edit.shots)}, counted from 0")
    where: dict[int, int] = {}
    for slot, shot in request.pins.items():
        if where.setdefault(shot, slot) != slot:
            raise InputError(f"shot {shot} cannot stand in slot {where[shot]} and in slot {slot}")
        if shot in request.bans:
            raise InputError(f"shot {shot} cannot be pinned and banned")
        if slot in request.swaps:
            raise InputError(f"slot {slot} cannot be pinned and swapped")
        if slot in keep and cuts[slot].shot != shot:
            raise InputError(f"slot {slot} cannot keep shot {cuts[slot].shot} and be pinned to shot {shot}")
    for slot in sorted(keep):
        if cuts[slot].shot in request.bans:
            raise InputError(f"slot {slot} cannot be kept: its shot {cuts[slot].shot} is banned")
        if slot in request.swaps:
            raise InputError(f"slot {slot} cannot be kept and swapped")
        if where.get(cuts[slot].shot, slot) != slot:
            other = where[cuts[slot].shot]
            raise InputError(f"slot {slot} cannot keep shot {cuts[slot].shot}: it is pinned to slot {other}")


def name_next(edit: Path, taken: Iterable[str]) -> str:
    """The file name of a changed trailer: X.edit.json -> X-2.mp4, X-2.edit.json -> X-3.mp4, the first that is free."""
    stem = edit.name.removesuffix(".json").removesuffix(".edit")
    base = re.sub(r"-(?:[2-9]|[1-9]\d{1,3})$", "", stem)
    names = set(taken)
    number = 2
    while f"{base}-{number}.mp4" in names or f"{base}-{number}.edit.json" in names:
        number += 1
    return f"{base}-{number}.mp4"


def describe_change(old: EditList, new: EditList) -> list[str]:
    """What a person sees change, a line a slot; one line where nothing does."""
    before, lines = {cut.slot: cut for cut in old.cuts}, []
    for cut in new.cuts:
        was = before.get(cut.slot)
        how = " (pinned)" if cut.pinned else ""
        if was is None or was.shot != cut.shot:
            gone = f"shot {was.shot} ({_clock(old, was.source)})" if was else "nothing"
            lines.append(f"slot {cut.slot}: {gone} -> shot {cut.shot} ({_clock(new, cut.source)}){how}")
        elif cut.pinned and not was.pinned:
            lines.append(f"slot {cut.slot}: shot {cut.shot} is pinned")
    said, says = [p.text for p in old.narration], [p.text for p in new.narration]
    if [(p.text, p.start_frame) for p in old.narration] != [(p.text, p.start_frame) for p in new.narration]:
        same = "at other places" if said == says else f"{len(says)} in place of {len(said)}"
        lines.append(f"lines: {same}")
    return lines or ["nothing changed: the model chose the same shots"]


def _clock(edit: EditList, span: Span) -> str:
    seconds = max(0.0, span.start - edit.film.start)
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{seconds % 60:04.1f}"
