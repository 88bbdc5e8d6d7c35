"""Where a film's lines come from, and what a subtitle file says however it was written."""

from __future__ import annotations

import shutil
import time
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.cuefiles import MOST_BYTES, read_cue_file
from pipeline.cues import Cue
from pipeline.errors import InputError
from pipeline.languages import find_language, normalise_language
from pipeline.media import find_ffmpeg, probe_film, run_ffmpeg
from pipeline.records import AudioStream, Film
from pipeline.settings import LineSettings
from pipeline.subtitles import Source, find_sources, read_lines, read_source
from pipeline.textcodes import decode_text

ANY = LineSettings()
HELLO = "1\n00:00:01,000 --> 00:00:02,000\nHello there.\n\n2\n00:00:03,000 --> 00:00:04,500\nBye now.\n"


def make_film(path: Path, *, sound: str = "und", start: float = 0.0, duration: float = 60.0) -> Film:
    """A film as it would be probed; its file is empty, for only its name is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    track = AudioStream(1, "aac", sound, 2, 48000)
    return Film(path, "f" * 32, start, duration, Fraction(25), 64, 36, 0, audio=(track,))


def names(sources: tuple[Source, ...]) -> list[str]:
    return [source.path.name for source in sources]


def touch(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(HELLO, encoding="utf-8")


def read(path: Path, text: str | bytes) -> list[tuple[float, float, str]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(cue.start, cue.end, cue.text) for cue in read_cue_file(path)]


# Where the lines come from -----------------------------------------------------------------------------------------


def test_files_are_tried_in_the_order_of_language_and_kind(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv", sound="fre")
    touch(
        tmp_path, "Film.de.srt", "Film.srt", "Film.en.forced.srt", "Film.eng.sdh.srt", "Film.en.ass", "Film.pt-BR.vtt",
        "Film.fra.srt", "Film.en.commentary.srt", "Film.jpg", "Film2.en.srt", "Other.srt", "Film.en.SRT.txt",
    )  # fmt: skip
    assert names(find_sources(film, ANY)) == [
        "Film.fra.srt",  # the language of the sound
        "Film.en.ass",
        "Film.eng.sdh.srt",  # for the deaf: after the plain one
        "Film.srt",
        "Film.de.srt",
        "Film.pt-BR.vtt",
        "Film.en.commentary.srt",
        "Film.en.forced.srt",
    ]


@pytest.mark.parametrize("wanted", ["en", "eng", "en-US", "EN"])
def test_only_the_wanted_language_and_unknown_ones_are_used(tmp_path: Path, wanted: str) -> None:
    film = make_film(tmp_path / "Film.mkv", sound="fre")
    touch(tmp_path, "Film.fr.srt", "Film.srt", "Film.English.srt")
    assert names(find_sources(film, LineSettings(language=wanted))) == ["Film.English.srt", "Film.srt"]


def test_names_are_compared_without_case_or_ways_of_writing_accents(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Ame\u0301lie (2001).mkv")
    touch(tmp_path, "am\u00e9lie (2001).EN.SRT", "AM\u00c9LIE (2001).pt_BR.srt")
    assert [source.language for source in find_sources(film, ANY)] == ["en", "pt"]


def test_another_film_keeps_its_subtitles(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    make_film(tmp_path / "Film.2.mkv")
    touch(tmp_path, "Film.en.srt", "Film.2.srt", "Film.2.en.srt")
    assert names(find_sources(film, ANY)) == ["Film.en.srt"]


def test_a_folder_of_subtitles_is_looked_into(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    make_film(tmp_path / "Film-trailer.mp4")
    touch(tmp_path, "Subs/2_English.srt", "Subs/Film.de.srt", "subtitles/French [SDH].srt", "Subs/Film/3_Spanish.srt")
    sources = find_sources(film, ANY)
    assert [source.language for source in sources] == ["en", "de", "es", "fr"]


def test_a_folder_shared_by_films_gives_each_its_own(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    make_film(tmp_path / "Other.mkv")
    touch(tmp_path, "Subs/2_English.srt", "Subs/Film.de.srt", "Subs/Film/3_Spanish.srt", "Subs/Other.en.srt")
    assert names(find_sources(film, ANY)) == ["Film.de.srt", "3_Spanish.srt"]


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("Film.srt", "und"), ("Film.en.srt", "en"), ("Film.eng.srt", "en"), ("Film.en-US.srt", "en"), ("Film.ger.srt", "de"),
        ("Film.deu.srt", "de"), ("Film.zh-Hans.srt", "zh"), ("Film.hi.srt", "hi"), ("Film.en.hi.srt", "en"),
        ("Film.Spanish (Latin America).srt", "es"), ("Film.forced.ru.srt", "ru"), ("Film.default.ja.srt", "ja"),
    ],
)  # fmt: skip
def test_a_name_tells_the_language(tmp_path: Path, name: str, language: str) -> None:
    film = make_film(tmp_path / "Film.mkv")
    touch(tmp_path, name)
    (source,) = find_sources(film, ANY)
    assert source.language == language


def test_languages_have_many_names() -> None:
    assert {normalise_language(name) for name in ("en", "eng", "EN-us", "en_GB", "English")} == {"en"}
    assert {normalise_language(name) for name in ("", "und", "mis", "UND")} == {"und"}
    assert normalise_language("haw") == "haw"
    assert find_language(["2", "Brazilian", "Portuguese"]) == "pt"
    assert find_language(["1080p", "x264"]) == "und"


def test_a_named_file_is_the_only_source(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    touch(tmp_path, "Film.en.srt", "mine.srt")
    (source,) = find_sources(film, ANY, tmp_path / "mine.srt")
    assert (source.path.name, source.named) == ("mine.srt", True)
    for name, reason in (("none.srt", "no such"), (".", "is a folder")):
        with pytest.raises(InputError, match=reason):
            find_sources(film, ANY, tmp_path / name)


def test_a_source_is_known_again_by_its_content(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    touch(tmp_path, "Film.en.srt")
    before = find_sources(film, ANY)
    assert find_sources(film, ANY) == before
    (tmp_path / "Film.en.srt").write_text(HELLO.replace("Bye", "Good-bye"), encoding="utf-8")
    assert find_sources(film, ANY)[0].fingerprint != before[0].fingerprint


# What is done with them --------------------------------------------------------------------------------------------


def test_the_first_source_that_can_be_used_is_used(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    touch(tmp_path, "Film.srt")
    (tmp_path / "Film.en.srt").write_bytes(b"")
    (tmp_path / "Film.en.sdh.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n[music]\n", encoding="utf-8")
    lines = read_lines(film, ANY, find_sources(film, ANY))
    assert [line.text for line in lines.lines] == ["Hello there.", "Bye now."]
    assert (lines.source, lines.language, lines.film) == ("subtitle file Film.srt", "und", film.fingerprint)
    empty, deaf = lines.warnings
    assert str(tmp_path / "Film.en.srt") in empty
    assert "0 bytes" in empty
    assert deaf == "the subtitle file Film.en.sdh.vtt holds no spoken line; it is not used"


def test_a_named_file_that_cannot_be_read_ends_the_run(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    (tmp_path / "mine.srt").write_text("no subtitles at all", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.srt is of no subtitle format"):
        read_lines(film, ANY, find_sources(film, ANY, tmp_path / "mine.srt"))


def test_no_source_no_lines(tmp_path: Path) -> None:
    lines = read_lines(make_film(tmp_path / "Film.mkv"), ANY, ())
    assert (len(lines), lines.source, lines.language, lines.warnings) == (0, "", "und", ())


def make_cues(path: Path, starts: list[float]) -> Path:
    rows = (f"00:{int(t // 60):02}:{t % 60:06.3f} --> 00:{int((t + 2) // 60):02}:{(t + 2) % 60:06.3f}" for t in starts)
    path.write_text("".join(f"{row}\nLine at {t}.\n\n" for row, t in zip(rows, starts, strict=True)), encoding="utf-8")
    return path


@pytest.mark.parametrize("named", [False, True])
def test_subtitles_of_another_film_are_not_used(tmp_path: Path, named: bool) -> None:
    film = make_film(tmp_path / "Film.mkv", duration=60)
    path = make_cues(tmp_path / "Film.srt", [float(t) for t in range(5, 75, 5)])  # 3 of 14 begin at 60 s or later
    lines = read_lines(film, ANY, find_sources(film, ANY, path if named else None))
    assert len(lines) == 0
    (warning,) = lines.warnings
    assert "of another film" in warning
    assert "3 of 14 lines begin after the film's end, the last 10 s after it" in warning


def test_one_line_far_past_the_end_gives_another_film_away(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv", duration=60)
    make_cues(tmp_path / "Film.srt", [*map(float, range(5, 55, 2)), 125.0])
    lines = read_lines(film, ANY, find_sources(film, ANY))
    assert len(lines) == 0
    assert "1 of 26 lines begin after the film's end, the last 65 s after it" in lines.warnings[0]


def test_a_few_lines_past_the_end_are_left_out(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv", duration=60)
    make_cues(tmp_path / "Film.srt", [*map(float, range(5, 55, 2)), 59.0, 63.0])
    lines = read_lines(film, ANY, find_sources(film, ANY))
    assert len(lines) == 26
    assert lines.lines[-1].span.end == 60.0  # cut to the film
    assert "runs on past the film: 1 of 27 lines" in lines.warnings[0]


def test_a_film_without_subtitles_is_listened_to(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv", sound="eng")
    heard = read_lines(
        film, LineSettings(speech_model="small"), (), recognise=lambda film: (Cue(1.0, 2.0, "I heard that."),)
    )
    assert [line.text for line in heard.lines] == ["I heard that."]
    assert (heard.source, heard.language) == ("speech recognition (small)", "en")
    silent = read_lines(film, ANY, (), recognise=lambda film: ())
    assert (len(silent), silent.warnings) == (0, ("speech recognition heard nobody speak",))


def test_a_film_with_subtitles_is_not_listened_to(tmp_path: Path) -> None:
    film = make_film(tmp_path / "Film.mkv")
    touch(tmp_path, "Film.srt")

    def listen(film: Film) -> tuple[Cue, ...]:
        raise AssertionError

    assert len(read_lines(film, ANY, find_sources(film, ANY), recognise=listen)) == 2


# On the film's clock -----------------------------------------------------------------------------------------------


def write_streams(path: Path, *streams: tuple[str, str], options: tuple[str, ...] = (), codec: str = "srt") -> Film:
    """Five seconds of test picture with subtitle streams, each a text and what ffmpeg is told of it."""
    files = [path.with_name(f"{number}.source") for number in range(len(streams))]
    arguments = ["-f", "lavfi", "-i", "testsrc=size=64x36:rate=24:duration=5"]
    mapped = ["-map", "0:v"]
    for number, (file, (text, language)) in enumerate(zip(files, streams, strict=True)):
        file.write_text(text, encoding="utf-8")
        arguments += ["-f", "srt", "-i", str(file)]
        mapped += ["-map", f"{number + 1}:s", f"-metadata:s:s:{number}", f"language={language}"]
    run_ffmpeg(
        find_ffmpeg(),
        [*arguments, *mapped, "-c:v", "libx264", "-preset", "ultrafast", "-c:s", codec, *options, "-y", str(path)],
        timeout=60,
    )
    return probe_film(path)


@pytest.mark.parametrize(
    ("name", "codec", "offset", "start"),
    [
        ("film.mkv", "srt", 0.0, 0.0),
        ("film.mkv", "srt", 100.0, 100.0),
        ("film.mkv", "ass", 0.0, 0.0),
        ("film.mkv", "webvtt", 50.0, 50.0),
        ("film.mp4", "mov_text", 0.0, 0.0),
    ],
)
def test_a_stream_and_a_file_tell_the_same_times(
    tmp_path: Path, name: str, codec: str, offset: float, start: float
) -> None:
    options = ("-output_ts_offset", str(offset)) if offset else ()
    film = write_streams(tmp_path / name, (HELLO, "eng"), options=options, codec=codec)
    assert film.start == pytest.approx(start, abs=0.001)
    (tmp_path / "film.srt").write_text(HELLO, encoding="utf-8")
    stream, file = find_sources(film, ANY)
    assert (stream.kind, stream.fingerprint, file.kind) == ("stream", "stream 1", "file")
    for source in (stream, file):
        assert [(cue.start, cue.end, cue.text) for cue in read_source(source)] == [
            (pytest.approx(start + 1.0, abs=0.001), pytest.approx(start + 2.0, abs=0.001), "Hello there."),
            (pytest.approx(start + 3.0, abs=0.001), pytest.approx(start + 4.5, abs=0.001), "Bye now."),
        ]


def test_the_times_of_a_file_count_from_the_first_picture_of_a_transport_stream(tmp_path: Path) -> None:
    film = write_streams(tmp_path / "film.ts")
    assert film.start > 1.0  # ffmpeg starts them at 1.4 s and more
    (tmp_path / "film.srt").write_text(HELLO, encoding="utf-8")
    lines = read_lines(film, ANY, find_sources(film, ANY))
    assert [line.span.start for line in lines.lines] == [film.start + 1.0, film.start + 3.0]


def test_streams_are_chosen_by_language_and_mark(tmp_path: Path) -> None:
    film = write_streams(
        tmp_path / "film.mkv", (HELLO, "ger"), (HELLO, "eng"), (HELLO, "eng"), (HELLO, "eng"),
        options=("-disposition:s:1", "forced", "-metadata:s:s:2", "title=English SDH"),
    )  # fmt: skip
    assert [source.stream for source in find_sources(film, ANY)] == [4, 3, 1, 2]
    assert [source.stream for source in find_sources(film, LineSettings(language="de"))] == [1]
    assert find_sources(film, ANY)[1].title == "subtitle track 3 (eng, English SDH) of film.mkv"


def test_a_file_comes_before_a_stream_of_its_language(tmp_path: Path) -> None:
    film = write_streams(tmp_path / "film.mkv", (HELLO, "eng"))
    touch(tmp_path, "film.en.srt", "film.de.srt")
    assert [source.kind for source in find_sources(film, ANY)] == ["file", "stream", "file"]


def test_a_stream_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    film = write_streams(tmp_path / "film.mkv", (HELLO, "eng"))
    with pytest.raises(InputError, match="no subtitle track 7"):
        read_source(Source("stream", film.path, "und", "subtitle track 7", "stream 7", stream=7))


def test_a_stream_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    film = write_streams(path, (HELLO.replace("Hello there.", "XXXXXX, XXX"), "rus"))
    data = path.read_bytes()
    assert data.count(b"XXXXXX, XXX") == 1
    path.write_bytes(data.replace(b"XXXXXX, XXX", "Привет, мир".encode("cp1251")))
    (source,) = find_sources(film, ANY)
    assert [cue.text for cue in sorted(read_source(source), key=lambda cue: cue.start)] == ["Привет, мир", "Bye now."]


# What a file says --------------------------------------------------------------------------------------------------

SENTENCES = {
    "ru": ("Привет, как дела?", "Я не знаю, что сказать.", "Мы должны уйти до рассвета."),
    "uk": ("Привіт, як справи?", "Я не знаю, що сказати. Її немає.", "Ми повинні піти до світанку."),
    "pl": ("Cześć, jak się masz?", "Nie wiem, co powiedzieć.", "Musimy wyjść przed świtem. Żółta łódź."),
    "cs": ("Ahoj, jak se máš?", "Nevím, co říct. Příliš žluťoučký kůň.", "Musíme odejít před úsvitem."),
    "hu": ("Szia, hogy vagy?", "Nem tudom, mit mondjak. Őrült tűz.", "El kell mennünk hajnal előtt."),
    "el": ("Γεια σου, τι κάνεις;", "Δεν ξέρω τι να πω.", "Πρέπει να φύγουμε πριν την αυγή."),
    "tr": ("Merhaba, nasılsın?", "Ne diyeceğimi bilmiyorum.", "Şafaktan önce gitmeliyiz. Işık söndü."),
    "he": ("שלום, מה שלומך?", "אני לא יודע מה לומר.", "אנחנו חייבים ללכת לפני הזריחה."),
    "ar": ("مرحبا، كيف حالك؟", "لا أعرف ماذا أقول.", "يجب أن نذهب قبل الفجر."),
    "th": ("สวัสดี สบายดีไหม", "ฉันไม่รู้จะพูดอะไร", "เราต้องไปก่อนรุ่งสาง"),
    "ja": ("こんにちは、元気ですか？", "何と言えばいいのか分からない。", "夜明け前に出発しなければならない。"),
    "ko": ("안녕하세요, 어떻게 지내세요?", "뭐라고 말해야 할지 모르겠어요.", "해가 뜨기 전에 떠나야 해."),
    "zh": ("你好，你怎么样？", "我不知道该说什么。", "我们必须在日出之前离开。"),
    "zh-TW": ("你好，你怎麼樣？", "我不知道該說什麼。", "我們必須在日出之前離開。"),
    "fr": ("Ça va ? Où étais-tu ?", "Je ne sais pas… c'est l'été à Noël.", "Partons avant l'aube, mon cœur."),
    "es": ("¿Cómo estás, señor?", "No sé qué decir. ¡Mañana será!", "Tenemos que irnos antes del amanecer."),
    "de": ("Hörst du mich? Schön.", "Ich weiß nicht, was ich sagen soll.", "Wir müssen vor Sonnenaufgang gehen."),
    "sv": ("Hej, hur mår du?", "Jag vet inte vad jag ska säga.", "Vi måste gå före gryningen."),
    "pt": ("Olá, como você está?", "Não sei o que dizer. Ação, coração.", "Temos que ir antes do amanhecer."),
}
CODES = [
    ("ru", "cp1251"), ("ru", "koi8_r"), ("uk", "cp1251"), ("pl", "cp1250"), ("cs", "cp1250"), ("hu", "cp1250"),
    ("el", "cp1253"), ("tr", "cp1254"), ("he", "cp1255"), ("ar", "cp1256"), ("th", "cp874"), ("ja", "cp932"),
    ("ja", "euc_jp"), ("ko", "cp949"), ("zh", "gb18030"), ("zh-TW", "big5"), ("fr", "cp1252"), ("es", "cp1252"),
    ("es", "latin_1"), ("de", "cp1252"), ("sv", "cp1252"), ("pt", "cp1252"), ("ru", "utf-8"), ("ru", "utf-8-sig"),
    ("zh", "utf-16"), ("de", "utf-16-le"), ("ru", "utf-16-be"), ("ja", "utf-32"),
]  # fmt: skip


@pytest.mark.parametrize("hint", [True, False])
@pytest.mark.parametrize(("language", "code"), CODES)
def test_the_code_of_a_text_is_found(language: str, code: str, hint: bool) -> None:
    cues = (f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n<i>{text}</i>\n" for n, text in enumerate(SENTENCES[language]))
    text = "\n".join(cues)
    assert decode_text(text.encode(code), normalise_language(language) if hint else "und") == text


@pytest.mark.parametrize(
    ("text", "cues"),
    [
        ("1\n00:00:01.000 --> 00:00:02.5\nDots.", [(1.0, 2.5, "Dots.")]),
        ("0:0:1 --> 0:0:2\nNo thousandths.", [(1.0, 2.0, "No thousandths.")]),
        ("00:00:01,000 -> 00:00:02,000\nShort arrow.", [(1.0, 2.0, "Short arrow.")]),
        ("00:00:01,000-->00:00:02,000 X1:0 X2:9\nPlaces.", [(1.0, 2.0, "Places.")]),
        ("-00:00:01,000 --> 00:00:02,000\nNegative.", [(0.0, 2.0, "Negative.")]),
        ("00:00:01,000 --> 00:99:02,000\nBad.\n\n00:00:03,000 --> 00:00:04,000\nGood.", [(3.0, 4.0, "Good.")]),
        ("1\n00:00:05,000 --> 00:00:03,000\nBack.\n\n2\n00:00:05,400 --> 00:00:06,000\nNext.",
         [(5.0, 5.4, "Back."), (5.4, 6.0, "Next.")]),
        ("1\n00:00:05,000 --> 00:00:05,000\nZero.", [(5.0, 6.0, "Zero.")]),
        ("1\n00:00:01,000 --> 00:00:02,000\nOne.\n2\n00:00:03,000 --> 00:00:04,000\nTwo.",
         [(1.0, 2.0, "One."), (3.0, 4.0, "Two.")]),
        ("1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo.", [(3.0, 4.0, "Two.")]),
        ("1\n00:00:01,000 --> 00:00:02,000\nA blank\n\ninside.\n\n2\n00:00:03,000 --> 00:00:04,000\nTwo.",
         [(1.0, 2.0, "A blank\n\ninside."), (3.0, 4.0, "Two.")]),
        ("1\n00:00:01,000 --> 00:00:02,000\nOne.\n\n2\n00:00:", [(1.0, 2.0, "One.")]),
        ("\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\nDos\r\nlines.\r\n", [(1.0, 2.0, "Dos\nlines.")]),
        ("1\r00:00:01,000 --> 00:00:02,000\rOld\rMac.\r", [(1.0, 2.0, "Old\nMac.")]),
        ("1\n00:00:01,000 --> 00:00:02,000\nN\0UL.", [(1.0, 2.0, "NUL.")]),
        ("0:00:01.000,0:00:02.000\nYouTube.", [(1.0, 2.0, "YouTube.")]),
        ("WEBVTT\n\nNOTE a note\n\nintro\n00:01.000 --> 00:02.000 line:0\nOne.\n\nsecond\n00:03.000 --> 00:04.000\nTwo.",
         [(1.0, 2.0, "One."), (3.0, 4.0, "Two.")]),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\nOne.\n\nNOTE a note\nof two lines\n", [(1.0, 2.0, "One.")]),
        ("{1}{1}25\n{25}{50}One|line.", [(1.0, 2.0, "One\nline.")]),
        ("{24}{48}At the film's rate.", [(1.0, 2.0, "At the film's rate.")]),
        ("[10][20]Tenths.", [(1.0, 2.0, "Tenths.")]),
        ("[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,A, with\\Ncommas.\nDialogue: broken\n"
         "Dialogue: 0,x,y,Default,,0,0,0,,Bad time.\nComment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,No.\n"
         "Dialogue: 0,0:00:05.00,0:00:06.00,OP - Romaji,,0,0,0,,A song.", [(1.0, 2.0, "A, with\ncommas.")]),
        ('<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1s" end="2s">T<br/>T.</p></div></body></tt>',
         [(1.0, 2.0, "T\nT.")]),
        ("[Events]\nDialogue: 0,0:0:1,00:00:2.5,D,,0,0,0,,Short times.", [(1.0, 2.5, "Short times.")]),
        ('<?xml version="1.0" encoding="windows-1251"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>'
         '<p begin="1s" end="2s">Да.</p></div></body></tt>', [(1.0, 2.0, "Да.")]),
        ("<SAMI><BODY><SYNC Start=1000><P>Sami.<SYNC Start=2000><P>&nbsp;</BODY></SAMI>",
         [(1.0, 1.835, "Sami.")]),  # pysubs2 gives it the time that it takes to read
    ],
)  # fmt: skip
def test_a_file_however_written_gives_its_cues(tmp_path: Path, text: str, cues: list[tuple[float, float, str]]) -> None:
    assert read(tmp_path / "film.srt", text) == [
        (pytest.approx(start), pytest.approx(end), t) for start, end, t in cues
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\n ", "nothing but blanks"),
        (b"D" * 5000, "of no subtitle format"),
        (bytes(range(256)) * 40, "of no subtitle format"),
        (b"\x00\x00\x01\xba" + bytes(2000), r"holds pictures \(VobSub\)"),
        (b"1\n00:00:01,000 --> 00:00:02,000\n\n", "no cue that can be used"),
        (b"[Script Info]\nTitle: nothing\n", "no cue that can be used"),
        (b'<tt xmlns="http://www.w3.org/ns/ttml"><body><div>', "is broken XML"),
        (
            b'<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1f" end="2f">T</p></div></body></tt>',
            "not sound",
        ),
        (b"{1}{1}0\n{25}{50}No rate.", "not sound microdvd"),
        (b'{"info": "no subtitles"}', "json"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "film.srt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        read_cue_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="32 at most"):
        read_cue_file(path)


def test_many_bad_cues_take_no_long_time(tmp_path: Path) -> None:
    path = tmp_path / "film.srt"
    rows = (f"{n}\n{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02},000 --> 00:00:00,000\nline {n}\n" for n in range(20000))
    path.write_text("\n".join(rows), encoding="utf-8")
    before = time.perf_counter()
    assert len(read_cue_file(path)) == 20000
    assert time.perf_counter() - before < 5  # 0.3 s on one core; a search of all cues for each took minutes


def test_a_name_that_is_hard_to_read_is_read(tmp_path: Path) -> None:
    film = make_film(tmp_path / "-Fi lm's $x;[1] 映画.mkv")
    shutil.copyfile(make_cues(tmp_path / "x", [1.0]), tmp_path / "-Fi lm's $x;[1] 映画.en.srt")
    assert len(read_lines(film, ANY, find_sources(film, ANY))) == 1
