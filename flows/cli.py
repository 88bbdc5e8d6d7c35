"""The command line: `trailer`. Nothing heavy is imported before the command that needs it runs."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from flows import export_command, library_commands, model_commands, refine_command, stage_commands, weights
from flows.display import DONE, INTERRUPTED, SHORT, UNUSABLE, Display, WarningLines, finish, print_error
from flows.leaving import leave
from flows.options import (
    AspectOption,
    ConfigOption,
    EditArgument,
    FilmArgument,
    JsonOption,
    LengthOption,
    OutOption,
    SeedOption,
    SetOption,
)
from pipeline import __version__
from pipeline.errors import TrailerError

# what a full, closed or failing disk can raise anywhere: the user's to mend, not a bug
DISK_FAULTS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EMFILE,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
    }
)

# \b: lines that are not to be filled into a paragraph
EXAMPLES = """\b
Examples:
  trailer make film.mkv
  trailer make film.mkv --music song.flac --length 60 --out teaser.mp4
  trailer make film.mkv --length 30 --aspect 9:16 --out upright.mp4
  trailer make film.mkv --title "THE FILM" --seed 7 --set video.crf=20
  trailer make film.mkv --config my.toml --json
  trailer make film.mkv --subtitles film.en.srt --set narration.subtitles=soft
  trailer make film.mkv --set narration.chooser=llm --set llm.base_url=http://127.0.0.1:11434/v1 --set llm.model=qwen3
"""

app = typer.Typer(
    name="trailer",
    help="A film file in, a finished trailer out.",
    epilog=f"{EXAMPLES}  trailer demo\n\nExit codes: 0 done, 1 done but short of the mark (QC failed), "
    "2 the input or the request cannot be used, 130 interrupted.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """A film file in, a finished trailer out."""
    if version:
        typer.echo(__version__)
        raise typer.Exit(DONE)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(UNUSABLE)


@app.command(epilog=EXAMPLES)
def make(
    film: FilmArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="F.mp4", help="The trailer. [default: FILM-trailer.mp4 here]"),
    ] = None,
    music: Annotated[
        Path | None,
        typer.Option("--music", metavar="T", help="Track to cut to. [default: the bundled one that fits]"),
    ] = None,
    subtitles: Annotated[
        Path | None,
        typer.Option("--subtitles", metavar="S", help="File with the film's lines. [default: beside it, or in it]"),
    ] = None,
    voice: Annotated[
        Path | None,
        typer.Option("--voice", metavar="V.json", help="Recordings to be heard instead of the film's own voices."),
    ] = None,
    narration: Annotated[
        bool, typer.Option("--narration/--no-narration", help="Let the trailer speak the film's lines.")
    ] = True,
    title: Annotated[
        str | None,
        typer.Option("--title", metavar="TEXT", help="Title on the card. [default: from the file's name]"),
    ] = None,
    length: LengthOption = None,
    aspect: AspectOption = None,
    draft: Annotated[bool, typer.Option("--draft", help="A quick look: at most 360 px tall, encoded fast.")] = False,
    seed: SeedOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    prefect: Annotated[
        bool,
        typer.Option(
            "--prefect", help="Run through Prefect also where no server is configured: starts a temporary one."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the trailer of one film.

    Writes F.mp4 and beside it its edit list (.edit.json), storyboard (.report.html) and measurements (.qc.json). What the
    checks refuse is put aside as F.rejected.mp4. Work is kept and used again: the same command resumes, and changes cost
    only what they change. Where a Prefect server is configured (PREFECT_API_URL or the active profile) the run shows there.
    """
    from flows.making import describe, gather_settings, make_one, summarise
    from pipeline.settings import load_config

    assignments = [*(assignments or []), *([] if narration else ["narration.enabled=false"])]
    named = gather_settings(assignments, title=title, length=length, aspect=aspect, draft=draft, seed=seed)
    settings = load_config(config, named)
    with Display() as display:
        outcome = make_one(
            film,
            settings,
            music=music,
            subtitles=subtitles,
            voice=voice,
            out=out,
            prefect=prefect,
            say=display.say,
            bar=display.bar,
        )
    finish(summarise(outcome) if as_json else describe(outcome), passed=outcome.passed)


app.command()(stage_commands.shots)
app.command()(stage_commands.music)
app.command(epilog=stage_commands.LINES_EXAMPLES)(stage_commands.lines)


@app.command()
def render(edit: EditArgument, out: OutOption, aspect: AspectOption = None, as_json: JsonOption = False) -> None:
    """Render an edit list, and measure the result. As made or changed by hand: only changed cuts are encoded."""
    from flows.looking import render_edit
    from flows.making import describe, summarise
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site

    with Display() as display:
        outcome = render_edit(edit, out, Site(), LocalRunner(display.say, display.bar), aspect=aspect)
    finish(summarise(outcome) if as_json else describe(outcome), passed=outcome.passed)


app.command(epilog=refine_command.REFINE_EXAMPLES)(refine_command.refine)


@app.command()
def report(
    edit: EditArgument,
    out: OutOption,
    trailer: Annotated[
        Path | None,
        typer.Option("--trailer", metavar="F", help="The rendered trailer. [default: X.mp4 beside EDIT]"),
    ] = None,
) -> None:
    """Write the storyboard of an edit list as one HTML page."""
    from flows.looking import report_edit
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site

    with Display() as display:
        report_edit(edit, out, trailer, Site(), LocalRunner(display.say, display.bar))
    finish(str(out))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A finished trailer.")],
    edit: Annotated[
        Path | None,
        typer.Option("--edit", metavar="EDIT", help="Its edit list: frames and pictures are then held against it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a finished trailer. Codecs, timing, pictures, loudness; exits 1 when a check fails."""
    from flows.looking import check_file, draw_table
    from pipeline.settings import Site

    with Display() as display:
        told = check_file(file, edit, Site(), lambda share: display.bar("quality", share))
    verdict = "passed" if told["passed"] else "FAILED"
    rows = [
        {**row, "measured": f"{row['measured']:g}"} if isinstance(row["measured"], float) else row
        for row in told["checks"]
    ]
    finish(told if as_json else f"{draw_table(rows)}\n{verdict}", passed=told["passed"])


@app.command()
def align(
    film: FilmArgument,
    trailers: Annotated[list[Path], typer.Argument(metavar="TRAILER", help="A trailer of this film; again for more.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder of training data to add the film and its trailers to."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The film's name there. [default: from its file]")
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which film shot each trailer shot came from. With --data, make training data of it.

    Shots are compared by their pictures: similarity is at most 1, margin says by how much the best film shot beats the
    second (near 0 where the film has look-alikes). Doubtful shots (similarity below 0.73) are probably not of the film:
    title cards, logos, what was shot for the trailer. --data writes DIR/NAME.npy for the film and DIR/NAME-1.npy ... for
    its trailers, as `trailer train` reads them, and overwrites nothing. Black and doubtful shots are left out there, and
    counted; each row is the film's own features of the shot that was found.
    """
    from flows.aligning import align_film, describe_alignment, tell_alignment
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, load_config

    settings = load_config(config, assignments or [])
    with Display() as display:
        runner = LocalRunner(display.say, display.bar)
        aligned = align_film(film, trailers, settings, Site(), runner, data=data, name=name)
    finish(tell_alignment(aligned) if as_json else describe_alignment(aligned))


app.command(epilog=model_commands.TRAIN_EXAMPLES)(model_commands.train)
app.command(epilog=model_commands.EVALUATE_EXAMPLES)(model_commands.evaluate)
app.command(epilog=model_commands.ABLATE_EXAMPLES)(model_commands.ablate)
app.command()(model_commands.simulate)
app.add_typer(weights.commands, name="weights")


@app.command("config")
def print_config() -> None:
    """Print every setting as TOML. Change what you like, and use it with --config."""
    from flows.config_text import config_to_toml
    from pipeline.settings import TrailerConfig

    sys.stdout.write(config_to_toml(TrailerConfig()))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is here and what is missing. Versions, device, folders, Prefect; exits 1 when something needed is."""
    from flows.doctor import describe, examine
    from pipeline.settings import Site

    found = examine(Site())
    finish(found if as_json else describe(found), passed=not found["problems"])


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the film and its trailer.")] = Path(
        "trailer-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the film and of the trailer.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a short film and make its trailer. A first look that needs no file."""
    from flows.making import describe, draw_demo, make_one, summarise
    from pipeline.settings import TrailerConfig

    with Display() as display:
        film = draw_demo(out, seed, say=display.say, bar=display.bar)
        outcome = make_one(
            film,
            TrailerConfig(seed=seed),
            music=None,
            out=out / f"{film.stem}-trailer.mp4",
            prefect=False,
            say=display.say,
            bar=display.bar,
        )
    told = {"film": str(film), **summarise(outcome)}
    finish(told if as_json else f"{film}\n{describe(outcome)}", passed=outcome.passed)


app.command(epilog=export_command.EXAMPLES)(export_command.export)
app.command(epilog=library_commands.LIBRARY_EXAMPLES)(library_commands.library)
app.command(epilog=library_commands.SERVE_EXAMPLES)(library_commands.serve)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; one line on standard error for whatever the user can mend."""
    how = "the same command goes on from there"
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="trailer", standalone_mode=False)
    except TrailerError as error:
        print_error(f"error: {error}")
        return UNUSABLE
    except TyperException as error:  # an option that does not exist, a value of the wrong kind ...
        context = getattr(error, "ctx", None)
        asked = context.command_path if context is not None else "trailer"
        text = " ".join(error.format_message().split()).rstrip(".")
        if text.startswith("No such option"):
            text += "; a file whose name begins with a dash is given as ./-NAME"
        print_error(f"error: {text} (see `{asked} --help`)")
        return UNUSABLE
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SHORT
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        where = f": {error.filename}" if error.filename else ""
        print_error(f"error: {error.strerror}{where} (free or choose another place: --out, TRAILER_WORK_DIR)")
        return UNUSABLE
    except (KeyboardInterrupt, typer.Abort) as stop:
        code, how = INTERRUPTED, str(stop) or how
    if code == INTERRUPTED:
        print_error(f"interrupted; what is done is kept, and {how}")
    return int(code or DONE)


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name can hold bytes that are no text
    logging.raiseExceptions = False  # a log line that does not reach its server is nobody's concern here
    logging.getLogger("trailer").addHandler(WarningLines(logging.WARNING))
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
