"""Arithmetic and time of SSMP: what a forward pass costs, what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from models.ssmp.model import SSMPConfig


def count_flop(config: SSMPConfig, shots: int, slots: int) -> float:
    """Floating point operations of one forward pass: two a multiplication, attention's included, the rest is nothing.

    The last layer computes only the slots' rows past its attention.
    """
    tokens, width = shots + slots, config.feature_dim
    total = 0.0
    for layer in range(config.layers):
        rows = slots if layer == config.layers - 1 else tokens
        total += 2 * tokens * 3 * width**2  # queries, keys, values
        total += 4 * rows * tokens * width  # scores and mixing
        total += 2 * rows * (width**2 + 2 * width * config.ffn_dim)
    return total + 2 * slots * shots * width


def matrix_rate(device: str, dtype: torch.dtype, size: int) -> float:
    """Floating point operations a second of a large matrix product, the best of several tries."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return max(2 * size**3 / seconds(lambda: torch.nn.functional.linear(a, b), device) for _ in range(5))


def seconds(work: Callable[[], object], device: str) -> float:
    """Of one call, GPU work included."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started
