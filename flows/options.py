"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FilmArgument = Annotated[Path, typer.Argument(metavar="FILM", help="The film file.")]
EditArgument = Annotated[Path, typer.Argument(metavar="EDIT", help="An edit list, X.edit.json.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="F", help="Settings as TOML; `trailer config` prints all of them."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="One setting, such as selection.max_rounds=8; again for more."),
]
LengthOption = Annotated[
    float | None,
    typer.Option("--length", metavar="SEC", help="Length in seconds, 5 to 600. [default: the music's]"),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Seed of every random choice. [default: 0]"),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="F", help="Where to write it.")]
AspectOption = Annotated[
    str | None,
    typer.Option("--aspect", metavar="W:H", help="Shape: 16:9, 9:16, 1:1, 4:5 or source. [default: the film's]"),
]
