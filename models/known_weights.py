"""Which weights the encoders and captioners can use, where they come from, and what lies in the folder of weights.

Nothing here touches the network: that is models/weights.py.

How the hashes are known: the files of `siglip2` and `dinov3` are pinned to one revision of their Hugging Face repository;
the SHA-256 of a large file is the one that its LFS pointer holds there, that of a small one was taken over the file. So are
those of `smolvlm` and `minicpm` pinned, but of their files only the hash of `smolvlm`'s weights is known here.
`imagebind_huge.pth` has no published hash: this is the one that independent projects recorded of the official file. Where
a table entry has no hash, the server's `x-linked-etag` (Hugging Face's SHA-256 of an LFS file) is expected; where there is
none either, the hash of what came is shown, recorded in FILE.sha256 and expected from then on (trust on first use).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import InputError

BLOCK = 1 << 22  # bytes read at once

State = Literal["present", "partly", "absent"]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file. url: where it is published. path: under the folder of weights. size: bytes, sha256: hex, where known."""

    url: str
    path: str
    size: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Weights:
    """What one encoder or captioner needs. files: the weights themselves first. purpose and licence: for people.

    non_commercial: the licence forbids commercial use. gated: page where the licence is accepted before anything can be
    downloaded, "" where nobody asks. converted: path under the folder of what is made of the first file, which is then
    removed; "" where the file is used as it is.
    """

    name: str
    purpose: str
    licence: str
    files: tuple[WeightFile, ...]
    non_commercial: bool = False
    gated: str = ""
    converted: str = ""

    @property
    def main(self) -> str:
        """Path under the folder of what the encoder loads."""
        return self.converted or self.files[0].path

    @property
    def size(self) -> int | None:
        """Bytes to download, None where that is not known of every file."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def _pinned(
    repository: str, revision: str, folder: str, files: Mapping[str, tuple[int | None, str | None]]
) -> tuple[WeightFile, ...]:
    base = f"https://huggingface.co/{repository}/resolve/{revision}"
    return tuple(
        WeightFile(f"{base}/{name}", f"{folder}/{name}", size, sha256) for name, (size, sha256) in files.items()
    )


UNKNOWN = (None, None)  # size and SHA-256 of a file of which a public source says neither

KNOWN = (
    Weights(
        "imagebind",
        "encoder of the paper: pictures and sound of a shot, 1024 wide",
        "CC-BY-NC-SA-4.0",
        (
            WeightFile(
                "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",
                "imagebind_huge.pth",
                4_803_584_173,
                "d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157",
            ),
        ),
        non_commercial=True,
        converted="imagebind_huge.safetensors",
    ),
    Weights(
        "siglip2",
        "encoder: pictures of a shot, beside text, 768 wide",
        "Apache-2.0",
        _pinned(
            "google/siglip2-base-patch16-224",
            "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
            "siglip2",
            {
                "model.safetensors": (
                    1_500_800_904,
                    "612923381c76ec5a9bed335d1c48827e3f2e506ac31b044b63b2031fadee6a0b",
                ),
                "config.json": (253, "fe8b5fe6d5734360678fd71c11c21e1ea3364bd8598d34295d9206335973ffd7"),
                "preprocessor_config.json": (394, "9b36b57ebaf20f09bf4c22100ccc21877ea6bfe5aead0c00c59f8af8ccefacfc"),
                "tokenizer.json": (34_363_039, "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322"),
            },
        ),
    ),
    Weights(
        "dinov3",
        "encoder: pictures of a shot, trained without text, 768 wide",
        "DINOv3 License",
        _pinned(
            "facebook/dinov3-vitb16-pretrain-lvd1689m",
            "5931719e67bbdb9737e363e781fb0c67687896bc",
            "dinov3",
            {
                "model.safetensors": (342_662_192, "9a21ac3df0c63839d62612dda6f454d816c25611cc7a52966ed5a5a94921dc8b"),
                "config.json": (744, "3c9cc418f4622fd6d5587fd142b6f3cba0ba6a69f67ced907d8b7f26118451ec"),
                "preprocessor_config.json": (585, "960c41d1f3a7778b936365769a2d90550b318a6c0a53a0296957adacfe5e0dd7"),
            },
        ),
        gated="https://huggingface.co/facebook/dinov3-vitb16-pretrain-lvd1689m",
    ),
    Weights(
        "smolvlm",
        "captioner: says in a sentence what a picture shows, 256 M parameters",
        "Apache-2.0",
        _pinned(
            "HuggingFaceTB/SmolVLM-256M-Instruct",
            "7e3e67edbbed1bf9888184d9df282b700a323964",
            "smolvlm",
            {
                "model.safetensors": (513_028_808, "74dea5904032e5ae99a2e0eef5179e6ac0f1dedc3ab0c7c2a5d4d387c843203e"),
                "config.json": UNKNOWN,
                "generation_config.json": UNKNOWN,
                "preprocessor_config.json": UNKNOWN,
                "processor_config.json": UNKNOWN,
                "chat_template.json": UNKNOWN,
                "tokenizer.json": UNKNOWN,
                "tokenizer_config.json": UNKNOWN,
            },
        ),
    ),
    Weights(
        "minicpm",
        "captioner: MiniCPM-V 4.6, 1.3 B parameters, the paper's has 8 B",
        "Apache-2.0",
        _pinned(
            "openbmb/MiniCPM-V-4.6",
            "8169864629825dc1d755a5aa1cd8b5935dcbc83f",
            "minicpm",
            {
                "model.safetensors": UNKNOWN,
                "config.json": UNKNOWN,
                "generation_config.json": UNKNOWN,
                "preprocessor_config.json": UNKNOWN,
                "chat_template.jinja": UNKNOWN,
                "tokenizer.json": UNKNOWN,
                "tokenizer_config.json": UNKNOWN,
            },
        ),
    ),
)


def find_weights(name: str) -> Weights:
    """The entry of that name. Raises InputError, with the names, where there is none."""
    for weights in KNOWN:
        if weights.name == name:
            return weights
    raise InputError(f"no weights {name!r}: there are {', '.join(weights.name for weights in KNOWN)}")


def state_of(weights: Weights, folder: Path) -> State:
    """What lies in the folder: sizes are compared, nothing is read."""
    if weights.converted and (folder / weights.converted).is_file():
        return "present"
    there = [_is_whole(folder / file.path, file.size) for file in weights.files]
    if all(there) and not weights.converted:
        return "present"
    begun = any(partial_of(folder / file.path).exists() or (folder / file.path).exists() for file in weights.files)
    return "partly" if begun else "absent"


def _is_whole(path: Path, size: int | None) -> bool:
    return path.is_file() and (size is None or path.stat().st_size == size)


def partial_of(path: Path) -> Path:
    """Where a file lies while it is being fetched."""
    return path.with_name(path.name + ".partial")


def digest_of(path: Path) -> Path:
    """Where the SHA-256 of a file is recorded."""
    return path.with_name(path.name + ".sha256")


def read_digest(path: Path) -> str | None:
    """The SHA-256 that is recorded beside a file, None where none is or what lies there is not one."""
    try:
        words = digest_of(path).read_text(encoding="utf-8").split()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return words[0].lower() if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) else None


def write_digest(path: Path, sha256: str) -> None:
    """Record a file's SHA-256 beside it, as `sha256sum --check` reads it."""
    partial = path.with_name(f"{path.name}.sha256.{os.getpid()}.partial")  # two processes may find that it is not there
    partial.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    partial.replace(digest_of(path))  # whole or not at all


def hash_file(path: Path, progress: Callable[[float], None] | None = None) -> str:
    """SHA-256 of a file, hex."""
    digest, done, size = hashlib.sha256(), 0, max(1, path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(min(1.0, done / size))
    return digest.hexdigest()


def known_digest(path: Path) -> str:
    """SHA-256 of a weights file: the recorded one while the file is no newer than the record, else computed and recorded.

    Raises InputError where the file is no longer the one that was recorded.
    """
    recorded = read_digest(path)
    if recorded is not None and path.stat().st_mtime_ns <= digest_of(path).stat().st_mtime_ns:
        return recorded
    computed = hash_file(path)
    check_recorded(path, computed)
    try:
        write_digest(path, computed)
    except OSError:
        return computed  # a folder that is only to be read: the next run computes it again
    return computed


def check_recorded(path: Path, computed: str) -> None:
    """Raises InputError, with both hashes, where another SHA-256 is recorded beside the file."""
    recorded = read_digest(path)
    if recorded is not None and recorded != computed:
        raise InputError(
            f"{path} has changed since it was fetched: its SHA-256 is {computed}, {digest_of(path).name} says {recorded}. "
            "Remove both and fetch it again, or remove the record if the change was meant"
        )
