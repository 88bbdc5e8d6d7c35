"""Put the storyboard's page together: text stays text, data stays data, and the page can fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.settings import ASSETS

PAGE = ASSETS / "report"
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]|[\ud800-\udfff]")  # no page can hold them
PLACE = re.compile(r"\{\{(\w+)\}\}")
# Within <script> a parser looks for "</script" and "<!--" alone; U+2028 and U+2029 end a line in older JavaScript.
UNSAFE_IN_DATA = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def clock(seconds: float) -> str:
    """1:02:03.4, with every figure in its place."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest // 10:02d}.{rest % 10}" if hours else f"{minutes}:{rest // 10:02d}.{rest % 10}"


def show(text: object) -> str:
    """A text for an element or a quoted attribute: never markup, whatever it holds."""
    return html.escape(CONTROLS.sub("\ufffd", str(text).replace("\r", " ")), quote=True)


def link_file(path: str) -> str:
    """A relative path as an address, quoted: no scheme, no query, no fragment, whatever bytes the name has."""
    return show(quote(os.fsencode(path)))


def embed_data(data: Any) -> str:
    """JSON for a <script type="application/json">: it cannot end the element, and reads back as it was."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(UNSAFE_IN_DATA)


def picture_source(jpeg: bytes) -> str:
    """A picture as an address of its own."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


class Places:
    """Where things stand, as classes of the page's one style sheet: its policy allows no style attributes."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def name(self, **properties: str) -> str:
        """A class with these properties; the same ones give the same class."""
        rule = ";".join(f"{name.replace('_', '-')}:{value}" for name, value in properties.items())
        return self._rules.setdefault(rule, f"at{len(self._rules)}")

    def across(self, left: float, width: float) -> str:
        """A class for what reaches from here on so far, as shares of the whole."""
        return self.name(left=f"{100 * left:.3f}%", width=f"{100 * width:.3f}%")

    def sheet(self) -> str:
        """The rules of all the classes that were named."""
        return "".join(f".{name}{{{rule}}}\n" for rule, name in self._rules.items())


def fill_page(parts: Mapping[str, str], places: Places) -> str:
    """The page. parts: markup for each place of page.html, made with show(). What is put in is not looked at again."""
    style = f"{_read('style.css')}{places.sheet()}"
    script = _read("script.js")
    policy = (
        "default-src 'none'; img-src data:; media-src 'self' file:; "  # file: beside a page that is opened as a file
        f"style-src {_allow(style)}; script-src {_allow(script)}; base-uri 'none'; form-action 'none'"
    )
    known = {**parts, "policy": show(policy), "style": style, "script": script}
    return PLACE.sub(lambda place: known[place[1]], _read("page.html"))


def _read(name: str) -> str:
    return Path(PAGE / name).read_text(encoding="utf-8")


def _allow(source: str) -> str:
    """What a policy calls the element with exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def draw_table(head: Sequence[str], rows: Sequence[str], caption: str) -> str:
    """A table that scrolls by itself where it is too wide. rows: markup; caption: for those who do not see it."""
    columns = "".join(f'<th scope="col">{show(name)}</th>' for name in head)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{show(caption)}"><table>'
        f'<caption class="hidden">{show(caption)}</caption><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
