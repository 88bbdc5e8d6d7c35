"""Know a language by any of its usual names: en, eng, en-US and English are one."""

from __future__ import annotations

# ISO 639-1, then 639-2 (both forms where there are two), then the names that files carry. Only languages that subtitles
# are commonly made in; any other code stands for itself.
_TABLE = """
ar ara arabic | bg bul bulgarian | bn ben bengali | bs bos bosnian | ca cat catalan | cs cze ces czech cz
da dan danish | de ger deu german deutsch | el gre ell greek gr | en eng english | es spa spanish espanol español castellano
et est estonian | eu baq eus basque | fa per fas persian farsi | fi fin finnish suomi | fr fre fra french francais français
ga gle irish | gl glg galician | he heb hebrew iw | hi hin hindi | hr hrv croatian | hu hun hungarian magyar | hy arm hye
id ind indonesian | is ice isl icelandic | it ita italian italiano | ja jpn japanese jp | ka geo kat georgian
kk kaz kazakh | ko kor korean kr | lt lit lithuanian | lv lav latvian | mk mac mkd macedonian | ml mal malayalam
mn mon mongolian | mr mar marathi | ms may msa malay | nl dut nld dutch nederlands
no nor nob nno nb nn norwegian norsk bokmål | pl pol polish polski | pt por portuguese português portugues pob pb
ro rum ron romanian | ru rus russian | sk slo slk slovak | sl slv slovenian | sq alb sqi albanian | sr srp serbian scc
sv swe swedish svenska | sw swa swahili | ta tam tamil | te tel telugu | th tha thai | tl tgl tagalog fil filipino
tr tur turkish | uk ukr ukrainian ua | ur urd urdu | vi vie vietnamese | zh chi zho chinese cmn yue chs cht mandarin
"""
_KNOWN = {
    name: names[0] for row in _TABLE.strip().replace("\n", "|").split("|") if (names := row.split()) for name in names
}

UNKNOWN = "und"


def normalise_language(name: str) -> str:
    """The two-letter code of a language given as en, eng, en-US, pt_BR or English; "und" for none.

    A code that is not in the table stands for itself, without its region.
    """
    main = name.strip().lower().replace("_", "-").split("-")[0]
    return UNKNOWN if main in ("", UNKNOWN, "unknown", "mis", "mul", "zxx") else _KNOWN.get(main, main)


def find_language(words: list[str]) -> str:
    """The language that the words of a file name speak of, the first if several; "und" if none does."""
    found = [language for word in words if (language := _KNOWN.get(word.lower().split("-")[0]))]
    return found[0] if found else UNKNOWN
