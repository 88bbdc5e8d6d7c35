"""Encoders: the pictures and sound of a shot -> one unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ShotContent:
    """What an encoder may look at and listen to.

    pictures: BGR (h, w, 3) uint8, in time order, at least one. changes (k, 3): mean difference between neighbouring
    pictures in hue, saturation, value, 0..255. sound (w, b): RMS per window and band, full scale = 1; w may be 0.
    """

    pictures: Sequence[NDArray[np.uint8]]
    changes: NDArray[np.float32]
    sound: NDArray[np.float32]


class Encoder(Protocol):
    """name: with its version, as it stands in keys, checkpoints and edit lists; width: length of a vector."""

    name: str
    width: int

    def encode(self, shot: ShotContent) -> NDArray[np.float32]:
        """One shot -> unit vector (width,)."""
        ...


def load_encoder(name: str) -> Encoder:
    """The encoder of that name. Raises ValueError for one that does not exist."""
    match name:
        case "descriptor":
            from models.encoders.descriptor import Descriptor

            return Descriptor()
        case _:
            raise ValueError(f"no encoder {name!r}")
