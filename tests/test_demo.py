"""The demo film is what its truth says: long enough, cut where it says, with sound that fits."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.demo import DemoTruth, draw_demo_pictures, make_demo_film, plan_shots
from pipeline.records import F32

RATE = Fraction(12)  # half the pictures of the real thing, and a sixteenth of its pixels
SIZE = (160, 90)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoTruth, list[float]]:
    told: list[float] = []
    path = tmp_path_factory.mktemp("demo") / "demo.mp4"
    return make_demo_film(path, size=SIZE, frame_rate=RATE, progress=told.append), told


@pytest.fixture(scope="module")
def seen(demo: tuple[DemoTruth, list[float]]) -> tuple[list[float], F32, F32]:
    """Times of the pictures, their mean change in HSV to the one before (n,), and their mean luma (n,)."""
    times, changes, luma = [], [0.0], []
    before = None
    with av.open(str(demo[0].path)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
            if before is not None:
                changes.append(float(np.abs(hsv - before).mean()))
            before = hsv
            times.append(float(frame.pts * frame.time_base))
            luma.append(float(picture.mean()))
    return times, np.array(changes, np.float32), np.array(luma, np.float32)


def test_length_parts_and_progress(demo: tuple[DemoTruth, list[float]], seen: tuple[list[float], F32, F32]) -> None:
    truth, told = demo
    assert 120 <= truth.duration <= 180
    assert len(seen[0]) == truth.duration * RATE
    assert len(truth.cuts) + 2 >= 48  # the shots they begin, the title and the credits
    assert list(truth.cuts) == sorted(truth.cuts)
    edges = [truth.title.start, truth.title.end, *(act.end for act in truth.acts), truth.credits.end]
    assert edges[0] == 0
    assert edges[-1] == truth.duration
    assert [act.start for act in truth.acts] == edges[1:5]
    assert truth.credits.start == edges[5]
    assert truth.credits.duration >= 15
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_shots_get_shorter_to_the_climax(demo: tuple[DemoTruth, list[float]]) -> None:
    truth, _ = demo
    lengths = np.diff([*truth.cuts, truth.credits.start])
    acts = [lengths[[act.start <= cut < act.end for cut in truth.cuts]].mean() for act in truth.acts]
    assert acts[0] > acts[1] > acts[2] < acts[3]


def test_planted_cuts_are_seen(demo: tuple[DemoTruth, list[float]], seen: tuple[list[float], F32, F32]) -> None:
    """Nine of ten cuts stand out of the pictures around them; a film's own dissolves hide as many."""
    times, change, _ = seen
    stand_out = 0
    for cut in demo[0].cuts:
        at = int(np.argmin(np.abs(np.array(times) - cut)))
        assert times[at] == pytest.approx(cut, abs=1e-3)
        around = np.delete(change[max(1, at - 5) : at + 6], min(5, at - 1))
        stand_out += bool(change[at] > 2 * np.median(around) and change[at] > 10)
    assert stand_out >= 0.9 * len(demo[0].cuts)


def test_fades_and_credits_are_dark(demo: tuple[DemoTruth, list[float]], seen: tuple[list[float], F32, F32]) -> None:
    truth, luma = demo[0], seen[2]
    credits = round(truth.credits.start * RATE)
    assert luma[0] < 5
    assert luma[credits - 1] < 5
    assert luma[credits - 36] > 60
    assert luma[credits:].max() < 30
    assert luma[credits + 60 : -60].min() > 2  # there is text


def test_sound_is_whole_continuous_and_not_clipped(demo: tuple[DemoTruth, list[float]]) -> None:
    truth, _ = demo
    with av.open(str(truth.path)) as container:
        stream = container.streams.audio[0]
        assert (stream.rate, stream.channels) == (48000, 2)
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert samples.shape[1] / 48000 == pytest.approx(truth.duration, abs=0.05)  # AAC works in blocks of 21 ms
    assert 0.3 < np.abs(samples).max() < 0.95
    seconds = np.sqrt((samples[:, : int(truth.duration - 1) * 48000].reshape(2, -1, 48000) ** 2).mean(axis=(0, 2)))
    assert seconds.min() > 0.01  # no hole: above -40 dBFS in every second but the last
    act = [seconds[int(a.start) : int(a.end)].mean() for a in truth.acts]
    assert act[2] > act[0]
    assert act[2] > act[3]
    assert np.abs(np.diff(samples, axis=1)).max() < 0.35  # a click would jump by more


def test_same_seed_same_pictures() -> None:
    def hash_pictures(seed: int) -> str:
        shots = plan_shots(seed, RATE)
        digest = hashlib.sha256()
        for picture in islice(draw_demo_pictures(seed, SIZE, RATE, shots), 90):  # the title and into the first shot
            digest.update(picture.tobytes())
        return digest.hexdigest()

    assert hash_pictures(0) == hash_pictures(0) != hash_pictures(1)


def test_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="161x90"):
        make_demo_film(tmp_path / "demo.mp4", size=(161, 90))
