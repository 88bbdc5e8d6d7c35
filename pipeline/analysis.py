"""Look at a film once: one decode gives everything that the later stages need to know about it.

A long film is looked at in parts that begin at key frames, at once on all cores or on several machines, and joined; the
result is the same as of one pass from beginning to end.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from av.video.frame import VideoFrame

from pipeline.blends import find_blends
from pipeline.decode import KeyFrame, decode_film, find_key_frames
from pipeline.errors import InputError
from pipeline.levels import SAMPLE_RATE, SOUND_STEP, Levels
from pipeline.packets import Damage
from pipeline.records import F32, F64, I64, U8, Analysis, Bool, Film
from pipeline.shrink import size_samples
from pipeline.sound import Sound, decode_sound
from pipeline.watch import (
    SAMPLE_LONGEST,
    SAMPLE_SHORTEST,
    Look,
    Watch,
    choose_samples,
    find_bars,
    find_focus,
    turn_focus,
)

log = logging.getLogger("trailer")

SHORTEST_PART, LONGEST_PART = 20.0, 120.0  # s: long enough to be worth a seek, short enough to share out
PARTS_A_WORKER = 4  # so that none waits long for the last
TELL_EVERY = 24  # pictures
POLL = 0.2  # s between two looks at how far the workers are

MOST_PARTS = 1000  # whatever length a file claims
# file of pictures for TransNetV2, how many there are, whom to tell the share that is done -> probabilities (n, 2)
Network = Callable[[Path, int, Callable[[float], None]], F32]
DECODED = 0.6  # share of the work that is done when a network begins to judge


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker looks at: the pictures from a key frame to before `end` s (None: the film's ends), or the sound."""

    film: Film
    scratch: Path
    name: str
    start: KeyFrame | None = None
    end: float | None = None
    pictures: bool = True
    sound: bool = False
    network: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """Sound levels (w, bands), RMS, and the time of the first window on the film's clock, s."""

    levels: F32
    start: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen and heard of a part; None where it was not asked for."""

    look: Look | None
    heard: Heard | None
    damage: Damage


class Spread(Protocol):
    """Looks at several parts at once, on the cores of this machine or on others."""

    workers: int

    def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
        """look_at(part) for each, in order. tell takes the seconds of film seen so far, from the caller's thread."""
        ...


class Threads:
    """Looks at parts in threads of this process: decoding and scaling hold no lock of the interpreter's."""

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)

    def __call__(self, parts: Sequence[Part], tell: Callable[[float], None]) -> list[Seen]:
        seconds = [0.0] * len(parts)
        stop = threading.Event()

        def look(number: int) -> Seen:
            def told(seen: float) -> None:
                if stop.is_set():
                    raise _StoppedError
                seconds[number] = seen

            return look_at(parts[number], told)

        with ThreadPoolExecutor(self.workers, "analysis") as pool:
            running = [pool.submit(look, number) for number in range(len(parts))]
            try:
                going = True
                while going:
                    going = bool(wait(running, timeout=POLL, return_when=FIRST_EXCEPTION).not_done)
                    tell(sum(seconds))
                    if any(future.done() and future.exception() is not None for future in running):
                        break
                return [future.result() for future in running if future.done()]
            finally:
                stop.set()  # after an error or an interruption nobody goes on for long
                for future in running:
                    future.cancel()


class _StoppedError(Exception):
    """Ends a part whose result nobody waits for."""


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def analyse_film(
    film: Film,
    scratch: Path,
    *,
    spread: Spread | None = None,
    network: Network | None = None,
    progress: Callable[[float], None] | None = None,
) -> Analysis:
    """Decode a film once into an Analysis.

    scratch: an empty folder for what is large; it must last until the Analysis has been written. spread: who looks at the
    parts of a long film; none: one pass in this thread. network: judges cuts; none: PySceneDetect's rule does, later.
    Memory grows by about 100 bytes a picture. A damaged film is read in one go, for what a decoder makes of damage hangs on
    where it began. Raises InputError when fewer than two pictures can be decoded.
    """
    spread = spread or Threads(1)
    done = 0.0

    def tell(seconds: float) -> None:
        nonlocal done
        done = max(done, min(1.0, seconds / film.duration))  # a second reading does not begin at nothing again
        if progress is not None:
            progress(done if network is None else DECODED * done)

    def judge(file: Path, count: int) -> F32:
        assert network is not None
        return network(file, count, lambda share: progress(DECODED + (1 - DECODED) * share) if progress else None)

    whole = Part(film, scratch, "whole", sound=True, network=network is not None)
    seen: list[Seen] = []
    keys = _choose_keys(film, spread.workers)
    if keys:
        parts = [
            replace(whole, name=f"part-{number}", start=start, end=None if end is None else end.time, sound=False)
            for number, (start, end) in enumerate(pairwise([None, *keys, None]))
        ]
        seen = spread([replace(whole, name="sound", pictures=False), *parts], tell)
        if not are_whole(seen):
            log.info("%s is damaged, or cannot be read from its middle: it is read again in one go", film.path)
            seen = []
    if not seen:
        seen = [look_at(whole, tell)]
    damage = Damage()
    for one in seen:
        damage.add(one.damage)
    looks = [one.look for one in seen if one.look is not None]
    heard = next(one.heard for one in seen if one.heard is not None)
    return _join(film, looks, heard, damage, scratch, None if network is None else judge)


def are_whole(seen: Sequence[Seen]) -> bool:
    """Whether parts make up the film: nothing damaged, and each ends where the next begins."""
    looks = [one.look for one in seen if one.look is not None]
    return all(one.damage.none for one in seen) and all(_fit(one, following) for one, following in pairwise(looks))


def _choose_keys(film: Film, workers: int) -> list[KeyFrame]:
    """Where to part a film: key frames, about evenly; none for a short film or a single worker."""
    length = min(max(film.duration / (workers * PARTS_A_WORKER), SHORTEST_PART), LONGEST_PART)
    count = min(int(film.duration / length), MOST_PARTS)
    if workers < 2 or count < 2:
        return []
    return find_key_frames(film, (film.start + film.duration * number / count for number in range(1, count)))


def look_at(part: Part, told: Callable[[float], None] | None = None) -> Seen:
    """Decode a part of a film. told is called with the seconds seen so far, every second or so."""
    cv2.setNumThreads(1)  # pictures are small: OpenCV's own threads cost more than they bring
    damage = Damage()
    levels = Levels() if part.sound else None
    if not part.pictures:
        assert levels is not None
        for number, block in enumerate(decode_sound(part.film, sample_rate=SAMPLE_RATE, damage=damage)):
            levels.add(block)
            if told is not None and number % TELL_EVERY == 0:
                told(0.0)
        return Seen(None, Heard(*levels.finish()), damage)
    watch = Watch(part.film, part.scratch, part.name, network=part.network, middle=part.start is not None)
    begin = part.film.start if part.start is None else part.start.time
    beyond: VideoFrame | None = None
    try:
        for item in decode_film(
            part.film,
            damage=damage,
            sample_rate=SAMPLE_RATE if part.sound else None,
            start=part.start,
            end=part.end,
        ):
            if isinstance(item, Sound):
                assert levels is not None
                levels.add(item)
            elif part.end is not None and item.time is not None and item.time >= part.end:
                beyond = item
            else:
                watch.add(item)
                if told is not None and watch.count % TELL_EVERY == 0:
                    told(watch.time - begin)
        return Seen(watch.finish(beyond), None if levels is None else Heard(*levels.finish()), damage)
    finally:
        watch.close()


def _fit(look: Look, following: Look) -> bool:
    """Whether a part ends where the next one begins, and both have seen the same picture there."""
    if look.beyond is None or not len(look.times) or not len(following.times):
        return False
    time, picture = look.beyond
    return time == float(following.times[0]) and np.array_equal(picture, following.first)


def _join(
    film: Film,
    looks: Sequence[Look],
    heard: Heard,
    damage: Damage,
    scratch: Path,
    judge: Callable[[Path, int], F32] | None,
) -> Analysis:
    times: F64 = np.concatenate([look.times for look in looks])
    if len(times) < 2:
        raise InputError(
            f"only {len(times)} picture(s) of the film {film.path} can be decoded: a trailer needs a moving picture"
        )
    scores: F32 = np.concatenate([look.scores for look in looks])
    focus: F32 = np.concatenate([look.focus for look in looks])
    firsts = np.cumsum([0, *(len(look.times) for look in looks)])
    for first, (before, look) in zip(firsts[1:], pairwise(looks), strict=False):
        change = np.asarray(cv2.absdiff(look.first, before.last), np.uint8)
        scores[first], focus[first] = cv2.mean(change)[:3], find_focus(change)
    sampled, sizes, lit = _keep_samples(looks, firsts, choose_samples(times, scores), scratch / "samples")
    tiny = _append([look.tiny for look in looks], scratch / "tiny")
    transitions = np.zeros((0, 2), np.float32)
    if judge is not None:
        transitions = judge(
            _append([p for p in (look.network for look in looks) if p], scratch / "network"), len(times)
        )
    usual, steps = float(np.median(np.diff(times))), np.diff(times)
    seen = replace(
        film,
        start=float(times[0]),
        duration=float(times[-1] - times[0]) + usual,
        variable_rate=bool(np.mean(np.abs(steps - usual) > max(0.0015, 0.1 * usual)) > 0.02),
    )
    warnings = list(damage.notes)
    if damage.packets or damage.pictures:
        warnings.append(
            f"{damage.packets} damaged packets and {damage.pictures} pictures without a usable time were left out"
        )
    if damage.placed:
        warnings.append(
            f"{damage.placed} of {len(times)} pictures have no usable time in the file and stand where their order puts them"
        )
    if seen.duration < 0.9 * film.duration:
        warnings.append(
            f"only {seen.duration:.1f} s of the {film.duration:.1f} s that the file announces can be decoded"
        )
    return Analysis(
        film=seen,
        times=times,
        scores=scores,
        luma=np.concatenate([look.luma for look in looks]),
        focus=turn_focus(focus, film.rotation),
        letterbox=find_bars(*lit, film.rotation),
        sample_times=times[sampled],
        sample_bytes=np.memmap(scratch / "samples", np.uint8, "r"),
        sample_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        sound=heard.levels,
        sound_start=heard.start,
        sound_step=SOUND_STEP,
        blends=find_blends(tiny, looks[0].tiny_shape, times),
        transitions=transitions,
        warnings=tuple(warnings),
    )


def _keep_samples(looks: Sequence[Look], firsts: I64, due: Bool, path: Path) -> tuple[I64, I64, tuple[Bool, Bool]]:
    """Write the JPEGs that are due end to end: their picture numbers (m,) and sizes (m,), which rows and columns are lit."""
    numbers, sizes, rows, columns = [], [], [], []
    with path.open("wb") as out:
        for first, look in zip(firsts, looks, strict=False):
            kept = due[first + look.sampled]
            with look.samples.open("rb") as file:
                for keep, size in zip(kept.tolist(), look.jpeg_sizes.tolist(), strict=True):
                    jpeg = file.read(size)
                    if keep:
                        out.write(jpeg)
            numbers.append(first + look.sampled[kept])
            sizes.append(look.jpeg_sizes[kept])
            rows.append(look.lit_rows[kept])
            columns.append(look.lit_columns[kept])
            look.samples.unlink()
    every = np.concatenate(numbers)
    assert len(every) == due.sum()  # a part may keep more than is due, never less
    lit: tuple[Bool, Bool] = np.logical_or.reduce(np.concatenate(rows)), np.logical_or.reduce(np.concatenate(columns))
    return every, np.concatenate(sizes), lit


def _append(parts: Sequence[Path], path: Path) -> Path:
    """Put files end to end into one."""
    first, *others = parts
    first.rename(path)
    with path.open("ab") as out:
        for part in others:
            with part.open("rb") as file:
                while block := file.read(1 << 20):
                    out.write(block)
            part.unlink()
    return path


def read_samples(analysis: Analysis, numbers: I64, *, shortest: int = 0) -> list[U8]:
    """The sampled pictures of these numbers, BGR (h, w, 3), upright and in square pixels.

    shortest: px of the shorter side that will do: twice as large comes at half its size, in a quarter of the time.
    """
    stored = min(size_samples(analysis.film, SAMPLE_SHORTEST, SAMPLE_LONGEST))
    how = cv2.IMREAD_REDUCED_COLOR_2 if 0 < 2 * shortest <= stored else cv2.IMREAD_COLOR
    pictures: list[U8] = []
    for number in numbers:
        low, high = analysis.sample_offsets[number], analysis.sample_offsets[number + 1]
        picture = cv2.imdecode(np.asarray(analysis.sample_bytes[low:high]), how)
        if picture is None:
            raise ValueError(f"sampled picture {number} does not decode")
        pictures.append(np.asarray(picture, dtype=np.uint8))
    return pictures
