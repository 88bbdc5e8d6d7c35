"""Draw the trailer's lettering: title cards, and what is said over the pictures."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.errors import InputError
from pipeline.records import U8, Card, Cut, EditList, Output, Placement
from pipeline.settings import ASSETS

if TYPE_CHECKING:
    from moviepy import TextClip
    from PIL.ImageFont import FreeTypeFont

FONT = ASSETS / "fonts" / "DejaVuSansCondensed-Bold.ttf"
CARD_LEAST, CARD_MOST = 720, 8192  # px, shortest and longest side at which lettering is drawn
TITLE_WIDTH, TITLE_HEIGHT, TITLE_SIZE = 0.8, 0.34, 0.16  # of the picture: room for the title, and its largest font
NOTE_HEIGHT, NOTE_SIZE, NOTE_SHARE = 0.14, 0.055, 0.45  # so too for a line under it; of the title's font at most
NOTE_GAP = 0.02  # of the height, between the two
NOTE_COLOUR = "#c8c8c8"
ROW_HEIGHT = 1.35  # of the font's size that a row takes
MORE_ROWS_GAIN = 1.15  # by which the lettering must grow for a row more
MEASURED_SIZE = 100  # px at which texts are measured
LONG_WORD = 12  # letters without a space, from which a text may break anywhere: Chinese and Japanese have none
MISSING = "\U0010fffd"  # a private character, which no font has: it is drawn as every missing one is
SUBTITLE_ZONE = 0.9  # of the height: what is said stands below, in the bottom tenth
SUBTITLE_MARGIN = 0.015  # of the height, left free at the bottom
SUBTITLE_SIZE = 0.038  # of the height: the font; two rows of it fill the zone
SUBTITLE_WIDTH, ROW_WIDTH = 0.9, 0.7  # of the width: at most, and from which one row becomes two
OUTLINE = 0.09  # of the font's size


@dataclass(frozen=True, slots=True)
class Subtitle:
    """What is said over a clip, in view over the clip's frames [start, end)."""

    text: str
    start: int
    end: int


def draw_card(card: Card, output: Output, font: Path = FONT) -> Iterator[bytes]:
    """The card's pictures as RGB bytes: the title in white on black, fading in and out. MoviePy draws the lettering."""
    image = draw_title(card.text, output.width, output.height, note=card.note, font=font).astype(np.float32)
    fade = max(1, min(card.frames // 4, round(output.frame_rate / 2)))
    for number in range(card.frames):
        # the card's last frame is not yet black: the trailer may end on it
        strength = min(1.0, (number + 1) / fade, (card.frames - number) / fade)
        yield (image * strength).astype(np.uint8).tobytes()


def find_font(named: str) -> Path:
    """The font file to letter with. named: as the settings have it; "": the bundled font. Raises InputError for no font."""
    from PIL import ImageFont

    if not named:
        return FONT
    try:
        ImageFont.truetype(named, MEASURED_SIZE)
    except (OSError, ValueError) as error:
        raise InputError(f"edit.font: {named} cannot be used as a font ({error})") from error
    return Path(named)


def find_missing(text: str, font: Path) -> str:
    """The letters of a text that a font does not have, each once."""
    from PIL import ImageFont

    drawn = ImageFont.truetype(str(font), MEASURED_SIZE)
    box = _glyph(drawn, MISSING)
    letters = dict.fromkeys(c for c in text if not c.isspace() and unicodedata.category(c)[0] not in "CM")
    return "".join(letter for letter in letters if _glyph(drawn, letter) == box)


def clear_cards(cards: Sequence[Card], font: Path) -> tuple[tuple[Card, ...], list[str]]:
    """The cards without the texts that would turn into boxes, and what to do about each."""
    cleared, warnings = [], []
    for card in cards:
        kept = []
        for text in (card.text, card.note):
            missing = find_missing(text, font)
            if missing:
                warnings.append(
                    f"“{text}” is not lettered: the font {font.name} has no {missing[:10]}; name one that has with edit.font"
                )
            kept.append("" if missing else text)
        cleared.append(replace(card, text=kept[0], note=kept[1]))
    return tuple(cleared), warnings


def _glyph(font: FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def order_letters(row: str) -> str:
    """A row of text as Pillow is to be given it so that Hebrew and Arabic stand from right to left, letters joined.

    Pillow does both itself where the machine has FriBidi; elsewhere the text is brought into the order of the eye here.
    """
    from PIL import features

    if features.check("raqm") or not any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in row):
        return row
    from arabic_reshaper import reshape
    from bidi.algorithm import get_display

    return str(get_display(reshape(row)))


def draw_title(text: str, width: int, height: int, *, note: str = "", font: Path = FONT) -> U8:
    """White lettering amid black, (height, width, 3) RGB; note: smaller and grey, under it.

    The title is as large as fits TITLE_WIDTH of the width and TITLE_HEIGHT of the height, in up to three rows.
    """
    from moviepy import CompositeVideoClip

    # drawn large and scaled down: a tiny picture has no font size of its own
    scale = max(1, -(-CARD_LEAST // min(width, height)))
    wide, tall = scale * width, scale * height
    if not (text.strip() or note.strip()) or max(wide, tall) > CARD_MOST:
        return np.zeros((height, width, 3), np.uint8)
    rows, size = _fit_rows(text, font, TITLE_WIDTH * wide, TITLE_HEIGHT * tall, most=TITLE_SIZE * tall)
    clips = [_letter(rows, font, size, "white")] if rows else []
    if note.strip():
        least = NOTE_SIZE * tall if not rows else min(NOTE_SIZE * tall, NOTE_SHARE * size)
        words, small = _fit_rows(note, font, TITLE_WIDTH * wide, NOTE_HEIGHT * tall, most=least)
        clips.append(_letter(words, font, small, NOTE_COLOUR))
    total = sum(clip.h for clip in clips) + (NOTE_GAP * tall if len(clips) > 1 else 0)
    top = (tall - total) / 2
    placed = []
    for clip in clips:
        placed.append(clip.with_position(("center", round(top))))
        top += clip.h + NOTE_GAP * tall
    canvas = CompositeVideoClip(placed, size=(wide, tall)).with_duration(1).get_frame(0)
    if scale == 1:
        return np.asarray(canvas, dtype=np.uint8)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _letter(rows: Sequence[str], font: Path, size: float, colour: str) -> TextClip:
    from moviepy import TextClip

    return TextClip(
        font=str(font),
        text="\n".join(order_letters(row) for row in rows),
        font_size=max(1, round(size)),
        color=colour,
        method="label",
        text_align="center",
        interline=max(1, round(0.2 * size)),
        margin=(round(0.1 * size), round(0.25 * size)),  # or the last row loses what hangs below it
        duration=1,
    )


def _fit_rows(text: str, font: Path, width: float, height: float, *, most: float) -> tuple[list[str], float]:
    """The text in one to three rows, and the largest size (px) at which they fit; of equal ways the one with fewer rows."""
    from PIL import ImageFont

    words = text.split()
    if not words:
        return [], 0.0
    drawn = ImageFont.truetype(str(font), MEASURED_SIZE)
    pieces = words if len(words) > 1 or len(text.strip()) < LONG_WORD else list(text.strip())  # scripts without spaces
    joint = " " if pieces is words else ""
    best: tuple[float, list[str]] = (0.0, [])
    for count in range(1, min(3, len(pieces)) + 1):
        rows = _break_evenly(pieces, joint, count, drawn)
        longest = max(drawn.getlength(row) for row in rows)
        size = min(most, MEASURED_SIZE * width / max(longest, 1e-6), height / (count * ROW_HEIGHT))
        if size > MORE_ROWS_GAIN * best[0]:
            best = size, rows
    return best[1], best[0]


def _break_evenly(pieces: Sequence[str], joint: str, count: int, font: FreeTypeFont) -> list[str]:
    """The pieces in so many rows, the longest of which is as short as can be."""
    ways = (
        [joint.join(pieces[a:b]) for a, b in pairwise((0, *places, len(pieces)))]
        for places in combinations(range(1, len(pieces)), count - 1)
    )
    return min(ways, key=lambda rows: max(font.getlength(row) for row in rows))


MOST_CHARACTERS = 200  # of a subtitle: no more can be read in two rows


def draw_subtitle(text: str, width: int, height: int, font: Path = FONT) -> U8:
    """What is said, white with a black outline in the bottom tenth, (height, width, 4) RGBA; all else transparent.

    One row, or two of like length where one is too wide; what is too wide even then is drawn smaller. Pillow draws it:
    MoviePy's clips cannot be told to break into two rows.
    """
    from PIL import Image, ImageDraw, ImageFont

    scale = max(1, -(-CARD_LEAST // min(width, height)))
    wide, tall = scale * width, scale * height
    words = " ".join(text.split())
    if len(words) > MOST_CHARACTERS:
        words = f"{words[: MOST_CHARACTERS - 1].rstrip()}…"
    if not words or max(wide, tall) > CARD_MOST:
        return np.zeros((height, width, 4), np.uint8)
    size = SUBTITLE_SIZE * tall
    rows = _break_row(words, ImageFont.truetype(font, size), ROW_WIDTH * wide)
    longest = max(ImageFont.truetype(font, size).getlength(row) for row in rows)
    drawn_with = ImageFont.truetype(font, size * min(1.0, SUBTITLE_WIDTH * wide / longest))
    image = Image.new("RGBA", (wide, tall))
    ImageDraw.Draw(image).multiline_text(
        (wide / 2, (1 - SUBTITLE_MARGIN) * tall),
        "\n".join(order_letters(row) for row in rows),
        fill="white",
        font=drawn_with,
        anchor="md",  # the middle of the last row's foot
        align="center",
        spacing=0,
        stroke_width=max(1.0, OUTLINE * drawn_with.size),
        stroke_fill="black",
    )
    drawn = np.asarray(image, np.uint8)
    return (
        drawn if scale == 1 else np.asarray(cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    )


def _break_row(text: str, font: FreeTypeFont, width: float) -> list[str]:
    """The text in one row where it is no wider (px), else in the two rows whose longer one is shortest."""
    words = text.split()
    if font.getlength(text) <= width or len(words) == 1:
        return [text]
    ways = [[" ".join(words[:n]), " ".join(words[n:])] for n in range(1, len(words))]
    return min(ways, key=lambda rows: max(font.getlength(row) for row in rows))


def count_frames(placement: Placement, output: Output) -> int:
    """Trailer frames over which a line is heard, a begun one counted."""
    return max(1, math.ceil(placement.span.duration * output.frame_rate - 1e-6))


def subtitles_over(piece: Cut | Card, edit: EditList) -> tuple[Subtitle, ...]:
    """What is said over a piece of the trailer, on the piece's own frames."""
    over = []
    for placement in edit.narration:
        start = placement.start_frame - piece.start_frame
        end = min(start + count_frames(placement, edit.output), piece.frames)
        if max(0, start) < end and placement.text.strip():
            over.append(Subtitle(" ".join(placement.text.split()), max(0, start), end))
    return tuple(over)


def write_srt(edit: EditList) -> str:
    """The trailer's lines as the text of an SRT file, on the trailer's clock."""
    blocks: list[str] = []
    for placement in sorted(edit.narration, key=lambda placement: placement.start_frame):
        end = min(edit.output.frames, placement.start_frame + count_frames(placement, edit.output))
        text = " ".join(placement.text.split()).replace("-->", "→")  # an arrow would be read as a time
        if text and 0 <= placement.start_frame < end:
            start_text, end_text = (_srt_time(float(f / edit.output.frame_rate)) for f in (placement.start_frame, end))
            blocks.append(f"{len(blocks) + 1}\n{start_text} --> {end_text}\n{text}\n")
    return "\n".join(blocks)


def _srt_time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"
