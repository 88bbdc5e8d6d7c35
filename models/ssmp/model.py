"""Score every film shot for every slot of a trailer.

SSMP (arXiv 2512.04426, equations 9-12): one transformer reads the film's shots and the trailer so far as one sequence,
hidden slots being a learnable mask token, and compares each slot's output with each film shot.

Shapes: B batch, I film shots (padded), J slots (padded), S = I + J, D feature width, H heads, K = D / H.
Lengths are (B,) integers, the TRUE numbers of shots and slots; rows beyond them are padding and change nothing.
`hidden_BJ` is True where a slot is hidden (replaced by the mask token).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

SCALE_MIN, SCALE_MAX = 1.0, 100.0  # docs/method.md section 2: the learnable scale stays inside
INIT_GAIN = (
    0.5  # weights at birth have deviation 0.5 / sqrt(inputs): GPT-2's 0.02 at width 625, and more at small width
)


@dataclass(frozen=True)
class SSMPConfig:
    """What an SSMP is made of. The defaults of the last five fields are the method's; the others exist to be compared.

    initial_scale: logits start as initial_scale * cosine. literal: the paper's plain softmax, scale 1 and not learned.
    positions: "true" film 0..I-1, then I..I+J-1; "restart" the trailer from 0; "stretch" slot j at (j + 0.5) * I / J;
    "none" no rotary embedding. pairing: which dimensions rotate together, k with k + K/2 ("half") or 2k with 2k + 1.
    in_scale: "sqrtD" brings every input token, the mask token too, to length sqrt(D). causal_trailer: a slot sees no
    later slot, and the film sees no slot.
    Raises ValueError where the numbers cannot make a model.
    """

    feature_dim: int = 1024
    ffn_dim: int = 2048
    heads: int = 4
    layers: int = 4
    initial_scale: float = 40.0  # 25 / sqrt(1 - 0.6): section 2, at mean cosine 0.6 between shots of a film
    literal: bool = False
    positions: Literal["true", "restart", "stretch", "none"] = "true"
    pairing: Literal["half", "interleaved"] = "half"
    in_scale: Literal["none", "sqrtD"] = "none"
    causal_trailer: bool = False

    def __post_init__(self) -> None:
        if min(self.feature_dim, self.ffn_dim, self.heads, self.layers) < 1:
            raise ValueError(f"every size must be at least 1: {self}")
        if self.feature_dim % (2 * self.heads):
            raise ValueError(f"feature_dim {self.feature_dim} must be a multiple of 2 * heads ({self.heads})")
        if not SCALE_MIN <= self.initial_scale <= SCALE_MAX:
            raise ValueError(f"initial_scale {self.initial_scale} is outside [{SCALE_MIN}, {SCALE_MAX}]")
        if self.positions not in ("true", "restart", "stretch", "none"):
            raise ValueError(f"unknown positions {self.positions!r}")
        if self.pairing not in ("half", "interleaved") or self.in_scale not in ("none", "sqrtD"):
            raise ValueError(f"unknown pairing {self.pairing!r} or in_scale {self.in_scale!r}")


PRESETS = {
    "paper": SSMPConfig(),
    "paper-5": SSMPConfig(layers=5),  # Table 11 of the supplement prefers five layers
    "small": SSMPConfig(feature_dim=128, ffn_dim=256, in_scale="sqrtD"),
}


class RMSNorm(nn.Module):
    """x / rms(x) * gain, computed in float32, eps 1e-6."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + 1e-6) * self.weight.float()).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with rotary positions on queries and keys (eq 10, plus the output projection)."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        dim = config.feature_dim
        self.heads = config.heads
        self.pairing = config.pairing
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x_BSD: Tensor, angles_BSK: Tensor | None, seen: Tensor | None, first: int) -> Tensor:
        """Attend from rows first.. of x_BSD to all of them. seen: broadcast to (B, H, rows, S), True = may be seen."""
        query = self._split(self.q(x_BSD[:, first:]))
        key, value = self._split(self.k(x_BSD)), self._split(self.v(x_BSD))
        if angles_BSK is not None:
            query, key = self._rotate(query, angles_BSK[:, first:]), self._rotate(key, angles_BSK)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, S, K)

    def _rotate(self, x_BHSK: Tensor, angles_BSK: Tensor) -> Tensor:
        x = x_BHSK.float()
        cos, sin = angles_BSK.cos().unsqueeze(1), angles_BSK.sin().unsqueeze(1)
        if self.pairing == "half":
            a, b = x.chunk(2, dim=-1)
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
        else:
            a, b = x[..., 0::2], x[..., 1::2]
            turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
        return turned.to(x_BHSK.dtype)


class FeedForward(nn.Module):
    """W_out SiLU(W_up x) (eq 11; the text says "gated", the equation does not, and the equation is followed)."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.feature_dim, config.ffn_dim, bias=False)
        self.out = nn.Linear(config.ffn_dim, config.feature_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(F.silu(self.up(x)))
        return y


class Block(nn.Module):
    """h' = h + MSA(RMSNorm(h)); h = h' + FFN(RMSNorm(h')) (eq 9)."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.feature_dim)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.feature_dim)
        self.ffn = FeedForward(config)

    def forward(self, x_BSD: Tensor, angles_BSK: Tensor | None, seen: Tensor | None, first: int) -> Tensor:
        """Rows first.. of the next hidden state; the rows before are read but not computed."""
        x = x_BSD[:, first:] + self.attention(self.attention_norm(x_BSD), angles_BSK, seen, first)
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y


class SSMP(nn.Module):
    """The network. Untrained at birth: seed torch before making one to get the same weights again."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.randn(config.feature_dim) * 0.02)
        start = 0.0 if config.literal else math.log(config.initial_scale)
        self.log_scale = nn.Parameter(torch.tensor(start), requires_grad=not config.literal)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = INIT_GAIN / math.sqrt(parameter.shape[1])
                writes = name.endswith("out.weight")  # to the residual stream: smaller, as in GPT-2
                nn.init.normal_(parameter, std=std / math.sqrt(2 * config.layers) if writes else std)
        with torch.no_grad():  # **choice**: keys are born equal to queries, so that like finds like from the first step
            for layer in self.layers:
                attention = cast(Block, layer).attention
                attention.k.weight.copy_(attention.q.weight)

    def forward(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """Logits (B, J, I), float32: scale * cosine of each slot's output with each film shot; -inf on padded shots.

        hidden_BJ: True = the slot is replaced by the mask token, and its row of trailer_BJD is not read.
        Logits of padded slots are numbers without meaning.
        """
        cosines = self.cosines(movie_BID, trailer_BJD, hidden_BJ, movie_lengths, trailer_lengths)
        padded = torch.arange(movie_BID.shape[1], device=movie_BID.device) >= movie_lengths[:, None]
        return (cosines * self.scale()).masked_fill(padded[:, None], float("-inf"))

    def scale(self) -> Tensor:
        """The factor from cosine to logit, within [1, 100]."""
        return self.log_scale.float().exp().clamp(SCALE_MIN, SCALE_MAX)

    def cosines(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """s_ji of eq 12, (B, J, I) float32, against the film features that came in. A zero vector has cosine 0."""
        out_BJD = self.encode(movie_BID, trailer_BJD, hidden_BJ, movie_lengths, trailer_lengths)
        with torch.autocast(movie_BID.device.type, enabled=False):  # in bf16 a logit moves by 0.39 at scale 100
            slots, shots = F.normalize(out_BJD.float(), dim=-1), F.normalize(movie_BID.float(), dim=-1)
            return slots @ shots.transpose(1, 2)

    def encode(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """Output states of the slots, (B, J, D). The last layer computes only these rows: exact, a fifth cheaper."""
        n_shots, n_slots = movie_BID.shape[1], trailer_BJD.shape[1]
        x = self.join(movie_BID, trailer_BJD, hidden_BJ)
        angles = self._angles(movie_lengths, trailer_lengths, n_shots, n_slots)
        seen = self._seen(movie_lengths, trailer_lengths, n_shots, n_slots)
        for number, block in enumerate(self.layers):
            last = number == len(self.layers) - 1
            first = n_shots if last else 0
            rows = seen[..., first:, :] if seen is not None and seen.shape[-2] > 1 else seen
            x = block(x, angles, rows, first)
        return x

    def join(self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor) -> Tensor:
        """The input sequence [M ; V^t], (B, S, D): hidden slots are the mask token."""
        slots = torch.where(hidden_BJ[..., None], self.mask_token.to(trailer_BJD.dtype), trailer_BJD)
        x = torch.cat((movie_BID, slots), dim=1)
        return F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) if self.config.in_scale == "sqrtD" else x

    def _angles(self, movie_lengths: Tensor, trailer_lengths: Tensor, n_shots: int, n_slots: int) -> Tensor | None:
        """Rotary angles (B, S, K / 2) in float32, from the true lengths: bf16 has 643 values for 2,076 positions."""
        if self.config.positions == "none":
            return None
        device = movie_lengths.device
        shot = torch.arange(n_shots, device=device, dtype=torch.float32).expand(len(movie_lengths), -1)
        slot = torch.arange(n_slots, device=device, dtype=torch.float32).expand(len(movie_lengths), -1)
        if self.config.positions == "true":
            slot = slot + movie_lengths[:, None]
        elif self.config.positions == "stretch":
            slot = (slot + 0.5) * movie_lengths[:, None] / trailer_lengths[:, None]
        half = self.config.feature_dim // self.config.heads // 2
        rates = 10000.0 ** (-torch.arange(half, device=device, dtype=torch.float32) / half)
        return torch.cat((shot, slot), dim=1)[..., None] * rates

    def _seen(self, movie_lengths: Tensor, trailer_lengths: Tensor, n_shots: int, n_slots: int) -> Tensor | None:
        """Which positions may be looked at, True = yes: (B, 1, 1, S), (B, 1, S, S) for a causal trailer, None = all."""
        device = movie_lengths.device
        real = torch.cat(
            (
                torch.arange(n_shots, device=device) < movie_lengths[:, None],
                torch.arange(n_slots, device=device) < trailer_lengths[:, None],
            ),
            dim=1,
        )[:, None, None]
        if self.config.causal_trailer:
            place = torch.arange(n_shots + n_slots, device=device)
            return real & ((place[None] <= place[:, None]) | (place[None] < n_shots))
        return None if bool(real.all()) else real  # without a mask the fast kernels apply


def predict_slots(
    model: SSMP, film_ID: NDArray[np.float32], *, scale: float | None = None
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """The `predict` that generate() wants, for one film: assignment (J,), -1 open -> probabilities (J, I).

    film_ID: features of the film's shots, unit rows. scale: softmax at this scale, not the trained one (section 2).
    Runs where the model's weights are, in evaluation mode; same weights and film, same numbers.
    """
    device = model.log_scale.device
    film = torch.from_numpy(np.ascontiguousarray(film_ID, dtype=np.float32)).to(device)
    n_shots = torch.tensor([len(film_ID)], device=device)

    def predict(assignment: NDArray[np.int64]) -> NDArray[np.float64]:
        chosen = torch.from_numpy(np.asarray(assignment, dtype=np.int64)).to(device)
        n_slots = torch.tensor([len(chosen)], device=device)
        with torch.inference_mode():
            model.eval()
            cosines = model.cosines(film[None], film[chosen.clamp(min=0)][None], (chosen < 0)[None], n_shots, n_slots)
            logits = cosines[0].double() * (float(model.scale()) if scale is None else scale)
        probabilities: NDArray[np.float64] = logits.softmax(dim=-1).cpu().numpy()
        return probabilities

    return predict
