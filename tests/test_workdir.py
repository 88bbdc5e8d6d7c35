"""Artifacts: what goes in comes out, whole or not at all."""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.records import F32, Span
from pipeline.workdir import Artifact, WorkDir, deliver_file, deliver_text, make_key, write_record


@dataclass(frozen=True)
class Inner:
    rate: Fraction
    span: Span | None


@dataclass(frozen=True)
class Sample:
    path: Path
    inner: Inner
    spans: tuple[Span, ...]
    flags: tuple[frozenset[str], ...]
    pictures: tuple[F32, ...]
    table: F32
    names: dict[str, str]
    text: str


SAMPLE = Sample(
    Path("/films/Äther – 1.mkv"),
    Inner(Fraction(24000, 1001), None),
    (Span(0.1, 0.30000000000000004),),
    (frozenset({"black", "text"}), frozenset()),
    (np.arange(3, dtype=np.float32), np.zeros((2, 2), np.float32)),
    np.random.default_rng(0).random((3, 4), dtype=np.float32),
    {"1": "x"},
    'quote " and \n newline',
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    write_record(tmp_path / "a.npz", SAMPLE)
    back = Artifact(tmp_path / "a.npz", "k", Sample).load()
    assert (back.path, back.inner, back.spans, back.flags, back.names, back.text) == (
        SAMPLE.path,
        SAMPLE.inner,
        SAMPLE.spans,
        SAMPLE.flags,
        SAMPLE.names,
        SAMPLE.text,
    )
    assert np.array_equal(back.table, SAMPLE.table)
    assert all(np.array_equal(a, b) for a, b in zip(back.pictures, SAMPLE.pictures, strict=True))


def test_what_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        write_record(tmp_path / "a.npz", Inner(Fraction(1), object()))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_keys_tell_every_input_apart() -> None:
    base = make_key("shots", 1, {"film": "a", "x": 1.5})
    assert base == make_key("shots", 1, {"x": 1.5, "film": "a"})
    others = [
        make_key("shots", 2, {"film": "a", "x": 1.5}),
        make_key("music", 1, {"film": "a", "x": 1.5}),
        make_key("shots", 1, {"film": "a", "x": 1.5000001}),
        make_key("shots", 1, {"film": "b", "x": 1.5}),
    ]
    assert len({base, *others}) == 5


def test_made_once_and_reused_until_an_input_changes(tmp_path: Path) -> None:
    work, calls = WorkDir(tmp_path, "film"), []

    def make() -> Inner:
        calls.append(1)
        return Inner(Fraction(len(calls)), Span(0, 1))

    first = work.reuse_or_make("step", 1, {"a": 1}, Inner, make)
    again = WorkDir(tmp_path, "film").reuse_or_make("step", 1, {"a": 1}, Inner, make)
    changed = work.reuse_or_make("step", 1, {"a": 2}, Inner, make)
    assert [first.reused, again.reused, changed.reused] == [False, True, False]
    assert again.artifact.load() == first.artifact.load() != changed.artifact.load()
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_a_damaged_artifact_is_made_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    work = WorkDir(tmp_path, "film")
    made = work.reuse_or_make("step", 1, {}, Inner, lambda: Inner(Fraction(1), None))
    data = made.artifact.path.read_bytes()
    made.artifact.path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    with caplog.at_level(logging.WARNING, "trailer"):
        again = work.reuse_or_make("step", 1, {}, Inner, lambda: Inner(Fraction(2), None))
    assert not again.reused
    assert again.artifact.load().rate == 2
    assert "made again" in caplog.text


def test_whatever_a_flipped_bit_makes_of_an_artifact_it_is_made_again_or_harmless(tmp_path: Path) -> None:
    """Every bit of the archive's central directory and of its first header: methods unknown, encryption, wrong offsets."""
    work = WorkDir(tmp_path, "film")
    path = work.reuse_or_make("step", 1, {}, Inner, lambda: SAMPLE.inner).artifact.path
    data = path.read_bytes()
    begin = data.index(b"PK\x01\x02")
    again = 0
    for byte in (*range(40), *range(begin, len(data))):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[byte] ^= 1 << bit
            path.write_bytes(damaged)
            made = work.reuse_or_make("step", 1, {}, Inner, lambda: SAMPLE.inner)
            assert made.artifact.load() == SAMPLE.inner
            again += not made.reused
    assert again > 400


def test_scratch_is_gone_afterwards_and_swept_when_nobody_uses_it(tmp_path: Path) -> None:
    work = WorkDir(tmp_path, "film")
    with work.make_scratch("step") as scratch:
        (scratch / "large").write_bytes(b"x")
        long_ago = time.time() - 2 * 24 * 3600
        os.utime(scratch, (long_ago, long_ago))
        WorkDir(tmp_path, "film")  # another run on this film; files in use are young
        assert (scratch / "large").is_file()
        os.utime(scratch / "large", (long_ago, long_ago))
        left = scratch.with_name(".step-left.scratch")
        shutil.copytree(scratch, left)
        os.utime(left, (long_ago, long_ago))
    assert not scratch.exists()
    WorkDir(tmp_path, "film")
    assert not left.exists()


def test_a_record_whose_file_is_gone_is_made_again(tmp_path: Path) -> None:
    work = WorkDir(tmp_path, "film")
    work.reuse_or_make("step", 1, {}, Inner, lambda: Inner(Fraction(1), None))
    again = work.reuse_or_make("step", 1, {}, Inner, lambda: Inner(Fraction(2), None), valid=lambda record: False)
    assert not again.reused


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Inner:
        raise InputError("no")

    work = WorkDir(tmp_path, "film")
    with pytest.raises(InputError):
        work.reuse_or_make("step", 1, {}, Inner, fail)
    assert list(work.folder.iterdir()) == []


def test_delivery_is_whole_and_says_what_is_in_the_way(tmp_path: Path) -> None:
    deliver_text("new", tmp_path / "sub" / "a.json")
    assert (tmp_path / "sub" / "a.json").read_text() == "new"
    (tmp_path / "source").write_bytes(b"film")
    deliver_file(tmp_path / "source", tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == b"film"
    with pytest.raises(InputError, match="cannot write"):
        deliver_file(tmp_path / "source", tmp_path / "source" / "c.mp4")
    assert {p.name for p in tmp_path.iterdir()} == {"sub", "source", "b.mp4"}


def test_a_work_folder_that_cannot_be_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="TRAILER_WORK_DIR"):
        WorkDir(tmp_path / "file", "film")
