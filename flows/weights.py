"""The commands about weights: what is here, and fetch what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.display import UNUSABLE, Display, finish
from flows.options import JsonOption

if TYPE_CHECKING:
    from models.known_weights import Weights

LIST_EXAMPLES = """\b
Examples:
  trailer weights list
  TRAILER_WEIGHTS_DIR=/data/weights trailer weights list --json
"""

FETCH_EXAMPLES = """\b
Examples:
  trailer weights fetch siglip2
  trailer weights fetch imagebind --from /media/usb/imagebind_huge.pth
  trailer weights fetch siglip2 --from https://mirror.example/siglip2
  HF_TOKEN=... trailer weights fetch dinov3
"""

commands = typer.Typer(help="List and fetch the weights of stronger encoders and captioners.", rich_markup_mode=None)


@commands.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """List and fetch the weights of stronger encoders and captioners.

    Into TRAILER_WEIGHTS_DIR, ~/.cache/trailer/weights without it.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(UNUSABLE)


@commands.command("list", epilog=LIST_EXAMPLES)
def list_command(as_json: JsonOption = False) -> None:
    """Show which weights are known and which are here. Nothing is read through or fetched: `fetch` checks what is here."""
    from pipeline.settings import Site

    told = tell_weights(Site().weights_dir)
    finish(told if as_json else draw_weights(told))


@commands.command("fetch", epilog=FETCH_EXAMPLES)
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which weights; `trailer weights list` names them.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH-or-URL",
            help="A file, a folder, or a mirror's address, in place of the official one.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch weights, or check those that are here. Nothing else in trailer downloads anything.

    Each file is held against its SHA-256 before it gets its name. Broken off, the same command goes on where it stopped.
    Where a licence must be accepted first (dinov3), HF_TOKEN is the token of an account that has; it is sent to
    huggingface.co and nowhere else. Proxies are taken from the environment.
    """
    from pipeline.settings import Site

    with Display() as display:
        told = fetch(name, Site().weights_dir, source, os.environ.get("HF_TOKEN", "").strip(), display)
    finish(told if as_json else describe_fetched(told))


def tell_weights(folder: Path) -> dict[str, Any]:
    """What `weights list --json` prints."""
    from models.known_weights import KNOWN

    return {"weights_dir": str(folder), "weights": [_tell(weights, folder) for weights in KNOWN]}


def _tell(weights: Weights, folder: Path) -> dict[str, Any]:
    from models.known_weights import read_digest, state_of

    main = folder / weights.main
    return {
        "name": weights.name,
        "state": state_of(weights, folder),
        "bytes": weights.size,
        "licence": weights.licence,
        "non_commercial": weights.non_commercial,
        "gated": weights.gated or None,
        "path": str(main),
        "sha256": read_digest(main) if main.is_file() else None,
        "purpose": weights.purpose,
        "files": [
            {"url": file.url, "path": str(folder / file.path), "bytes": file.size, "sha256": file.sha256}
            for file in weights.files
        ],
    }


def draw_weights(told: dict[str, Any]) -> str:
    """The same for people."""
    from flows.looking import draw_table

    rows = []
    for one in told["weights"]:
        notes = ["non-commercial"] * one["non_commercial"] + ["ask first"] * bool(one["gated"])
        rows.append(
            {
                "name": one["name"],
                "state": one["state"],
                "size": _size(one["bytes"]),
                "licence": f"{one['licence']} ({', '.join(notes)})" if notes else one["licence"],
                "sha256": (one["sha256"] or "-")[:12],
                "for": one["purpose"],
                "where": one["path"],
            }
        )
    return draw_table(rows)


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def fetch(name: str, folder: Path, source: str | None, token: str, display: Display) -> dict[str, Any]:
    """What `weights fetch --json` prints. Raises as models.weights.fetch_weights does."""
    from models.known_weights import find_weights
    from models.weights import fetch_weights

    weights = find_weights(name)
    got = fetch_weights(
        weights,
        folder,
        source=source,
        token=token,
        convert=_convert_imagebind if weights.converted else None,
        say=display.say,
        progress=display.bar,
    )
    return {
        "name": name,
        "licence": weights.licence,
        "files": [
            {"path": str(one.path), "bytes": one.size, "sha256": one.sha256, "how": one.how, "checked": one.known}
            for one in got
        ],
    }


def _convert_imagebind(source: Path, target: Path) -> str:
    from models.encoders.imagebind_weights import convert_checkpoint  # brings torch, and few need it

    return convert_checkpoint(source, target)


def describe_fetched(told: dict[str, Any]) -> str:
    """The same for people."""
    against = {
        "table": "as expected",
        "server": "as the server said",
        "recorded": "as recorded",
        "first use": "not known before, recorded",
        "conversion": "recorded",
    }
    return "\n".join(
        f"{one['path']}\n  {one['how']}, {one['bytes']} bytes, SHA-256 {one['sha256']} ({against[one['checked']]})"
        for one in told["files"]
    )
