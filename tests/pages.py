"""Read a page as a browser would, and say what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br", "hr"}
SHAPES = {"path", "rect"}  # of SVG, closed where they open


@dataclass
class Element:
    """One element. text: all that is in it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: tuple[Element, ...] = field(default=(), repr=False)

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")


class Page(HTMLParser):
    """A page's elements in order. faults: tags that do not match, attributes twice, names twice."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.faults: list[str] = []
        self._open: list[Element] = []
        self.feed(source)
        self.close()
        self.faults += [f"<{element.tag}> is not closed" for element in self._open]
        names = [element["id"] for element in self.elements if element["id"]]
        self.faults += [f"id {name} twice" for name in sorted({n for n in names if names.count(n) > 1})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) < len(attrs):
            self.faults.append(f"an attribute of <{tag}> twice")
        element = Element(tag, {name: value or "" for name, value in attrs}, inside=tuple(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in SHAPES:
            self._open.pop()
        elif tag not in VOID:
            self.faults.append(f"<{tag}/> is not closed in HTML")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1].tag == tag:
            self._open.pop()
        else:
            self.faults.append(f"</{tag}> in {self._open[-1].tag if self._open else 'nothing'}")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Elements with this tag and these attributes (class_ and data_x for class and data-x)."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self.elements if e.tag == tag and all(e[n] == value for n, value in wanted.items())]

    def one(self, tag: str, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    def named(self, name: str) -> Element:
        """The element with this id."""
        (element,) = [e for e in self.elements if e["id"] == name]
        return element

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every element's tag and attributes' names: what markup there is, whatever it says."""
        return [(element.tag, tuple(element.attributes)) for element in self.elements]
