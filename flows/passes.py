"""One pass over a library: what is to be made is made, film by film, and every film is accounted for. Knows no Prefect."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, TrailerError
from pipeline.ledger import PENDING, Fate, Kept, Ledger, Standing, keep_current, survey
from pipeline.library import LibrarySettings, find_films
from pipeline.programs import run_python
from pipeline.settings import Site, TrailerConfig, parse_config

# what a film's process may take: it has bounds of its own for each step; this one ends what hangs all the same
FILM_SECONDS, FILM_FACTOR = 3600.0, 2e-5  # s, and s a byte: 10 GB add 55 hours
JOB_MODULE = "flows.passes"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one film. seconds: that it took."""

    film: Path
    name: str
    fate: Fate
    why: str
    trailer: Path
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a pass, in the order of the library."""

    folder: Path
    rows: tuple[Row, ...]

    def count(self, *fates: Fate) -> int:
        return sum(row.fate in fates for row in self.rows)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.fate is Fate.failed]

    @property
    def summary(self) -> str:
        """In one line: "3 made, 1 failed (The Film: ...), 196 up to date"."""
        counted = Counter(row.fate for row in self.rows)
        parts = [f"{counted[fate]} {fate.value}" for fate in Fate if counted[fate]]
        text = ", ".join(parts) or "no films"
        if self.failed:
            first = self.failed[0]
            text += f"; {first.film.name}: {first.why}" + (
                f" (and {len(self.failed) - 1} more)" * (len(self.failed) > 1)
            )
        return text


Maker = Callable[[Sequence[Standing]], Iterator[tuple[Standing, Kept, float]]]


def look(folder: Path, settings: LibrarySettings, config: TrailerConfig, site: Site) -> list[Standing]:
    """How every film of a library stands. Raises InputError where the library cannot be read."""
    return survey(find_films(folder, settings), settings, config, Ledger(site.work_dir))


def make_all(folder: Path, standings: Sequence[Standing], make: Maker, tell: Callable[[Row, int, int], None]) -> Report:
    """Make what is to be made. make: yields each film as it is done. tell: a row, how many are done, and of how many."""
    rows = {standing.entry.path: make_row(standing) for standing in standings}
    pending = [standing for standing in standings if standing.fate in PENDING]
    for done, (standing, kept, seconds) in enumerate(make(pending), 1):
        row = make_row(standing, kept, seconds)
        rows[standing.entry.path] = row
        tell(row, done, len(pending))
    return Report(folder.absolute(), tuple(rows.values()))


def make_row(standing: Standing, kept: Kept | None = None, seconds: float = 0.0) -> Row:
    """A film as it stands, or what came of it."""
    entry = standing.entry
    fate, why = (kept.fate, kept.why) if kept is not None else (standing.fate, standing.why)
    return Row(entry.path, entry.name, fate, why, entry.out, seconds)


def tabulate(report: Report) -> list[dict[str, Any]]:
    """One row a film, for a table; those that want attention come first."""
    order = list(Fate)
    first = [Fate.failed, Fate.made, Fate.new, Fate.changed, Fate.busy]
    order = [*first, *(fate for fate in order if fate not in first)]
    return [
        {
            "film": printable(row.name),
            "state": row.fate.value,
            "why": printable(row.why),
            "seconds": round(row.seconds, 1),
            "file": printable(str(row.film)),
            "trailer": printable(str(row.trailer)),
        }
        for row in sorted(report.rows, key=lambda row: order.index(row.fate))
    ]


def printable(text: str) -> str:
    """A name can hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def tell(report: Report) -> dict[str, Any]:
    """What `trailer library --json` prints."""
    counts = {fate.name: report.count(fate) for fate in Fate}
    return {"folder": printable(str(report.folder)), "counts": counts, "films": tabulate(report)}


class LocalMaker:
    """Makes each film in a process of its own on this machine: what one of them does to itself is not another's."""

    def __init__(self, together: int, say: Callable[[str], None]) -> None:
        self._together = together
        self._say = say

    def __call__(self, pending: Sequence[Standing]) -> Iterator[tuple[Standing, Kept, float]]:
        with ThreadPoolExecutor(min(self._together, max(1, len(pending))), "film") as pool:
            jobs = {pool.submit(self._make, standing): standing for standing in pending}
            try:
                for job in as_completed(jobs):
                    kept, seconds = job.result()
                    yield jobs[job], kept, seconds
            finally:
                for job in jobs:
                    job.cancel()

    def _make(self, standing: Standing) -> tuple[Kept, float]:
        started, entry = time.monotonic(), standing.entry
        self._say(f"{printable(entry.name)}: {standing.fate.value}")
        request = {
            "film": os.fsencode(entry.path).hex(),
            "out": os.fsencode(entry.out).hex(),
            "config": standing.config.model_dump(mode="json"),
        }
        code, answer, log = run_python(
            JOB_MODULE,
            json.dumps(request),
            timeout=FILM_SECONDS + FILM_FACTOR * entry.size,
            on_line=lambda line: self._say(f"{printable(entry.name)}: {line}"),
        )
        try:
            told = json.loads(answer)
            kept = Kept(Fate(told["fate"]), told["why"])
        except (ValueError, KeyError):  # it did not come to an answer
            last = log.rpartition("\n")[2]
            kept = Kept(Fate.failed, f"its process ended with {code}" + (f": {last}" if last else ""))
        return kept, time.monotonic() - started


def do_job(request: str, say: Callable[[str], None], bar: Callable[[str, float], None]) -> dict[str, str]:
    """In a film's own process: make its trailer as the request says, and say what came of it."""
    from flows.spreading import choose_spread
    from pipeline.runner import LocalRunner
    from pipeline.trailer import Outcome, make_trailer

    asked = json.loads(request)
    film, out = (Path(os.fsdecode(bytes.fromhex(asked[name]))) for name in ("film", "out"))
    config, site = parse_config(asked["config"]), Site()

    def make() -> Outcome:
        runner = LocalRunner(say, bar)
        runner.spread = choose_spread(site, prefect=False)
        return make_trailer(film, config, site, runner, out=out)

    try:
        kept = keep_current(film, out, config, Ledger(site.work_dir), make)
    except TrailerError as error:
        return {"fate": Fate.failed, "why": error.headline}
    return {"fate": kept.fate, "why": kept.why}


def require_films(standings: Sequence[Standing], folder: Path) -> None:
    """Raise InputError where a library holds nothing that could be a film."""
    if not standings:
        raise InputError(f"no films under {folder} (extras, samples, trailers and hidden files are not looked at)")


def main() -> None:
    """The process of one film."""
    import logging
    import sys

    from flows.cli import DISK_FAULTS
    from flows.display import INTERRUPTED, Display, WarningLines

    logging.getLogger("trailer").addHandler(WarningLines(logging.WARNING))
    try:
        with Display() as display:
            answer = do_job(sys.stdin.read(), display.say, display.bar)
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        answer = {"fate": Fate.failed, "why": f"{error.strerror}: {error.filename or ''}".rstrip(": ")}
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
