"""Choose where networks run."""

from __future__ import annotations

from pipeline.errors import InputError


def choose_device(wanted: str) -> str:
    """cpu or cuda: what is wanted, or for `auto` cuda where there is one.

    Raises InputError for a device that is not there.
    """
    import torch

    if wanted != "auto":
        if wanted != "cpu" and not (wanted.startswith("cuda") and torch.cuda.is_available()):
            raise InputError(f"TRAILER_DEVICE is {wanted!r}: auto, cpu, or cuda where there is a GPU")
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"
