"""Tell lettering from pictures: rows of letter-like marks, and words drawn as one white shape."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.records import I64, U8

LETTERS = 12  # glyphs in rows on a 320 px picture that count as a title
LARGE_LETTER, TITLE_LETTERS = 0.039, 5  # of the height; as many large letters in a row are a title
GLYPH_WIDTH = 320  # px of the pictures in which letters are looked for
GLYPH_CONTRAST = 45  # luma steps between lettering and its ground
SUBTITLE_ZONE = 0.75  # of the height; lettering below it is a burned-in subtitle and no title
MOST_GLYPHS = 600  # a picture with more specks than that is texture; the largest are looked at
LOGO_WIDTH, LOGO_HEIGHT = (0.08, 0.9), (0.05, 0.35)  # of the picture: a word whose letters touch
LOGO_FILL = (0.3, 0.85)  # of its box
LOGO_STROKES = 4  # that a row crosses
LOGO_VALUE, LOGO_SATURATION = 215, 40  # of 255: white

CARD_SIZE, CARD_BORDER = (96, 54), 6  # px of the copy, and of the border that gives a card's ground
CARD_EVEN = 12  # steps of any channel that the ground may be uneven by
CARD_PLAIN = (0.97, 0.7)  # of the border, and of the picture: so much is ground
CARD_MARKED = 0.0005  # of the picture: so much stands out from it


def _scale(bgr: U8) -> U8:
    size = (GLYPH_WIDTH, max(2, round(bgr.shape[0] * GLYPH_WIDTH / bgr.shape[1])))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)


def find_logo(bgr: U8) -> bool:
    """Whether a word of white letters that touch one another, as logos have them, stands on a picture (h, w, 3).

    One white shape of a word's size in whose box every other row crosses LOGO_STROKES strokes. Bright foliage and windows
    look like it now and then: for the opening, where little is lost.
    """
    hsv = cv2.cvtColor(_scale(bgr), cv2.COLOR_BGR2HSV)
    tall, wide = hsv.shape[:2]
    white = ((hsv[:, :, 2] >= LOGO_VALUE) & (hsv[:, :, 1] <= LOGO_SATURATION)).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(white, connectivity=8)
    for label, (left, top, width, height, area) in enumerate(boxes.tolist()):
        if not label or not LOGO_WIDTH[0] <= width / wide <= LOGO_WIDTH[1]:
            continue
        if (
            not LOGO_HEIGHT[0] <= height / tall <= LOGO_HEIGHT[1]
            or not LOGO_FILL[0] <= area / (width * height) <= LOGO_FILL[1]
        ):
            continue
        shape = labels[top : top + height, left : left + width] == label
        rows = shape[[int(height * share) for share in (0.2, 0.35, 0.5, 0.65, 0.8)]].astype(np.int8)
        strokes = (np.diff(np.pad(rows, ((0, 0), (1, 1))), axis=1) == 1).sum(axis=1)
        if np.median(strokes) >= LOGO_STROKES:
            return True
    return False


def is_card(bgr: U8) -> bool:
    """Whether a picture (h, w, 3) is a plain ground of one colour with something on it that does not reach the border.

    So look cards of credits, titles and logos; a sky or a wall seldom is as even. A picture that shows nothing is none.
    """
    small = cv2.resize(bgr, CARD_SIZE, interpolation=cv2.INTER_AREA)
    width = CARD_BORDER
    border = [small[:width], small[-width:], small[width:-width, :width], small[width:-width, -width:]]
    ground = np.median(np.concatenate([part.reshape(-1, 3) for part in border]), axis=0)
    far = np.abs(small - ground.astype(np.int16)).max(axis=2)
    near = far <= CARD_EVEN
    inside = near[width:-width, width:-width]
    beside = 1 - (near.sum() - inside.sum()) / (near.size - inside.size)
    marked = (far > GLYPH_CONTRAST).mean() >= CARD_MARKED
    return bool(marked and beside <= 1 - CARD_PLAIN[0] and near.mean() >= CARD_PLAIN[1])


def count_glyphs(bgr: U8) -> int:
    """How many letter-like marks stand in rows of four and more on a picture (h, w, 3).

    Thin bright or dark marks (white and black top-hat) of like height on a common base line, close to one another.
    Separates credits (25 to 100 on Big Buck Bunny) from pictures (mostly 0, foliage up to 20). A title of few, large,
    widely set letters counts as LETTERS: five in a row, which pictures showed once in 150.
    """
    gray = cv2.cvtColor(_scale(bgr), cv2.COLOR_BGR2GRAY)
    tall = gray.shape[0]
    best = 0
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        for size in (7, 15):
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
            hat = cv2.morphologyEx(gray, operation, kernel)
            mask = cv2.threshold(hat, GLYPH_CONTRAST, 255, cv2.THRESH_BINARY)[1]
            boxes = np.asarray(cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:], dtype=np.int64)
            boxes = _letter_like(boxes, tall)
            best = max(best, sum(row for row in _find_rows(boxes, reach=1.2, alike=0.35) if row >= 4))
            large = boxes[boxes[:, 3] >= LARGE_LETTER * tall]
            if max(_find_rows(large, reach=2.5, alike=0.2), default=0) >= TITLE_LETTERS:
                best = max(best, LETTERS)
    return best


def _letter_like(boxes: I64, picture_height: int) -> I64:
    """Of the boxes (n, 5) x, y, width, height, area, those that a letter may fill, from left to right."""
    boxes = boxes[boxes[:, 1] < SUBTITLE_ZONE * picture_height]
    width, height, area = boxes[:, 2], boxes[:, 3], boxes[:, 4]
    boxes = boxes[(height >= 3) & (height <= 0.16 * picture_height) & (width <= 6 * height) & (area >= 4)]
    if len(boxes) > MOST_GLYPHS:
        boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")[:MOST_GLYPHS]]
    return boxes[np.argsort(boxes[:, 0], kind="stable")]


def _find_rows(boxes: I64, *, reach: float, alike: float) -> list[int]:
    """Lengths of the rows: boxes on one base line, the next within `reach` heights, heights within the share `alike`.

    boxes come from left to right; each goes on to the leftmost that fits and belongs to no row yet.
    """
    left, right, base, height = boxes[:, 0], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3], boxes[:, 3]
    gap = left[None, :] - right[:, None]
    tall = height[:, None]
    near = (gap >= -1) & (gap <= reach * tall + 1)
    near &= np.abs(base[None, :] - base[:, None]) <= np.maximum(1.0, 0.15 * tall)
    near &= np.abs(height[None, :] - tall) <= np.maximum(1.0, alike * tall)
    following: list[list[int]] = [[] for _ in boxes]
    for one, other in np.argwhere(np.triu(near, 1)).tolist():
        following[one].append(other)
    used = [False] * len(boxes)
    rows = []
    for start in range(len(boxes)):
        if used[start]:
            continue
        length, current = 1, start
        while (after := next((n for n in following[current] if not used[n]), None)) is not None:
            current = after
            used[current] = True
            length += 1
        rows.append(length)
    return rows
