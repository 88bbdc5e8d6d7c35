"""Read a whole film: the encoder that the learned baselines share.

SSMP's blocks on the film's shots alone, so that what differs from SSMP is the system and not its parts.
Shapes: B batch, I film shots (padded), D feature width, T real shots of the batch, H heads, K = D / H.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.ssmp.model import Block, RMSNorm, SSMPConfig, init_weights, lay_out, turn_angles

InScale = Literal["none", "sqrtD"]


class FilmEncoder(nn.Module):
    """Pre-norm transformer over the shots of a film, full attention, rotary positions 0..I-1; its last norm is learned."""

    def __init__(self, shape: SSMPConfig) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.feature_dim)  # unlike SSMP's output, the states are read by weights, not by a cosine
        init_weights(self, 2 * shape.layers)

    def forward(self, movie_BID: Tensor, movie_lengths: Tensor) -> Tensor:
        """States of the shots, (B, I, D), zero on padding. Padding costs nothing and changes nothing."""
        batch, n_shots, width = movie_BID.shape
        layout = lay_out(movie_lengths.tolist(), [0] * batch, n_shots, 0, "true", movie_BID.device)
        x_TD = scale_tokens(movie_BID.flatten(0, 1)[layout.token_rows], self.shape.in_scale)
        turns = turn_angles(layout.position_T, width // self.shape.heads)
        for block in self.layers:
            x_TD = block(x_TD, turns, layout, slots_only=False)
        states_TD: Tensor = self.norm(x_TD)
        rows = states_TD.new_zeros(batch * n_shots, width)
        return rows.index_copy(0, layout.token_rows, states_TD).reshape(batch, n_shots, width)


def scale_tokens(x: Tensor, in_scale: InScale) -> Tensor:
    """Input tokens (..., D), at length sqrt(D) if in_scale is "sqrtD" (a zero vector stays zero)."""
    return F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) if in_scale == "sqrtD" else x
