"""Tell whether two language codes name one language: en, eng and en-US do."""

from __future__ import annotations

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
_LANGUAGE = {code: row.split()[0] for row in _CODES.replace("\n", "").split("|") for code in row.split()}
UNKNOWN = frozenset({"", "und", "mis", "mul", "zxx", "unk"})  # undetermined, uncoded, several, none


def name_language(code: str) -> str:
    """The shortest code of the language that a code names, in lower case: "de" for ger, deu, de-AT. "" where unknown.

    Only the first part counts: a country or a script does not make another language. A code that the table does not know
    stands for itself.
    """
    first = code.strip().lower().replace("_", "-").split("-")[0]
    return "" if first in UNKNOWN else _LANGUAGE.get(first, first)


def same_language(one: str, other: str) -> bool:
    """Whether two codes name one language. An unknown language is the same as none, not even as itself."""
    return name_language(one) != "" and name_language(one) == name_language(other)
