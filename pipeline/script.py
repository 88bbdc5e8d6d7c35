"""The records of the trailer's voice: what is said in a film, what of it the trailer says, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.records import F32, Line, Placement, Span


@dataclass(frozen=True, slots=True)
class Lines:
    """What is said in a film, sentence by sentence, in the order of time.

    source: where the lines come from, in words ("" where there are none). language: as the source says, "und" unknown.
    warnings: what was wrong with it and did not stop the reading.
    """

    film: str
    lines: tuple[Line, ...]
    source: str = ""
    language: str = "und"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(a.span.start > b.span.start for a, b in zip(self.lines, self.lines[1:], strict=False)):
            raise ValueError("lines must be in the order of time")

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """A line that the trailer shall say. number: which of the film's lines it is.

    span: what is heard of it, on the film's clock, or on the clock of the voice file where one is given.
    worth: what it is worth to the trailer, higher is better; the lowest is dropped first.
    """

    number: int
    text: str
    span: Span
    worth: float
    voice: Path | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """The lines that were chosen for the trailer, in the order in which they are said. chooser: who chose, in words."""

    lines: tuple[ScriptLine, ...]
    chooser: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Captions:
    """What each slot's shot shows, in a sentence, and how well each line of the script goes with it.

    texts (J,): one a slot. captioner: who wrote them. similarity (N, J): of line n with the shot in slot j, -1..1.
    """

    texts: tuple[str, ...]
    captioner: str
    similarity: F32

    def __post_init__(self) -> None:
        if self.similarity.ndim != 2 or self.similarity.shape[1] != len(self.texts):
            raise ValueError("similarity must have one column a caption")


@dataclass(frozen=True, slots=True)
class Narration:
    """The placed lines, in the order in which they are said. warnings: what was dropped, and why."""

    placements: tuple[Placement, ...]
    warnings: tuple[str, ...] = ()
