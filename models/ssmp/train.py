"""Train SSMP on films and their trailers.

The recipe of arXiv 2512.04426 (docs/method.md section 3): hide some slots of a real trailer, predict their shots from
the film and the slots that are left, hide more as the model gets better. Read from top to bottom: loss, one step, the
whole training. B batch, I film shots, J slots; hidden True = the slot is replaced by the mask token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.ssmp.checkpoint import (
    Card,
    load_checkpoint,
    read_json,
    read_tensors,
    save_checkpoint,
    write_tensors,
    write_whole,
)
from models.ssmp.data import Sample, load_samples, make_batch, mean_cosine, split_by_film
from models.ssmp.evaluate import MASK_RATES, Evaluation, evaluate_model, masked_accuracy
from models.ssmp.masking import ScheduleName, make_schedule, sample_hidden
from models.ssmp.model import SCALE_MAX, SCALE_MIN, SSMP, SSMPConfig
from pipeline.errors import InputError

__all__ = ["Learner", "Recipe", "Step", "TrainingResult", "evaluate_model", "make_model", "masked_loss", "train"]

WARM_UP = 0.1  # share of the steps; this and the next two as published
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The defaults are the published ones where there are any.

    lr: the highest learning rate. batch_size: trailers a step. clip_norm: largest norm of the gradient; the paper names
    none, and while it bites a constant weight on the loss has no effect.
    """

    steps: int
    seed: int = 0
    lr: float = 1e-4
    batch_size: int = 5
    schedule: ScheduleName = "self_paced"
    clip_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """One training step, for whoever watches. loss and accuracy: at the hidden slots of the batch, before the update.

    rate: share of slots that was asked to be hidden. held_out: mean accuracy over MASK_RATES, where it was measured.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    rate: float
    learning_rate: float
    held_out: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training left behind. best: the checkpoint of the highest held-out accuracy; last: of the last step.

    best_step: the step that made it. evaluation: of best, on the held-out films. steps: made in all, with all resumptions.
    """

    best: Path
    last: Path
    steps: int
    best_step: int
    evaluation: Evaluation


def masked_loss(
    logits_BJI: Tensor, labels_BJ: Tensor, hidden_BJ: Tensor, trailer_lengths: Tensor, rate: float
) -> Tensor:
    """(1 / rate) * sum over hidden slots of -log p / real slots in the batch: golden `inv_t`, a scalar.

    Training passes the rate that came out (hidden / real), not the one asked for: the loss of a small rate would be
    inflated by the slot that is always hidden. It is then the mean over hidden slots.
    """
    total = F.cross_entropy(logits_BJI[hidden_BJ], labels_BJ[hidden_BJ], reduction="sum")
    return total / (rate * trailer_lengths.sum())


def measure_scale(samples: Sequence[Sample]) -> float:
    """The scale to start from, 25 / sqrt(1 - mean cosine between shots of a film), within [1, 100]."""
    return min(max(25 / math.sqrt(max(1 - mean_cosine(samples), 1e-6)), SCALE_MIN), SCALE_MAX)


def make_model(config: SSMPConfig, seed: int) -> SSMP:
    """An untrained model; same seed, same weights, and torch's own random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SSMP(config)


class Learner:
    """A model under training: all that the next step depends on, so that it can be put down and taken up again."""

    def __init__(self, model: SSMP, recipe: Recipe, *, device: str = "cpu") -> None:
        self.model, self.recipe, self.device = model.to(device), recipe, device
        self.rng = np.random.default_rng(recipe.seed)
        self.schedule = make_schedule(recipe.schedule, steps=recipe.steps, rng=self.rng)
        learned = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim == 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in learned if p.ndim != 2], "weight_decay": 0.0},  # log_scale, norms, mask token
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=BETAS)
        self.step = 0

    def take_step(self, samples: Sequence[Sample]) -> Step:
        """One batch, drawn without repetition, and one update."""
        chosen = [samples[i] for i in self.rng.permutation(len(samples))[: self.recipe.batch_size]]
        batch = make_batch(chosen, self.device)
        rate, learning_rate = self.schedule.rate, self.learning_rate()
        lengths = np.array([len(sample.labels_J) for sample in chosen])
        mask = sample_hidden(lengths, rate, self.rng)
        hidden = torch.from_numpy(mask).to(self.device)
        self.model.train()
        logits = self.model(batch.movie_BID, batch.trailer_BJD, hidden, batch.movie_lengths, batch.trailer_lengths)
        loss = masked_loss(logits, batch.labels_BJ, hidden, batch.trailer_lengths, float(mask.sum() / lengths.sum()))
        if not math.isfinite(loss_value := float(loss.detach())):
            raise InputError(f"training diverged at step {self.step + 1}: loss {loss_value}; lower the learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.model.log_scale.clamp_(math.log(SCALE_MIN), math.log(SCALE_MAX))
            accuracy = float((logits[hidden].argmax(-1) == batch.labels_BJ[hidden]).float().mean())
        self.schedule.update(accuracy)
        self.step += 1
        return Step(self.step, self.recipe.steps, loss_value, accuracy, rate, learning_rate)

    def learning_rate(self) -> float:
        """Linear warm-up over a tenth of the steps, then a cosine to zero."""
        warm = max(round(WARM_UP * self.recipe.steps), 1)
        if self.step < warm:
            return self.recipe.lr * (self.step + 1) / warm
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (self.step - warm) / max(self.recipe.steps - warm, 1)))

    def save(self, path: Path, *, best: float, best_step: int) -> None:
        """Write everything to path (.safetensors) and its .json, so that going on gives what never stopping gives."""
        tensors = {f"model.{name}": tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor.detach().cpu() for name, tensor in moments.items()}
        about = {
            "step": self.step,
            "best": best,
            "best_step": best_step,
            "recipe": asdict(self.recipe),
            "config": asdict(self.model.config),
            "schedule": {name: getattr(self.schedule, name) for name in _state_names(self.schedule)},
            "rng": self.rng.bit_generator.state,
            "sha256": write_tensors(path, tensors),
        }
        write_whole(path.with_suffix(".json"), (json.dumps(about, indent=1) + "\n").encode())

    def load(self, path: Path) -> tuple[float, int]:
        """Take up what save() wrote; returns its (best, best_step). InputError if it is of another training."""
        about = read_json(path.with_suffix(".json"))
        if about.get("recipe") != asdict(self.recipe) or about.get("config") != asdict(self.model.config):
            raise InputError(f"cannot resume {path}: it was trained with other settings; use them, or another folder")
        tensors = read_tensors(path, str(about["sha256"]))
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(weights)
        state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, moment = name.split(".")
                state["state"].setdefault(int(number), {})[moment] = tensor
        self.optimizer.load_state_dict(state)
        for name, value in cast(dict[str, object], about["schedule"]).items():
            setattr(self.schedule, name, value)
        self.rng.bit_generator.state = cast(dict[str, object], about["rng"])
        self.step = cast(int, about["step"])
        return cast(float, about["best"]), cast(int, about["best_step"])


def train(
    data_dir: Path,
    out: Path,
    config: SSMPConfig,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    lr: float = 1e-4,
    batch_size: int = 5,
    schedule: ScheduleName = "self_paced",
    clip_norm: float = 1.0,
    encoder: str = "unknown",
    command: str = "",
    held_out: float = 0.1,
    save_every: int = 500,
    progress: Callable[[Step], None] | None = None,
    resume: bool = False,
    start: Path | None = None,
) -> TrainingResult:
    """Train on the folder data_dir (layout: data.py) and leave best.safetensors and last.safetensors in the folder out.

    config.initial_scale is replaced by the one measured on the training films (not if config.literal). held_out: share
    of the films kept for measuring, at least one. Every save_every steps: accuracy on them, best and last written.
    encoder, command: for the card. resume: go on from what an interrupted training with the same arguments left in out;
    the result is the same as without the interruption. start: a checkpoint whose weights are taken to begin with, of the
    same shape; none: from scratch. progress is called after every step.
    Raises InputError for data that cannot be read, of another width than config, or of fewer than two films.
    """
    if steps < 1 or save_every < 1:
        raise ValueError(f"steps and save_every must be at least 1, got {steps} and {save_every}")
    samples = load_samples(data_dir)
    width = samples[0].movie_ID.shape[1]
    if width != config.feature_dim:
        raise InputError(f"features in {data_dir} have width {width}, the model reads {config.feature_dim}")
    if len({sample.film for sample in samples}) < 2:
        raise InputError(f"training needs at least two films, one of them held out: {data_dir} has one")
    learning, testing = split_by_film(samples, held_out, np.random.default_rng(seed))
    if not config.literal:
        config = replace(config, initial_scale=measure_scale(learning))
    recipe = Recipe(steps, seed, lr, batch_size, schedule, clip_norm)
    model = make_model(config, seed)
    if start is not None:
        begun = load_checkpoint(start, encoder=encoder).model
        if replace(begun.config, initial_scale=config.initial_scale) != config:
            raise InputError(f"{start} is a model of another shape than the one to train: {begun.config}")
        model.load_state_dict(begun.state_dict())
    learner = Learner(model, recipe, device=device)
    best_path, last_path, state_path = (out / f"{name}.safetensors" for name in ("best", "last", "state"))
    best, best_step = learner.load(state_path) if resume and state_path.exists() else (-1.0, 0)
    card = Card(data=f"{data_dir.name}: {len(learning)} trailers, {len(testing)} held out", command=command, seed=seed)

    while learner.step < steps:
        step = learner.take_step(learning)
        if step.step % save_every == 0 or step.step == steps:
            score = float(np.mean([masked_accuracy(learner.model, testing, rate, seed=seed) for rate in MASK_RATES]))
            step = replace(step, held_out=score)
            now = replace(card, figures={"step": float(step.step), "held_out": score})
            if score > best:
                best, best_step = score, step.step
                save_checkpoint(best_path, learner.model, encoder=encoder, card=now)
            save_checkpoint(last_path, learner.model, encoder=encoder, card=now)
            learner.save(state_path, best=best, best_step=best_step)
        if progress is not None:
            progress(step)

    model = load_checkpoint(best_path, device=device).model
    evaluation = evaluate_model(model, testing, seed=seed)
    figures = {"step": float(best_step), "held_out": best, **evaluation.figures()}
    save_checkpoint(best_path, model, encoder=encoder, card=replace(card, figures=figures))
    return TrainingResult(best_path, last_path, learner.step, best_step, evaluation)


def _state_names(schedule: object) -> list[str]:
    """What of a schedule changes from step to step."""
    if hasattr(schedule, "done"):
        return ["done"]
    return [name for name in ("accuracy", "rate") if hasattr(schedule, name)]
