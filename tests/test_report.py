"""The page says where the shots come from, what was left out and what was done to a shot, and holds no foreign markup."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.coverage import PARTS, PUBLISHED, measure_coverage
from pipeline.records import Card, Check, Cut, EditList, FilmReference, Music, Output, Placement, QualityReport, Span
from pipeline.report import draw_report
from pipeline.settings import TrailerConfig
from tests.pages import Page

RATE = Fraction(25)
QUALITY = QualityReport((Check("frames", True, 100.0, "100"), Check("black", False, "<b>", "<= 0.5")))


def make_edit(*shots: int, film: float = 100.0, start: float = 0.0) -> EditList:
    """A trailer of one second of each of these shots; the film has a hundred, equally long."""
    step = film / 100
    spans = tuple(Span(start + step * n, start + step * (n + 1)) for n in range(100))
    cuts = tuple(
        Cut(slot, shot, Span(spans[shot].start, spans[shot].start + 1.0), 25 * slot, 25)
        for slot, shot in enumerate(shots)
    )
    card = Card("<i>END</i>", 25 * len(cuts), 25, "<u>soon</u>")
    return EditList(
        version="0",
        seed=0,
        title="<script>x</script>",
        film=FilmReference(Path("f.mkv"), "f" * 32, film, RATE, 640, 360, start),
        output=Output(640, 360, RATE, card.start_frame + card.frames, -14.0),
        cuts=cuts,
        cards=(card,),
        narration=(),
        music=Music(Path("t.ogg"), "t" * 32, 0.0, (0.0,)),
        models={},
        config=TrailerConfig().model_dump(mode="json"),
        shots=spans,
    )


def draw(edit: EditList, excluded: dict[str, str] | None = None, **known: Any) -> str:
    jpeg = np.asarray(cv2.imencode(".jpg", np.zeros((36, 64, 3), np.uint8))[1], np.uint8).reshape(-1)
    return draw_report(edit, QUALITY, [jpeg] * len(edit.pieces), "t.mp4", excluded, **known)


def words(page: str) -> str:
    body = page[page.index("<body>") : page.index("<script")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_coverage_counts_the_shots_of_each_part_and_measures_how_unusual_that_is() -> None:
    assert sum(PUBLISHED) == pytest.approx(1, abs=0.002)  # as published, rounded
    even = measure_coverage(make_edit(5, 15, 30, 60, 80, 97))
    assert even.counts == (1, 1, 1, 1, 1, 1)
    assert even.shares == pytest.approx([1 / 6] * 6)
    assert even.distance == pytest.approx(sum(abs(p - 1 / 6) for p in PUBLISHED) / 2)
    late = measure_coverage(make_edit(96, 97, 98, film=1000.0, start=3600.0))
    assert late.counts == (0, 0, 0, 0, 0, 3)
    assert late.distance == pytest.approx(1 - PUBLISHED[-1], abs=0.001)
    usual = [
        round(100 * low) + k for low, share in zip(PARTS, PUBLISHED, strict=False) for k in range(round(20 * share))
    ]
    assert measure_coverage(make_edit(*usual)).distance < 0.07


def test_the_page_tells_the_parts_in_words() -> None:
    text = words(draw(make_edit(5, 15, 30, 60), {}))
    assert "0 – 10 % 0:00.0 – 0:10.0 1 25 % 17 %" in text
    assert "94.5 – 100 % 1:34.5 – 1:40.0 0 0 % 5 %" in text
    assert "of the shots would have to come from elsewhere for the usual shares" in text


def test_what_was_left_out_is_told_by_reason_with_times_and_folded() -> None:
    left_out = {
        "12": "black",
        "7": "nearly the same picture as shot 9",
        "8": "nearly the same picture as shot 9",
        "90": "<script>the ending</script>",
    }
    page = draw(make_edit(5), left_out)
    text = words(page)
    assert "4 of 100 shots could not be chosen, 4 % of the film" in text
    assert "nearly the same picture as another: 2" in text
    assert "0:07.0 (shot 7, as shot 9) · 0:08.0 (shot 8, as shot 9)" in text
    assert "black: 1 0:12.0 (shot 12)" in text
    summaries = [element.text for element in Page(page).all("summary")]
    assert summaries[-4:-1] == ["nearly the same picture as another: 2", "<script>the ending</script>: 1", "black: 1"]
    by_hand = words(draw(replace(make_edit(5), banned=(12, 30)), left_out))
    assert "5 of 100 shots" in by_hand
    assert "banned by hand: 1 0:30.0 (shot 30)" in by_hand  # shot 12 is black in any case
    assert "Not known" in draw(make_edit(5), None)
    assert "every shot could be chosen" in draw(make_edit(5), {})


def test_what_was_done_to_a_shot_stands_under_it() -> None:
    edit = make_edit(5, 15)
    slow = Cut(0, 5, Span(5.0, 5.5), 0, 25, speed=0.5)
    faded = replace(edit.cuts[1], dissolve=10, pinned=True, sound=False)
    text = words(draw(replace(edit, cuts=(slow, faded)), {}))
    assert "slowed down to 50 %" in text
    assert "pinned, dissolves in over 0.40 s, without its sound" in text


def test_lines_and_figures_and_settings_stand_in_the_page() -> None:
    line = Placement(3, "They came at night.", Span(5.2, 6.0), 1, 30, 0.71)
    config = TrailerConfig.model_validate({"guards": {"ending": 0.25}}).model_dump(mode="json")
    models = {"encoder": "imagebind@1", "encoder_licence": "CC-BY-NC-SA 4.0", "selector": {"name": "mine"}}
    edit = replace(
        make_edit(5, 15), narration=(line,), config=config, models=models, seed=7, warnings=("no <b> sound",)
    )
    text = words(draw(edit))
    # from slot 1: counted from 0, as in the edit list
    assert "0:01.2 – 0:02.0 1 They came at night. 0:05.2 0.71" in text
    differing = text[text.index("Settings that differ from the defaults") :]
    assert differing.startswith("Settings that differ from the defaults guards.ending 0.25 All ")
    assert "CC-BY-NC-SA 4.0" in text
    assert "seed 7" in text
    assert "no &lt;b&gt; sound" in text
    assert "frames 100 100 passed" in text
    assert "black &lt;b&gt; &lt;= 0.5 failed" in text
    assert "QC failed" in text


def test_no_address_stands_in_a_page_that_asked_nobody() -> None:
    edit = make_edit(5)
    assert "://" not in draw(edit)
    asked = TrailerConfig.model_validate({"narration": {"chooser": "llm"}, "llm": {"model": "m<1>"}})
    text = words(draw(replace(edit, config=asked.model_dump(mode="json"))))
    assert "llm.model m&lt;1&gt;" in text
    assert "llm.base_url" in text
