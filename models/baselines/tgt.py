"""Write a trailer shot by shot: an autoregressive encoder-decoder to compare SSMP with.

After TGT ("Towards Automated Movie Trailer Generation", CVPR 2024): an encoder reads the whole film, a decoder reads the
trailer so far and predicts the feature of its next shot. Slots are filled first to last and never taken back, which is
what SSMP's masked prediction does away with. So that a comparison isolates that, all else is SSMP's: blocks, weights at
birth, and the score, scale * cosine with the film's input features under cross-entropy. **Choices** that depart from
TGT: its regression of features (published with SSMP: far behind cross-entropy), its separate trailerness encoder with its
loss, and absolute position embeddings are left out.

Shapes: B batch, I film shots (padded), J slots (padded), D feature width, H heads, K = D / H. Lengths are (B,) integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.baselines.encoder import FilmEncoder, InScale, scale_tokens
from models.baselines.heuristics import check_slots
from models.ssmp.data import Batch
from models.ssmp.model import (
    SCALE_MAX,
    SCALE_MIN,
    Attention,
    FeedForward,
    RMSNorm,
    SSMPConfig,
    init_weights,
    mark_real,
    rotate,
    send,
    turn_angles,
)

Pair = tuple[Tensor, Tensor]  # keys and values (B, H, I, K), or cosines and sines (B * N, K / 2)


@dataclass(frozen=True)
class TGTConfig:
    """What a TGT is made of; fields as in SSMPConfig.

    layers: of the encoder, and as many again of the decoder. The default is half of SSMP's, so both systems are four
    layers deep and equally wide (the comparison of Table 11); cross-attention then makes TGT the larger of the two by a
    quarter (20 D^2 a pair of layers, SSMP 16 D^2: 41.9 against 33.6 million), an advantage that we give it.
    Raises ValueError where the numbers cannot make a model.
    """

    feature_dim: int = 1024
    ffn_dim: int = 2048
    heads: int = 4
    layers: int = 2
    initial_scale: float = 40.0
    in_scale: InScale = "none"

    def __post_init__(self) -> None:
        self.block_shape()

    def block_shape(self) -> SSMPConfig:
        """The same sizes as SSMP's blocks take them; it checks them."""
        return SSMPConfig(
            self.feature_dim, self.ffn_dim, self.heads, self.layers, self.initial_scale, in_scale=self.in_scale
        )


@dataclass(frozen=True, slots=True)
class ReadFilm:
    """A batch of films as the decoder asks them: made once, whatever the number of slots.

    unit_BID: input features, float32 rows of length 1 (or 0). lengths_B: true numbers of shots. real_BI: True = a real
    shot. seen: real_BI as attention's mask (B, 1, 1, I), None where nothing is padded. keys: of each decoder layer.
    """

    unit_BID: Tensor
    lengths_B: Tensor
    real_BI: Tensor
    seen: Tensor | None
    keys: tuple[Pair, ...]


class DecoderBlock(nn.Module):
    """h += causal MSA(RMSNorm(h)); h += cross-attention(RMSNorm(h), film); h += FFN(RMSNorm(h))."""

    def __init__(self, shape: SSMPConfig) -> None:
        super().__init__()
        self.heads, self.pairing = shape.heads, shape.pairing
        self.attention_norm = RMSNorm(shape.feature_dim)
        self.attention = Attention(shape)
        self.cross_attention_norm = RMSNorm(shape.feature_dim)
        self.cross_attention = Attention(shape)
        self.ffn_norm = RMSNorm(shape.feature_dim)
        self.ffn = FeedForward(shape)

    def read(self, states_BID: Tensor, turns: Pair) -> Pair:
        """The film's keys and values, (B, H, I, K) each."""
        attention = self.cross_attention
        return self._turn(attention.k(states_BID), turns), self._split(attention.v(states_BID))

    def forward(self, x_BJD: Tensor, turns: Pair, keys: Pair, seen: Tensor | None) -> Tensor:
        """The next hidden state. Padded slots need no mask: they come after all that a real slot may read."""
        attention, normed = self.attention, self.attention_norm(x_BJD)
        query, key = (self._turn(w(normed), turns) for w in (attention.q, attention.k))
        mixed = F.scaled_dot_product_attention(query, key, self._split(attention.v(normed)), is_causal=True)
        x = x_BJD + attention.out(mixed.transpose(1, 2).flatten(2))
        attention = self.cross_attention
        query = self._turn(attention.q(self.cross_attention_norm(x)), turns)
        mixed = F.scaled_dot_product_attention(query, *keys, attn_mask=seen)
        x = x + attention.out(mixed.transpose(1, 2).flatten(2))
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y

    def _split(self, x_BND: Tensor) -> Tensor:
        batch, rows, width = x_BND.shape
        return x_BND.reshape(batch, rows, self.heads, width // self.heads).transpose(1, 2)  # (B, H, N, K)

    def _turn(self, x_BND: Tensor, turns: Pair) -> Tensor:
        batch, rows, width = x_BND.shape
        turned = rotate(x_BND.reshape(batch * rows, self.heads, width // self.heads), *turns, self.pairing)
        return self._split(turned.reshape(batch, rows, width))


class TGT(nn.Module):
    """The network. Untrained at birth: seed torch before making one to get the same weights again.

    Positions are SSMP's, film 0..I-1 and slots I, I+1 ..., from the true I, in cross-attention too: what a slot asks of
    the film can depend on where a shot stands.
    """

    row = "tgt"  # its name in a table

    def __init__(self, config: TGTConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.block_shape()
        self.start_token = nn.Parameter(torch.randn(config.feature_dim) * 0.02)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.encoder = FilmEncoder(shape)
        self.decoder = nn.ModuleList(DecoderBlock(shape) for _ in range(config.layers))
        init_weights(
            self.decoder, 3 * config.layers
        )  # cross-attention's keys = queries: a slot finds the shot before it

    def forward(self, movie_BID: Tensor, trailer_BJD: Tensor, movie_lengths: Tensor, trailer_lengths: Tensor) -> Tensor:
        """Logits (B, J, I), float32, by teacher forcing: slot j has read rows 0..j-1 of trailer_BJD; -inf on padded shots.

        trailer_lengths is not read, since padding comes last. Logits of padded slots are numbers without meaning.
        """
        del trailer_lengths
        return self.score(trailer_BJD[:, :-1], self.read(movie_BID, movie_lengths))

    def scale(self) -> Tensor:
        """The factor from cosine to logit, within [1, 100]."""
        return self.log_scale.float().exp().clamp(SCALE_MIN, SCALE_MAX)

    def read(self, movie_BID: Tensor, movie_lengths: Tensor) -> ReadFilm:
        """Encode films (B, I, D)."""
        batch, n_shots, _ = movie_BID.shape
        device = movie_BID.device
        padded = min(movie_lengths.tolist()) < n_shots
        real_BI = mark_real(movie_lengths.tolist(), n_shots, device)
        states_BID = self.encoder(movie_BID, movie_lengths)
        turns = self._turns(torch.arange(n_shots, device=device).repeat(batch))
        return ReadFilm(
            F.normalize(movie_BID.float(), dim=-1),
            movie_lengths.to(device),
            real_BI,
            real_BI[:, None, None] if padded else None,
            tuple(cast(DecoderBlock, block).read(states_BID, turns) for block in self.decoder),
        )

    def score(self, trailer_BND: Tensor, film: ReadFilm) -> Tensor:
        """Logits (B, N + 1, I), float32: of the first slot, and of the slot after each of the N shots of a trailer."""
        batch, n_told, width = trailer_BND.shape
        device = trailer_BND.device
        start_B1D = self.start_token.to(trailer_BND.dtype).expand(batch, 1, width)
        x_BJD = scale_tokens(torch.cat((start_B1D, trailer_BND), dim=1), self.config.in_scale)
        turns = self._turns((film.lengths_B[:, None] + torch.arange(n_told + 1, device=device)).flatten())
        for block, keys in zip(self.decoder, film.keys, strict=True):
            x_BJD = block(x_BJD, turns, keys, film.seen)
        with torch.autocast(device.type, enabled=False):  # in bf16 a logit moves by 0.39 at scale 100
            cosines = F.normalize(x_BJD.float(), dim=-1) @ film.unit_BID.transpose(1, 2)
            return (cosines * self.scale()).masked_fill(~film.real_BI[:, None], float("-inf"))

    def _turns(self, position_T: Tensor) -> Pair:
        return turn_angles(position_T.float(), self.config.feature_dim // self.config.heads)

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(loss, what is right), scalars, summed over slots, by teacher forcing: cross-entropy, and best shots that are
        the true ones."""
        logits_BJI = self(batch.movie_BID, batch.trailer_BJD, batch.movie_lengths, batch.trailer_lengths)
        slots = batch.trailer_lengths.numpy()
        places = (np.arange(logits_BJI.shape[1]) < slots[:, None]).nonzero()
        b, j = (send(index, logits_BJI.device) for index in places)
        logits, labels = logits_BJI[b, j], batch.labels_BJ[b, j]
        return F.cross_entropy(logits, labels, reduction="sum"), (logits.detach().argmax(-1) == labels).sum()

    def fill(self, film_ID: NDArray[np.float32], n_slots: int) -> NDArray[np.int64]:
        """The trailer that the model writes for a film, (J,) int64: slot by slot the best shot that is not used yet.

        Runs where the model's weights are, in evaluation mode; same weights and film, same shots. Raises NoSolutionError
        where the film has fewer shots than slots.
        """
        check_slots(len(film_ID), n_slots)
        film_1ID = torch.from_numpy(np.ascontiguousarray(film_ID, dtype=np.float32)).to(self.log_scale.device)[None]
        shots: list[int] = []
        self.eval()
        with torch.inference_mode():
            film = self.read(film_1ID, torch.tensor([len(film_ID)]))
            for _ in range(n_slots):
                logits_I = self.score(film_1ID[:, shots], film)[0, -1]
                logits_I[shots] = float("-inf")
                shots.append(int(logits_I.argmax()))
        return np.array(shots, np.int64)
