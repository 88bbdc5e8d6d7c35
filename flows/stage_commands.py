"""The commands that show one stage: a film's shots, a track's segments, a film's lines. cli.py registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.display import Display, finish
from flows.options import ConfigOption, FilmArgument, JsonOption, LengthOption, SetOption

# \b: lines that are not to be filled into a paragraph
LINES_EXAMPLES = """\b
Examples:
  trailer lines film.mkv
  trailer lines film.mkv --subtitles film.en.srt --json
  trailer lines film.en.srt --chosen --words 60
"""


def shots(
    film: FilmArgument, config: ConfigOption = None, assignments: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show a film's shots. Start and end in seconds, flags, motion (rank, 0 to 1) and luma (0 to 255)."""
    from flows.looking import draw_table, look_at_shots, tell_shots
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, load_config

    settings = load_config(config, assignments or [])
    with Display() as display:
        told = tell_shots(look_at_shots(film, settings, Site(), LocalRunner(display.say, display.bar)))
    finish(told if as_json else draw_table(told["shots"]))


def music(
    track: Annotated[Path, typer.Argument(metavar="TRACK", help="The music file.")],
    length: LengthOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a track's segments and beats, and which parts of it are played. Seconds; energy: rank of loudness, 0 to 1."""
    from flows.looking import draw_table, look_at_music, tell_music
    from flows.making import gather_settings
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, load_config

    settings = load_config(config, gather_settings(assignments or [], length=length))
    with Display() as display:
        told = tell_music(look_at_music(track, settings, Site(), LocalRunner(display.say, display.bar)))
    tempo = f"{told['tempo']} beats a minute" if told["tempo"] else "no steady beat"
    parts = ", ".join(f"{part['start']:.2f} to {part['end']:.2f} s" for part in told["parts"])
    head = f"{told['duration']:.1f} s, {len(told['segments'])} segments, {told['beats']} beats, {tempo}; plays {parts}"
    finish(told if as_json else f"{head}\n{draw_table(told['segments'])}")


def lines(
    film: Annotated[Path, typer.Argument(metavar="FILM", help="The film, or a subtitle file alone.")],
    subtitles: Annotated[
        Path | None,
        typer.Option("--subtitles", metavar="S", help="File with the film's lines. [default: beside it, or in it]"),
    ] = None,
    chosen: Annotated[
        bool, typer.Option("--chosen", help="Only those that a trailer would say; of a film, after looking at it.")
    ] = False,
    words: Annotated[
        int | None, typer.Option("--words", metavar="N", min=1, help="Most words of --chosen. [default: 100]")
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a film's lines: what is said in it, sentence by sentence. Start and end in seconds."""
    from flows.looking import draw_table, look_at_lines
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, load_config

    settings = load_config(config, assignments or [])
    with Display() as display:
        runner = LocalRunner(display.say, display.bar)
        told = look_at_lines(film, subtitles, settings, Site(), runner, words=(words or 100) if chosen else None)
    head = f"{len(told['lines'])} lines, {told['source'] or 'no subtitles found'}, language {told['language']}"
    finish(told if as_json else "\n".join([head, draw_table(told["lines"])] if told["lines"] else [head]))
