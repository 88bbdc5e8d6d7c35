"""Decode packets one after the other, leave out what is damaged, put every picture at its time, and count what was amiss."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

AHEAD = 4  # pictures that are waited for before one is given its time: enough for a B-pyramid's
AHEAD_FAULTY = 16  # once times were amiss; the deepest reordering that H.264 knows (A.3.1, MaxDpbFrames)


@dataclass(slots=True)
class Damage:
    """What a pass met: packets that do not decode and pictures that have no place in time, both left out; pictures whose
    time had to be found (place_pictures)."""

    packets: int = 0
    pictures: int = 0
    placed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def none(self) -> bool:
        """Whether the pass met nothing of the kind."""
        return not (self.packets or self.pictures or self.placed or self.notes)

    def add(self, other: Damage) -> None:
        """Count another pass's damage to this one's; the same note once."""
        self.packets += other.packets
        self.pictures += other.pictures
        self.placed += other.placed
        self.notes.extend(note for note in other.notes if note not in self.notes)


def read_frames(
    container: InputContainer,
    streams: Sequence[VideoStream | AvAudioStream],
    damage: Damage,
    span: tuple[float, float] = (-np.inf, np.inf),
    *,
    before: Callable[[Packet[Any]], None] | None = None,
) -> Iterator[object]:
    """Decoded frames in the order of the file; damaged packets are counted where their time lies within the span.

    before: is called with each packet before it is decoded.
    """
    packets = container.demux(*streams)
    while True:
        try:
            packet: Packet[Any] | None = next(packets, None)
        except FFmpegError as error:  # the container ends in a broken place: what came before is good
            damage.notes.append(f"the file ends early: {error.strerror}")
            return
        if packet is None:
            return
        if before is not None:
            before(packet)
        try:
            yield from packet.decode()
        except FFmpegError:
            time = None if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)
            damage.packets += time is None or span[0] <= time < span[1]


def place_pictures(
    frames: Iterable[object],
    damage: Damage,
    *,
    step: Fraction,
    start: float | None = None,
    begins: bool = False,
) -> Iterator[object]:
    """The frames with every picture at its time, in increasing time; sound passes at once, ahead of the pictures.

    A decoder gives pictures in the order in which they are shown; where their timestamps increase, they are the times.
    Some containers number pictures in the order of decoding (H.264 with B-pictures in AVI), and some streams lack
    timestamps here and there. A missing one is that of decoding, as ffplay guesses it, or one duration (`step` s where the
    picture says none) after the last; then the timestamps at hand are dealt out, the earliest to the picture that is
    shown first. A picture whose time has passed and for which none is left (a clock that starts again) is left out.

    start: pictures before this time are passed over. begins: the first frame is the stream's first, so that a stream
    without any timestamp begins at 0.
    """
    clock = _Clock(step, begins)
    for frame in frames:
        if not isinstance(frame, VideoFrame):
            yield frame
        elif start is None or frame.time is None or frame.time >= start:
            clock.read(frame)
            if clock.full:
                yield from clock.place(damage)
    while clock.waiting:
        yield from clock.place(damage)


class _Clock:
    """Pictures that wait for their time, and the timestamps at hand, in ticks of the stream."""

    def __init__(self, step: Fraction, begins: bool) -> None:
        self.waiting: deque[tuple[VideoFrame, int | None]] = deque()  # with the timestamp read, or what stands for it
        self._pool: list[tuple[int, int]] = []  # timestamps, each with the number of the picture that brought it
        self._ahead = AHEAD
        self._step = step
        self._begins = begins
        self._count = 0
        self._read: int | None = None  # the last timestamp read
        self._given: int | None = None  # and the last one given

    @property
    def full(self) -> bool:
        return len(self.waiting) > self._ahead

    def read(self, frame: VideoFrame) -> None:
        """Take the next picture."""
        stamp = self._guess(frame) if frame.pts is None else frame.pts
        if frame.pts is None or (self._read is not None and frame.pts <= self._read):
            self._ahead = AHEAD_FAULTY
        if stamp is not None:
            self._read = stamp
            self._pool.append((stamp, self._count))
        self._count += 1
        self.waiting.append((frame, stamp))

    def _guess(self, frame: VideoFrame) -> int | None:
        if frame.dts is not None and (self._read is None or frame.dts > self._read):
            return frame.dts
        if self._read is None:
            return 0 if self._begins else None
        assert frame.time_base is not None
        return self._read + max(1, frame.duration or round(self._step / frame.time_base))

    def place(self, damage: Damage) -> Iterator[VideoFrame]:
        """The picture that has waited longest, if there is a time for it."""
        frame, own = self.waiting.popleft()
        oldest = self._count - len(self.waiting) - AHEAD_FAULTY  # what is kept for longer was far ahead of its picture
        self._pool = [
            (stamp, number)
            for stamp, number in self._pool
            if number >= oldest and (self._given is None or stamp > self._given)
        ]
        passed = own is None or (self._given is not None and own <= self._given)
        if not self._pool or (passed and len(self._pool) <= len(self.waiting)):
            damage.pictures += 1
            return
        self._given, _ = earliest = min(self._pool)
        self._pool.remove(earliest)
        damage.placed += frame.pts != self._given
        frame.pts = self._given
        yield frame
