"""Describe a shot by SigLIP 2, an image encoder that was trained beside text (Tschannen et al., 2025).

google/siglip2-base-patch16-224. Its preprocessor_config.json: resize to 224 x 224 without regard to the picture's shape,
bilinear, mean and deviation 0.5. To transformers the fixed-size checkpoints are of type `siglip`; those of type `siglip2`
(NaFlex) take pictures in another way, make other vectors, and are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.encoders import Identity
from models.encoders.frames import F32, SIZE, FrameEncoder
from pipeline.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor

IDENTITY = Identity("siglip2-base-224@1", 768)
TOKENIZER = "tokenizer.json"
PADDING, END = "<pad>", "<eos>"
TEXTS_AT_ONCE = 64


class SigLIP2(FrameEncoder):
    """Pictures and texts -> vectors of one space."""

    name = "siglip2"
    kind = "siglip"
    mean = std = (0.5, 0.5, 0.5)

    def __init__(
        self, weights_dir: Path, *, device: str = "cpu", identity: Identity = IDENTITY, size: int = SIZE
    ) -> None:
        super().__init__(weights_dir, device=device, identity=identity, size=size)

    def _look(self, network: Any, pixels: Tensor) -> Tensor:
        seen: Tensor = network.get_image_features(pixel_values=pixels).pooler_output
        return seen

    def encode_text(self, texts: Sequence[str]) -> F32:
        """n texts -> unit rows (n, width), to be compared with encode()'s by cosine.

        As it was trained: lower case, `<eos>` kept at the end of a text that is too long, padded with `<pad>` to the full
        length, padding attended to. Raises MissingDependencyError where the tokenizer is absent.
        """
        import numpy as np
        import torch
        from torch.nn.functional import normalize

        if not texts:
            return np.zeros((0, self.identity.width), np.float32)
        network = self._network()
        ids = torch.tensor(self._tokenize(texts, network.config.text_config.max_position_embeddings))
        with torch.inference_mode():
            rows = [
                normalize(network.get_text_features(input_ids=part.to(self._device)).pooler_output.float(), dim=-1)
                for part in torch.split(ids, TEXTS_AT_ONCE)
            ]
            told: F32 = torch.cat(rows).cpu().numpy()
        return told

    def _tokenize(self, texts: Sequence[str], length: int) -> list[list[int]]:
        from tokenizers import Tokenizer

        path = self._folder / TOKENIZER
        if not path.is_file():
            raise MissingDependencyError(
                f"the tokenizer of siglip2 is not in {self._folder}: `trailer weights fetch siglip2`"
            )
        try:
            tokenizer = Tokenizer.from_buffer(path.read_bytes())
        except ValueError as error:
            raise InputError(f"{path} is not the tokenizer of siglip2: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        padding, end = tokenizer.token_to_id(PADDING), tokenizer.token_to_id(END)
        if padding is None or end is None:
            raise InputError(f"{path} is not the tokenizer of siglip2: it has no {PADDING} or no {END}")
        rows = []
        for encoded in tokenizer.encode_batch([text.lower() for text in texts], add_special_tokens=False):
            kept = [*encoded.ids[: length - 1], end]
            rows.append(kept + [padding] * (length - len(kept)))
        return rows
