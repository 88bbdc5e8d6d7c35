"""What a training minimises: SSMP's masked prediction, or a baseline's own loss.

B batch, I film shots, J slots; hidden True = the slot is to be predicted (for SSMP: replaced by the mask token).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.ssmp.data import Batch
from models.ssmp.masking import Schedule, sample_hidden
from models.ssmp.model import SSMP, send

Loss = Literal["cross_entropy", "mse"]


class Objective(Protocol):
    """What every objective can do. rate: share of slots that the next batch hides."""

    @property
    def rate(self) -> float: ...

    def draw(self, lengths_B: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which slots (B, J) count in the next batch."""
        ...

    def measure(self, batch: Batch, hidden_BJ: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """(sum of the loss, sum of what is right) over the slots that count; both scalars on the model's device."""
        ...

    def update(self, accuracy: float) -> None:
        """Told the accuracy of the batch, after the step."""
        ...


@dataclass(slots=True)
class MaskedPrediction:
    """SSMP's: hide slots at the schedule's rate and predict their shots from the rest.

    The published loss is (1 / rate) * sum over hidden slots of -log p / real slots in the batch. Training divides by the
    rate that came out (hidden / real), not the one asked for, which the slot that is always hidden would inflate: what
    remains is this sum over the number of hidden slots.
    """

    model: SSMP
    schedule: Schedule
    loss: Loss = "cross_entropy"

    @property
    def rate(self) -> float:
        return self.schedule.rate

    def draw(self, lengths_B: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
        return sample_hidden(lengths_B, self.schedule.rate, rng)

    def measure(self, batch: Batch, hidden_BJ: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        device = batch.movie_BID.device
        hidden = send(hidden_BJ, device)
        places = batch.movie_BID, batch.trailer_BJD, hidden, batch.movie_lengths, batch.trailer_lengths
        rows = hidden_BJ.nonzero()  # on the host: a GPU would have to be waited for
        b, j = (send(index, device) for index in rows)
        labels = batch.labels_BJ[b, j]
        if self.loss == "mse":
            out_ND = self.model.encode(*places)[b, j]
            logits_NI = self.model.compare(
                out_ND[:, None], batch.movie_BID[b], batch.movie_lengths[torch.from_numpy(rows[0])]
            )[:, 0]
            target_ND = self.model.scale_in(batch.movie_BID)[b, labels]
            total = (out_ND.float() - target_ND.float()).square().mean(-1).sum()
        else:
            logits_NI = self.model(*places)[b, j]
            total = F.cross_entropy(logits_NI, labels, reduction="sum")
        return total, (logits_NI.argmax(-1) == labels).sum()

    def update(self, accuracy: float) -> None:
        self.schedule.update(accuracy)


@dataclass(slots=True)
class WholeTrailer:
    """A baseline's: every slot of every trailer counts. score: batch -> (loss, what is right), summed over slots."""

    score: Callable[[Batch], tuple[Tensor, Tensor]]

    rate = 1.0

    def draw(self, lengths_B: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:  # noqa: ARG002
        real: NDArray[np.bool_] = np.arange(int(lengths_B.max())) < lengths_B[:, None]
        return real

    def measure(self, batch: Batch, hidden_BJ: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return self.score(batch)

    def update(self, accuracy: float) -> None:
        pass
