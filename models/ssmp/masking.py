"""Decide how much of a trailer is hidden in each training step, and which slots.

The self-paced schedule of SSMP (arXiv 2512.04426) and the four it is compared with. Every schedule has `rate`, the
share of slots to hide in the next step, and `update(accuracy) -> rate`, told the accuracy at the slots just hidden.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class Schedule(Protocol):
    """What every schedule can do."""

    @property
    def rate(self) -> float:
        """Share of slots to hide in the next step, 0..1."""

    def update(self, accuracy: float) -> float:
        """Move on by one step; returns the new rate."""


@dataclass(slots=True)
class SelfPaced:
    """Hide more as the model gets better.

    b <- mu_a a + (1 - mu_a) b; t~ <- mu_t t + (1 - mu_t) [t_min + (t_max - t_min) sigmoid(beta (b - 0.5))];
    t <- max(t, t~).

    As printed ("literal"), mu_a weighs the NEW accuracy, so 0.98 is almost no memory and the rate ratchets up on noise;
    "ema" reads it as the weight of the history. Published ablations cannot decide (docs/method.md section 3).
    accuracy and rate are the state, b_0 and t_0 = t_min at birth.
    """

    t_min: float = 0.1
    t_max: float = 1.0
    beta: float = 10.0
    mu_a: float = 0.98
    mu_t: float = 0.1
    convention: Literal["literal", "ema"] = "literal"
    accuracy: float = 0.0
    rate: float = field(default=math.nan)

    def __post_init__(self) -> None:
        _check_rates(self.t_min, self.t_max)
        if math.isnan(self.rate):
            self.rate = self.t_min

    def update(self, accuracy: float) -> float:
        weight = self.mu_a if self.convention == "literal" else 1 - self.mu_a
        self.accuracy = weight * accuracy + (1 - weight) * self.accuracy
        wanted = self.t_min + (self.t_max - self.t_min) / (1 + math.exp(-self.beta * (self.accuracy - 0.5)))
        self.rate = max(self.rate, self.mu_t * self.rate + (1 - self.mu_t) * wanted)
        return self.rate


@dataclass(slots=True)
class Linear:
    """From start to end in equal steps over `steps` training steps, blind to accuracy; up or down."""

    steps: int
    start: float = 0.1
    end: float = 1.0
    done: int = 0

    def __post_init__(self) -> None:
        _check_rates(min(self.start, self.end), max(self.start, self.end))

    @property
    def rate(self) -> float:
        return self.start + (self.end - self.start) * min(self.done, self.steps - 1) / max(self.steps - 1, 1)

    def update(self, accuracy: float) -> float:  # noqa: ARG002
        self.done += 1
        return self.rate


@dataclass(slots=True)
class RandomRate:
    """A fresh uniform rate in [t_min, t_max] each step, as in masked diffusion."""

    rng: np.random.Generator
    t_min: float = 0.1
    t_max: float = 1.0
    rate: float = field(init=False)

    def __post_init__(self) -> None:
        _check_rates(self.t_min, self.t_max)
        self.rate = float(self.rng.uniform(self.t_min, self.t_max))

    def update(self, accuracy: float) -> float:  # noqa: ARG002
        self.rate = float(self.rng.uniform(self.t_min, self.t_max))
        return self.rate


@dataclass(slots=True)
class FixedRate:
    """One rate for ever; 1.0 is one-shot prediction."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        _check_rates(self.rate, self.rate)

    def update(self, accuracy: float) -> float:  # noqa: ARG002
        return self.rate


ScheduleName = Literal["self_paced", "self_paced_ema", "linear_up", "linear_down", "random", "fixed"]


def make_schedule(
    name: ScheduleName, *, steps: int, rng: np.random.Generator, mu_a: float = 0.98, mu_t: float = 0.1
) -> Schedule:
    """A schedule for a training of `steps` steps, rates 0.1 to 1; "fixed" is rate 1. Only "random" draws from rng.

    mu_a, mu_t: of the self-paced ones.
    """
    match name:
        case "self_paced":
            return SelfPaced(mu_a=mu_a, mu_t=mu_t)
        case "self_paced_ema":
            return SelfPaced(mu_a=mu_a, mu_t=mu_t, convention="ema")
        case "linear_up":
            return Linear(steps)
        case "linear_down":
            return Linear(steps, start=1.0, end=0.1)
        case "random":
            return RandomRate(rng)
        case "fixed":
            return FixedRate()
    raise ValueError(f"unknown schedule {name!r}")


def sample_hidden(lengths_B: NDArray[np.int64], rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which slots to hide, (B, longest): True = hidden, replaced by the mask token. Padding is never hidden.

    Each real slot independently with probability rate; a sample that would hide none hides one, drawn evenly. At few
    slots that raises the rate (8 slots at 0.1: 0.154), which is why the loss divides by the rate that came out.
    """
    if lengths_B.min() < 1:
        raise ValueError("every sample needs at least one slot")
    real = np.arange(int(lengths_B.max())) < lengths_B[:, None]
    hidden: NDArray[np.bool_] = (rng.random(real.shape) < rate) & real
    spare = (rng.random(len(lengths_B)) * lengths_B).astype(np.int64)
    none = ~hidden.any(axis=1)
    hidden[none, spare[none]] = True
    return hidden


def _check_rates(t_min: float, t_max: float) -> None:
    if not 0 < t_min <= t_max <= 1:
        raise ValueError(f"mask rates must satisfy 0 < {t_min} <= {t_max} <= 1")
