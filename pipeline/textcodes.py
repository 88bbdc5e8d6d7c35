"""Turn the bytes of a subtitle file into text, whatever they were written in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
NUL_SHARE = 0.2  # of all bytes; UTF-16 has half of them 0 in Latin text, a third in a subtitle file of any script
SAMPLE_BYTES = 1 << 16  # of text outside ASCII that is looked at
COMMON_SHARE = 0.85  # of a text in an Asian code are everyday characters; of other bytes read so, about half

# Which code files of a language come in when they are not Unicode, likeliest first.
CODES_OF_LANGUAGE = {
    **dict.fromkeys(("ru", "uk", "bg", "mk"), ("cp1251", "koi8_r")),
    **dict.fromkeys(("pl", "cs", "sk", "hu", "hr", "sl", "ro", "bs"), ("cp1250",)),
    **dict.fromkeys(
        ["en", "fr", "de", "es", "it", "pt", "nl", "sv", "da", "no", "fi", "is", "ca", "gl", "eu", "ga"], ("cp1252",)
    ),
    **dict.fromkeys(("ar", "fa", "ur"), ("cp1256",)),
    "sr": ("cp1251", "cp1250"),
    "el": ("cp1253",),
    "tr": ("cp1254",),
    "he": ("cp1255",),
    "th": ("cp874",),
    "ja": ("cp932", "euc_jp"),
    "ko": ("cp949",),
    "zh": ("gb18030", "big5"),
}
# Likeliest first, which decides between codes that read a short text equally well.
SINGLE_BYTE = ("cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp874")
# What a language in one of the Latin codes has outside ASCII; read in another one, letters come out that none mixes.
MARKS = "«»‹›…–—‘’“”„°"
LATIN = (
    ("cp1252", "àâæçéèêëîïôœùûü"),
    ("cp1252", "áéíóúñü¿¡"),
    ("cp1252", "äöüß"),
    ("cp1252", "áâãàçéêíóôõú"),
    ("cp1252", "àèéìòù"),
    ("cp1252", "åäöæøé"),
    ("cp1254", "çğıöşüâ"),
    ("cp1250", "ąćęłńóśźż"),
    ("cp1250", "áčďéěíňóřšťúůýžľĺŕôä"),
    ("cp1250", "áéíóöőúüű"),
    ("cp1250", "ăâîşţ"),
    ("cp1250", "čćđšž"),
)


def decode_text(data: bytes, language: str = "und") -> str:
    """The text of a file, with \\n as its only line break and without NULs. Nothing fails: what fits nowhere is left out.

    A byte order mark decides; then UTF-16 shows by its NULs, UTF-8 by decoding (a few bad bytes in it are dropped); older
    codes are told apart by which characters come out, the language's own first. language: two letters, und: unknown.
    """
    text = _decode(data, language)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.translate({0: None, 0xFEFF: None, 0xFFFD: None})


def _decode(data: bytes, language: str) -> str:
    for bom, code in BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(code, "replace")
    nuls = data.count(0)
    if nuls > NUL_SHARE * len(data):
        return data.decode("utf-16-le" if data[1::2].count(0) > nuls / 2 else "utf-16-be", "replace")
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    good = sum(character > "\x7f" for character in text) - bad if bad else 0
    if bad <= good:  # UTF-8, or UTF-8 with damage: bytes of another code seldom make a UTF-8 sequence by chance
        return text
    return data.decode(_guess_code(data, language), "replace")


def _guess_code(data: bytes, language: str) -> str:
    """The name of the code that makes the most sense of bytes that are not Unicode."""
    foreign = b"\n".join(line for line in data.splitlines() if not line.isascii())[:SAMPLE_BYTES]
    foreign = re.sub(rb"<[^<>]{0,80}>|\{[^{}]{0,80}\}", b"", foreign)  # markup is Latin in any language
    own = CODES_OF_LANGUAGE.get(language, ())
    asian = {
        code: share for code, common in ASIAN.items() if (share := _share_common(foreign, code, common)) is not None
    }
    # Hangul lies where the everyday Chinese characters do; Chinese read as Korean is full of characters that are neither
    best = max(asian, key=lambda code: asian[code] + 0.1 * (code in own) + 0.05 * (code == "cp949"), default="")
    if best and asian[best] >= COMMON_SHARE and (best in own or not own):
        return best
    return _guess_single_byte(foreign, own)


def _guess_single_byte(foreign: bytes, own: tuple[str, ...]) -> str:
    from charset_normalizer import from_bytes

    candidates = [code for code in own if code in SINGLE_BYTE] or list(SINGLE_BYTE)
    # threshold 1: the least bad is wanted, not a good one; with few words the measure is coarse, hence the rounding
    matches = [m for m in from_bytes(foreign, cp_isolation=candidates, threshold=1.0) if m.encoding in candidates]
    matches.sort(key=lambda m: (round(m.chaos, 1), -round(m.coherence, 1), candidates.index(m.encoding)))
    best = matches[0].encoding if matches else candidates[0]
    if own or best not in {code for code, _ in LATIN}:
        return best
    texts = {code: foreign.decode(code, "replace").lower() for code, _ in LATIN}
    return max(LATIN, key=lambda latin: sum(texts[latin[0]].count(letter) for letter in latin[1] + MARKS))[0]


def _share_common(data: bytes, code: str, common: Callable[[str, int], bool]) -> float | None:
    """Share of everyday characters among those outside ASCII that come out of data; None when it is not in this code."""
    try:
        text = codecs.getincrementaldecoder(code)().decode(data)  # incremental: the sample may end within a character
    except UnicodeDecodeError:
        return None
    outside = [character for character in text if character > "\x7f"]
    if not outside:
        return None
    return sum(common(character, character.encode(code)[0]) for character in outside) / len(outside)


def _is_kana(character: str) -> bool:
    return "\u3041" <= character <= "\u30ff"


def _is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def _is_mark(character: str) -> bool:
    return "\u2010" <= character <= "\u203b" or "\u3000" <= character <= "\u301f" or "\uff00" <= character <= "\uff5e"


# Everyday characters by their lead byte: the first of the two levels that each of these standards sorts its ideographs into.
ASIAN: dict[str, Callable[[str, int], bool]] = {
    "gb18030": lambda c, lead: _is_mark(c) or (_is_han(c) and 0xB0 <= lead <= 0xD7),
    "big5": lambda c, lead: _is_mark(c) or (_is_han(c) and 0xA4 <= lead <= 0xC6),
    "cp932": lambda c, lead: _is_mark(c) or _is_kana(c) or (_is_han(c) and 0x88 <= lead <= 0x97),
    "euc_jp": lambda c, lead: _is_mark(c) or _is_kana(c) or (_is_han(c) and 0xB0 <= lead <= 0xCF),
    "cp949": lambda c, lead: _is_mark(c) or ("\uac00" <= c <= "\ud7a3" and lead >= 0xB0),
}
