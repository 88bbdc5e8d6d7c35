"""The storyboard's page: nothing in it is markup that we did not write, nothing is fetched, and everything has its name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import wave
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.records import U8, Card, Check, Cut, EditList, Music, Placement, QualityReport, Span
from pipeline.report import draw_report
from pipeline.storyboard import fit_pictures
from pipeline.storyboard_music import STEPS_A_SECOND, trace_music
from pipeline.storyboard_page import PAGE, Places, clock, embed_data, link_file, show
from tests.pages import Page
from tests.test_report import draw, make_edit, words

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>\" onclick='alert(1)' --><!-- {{script}} &lt; \u2028"
)
LANDMARKS = {"header", "main", "nav", "section"}


def noise(seed: int, wide: int = 320, tall: int = 180) -> U8:
    """A picture that compresses badly, as JPEG."""
    picture = np.random.default_rng(seed).integers(0, 256, (tall, wide, 3)).astype(np.uint8)
    return np.asarray(cv2.imencode(".jpg", picture)[1], np.uint8).reshape(-1)


def full_edit(text: str) -> EditList:
    """A trailer that has everything, and says `text` wherever a text can stand."""
    edit = make_edit(5, 15, 30)
    cuts = (edit.cuts[0], replace(edit.cuts[1], caption=text, pinned=True), edit.cuts[2])
    return replace(
        edit,
        title=text,
        version=text,
        cuts=cuts,
        cards=(replace(edit.cards[0], text=text, note=text),),
        narration=(Placement(0, text, Span(5.0, 5.8), 1, 30, 0.5, voice=Path(text.replace("/", "∕"))),),
        film=replace(edit.film, path=Path("/films") / text),
        music=Music(Path("/music") / text.replace("/", "∕"), "t" * 32, 0.0, (0.0,), beats=(0.0, 0.5, 1.0)),
        models={"encoder": text, "encoder_licence": text, "lines": text, "chooser": text, "selector": {"name": text}},
        config={"title": text, "guards": {"ending": text}},
        warnings=(text,),
    )


def draw_full(text: str, **known: Any) -> str:
    edit = full_edit(text)
    quality = QualityReport((Check(text, True, text, text), Check("level", False, float("-inf"), "any")))
    name = text.replace("/", "∕")
    known = {"plan": f"{name}.edit.json", "candidates": {0: [(7, 0.25, noise(1)), (30, 0.1, None)]}, **known}
    return draw_report(edit, quality, [noise(1)] * 4, f"{name}.mp4", {"3": text}, remasked=(1, 0, 2), **known)


def test_the_page_is_well_formed_and_says_everything_as_text() -> None:
    plain, hostile = Page(draw_full("harmless")), Page(draw_full(HOSTILE))
    assert plain.faults == hostile.faults == []
    assert hostile.shape == plain.shape  # the same elements with the same attributes: nothing became markup
    assert hostile.one("title").text == f"{HOSTILE}: storyboard"
    assert hostile.one("h1").text == HOSTILE
    everything = hostile.one("main").text.replace("∕", "/")  # a file's name has no slash
    assert everything.count(HOSTILE[:20]) == plain.one("main").text.count("harmless") > 20  # some are cut off


def test_data_reads_back_and_cannot_end_its_element() -> None:
    for text in (HOSTILE, "a'b\nc\u2029", "<!--<script>", "]]>&amp;"):
        written = embed_data({"a": text})
        assert not set("<>&\u2028\u2029") & set(written)
        assert json.loads(written) == {"a": text}
    data = json.loads(Page(draw_full(HOSTILE)).named("data").text)
    assert data["plan"] == f"{HOSTILE.replace('/', '∕')}.edit.json"
    assert [(piece["slot"], piece["shot"]) for piece in data["pieces"]] == [(0, 5), (1, 15), (2, 30), (None, None)]
    assert [(piece["start"], piece["end"]) for piece in data["pieces"]] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert set(data["pictures"]) == {"7"}


def test_what_no_page_can_hold_is_replaced() -> None:
    assert show("a\x00b\ud800c\r\n") == "a\ufffdb\ufffdc \n"
    strange = b"\xff.mp4".decode("utf-8", "surrogateescape")
    assert link_file(strange) == "%FF.mp4"
    assert Page(draw_full(strange)).faults == []
    assert link_file("http://x/a?b#c.mp4") == "http%3A//x/a%3Fb%23c.mp4"  # a name, not an address


def test_nothing_is_fetched_from_anywhere() -> None:
    page = Page(draw_full(HOSTILE))
    policy = page.one("meta", http_equiv="Content-Security-Policy")["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["media-src"] == "'self' file:"
    (script,) = [element for element in page.all("script") if not element["type"]]
    for rule, element in (("script-src", script), ("style-src", page.one("style"))):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()}'"
    video = page.one("video")["src"]
    for element in page.elements:
        assert "style" not in element.attributes  # the policy would drop it
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            link = element[name]
            assert (
                not link or link == video or re.match(r"data:(image/jpeg;base64,[A-Za-z0-9+/=]+|,)$|#[a-z0-9-]+$", link)
            )
    assert ":" not in video
    for source in (script.text, page.one("style").text):
        assert not re.search(
            r"https?:|url\(|@import|\bfetch\b|XMLHttp|WebSocket|sendBeacon|innerHTML|\beval\b|//[a-z]", source
        )
    assert "http" not in "".join((PAGE / "page.html").read_text().split("http-equiv"))


def test_everything_has_a_name_and_a_place() -> None:
    page = Page(draw_full("harmless"))
    names = {element["id"] for element in page.elements if element["id"]}
    assert page.one("html")["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("header")) == 1
    for element in page.elements:
        for attribute in ("aria-labelledby", "for", "aria-describedby"):
            assert set(element[attribute].split()) <= names
        if element["href"].startswith("#"):
            assert element["href"][1:] in names
        if element.tag in ("section", "nav"):
            assert element["aria-labelledby"] or element["aria-label"]
        if element.tag == "button":
            assert element["aria-label"] or element.text.strip()
            assert element["type"] == "button"
        if element.tag == "img":
            assert "alt" in element.attributes
        if element.tag in ("video", "meter"):
            assert element["aria-label"]
        if element.tag == "svg":
            assert element["aria-label"] or element["aria-hidden"]
        if element.tag == "input":
            labelled = [e for e in page.all("label") if e["for"] == element["id"]] if element["id"] else []
            assert labelled or "label" in [e.tag for e in element.inside]
        if element.tag == "body":
            continue
        if element.text.strip() and element.tag in ("p", "table", "h2", "h3"):
            assert LANDMARKS & {outer.tag for outer in element.inside}
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch("h[1-6]", element.tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [e["aria-live"] for e in page.named("command").inside if e["aria-live"]] == ["polite"]
    style = page.one("style").text
    for asked in ("prefers-color-scheme: dark", "prefers-reduced-motion", ":focus-visible", "forced-colors"):
        assert asked in style


def test_slots_and_shots_are_counted_from_0_everywhere() -> None:
    page = Page(draw_full("harmless"))
    assert [e["data-slot"] for e in page.elements if e["data-shot"]] == ["0", "1", "2"]
    first = page.named("slot-0")
    assert first["data-shot"] == "5"
    assert "Slot 0 shot 5" in first.text
    assert [e["aria-label"] for e in page.all("button") if e["tabindex"] == "0"] == [
        "Play from slot 0, shot 5, 0:00.0 to 0:01.0"
    ]
    pins = [e.text for e in page.all("button", data_action="pin")]
    assert pins == ["Pin shot 5 in slot 0", "Pin shot 15 in slot 1", "Pin shot 30 in slot 2"]
    assert "slot 2" in page.named("slot-2").text.lower()


def test_runners_up_and_remasking_are_shown_where_they_are_known_and_nothing_where_not() -> None:
    page = Page(draw_full("harmless", candidates={0: [(5, 0.5, None), (7, 0.25, noise(1)), (30, 0.1, None)]}))
    assert [e["data-choose"] for e in page.all("button") if e["data-choose"]] == ["7", "30"]  # not the slot's own shot
    first = page.named("slot-0")
    assert "2 runners-up" in first.text
    assert "Shot 7 for slot 0 25.0 %" in first.text
    assert "Shot 30 for slot 0 10.0 %, in slot 2 now" in first.text
    assert "Re-masked1 time" in first.text
    assert "Re-masked2 times" in page.named("slot-2").text
    text = words(draw(make_edit(5, 15)))
    assert "runner" not in text
    assert "Re-masked" not in text


def test_the_timeline_is_to_scale_and_has_music_and_lines() -> None:
    levels = (0.0, 0.25, 1.0, 0.25)
    page = Page(draw_full("harmless", music=levels))
    rules = dict(re.findall(r"\.(at\d+)\{(.*?)\}", page.one("style").text))
    strip = [e for e in page.all("button") if "piece" in e["class"].split()]
    assert [rules[e["class"].split()[-1]] for e in strip] == [f"left:{at}.000%;width:25.000%" for at in (0, 25, 50, 75)]
    (line,) = [e for e in page.all("span") if "line" in e["class"].split()]
    assert rules[line["class"].split()[-1]] == "left:30.000%;width:20.000%"
    assert page.one("path", class_="beats")["d"] == "M0.0 62V100M125.0 62V100M250.0 62V100"
    assert page.one("path", class_="energy")["d"] == "M0 100L125.0 100.0 375.0 52.0 625.0 4.0 875.0 52.0 1000 100Z"
    (music,) = [e for e in page.all("svg") if "beats" in e["aria-label"]]
    assert "3 beats, 120 a minute; its energy" in music["aria-label"]
    silent = Page(draw_full("harmless"))
    assert not silent.all("path", class_="energy")
    assert any("not known" in e["aria-label"] for e in silent.all("svg"))


def test_the_film_s_map_has_a_line_for_each_slot_and_a_mark_for_each_shot() -> None:
    page = Page(draw(make_edit(5, 15, 30), {"90": "credits", "91": "credits"}))
    links = [e for e in page.all("path") if e["data-slot"]]
    assert [e["data-slot"] for e in links] == ["0", "1", "2"]
    assert (
        links[0]["d"] == "M125.0 8C125.0 55 55.0 45 55.0 90"
    )  # the middle of the first quarter, from 5.5 % of the film
    marks = {e.inside[-1]["class"]: [] for e in page.all("rect") if e.inside[-1].tag == "g"}  # type: dict[str, list[str]]
    for e in page.all("rect"):
        if e.inside[-1].tag == "g":
            marks[e.inside[-1]["class"]].append(e["x"])
    assert marks == {"used": ["50.0", "150.0", "300.0"], "out": ["900.0", "910.0"]}


def test_sixty_slots_with_runners_up_are_less_than_a_megabyte() -> None:
    edit = make_edit(*range(60))
    edit = replace(edit, music=replace(edit.music, beats=tuple(n / 2 for n in range(122))))
    pictures = [noise(n) for n in range(61)]
    assert sum(map(len, pictures)) > 2_000_000
    candidates = {slot: [(60 + (slot + k) % 40, 0.1, noise(k)) for k in range(5)] for slot in range(60)}
    excluded = {str(shot): "nearly the same picture as shot 3" for shot in range(61, 99)}
    page = draw_report(
        edit,
        QualityReport(()),
        pictures,
        "t.mp4",
        excluded,
        candidates=candidates,
        remasked=(1,) * 60,
        music=(0.5,) * 480,
    )
    assert len(page.encode()) < 1_000_000
    assert Page(page).faults == []
    sources = [e["src"] for e in Page(page).all("img") if e["src"]]
    assert len(set(sources)) == 61


def test_pictures_that_fit_are_left_as_they_are() -> None:
    pictures = [noise(n) for n in range(3)]
    assert fit_pictures(pictures, 10**6) == [bytes(p) for p in pictures]
    small = fit_pictures(pictures, 30_000)
    assert sum(map(len, small)) <= 30_000
    shapes = {cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape for jpeg in small}
    assert len(shapes) == 1
    assert shapes.pop()[1] in (96, 128, 160, 192)
    assert len(fit_pictures([noise(1, 40, 30)], 10**6, 128)[0]) > 0


def test_the_music_is_traced_as_it_is_played(tmp_path: Path) -> None:
    rate = 8000
    loud = np.sin(np.arange(rate) * 0.3)
    track = np.concatenate([0.5 * loud, 0.125 * loud, np.zeros(rate), 0.25 * loud, loud])
    with wave.open(str(tmp_path / "m.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((track * 20000).astype("<i2").tobytes())
    edit = make_edit(5, 15)  # three seconds with the card
    music = Music(tmp_path / "m.wav", "f", 0.0, (0.0,))
    levels = np.array(trace_music(replace(edit, music=music)) or ())
    assert len(levels) == 3 * STEPS_A_SECOND
    seconds = levels.reshape(3, STEPS_A_SECOND)
    assert seconds[:, 2:-2].mean(axis=1) == pytest.approx([1, 0.25, 0], abs=0.03)
    jumped = replace(music, parts=(Span(3.0, 4.0), Span(0.0, 2.0)))
    again = np.array(trace_music(replace(edit, music=jumped)) or ()).reshape(3, STEPS_A_SECOND)
    assert again[:, 2:-2].mean(axis=1) == pytest.approx([0.5, 1, 0.25], abs=0.03)
    assert trace_music(replace(edit, music=replace(music, path=tmp_path / "gone.wav"))) is None


def test_places_are_named_once() -> None:
    places = Places()
    assert places.across(0.1, 0.2) == places.across(0.1, 0.2) != places.across(0.2, 0.2)
    assert places.sheet().count("{") == 2
    assert clock(3723.44) == "1:02:03.4"


def test_a_trailer_of_cards_alone_has_a_page() -> None:
    edit = replace(make_edit(5), cuts=(), cards=(Card("A", 0, 25), Card("B", 25, 25)))
    page = Page(draw(edit, {}))
    assert page.faults == []
    assert not [piece for piece in edit.pieces if isinstance(piece, Cut)]
