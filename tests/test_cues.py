"""What becomes of subtitle cues: who says what, when, and in how many lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cues import Cue, count_words, make_lines


def texts(*cues: str, length: float = 2.0, pause: float = 0.5) -> list[str]:
    """The lines made of cues that follow one another, each so long and with such a pause (s) before the next."""
    at = [number * (length + pause) for number in range(len(cues))]
    return [line.text for line in make_lines(Cue(t, t + length, cue) for t, cue in zip(at, cues, strict=True))]


@pytest.mark.parametrize(
    ("cue", "said"),
    [
        ("<i>Hello</i> <font color='red'>there</font>.", ["Hello there."]),
        (r"{\an8}{\pos(10,20)}Up here.", ["Up here."]),
        (r"{\p1}m 0 0 l 100 0 100 100{\p0}", []),
        (r"{\p1}m 0 0 l 100 0{\p0}Text.", ["Text."]),
        (r"One\Ntwo\hthree.", ["One two three."]),
        ("Fish &amp; chips &lt;b&gt;", ["Fish & chips <b>"]),
        ("5 < 6 and 7 > 3.", ["5 < 6 and 7 > 3."]),
        ("<00:00:01.500><c.yellow>Hi</c>", ["Hi"]),
        ("♪ La la la ♪", []),
        ("\u200e♪ music ♪", []),
        ("♪ A song\nthat runs on", []),
        ("♪ A song\nin three\nlines ♪", []),
        ("# We sing #", []),
        ("#1 in the charts.", ["#1 in the charts."]),
        ("Hello.\n♪ music ♪", ["Hello."]),
        ("[door slams]", []),
        ("[door slams] Who is there?", ["Who is there?"]),
        ("[in a long note\nover two lines]", []),
        ("(sighs)", []),
        ("(sighs) All right.", ["All right."]),
        ("I know. (laughs) Really.", ["I know. Really."]),
        ("I know (laughs) it.", ["I know it."]),
        ("Every browser (even mine) does.", ["Every browser (even mine) does."]),
        ("（笑い）はい。", ["はい。"]),
        ("- [MAN]: Stop.", ["Stop."]),
        ("JOHN: Come on.", ["Come on."]),
        ("JOHN SMITH: Come on.", ["Come on."]),
        ("MAN #1: Come on.", ["Come on."]),
        ("JOHN:\nCome on.", ["Come on."]),
        ("Dr. Who: Run.", ["Run."]),
        ("Captain Ahab: Run.", ["Run."]),
        ("Remember: never look back.", ["Remember: never look back."]),
        ("One thing: run.", ["One thing: run."]),
        ("It is 9:30. Go.", ["It is 9:30. Go."]),
        ("WARNING: KEEP OUT", ["WARNING: KEEP OUT"]),
        ("Subtitles by Joe", []),
        ("Sync and corrections by n17t01\nwww.addic7ed.com", []),
        ("Untertitel von Anna", []),
        ("Support us and become VIP member", []),
        ("Downloaded from OpenSubtitles", []),
        ("I saw a film by Ozu.", ["I saw a film by Ozu."]),
        ("- Who?\n- Me.", ["Who?", "Me."]),
        ("- Who? - Me.", ["Who?", "Me."]),
        ("– Who?\n– Me.", ["Who?", "Me."]),
        ("Who?\n- Me.", ["Who?", "Me."]),
        (">> Who?\n>> Me.", ["Who?", "Me."]),
        ("JOHN: Who?\nMARY: Me.", ["Who?", "Me."]),
        ("<v Ann>Who?<v Bob>Me.", ["Who?", "Me."]),
        ("- Only me.", ["Only me."]),
        ("-5 degrees.", ["-5 degrees."]),
        ("A well-known man.", ["A well-known man."]),
        ("--What was that?", ["What was that?"]),
        ("Run. Do not look back.", ["Run. Do not look back."]),
        ("今日は\nいい天気。", ["今日はいい天気。"]),
        ("안녕\n하세요.", ["안녕 하세요."]),
        ("...", []),
        ("", []),
    ],
)
def test_a_cue_is_cleaned(cue: str, said: list[str]) -> None:
    assert texts(cue) == said


def test_names_that_come_back_before_a_colon_are_speakers() -> None:
    cues = ["Anna: Hello.", "Bert: Hello.", "Anna: Still there?", "Remember: be quick.", "Anna: Yes."]
    assert texts(*cues) == ["Hello.", "Bert: Hello.", "Still there?", "Remember: be quick.", "Yes."]


def test_two_speakers_share_the_time_by_their_characters() -> None:
    who, me = make_lines([Cue(10.0, 14.0, "- Who is there?\n- Only me.")])
    share = len("Who is there?") / len("Who is there?Only me.")
    assert (who.span.start, who.span.end) == (10.0, pytest.approx(10 + 4 * share))
    assert (me.span.start, me.span.end) == (who.span.end, 14.0)


@pytest.mark.parametrize(
    ("cues", "said"),
    [
        (["I went to see", "John yesterday."], ["I went to see John yesterday."]),
        (["I went to see Mr.", "Smith yesterday."], ["I went to see Mr. Smith yesterday."]),
        (["We have passions;", "...you have robots."], ["We have passions; you have robots."]),
        (["I was young...", "...and foolish."], ["I was young and foolish."]),
        (["I was young...", "and foolish."], ["I was young... and foolish."]),
        (["So...", "What brings you here?"], ["So...", "What brings you here?"]),
        (["I know.", "You do not."], ["I know.", "You do not."]),
        (["I only wanted-", "Be quiet."], ["I only wanted-", "Be quiet."]),
        (["I only wanted", "- Be quiet."], ["I only wanted", "Be quiet."]),
        (["LONDON", "Good morning."], ["LONDON", "Good morning."]),
        (["It is plan B.", "Run."], ["It is plan B.", "Run."]),
        (["我们必须", "离开这里。"], ["我们必须离开这里。"]),
        (["this file has", "no ends at all", "in any cue"], ["this file has", "no ends at all", "in any cue"]),
    ],
)
def test_a_sentence_over_several_cues_is_one_line(cues: list[str], said: list[str]) -> None:
    assert texts(*cues) == said


@pytest.mark.parametrize(
    ("second", "pause", "lines"),
    [("John again.", 1.4, 1), ("John again.", 1.6, 2), ("him again.", 2.9, 1), ("him again.", 3.1, 2)],
)
def test_a_long_pause_ends_a_sentence(second: str, pause: float, lines: int) -> None:
    assert len(texts("I went to see", second, pause=pause)) == lines


def test_a_joined_sentence_lasts_from_the_first_cue_to_the_last() -> None:
    (line,) = make_lines([Cue(1.0, 3.0, "I have been alone for"), Cue(3.2, 5.0, "as long as I can remember.")])
    assert (line.span.start, line.span.end) == (1.0, 5.0)


def test_many_words_are_split_at_the_ends_of_sentences() -> None:
    first, second = "I have told you this before, have I not?", "Nobody is coming to save us from them tonight."
    a, b = make_lines([Cue(0.0, 9.0, f"{first}\n{second}")])
    assert (a.text, b.text) == (first, second)
    total = len(first) + 1 + len(second)
    assert a.span.start == 0.0
    assert b.span.end == 9.0
    assert a.span.end == pytest.approx(9 * len(first) / total)
    assert b.span.start == pytest.approx(9 * (len(first) + 1) / total)


def test_times_of_a_split_come_from_the_cue_in_which_it_lies() -> None:
    a, b = make_lines(
        [Cue(0.0, 2.0, "I am tired of it! I have dreams"), Cue(2.0, 6.0, "that something is chasing me all night.")]
    )
    assert (a.text, b.text) == ("I am tired of it!", "I have dreams that something is chasing me all night.")
    assert a.span.end == pytest.approx(2 * 17 / 31)  # 17 of the first cue's 31 characters
    assert b.span.start == pytest.approx(2 * 18 / 31)
    assert b.span.end == 6.0


def test_titles_initials_and_dots_do_not_end_a_sentence() -> None:
    text = "I have seen Dr. Jones and J. R. Smith with... what was it, the thing from the old house."
    assert texts(text) == [text]


def test_chinese_is_split_at_its_own_full_stops() -> None:
    assert texts("我们必须在日出之前离开这个城市。没有人会来救我们。") == [
        "我们必须在日出之前离开这个城市。",
        "没有人会来救我们。",
    ]


def test_a_long_sentence_stays_whole() -> None:
    cues = ["If we do not leave this", "city before the sun comes up and", "they find the machine that my",
            "father has built with his own hands", "then nobody will ever know what it was for."]  # fmt: skip
    assert texts(*cues, pause=0.0) == [" ".join(cues)]


def test_roll_up_captions_are_said_once() -> None:
    a, b, c = make_lines(
        [Cue(0, 2, "One line."), Cue(2, 4, "One line.\nNext line."), Cue(4, 6, "Next line.\nLast line.")]
    )
    assert [line.text for line in (a, b, c)] == ["One line.", "Next line.", "Last line."]
    assert [line.span.start for line in (a, b, c)] == [0, 2, 4]


def test_captions_that_roll_with_moments_between_are_said_once() -> None:
    cues = [Cue(0, 2, " \nhello world"), Cue(2, 2.01, "hello world\n "), Cue(2.01, 4, "hello world\nnext line")]
    assert [(line.text, line.span.end) for line in make_lines(cues)] == [("hello world", 2.01), ("next line", 4)]


def test_captions_painted_word_by_word_are_one_line() -> None:
    cues = [Cue(0, 0.4, "I"), Cue(0.4, 0.8, "I know"), Cue(0.8, 2.0, "I know you.")]
    assert [(line.text, line.span.start, line.span.end) for line in make_lines(cues)] == [("I know you.", 0, 2.0)]


def test_repeats_are_merged_and_repetitions_are_not() -> None:
    layers = [Cue(0, 2, "Who?"), Cue(0, 2, "Who?"), Cue(2, 3, "Who?"), Cue(5, 6, "Who?")]
    assert [(line.span.start, line.span.end) for line in make_lines(layers)] == [(0, 3), (5, 6)]


def test_cues_out_of_order_are_sorted() -> None:
    cues = [Cue(10, 14, "Later."), Cue(1, 12, "Early and long."), Cue(2, 3, "Between.")]
    assert [line.text for line in make_lines(cues)] == ["Early and long.", "Between.", "Later."]


def test_no_cues_no_lines() -> None:
    assert make_lines([]) == ()


def test_words_are_counted_in_any_script() -> None:
    assert count_words("Do not look back") == 4
    assert count_words("你好世界") == 2
    assert count_words("OK 你好") == 2


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.floats(0, 10),
            st.text(st.sampled_from("ab AB.?!…-–:>#♪[](){}<>\\/pNn\n你。\"'éй"), max_size=40),
        ),
        max_size=12,
    )
)
def test_any_cues_give_lines_in_order_within_their_times(rows: list[tuple[float, float, str]]) -> None:
    cues = [Cue(start, start + length, text) for start, length, text in rows]
    lines = make_lines(cues)
    assert lines == make_lines(cues)
    assert [line.span.start for line in lines] == sorted(line.span.start for line in lines)
    for line in lines:
        assert line.text == line.text.strip() != ""
        assert min(cue.start for cue in cues) <= line.span.start <= line.span.end
        assert line.span.end <= max(cue.end for cue in cues) + 1e-9
