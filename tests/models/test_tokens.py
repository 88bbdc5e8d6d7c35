"""Text becomes the tokens that CLIP's text tower was trained on."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.encoders import tokens
from models.encoders.tokens import CONTEXT, END, START, TOKENS, VOCABULARY, clean_text, encode_text, tokenize
from pipeline.errors import MissingDependencyError

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"


def test_the_golden_texts() -> None:
    if not (GOLDEN / "imagebind_tiny.npz").exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    expected = np.load(GOLDEN / "imagebind_tiny.npz")["tokens"]
    assert np.array_equal(tokenize(["a", "two dogs run", "Señor &amp; café 電影 🎬"]), expected)


def test_the_marks_stand_around_the_text_and_zeros_behind() -> None:
    for text, own in (("", 0), (" \n\t　", 0), ("a", 1), ("two dogs run", 3)):
        (row,) = tokenize([text])
        assert row.shape == (CONTEXT,)
        assert row.dtype == np.int64
        assert row[0] == START
        assert row[own + 1] == END == row.max()
        assert not row[own + 2 :].any()
    assert tokenize([]).shape == (0, CONTEXT)


@pytest.mark.parametrize("words", [CONTEXT - 3, CONTEXT - 2, CONTEXT - 1, 500])
def test_a_long_text_is_cut_and_keeps_its_end(words: int) -> None:
    (row,) = tokenize(["dog " * words])
    kept = min(words, CONTEXT - 2)
    assert len(set(row[1 : kept + 1])) == 1
    assert row[kept + 1] == END


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("rock &amp;amp; roll", "rock & roll"),  # escaped twice
        ("&lt;b&gt;", "<b>"),
        ("TWO Dogs\r\n  Run ", "two dogs run"),
        ("cafÃ© noir", "café noir"),  # UTF-8 read as Latin-1
        ("“quoted”", '"quoted"'),
        ("ﬁlm", "film"),  # a ligature
        ("a\x00\x07b", "ab"),  # control characters
    ],
)
def test_the_same_text_in_another_dress(text: str, same: str) -> None:
    assert clean_text(text) == same
    assert np.array_equal(tokenize([text]), tokenize([same]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's", ["it</w>", "'s</w>"]),
        ("THEY'LL", ["they</w>", "'ll</w>"]),
        ("1984", ["1</w>", "9</w>", "8</w>", "4</w>"]),  # digit by digit
        ("wow!!!", ["wow</w>", "!!!</w>"]),
        ("dogs", ["dogs</w>"]),
        ("xqzj", ["x", "q", "z", "j</w>"]),
    ],
)
def test_words_are_cut_where_they_were_in_training(text: str, words: list[str]) -> None:
    numbers, _ = tokens._load_vocabulary()
    assert encode_text(text) == [numbers[word] for word in words]


def test_every_text_can_be_read_back() -> None:
    """Byte pairs lose nothing: the pieces' bytes are those of the cleaned text, its spaces aside."""
    numbers, spelling = tokens._load_vocabulary()
    pieces = {number: piece for piece, number in numbers.items()}
    byte_of = {letter: byte for byte, letter in spelling.items()}
    for text in (
        "Señor & café 電影 🎬",
        "naïve — 10€",
        "👩‍👩‍👧 family",
        "antidisestablishmentarianism",
        "\ud800 alone",
    ):
        spelled = "".join(pieces[token].replace("</w>", "") for token in encode_text(text))
        assert bytes(byte_of[letter] for letter in spelled).decode() == "".join(clean_text(text).split())


def test_merging_agrees_with_applying_every_rule_in_turn() -> None:
    """Brute force: walk the whole list of merges in the order in which they were learned."""
    ranks = sorted(tokens._load_ranks().items(), key=lambda item: item[1])
    words = ["trailer", "cinematography", "aaaaaa", "banana", "mississippi", "hhhhh"]
    expected = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    for (left, right), _ in ranks:
        for pieces in expected.values():
            at = 0
            while at < len(pieces) - 1:
                if pieces[at] == left and pieces[at + 1] == right:
                    pieces[at : at + 2] = [left + right]
                at += 1
    assert {word: list(tokens.merge_word(word)) for word in words} == expected


def test_the_vocabulary_is_whole() -> None:
    numbers, spelling = tokens._load_vocabulary()
    assert sorted(numbers.values()) == list(range(TOKENS - 2))
    assert len(set(spelling.values())) == 256
    assert gzip.decompress(VOCABULARY.read_bytes()).startswith(b'"bpe_simple_vocab_16e6.txt#version: 0.2\n')
    assert "MIT" in (VOCABULARY.parent / "LICENSE.txt").read_text()


def test_an_absent_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ftfy", None)
    with pytest.raises(
        MissingDependencyError, match=r"ftfy is not installed: pip install 'trailer-pipeline\[imagebind\]'"
    ):
        tokenize(["a"])
