"""Read what a checkpoint says of itself: without its weights, and without torch."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import InputError

SCHEMA = 1  # of the JSON: raised when a reader of today could not use it


def check_fit(path: Path, encoder: str) -> None:
    """Raises InputError, one line with the path, where this is no SSMP checkpoint that reads this encoder's features.

    Quick, so that long work is not begun in vain; load_model still holds the weights against what the JSON says.
    """
    check_name(path)
    about = read_json(path.with_suffix(".json"))
    check_schema(path, about)
    kind = about.get("kind", "ssmp")  # the first checkpoints did not say
    if kind != "ssmp":
        raise InputError(f"checkpoint {path} is a baseline ({kind}), not an SSMP")
    check_encoder(path, about.get("encoder"), encoder)
    if not path.is_file():
        raise InputError(f"cannot read checkpoint {path}: No such file or directory")


def check_name(path: Path) -> None:
    """Raises InputError where it does not end in .safetensors."""
    if path.suffix != ".safetensors":
        raise InputError(f"a checkpoint's name ends in .safetensors: {path}")


def check_schema(path: Path, about: dict[str, object]) -> None:
    """Raises InputError for a description that another version wrote."""
    about_path = path.with_suffix(".json")
    if "schema" not in about:
        raise InputError(f"not a checkpoint description: {about_path}: it has no schema")
    if about["schema"] != SCHEMA:
        raise InputError(f"checkpoint {about_path} has schema {about['schema']!r}, this version reads {SCHEMA}")


def check_encoder(path: Path, made_for: object, encoder: str) -> None:
    """Raises InputError where the checkpoint was made for another encoder's features."""
    if made_for != encoder:
        raise InputError(f"checkpoint {path} reads {made_for} features, not {encoder}: choose one trained on {encoder}")


def read_json(path: Path, what: str = "checkpoint description") -> dict[str, object]:
    """Read a JSON object, else InputError. what: it should have been."""
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {path}: {error}") from error
    if not isinstance(about, dict):
        raise InputError(f"not a {what}: {path}: expected a JSON object")
    return about
