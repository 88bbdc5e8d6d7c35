"""Turn text into the tokens that CLIP's text tower reads.

Byte pair encoding (Sennrich et al., arXiv 1508.07909) over UTF-8 bytes with the merges that CLIP was trained with (arXiv
2103.00020): assets/clip, identical in openai/CLIP and open_clip. ImageBind's text tower is CLIP's.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingDependencyError

VOCABULARY = Path(__file__).resolve().parents[2] / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
CONTEXT = 77  # tokens that the tower reads, the first and the last one included
TOKENS = 49408  # two for each byte (inside a word, at its end), one a merge, and the two marks
START, END = TOKENS - 2, TOKENS - 1  # END is the highest number of all: the tower finds it by that
WORD_END = "</w>"
# a contraction's tail, a run of letters, one digit, a run of anything else; the marks stand for themselves
WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
MARKS = {"<|startoftext|>": START, "<|endoftext|>": END}


def tokenize(texts: Sequence[str]) -> NDArray[np.int64]:
    """Texts -> tokens (n, CONTEXT): START, the text's own, END, then zeros. A longer text is cut and keeps its END.

    Raises MissingDependencyError where ftfy or regex are not installed.
    """
    tokens = np.zeros((len(texts), CONTEXT), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        found = [START, *encode_text(text)[: CONTEXT - 2], END]
        row[: len(found)] = found
    return tokens


def encode_text(text: str) -> list[int]:
    """The tokens of a text, without marks and of any length."""
    numbers, spelling = _load_vocabulary()
    found: list[int] = []
    for word in _import("regex").findall(WORD, clean_text(text), _import("regex").IGNORECASE):
        if word in MARKS:
            found.append(MARKS[word])
        else:
            found += (numbers[piece] for piece in merge_word("".join(spelling[byte] for byte in word.encode())))
    return found


def clean_text(text: str) -> str:
    """As CLIP's training texts were: mended encoding, entities resolved (twice: many were escaped twice), lower case,
    single spaces.
    """
    return " ".join(html.unescape(html.unescape(_import("ftfy").fix_text(text))).split()).lower()


@lru_cache(maxsize=2**14)
def merge_word(word: str) -> tuple[str, ...]:
    """A word, spelled in printable bytes -> its pieces; of all neighbours that can merge, those learned first go first."""
    ranks = _load_ranks()
    pieces = [*word[:-1], word[-1] + WORD_END]
    while len(pieces) > 1:
        pairs = list(pairwise(pieces))
        first = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if first not in ranks:
            break
        merged, at = [], 0
        while at < len(pieces):
            width = 2 if tuple(pieces[at : at + 2]) == first else 1
            merged.append("".join(pieces[at : at + width]))
            at += width
        pieces = merged
    return tuple(pieces)


@lru_cache(maxsize=1)
def _load_ranks() -> dict[tuple[str, str], int]:
    """Which pairs merge, and how early each was learned."""
    lines = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")
    merges = lines[1 : 1 + TOKENS - 2 * 256 - len(MARKS)]  # below a header; the file has more than CLIP uses
    pairs = [tuple(line.split()) for line in merges]
    return {(left, right): rank for rank, (left, right) in enumerate(pairs)}


@lru_cache(maxsize=1)
def _load_vocabulary() -> tuple[dict[str, int], dict[int, str]]:
    """Number of each piece, and how a byte is spelled in the file: as a printable character that is no space."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    spelling = {byte: chr(byte) for byte in printable} | {byte: chr(256 + k) for k, byte in enumerate(others)}
    letters = list(spelling.values())
    pieces = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in _load_ranks())]
    return {piece: number for number, piece in enumerate(pieces)}, spelling


def _import(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name} is not installed: pip install 'trailer-pipeline[imagebind]'") from error
