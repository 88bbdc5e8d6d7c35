"""Read a voice file: recordings that are heard in the place of the film's own voices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.media import check_readable, fingerprint_file
from pipeline.script import Lines, ScriptLine
from pipeline.sound import find_sounding

MOST_BYTES = 4 << 20
MOST_LINES = 200
LONGEST = 120.0  # s of one recording
MOST_WORTH = 1e9
MOST_TEXT = 500  # characters; half a minute of speech


def read_voice(path: Path, lines: Lines | None) -> tuple[ScriptLine, ...]:
    """What a voice file says, in its order: `[{"file": "a.wav", "text": "..."}, {"file": "b.wav", "line": 7}]`.

    file: a sound file, from the voice file's folder on; all of it is heard. text: what it says; or line: the number of
    the film's line that it says. worth: optional number, the lowest is left out first; else the last is.
    lines: none where they are not known yet: then no number of a line is refused, and its text stays empty. Raises
    InputError, naming the entry, for what cannot be used.
    """
    entries = _read_entries(path)
    script = []
    for number, entry in enumerate(entries):
        where = f"{path}, entry {number + 1}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str) or not entry["file"]:
            raise InputError(f'{where}: an entry is {{"file": "a.wav", "text": "what it says"}}')
        unknown = set(entry) - {"file", "text", "line", "worth"}
        if unknown:
            raise InputError(f"{where}: {', '.join(sorted(unknown))} means nothing here (file, text, line, worth)")
        file = check_readable(path.parent / entry["file"], "recording")
        span = find_sounding(file, longest=LONGEST)
        line, text = _find_line(entry, lines, number, where)
        script.append(ScriptLine(line, text, span, _read_worth(entry, number, where), file.resolve()))
    return tuple(script)


def fingerprint_voice(path: Path) -> list[str]:
    """The voice file and the recordings that it names, by content."""
    files = [entry.get("file") for entry in _read_entries(path) if isinstance(entry, dict)]
    named = [path.parent / file for file in files if isinstance(file, str)]
    return [fingerprint_file(check_readable(each, "voice file")) for each in (path, *named)]


def _read_entries(path: Path) -> list[Any]:
    try:
        if check_readable(path, "voice file").stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too large for a voice file")
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a voice file: it is no JSON ({error})") from error
    entries = tree.get("lines") if isinstance(tree, dict) else tree
    if not isinstance(entries, list) or not entries:
        raise InputError(f'{path} is not a voice file: it holds a list such as [{{"file": "a.wav", "text": "..."}}]')
    if len(entries) > MOST_LINES:
        raise InputError(f"{path} has {len(entries)} entries; the most is {MOST_LINES}")
    return entries


def _read_worth(entry: dict[str, Any], number: int, where: str) -> float:
    worth = entry.get("worth", -number)
    if isinstance(worth, bool) or not isinstance(worth, (int, float)) or not abs(worth) <= MOST_WORTH:
        raise InputError(f"{where}: worth is a number up to {MOST_WORTH:g}, and not {str(worth)[:40]!r}")
    return float(worth)


def _find_line(entry: dict[str, Any], lines: Lines | None, number: int, where: str) -> tuple[int, str]:
    """The number of the film's line, or the entry's own, and its text."""
    line, text = entry.get("line"), entry.get("text", "")
    if not isinstance(text, str) or not text.isprintable() or len(text) > MOST_TEXT:
        raise InputError(
            f"{where}: text is a text on one line, of at most {MOST_TEXT} characters, not {str(text)[:40]!r}"
        )
    if line is None:
        if not text.strip():
            raise InputError(f"{where} has neither a text nor a line's number")
        return number, text.strip()
    if isinstance(line, bool) or not isinstance(line, int) or line < 0:
        raise InputError(f"{where}: a line's number is a whole number from 0, and not {str(line)[:40]!r}")
    if lines is None:
        return line, text.strip()
    if line >= len(lines):
        raise InputError(f"{where}: the film has {len(lines)} lines, numbered from 0, and no line {str(line)[:40]}")
    return line, text.strip() or lines.lines[line].text
