"""The command that hands a trailer to an editor. cli.py registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.display import Display, finish
from flows.options import EditArgument, JsonOption

# \b: lines that are not to be filled into a paragraph
EXAMPLES = """\b
Examples:
  trailer export film-trailer.edit.json --to otio --out film-trailer.otio
  trailer export film-trailer.edit.json --to fcpxml --out film-trailer.fcpxml     # Final Cut Pro, DaVinci Resolve
  trailer export film-trailer.edit.json --to fcp7 --out film-trailer.xml          # Premiere Pro
  trailer export film-trailer.edit.json --to edl --out film-trailer.edl --start 10:00:00:00
  trailer export film-trailer.edit.json --out film-trailer.srt
"""


def export(
    edit: EditArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="F", help="Where to write it: .otio, .edl, .fcpxml, .xml (fcp7) or .srt.")
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="WHAT", help="otio, edl, fcpxml, fcp7 or srt. [default: as F ends]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            metavar="TC",
            help="Time code of the trailer's first frame; with ; before the frames it counts drop-frame. "
            "[default: 01:00:00:00, drop-frame where the film's own is]",
        ),
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Link film and music relative to F's folder, not by their whole path.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an edit list for another editor. Cuts to the frame, linked to the film itself with its own time code.

    Picture, the film's own sound, lines and music on tracks of their own; cards, dissolves, slowed-down cuts; markers on
    beats and lines. The whole film is linked, so that every clip can be drawn out. What a format cannot carry is said in
    a warning.
    """
    from pipeline.handoff import export_edit

    with Display():
        told = export_edit(edit, out, to=to, start=start, relative=relative)
    finish(told if as_json else str(told["out"]))
