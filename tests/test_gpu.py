"""One at a time on a GPU, whoever dies; and the CPU waits for nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.encoders import load_encoder as load_real_encoder
from pipeline import gpu, steps
from pipeline.choices import choose_encoder_device
from pipeline.gpu import Watcher, lock_path, use_gpu, watch
from pipeline.media import probe_film
from pipeline.runner import LocalRunner
from pipeline.settings import Site, TrailerConfig
from pipeline.workdir import WorkDir
from tests.synthetic import barcode_film

ROOT = Path(__file__).resolve().parents[1]
HOLD = "import sys, time; from pipeline.gpu import use_gpu\nwith use_gpu('cuda'): print('held', flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lock files of this test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the GPU until it is killed."""
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def is_free(device: str = "cuda") -> bool:
    """Whether the GPU can be had at once."""

    def stop() -> None:
        raise TimeoutError

    try:
        with watch(Watcher(told=lambda text: None, waiting=stop)), use_gpu(device):
            return True
    except TimeoutError:
        return False


def test_only_one_thread_at_a_time() -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with use_gpu("cuda"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.02)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 9


def test_another_process_is_waited_for_and_the_wait_is_told() -> None:
    told: list[str] = []
    with holder() as process:
        assert not is_free()
        started = time.monotonic()
        threading.Timer(0.7, process.kill).start()
        with watch(Watcher(told=told.append)), use_gpu("cuda"):
            waited = time.monotonic() - started
    assert 0.6 < waited < 5
    assert told == ["waiting for the GPU, which another run uses"]


def test_a_killed_holder_leaves_it_free() -> None:
    with holder() as process:
        assert not is_free()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert is_free()
    assert lock_path("cuda").exists()


def test_a_wait_can_be_ended() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    watcher = Watcher(told=lambda text: None, waiting=stop)
    with holder(), watch(watcher), pytest.raises(KeyboardInterrupt), use_gpu("cuda"):
        pytest.fail("two at once")


def test_each_card_has_a_lock_by_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lock_path("cuda") == lock_path("cuda:0") != lock_path("cuda:1")
    second = lock_path("cuda:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert lock_path("cuda") == second
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937/../x")
    assert lock_path("cuda").parent == second.parent
    with use_gpu("cuda:1"):  # not a card of this process: its own trouble
        assert is_free("cuda:0")


def test_a_swept_lock_file_is_not_trusted() -> None:
    """Whoever waits for a file that is removed and made anew by others goes over to the new one."""
    with use_gpu("cuda"):
        lock_path("cuda").unlink()
        with use_gpu("cuda"):
            assert not is_free()
    lock_path("cuda").unlink()
    lock_path("cuda").symlink_to("/etc/passwd")
    with pytest.raises(gpu.InputError, match="cannot use the GPU's lock file"), use_gpu("cuda"):
        pytest.fail("a link was followed")


def test_a_step_takes_it_after_it_looked_for_its_artifact(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features step on a device that is claimed to be a GPU: it waits while it has work to do, and not for reuse."""
    film = tmp_path / "film.mp4"
    barcode_film(film, frame_rate=Fraction(25), shots=[25] * 4, size=(96, 54))
    probed, config = probe_film(film), TrailerConfig()
    work = WorkDir(site.work_dir, probed.fingerprint)
    runner = LocalRunner(lambda line: said.append(line))
    said: list[str] = []
    with holder():  # the CPU waits for nobody, and a descriptor needs no GPU where there is one
        runner.step("analysis", steps.analyse, work, probed, config, site)
        with use_gpu("cpu"):
            assert choose_encoder_device(config, Site(device="cuda")) == "cpu"
    analysis = runner.step("analysis", steps.analyse, work, probed, config, site)
    shots = runner.step("shots", steps.find_shots, work, analysis, config)
    monkeypatch.setattr(steps, "choose_encoder_device", lambda config, site: "cuda")
    encoded: list[bool] = []

    class Slow:
        """The encoder, which notes whether the GPU was held while it was at work."""

        def __init__(self, encoder: Any) -> None:
            self._encoder = encoder

        def __getattr__(self, name: str) -> Any:
            return getattr(self._encoder, name)

        def encode(self, prepared: Any) -> np.ndarray[Any, Any]:
            encoded.append(not is_free())
            rows: np.ndarray[Any, Any] = self._encoder.encode(prepared)
            return rows

    monkeypatch.setattr("models.encoders.load_encoder", lambda config, site: Slow(load_real_encoder(config, site)))
    with holder() as process:
        threading.Timer(0.7, process.kill).start()
        runner.step("features", steps.encode, work, analysis, shots, config, site)
    assert said[3] == "features: waiting for the GPU, which another run uses"
    assert encoded == [True]
    assert is_free()
    with holder():
        runner.step("features", steps.encode, work, analysis, shots, config, site)
    assert runner.times[-1].reused
