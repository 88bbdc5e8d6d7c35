"""Count frames as time codes, hh:mm:ss:ff, and back. Drop-frame where a rate of 29.97 or 59.94 is to follow the clock."""

from __future__ import annotations

import re
from fractions import Fraction

PATTERN = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)([:;.])(\d\d)")
DROPPING = (Fraction(30000, 1001), Fraction(60000, 1001))  # rates that have a drop-frame count


def nominal_rate(rate: Fraction) -> int:
    """Frames that a time code counts to a second: 24 at 23.976."""
    return max(1, round(rate))


def can_drop(rate: Fraction) -> bool:
    """Whether drop-frame is a way to count at this rate."""
    return any(abs(rate / dropping - 1) < Fraction(1, 10**5) for dropping in DROPPING)


def format_timecode(frame: int, rate: Fraction, *, drop: bool = False) -> str:
    """Frame number -> time code; it starts again after 24 hours. drop: with `;` before the frames."""
    count = nominal_rate(rate)
    if drop:
        frame += _count_skipped(frame, count)
    seconds, frames = divmod(frame, count)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{';' if drop else ':'}{frames:02d}"


def _count_skipped(frame: int, count: int) -> int:
    """Numbers left out before this frame: the first of each minute (2 of 30, 4 of 60), but not of each tenth one."""
    skip = count // 15
    short, long = 60 * count - skip, 600 * count - 9 * skip
    tens, rest = divmod(frame, long)
    return 9 * skip * tens + skip * max(0, (rest - skip) // short)


def parse_timecode(text: str, rate: Fraction) -> tuple[int, bool]:
    """Time code -> frame number, and whether it is drop-frame (`;` or `.` before the frames). Raises ValueError."""
    found = PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time code hh:mm:ss:ff")
    hours, minutes, seconds, frames = (int(found[group]) for group in (1, 2, 3, 5))
    count, drop = nominal_rate(rate), found[4] != ":"
    if hours > 23 or frames >= count:
        raise ValueError(f"{text} is no time code of 24 hours and {count} frames a second")
    if drop and not can_drop(rate):
        raise ValueError(f"{text} counts drop-frame, which there is at 29.97 and 59.94 frames a second only")
    total = 60 * hours + minutes
    number = (60 * total + seconds) * count + frames
    if drop:
        skip = count // 15
        if minutes % 10 and seconds == 0 and frames < skip:
            raise ValueError(f"{text} is a number that drop-frame leaves out")
        number -= skip * (total - total // 10)
    return number, drop
