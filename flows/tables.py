"""Tables of figures, for a terminal and for a document."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 200  # columns that a drawn table may have; notes are as wide as their table


@dataclass(frozen=True, slots=True)
class Table:
    """cells: rows of text as wide as columns; the first column names the row, the others are figures."""

    title: str
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    note: str = ""

    def draw(self) -> str:
        """As a rich table, in text."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table as RichTable

        drawn = RichTable(title=self.title, caption=self.note or None, box=SIMPLE_HEAD, title_justify="left")
        drawn.caption_justify = "left"
        for number, column in enumerate(self.columns):
            drawn.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in self.cells:
            drawn.add_row(*row)
        text = io.StringIO()
        Console(file=text, width=WIDTH, highlight=False, markup=False).print(drawn)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.columns, ["---", *("---:" for _ in self.columns[1:])], *self.cells]
        rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"### {self.title}\n\n{rows}\n" + (f"\n{self.note}\n" if self.note else "")


def figure(value: float | None, digits: int = 3) -> str:
    """A number as a table shows it; "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
