"""Draw the trailer's lettering: title cards, and what is said over the pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.records import U8, Card, Cut, EditList, Output, Placement
from pipeline.settings import ASSETS

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONT = ASSETS / "fonts" / "DejaVuSansCondensed-Bold.ttf"
CARD_LEAST, CARD_MOST = 720, 8192  # px, shortest and longest side at which lettering is drawn
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


def draw_card(card: Card, output: Output) -> Iterator[bytes]:
    """The card's pictures as RGB bytes: the title in white on black, fading in and out. MoviePy draws the lettering."""
    image = draw_title(card.text, output.width, output.height).astype(np.float32)
    fade = max(1, min(card.frames // 4, round(output.frame_rate / 2)))
    for number in range(card.frames):
        # the card's last frame is not yet black: the trailer ends on it
        strength = min(1.0, (number + 1) / fade, (card.frames - number) / fade)
        yield (image * strength).astype(np.uint8).tobytes()


def draw_title(text: str, width: int, height: int) -> U8:
    """White lettering amid black, (height, width, 3) RGB, as large as fits 80 % of the width and 30 % of the height."""
    from moviepy import CompositeVideoClip, TextClip

    # drawn large and scaled down: a tiny picture has no font size of its own
    scale = max(1, -(-CARD_LEAST // min(width, height)))
    canvas_width, canvas_height = scale * width, scale * height
    if not text.strip() or max(canvas_width, canvas_height) > CARD_MOST:
        return np.zeros((height, width, 3), np.uint8)
    clip = TextClip(
        font=str(FONT),
        text=text,
        color="white",
        size=(round(canvas_width * 0.8), round(canvas_height * 0.3)),
        margin=(0, round(canvas_height * 0.15)),  # or the last line loses what hangs below it
        method="caption",
        text_align="center",
        horizontal_align="center",
        vertical_align="center",
        duration=1,
    ).with_position("center")
    canvas = CompositeVideoClip([clip], size=(canvas_width, canvas_height)).with_duration(1).get_frame(0)
    if scale == 1:
        return np.asarray(canvas, dtype=np.uint8)
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


MOST_CHARACTERS = 200  # of a subtitle: no more can be read in two rows


def draw_subtitle(text: str, width: int, height: int) -> U8:
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
    rows = _break_row(words, ImageFont.truetype(FONT, size), ROW_WIDTH * wide)
    longest = max(ImageFont.truetype(FONT, size).getlength(row) for row in rows)
    font = ImageFont.truetype(FONT, size * min(1.0, SUBTITLE_WIDTH * wide / longest))
    image = Image.new("RGBA", (wide, tall))
    ImageDraw.Draw(image).multiline_text(
        (wide / 2, (1 - SUBTITLE_MARGIN) * tall),
        "\n".join(rows),
        fill="white",
        font=font,
        anchor="md",  # the middle of the last row's foot
        align="center",
        spacing=0,
        stroke_width=max(1.0, OUTLINE * font.size),
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
