"""Find ImageBind's weights, convert the published file once, and refuse what is not ImageBind.

In the weights' folder: imagebind_huge.pth as published (4.8 GB, six towers), or what is made of it, three towers in
imagebind_huge.safetensors with its SHA-256 in imagebind_huge.safetensors.sha256. Code in a file is never run.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.encoders.imagebind import HUGE, ImageBindConfig, Towers, use_bfloat16
from models.known_weights import digest_of, hash_file, known_digest, write_digest
from models.lock import hold_lock
from pipeline.errors import InputError, MissingDependencyError

log = logging.getLogger("trailer")

PUBLISHED, CONVERTED = "imagebind_huge.pth", "imagebind_huge.safetensors"
DROPPED = (["depth"], ["thermal"], ["imu"])  # towers: the second word of a name
MASK = "modality_preprocessors.text.mask"  # the one tensor with infinities
ZIP, OLD_PICKLE = b"PK\x03\x04", b"\x80"  # how torch's files begin, since 1.6 and before
MOST_NAMED = 3  # names in a message


def find_weights(weights_dir: Path) -> tuple[Path, str]:
    """The converted file in that folder and its SHA-256; made of the published file where only that lies there.

    Raises MissingDependencyError where neither does, InputError where the published file is no good.
    """
    converted, published = weights_dir / CONVERTED, weights_dir / PUBLISHED
    if not converted.is_file() and not published.is_file():
        raise MissingDependencyError(
            f"the weights of imagebind are not in {weights_dir}: `trailer weights fetch imagebind` (4.5 GB, CC-BY-NC-SA "
            f"4.0: non-commercial use only), or put {PUBLISHED} there"
        )
    if not converted.is_file():
        with hold_lock(_lock_of(converted)):
            if not converted.is_file():  # another process may have made it while we waited
                log.warning("converting %s, once: a minute or so, and 4.3 GB beside it", published)
                _convert(published, converted, HUGE)
    return converted, known_digest(converted)


def convert_checkpoint(source: Path, target: Path, *, config: ImageBindConfig = HUGE) -> str:
    """Write the vision, text and audio tensors of a published file as safetensors, float32; returns its SHA-256.

    The target appears whole or not at all, its SHA-256 after it. Tensors are read from the mapped file, one after the
    other. Raises InputError, one line, for a file that cannot be read, is damaged or is not ImageBind of those sizes.
    """
    with hold_lock(_lock_of(target)):
        return _convert(source, target, config)


def _convert(source: Path, target: Path, config: ImageBindConfig) -> str:
    published = _read_published(source)
    tensors = {name: tensor for name, tensor in published.items() if name.split(".")[1:2] not in DROPPED}
    _compare(source, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, _expect(config))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f"{source} is not ImageBind: {name} holds {tensor.dtype}")
        if name != MASK and not bool(tensor.isfinite().all()):
            raise InputError(f"{source} is damaged: {name} holds values that are not finite")
    if not torch.equal(tensors[MASK].float(), torch.full(tensors[MASK].shape, -torch.inf).triu(1)):
        raise InputError(f"{source} is not ImageBind: {MASK} does not hide what comes later")
    partial = target.with_name(target.name + ".partial")
    try:
        save_file({name: tensor.float().contiguous() for name, tensor in tensors.items()}, partial)
        partial.chmod(0o644)  # for whoever shares the folder; safetensors makes it this user's alone
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # what will be renamed is on the disk
        digest_of(target).unlink(missing_ok=True)  # an old one must not stand beside the new file
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {target}: {error}") from error
    digest = hash_file(target)
    write_digest(target, digest)
    return digest


def _lock_of(target: Path) -> Path:
    """Two processes that convert at once would write the same partial file."""
    return target.with_name(f"{target.name}.lock")


def load_imagebind(path: Path, *, device: str, config: ImageBindConfig = HUGE) -> Towers:
    """The network of a converted file, on cpu (float32, mapped: a tower is read when it is used) or cuda (bfloat16).

    Raises InputError, one line, for a file that cannot be read, is cut short or holds other tensors.
    """
    with torch.device("meta"):
        towers = Towers(config)
    if device != "cpu":
        use_bfloat16(towers)
    expected = towers.state_dict()
    try:
        with safe_open(path, framework="pt", device=device) as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no dict
            _compare(path, found, {name: tuple(tensor.shape) for name, tensor in expected.items()})
            tensors = {name: file.get_tensor(name).to(expected[name].dtype) for name in found}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"not a whole safetensors file: {path}: {error}: remove it, and convert or fetch again"
        ) from error
    towers.load_state_dict(tensors, assign=True)
    return towers.requires_grad_(False).eval()


def _read_published(source: Path) -> dict[str, Tensor]:
    """What torch.save wrote, mapped and not read. Only tensors and the usual containers are unpickled."""
    try:
        with source.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror or error}") from error
    if not head:
        raise InputError(f"{source} is empty: fetch it again")
    if head.lstrip()[:1] == b"<":
        raise InputError(f"{source} is a web page, not weights: the download went wrong")
    if not head.startswith((ZIP, OLD_PICKLE)):
        raise InputError(f"{source} is not a torch file: it begins with {head[:8]!r}")
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True, mmap=head.startswith(ZIP))
    except pickle.UnpicklingError as error:
        if re.search("Unsupported (global|class)|reduce for unrecognized", str(error)):
            raise InputError(
                f"{source} holds more than tensors, code perhaps: it was not run; fetch it again"
            ) from error
        raise InputError(f"{source} is not a torch file, or is damaged") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{source} is damaged or cut short: fetch it again ({reason})") from error
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise InputError(f"{source} is not ImageBind: it holds no plain table of tensors")
    return {str(name): tensor for name, tensor in loaded.items()}


def _expect(config: ImageBindConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Towers(config).state_dict().items()}


def _compare(path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Names and shapes, or InputError with the first few that differ."""
    missing, foreign = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or foreign:
        differences = [
            f"{len(names)} {what} ({', '.join(names[:MOST_NAMED])}{', …' if len(names) > MOST_NAMED else ''})"
            for what, names in (("missing", missing), ("unknown", foreign))
            if names
        ]
        raise InputError(f"{path} is not ImageBind: {' and '.join(differences)}")
    other = [f"{name} is {found[name]}, not {expected[name]}" for name in expected if found[name] != expected[name]]
    if other:
        raise InputError(f"{path} is not ImageBind of this size: {'; '.join(other[:MOST_NAMED])}")
