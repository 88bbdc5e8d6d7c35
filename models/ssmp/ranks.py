"""Share a training among several processes (torchrun), so that its numbers are those of one process.

Every process draws the same batch and the same mask, computes every world-th sample of it, and adds up gradients with the
others: apart from rounding, the training is the one that a single process would have made.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor

from pipeline.errors import InputError

PATIENCE = timedelta(hours=12)


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
    told = [
        os.environ.get(name, default) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))
    ]
    if not all(text.isdecimal() for text in told):
        raise InputError(
            f"WORLD_SIZE, RANK and LOCAL_RANK must be numbers, as torchrun sets them; got {', '.join(told)}"
        )
    world, rank, local = map(int, told)
    if world <= 1:
        return Ranks(), device
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    # the others wait while the first one measures
    card = torch.device(device) if on_gpu else None
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=card)
    return Ranks(rank, world), device


def leave_ranks(ranks: Ranks) -> None:
    """The end of what join_ranks began."""
    if ranks.world > 1:
        torch.distributed.destroy_process_group()
