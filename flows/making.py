"""Make one trailer for the command line: with Prefect where a server is configured, else without."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.server import find_server, prepare_prefect, server_answers
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.settings import TrailerConfig
    from pipeline.trailer import Outcome

log = logging.getLogger("trailer")


def choose_prefect(forced: bool) -> bool:
    """Whether to run through Prefect. forced: --prefect. Raises InputError when the server asked for does not answer."""
    url = find_server(os.environ)
    if url is None or server_answers(url):
        return forced or url is not None
    if forced:
        raise InputError(
            f"no Prefect server answers at {url}: start it with `prefect server start`, or leave out --prefect"
        )
    log.warning("the Prefect server at %s does not answer; running without it", url)
    return False


def make_one(
    film: Path,
    config: TrailerConfig,
    *,
    music: Path | None,
    out: Path | None,
    prefect: bool,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
    subtitles: Path | None = None,
    voice: Path | None = None,
) -> Outcome:
    """Make a trailer here. say: prints a line; bar: shows progress, by step and fraction. Raises TrailerError."""
    if choose_prefect(prefect):
        if find_server(os.environ) is None:
            from pipeline.media import check_readable

            check_readable(film, "film")  # before the seconds that a server takes
            say("starting a temporary Prefect server (half a minute; `prefect server start` runs one that stays)")
        prepare_prefect(os.environ)
        from flows.trailer import run_flow

        return run_flow(film, config, music=music, out=out, say=say, bar=bar, subtitles=subtitles, voice=voice)

    from flows.spreading import choose_spread
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site
    from pipeline.trailer import make_trailer

    site, runner = Site(), LocalRunner(say, bar)
    runner.spread = choose_spread(site, prefect=False)
    return make_trailer(film, config, site, runner, music=music, out=out, subtitles=subtitles, voice=voice)


def require_server() -> None:
    """Raise InputError unless a Prefect server is configured and answers; make ready for Prefect's import."""
    url = find_server(os.environ)
    if url is None:
        raise InputError(
            "no Prefect server is configured: run `prefect server start`, and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    if not server_answers(url):
        raise InputError(f"no Prefect server answers at {url}: start it with `prefect server start`")


def draw_demo(folder: Path, seed: int, *, say: Callable[[str], None], bar: Callable[[str, float], None]) -> Path:
    """The demo film in that folder; drawn where it is not there yet."""
    from pipeline.demo import make_demo_film

    film = folder / ("lantern.mp4" if seed == 0 else f"lantern-{seed}.mp4")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot use --out {folder}: {error.strerror}") from error
    if film.exists():
        say(f"film: reused, {film}")
    else:
        make_demo_film(film, seed=seed, progress=lambda share: bar("film", share))
        say(f"film: {film}")
    return film


def gather_settings(
    assignments: list[str],
    *,
    title: str | None = None,
    length: float | None = None,
    aspect: str | None = None,
    draft: bool = False,
    seed: int | None = None,
) -> list[str]:
    """The assignments, with the options that have a name of their own after them: they win."""
    gathered = list(assignments)
    if aspect is not None:
        gathered.append(f"video.aspect={json.dumps(aspect, ensure_ascii=False)}")
    if draft:
        gathered.append("video.draft=true")
    if title is not None:
        gathered.append(f"title={json.dumps(title, ensure_ascii=False)}")
    if length is not None:
        gathered.append(f"length={length}")
    if seed is not None:
        gathered.append(f"seed={seed}")
    return gathered


def summarise(outcome: Outcome) -> dict[str, Any]:
    """What `make --json` prints and the flow returns."""
    return {
        "trailer": str(outcome.trailer),
        "edit": str(outcome.edit),
        "report": str(outcome.report),
        "qc": str(outcome.qc),
        "duration": round(outcome.duration, 6),
        "slots": outcome.slots,
        "steps": [{"name": s.name, "seconds": round(s.seconds, 3), "reused": s.reused} for s in outcome.steps],
        "passed": outcome.passed,
        "failures": list(outcome.failures),
        "warnings": list(outcome.warnings),
    }


def describe(outcome: Outcome) -> str:
    """What `make` prints for people."""
    verdict = "QC passed" if outcome.passed else f"QC FAILED: {', '.join(outcome.failures)}"
    lines = [
        str(outcome.trailer),
        f"  {outcome.duration:.1f} s, {outcome.slots} shots, {verdict}",
        f"  report: {outcome.report}",
    ]
    if not outcome.passed:
        lines.append(f"  measured: {outcome.qc}")
    if outcome.warnings:
        count = len(outcome.warnings)
        lines.append(f"  {count} warning{'s' if count > 1 else ''}: above, and in the report")
    return "\n".join(lines)
