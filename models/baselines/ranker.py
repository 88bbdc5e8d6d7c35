"""Choose a trailer's shots, then order them: the selection-then-ranking idea that SSMP argues against.

After MMSC (IJCAI 2025): each film shot gets a score for being in the trailer, the top J are kept and then ranked. Here
one encoder reads the whole film, SSMP's blocks, and two weights read its states: is the shot in the trailer, and where.
No shot knows which others were chosen.

Shapes: B batch, I film shots (padded), J slots (padded), D feature width. Lengths are (B,) integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.baselines.encoder import FilmEncoder, InScale
from models.baselines.heuristics import check_slots
from models.ssmp.data import Batch
from models.ssmp.model import SSMPConfig, init_weights, mark_real


@dataclass(frozen=True)
class RankerConfig:
    """What a Ranker is made of; fields as in SSMPConfig, and the defaults have SSMP's depth, width and size.

    Raises ValueError where the numbers cannot make a model.
    """

    feature_dim: int = 1024
    ffn_dim: int = 2048
    heads: int = 4
    layers: int = 4
    in_scale: InScale = "none"

    def __post_init__(self) -> None:
        self.block_shape()

    def block_shape(self) -> SSMPConfig:
        """The same sizes as SSMP's blocks take them; it checks them."""
        return SSMPConfig(self.feature_dim, self.ffn_dim, self.heads, self.layers, in_scale=self.in_scale)


class Ranker(nn.Module):
    """The network. Untrained at birth: seed torch before making one to get the same weights again."""

    row = "ranker"  # its name in a table

    def __init__(self, config: RankerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FilmEncoder(config.block_shape())
        self.select = nn.Linear(config.feature_dim, 1, bias=False)
        self.place = nn.Linear(config.feature_dim, 1, bias=False)
        init_weights(self.select, 1)
        init_weights(self.place, 1)

    def forward(self, movie_BID: Tensor, movie_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(select, place), both (B, I) float32: the logit of being in the trailer, -inf on padded shots; and the place in
        the trailer, 0 first .. 1 last, to be compared within a film (on padding without meaning)."""
        select_BI, place_BI = self.score(movie_BID, movie_lengths)
        return select_BI, place_BI.sigmoid()

    def score(self, movie_BID: Tensor, movie_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As forward, the place as a logit: far from 0 a sigmoid in float32 would make different places equal."""
        states_BID = self.encoder(movie_BID, movie_lengths)
        select_BI, place_BI = (head(states_BID)[..., 0].float() for head in (self.select, self.place))
        real_BI = mark_real(movie_lengths.tolist(), movie_BID.shape[1], movie_BID.device)
        return select_BI.masked_fill(~real_BI, float("-inf")), place_BI

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(loss, what is right), scalars, summed over slots: a trailer's loss counts once for each of its slots.

        Loss: selection_loss + ranking_loss. Right: of the J shots of a film with the best select, those in its trailer.
        """
        select_BI, place_BI = self.score(batch.movie_BID, batch.movie_lengths)
        device, slots = select_BI.device, batch.trailer_lengths.tolist()
        real_BI = mark_real(batch.movie_lengths.tolist(), select_BI.shape[1], device)
        real_BJ = mark_real(slots, batch.labels_BJ.shape[1], device)
        chosen_BI = torch.zeros_like(select_BI).scatter_add(1, batch.labels_BJ, real_BJ.float()) > 0
        loss_B = selection_loss(select_BI, chosen_BI, real_BI) + ranking_loss(
            place_BI.gather(1, batch.labels_BJ), real_BJ
        )
        with torch.no_grad():
            best_BI = select_BI.argsort(dim=1, descending=True, stable=True)
            right = (chosen_BI.gather(1, best_BI) & mark_real(slots, select_BI.shape[1], device)).sum()
        return (loss_B * real_BJ.sum(1)).sum(), right

    def fill(self, film_ID: NDArray[np.float32], n_slots: int) -> NDArray[np.int64]:
        """The trailer of a film, (J,) int64: the J shots with the best select (ties: lowest), in the order of their places.

        Runs where the model's weights are, in evaluation mode; same weights and film, same shots. Raises NoSolutionError
        where the film has fewer shots than slots.
        """
        check_slots(len(film_ID), n_slots)
        film_1ID = torch.from_numpy(np.ascontiguousarray(film_ID, dtype=np.float32)).to(self.select.weight.device)[None]
        self.eval()
        with torch.inference_mode():
            select_I, place_I = (x[0].cpu().numpy() for x in self.score(film_1ID, torch.tensor([len(film_ID)])))
        chosen = np.sort(np.argsort(-select_I, kind="stable")[:n_slots])
        shots: NDArray[np.int64] = chosen[np.argsort(place_I[chosen], kind="stable")]
        return shots


def selection_loss(select_BI: Tensor, chosen_BI: Tensor, real_BI: Tensor) -> Tensor:
    """Class-balanced cross-entropy (B,): the shots in a trailer, few, weigh together what all others of the film do."""
    safe_BI = select_BI.masked_fill(~real_BI, 0.0)  # -inf there, and infinity times nothing is no number
    return 0.5 * (mean_where(F.softplus(-safe_BI), chosen_BI) + mean_where(F.softplus(safe_BI), real_BI & ~chosen_BI))


def ranking_loss(place_BJ: Tensor, real_BJ: Tensor) -> Tensor:
    """Mean of -log sigmoid(place of the later - place of the earlier) over pairs of slots of each trailer (RankNet), (B,).

    place_BJ: the logits of the trailer's shots, in its order. On planted trailers pairs put .92 of the shots into their
    slots where regression of the place put .60 (24 shots, 600 steps, one seed; LOG.md).
    """
    pair_BJJ = (real_BJ[:, None] & real_BJ[:, :, None]).triu(1)  # [j, k]: k after j
    ahead_BJJ = place_BJ[:, None] - place_BJ[:, :, None]
    return mean_where(F.softplus(-ahead_BJJ).flatten(1), pair_BJJ.flatten(1))


def mean_where(values_BN: Tensor, counted_BN: Tensor) -> Tensor:
    """Mean of the values that count, row by row (B,); 0 where none does."""
    return (values_BN * counted_BN).sum(1) / counted_BN.sum(1).clamp(min=1)
