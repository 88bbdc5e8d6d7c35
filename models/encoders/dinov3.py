"""Describe a shot by DINOv3, an image encoder that was trained without text (Siméoni et al., 2025).

facebook/dinov3-vitb16-pretrain-lvd1689m; the vector is the class token. Its preprocessor_config.json: resize to 224 x 224
without regard to the picture's shape, bilinear, no crop, mean and deviation of ImageNet. There the picture is brought to
0..1 before it is resized, here after: the difference is rounding to 1/255.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.encoders import Identity
from models.encoders.frames import SIZE, FrameEncoder

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY = Identity("dinov3-b16-224@1", 768, "DINOv3 License")


class DINOv3(FrameEncoder):
    """Pictures -> class tokens."""

    name = "dinov3"
    kind = "dinov3_vit"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(
        self, weights_dir: Path, *, device: str = "cpu", identity: Identity = IDENTITY, size: int = SIZE
    ) -> None:
        super().__init__(weights_dir, device=device, identity=identity, size=size)

    def _look(self, network: Any, pixels: Tensor) -> Tensor:
        seen: Tensor = network(pixel_values=pixels).pooler_output
        return seen
