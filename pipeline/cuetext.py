"""Take what is said out of a subtitle's text: no markup, no notes for the deaf, no songs, no names of speakers."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable

# Controls and marks that show nothing; the joiners U+200C and U+200D stay, for they are part of words in many scripts.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufffd]"
)
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?:\{[^{}]*\\p0[^{}]*\}|$)", re.DOTALL)
_RUBY = re.compile(r"<rt\b[^>]*>.*?</rt>", re.DOTALL | re.IGNORECASE)
_VOICE = re.compile(r"(?<=.)<v[ .][^<>]*>", re.DOTALL)  # WebVTT's speaker, not at the beginning
_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|\{[^{}]*\}|\{\\[^{}]*$")

_BRACKETS = re.compile(
    r"\[[^\[\]]{0,200}\]|［[^］]{0,200}］|【[^】]{0,200}】|〔[^〕]{0,200}〕|\[[^\[\]]*$|\*[^*\n]{1,60}\*"
)
_PARENTHESES = re.compile(r"[(（]([^()（）]*)[)）]")
_SOUND_WORDS = re.compile(r"[a-z]+(?:s|ing)(?: [a-z]+)?")  # (sighs), (laughing softly)
_MUSIC = re.compile("[♩♪♫♬♭♯]")

_DASH = re.compile(r"(?:>>+|[-‐‑–—―](?![-‐‑–—―]))\s*(?=[^\s\d])|[-–—]\s+(?=\d)")
_SECOND_SPEAKER = re.compile(r"(?<=[.!?…\"”。！？])\s+[-–—]\s*(?=[^\W\d])|\s+>>+\s*")

_LOOSE = re.compile(r"^[-–—]{2,}\s*|^[:：\s]+")  # left at a line's head: a dash of an interruption, the colon of a note

_HEAD = re.compile(r"([^\W\d_][\w.'’#&/ -]{0,31}?)\s*[:：](?![\d/])\s*")
_TITLED = re.compile(
    r"(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Doctor|Captain|Capt|Sergeant|Sgt|Colonel|Col|General|Gen|Lieutenant|Lt|Major"
    r"|Officer|Detective|Agent|Sir|Lady|Lord|Father|Sister|Brother|Aunt|Uncle|King|Queen|Prince|Princess)"
    r"\.?(?: [A-Z][\w.'’-]*){1,2}"
)
_NAME = re.compile(r"[A-Z][\w.'’-]*(?: (?:[A-Z#][\w.'’-]*|#?\d+)){0,2}")
_NEVER_NAME = re.compile(
    r"remember|listen|look|wait|note|warning|question|answer|plus|so|and|but|because|now|then|first|second|third|finally"
    r"|breaking|news|headline|rule|lesson|step",
    re.IGNORECASE,
)
NAME_REPEATS = 3  # a word before a colon that comes back this often is who speaks, not a manner of speaking

_CREDITS = re.compile(
    r"www\.|https?://|\b[\w-]{3,}\.(?:com|org|net|tv)\b"
    r"|\b(?:subtitles?|captions?|captioned|subtitled|synced|sync(?:hroni[sz]ed)?|corrected|translat(?:ed|ion)|transcript"
    r"|transcribed|ripped|encoded|resync(?:ed)?|timed|subs)\b(?: and \w+)?(?: corrections?| corrected)?\s*(?:by\b|:|&)"
    r"|\b(?:opensubtitles|addic7ed|subscene|podnapisi|yify|yts|subdl|osdb)\b|advertise your product|become (?:a )?vip"
    r"|rate this subtitle|support us and"
    r"|\b(?:untertitel|sous-titr(?:es|age)|sottotitoli|subt[ií]tulos|legendas?|ondertiteling|undertexter|tekstet|napisy|titulky"
    r"|tłumaczenie|altyaz[ıi]|субтитры|перевод|υπότιτλοι)\b[^.!?]{0,20}?(?::|\b(?:von|par|di|por|av|af|door|od|by)\b)"
    r"|(?:字幕|翻译|翻譯|校对|校對|時間軸|时间轴)\w{0,6}[:：]|字幕组|字幕組",
    re.IGNORECASE,
)


def read_speech(text: str) -> list[str]:
    """The spoken lines of one cue, each on a line of its own; a line that another speaker begins starts with "- ".

    Speakers' names are still there (see strip_name: who is a speaker shows only in the whole file). An empty list for a
    song, a note, an advertisement or a drawing.
    """
    text = re.sub(r"\\[Nn]", "\n", text).replace(r"\h", " ")
    text = _RUBY.sub("", _DRAWING.sub("", text))
    text = html.unescape(_MARKUP.sub("", _VOICE.sub("\n- ", text)))  # in this order: &lt;b&gt; is text, <b> is not
    text = _INVISIBLE.sub("", text.replace("\u2028", "\n").replace("\xa0", " "))
    if _CREDITS.search(text):
        return []
    text = _drop_songs(text)
    text = _PARENTHESES.sub(_drop_note, _BRACKETS.sub(" ", text)).strip()
    if _DASH.match(text):
        text = _SECOND_SPEAKER.sub("\n- ", text)
    lines = []
    for raw in text.split("\n"):
        line = " ".join(raw.split())
        dash = _DASH.match(line)
        line = line[dash.end() :] if dash else line
        line = _LOOSE.sub("", line)
        if any(character.isalnum() for character in line):
            lines.append(f"- {line}" if dash else line)
    return lines


def _drop_songs(text: str) -> str:
    lines = text.split("\n")
    sung = [number for number, line in enumerate(lines) if _MUSIC.search(line) or re.match(r"\s*#\s+\S", line)]
    if not sung:
        return text
    if len(sung) == 1 and sung[0] == 0 and len(_MUSIC.findall(text)) == 1 and _MUSIC.match(text.strip("- ")):
        return ""  # opened and never closed: the song fills the cue
    return "\n".join(line for number, line in enumerate(lines) if not sung[0] <= number <= sung[-1])


def _drop_note(match: re.Match[str]) -> str:
    """Nothing for a note such as (sighs); what a sentence itself holds in parentheses stays."""
    before = match.string[: match.start()].rstrip(" ")
    alone = not before or before[-1] in '\n.!?…。！？-–—:"”'
    note = any(character.isalpha() for character in match[1]) and (alone or _SOUND_WORDS.fullmatch(match[1]))
    return " " if note else match[0]


def find_names(lines: Iterable[str]) -> frozenset[str]:
    """Who speaks, in a file that says so: capitalised words that stand before a colon again and again."""
    heads = Counter(head[1] for line in lines if (head := _HEAD.match(line.removeprefix("- "))))
    return frozenset(
        name
        for name, count in heads.items()
        if count >= NAME_REPEATS and _NAME.fullmatch(name) and not _NEVER_NAME.fullmatch(name)
    )


def strip_name(line: str, names: frozenset[str]) -> tuple[bool, str]:
    """(a speaker begins here, what is said): without the dash, JOHN:, Dr. Who: or any of the names before a colon.

    "Remember: ..." is no speaker, nor are capitals before a colon where the whole line is in capitals.
    """
    fresh = line.startswith("- ")
    line = line.removeprefix("- ")
    head = _HEAD.match(line)
    if head is None or not head[1]:
        return fresh, line
    name, said = head[1], line[head.end() :]
    capitals = sum(character.isupper() for character in name) >= 2 and name == name.upper() and len(name.split()) <= 4
    shouted = said.isupper()  # then the capitals say nothing about who speaks
    if (capitals and not shouted) or _TITLED.fullmatch(name) or name in names:
        return True, said
    return fresh, line
