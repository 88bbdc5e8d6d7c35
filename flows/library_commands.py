"""The commands of a library of films: `library` and `serve`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.display import Display, finish
from flows.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from flows.passes import Report
    from pipeline.ledger import Standing
    from pipeline.library import LibrarySettings
    from pipeline.settings import Site, TrailerConfig

START_SECONDS = 120.0  # for a process that serves a deployment to make it known

LIBRARY_EXAMPLES = """\b
Examples:
  trailer library /films
  trailer library /films --dry-run
  trailer library /films --place trailers --set length=60
  trailer library /films --tree /trailers           (the library is only read)
  trailer library /share/films --deployment make-trailer/trailer --together 8
"""
SERVE_EXAMPLES = """\b
Examples:
  trailer serve --library /films --cron "0 2 * * *" --timezone Europe/Berlin
  trailer serve --library /films --watch
  trailer serve
"""

PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--place", metavar="P", help="Where trailers go: beside, trailers or tree. [default: beside the film]"
    ),
]
TreeOption = Annotated[
    Path | None,
    typer.Option(
        "--tree", metavar="DIR", help="A folder of their own for the trailers, with the library's folders in it."
    ),
]
MinutesOption = Annotated[
    float | None, typer.Option("--min-minutes", metavar="N", help="A film lasts at least so long. [default: 5]")
]
SettleOption = Annotated[
    float | None,
    typer.Option(
        "--settle", metavar="SEC", help="Leave files alone that changed in the last so many seconds. [default: 60]"
    ),
]
TogetherOption = Annotated[
    int | None, typer.Option("--together", metavar="N", help="Films that are made at the same time. [default: 1]")
]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try films again that failed before.")]


def library(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The library.")],
    place: PlaceOption = None,
    tree: TreeOption = None,
    min_minutes: MinutesOption = None,
    settle: SettleOption = None,
    together: TogetherOption = None,
    retry_failed: RetryOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how every film stands, and make nothing.")] = False,
    deployment: Annotated[
        str,
        typer.Option("--deployment", metavar="FLOW/NAME", help="Have the films made by its workers. [default: here]"),
    ] = "",
    config: ConfigOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the trailers of all films in a folder that are new, or have changed.

    FILM-trailer.mp4 is written beside each film, where Jellyfin, Plex and Kodi find it. Extras, samples, trailers, hidden
    files and what may still be being copied are left alone; a trailer that is not ours is never written over, and nothing
    is removed. One film's failure never stops the rest; exits 1 when a film failed. Where a Prefect server is configured
    each film is a run of its own there.
    """
    from flows.passes import Report, look, make_row, require_films
    from pipeline.settings import Site, load_config

    settings = gather(place, tree, min_minutes, settle, together, retry_failed)
    wanted, site = load_config(config, assignments or []), Site()
    with Display() as display:
        standings = look(folder, settings, wanted, site)
        require_films(standings, folder)
        if dry_run or status:
            report = Report(folder.absolute(), tuple(make_row(standing) for standing in standings))
        else:
            report = make_pass(folder, standings, settings, wanted, site, display, deployment)
    told: dict[str, Any] | str
    if as_json:
        from flows.passes import tell

        told = tell(report)
    else:
        told = describe(report, everything=status)
    finish(told, passed=dry_run or status or not report.failed)


def make_pass(
    folder: Path,
    standings: Sequence[Standing],
    settings: LibrarySettings,
    config: TrailerConfig,
    site: Site,
    display: Display,
    deployment: str,
) -> Report:
    """One pass: through Prefect where a server is configured and something is to be made, else here.

    standings: how the films stand. deployment: that makes the films; "": one of this machine's own.
    """
    from flows.making import choose_prefect, require_server
    from flows.passes import LocalMaker, Row, make_all, printable
    from flows.server import prepare_prefect
    from pipeline.ledger import PENDING

    if deployment:
        require_server()
    pending = any(standing.fate in PENDING for standing in standings)
    if pending and choose_prefect(forced=bool(deployment)):
        prepare_prefect(os.environ)
        with nullcontext(deployment) if deployment else makes_films(settings.together, site) as maker:
            from flows.library import run_library

            return run_library(folder, settings, config, maker, say=display.say, bar=display.bar)

    def shown(row: Row, done: int, of: int) -> None:
        display.say(f"{done} of {of}: {printable(row.name)}: {row.fate.value}" + (f", {row.why}" if row.why else ""))

    report = make_all(folder, standings, LocalMaker(settings.together, display.say), shown)
    if pending:
        from flows.notify import notify
        from flows.passes import tabulate

        details = {"films": tabulate(report)}
        notify(f"Trailers: {report.folder.name}", report.summary, details, failed=bool(report.failed))
    return report


@contextmanager
def makes_films(together: int, site: Site) -> Iterator[str]:
    """The name of a deployment that makes films on this machine for as long as this lasts.

    Raises MissingDependencyError where the process that serves it does not come to it.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from pipeline.errors import MissingDependencyError
    from pipeline.programs import keep_running

    name, log = f"trailer-on-{socket.gethostname()}", site.work_dir / "prefect-films.log"
    with keep_running("flows.serve", [name, str(together)], log, {}) as lives, get_client(sync_client=True) as client:
        latest = time.monotonic() + START_SECONDS
        while True:
            try:
                client.read_deployment_by_name(f"make-trailer/{name}")
                break
            except ObjectNotFound:
                if time.monotonic() > latest or not lives():
                    raise MissingDependencyError(f"the films' own process did not start: {log} says why") from None
            time.sleep(0.5)
        yield f"make-trailer/{name}"


def serve(
    folder: Annotated[
        Path | None, typer.Option("--library", metavar="FOLDER", help="The library whose trailers are kept.")
    ] = None,
    film: Annotated[Path | None, typer.Option("--film", metavar="F", help="One film that --cron makes.")] = None,
    cron: Annotated[str, typer.Option("--cron", metavar="EXPR", help="When, as five cron fields: '0 2 * * *'.")] = "",
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="TZ", help="Of --cron, such as Europe/Berlin.")
    ] = "UTC",
    watch: Annotated[bool, typer.Option("--watch", help="Make a film's trailer as soon as it has arrived.")] = False,
    place: PlaceOption = None,
    tree: TreeOption = None,
    min_minutes: MinutesOption = None,
    settle: SettleOption = None,
    together: TogetherOption = None,
    retry_failed: RetryOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Serve the flows to Prefect: runs start from its UI, its API, a schedule, or when a film arrives.

    Goes on until stopped. Where no Prefect server is configured one is started on this machine's loopback, and ends with
    this command; the library has its first pass at once.
    """
    from flows.making import require_server
    from flows.server import find_server
    from pipeline.errors import InputError
    from pipeline.settings import Site, load_config

    if (cron or watch) and folder is None and film is None:
        raise InputError("--cron and --watch need --library FOLDER (or --cron --film F): what is to be made")
    settings = gather(place, tree, min_minutes, settle, together, retry_failed)
    wanted, site = load_config(config, assignments or []), Site()
    if folder is not None:  # before the seconds that a server takes
        from pipeline.library import check_library

        folder = check_library(folder, settings)
    from flows.own_server import own_server, use_server

    url = find_server(os.environ)
    if url is not None:
        require_server()
    with nullcontext(url) if url is not None else own_server(site) as address:
        use_server(str(address))
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "30")  # so that a run that died is noticed
        from flows.serve import Shelf, serve_flows

        shelf = None
        if folder is not None:
            shelf = Shelf(folder, settings, wanted, "" if film is not None else cron, timezone, watch)
        serve_flows(film, shelf, cron if film is not None else "", timezone, typer.echo)


def gather(
    place: str | None,
    tree: Path | None,
    min_minutes: float | None,
    settle: float | None,
    together: int | None,
    retry_failed: bool,
) -> LibrarySettings:
    """The settings of a library from the options that were given. Raises InputError for a value that cannot be used."""
    from pydantic import ValidationError

    from pipeline.errors import InputError
    from pipeline.library import LibrarySettings
    from pipeline.settings import tell_faults

    given = {
        "place": place or ("tree" if tree is not None else None),
        "tree": str(tree.absolute()) if tree is not None else None,
        "min_minutes": min_minutes,
        "settle_seconds": settle,
        "together": together,
        "retry_failed": retry_failed,
    }
    try:
        return LibrarySettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise InputError(f"library settings that cannot be used: {tell_faults(error)}") from error


def describe(report: Report, *, everything: bool) -> str:
    """What `library` prints for people: a line a film, without those that are up to date unless asked for, and the sum."""
    from flows.looking import draw_table
    from flows.passes import printable, tabulate
    from pipeline.ledger import Fate

    quiet = set() if everything else {Fate.current.value}
    rows = [
        {name: row[name] for name in ("film", "state", "why")} for row in tabulate(report) if row["state"] not in quiet
    ]
    return (f"{draw_table(rows)}\n" if rows else "") + printable(report.summary)
