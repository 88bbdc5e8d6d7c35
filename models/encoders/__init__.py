"""Encoders: the pictures and sound of a shot -> one unit vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ShotContent:
    """What an encoder may look at and listen to.

    pictures: BGR (h, w, 3) uint8 without black bars, one for each of the encoder's moments, in their order, or a single
    one (a still picture); where two moments have the same picture, it is the same object. changes (k, 3): mean difference
    between neighbouring pictures in hue, saturation, value, 0..255. sound (w, b): RMS per window and band, full scale = 1;
    w may be 0.
    """

    pictures: Sequence[NDArray[np.uint8]]
    changes: NDArray[np.float32]
    sound: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of an encoder without its weights.

    name: with version and variant, as it stands in keys, checkpoints and edit lists. width: length of a vector. licence: of
    the weights, where it restricts the use of what is made with them, else "".
    """

    name: str
    width: int
    licence: str = ""


class Encoder(Protocol):
    """weights: SHA-256 of the weights, "" without any. batch: shots that encode() is given at once to begin with; whoever
    calls it halves that when memory runs out. shortest: px of the shorter side that its pictures should have.
    """

    identity: Identity
    weights: str
    batch: int
    shortest: int

    def moments(self, seconds: float) -> Sequence[float]:
        """When to look at a shot of that many seconds: offsets from its start, in any order, at least one."""
        ...

    def prepare(self, shot: ShotContent) -> Any:
        """Bring a shot into the shape that encode() takes: work for the CPU, done while the batch before is encoded."""
        ...

    def encode(self, prepared: Sequence[Any]) -> NDArray[np.float32]:
        """What prepare() made of n shots -> unit rows (n, width)."""
        ...


class EncoderChoice(Protocol):
    """Which encoder, and how thoroughly it looks: pipeline.settings.FeatureSettings."""

    @property
    def encoder(self) -> str: ...

    @property
    def views(self) -> str:
        """ "official" or "one": for an encoder whose cost is that of its looks."""
        ...


class EncoderSite(Protocol):
    """Where weights lie and networks run: pipeline.settings.Site."""

    @property
    def weights_dir(self) -> Path: ...

    @property
    def device(self) -> str: ...


def identify_encoder(config: EncoderChoice) -> Identity:
    """What the encoder that is asked for is called, and how wide its vectors are; nothing is loaded."""
    match str(config.encoder):
        case "descriptor":
            from models.encoders.descriptor import IDENTITY

            return IDENTITY
        case "imagebind":
            from models.encoders.imagebind_input import IDENTITIES

            return IDENTITIES[_choose_views(config)]
        case "siglip2":
            from models.encoders import siglip2

            return siglip2.IDENTITY
        case "dinov3":
            from models.encoders import dinov3

            return dinov3.IDENTITY
        case name:
            raise ValueError(f"no encoder {name!r}")


def load_encoder(config: EncoderChoice, site: EncoderSite) -> Encoder:
    """The encoder that is asked for. Raises MissingDependencyError where its package or weights are absent."""
    from models.device import choose_device

    match str(config.encoder):
        case "descriptor":
            from models.encoders.descriptor import Descriptor

            return Descriptor()
        case "imagebind":
            from models.encoders.imagebind import ImageBind

            return ImageBind.open(site.weights_dir, choose_device(site.device), _choose_views(config))
        case "siglip2":
            from models.encoders.siglip2 import SigLIP2

            return SigLIP2(site.weights_dir, device=choose_device(site.device))
        case "dinov3":
            from models.encoders.dinov3 import DINOv3

            return DINOv3(site.weights_dir, device=choose_device(site.device))
        case name:
            raise ValueError(f"no encoder {name!r}")


def _choose_views(config: EncoderChoice) -> Literal["official", "one"]:
    match str(config.views):
        case "official":
            return "official"
        case "one":
            return "one"
        case views:
            raise ValueError(f"no views {views!r}")
