"""Write an edit list as X.edit.json (schema 1), and read it back, from any hand."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.records import Card, Cut, EditList, FilmReference, Music, Output, Placement, Span

SCHEMA = 1
MOST_TEXT = 10_000  # characters of a line or a caption
MOST_BYTES = 64 << 20  # an edit list of a ten-hour film has 2 MB


def edit_to_json(edit: EditList) -> str:
    """The edit list as text: equal edit lists give equal bytes."""
    film, output, music = edit.film, edit.output, edit.music
    tree = {
        "schema": SCHEMA,
        "version": edit.version,
        "seed": edit.seed,
        "title": edit.title,
        "film": {
            "path": str(film.path),
            "fingerprint": film.fingerprint,
            "start": film.start,
            "duration": film.duration,
            "frame_rate": _rate(film.frame_rate),
            "width": film.width,
            "height": film.height,
            **({"bars": list(film.bars)} if any(film.bars) else {}),
            **({} if film.story is None else {"story": list(film.story)}),
        },
        "output": {
            "width": output.width,
            "height": output.height,
            "frame_rate": _rate(output.frame_rate),
            "frames": output.frames,
            "loudness_lufs": output.loudness_lufs,
            **({"fade_in": output.fade_in} if output.fade_in else {}),
            **({"fade_out": output.fade_out} if output.fade_out else {}),
        },
        "cuts": [
            {
                "slot": cut.slot,
                "shot": cut.shot,
                "source_start": cut.source.start,
                "source_end": cut.source.end,
                "start_frame": cut.start_frame,
                "frames": cut.frames,
                "confidence": cut.confidence,
                "pinned": cut.pinned,
                **({} if cut.sound else {"sound": False}),
                **({"caption": cut.caption} if cut.caption else {}),
                **({"speed": cut.speed} if cut.speed != 1 else {}),
                **({"dissolve": cut.dissolve} if cut.dissolve else {}),
                **({"focus": [list(point) for point in cut.focus]} if cut.focus else {}),
            }
            for cut in edit.cuts
        ],
        "cards": [
            {
                "text": c.text,
                "start_frame": c.start_frame,
                "frames": c.frames,
                **({"note": c.note} if c.note else {}),
            }
            for c in edit.cards
        ],
        "narration": [
            {
                "line": p.line,
                "text": p.text,
                "source_start": p.span.start,
                "source_end": p.span.end,
                "slot": p.slot,
                "start_frame": p.start_frame,
                "similarity": p.similarity,
                **({} if p.voice is None else {"voice": str(p.voice)}),
            }
            for p in edit.narration
        ],
        "music": {
            "path": str(music.path),
            "fingerprint": music.fingerprint,
            "offset": music.offset,
            "segments": list(music.segments),
            "beats": list(music.beats),
            **({"accents": list(music.accents)} if music.accents else {}),
            **({"parts": [[part.start, part.end] for part in music.parts]} if music.parts else {}),
            **({"fade_seconds": music.fade_seconds} if music.fade_seconds else {}),
        },
        "models": edit.models,
        "config": edit.config,
        "warnings": list(edit.warnings),
        "shots": [[span.start, span.end] for span in edit.shots],
        **({"banned": list(edit.banned)} if edit.banned else {}),
    }
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def _rate(rate: Fraction) -> str:
    return f"{rate.numerator}/{rate.denominator}"


def read_edit(path: Path) -> EditList:
    """Read X.edit.json. Raises InputError, naming the field, for one that cannot be used."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too large for an edit list ({path.stat().st_size} bytes)")
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the edit list {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not an edit list: it is no JSON ({error})") from error
    if not isinstance(tree, dict) or "schema" not in tree:
        raise InputError(f"{path} is not an edit list: it has no schema")
    if tree["schema"] != SCHEMA:
        raise InputError(f"{path} has schema {tree['schema']}; this version reads {SCHEMA}")
    try:
        return _edit_from_tree(tree)
    except KeyError as error:
        raise InputError(f"{path} is not a whole edit list: {error.args[0]} is missing") from error
    except (ValueError, TypeError, IndexError, ZeroDivisionError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} cannot be used as an edit list: {error}") from error


def _edit_from_tree(tree: dict[str, Any]) -> EditList:
    film, output, music = tree["film"], tree["output"], tree["music"]
    edit = EditList(
        version=str(tree["version"]),
        seed=int(tree["seed"]),
        title=str(tree.get("title", "")),
        film=FilmReference(
            path=Path(str(film["path"])),
            fingerprint=str(film["fingerprint"]),
            duration=_seconds(film["duration"]),
            frame_rate=Fraction(film["frame_rate"]),
            width=int(film["width"]),
            height=int(film["height"]),
            start=_seconds(film.get("start", 0.0)),
            bars=_bars(film.get("bars", (0, 0, 0, 0))),
            story=_story(film.get("story")),
        ),
        output=Output(
            width=_even(output["width"]),
            height=_even(output["height"]),
            frame_rate=_positive(Fraction(output["frame_rate"])),
            frames=int(output["frames"]),
            loudness_lufs=_loudness(output["loudness_lufs"]),
            fade_in=_whole(output.get("fade_in", 0)),
            fade_out=_whole(output.get("fade_out", 0)),
        ),
        cuts=tuple(
            Cut(
                slot=int(c["slot"]),
                shot=_index(c["shot"]),
                source=Span(_seconds(c["source_start"]), _seconds(c["source_end"])),
                start_frame=int(c["start_frame"]),
                frames=int(c["frames"]),
                confidence=float(c.get("confidence", 1.0)),
                pinned=bool(c.get("pinned", False)),
                sound=bool(c.get("sound", True)),
                caption=_text(c.get("caption", "")),
                speed=_seconds(c.get("speed", 1.0)),
                dissolve=_whole(c.get("dissolve", 0)),
                focus=tuple((_seconds(x), _seconds(y)) for x, y in c.get("focus", ())),
            )
            for c in tree["cuts"]
        ),
        cards=tuple(
            Card(_text(c["text"]), int(c["start_frame"]), int(c["frames"]), _text(c.get("note", "")))
            for c in tree["cards"]
        ),
        narration=tuple(
            Placement(
                line=_whole(p["line"]),
                text=_text(p["text"]),
                span=Span(_seconds(p["source_start"]), _seconds(p["source_end"])),
                slot=_whole(p["slot"]),
                start_frame=_whole(p["start_frame"]),
                similarity=_seconds(p["similarity"]),
                voice=Path(str(p["voice"])) if p.get("voice") else None,
            )
            for p in tree["narration"]
        ),
        music=Music(
            path=Path(str(music["path"])),
            fingerprint=str(music["fingerprint"]),
            offset=_seconds(music["offset"]),
            segments=tuple(_seconds(s) for s in music["segments"]),
            beats=tuple(_seconds(b) for b in music.get("beats", [])),
            accents=tuple(_seconds(a) for a in music.get("accents", [])),
            parts=tuple(Span(_seconds(a), _seconds(b)) for a, b in music.get("parts", [])),
            fade_seconds=_seconds(music.get("fade_seconds", 0.0)),
        ),
        models=dict(tree["models"]),
        config=dict(tree["config"]),
        shots=tuple(Span(_seconds(a), _seconds(b)) for a, b in tree["shots"]),
        warnings=tuple(str(w) for w in tree.get("warnings", [])),
        banned=tuple(_index(shot) for shot in tree.get("banned", [])),
    )
    _check_narration(edit)
    return edit


def _check_narration(edit: EditList) -> None:
    """Every line is heard whole within the trailer. Raises ValueError."""
    for number, placed in enumerate(edit.narration):
        where = f"narration entry {number + 1}"
        if placed.span.duration <= 0:
            raise ValueError(f"{where} lasts {placed.span.duration:g} s")
        frames = placed.span.duration * edit.output.frame_rate
        # compared as whole numbers first: no figure is too large for that
        if not 0 <= placed.start_frame < edit.output.frames or placed.start_frame + frames > edit.output.frames + 1:
            raise ValueError(
                f"{where} starts at frame {placed.start_frame} and lasts {placed.span.duration:.2f} s: it does not lie "
                f"within the trailer's {edit.output.frames} frames"
            )
        if placed.slot >= len(edit.cuts):
            raise ValueError(f"{where} names slot {placed.slot} of {len(edit.cuts)}")


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(f"{value} is not a time")
    return seconds


def _bars(value: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = (_seconds(share) for share in value)
    return left, top, right, bottom


def _story(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    begin, end = (_seconds(time) for time in value)
    return begin, end


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or value < 0:
        raise ValueError(f"{str(value)[:40]} is not a whole number from 0 on")
    return int(value)


def _text(value: Any) -> str:
    text = str(value)
    if len(text) > MOST_TEXT:
        raise ValueError(f"a text of {len(text)} characters is no line")
    text.encode()  # half a surrogate pair could not be written again; UnicodeEncodeError is a ValueError
    return text


def _index(value: Any) -> int:
    if int(value) < 0:  # Python would count it from the end
        raise ValueError(f"{value} is not the number of a shot")
    return int(value)


def _even(value: Any) -> int:
    size = int(value)
    if size < 2 or size % 2 or size > 8192:
        raise ValueError(f"{value} is not an even picture size")
    return size


def _loudness(value: Any) -> float:
    if not -40 <= float(value) <= -8:
        raise ValueError(f"{value} is not a loudness in LUFS between -40 and -8")
    return float(value)


def _positive(rate: Fraction) -> Fraction:
    if not 0 < rate <= 1000:
        raise ValueError(f"{rate} is not a frame rate")
    return rate
