"""Vectors for shots: every shot gets its own row, whatever the batches, and a full memory halves them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest

from models.encoders import Identity, ShotContent
from pipeline.errors import MissingDependencyError
from pipeline.features import encode_all
from pipeline.records import F32

WIDTH = 4


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class Scarce:
    """A device that holds `room` shots; a row points along the shot's number modulo WIDTH."""

    identity = Identity("scarce@1", WIDTH)
    weights = ""
    shortest = 1

    def __init__(self, *, batch: int, room: int) -> None:
        self.batch, self.room = batch, room
        self.calls: list[int] = []

    def moments(self, seconds: float) -> Sequence[float]:
        return [seconds / 2]

    def prepare(self, shot: ShotContent) -> int:
        return int(shot.sound[0, 0])

    def encode(self, prepared: Sequence[int]) -> F32:
        self.calls.append(len(prepared))
        if len(prepared) > self.room:
            raise OutOfMemoryError("full")
        return np.eye(WIDTH, dtype=np.float32)[np.array(prepared) % WIDTH]


def numbered(number: int) -> ShotContent:
    return ShotContent([], np.zeros((0, 3), np.float32), np.full((1, 1), number, np.float32))


@pytest.mark.parametrize(("count", "batch"), [(0, 4), (1, 4), (4, 4), (9, 4), (7, 1)])
def test_rows_come_in_the_order_of_the_shots(count: int, batch: int) -> None:
    shares: list[float] = []
    rows = encode_all(Scarce(batch=batch, room=99), count, numbered, progress=shares.append)
    assert rows.shape == (count, WIDTH)
    assert rows.argmax(axis=1).tolist() == [n % WIDTH for n in range(count)]
    assert shares == sorted(shares)
    assert not count or shares[-1] == 1.0


def test_a_full_memory_halves_the_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    device = Scarce(batch=8, room=3)
    with caplog.at_level(logging.WARNING, "trailer"):
        rows = encode_all(device, 19, numbered)
    assert rows.argmax(axis=1).tolist() == [n % WIDTH for n in range(19)]
    assert [r.getMessage() for r in caplog.records] == [
        "the device's memory ran out: going on with 4 shots at once",
        "the device's memory ran out: going on with 2 shots at once",
    ]
    assert device.calls[:3] == [8, 4, 2]
    assert max(device.calls[3:]) == 2  # not tried again with more


def test_a_shot_that_does_not_fit_alone_ends_the_work() -> None:
    with pytest.raises(MissingDependencyError, match="scarce@1 does not fit"):
        encode_all(Scarce(batch=4, room=0), 4, numbered)


def test_any_other_fault_is_not_taken_for_a_full_memory() -> None:
    class Broken(Scarce):
        def encode(self, prepared: Sequence[int]) -> F32:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        encode_all(Broken(batch=4, room=4), 4, numbered)
