"""Draw the parts of the storyboard that show the trailer itself: its timeline, and a panel for each slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from pipeline.records import U8, Card, Cut, EditList
from pipeline.storyboard_page import Places, clock, picture_source, show

Candidate = tuple[int, float, U8 | None]  # shot, probability, picture (JPEG)

PICTURES_MOST_BYTES = 520_000  # of all pieces' pictures: a page of 60 slots stays under 1 MB
RUNNERS_UP_MOST_BYTES = 90_000
RUNNER_UP_WIDTH = 128  # px
SECONDS_WIDE = 1.75  # rem a second of trailer, at least
TICK_SECONDS = 5
MOST_RUNNERS_UP = 5  # that are shown for a slot


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the edit list and the measurements. Nothing is shown of what is not known.

    candidates: slot -> the next best shots, best first. remasked: times each slot was hidden again. music: its loudness
    from the trailer's start to its end, evenly spaced, 0..1. plan: file name of the edit list, beside the page.
    """

    candidates: Mapping[int, Sequence[Candidate]]
    remasked: Sequence[int] | None
    music: Sequence[float] | None
    plan: str


def fit_pictures(pictures: Sequence[U8], most_bytes: int, width: int | None = None) -> list[bytes]:
    """JPEGs of at most so many bytes together, as they are if they fit; otherwise smaller and coarser, as far as need be.

    width: at most so wide in any case.
    """
    given = [bytes(picture) for picture in pictures]
    if width is None and sum(map(len, given)) <= most_bytes:
        return given
    decoded = [np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8) for jpeg in given]
    small: list[bytes] = []
    for most, quality in ((320, 70), (256, 70), (256, 55), (192, 55), (160, 45), (128, 40), (96, 30)):
        if width is not None and most > width:
            continue
        small = [_shrink(picture, most, quality) for picture in decoded]
        if sum(map(len, small)) <= most_bytes:
            break
    return small


def _shrink(picture: U8, width: int, quality: int) -> bytes:
    tall, wide = picture.shape[:2]
    if wide > width:
        size = (width, max(2, round(width * tall / wide)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(np.asarray(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], np.uint8))


def collect_data(edit: EditList, known: Known) -> dict[str, Any]:
    """What the page's script knows. Times in seconds of trailer; slots and shots count from 0, as in the edit list."""
    rate = edit.output.frame_rate
    pictures: dict[int, U8] = {}
    for _, candidates in sorted(known.candidates.items()):
        for shot, _, picture in candidates[:MOST_RUNNERS_UP]:
            if picture is not None:
                pictures.setdefault(shot, picture)
    small = fit_pictures(list(pictures.values()), RUNNERS_UP_MOST_BYTES, RUNNER_UP_WIDTH) if pictures else []
    return {
        "plan": known.plan,
        "seed": edit.seed,
        "frame": float(1 / rate),
        "pieces": [
            {
                "slot": piece.slot if isinstance(piece, Cut) else None,
                "shot": piece.shot if isinstance(piece, Cut) else None,
                "start": float(piece.start_frame / rate),
                "end": float((piece.start_frame + piece.frames) / rate),
            }
            for piece in edit.pieces
        ],
        "pictures": {str(shot): picture_source(jpeg) for shot, jpeg in zip(pictures, small, strict=True)},
    }


def draw_timeline(edit: EditList, known: Known, places: Places) -> str:
    """The trailer from left to right: a strip for pictures, which the script adds, the music with its beats, the lines."""
    frames, rate = edit.output.frames, edit.output.frame_rate
    seconds = float(frames / rate)
    wide = places.name(min_width=f"{SECONDS_WIDE * seconds:.1f}rem")
    ticks = "".join(
        f'<i class="{places.name(left=f"{100 * at / seconds:.3f}%")}">{clock(at)[:-2]}</i>'
        for at in range(0, int(seconds) + 1, TICK_SECONDS)
    )
    strip = "".join(_draw_piece(n, piece, edit, places) for n, piece in enumerate(edit.pieces))
    lines = "".join(
        f'<span class="line {places.across(float(placed.start_frame / frames), placed.span.duration / seconds)}" '
        f'title="{show(placed.text)}"><bdi>{show(placed.text)}</bdi></span>'
        for placed in edit.narration
    )
    return (
        f'<div class="reel {wide}"><div class="ruler" aria-hidden="true">{ticks}</div>'
        '<div class="strip" role="toolbar" aria-label="Play from a slot; the arrow keys move from one to the next">'
        f'{strip}</div><div class="music">{_draw_music(edit, known.music)}</div>'
        + (f'<div class="said" role="group" aria-label="Lines">{lines}</div>' if lines else "")
        + '<div class="playhead" aria-hidden="true"></div></div>'
    )


def _draw_piece(number: int, piece: Cut | Card, edit: EditList, places: Places) -> str:
    frames, rate = edit.output.frames, edit.output.frame_rate
    begin, end = piece.start_frame / rate, (piece.start_frame + piece.frames) / rate
    at = places.across(piece.start_frame / frames, piece.frames / frames)
    if isinstance(piece, Cut):
        what, text, kind = f"slot {piece.slot}, shot {piece.shot}", str(piece.slot), "cut"
    else:
        what, text, kind = f"card: {piece.text}", piece.text, "card"
    label = f"Play from {what}, {clock(float(begin))} to {clock(float(end))}"
    return (
        f'<button type="button" class="piece {kind} {at}" data-piece="{number}" tabindex="{-1 if number else 0}" '
        f'aria-label="{show(label)}" title="{show(what)}"><span>{show(text)}</span></button>'
    )


def _draw_music(edit: EditList, levels: Sequence[float] | None) -> str:
    seconds = float(edit.output.frames / edit.output.frame_rate)
    beats = [beat for beat in edit.music.beats if 0 <= beat <= seconds]
    cuts = [float(piece.start_frame / edit.output.frame_rate) for piece in edit.pieces]
    steps = sorted(b - a for a, b in pairwise(beats))
    tempo = f", {60 / steps[len(steps) // 2]:.0f} a minute" if steps and steps[len(steps) // 2] > 0 else ""
    label = f"{edit.music.path.name}: {len(beats)} beats{tempo}; its energy"
    label += "" if levels else " is not known: the track could not be read"
    area = ""
    if levels:
        step = 1000 / len(levels)
        points = " ".join(f"{step * (n + 0.5):.1f} {100 - 96 * level**0.5:.1f}" for n, level in enumerate(levels))
        area = f'<path class="energy" d="M0 100L{points} 1000 100Z"/>'
    return (
        f'<p class="label">Music, its beats and the cuts: <bdi>{show(edit.music.path.name)}</bdi></p>'
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{show(label)}">{area}'
        f'<path class="beats" d="{_draw_ticks(beats, seconds, 62)}"/>'
        f'<path class="cuts" d="{_draw_ticks(cuts, seconds, 0)}"/></svg>'
    )


def _draw_ticks(times: Sequence[float], seconds: float, top: int) -> str:
    return "".join(f"M{1000 * time / seconds:.1f} {top}V100" for time in times)


def draw_slots(edit: EditList, thumbnails: Sequence[bytes], known: Known) -> str:
    """A panel for each slot and each card, in trailer order."""
    said: dict[int, list[str]] = {}
    for placed in edit.narration:
        said.setdefault(placed.slot, []).append(placed.text)
    now = {cut.shot: cut.slot for cut in edit.cuts}
    return "".join(
        _draw_slot(number, piece, edit, thumbnail, known, said.get(piece.slot, []), now)
        if isinstance(piece, Cut)
        else _draw_card(number, piece, edit.output.frame_rate, thumbnail)
        for number, (piece, thumbnail) in enumerate(zip(edit.pieces, thumbnails, strict=True))
    )


def _draw_slot(
    number: int,
    cut: Cut,
    edit: EditList,
    thumbnail: bytes,
    known: Known,
    said: Sequence[str],
    now: Mapping[int, int],
) -> str:
    rate = edit.output.frame_rate
    begin, length = clock(float(cut.start_frame / rate)), float(cut.frames / rate)
    facts = [
        ("Trailer", f"{begin}, {length:.2f} s"),
        ("Film", f"{clock(cut.source.start)} – {clock(cut.source.end)}"),
    ]
    if known.remasked is not None and cut.slot < len(known.remasked):
        times = known.remasked[cut.slot]
        facts.append(("Re-masked", f"{times} time{'s' * (times != 1)}"))
    if ways := describe_cut(cut, rate):
        facts.append(("Shown", ", ".join(ways)))
    texts = f'<p class="caption" dir="auto">{show(cut.caption)}</p>' if cut.caption else ""
    texts += "".join(f'<p class="quote" dir="auto">“{show(text)}”</p>' for text in said)
    where = f"shot {cut.shot} in slot {cut.slot}"
    tools = "".join(
        f'<button type="button" class="{action}" data-action="{action}" aria-pressed="false" title="{title}">'
        f'{action.title()}<span class="hidden"> {where}</span></button>'
        for action, title in (
            ("pin", "Keep this shot in this slot"),
            ("ban", "Never use this shot"),
            ("swap", "Put the next best shot here"),
        )
    )
    name = f"Slot {cut.slot}, shot {cut.shot}"
    return (
        f'<li class="slot" id="slot-{cut.slot}" data-piece="{number}" data-slot="{cut.slot}" data-shot="{cut.shot}"'
        f"{' data-pinned' if cut.pinned else ''}>"
        f"{_draw_picture(number, thumbnail, f'Play from slot {cut.slot}, shot {cut.shot}, {begin}')}"
        f'<h3><span>Slot {cut.slot}</span> <span class="of">shot {cut.shot}</span></h3>'
        f'<p class="sure"><meter min="0" max="1" value="{cut.confidence:.4f}" aria-label="Confidence of slot {cut.slot}">'
        f"</meter> <span>{100 * cut.confidence:.0f} % sure</span></p>"
        f"<dl>{''.join(f'<div><dt>{term}</dt><dd>{show(fact)}</dd></div>' for term, fact in facts)}</dl>{texts}"
        f'<div class="tools" role="group" aria-label="{name}">{tools}</div>'
        f'<p class="state" hidden></p>'  # below the buttons, which are not to move under the finger
        f"{_draw_runners_up(cut, known.candidates.get(cut.slot, ()), now)}</li>"
    )


def _draw_card(number: int, card: Card, rate: Fraction, thumbnail: bytes) -> str:
    begin = clock(float(card.start_frame / rate))
    note = f'<p class="caption" dir="auto">{show(card.note)}</p>' if card.note else ""
    return (
        f'<li class="slot card" data-piece="{number}">{_draw_picture(number, thumbnail, f"Play from the card, {begin}")}'
        f'<h3>Card</h3><p class="caption" dir="auto">{show(card.text)}</p>{note}'
        f"<dl><div><dt>Trailer</dt><dd>{begin}, {float(card.frames / rate):.2f} s</dd></div></dl></li>"
    )


def _draw_picture(number: int, thumbnail: bytes, label: str) -> str:
    return (
        f'<button type="button" class="play" data-piece="{number}" aria-label="{show(label)}">'
        f'<img alt="" src="{picture_source(thumbnail)}"></button>'
    )


def _draw_runners_up(cut: Cut, candidates: Sequence[Candidate], now: Mapping[int, int]) -> str:
    """The next best shots as buttons; the script gives them their pictures."""
    items = []
    for shot, probability, _ in candidates[:MOST_RUNNERS_UP]:
        if shot == cut.shot:
            continue
        used = f", in slot {now[shot]} now" if shot in now else ""
        items.append(
            f'<li><button type="button" data-choose="{shot}" aria-pressed="false"><img alt="" hidden>'
            f'<span>Shot {shot}<span class="hidden"> for slot {cut.slot}</span></span> '
            f"<small>{100 * probability:.1f} %{used}</small></button></li>"
        )
    if not items:
        return ""
    return (
        f'<details class="others"><summary>{len(items)} runner{"s" * (len(items) != 1)}-up'
        f'<span class="hidden"> of slot {cut.slot}</span></summary><ul>{"".join(items)}</ul></details>'
    )


def describe_cut(cut: Cut, frame_rate: Fraction) -> list[str]:
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
    return ways
