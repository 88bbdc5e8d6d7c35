"""Real and damaged subtitle files: each gives its lines, or one clear error."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.cuefiles import read_cue_file
from pipeline.cues import make_lines
from pipeline.errors import InputError
from pipeline.media import probe_film
from pipeline.records import Line
from pipeline.settings import LineSettings
from pipeline.subtitles import find_sources, read_lines, read_source

pytestmark = pytest.mark.film

GERMAN = ["Du hörst mich? Ça va – mañana…", "Zweite Zeile", "Ja!", "Ende."]  # most of the gen_ files are this one
RUSSIAN = ["Привет, это кириллица", "Вторая строка"]
LEWIS = [  # subtitles 1 to 5 of the TTML standard's example
    "It seems a paradox, does it not, that the image formed on the Retina should be inverted?",
    "It is puzzling, why is it we do not see things upside-down?",
    "You have never heard the Theory, then, that the Brain also is inverted?",
    "No indeed! What a beautiful fact!",
]
SENATOR = ["Senator, we're making our final approach into Coruscant.", "Very good, Lieutenant.", "It's a trap!"]
# What each file of odd/subs says: all of its lines, or the first few of them; an error's words where it says nothing.
SAID: dict[str, list[str] | str] = {
    "gen_bad_header.ass": ["no Format line text next"],
    "gen_bad_timestamps.srt": ["negative", "single dash arrow"],
    "gen_binary_named.srt": "of no subtitle format",
    "gen_cp1251.srt": RUSSIAN,
    "gen_cp1252.srt": GERMAN,
    "gen_dot_millis.srt": ["dot instead of comma"],
    "gen_empty.srt": "is empty",
    "gen_end_before_start.srt": ["backwards", "zero length"],
    "gen_gbk.srt": ["你好，世界"],
    "gen_html_entities.srt": ["red & top <b>"],
    "gen_huge_20000_cues.srt": ["line 0", "line 1"],
    "gen_koi8r.srt": RUSSIAN,
    "gen_latin1.srt": ["Du hörst mich? Ça va - mañana...", *GERMAN[1:]],
    "gen_microdvd.sub": ["MicroDVD frame based second line", "italic"],
    "gen_missing_blank_lines.srt": ["first", "second"],
    "gen_mixed_invalid_utf8.srt": ["Du hörs(t mich? Ça va – mañana…", *GERMAN[1:]],
    "gen_no_header.vtt": ["vtt without WEBVTT header"],
    "gen_no_index.srt": ["no index", "again"],
    "gen_nul_bytes.srt": GERMAN,
    "gen_ok.ass": ["Hello, with, commas"],
    "gen_out_of_order_overlap.srt": ["early and long", "duplicate index", "later"],
    "gen_shiftjis.srt": ["こんにちは、世界"],
    "gen_style_note_region.vtt": ["Hi there & bye"],
    "gen_truncated_last_cue.srt": GERMAN[:3],
    "gen_utf16le_bom.srt": GERMAN,
    "gen_utf8.srt": GERMAN,
    "gen_utf8_bom_crlf.srt": GERMAN,
    "gen_whitespace_only.srt": "nothing but blanks",
    "mediaelement_no_millis.srt": [
        "HTML5 <video> and <audio> was supposed to be awesome, powerful, and fun.",
        "But browser vendors couldn't agree on a codec and older browsers don't support <video> at all.",
    ],
    "moviepy_subtitles-unicode.srt": ["ÁÉíöÙ"],
    "popcorn_data.TTXT": "of no subtitle format",
    "popcorn_data.XML": "of no subtitle format",
    "popcorn_data.sbv": SENATOR,
    "popcorn_data.ssa": SENATOR,
    "popcorn_data.vtt": [
        "We are in New York City",
        "We're actually at the Lucern Hotel, just down the street from the American Museum of Natural History",
        "And with me is Neil DeGrasse Tyson",
        "Astrophysicist, Director of the Hayden Planetarium at the AMNH.",
    ],
    "popcorn_unit.srt": ["Oh my god, Watch out! It's coming!!", "This text is RED and has not been positioned."],
    "pysubs2_LICENSE.txt": "of no subtitle format",
    "pysubs2_subtitle_with_attached_images_aegisub.ass": "no cue that can be used",
    "pysubs2_subtitle_with_attached_images_pysubs2_ref.ass": "no cue that can be used",
    "pysubs2_ttml_example.ass": LEWIS,
    "pysubs2_ttml_example.ttml": LEWIS,
    "pysubs2_ttml_example2.ass": ["TOP SAMPLE TEXT", "BOTTOM SAMPLE TEXT"],
    "pysubs2_ttml_example2.ttml": ["TOP SAMPLE TEXT", "BOTTOM SAMPLE TEXT"],
    "pysubs2_ttml_example_apple.ass": ["When you were here be fore", "Couldn't look you in the eye"],
    "pysubs2_ttml_example_apple.ttml": ["When you were here be fore", "Couldn't look you in the eye"],
}  # fmt: skip


def read(path: Path) -> tuple[Line, ...]:
    return make_lines(read_cue_file(path))


@pytest.mark.parametrize("name", SAID)
def test_an_odd_file_gives_its_lines_or_one_clear_error(films: Path, name: str) -> None:
    path, said = films / "odd" / "subs" / name, SAID[name]
    before = time.perf_counter()
    if isinstance(said, str):
        with pytest.raises(InputError, match=said) as error:
            read(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    else:
        lines = read(path)
        assert [line.text for line in lines][: len(said)] == said
    assert time.perf_counter() - before < 5  # the 20,000 cues take 0.8 s


def test_every_odd_file_is_known(films: Path) -> None:
    assert {path.name for path in (films / "odd" / "subs").iterdir()} == set(SAID)


def test_twenty_thousand_cues_are_as_many_lines(films: Path) -> None:
    lines = read(films / "odd" / "subs" / "gen_huge_20000_cues.srt")
    assert len(lines) == 20000
    assert (lines[-1].text, lines[-1].span.start) == ("line 19999", 19999.0)


@pytest.mark.parametrize("name", ["pysubs2_ttml_example", "pysubs2_ttml_example2", "pysubs2_ttml_example_apple"])
def test_one_subtitle_in_two_formats_says_the_same(films: Path, name: str) -> None:
    ttml, substation = (read(films / "odd" / "subs" / f"{name}{suffix}") for suffix in (".ttml", ".ass"))
    assert [line.text for line in ttml] == [line.text for line in substation]
    starts = [line.span.start for line in substation]  # in hundredths
    assert [line.span.start for line in ttml] == pytest.approx(starts, abs=0.0051)


def test_sintel(films: Path) -> None:
    lines = read(films / "subs" / "sintel_full_en.vtt")
    assert len(lines) == 26  # every cue ends a sentence
    assert (lines[0].text, lines[0].span.start, lines[0].span.end) == ("This blade has a dark past.", 107.25, 110.5)
    assert (lines[-1].text, lines[-1].span.start) == ("Scales...", 626.2)
    assert lines[8].text == "Someone very dear? A kindred spirit?"


def test_tears_of_steel(films: Path) -> None:
    lines = read(films / "subs" / "tears_of_steel_full_en.vtt")
    assert len(lines) == 72  # of 76 cues: five go on from the one before, one is two sentences and long
    texts = [line.text for line in lines]
    assert (texts[0], texts[-1]) == ("You're a jerk, Thom.", "Could'a gone worse.")
    passions = lines[1]
    assert passions.text == (
        "Look Celia, we have to follow our passions; you have your robotics, and I just want to be awesome in space."
    )
    assert (passions.span.start, passions.span.end) == (25.0, 30.5)
    assert "I have nightmares that I'm being chased by these giant robotic claws of death..." in texts
    assert texts.count("I know.") == 2
    assert texts[-6:-4] == ["The world's changed, Celia...", "...maybe we can too."]  # 14 s apart


def test_a_film_with_its_subtitles_beside_it(films: Path) -> None:
    film = probe_film(films / "synthetic_film.mp4")
    lines = read_lines(film, LineSettings(), find_sources(film, LineSettings()))
    assert (len(lines), lines.source, lines.language, lines.warnings) == (
        17,
        "subtitle file synthetic_film.en.srt",
        "en",
        (),
    )
    assert lines.lines[5].text == "Run. Do not look back."
    assert lines.lines[5].span.start == pytest.approx(62.958)


def test_subtitles_of_another_film_are_known(films: Path) -> None:
    film = probe_film(films / "synthetic_film.mp4")  # 263 s long
    lines = read_lines(film, LineSettings(), find_sources(film, LineSettings(), films / "subs" / "sintel_full_en.vtt"))
    assert len(lines) == 0
    assert "10 of 26 lines begin after the film's end" in lines.warnings[0]


@pytest.mark.parametrize(
    ("name", "language", "first"),
    [
        ("odd/gen/multi_audio_commentary_first_two_subs.mkv", "", (1.128, 3.128, "Hello from English")),
        ("odd/gen/multi_audio_commentary_first_two_subs.mkv", "deu", (1.128, 3.128, "Hallo aus Deutsch – äöüß")),
        ("odd/real/autoeditor_webvtt.mkv", "", (0.546, 1.039, "oop")),
        ("odd/real/autoeditor_mov_text.mp4", "", (0.523, 1.016, "oop")),
        ("odd/real/ne0rrmatrix_two_movtext_subs.mp4", "", (0.5, 2.2, "And now this is the video you would see on Windows.")),
        ("odd/real/ne0rrmatrix_two_movtext_subs.mp4", "es", (0.5, 2.2, "Y ahora este es el video que verías en Windows.")),
    ],
)  # fmt: skip
def test_streams_inside_films(films: Path, name: str, language: str, first: tuple[float, float, str]) -> None:
    film = probe_film(films / name)
    cue = read_source(find_sources(film, LineSettings(language=language))[0])[0]
    assert (cue.start, cue.end, cue.text) == (pytest.approx(first[0]), pytest.approx(first[1]), first[2])
