"""Watch a finished trailer once, and measure its pictures: black, frozen, repeated, or not those of the film."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.blends import find_runs
from pipeline.cards import SUBTITLE_ZONE
from pipeline.clips import RENDER_VERSION, describe_shown
from pipeline.colours import choose_colours
from pipeline.decode import Picture, TrailerStreams, watch_trailer
from pipeline.likeness import SAME_VIEW, copy_pictures, measure_differences
from pipeline.pictures import show_pictures
from pipeline.quality_mix import Heard
from pipeline.records import F32, U8, Bool, Check, Cut, EditList, Film
from pipeline.workdir import finish_file, partial_path

THUMBNAIL_WIDTH = 320
COMPARED_SIDE = 36  # px of the shorter side; grain and what an encoder changes average out, a shot stays itself
BLACK_LUMA, BLACK_DEVIATION = 18.0, 2.5  # 0..255; night is as dark, and shows something
# mean luma difference to the first picture of a stretch that stands still: an encoder refines a still by 0.8, and its key
# frames jump; what moves at all, or zooms slowly, is past it within 2.5 s
STILL = 1.0
# With the film at hand a picture is black, or stands still, only where the film's own is not and does not
NOT_BLACK = 4.0  # mean difference of the film's picture to the trailer's black one
MOVES = 1.0  # mean difference that adds up over LONGEST_FROZEN in film that moves
GRAIN = 3.0  # most that it changes from picture to picture without adding up: grain, which an encoder may take away
STUCK = 0.2  # of what the film moves: a trailer that stands still makes less, while its encoder refines the picture
LONGEST_BLACK, LONGEST_FROZEN = 0.25, 0.5  # s; a flash of black is seen, a stutter of half a second is felt
# Without it: trailers rest on black between two parts, but not amid a shot, and on the rating's still board for 5 s
LONGEST_BLACK_ALONE, LONGEST_FROZEN_ALONE = 2.0, 6.0  # s
# Mean difference of colour of a trailer's picture to the film's, 0..255. What encoding costs differs from film to film: 1.1
# to 1.5 at crf 18, 3.5 at crf 40, and never more than 2.3 times that of the median picture; the next shot lies at 27 and
# more, in the dark at a few. So the limit follows the median, and stays far under what a wrong film would make of it.
OFTEN, OVER, FOREIGN_DIFFERENCE = 2.5, 2.0, 12.0


# The shots are chosen by SAME_VIEW from one picture each; what lies well under it was overlooked. Found in trailers that
# repeat a camera: 0.6 to 3.8, and 7 and more where they do not. Two pictures that are merely dark have no edges in common,
# and lie above 5.
REPEATED = 0.6 * SAME_VIEW


@dataclass(slots=True)
class Seen:
    """What one decode of the trailer saw, by picture.

    luma: mean and deviation; still: whether it repeats the first of a stretch; colours: sets of tags met. With an edit list:
    thumbnails, copies: of the middle pictures, as JPEG (k,) and for likeness.py; small: every picture, BGR, compared_size().
    Without: holes: [first, last) of the black stretches that have the same view before and after them.
    """

    streams: TrailerStreams
    heard: Heard
    times: list[float] = field(default_factory=list)
    luma: list[tuple[float, float]] = field(default_factory=list)
    still: list[bool] = field(default_factory=list)
    colours: set[tuple[int, int, int, int]] = field(default_factory=set)
    thumbnails: dict[int, U8] = field(default_factory=dict)
    copies: dict[int, F32] = field(default_factory=dict)
    small: list[U8] = field(default_factory=list)
    holes: list[tuple[int, int]] = field(default_factory=list)

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
    first: U8 | None = None  # of the stretch
    lit: Picture | None = None  # the last picture that was not black, and its number
    lit_at = 0
    for number, picture in enumerate(pictures):
        gray = np.asarray(cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        mean, deviation = cv2.meanStdDev(gray)
        seen.times.append(picture.time)
        seen.luma.append((float(mean[0, 0]), float(deviation[0, 0])))
        seen.still.append(first is not None and cv2.norm(gray, first, cv2.NORM_L1) < STILL * gray.size)
        seen.colours.add(picture.colour)
        first = first if seen.still[-1] else gray
        if number in middles:
            jpeg = cv2.imencode(".jpg", picture.bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
            seen.thumbnails[number] = np.asarray(jpeg, np.uint8).reshape(-1)
            seen.copies[number] = copy_pictures([picture.bgr])[0]
        if edit is None and not is_black(*seen.luma[-1]):
            if lit is not None and number > lit_at + 1 and show_one_view(lit.bgr, picture.bgr):
                seen.holes.append((lit_at + 1, number))
            lit, lit_at = picture, number
        if edit is not None:
            seen.small.append(_shrink(picture.bgr, compared_size(edit)))
        if expected and number % 48 == 0:
            progress(min(1.0, number / expected))
    return seen


def is_black(mean: float, deviation: float) -> bool:
    """Whether a picture of this luma shows nothing."""
    return mean < BLACK_LUMA and deviation < BLACK_DEVIATION


def show_one_view(one: U8, other: U8) -> bool:
    """Whether two pictures, BGR (h, w, 3), are of the same camera on the same thing."""
    return bool(measure_differences(copy_pictures([one]), copy_pictures([other]))[0, 0] < SAME_VIEW)


def _shrink(picture: U8, size: tuple[int, int]) -> U8:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True)
class Compared:
    """The trailer's pictures beside those that the film has for them.

    difference (frames,): mean difference of colour; NaN on cards and past the file's end. stuck (frames,): True where the
    trailer stands still and the film does not.
    """

    difference: F32
    stuck: Bool


def compare_with_film(
    seen: Seen, edit: EditList, film: Film, *, burned: bool, memory: Path | None, progress: Callable[[float], None]
) -> Compared:
    """Every picture of every cut beside the one that the edit list asks for (pictures.show_pictures).

    All of them: the film has to be decoded through each cut for its last picture, and looking at a small one costs little
    beside that. burned: what is said stands in the picture, and its zone is not compared. memory: folder in which the film's
    small pictures are kept for the next time: a trailer that was changed in one place has most of them. Raises InputError
    where the film cannot be decoded.
    """
    height = compared_size(edit)[1]
    rows = slice(0, int(SUBTITLE_ZONE * height) - 1 if burned else height)
    count = edit.output.frames
    difference, stuck = np.full(count, np.nan, np.float32), np.zeros(count, bool)
    reach = int(LONGEST_FROZEN * edit.output.frame_rate) + 1
    for number, cut in enumerate(edit.cuts):
        there = range(min(cut.frames, len(seen.small) - cut.start_frame))
        if not there:  # the file ends before this cut
            continue
        wanted = recall_pictures(film, cut, edit, there, memory).astype(np.int16)
        got = np.array(seen.small[cut.start_frame : cut.start_frame + len(wanted)], np.int16)
        part = slice(cut.start_frame, cut.start_frame + len(wanted))
        difference[part] = [np.abs(one - other)[rows].mean() for one, other in zip(got, wanted, strict=True)]
        stuck[part] = _find_stuck(got[:, rows], wanted[:, rows], reach)
        progress((number + 1) / len(edit.cuts))
    return Compared(difference, stuck)


def recall_pictures(film: Film, cut: Cut, edit: EditList, frames: range, memory: Path | None) -> U8:
    """(n, h, w, 3) BGR of compared_size(): what the film has for the cut's first frames; from the memory if it is there."""
    size = compared_size(edit)
    output = edit.output
    look = [size, output.width, output.height, str(output.frame_rate), repr(choose_colours(film))]
    text = json.dumps([RENDER_VERSION, len(frames), describe_shown(cut, edit, film), look])
    path = memory / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy" if memory is not None else None
    if path is not None and path.exists():
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # damaged: made again
            stored = np.zeros(0, np.uint8)
        if stored.shape == (len(frames), size[1], size[0], 3) and stored.dtype == np.uint8:
            return np.asarray(stored, np.uint8)
    shown = show_pictures(film, cut, edit, frames, height=3 * size[1])
    wanted = np.array([_shrink(picture[..., ::-1], size) for picture in shown], np.uint8)
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        partial = partial_path(path)
        with partial.open("wb") as file:
            np.save(file, wanted)
        finish_file(partial, path)
    return wanted


def _find_stuck(got: NDArray[np.int16], wanted: NDArray[np.int16], reach: int) -> Bool:
    """(n,) True where n pictures of the trailer (n, h, w, 3) stand still over `reach` and more, and those wanted do not."""
    stuck = np.zeros(len(wanted), bool)
    steps = np.array([np.abs(b - a).mean() for a, b in pairwise(wanted)])
    for frame in range(reach, len(wanted)):
        grain = min(GRAIN, float(np.median(steps[frame - reach : frame])))
        moved = np.abs(wanted[frame] - wanted[frame - reach]).mean() - grain
        if moved >= MOVES and np.abs(got[frame] - got[frame - reach]).mean() < STUCK * moved:
            stuck[frame - reach : frame + 1] = True
    return stuck


def compared_size(edit: EditList) -> tuple[int, int]:
    """Width and height at which pictures are compared: COMPARED_SIDE px along the shorter side."""
    output = edit.output
    scale = min(1.0, COMPARED_SIDE / min(output.width, output.height))
    return max(2, round(output.width * scale / 2) * 2), max(2, round(output.height * scale / 2) * 2)


def check_pictures(seen: Seen, edit: EditList | None, compared: Compared | None) -> list[Check]:
    """Black and frozen stretches outside the cards, in seconds by the pictures' own times."""
    dark: Bool = np.array([is_black(mean, deviation) for mean, deviation in seen.luma])
    black, still = dark.copy(), np.array(seen.still) & ~dark
    longest_black, longest_frozen = LONGEST_BLACK_ALONE, LONGEST_FROZEN_ALONE
    if compared is not None:
        longest_black, longest_frozen = LONGEST_BLACK, LONGEST_FROZEN
        known = min(len(dark), len(compared.difference))
        black[:known] &= ~(compared.difference[:known] < NOT_BLACK)
        still[:known], still[known:] = compared.stuck[:known] & ~dark[:known], False
    for card in edit.cards if edit is not None else ():
        black[card.start_frame : card.start_frame + card.frames] = False
        still[card.start_frame : card.start_frame + card.frames] = False
    ends = np.append(seen.times[1:], seen.end)
    blacks = [(ends[end - 1] - seen.times[start], longest_black) for start, end in find_runs(black)]
    blacks += [(ends[end - 1] - seen.times[start], LONGEST_BLACK) for start, end in seen.holes]
    # a run of repeats, and the picture that they repeat, which `stuck` counts already
    before = 0 if compared is not None else 1
    frozen = [(ends[end - 1] - seen.times[start - before], longest_frozen) for start, end in find_runs(still)]
    # one picture that is held: in a file of variable rate, or with a hole in it
    frozen += [] if edit is not None else [(float(np.max(ends - seen.times)), longest_frozen)]
    return [
        _check_longest("longest_black_seconds", blacks, longest_black),
        _check_longest("longest_frozen_seconds", frozen, longest_frozen),
    ]


def _check_longest(name: str, stretches: Sequence[tuple[float, float]], usual: float) -> Check:
    """The stretch that goes furthest over its limit, both in s; usual: the limit where there is none."""
    longest, most = max(stretches, key=lambda stretch: stretch[0] / stretch[1], default=(0.0, usual))
    return Check(name, bool(longest <= most + 1e-6), round(float(longest), 3), f"<= {most}")


def check_difference(compared: Compared) -> Check:
    """The frame that is least like the film's picture there: one of a neighbouring shot stands out."""
    known = compared.difference[~np.isnan(compared.difference)]
    worst = float(known.max(initial=0.0))
    most = min(FOREIGN_DIFFERENCE, OVER + OFTEN * float(np.median(known))) if len(known) else FOREIGN_DIFFERENCE
    return Check("picture_difference", worst <= most, round(worst, 2), f"<= {most:.1f}")


def check_repeats(seen: Seen, edit: EditList, most: int, *, judged: bool) -> Check:
    """Pairs of cuts whose middle pictures are one picture's, as near as can be told; not where the user pinned both.

    judged: the user does not allow the trailer to show a picture again (guards.twins).
    """
    shown = [
        (seen.copies[middle], cut) for cut in edit.cuts if (middle := cut.start_frame + cut.frames // 2) in seen.copies
    ]
    copies = np.array([copy for copy, _ in shown], np.float32).reshape(len(shown), -1)
    alike = np.triu(measure_differences(copies, copies) < REPEATED, 1) if len(shown) else np.zeros((0, 0), bool)
    pairs = [(a, b) for a, b in np.argwhere(alike) if not (shown[a][1].pinned and shown[b][1].pinned)]
    limit = f"<= {most}" if judged else "any: guards.twins is off"
    return Check("repeated_pictures", not judged or len(pairs) <= most, float(len(pairs)), limit)
