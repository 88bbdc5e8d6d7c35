"""Make sentences out of subtitle cues: what is said, and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.cuetext import find_names, read_speech, strip_name
from pipeline.records import Line, Span

SAME_MOMENT = 0.1  # s; a cue that begins this soon after another ended follows it without a break
LONGEST_PAUSE = 1.5  # s within a sentence that runs over two cues
CONTINUED_PAUSE = 3.0  # s where the second cue says itself that it goes on: a small letter, three dots
MOST_OVERLAP = 0.5  # s that one speaker's cues may lie over one another; more, and two people speak at once
SHORT_WORDS = 12  # several sentences of so many words together stay one line
LONG_WORDS, LONG_SECONDS = 25, 8.0  # a sentence this long goes on only where the next cue says that it does
MOST_WORDS = 60  # that are ever joined
# Share of a file's cues that close a sentence, from which a cue that closes none is taken to go on in the next: at all, and
# even where that one begins with a capital. Cues without punctuation are a sentence each.
PUNCTUATED_SHARE, WELL_PUNCTUATED_SHARE = 0.2, 0.5
PAINTED_SECONDS = 1.0  # a cue that is shown so shortly and then grows is one that is painted word by word

_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uff01-\uffef"  # Thai, Lao, Khmer, Japanese, Chinese
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_CLOSERS = "\"'”’»)\\]」』）"
_DOTS_END = re.compile(r"(?:\.{2,}|…+)$")
_DOTS_START = re.compile(r"^(?:\.{2,}|…+)\s*")
_CLOSED = re.compile(f"[.!?。！？｡؟۔।॥][{_CLOSERS}]*$")
_ABBREVIATED = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Sgt|Capt|Col|Gen|Lt|vs)\.$")
_INITIAL = re.compile(r"\b[A-Z]\.$")  # J. R. Smith; at the end of a cue it may be "plan B."
# An end in text with spaces is followed by something that may begin a sentence: no small letter.
_ENDS = re.compile(f"[.!?…؟۔।॥]+[{_CLOSERS}]*(?=\\s)|[。！？｡…]+[{_CLOSERS}]*")


@dataclass(frozen=True, slots=True)
class Cue:
    """What stands in a subtitle from start to end, in seconds on the film's clock; the text with its markup."""

    start: float
    end: float
    text: str

    def __post_init__(self) -> None:
        if not self.start <= self.end:
            raise ValueError(f"a cue ends before it starts: {self.start} > {self.end}")


@dataclass(frozen=True, slots=True)
class _Shown:
    """A cue as it is read: its spoken lines, a speaker's first with a dash before it."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one speaker says in one cue. fresh: another than the one before begins to speak."""

    start: float
    end: float
    text: str
    fresh: bool = False


def make_lines(cues: Iterable[Cue]) -> tuple[Line, ...]:
    """The film's lines, in the order of time: what is said, sentence by sentence.

    Markup, songs, notes for the deaf, speakers' names and the makers' advertisements are left out, cues that repeat one
    another are one, two speakers in a cue are two lines. A sentence that runs over several cues is one line from the
    first cue's start to the last one's end. Sentences in one cue stay together up to 12 words, else each group of them
    takes its share of the time by its characters. Nothing is random.
    """
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.end))
    shown = _merge_repeats(_Shown(cue.start, cue.end, tuple(read_speech(cue.text))) for cue in ordered)
    names = find_names(line for cue in shown for line in cue.lines)
    pieces = [piece for cue in shown for piece in _tell_speakers(cue, names)]
    closed = sum(_is_closed(piece.text) for piece in pieces)
    share = closed / max(1, len(pieces))
    lines = [line for sentence in _join(pieces, share) for line in _split(sentence)]
    return tuple(sorted(lines, key=lambda line: line.span.start))


def _merge_repeats(cues: Iterable[_Shown]) -> list[_Shown]:
    """Cues that say something new: repeats lengthen the first, roll-up captions lose the lines already shown."""
    kept: list[_Shown] = []
    before: tuple[str, ...] = ()  # what the cue before showed, with what was taken off it
    before_end = 0.0
    for cue in cues:
        if not cue.lines:
            continue
        follows = cue.start - before_end <= SAME_MOMENT
        twin = next((n for n in range(len(kept) - 1, max(-1, len(kept) - 5), -1) if _is_repeat(kept[n], cue)), None)
        rolled = _count_rolled(before, cue.lines) if follows else 0
        last = kept[-1] if kept else None
        if twin is not None:
            kept[twin] = replace(kept[twin], end=max(kept[twin].end, cue.end))
        elif rolled == len(cue.lines) and last is not None:
            kept[-1] = replace(last, end=max(last.end, cue.end))
        elif last is not None and follows and _is_painted(last, cue):
            kept[-1] = replace(last, end=max(last.end, cue.end), lines=cue.lines)
        else:
            kept.append(replace(cue, lines=cue.lines[rolled:]))
        before, before_end = cue.lines, cue.end
    return kept


def _is_repeat(a: _Shown, b: _Shown) -> bool:
    return a.lines == b.lines and b.start - a.end <= SAME_MOMENT


def _count_rolled(before: Sequence[str], now: Sequence[str]) -> int:
    """How many lines at the top of a cue are those at the foot of the cue before."""
    for count in range(min(len(before), len(now)), 0, -1):
        if tuple(before[-count:]) == tuple(now[:count]):
            return count
    return 0


def _is_painted(a: _Shown, b: _Shown) -> bool:
    old, new = " ".join(a.lines), " ".join(b.lines)
    return a.end - a.start < PAINTED_SECONDS and len(new) > len(old) and new.startswith(old)


def _tell_speakers(cue: _Shown, names: frozenset[str]) -> list[_Piece]:
    """What each speaker says in a cue, in shares of its time by characters."""
    said: list[tuple[bool, str]] = []
    for line in cue.lines:
        fresh, text = strip_name(line, names)
        if said and not fresh:
            said[-1] = (said[-1][0], _glue(said[-1][1], text))
        else:
            said.append((fresh, text))
    said = [(fresh, text) for fresh, text in said if any(character.isalnum() for character in text)]
    total = sum(len(text) for _, text in said)
    pieces, at = [], 0
    for fresh, text in said:
        start, at = at, at + len(text)
        times = [cue.start + (cue.end - cue.start) * share / total for share in (start, at)]
        pieces.append(_Piece(times[0], times[1], text, fresh))
    return pieces


def _join(pieces: Sequence[_Piece], closed: float) -> list[list[_Piece]]:
    """Groups of pieces that go on from one another. closed: the share of the file's pieces that close a sentence."""
    groups: list[list[_Piece]] = []
    for piece in pieces:
        if groups and _goes_on(groups[-1], piece, closed):
            last = groups[-1][-1]
            if _DOTS_START.match(piece.text):  # "... being chased..." "...by claws": the dots only said that it goes on
                piece = replace(piece, text=_DOTS_START.sub("", piece.text))
                groups[-1][-1] = replace(last, text=_DOTS_END.sub("", last.text))
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups


def _goes_on(group: Sequence[_Piece], piece: _Piece, closed: float) -> bool:
    """Whether a piece goes on with the sentence that the group ends in."""
    last = group[-1]
    pause = piece.start - last.end
    words = sum(count_words(part.text) for part in group)
    if piece.fresh or pause < -MOST_OVERLAP or pause > CONTINUED_PAUSE or words + count_words(piece.text) > MOST_WORDS:
        return False
    dots = _DOTS_START.match(piece.text)
    rest = piece.text[dots.end() :] if dots else piece.text
    small = rest.lstrip("\"'“‘«(")[:1].islower()
    if dots or _DOTS_END.search(last.text):
        return not _is_closed(last.text) and (small or bool(dots and _DOTS_END.search(last.text)))
    comma = last.text.endswith((",", "，", "、"))
    if _is_closed(last.text) or not (closed >= PUNCTUATED_SHARE or comma):
        return False
    if small:
        return True
    long = words > LONG_WORDS or last.end - group[0].start > LONG_SECONDS
    broken_off = last.text[-1] in "-–—"
    sign = last.text.isupper() and not piece.text.isupper()
    return pause <= LONGEST_PAUSE and (comma or closed >= WELL_PUNCTUATED_SHARE) and not (long or broken_off or sign)


def _split(group: Sequence[_Piece]) -> list[Line]:
    """One line, or where they are many words one for each group of sentences."""
    text = ""
    places: list[tuple[int, int, _Piece]] = []  # which characters of the text are whose
    for piece in group:
        whole = _glue(text, piece.text)
        places.append((len(whole) - len(piece.text), len(whole), piece))
        text = whole
    if count_words(text) <= SHORT_WORDS:
        return [Line(text, Span(group[0].start, group[-1].end))]
    packs: list[tuple[int, int]] = []
    for start, end in _find_sentences(text):
        if packs and count_words(text[packs[-1][0] : end]) <= SHORT_WORDS:
            packs[-1] = (packs[-1][0], end)
        else:
            packs.append((start, end))
    return [
        Line(text[start:end], Span(_find_time(places, start), _find_time(places, end - 1, 1))) for start, end in packs
    ]


def _find_sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence of a text begins and ends, without the spaces between."""
    ends = [0]
    for match in _ENDS.finditer(text):
        following = text[match.end() :].lstrip().lstrip("\"'“‘«([¿¡")
        until = text[: match.end()]
        if following and not (following[0].islower() or _ABBREVIATED.search(until) or _INITIAL.search(until)):
            ends.append(match.end())
    ends.append(len(text))
    spans = []
    for start, end in pairwise(ends):
        while start < end and text[start].isspace():
            start += 1
        if start < end:
            spans.append((start, end))
    return spans


def _find_time(places: Sequence[tuple[int, int, _Piece]], character: int, part: int = 0) -> float:
    """Seconds at which a character of the joined text is said; part 1: has been said."""
    for start, end, piece in places:
        if character < end:
            share = (max(character, start) - start + part) / (end - start)
            return piece.start + (piece.end - piece.start) * share
    return places[-1][2].end


def count_words(text: str) -> int:
    """Words of a text; in scripts without spaces two characters count as one."""
    unspaced = len(_UNSPACED_CHARACTER.findall(text))
    return len(_UNSPACED_CHARACTER.sub(" ", text).split()) + (unspaced + 1) // 2


def _is_closed(text: str) -> bool:
    """Whether a text ends a sentence; three dots leave it open."""
    return bool(_CLOSED.search(text)) and not _DOTS_END.search(text) and not _ABBREVIATED.search(text)


def _glue(a: str, b: str) -> str:
    """Two stretches of one text: a space between them, none within a script that has none."""
    unspaced = a and b and _UNSPACED_CHARACTER.match(a[-1]) and _UNSPACED_CHARACTER.match(b[0])
    return a + b if unspaced or not a else f"{a} {b}"
