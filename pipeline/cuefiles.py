"""Read subtitle files of any usual format, however badly they were written, into cues."""

from __future__ import annotations

import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from xml.etree.ElementTree import ParseError

from pipeline.cues import Cue
from pipeline.errors import InputError
from pipeline.media import check_readable
from pipeline.textcodes import decode_text

MOST_BYTES = 32 << 20  # of a subtitle file; a film's are 0.1 MiB, with pictures and fonts in them a few
MOST_CHARACTERS = 2000  # of a cue; the screen holds 200, the rest are drawings
CHARACTERS_PER_SECOND = 15.0  # that are read, where a cue does not say when it ends
LEAST_SECONDS = 1.0  # that such a cue is given
VOBSUB_HEAD = b"\x00\x00\x01\xba"  # an MPEG program stream's pack header

_STAMP = r"(-?)(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,:](\d{1,3}))?"
_TIMES = re.compile(rf"^[^\S\n]*{_STAMP}[^\S\n]*(?:-{{1,3}}>|,(?=\d{{1,4}}:\d))[^\S\n]*{_STAMP}(?![\d:])", re.MULTILINE)
_ASS_TIME = r"[ \t]*(\d{1,2}):(\d{1,2}):(\d{1,2}(?:\.\d{1,3})?)[ \t]*"
_DIALOGUE = re.compile(rf"^Dialogue:[^,\n]*,{_ASS_TIME},{_ASS_TIME},([^,\n]*),(?:[^,\n]*,){{5}}(.*)$", re.MULTILINE)
_NOT_SPOKEN_STYLE = re.compile(r"(?:op|ed|opening|ending|songs?|lyrics?|karaoke|signs?|credits?)\b", re.IGNORECASE)


def read_cue_file(path: Path, *, language: str = "und", frame_rate: Fraction = Fraction(24)) -> tuple[Cue, ...]:
    """The cues of a subtitle file, in the file's order, in seconds on its own clock.

    SubRip, WebVTT, SBV, SubStation Alpha, MicroDVD, TTML, SAMI, MPL2 and TMPlayer, told apart by their content. language:
    two letters, helps to tell in which code a file is that is not Unicode. frame_rate: of a MicroDVD file that states none.
    What is broken in a file is left out; raises InputError where nothing can be used, naming the path and why.
    """
    check_readable(path, "subtitle file")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(
            f"the subtitle file {path} is {size / (1 << 20):.0f} MiB; subtitles have {MOST_BYTES >> 20} at most"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the subtitle file {path}: {error.strerror}") from error
    if data.startswith(VOBSUB_HEAD):
        raise InputError(f"the subtitle file {path} holds pictures (VobSub), not text; give a .srt, .ass or .vtt file")
    text = decode_text(data, language)
    if not text.strip():
        raise InputError(f"the subtitle file {path} holds nothing but blanks")
    cues = tuple(_parse_text(text, path, frame_rate))
    if not cues:
        raise InputError(f"the subtitle file {path} has no cue that can be used: none with both a time and a text")
    return cues


def _parse_text(text: str, path: Path, frame_rate: Fraction) -> Iterator[Cue]:
    if _DIALOGUE.search(text) or "[Script Info]" in text[:2000] or "[Events]" in text:
        return _parse_substation(text)
    if "<tt" not in text[:2000] and _TIMES.search(text):
        return _parse_timed(text)
    return _parse_with_pysubs2(text, path, frame_rate)


def _parse_timed(text: str) -> Iterator[Cue]:
    """SubRip, WebVTT and SBV: a line with two times, and text until the next.

    By ourselves: pysubs2 wants hours and thousandths, takes "-00:00:01" for one second, and adds the identifier of a
    WebVTT cue to the text of the cue before it.
    """
    webvtt = text.lstrip().startswith("WEBVTT")
    stamps = list(_TIMES.finditer(text))
    found: list[tuple[float, float, str]] = []
    for match, following in zip(stamps, [*stamps[1:], None], strict=True):
        start, end = _read_stamp(match.groups()[:5]), _read_stamp(match.groups()[5:])
        if start is None or end is None:
            continue
        lines = text[match.end() : following.start() if following else len(text)].split("\n")[1:]  # [0]: places
        found.append((max(0.0, start), end, _clip_text(lines, webvtt, last=following is None)))
    return mend_ends(found)


def _clip_text(lines: list[str], webvtt: bool, *, last: bool) -> str:
    """A cue's own lines, without the number or the name of the next cue, and without notes and styles.

    A blank line ends a WebVTT cue; in SubRip it may stand in the text.
    """
    while lines and not lines[-1].strip():
        lines.pop()
    blank = next((n for n, line in enumerate(lines) if not line.strip() and n > 0), len(lines))
    if webvtt:
        return "\n".join(lines[:blank])
    if lines and not last and re.fullmatch(r"\s*\d+\s*", lines[-1]):
        lines.pop()
    elif last and blank < len(lines):  # the last cue may have been cut off: its number, half its times
        rest = [line for line in lines[blank:] if line.strip()]
        if all(re.fullmatch(r"[\s\d:.,>-]*", line) for line in rest):
            lines = lines[:blank]
    return "\n".join(lines).rstrip()


def _read_stamp(groups: tuple[str | None, ...]) -> float | None:
    """Seconds; None for 99:99."""
    sign, hours, minutes, seconds, fraction = groups
    if int(minutes or 0) > 59 or int(seconds or 0) > 59:
        return None
    time = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(f"{seconds}.{fraction or 0}")
    return -time if sign else time


def mend_ends(found: list[tuple[float, float, str]]) -> Iterator[Cue]:
    """Cues; one that ends before it begins is given the time that it takes to read, up to the next one's start."""
    starts = sorted(start for start, _, _ in found)
    for start, end, text in found:
        if not text.strip():
            continue
        if end <= start:
            end = start + max(LEAST_SECONDS, len(text) / CHARACTERS_PER_SECOND)
            later = bisect_right(starts, start)
            end = min(end, starts[later]) if later < len(starts) else end
        yield Cue(start, end, text[:MOST_CHARACTERS])


def _parse_substation(text: str) -> Iterator[Cue]:
    """Advanced and old SubStation Alpha. pysubs2 gives a file up at one bad time or style: it is shown the good lines."""
    good = [
        f"Dialogue: 0,{match[1]}:{match[2]:0>2}:{match[3]:0>2},{match[4]}:{match[5]:0>2}:{match[6]:0>2},,,0,0,0,,{match[8]}"
        for match in _DIALOGUE.finditer(text)
        if not _NOT_SPOKEN_STYLE.match(match[7].strip())
    ]
    return mend_ends(_load("\n".join(["[Events]", *good]), "ass"))


def read_event(fields: str) -> str:
    """The text of an event as containers hold it, "0,0,Style,Name,0,0,0,Effect,Text"; "" for a song or a sign."""
    parts = fields.split(",", 8)
    if len(parts) < 9 or _NOT_SPOKEN_STYLE.match(parts[2].strip()):
        return ""
    return re.sub(r"\\[Nn]", "\n", parts[8])


def _parse_with_pysubs2(text: str, path: Path, frame_rate: Fraction) -> Iterator[Cue]:
    """MicroDVD, TTML, SAMI, MPL2, TMPlayer."""
    from pysubs2.exceptions import FormatAutodetectionError, UnknownFPSError
    from pysubs2.formats import autodetect_format

    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)  # it names a code; the text is decoded already
    try:
        name = autodetect_format(text[:10000])
    except FormatAutodetectionError as error:
        reason = "of no subtitle format that is known" if not error.formats else f"of no one format: {error.formats}"
        raise InputError(f"the subtitle file {path} is {reason}; give a .srt, .ass, .vtt or .sub file") from error
    try:
        try:
            return mend_ends(_load(text, name))
        except UnknownFPSError:  # MicroDVD counts frames: the film's, unless its first line says otherwise
            return mend_ends(_load(text, name, float(frame_rate)))
    except ParseError as error:
        raise InputError(f"the subtitle file {path} is broken XML: {error}") from error
    except (
        ValueError,
        KeyError,
        NotImplementedError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:  # what its parsers raise
        raise InputError(f"the subtitle file {path} is not sound {name}: {error}") from error


def _load(text: str, name: str, frame_rate: float | None = None) -> list[tuple[float, float, str]]:
    """(start, end, text) of each event that is text, in seconds."""
    from pysubs2 import SSAFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # fields that are not used here and not as they should be
        # Apple's lyrics count a line's time from the film's start, where TTML has it count from the verse's
        apple = "music.apple.com" in text[:2000]
        events = SSAFile.from_string(text, name, fps=frame_rate, ignore_par_time_offset=apple).events
    return [
        (max(0, event.start) / 1000, event.end / 1000, re.sub(r"\\[Nn]", "\n", event.text))
        for event in events
        if not event.is_comment
    ]
