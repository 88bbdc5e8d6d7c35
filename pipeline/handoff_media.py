"""The files that a hand-off links: how they are counted, what time code they carry, and whether their rate holds."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from av.error import FFmpegError
from av.packet import Packet

from pipeline.edit import STANDARD_RATES
from pipeline.errors import InputError
from pipeline.media import check_readable, fingerprint_file, open_media, pick_video, probe_track
from pipeline.records import EditList, Film, Music, Span
from pipeline.settings import parse_config
from pipeline.sound import choose_sound
from pipeline.timecode import parse_timecode

log = logging.getLogger("trailer")

# s: Matroska rounds a picture's time to whole ms, so that a time on its edge may read as just before it
ROUNDED = Fraction(1, 2000)
LOOK_PACKETS = 1000  # from a key frame on, in which a cut's pictures are looked for
UNEVEN = 0.02  # of them that may lie elsewhere than their rate says: as the analysis has it
REEL = 8  # characters of a reel's name in an EDL
RESERVED_REELS = frozenset({"BL", "BLACK", "AX", "BARS"})


@dataclass(frozen=True, slots=True)
class Medium:
    """A file that clips are taken from.

    url: how a format links it. rate: that its frames are counted in; a sound file's is the trailer's. first: number of its
    first frame, by its own time code; drop: whether that counts drop-frame. frames, seconds: all of it. size: of its
    pictures, px; none: sound alone. channels: of its sound, 0: silent; first_channel: how many channels of other sound
    tracks come before. reel: its name in an EDL.
    """

    path: Path
    url: str
    rate: Fraction
    first: int
    drop: bool
    frames: int
    seconds: float
    size: tuple[int, int] | None
    channels: int
    first_channel: int
    sample_rate: int
    reel: str


class Links:
    """The files that are linked, each once, with a reel of its own. folder: that they are linked relative to."""

    def __init__(self, folder: Path | None, rate: Fraction) -> None:
        self._folder, self._rate = folder, rate
        self._reels: set[str] = set()
        self._sounds: dict[Path, Medium] = {}

    def link(self, path: Path) -> str:
        """As a file URL, or relative to the folder and quoted likewise."""
        path = path.absolute()
        if self._folder is None:
            return path.as_uri()
        return quote(os.path.relpath(path, self._folder.absolute()).replace(os.sep, "/"))

    def name_reel(self, path: Path) -> str:
        """Eight letters and digits that no other file has."""
        plain = re.sub(r"[^A-Z0-9]", "", path.stem.upper().encode("ascii", "ignore").decode()) or "REEL"
        reel, number = plain[:REEL], 1
        while reel in self._reels or reel in RESERVED_REELS:
            number += 1
            reel = f"{plain[: REEL - len(str(number))]}{number}"
        self._reels.add(reel)
        return reel

    def add_film(self, film: Film, edit: EditList) -> tuple[Medium, Fraction]:
        """The film, and the rate that a time of it is turned into a frame with."""
        counted = film.frame_rate
        if film.variable_rate or not lies_even(
            film, [cut.source for cut in edit.cuts]
        ):  # no frame number is right for all of it: the rate that an editor will conform it to
            counted = self._rate
            log.warning(
                "%s has a variable frame rate: its frames are counted on the nominal rate of %.3f frames/s, and a cut may "
                "be some frames off in an editor (a copy of constant rate has no such doubt)",
                film.path.name,
                float(counted),
            )
        rate = _name_rate(counted)
        first, drop = 0, False
        code = read_timecode(film.path)
        if code:
            try:
                first, drop = parse_timecode(code, rate)
            except ValueError as error:
                log.warning("the time code of %s is not used: %s", film.path.name, error)
        chosen = choose_sound(film.audio, parse_config(edit.config).sound.language)
        before = [sound.channels for sound in film.audio if chosen is not None and sound.index < chosen.index]
        medium = Medium(
            path=film.path,
            url=self.link(film.path),
            rate=rate,
            first=first,
            drop=drop,
            frames=max(1, round(film.duration * counted)),
            seconds=film.duration,
            size=film.display_size,
            channels=chosen.channels if chosen is not None else 0,
            first_channel=sum(before),
            sample_rate=chosen.sample_rate if chosen is not None else 0,
            reel=self.name_reel(film.path),
        )
        return medium, counted

    def add_music(self, music: Music) -> Medium:
        if fingerprint_file(check_readable(music.path, "track")) != music.fingerprint:
            raise InputError(
                f"{music.path} is not the track that the edit list was made from (its content has changed)"
            )
        return self.add_sound(music.path)

    def add_sound(self, path: Path) -> Medium:
        """A sound file, counted in the trailer's frames."""
        if path not in self._sounds:
            track = probe_track(path)
            with open_media(path, "track") as container:
                channels = int(container.streams.audio[0].codec_context.channels)
            self._sounds[path] = Medium(
                path=track.path,
                url=self.link(track.path),
                rate=self._rate,
                first=0,
                drop=False,
                frames=max(1, math.ceil(track.duration * self._rate - ROUNDED)),
                seconds=track.duration,
                size=None,
                channels=channels,
                first_channel=0,
                sample_rate=track.sample_rate or 48000,
                reel=self.name_reel(track.path),
            )
        return self._sounds[path]


def _name_rate(rate: Fraction) -> Fraction:
    """The standard rate that a container means by, say, 2997/125."""
    near = min(STANDARD_RATES, key=lambda standard: abs(standard - rate))
    return near if abs(near / rate - 1) < Fraction(1, 10**5) else rate


def read_timecode(path: Path) -> str:
    """The time code of a film's first picture, as its container says; "" where it does not."""
    with open_media(path) as container:
        for tags in (*(stream.metadata for stream in container.streams), container.metadata):
            if tags.get("timecode"):
                return tags["timecode"].strip()
    return ""


def lies_even(film: Film, spans: Iterable[Span]) -> bool:
    """Whether the pictures of these spans lie where the film's rate would have them, counted from its first.

    A container may announce one rate for pictures that are held, or left out. Where it does not say when they are shown, or
    cannot be sought, they count as even.
    """
    off: list[bool] = []
    # of a picture: cuts aim a quarter into theirs, so that less changes no number
    most = max(Fraction(1, 5), 3 * ROUNDED * film.frame_rate)
    with open_media(film.path) as container:
        video = pick_video(container)
        if video is None or video.time_base is None:
            return True
        for span in spans:
            with suppress(FFmpegError):
                container.seek(int(span.start / video.time_base), stream=video, backward=True)
                for time in _list_times(container.demux(video), span):
                    place = (Fraction(time) - Fraction(film.start)) * film.frame_rate
                    off.append(abs(place - round(place)) > most)
    return sum(off) <= UNEVEN * len(off)


def _list_times(packets: Iterable[Packet[Any]], span: Span) -> Iterator[float]:
    """When the pictures of a span are put on screen, as far as packets say so."""
    for packet in islice(packets, LOOK_PACKETS):
        if packet.time_base is None:
            continue
        if packet.dts is not None and float(packet.dts * packet.time_base) > span.end:
            break
        time = None if packet.pts is None else float(packet.pts * packet.time_base)
        if time is not None and span.start <= time < span.end:
            yield time


def find_picture(time: float, start: float, rate: Fraction) -> int:
    """The picture on screen at a time of a film of constant rate, its first being 0."""
    return max(0, math.floor((Fraction(time) - Fraction(start) + ROUNDED) * rate))
