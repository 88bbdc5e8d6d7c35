"""The command `refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.display import Display, finish
from flows.options import EditArgument, JsonOption

REFINE_EXAMPLES = """\b
Examples:
  trailer refine film-trailer.edit.json --pin 3=41          slot 3 shows shot 41, all else stays
  trailer refine film-trailer.edit.json --ban 17 --ban 1:02:10-1:03:00
  trailer refine film-trailer.edit.json --swap 5            the next best shot in slot 5
  trailer refine film-trailer.edit.json --keep 0-5,9 --reseed 7    fill the rest anew
  trailer refine film-trailer.edit.json --candidates 5      what else slot 5 could show
  trailer refine film-trailer.edit.json --edits edits.json  what was clicked in the storyboard
"""


def refine(
    edit: EditArgument,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="SLOT=SHOT", help="This shot stands in this slot; again for more."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="A-B,C", help="Slots that stay; all others are filled anew.")
    ] = None,
    ban: Annotated[
        list[str] | None,
        typer.Option(
            "--ban", metavar="SHOT|A-B|TIME-TIME", help="Shots, or film time, not to be shown; again for more."
        ),
    ] = None,
    swap: Annotated[
        list[int] | None, typer.Option("--swap", metavar="SLOT", help="Another shot in this slot; again for more.")
    ] = None,
    reseed: Annotated[
        int | None,
        typer.Option("--reseed", metavar="N", min=0, help="Fill all that is not kept or pinned by another seed."),
    ] = None,
    edits: Annotated[
        Path | None,
        typer.Option("--edits", metavar="FILE", help="What was clicked in the storyboard, downloaded."),
    ] = None,
    lines: Annotated[
        bool,
        typer.Option(
            "--lines/--no-lines", help="Place the lines again for the new shots, or leave them there."
        ),
    ] = True,
    subtitles: Annotated[
        Path | None, typer.Option("--subtitles", metavar="S", help="File with the film's lines, as for `make`.")
    ] = None,
    voice: Annotated[
        Path | None,
        typer.Option("--voice", metavar="V.json", help="Recordings to be heard instead, as for `make`."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", metavar="SLOT", help="Only say which shots this slot could have instead."),
    ] = None,
    best: Annotated[int, typer.Option("--best", metavar="K", min=1, max=1000, help="How many candidates.")] = 8,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="F.mp4", help="The new trailer. [default: X-2.mp4 beside EDIT]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a trailer by hand: keep what is good, and have the rest filled again.

    Slots and shots are counted from 0, as in the edit list and the storyboard. What is not touched stays, frame for frame,
    unless --keep or --reseed opens it; what is pinned or banned stays so in later changes. Only changed cuts are rendered.
    The trailer before is kept: the new one has an edit list of its own.
    """
    from flows.refining import list_candidates, refine_edit, tell_refined
    from pipeline.editfile import read_edit
    from pipeline.errors import InputError
    from pipeline.refine import parse_request, read_request
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site

    plan = read_edit(edit)
    typed = parse_request(plan, pins=pin or [], keep=keep or [], bans=ban or [], swaps=swap or [], reseed=reseed)
    if edits is not None:
        if typed.model_fields_set and any((pin, keep, ban, swap, reseed is not None)):
            raise InputError("--edits says what is to be changed: leave out --pin, --keep, --ban, --swap and --reseed")
        typed = read_request(edits)
    with Display() as display:
        runner = LocalRunner(display.say, display.bar)
        if candidates is not None:
            found = list_candidates(edit, plan, candidates, best, Site(), runner)
        else:
            refined = refine_edit(
                edit, plan, typed, out, Site(), runner, place_lines=lines, subtitles=subtitles, voice=voice
            )
    if candidates is not None:
        if as_json:
            finish(found)
            return
        from flows.looking import draw_table

        finish(f"slot {found['slot']} has shot {found['shot']}\n{draw_table(found['candidates'])}")
        return
    if as_json:
        finish(tell_refined(refined), passed=refined.outcome.passed)
        return
    from flows.making import describe

    changes = "\n".join(f"  {line}" for line in refined.changes)
    finish(f"{describe(refined.outcome)}\n{changes}", passed=refined.outcome.passed)
