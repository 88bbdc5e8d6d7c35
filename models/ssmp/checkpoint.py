"""Keep a trained model in a file, and refuse a file that is not one.

Two files with one stem: NAME.safetensors holds the weights, NAME.json says what they are and carries their SHA-256.
Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, cast, get_origin, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor

from models.ssmp.description import SCHEMA, check_encoder, check_name, check_schema, read_json
from models.ssmp.model import SSMP, SSMPConfig
from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.baselines.ranker import Ranker, RankerConfig
    from models.baselines.tgt import TGT, TGTConfig

Model: TypeAlias = "SSMP | TGT | Ranker"
Config: TypeAlias = "SSMPConfig | TGTConfig | RankerConfig"
Record = TypeVar("Record")
KINDS = ("ssmp", "tgt", "ranker")


@dataclass(frozen=True, slots=True)
class Card:
    """Where a model comes from: what it learned from, the command that made it, its seed, what it measured."""

    data: str
    command: str
    seed: int
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model. encoder: whose features it reads, such as "descriptor@1". sha256: of the weights file, hex."""

    model: Model
    encoder: str
    card: Card
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint(Loaded):
    """A loaded SSMP."""

    model: SSMP


def config_class(kind: str) -> type[Config]:
    """What describes a model of that kind."""
    match kind:
        case "ssmp":
            return SSMPConfig
        case "tgt":
            from models.baselines.tgt import TGTConfig

            return TGTConfig
        case "ranker":
            from models.baselines.ranker import RankerConfig

            return RankerConfig
        case _:
            raise ValueError(f"no kind of model {kind!r}: one of {', '.join(KINDS)}")


def kind_of(config: Config) -> str:
    """The kind of model that this describes."""
    return next(kind for kind in KINDS if type(config) is config_class(kind))


def build_model(config: Config) -> Model:
    """An untrained model of this description."""
    if isinstance(config, SSMPConfig):
        return SSMP(config)
    from models.baselines.ranker import Ranker
    from models.baselines.tgt import TGT, TGTConfig

    return TGT(config) if isinstance(config, TGTConfig) else Ranker(config)


def save_checkpoint(path: Path, model: Model, *, encoder: str, card: Card) -> str:
    """Write path (NAME.safetensors) and NAME.json beside it; each appears whole or not at all. Returns the SHA-256.

    Same weights, same bytes. The weights come first: between the two writes the old JSON does not match and is refused.
    """
    check_name(path)
    digest = write_tensors(path, {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()})
    about = {
        "schema": SCHEMA,
        "kind": kind_of(model.config),
        "config": asdict(model.config),
        "encoder": encoder,
        "card": asdict(card),
        "sha256": digest,
    }
    write_whole(path.with_suffix(".json"), (json.dumps(about, indent=1, allow_nan=False) + "\n").encode())
    return digest


def load_checkpoint(path: Path, *, encoder: str | None = None, device: str = "cpu") -> Checkpoint:
    """load_model for an SSMP: a baseline's checkpoint is refused."""
    loaded = load_model(path, encoder=encoder, device=device)
    if not isinstance(loaded.model, SSMP):
        raise InputError(f"checkpoint {path} is a baseline ({kind_of(loaded.model.config)}), not an SSMP")
    return Checkpoint(loaded.model, loaded.encoder, loaded.card, loaded.sha256)


def load_model(path: Path, *, encoder: str | None = None, device: str = "cpu") -> Loaded:
    """Read and verify a checkpoint: JSON, SHA-256, names, shapes, finite weights. The model is in evaluation mode.

    encoder: the features that will be shown to it; a checkpoint of another encoder is refused.
    Raises InputError, one line with the path, for a missing, corrupt, truncated, foreign or wrongly shaped file.
    """
    check_name(path)
    about_path = path.with_suffix(".json")
    about = read_json(about_path)
    try:
        check_schema(path, about)
        kind = config_class(cast(str, about.get("kind", "ssmp")))  # the first checkpoints did not say
        config: Config = _typed(kind, about["config"])
        card = _typed(Card, about["card"])
        made_for, digest = about["encoder"], about["sha256"]
        if not isinstance(made_for, str) or not isinstance(digest, str):
            raise TypeError("encoder and sha256 must be text")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a checkpoint description: {about_path}: {error}") from error
    if encoder is not None:
        check_encoder(path, made_for, encoder)
    tensors = read_tensors(path, digest)
    if config.layers > len(tensors):
        raise InputError(f"checkpoint {path} is not this model: {len(tensors)} tensors for {config.layers} layers")
    try:
        with torch.device("meta"):  # shapes only: a foreign description cannot make us allocate
            model = build_model(config)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise InputError(f"checkpoint {path} describes an impossible model: {config}") from error
    _compare(path, tensors, model.state_dict())
    model.load_state_dict(tensors, assign=True)
    if isinstance(model, SSMP):
        model.log_scale.requires_grad_(not model.config.literal)
    return Loaded(model.to(device).eval(), made_for, card, digest)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file whole; returns its SHA-256 in hex."""
    data = format_safetensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read a safetensors file that has this SHA-256, else InputError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise InputError(
            f"checkpoint {path} is damaged, or not the file that its .json describes: "
            f"sha256 {found[:12]}…, expected {sha256[:12]}…"
        )
    try:
        return parse_safetensors(data)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"not a safetensors file: {path}: {error}") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _typed(kind: type[Record], values: object) -> Record:
    """A dataclass from JSON, every field there, none unknown, each of its annotated type."""
    if not isinstance(values, dict):
        raise TypeError(f"{kind.__name__} must be an object")
    hints = get_type_hints(kind)
    if values.keys() != hints.keys():
        raise TypeError(f"{kind.__name__} needs the fields {sorted(hints)}, got {sorted(values)}")
    for name, hint in hints.items():
        wanted = {Literal: str, dict: dict}.get(get_origin(hint), hint)
        good = isinstance(values[name], (int, float) if wanted is float else wanted)
        if not good or (isinstance(values[name], bool) and wanted is not bool):
            raise TypeError(f"{name} must be {getattr(wanted, '__name__', wanted)}, got {values[name]!r}")
    return kind(**values)


def _compare(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Names, shapes, types and finite values, or InputError."""
    missing, foreign = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or foreign:
        raise InputError(f"checkpoint {path} is not this model: missing {missing[:3]}, unknown {foreign[:3]}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise InputError(
                f"checkpoint {path}: {name} is {tensor.dtype} {tuple(tensor.shape)}, "
                f"expected {expected[name].dtype} {tuple(expected[name].shape)}"
            )
        if not bool(tensor.isfinite().all()):
            raise InputError(f"checkpoint {path}: {name} holds values that are not finite")
