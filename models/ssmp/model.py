"""Score every film shot for every slot of a trailer.

SSMP (arXiv 2512.04426, equations 9-12): one transformer reads the film's shots and the trailer so far as one sequence,
hidden slots being a learnable mask token, and compares each slot's output with each film shot.

Shapes: B batch, I film shots (padded), J slots (padded), S = I + J, D feature width, H heads, K = D / H.
Lengths are (B,) integers, the TRUE numbers of shots and slots; rows beyond them are padding and change nothing.
`hidden_BJ` is True where a slot is hidden (replaced by the mask token).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the real tokens of a padded batch lie, once they are packed: sample after sample, film before trailer.

    shots, slots: true lengths of each sample. token_rows (T,): rows of the flattened (B * S, D) batch that are real,
    in packed order. slot_rows (sum of slots,): which packed tokens are slots. out_rows (sum of slots,): where those stand
    in the flattened (B * J, D). position_T (T,) float32: rotary position. edges, slot_edges (B + 1,) int32: where each
    sample begins among the tokens, and among the slots.
    """

    shots: tuple[int, ...]
    slots: tuple[int, ...]
    token_rows: Tensor
    slot_rows: Tensor
    out_rows: Tensor
    position_T: Tensor
    edges: Tensor
    slot_edges: Tensor

    @property
    def totals(self) -> tuple[int, ...]:
        return tuple(i + j for i, j in zip(self.shots, self.slots, strict=True))


def lay_out(
    shots: Sequence[int], slots: Sequence[int], n_shots: int, n_slots: int, positions: str, device: torch.device
) -> Layout:
    """The layout of a batch padded to n_shots and n_slots. Built on the host and sent at once: a GPU is not waited for."""
    tokens, slot_rows, out_rows, position = [], [], [], []
    first = 0
    for number, (i, j) in enumerate(zip(shots, slots, strict=True)):
        row = number * (n_shots + n_slots)
        tokens += [np.arange(row, row + i), np.arange(row + n_shots, row + n_shots + j)]
        slot_rows.append(np.arange(first + i, first + i + j))
        out_rows.append(np.arange(number * n_slots, number * n_slots + j))
        first += i + j
        place = np.arange(j, dtype=np.float32)
        if positions == "true":
            place += np.float32(i)
        elif positions == "stretch":
            place = (place + np.float32(0.5)) * np.float32(i) / np.float32(j)
        position += [np.arange(i, dtype=np.float32), place]
    return Layout(
        tuple(shots),
        tuple(slots),
        send(np.concatenate(tokens), device),
        send(np.concatenate(slot_rows), device),
        send(np.concatenate(out_rows), device),
        send(np.concatenate(position), device),
        send(np.cumsum((0, *(i + j for i, j in zip(shots, slots, strict=True))), dtype=np.int32), device),
        send(np.cumsum((0, *slots), dtype=np.int32), device),
    )


def send(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array as a tensor on a device. From pinned memory, so that a GPU which is still at work is not waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def mark_real(lengths: Sequence[int], size: int, device: torch.device) -> Tensor:
    """(B, size) bool: True = a real row, False = padding."""
    return send(np.arange(size) < np.asarray(lengths)[:, None], device)


def flash_fits(query: Tensor) -> bool:
    """Whether the variable-length flash kernel takes these heads on this card (its own conditions)."""
    head = query.shape[-1]
    half = query.dtype in (torch.bfloat16, torch.float16)
    return query.is_cuda and half and head <= 256 and head % 8 == 0 and torch.cuda.get_device_capability() >= (8, 0)


def attend(
    query_QHK: Tensor, key_THK: Tensor, value_THK: Tensor, layout: Layout, *, slots_only: bool, causal_trailer: bool
) -> Tensor:
    """Attention within each sample of a packed batch, (Q, H, K). Padding does not exist here, so it costs nothing.

    slots_only: the queries are the slots, else all tokens. Three ways to the same numbers: one call where all samples
    are alike, a variable-length flash kernel on a GPU in half precision, else one call a sample.
    """
    lengths = layout.slots if slots_only else layout.totals
    alike = len(set(layout.shots)) == len(set(layout.slots)) == 1
    if alike and not causal_trailer:
        q, k, v = (
            x.reshape(len(layout.shots), -1, *x.shape[1:]).transpose(1, 2) for x in (query_QHK, key_THK, value_THK)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
    if not causal_trailer and flash_fits(query_QHK):
        from torch.nn.attention.varlen import varlen_attn

        edges = layout.slot_edges if slots_only else layout.edges
        made = varlen_attn(query_QHK, key_THK, value_THK, edges, layout.edges, max(lengths), max(layout.totals))
        return cast(Tensor, made)
    parts = []
    queries = torch.split(query_QHK, list(lengths))
    keys, values = (torch.split(x, list(layout.totals)) for x in (key_THK, value_THK))
    for query, key, value, n_shots in zip(queries, keys, values, layout.shots, strict=True):
        seen = None
        if causal_trailer:
            place = torch.arange(len(key), device=key.device)
            seen = ((place[None] <= place[:, None]) | (place[None] < n_shots))[-len(query) :]
        q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
        parts.append(F.scaled_dot_product_attention(q, k, v, attn_mask=seen)[0].transpose(0, 1))
    return torch.cat(parts)


def turn_angles(position_T: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, (T, K / 2), float32: bf16 has 643 values for 2,076 positions."""
    half = head_dim // 2
    rates = 10000.0 ** (-torch.arange(half, device=position_T.device, dtype=torch.float32) / half)
    angles = position_T[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x_THK: Tensor, cos_TK: Tensor, sin_TK: Tensor, pairing: str) -> Tensor:
    """Rotary positions: turn each pair of dimensions by its angle; cos and sin are (T, K / 2), float32."""
    x, cos, sin = x_THK.float(), cos_TK.unsqueeze(1), sin_TK.unsqueeze(1)
    if pairing == "half":
        a, b = x.chunk(2, dim=-1)
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
    else:
        a, b = x[..., 0::2], x[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)
    return turned.to(x_THK.dtype)


class Attention(nn.Module):
    """Weights of multi-head attention (eq 10, plus the output projection)."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        dim = config.feature_dim
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))


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
    """h' = h + MSA(RMSNorm(h)); h = h' + FFN(RMSNorm(h')) (eq 9), on packed tokens.

    What is done token by token stands in two functions, `before` and `after` the attention, so that both can be compiled.
    """

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        self.heads, self.pairing, self.causal_trailer = config.heads, config.pairing, config.causal_trailer
        self.attention_norm = RMSNorm(config.feature_dim)
        self.attention = Attention(config)
        self.ffn_norm = RMSNorm(config.feature_dim)
        self.ffn = FeedForward(config)
        self.before: Callable[..., tuple[Tensor, Tensor, Tensor]] = self._before
        self.after: Callable[[Tensor, Tensor], Tensor] = self._after

    def forward(self, x_TD: Tensor, turns: tuple[Tensor, Tensor] | None, layout: Layout, *, slots_only: bool) -> Tensor:
        """The next hidden state of all tokens, or of the slots alone."""
        query, key, value = self.before(x_TD, turns)
        if slots_only:
            x_TD, query = x_TD[layout.slot_rows], query[layout.slot_rows]
        mixed = attend(query, key, value, layout, slots_only=slots_only, causal_trailer=self.causal_trailer)
        return self.after(x_TD, mixed)

    def _before(self, x_TD: Tensor, turns: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        normed = self.attention_norm(x_TD)
        attention = self.attention
        query, key, value = (
            w(normed).reshape(len(x_TD), self.heads, -1) for w in (attention.q, attention.k, attention.v)
        )
        if turns is not None:
            query, key = rotate(query, *turns, self.pairing), rotate(key, *turns, self.pairing)
        return query, key, value

    def _after(self, x_TD: Tensor, mixed_THK: Tensor) -> Tensor:
        x = x_TD + self.attention.out(mixed_THK.flatten(1))
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y


def init_weights(module: nn.Module, writes: int) -> None:
    """Draw a network's matrices at birth. writes: how many layers add to its residual stream; those weights are smaller."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            std = INIT_GAIN / math.sqrt(parameter.shape[1])
            adds = name.endswith("out.weight")  # to the residual stream: smaller, as in GPT-2
            nn.init.normal_(parameter, std=std / math.sqrt(writes) if adds else std)
    with torch.no_grad():  # **choice**: keys are born equal to queries, so that like finds like from the first step
        for part in module.modules():
            if isinstance(part, Attention):
                part.k.weight.copy_(part.q.weight)


class SSMP(nn.Module):
    """The network. Untrained at birth: seed torch before making one to get the same weights again."""

    def __init__(self, config: SSMPConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.randn(config.feature_dim) * 0.02)
        start = 0.0 if config.literal else math.log(config.initial_scale)
        self.log_scale = nn.Parameter(torch.tensor(start), requires_grad=not config.literal)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        init_weights(self, 2 * config.layers)

    def forward(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """Logits (B, J, I), float32: scale * cosine of each slot's output with each film shot; -inf on padded shots.

        hidden_BJ: True = the slot is replaced by the mask token, and its row of trailer_BJD is not read.
        Logits of padded slots are numbers without meaning.
        """
        out_BJD = self.encode(movie_BID, trailer_BJD, hidden_BJ, movie_lengths, trailer_lengths)
        return self.compare(out_BJD, movie_BID, movie_lengths)

    def compare(self, out_BJD: Tensor, movie_BID: Tensor, movie_lengths: Tensor) -> Tensor:
        """Logits (B, J, I) of output states against film shots, -inf on padded shots."""
        real_BI = mark_real(movie_lengths.tolist(), movie_BID.shape[1], movie_BID.device)
        return (cosine(out_BJD, movie_BID) * self.scale()).masked_fill(~real_BI[:, None], float("-inf"))

    def scale(self) -> Tensor:
        """The factor from cosine to logit, within [1, 100]."""
        return self.log_scale.float().exp().clamp(SCALE_MIN, SCALE_MAX)

    def cosines(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """s_ji of eq 12, (B, J, I) float32, against the film features that came in. A zero vector has cosine 0."""
        return cosine(self.encode(movie_BID, trailer_BJD, hidden_BJ, movie_lengths, trailer_lengths), movie_BID)

    def encode(
        self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor
    ) -> Tensor:
        """Output states of the slots, (B, J, D), zero on padding. The last layer computes only these: a fifth cheaper."""
        n_shots, n_slots = movie_BID.shape[1], trailer_BJD.shape[1]
        device = movie_BID.device
        lengths = movie_lengths.tolist(), trailer_lengths.tolist()  # no waiting where the lengths lie on the host
        layout = lay_out(*lengths, n_shots, n_slots, self.config.positions, device)
        x_TD = self.join(movie_BID, trailer_BJD, hidden_BJ).flatten(0, 1)[layout.token_rows]
        turns = self._turns(layout.position_T)
        for number, block in enumerate(self.layers):
            x_TD = block(x_TD, turns, layout, slots_only=number == len(self.layers) - 1)
        if all(j == n_slots for j in layout.slots):
            return x_TD.reshape(-1, n_slots, x_TD.shape[1])
        out = x_TD.new_zeros(len(layout.slots) * n_slots, x_TD.shape[1])
        return out.index_copy(0, layout.out_rows, x_TD).reshape(-1, n_slots, x_TD.shape[1])

    def join(self, movie_BID: Tensor, trailer_BJD: Tensor, hidden_BJ: Tensor) -> Tensor:
        """The input sequence [M ; V^t], (B, S, D): hidden slots are the mask token."""
        slots = torch.where(hidden_BJ[..., None], self.mask_token.to(trailer_BJD.dtype), trailer_BJD)
        return self.scale_in(torch.cat((movie_BID, slots), dim=1))

    def scale_in(self, x: Tensor) -> Tensor:
        """Features as tokens: of length sqrt(D) where the config says so."""
        return F.normalize(x, dim=-1) * math.sqrt(x.shape[-1]) if self.config.in_scale == "sqrtD" else x

    def _turns(self, position_T: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.config.positions == "none":
            return None
        return turn_angles(position_T, self.config.feature_dim // self.config.heads)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Fuse what is done token by token (norms, rotations, activations). Pays on a GPU; lengths may change freely."""
        for layer in self.layers:
            block = cast(Block, layer)
            block.before = torch.compile(block._before, dynamic=True, backend=backend)
            block.after = torch.compile(block._after, dynamic=True, backend=backend)


def cosine(a_BJD: Tensor, b_BID: Tensor) -> Tensor:
    """Cosines (B, J, I), float32 whatever is around: in bf16 a logit moves by 0.39 at scale 100. Zero vectors give 0."""
    with torch.autocast(a_BJD.device.type, enabled=False):
        return F.normalize(a_BJD.float(), dim=-1) @ F.normalize(b_BID.float(), dim=-1).transpose(1, 2)


def predict_slots(
    model: SSMP, film_ID: NDArray[np.float32], *, scale: float | None = None, bfloat16: bool = False
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """The `predict` that generate() wants, for one film: assignment (J,), -1 open -> probabilities (J, I).

    film_ID: features of the film's shots, unit rows. scale: softmax at this scale, not the trained one (section 2).
    bfloat16: matrix products in half precision; norms, rotations, cosines and softmax stay in float32.
    Runs where the model's weights are, in evaluation mode; same weights and film, same numbers.
    """
    device = model.log_scale.device
    film = torch.from_numpy(np.ascontiguousarray(film_ID, dtype=np.float32)).to(device)
    n_shots = torch.tensor([len(film_ID)])

    def predict(assignment: NDArray[np.int64]) -> NDArray[np.float64]:
        chosen = torch.from_numpy(np.asarray(assignment, dtype=np.int64)).to(device)
        n_slots = torch.tensor([len(chosen)])
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            model.eval()
            cosines = model.cosines(film[None], film[chosen.clamp(min=0)][None], (chosen < 0)[None], n_shots, n_slots)
            logits = cosines[0].double() * (float(model.scale()) if scale is None else scale)
        probabilities: NDArray[np.float64] = logits.softmax(dim=-1).cpu().numpy()
        return probabilities

    return predict
