"""Share a training among several processes (torchrun), so that its numbers are those of one process.

Every process draws the same batch and the same mask, computes every world-th sample of it, and adds up gradients with the
others: apart from rounding, the training is the one that a single process would have made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ranks:
    """rank: number of this process, from 0; world: how many there are."""

    rank: int = 0
    world: int = 1

    @property
    def mine(self) -> slice:
        """Which samples of a batch are this process's."""
        return slice(self.rank, None, self.world)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.world == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.reshape(-1) for part in parts])  # one message, not one a tensor
        torch.distributed.all_reduce(flat)
        for part, total in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(total.view_as(part))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()


def join_ranks(device: str) -> tuple[Ranks, str]:
    """(this process among those that torchrun started, its device); alone, and the same device, where it did not."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks(), device
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    return Ranks(int(os.environ["RANK"]), world), device


def leave_ranks(ranks: Ranks) -> None:
    """The end of what join_ranks began."""
    if ranks.world > 1:
        torch.distributed.destroy_process_group()
