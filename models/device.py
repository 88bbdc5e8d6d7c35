"""Choose where networks run."""

from __future__ import annotations

import ctypes
import sys

from pipeline.errors import InputError

DRIVER = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}  # a machine without it has no GPU that torch could use


def choose_device(wanted: str) -> str:
    """cpu or cuda: what is wanted, or for `auto` cuda where there is one.

    Raises InputError for a device that is not there.
    """
    if wanted == "cpu":
        return wanted
    gpu = _has_driver() and _has_gpu()
    if wanted == "auto":
        return "cuda" if gpu else "cpu"
    if wanted.startswith("cuda") and gpu:
        return wanted
    raise InputError(f"TRAILER_DEVICE is {wanted!r}: auto, cpu, or cuda where there is a GPU")


def _has_driver() -> bool:
    """Spares machines without a GPU two seconds of importing torch where nothing else needs it."""
    try:
        ctypes.CDLL(DRIVER[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
