"""Decode packets one after the other, leave out what is damaged, and count it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.audio.stream import AudioStream as AvAudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream


@dataclass(slots=True)
class Damage:
    """What a pass met and left out: packets that do not decode, pictures with no time or a time already past."""

    packets: int = 0
    pictures: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: Damage) -> None:
        """Count another pass's damage to this one's; the same note once."""
        self.packets += other.packets
        self.pictures += other.pictures
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
