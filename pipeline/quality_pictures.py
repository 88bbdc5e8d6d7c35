"""Watch a finished trailer once, and measure its pictures: black, frozen, repeated, or not those of the film."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from pipeline.blends import find_runs
from pipeline.cards import SUBTITLE_ZONE
from pipeline.decode import TrailerStreams, read_pictures, watch_trailer
from pipeline.likeness import SAME_VIEW, copy_pictures, measure_differences
from pipeline.quality_mix import Heard
from pipeline.records import F32, U8, Bool, Check, Cut, EditList, Film

THUMBNAIL_WIDTH = 320
GRAY_SIZE = (96, 54)  # px; pictures are compared at this size
BLACK_LUMA, BLACK_DEVIATION = 18.0, 6.0
SAME_PICTURE = 0.02  # mean luma change below which a picture repeats the last
# With the film at hand a picture is black, or stands still, only where the film's own is not and does not.
NOT_BLACK = 4.0  # mean luma by which the film's picture differs from the trailer's black one
MOVES = 0.1  # mean luma change a picture of a film that moves; the trailer's stands still below a fifth of it
LONGEST_BLACK, LONGEST_FROZEN = 0.25, 0.5  # s; a flash of black is seen, a stutter of half a second is felt
# Without it, all that can be said: trailers rest on black between two parts, and on the rating's still board for 5 s
LONGEST_BLACK_ALONE, LONGEST_FROZEN_ALONE = 2.0, 6.0  # s
FOREIGN_DIFFERENCE = 12.0  # mean luma difference of a trailer frame to its film picture; encoding costs about 2


@dataclass(slots=True)
class Seen:
    """What one decode of the trailer saw, by picture.

    luma: mean and deviation; change: mean luma change to the last one; colours: sets of tags met. thumbnails, copies: of
    the pictures asked for, as JPEG (k,) and small for likeness.py; grays: every picture at GRAY_SIZE, where asked for.
    """

    streams: TrailerStreams
    heard: Heard
    times: list[float] = field(default_factory=list)
    luma: list[tuple[float, float]] = field(default_factory=list)
    change: list[float] = field(default_factory=list)
    colours: set[tuple[int, int, int, int]] = field(default_factory=set)
    thumbnails: dict[int, U8] = field(default_factory=dict)
    copies: dict[int, F32] = field(default_factory=dict)
    grays: list[U8] = field(default_factory=list)

    @property
    def start(self) -> float | None:
        """Seconds at which the first picture is shown; None where there is none."""
        return self.times[0] if self.times else None

    @property
    def end(self) -> float:
        """Seconds at which the last picture ends; 0 where there is none."""
        return self.times[-1] + float(1 / self.streams.frame_rate) if self.times else 0.0


def watch(path: Path, edit: EditList | None, heard: Heard, progress: Callable[[float], None]) -> Seen:
    """Decode the whole file, pictures and sound; what is heard goes to `heard`."""
    middles = {piece.start_frame + piece.frames // 2 for piece in edit.pieces} if edit is not None else set()
    expected = edit.output.frames if edit is not None else 0
    streams, pictures = watch_trailer(path, THUMBNAIL_WIDTH, hear=heard.add)
    expected = expected or round(streams.seconds * float(streams.frame_rate))
    seen = Seen(streams, heard)
    last: U8 | None = None
    for number, picture in enumerate(pictures):
        gray = np.asarray(cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        mean, deviation = cv2.meanStdDev(gray)
        seen.times.append(picture.time)
        seen.luma.append((float(mean[0, 0]), float(deviation[0, 0])))
        seen.change.append(np.inf if last is None else cv2.norm(gray, last, cv2.NORM_L1) / gray.size)
        seen.colours.add(picture.colour)
        last = gray
        if number in middles:
            jpeg = cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
            seen.thumbnails[number] = np.asarray(jpeg, np.uint8).reshape(-1)
            seen.copies[number] = copy_pictures([picture.bgr])[0]
        if edit is not None:
            seen.grays.append(_shrink(gray))
        if expected and number % 48 == 0:
            progress(min(1.0, number / expected))
    return seen


def _shrink(gray: U8) -> U8:
    return np.asarray(cv2.resize(gray, GRAY_SIZE, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True)
class Compared:
    """The trailer's pictures beside those that the film has for them, (frames,): mean luma difference, and the mean luma
    change of the film's to the one before. NaN where there is none: on cards, and past the file's end."""

    difference: F32
    film_change: F32


def compare_with_film(
    seen: Seen, edit: EditList, film: Film, *, burned: bool, progress: Callable[[float], None]
) -> Compared:
    """Every picture of every cut beside the film's picture that should be there.

    burned: what is said stands in the picture, and its zone is not compared.
    """
    rows = slice(0, int(SUBTITLE_ZONE * GRAY_SIZE[1]) - 1 if burned else GRAY_SIZE[1])
    count = edit.output.frames
    difference, film_change = np.full(count, np.nan, np.float32), np.full(count, np.nan, np.float32)
    for number, cut in enumerate(edit.cuts):
        last: F32 | None = None
        for frame, expected in enumerate(_film_pictures(film, cut, edit.output.frame_rate), cut.start_frame):
            if frame >= len(seen.grays):
                break
            difference[frame] = np.abs(seen.grays[frame] - expected)[rows].mean()
            if last is not None:
                film_change[frame] = np.abs(expected - last).mean()
            last = expected
        progress((number + 1) / len(edit.cuts))
    return Compared(difference, film_change)


def _film_pictures(film: Film, cut: Cut, rate: Fraction) -> Iterator[F32]:
    times = [cut.source.start + float(k / rate) for k in range(cut.frames)]
    for frame in read_pictures(film, times):
        rgb = frame.to_ndarray(
            format="rgb24", width=min(frame.width, THUMBNAIL_WIDTH * 2), height=min(frame.height, THUMBNAIL_WIDTH * 2)
        )
        turned = np.rot90(rgb, film.rotation // 90)
        gray = cv2.cvtColor(np.ascontiguousarray(turned), cv2.COLOR_RGB2GRAY)
        yield np.asarray(cv2.resize(gray, GRAY_SIZE, interpolation=cv2.INTER_AREA), np.float32)


def check_pictures(seen: Seen, edit: EditList | None, compared: Compared | None) -> list[Check]:
    """Black and frozen stretches outside the cards, in seconds by the pictures' own times."""
    count = len(seen.times)
    luma, change = np.array(seen.luma), np.array(seen.change)
    black: Bool = (luma[:, 0] < BLACK_LUMA) & (luma[:, 1] < BLACK_DEVIATION)
    still: Bool = change < SAME_PICTURE
    for card in edit.cards if edit is not None else ():
        black[card.start_frame : card.start_frame + card.frames] = False
        still[card.start_frame : card.start_frame + card.frames] = False
    longest_black, longest_frozen = LONGEST_BLACK_ALONE, LONGEST_FROZEN_ALONE
    if compared is not None:
        longest_black, longest_frozen = LONGEST_BLACK, LONGEST_FROZEN
        known = min(count, len(compared.difference))
        black[:known] &= ~(compared.difference[:known] < NOT_BLACK)
        for start, end in find_runs(still):
            moved = compared.film_change[start : min(end, known)]
            still[start:end] = bool(len(moved)) and bool(np.nan_to_num(moved).mean() >= MOVES)
    ends = np.append(seen.times[1:], seen.end)
    blacks = [ends[end - 1] - seen.times[start] for start, end in find_runs(black)]
    # a run of repeats, and the picture that they repeat
    frozen = [ends[end - 1] - seen.times[start - 1] for start, end in find_runs(still)]
    # one picture that is held: in a file of variable rate, or with a hole in it
    frozen += [] if edit is not None else [float(np.max(ends - seen.times))]
    return [
        _check_longest("longest_black_seconds", blacks, longest_black),
        _check_longest("longest_frozen_seconds", frozen, longest_frozen),
    ]


def _check_longest(name: str, stretches: Sequence[float], most: float) -> Check:
    longest = max(stretches, default=0.0)
    return Check(name, longest <= most + 1e-6, round(longest, 3), f"<= {most}")


def check_difference(compared: Compared) -> Check:
    """The frame that is least like the film's picture there: one of a neighbouring shot stands out."""
    worst = float(np.nanmax(compared.difference, initial=0.0))
    return Check("picture_difference", worst <= FOREIGN_DIFFERENCE, round(worst, 2), f"<= {FOREIGN_DIFFERENCE}")


def check_repeats(seen: Seen, edit: EditList, most: int) -> Check:
    """Pairs of cuts whose middle pictures show the same view; not where the user pinned both."""
    shown = [
        (seen.copies[middle], cut) for cut in edit.cuts if (middle := cut.start_frame + cut.frames // 2) in seen.copies
    ]
    copies = np.array([copy for copy, _ in shown], np.float32).reshape(len(shown), -1)
    alike = np.triu(measure_differences(copies, copies) < SAME_VIEW, 1) if len(shown) else np.zeros((0, 0), bool)
    pairs = [(a, b) for a, b in np.argwhere(alike) if not (shown[a][1].pinned and shown[b][1].pinned)]
    return Check("repeated_pictures", len(pairs) <= most, float(len(pairs)), f"<= {most}")
