"""What stands on a card, by its pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline import cards
from pipeline.cards import FONT, clear_cards, draw_card, draw_title, find_font, find_missing, order_letters
from pipeline.errors import InputError
from pipeline.records import U8, Card, Output


def rows_lit(picture: U8) -> list[tuple[int, int]]:
    """[first, last) of each band of rows in which something is drawn."""
    lit = np.concatenate([[False], picture.max(axis=(1, 2)) > 60, [False]])
    edges = np.flatnonzero(np.diff(lit.astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@pytest.mark.parametrize(("width", "height"), [(640, 360), (202, 360), (1920, 1080), (64, 36), (360, 360)])
def test_a_title_is_large_centred_and_whole(width: int, height: int) -> None:
    drawn = draw_title("THE LANTERN", width, height)
    assert drawn.shape == (height, width, 3)
    rows, columns = np.flatnonzero(drawn.max(axis=(1, 2)) > 60), np.flatnonzero(drawn.max(axis=(0, 2)) > 60)
    assert 0.35 * width < columns[-1] - columns[0] <= 0.82 * width
    assert abs((rows[0] + rows[-1]) / 2 - height / 2) < 0.08 * height
    assert abs((columns[0] + columns[-1]) / 2 - width / 2) < 0.03 * width


def test_a_long_title_takes_up_to_three_rows_and_a_note_stands_smaller_beneath() -> None:
    long = rows_lit(draw_title("A VERY LONG TITLE OF A FILM THAT GOES ON AND ON AND ON AND ON AGAIN", 640, 360))
    assert 2 <= len(long) <= 3
    title, note = rows_lit(draw_title("THE FILM", 640, 360, note="HERE IT IS"))
    assert note[0] > title[1]
    assert note[1] - note[0] < 0.6 * (title[1] - title[0])


def test_a_text_without_spaces_is_broken_too() -> None:
    assert len(rows_lit(draw_title("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH", 200, 360))) == 3


def test_a_card_comes_and_goes() -> None:
    output = Output(64, 36, Fraction(24), 48, -14.0)
    light = [np.frombuffer(picture, np.uint8).max() for picture in draw_card(Card("X", 0, 48), output)]
    assert len(light) == 48
    assert light[0] < light[5] < light[11] == light[36] > light[42] > light[47] > 0


def letters_drawn(picture: U8) -> list[U8]:
    """What is drawn, column run by column run, from left to right."""
    lit = np.concatenate([[False], picture.max(axis=(0, 2)) > 60, [False]])
    edges = np.flatnonzero(np.diff(lit.astype(np.int8))).reshape(-1, 2)
    return [picture[:, a:b] for a, b in edges]


def test_hebrew_stands_from_right_to_left() -> None:
    whole = letters_drawn(draw_title("שלום", 640, 360))
    (first,), (last,) = (letters_drawn(draw_title(letter, 640, 360)) for letter in "שם")
    assert len(whole) == 4
    assert abs(whole[-1].shape[1] - first.shape[1]) <= 1 < abs(first.shape[1] - last.shape[1])
    assert abs(whole[0].shape[1] - last.shape[1]) <= 1


def test_where_pillow_does_not_order_letters_they_are_ordered_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import features

    if features.check("raqm"):  # Pillow orders them itself: what was ordered before would be turned again
        assert order_letters("שלום") == "שלום"
    monkeypatch.setattr(features, "check", lambda name: False)
    assert order_letters("שלום") == "םולש"
    assert order_letters("plain") == "plain"
    joined = order_letters("مرحبا")
    assert len(joined) == 5
    assert all("\ufb50" <= letter <= "\ufeff" for letter in joined)  # the forms that join


def test_what_the_font_lacks_is_left_out_and_said() -> None:
    assert find_missing("Ünïcode ж אב مر", FONT) == ""
    assert find_missing("漢字 film 漢", FONT) == "漢字"
    kept, warnings = clear_cards([Card("漢字", 0, 24, "a note"), Card("SOON", 24, 24)], FONT)
    assert [(card.text, card.note) for card in kept] == [("", "a note"), ("SOON", "")]
    assert len(warnings) == 1
    assert "漢字" in warnings[0]
    assert "edit.font" in warnings[0]


def test_a_font_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_bytes(b"no font")
    for named in (str(tmp_path / "font.ttf"), str(tmp_path / "absent.ttf")):
        with pytest.raises(InputError, match=r"edit\.font"):
            find_font(named)
    assert find_font("") == cards.FONT
    assert find_font(str(FONT)) == FONT
