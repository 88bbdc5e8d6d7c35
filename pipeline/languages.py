"""Know a language by any of its usual names: en, eng, en-US and English are one."""

from __future__ import annotations

from collections.abc import Iterable

# One row a language: ISO 639-1, then 639-2 (terminological and, where it differs, bibliographic), then codes of ISO 639-3
# that films carry for a part of it. Source: the code table of the Library of Congress, registration authority of 639-2.
_CODES = """
af afr|am amh|ar ara arb|as asm|az aze|be bel|bg bul|bn ben|bo bod tib|br bre|bs bos|ca cat|cs ces cze|cy cym wel|
da dan|de deu ger|el ell gre|en eng|eo epo|es spa|et est ekk|eu eus baq|fa fas per pes|fi fin|fil tl tgl|fo fao|
fr fra fre|fy fry|ga gle|gd gla|gl glg|gu guj|ha hau|he heb iw|hi hin|hr hrv scr|hu hun|hy hye arm|id ind in|ig ibo|
is isl ice|it ita|ja jpn|ka kat geo|kk kaz|km khm|kn kan|ko kor|ku kur|ky kir|la lat|lb ltz|lo lao|lt lit|lv lav lvs|
mg mlg|mi mri mao|mk mkd mac|ml mal|mn mon|mr mar|ms msa may zsm|mt mlt|my mya bur|ne nep|nl nld dut|
no nor nb nob nn nno|or ori|pa pan|pl pol|ps pus|pt por pob|ro ron rum mo mol|ru rus|sa san|si sin|sk slk slo|sl slv|
so som|sq sqi alb|sr srp scc|su sun|sv swe|sw swa|ta tam|te tel|tg tgk|th tha|tk tuk|tr tur|tt tat|ug uig|uk ukr|
ur urd|uz uzb|vi vie|xh xho|yi yid ji|yo yor|zh zho chi cmn yue|zu zul
"""
# Names and slips that file names carry.
_NAMES = """
ar arabic|bg bulgarian|bn bengali|bs bosnian|ca catalan|cs czech cz|da danish dansk|de german deutsch|el greek gr|en english|
es spanish espanol español castellano|et estonian|eu basque|fa persian farsi|fi finnish suomi|fr french francais français|
ga irish|gl galician|he hebrew|hi hindi|hr croatian|hu hungarian magyar|id indonesian|is icelandic|it italian italiano|
ja japanese jp|ka georgian|kk kazakh|ko korean kr|lt lithuanian|lv latvian|mk macedonian|ml malayalam|mn mongolian|
mr marathi|ms malay|nl dutch nederlands|no norwegian norsk bokmål|pl polish polski|pt portuguese português portugues pb|
ro romanian|ru russian|sk slovak|sl slovenian|sq albanian|sr serbian|sv swedish svenska|sw swahili|ta tamil|te telugu|
th thai|fil tagalog filipino|tr turkish|uk ukrainian ua|ur urdu|vi vietnamese|zh chinese chs cht mandarin
"""
_KNOWN = {
    name: row.split()[0]
    for table in (_CODES, _NAMES)
    for row in table.replace("\n", "").split("|")
    for name in row.split()
}
UNKNOWN = "und"
_NO_LANGUAGE = frozenset({"", UNKNOWN, "unknown", "mis", "mul", "zxx", "unk"})  # undetermined, uncoded, several, none


def normalise_language(name: str) -> str:
    """The shortest code of the language that a code or an English name stands for: "de" for ger, deu, de-AT, German.

    Only the first part counts: a country or a script does not make another language. A code that the table does not know
    stands for itself; "und" where there is none.
    """
    first = name.strip().lower().replace("_", "-").split("-")[0]
    return UNKNOWN if first in _NO_LANGUAGE else _KNOWN.get(first, first)


def same_language(one: str, other: str) -> bool:
    """Whether two codes name one language. An unknown language is the same as none, not even as itself."""
    return normalise_language(one) != UNKNOWN and normalise_language(one) == normalise_language(other)


def find_language(words: Iterable[str]) -> str:
    """The language that the words of a file name speak of, the first if several; "und" if none does."""
    return next((_KNOWN[code] for word in words if (code := word.lower().split("-")[0]) in _KNOWN), UNKNOWN)
