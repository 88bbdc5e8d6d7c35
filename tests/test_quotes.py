"""Lines worth saying are chosen before others, within the budget, from where it is allowed, and always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from models.sentences import load_sentences
from pipeline.cues import count_words
from pipeline.quotes import choose_quotes, find_allowed, hide_ending, judge_text, measure_clearness
from pipeline.records import F32, Analysis, Film, Line, Shots, Span
from pipeline.script import Lines
from pipeline.settings import GuardSettings

PLAIN = (
    "Okay.",  # 0
    "We have to leave before the river floods the valley.",  # 1
    "Yeah, I know.",  # 2
    "Nobody survives a winter on this mountain.",  # 3
    "Nobody survives a winter on this mountain!",  # 4, said again
    "he said that it was over there and",  # 5, no sentence
    "You stole my sister's necklace.",  # 6
    "Hello, good morning, sir.",  # 7
    "The general will burn this village tomorrow.",  # 8
    "So...",  # 9
    "The murderer is the gardener.",  # 10, in the ending
)


class Hashed:
    """Unit vectors that are the same for the same letters, and far apart for others."""

    name = "hashed"

    def encode(self, texts: Sequence[str]) -> F32:
        rows = []
        for text in texts:
            letters = "".join(c for c in text.lower() if c.isalpha())
            rng = np.random.default_rng(int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8]))
            rows.append(rng.normal(size=64))
        vectors = np.array(rows).reshape(-1, 64)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def make_lines(texts: Sequence[str], every: float = 10.0) -> Lines:
    return Lines("f", tuple(Line(text, Span(n * every, n * every + 3)) for n, text in enumerate(texts)))


def choose(words: int, allowed: Sequence[int] | None = None) -> list[int]:
    lines = make_lines(PLAIN)
    chosen = choose_quotes(lines, range(10) if allowed is None else allowed, words, Hashed())
    return [line.number for line in chosen]


def test_whole_sentences_are_chosen_and_small_talk_is_not() -> None:
    chosen = choose(60)
    assert set(chosen) <= {1, 3, 4, 6, 8}
    assert {1, 6, 8} <= set(chosen)
    assert len({3, 4} & set(chosen)) == 1  # the same thing is not said twice
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("words", [0, 4, 8, 15, 30])
def test_the_budget_holds(words: int) -> None:
    said = choose(words)
    assert sum(count_words(PLAIN[n]) for n in said) <= words
    assert bool(said) == (words >= 5)


def test_only_what_is_allowed_is_chosen() -> None:
    assert set(choose(60, [0, 2, 6])) <= {0, 2, 6}
    assert 6 in choose(60, [0, 2, 6])
    assert choose(60, []) == []


def test_the_same_lines_give_the_same_choice() -> None:
    assert choose(25) == choose(25)


def test_a_sentence_is_worth_more_than_its_scraps() -> None:
    whole = judge_text("The general will burn this village tomorrow.")
    for scrap in ("and then he", "the general will burn", "The general will...", "...this village tomorrow.", "Okay."):
        assert judge_text(scrap) < whole - 0.2
    assert judge_text("The general will burn this fucking village.") < whole - 0.2
    assert judge_text("") == -1.0
    assert judge_text("♪ ♪") == -1.0


def test_a_clearly_spoken_line_wins_over_its_double_in_noise() -> None:
    lines = make_lines([PLAIN[3], "x", "x", "x", "x", PLAIN[4]])
    clear = np.zeros(6)
    clear[5] = 1.0
    (one,) = choose_quotes(lines, [0, 5], 7, Hashed(), clear=clear)
    assert one.number == 5


def test_clearness_is_speech_over_the_quiet_around_it() -> None:
    sound = np.full((600, 7), 1e-3, np.float32)  # 60 s in steps of 0.1 s
    sound[100:130, 3] = 0.1  # 10 to 13 s: 40 dB louder
    sound[250:450] = 0.05  # 25 to 45 s: noise throughout
    analysis = cast(Analysis, SimpleNamespace(sound=sound, sound_start=0.0, sound_step=0.1))
    clear = measure_clearness([Span(10, 13), Span(34, 36), Span(70, 72)], analysis)
    assert clear[0] == 1.0
    assert clear[1] < 0.7
    assert clear[2] == 0.5  # past the sound: not known
    silent = cast(Analysis, SimpleNamespace(sound=np.zeros((0, 7), np.float32), sound_start=0.0, sound_step=0.1))
    assert measure_clearness([Span(0, 1)], silent).tolist() == [0.5]


def make_shots(flags: Sequence[str], seconds: float = 10.0) -> Shots:
    n = len(flags)
    film = Film(Path("f"), "f", 0.0, n * seconds, cast(Any, 24), 64, 36, 0)
    spans = tuple(Span(i * seconds, (i + 1) * seconds) for i in range(n))
    levels = np.full(n, 0.5, np.float32)
    return Shots(film, spans, tuple(frozenset({f} - {""}) for f in flags), levels, levels)


def test_nothing_is_told_of_the_ending_the_credits_and_the_titles() -> None:
    lines = make_lines([f"Line {n}." for n in range(6)])
    shots = make_shots(["opening", "", "static", "", "ending", "credits"])
    assert find_allowed(lines, shots, GuardSettings()) == (1, 2, 3)
    assert find_allowed(lines, shots, GuardSettings(credits=False)) == (0, 1, 2, 3, 5)
    # a line that runs on into the ending tells of it
    running = Lines("f", (Line("On and on.", Span(38.0, 41.0)),))
    assert find_allowed(running, shots, GuardSettings()) == ()
    # the ending may begin within a shot: what is said in it before then may be told
    within = replace(make_shots(["", "", "", ""]), secret=35.0)
    said = Lines(
        "f", (Line("Before.", Span(31.0, 34.0)), Line("On and on.", Span(33.0, 36.0)), Line("Then.", Span(37.0, 39.0)))
    )
    assert find_allowed(said, within, GuardSettings()) == (0,)


def test_without_the_film_the_last_tenth_of_the_lines_is_secret() -> None:
    lines = make_lines([f"Line {n}." for n in range(11)])  # 0 to 103 s
    assert hide_ending(lines, GuardSettings()) == tuple(range(9))
    assert hide_ending(lines, GuardSettings(ending=0.5)) == tuple(range(5))


def test_twenty_thousand_lines_are_cut_down_before_they_are_embedded() -> None:
    asked: list[int] = []

    class Counting(Hashed):
        def encode(self, texts: Sequence[str]) -> F32:
            asked.append(len(texts))
            return super().encode(texts)

    names = [f"{a}{b}{c}ora" for a in "bdfglmnprstv" * 4 for b in "aeiou" * 5 for c in "bdfglmnprstvz" * 2]
    lines = make_lines([f"Our {names[n]} has a terrible secret to hide." for n in range(20_000)], every=0.5)
    chosen = choose_quotes(lines, range(20_000), 80, Counting())
    assert sum(asked) < 1500
    assert 5 <= len(chosen) <= 10


def test_the_packaged_model_prefers_stakes_to_small_talk() -> None:
    lines = make_lines(
        [
            "Could you pass me the blue folder over there?",
            "If we do not stop this bomb the whole city dies.",
            "The bus to the office leaves at seven.",
            "I bought two kilos of potatoes yesterday.",
        ]
    )
    chosen = choose_quotes(lines, range(4), 12, load_sentences("cpu"))
    assert [line.number for line in chosen] == [1]
