"""Train SSMP, or a baseline, on films and their trailers.

The recipe of arXiv 2512.04426 (docs/method.md section 3): hide some slots of a real trailer, predict their shots from
the film and the slots that are left, hide more as the model gets better. Read from top to bottom: one step, the whole
training. B batch, I film shots, J slots; hidden True = the slot is replaced by the mask token.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from models.ssmp.checkpoint import (
    Card,
    Config,
    Model,
    build_model,
    load_model,
    read_tensors,
    save_checkpoint,
    write_tensors,
    write_whole,
)
from models.ssmp.data import Feeder, Sample, digest_samples, mean_cosine
from models.ssmp.description import read_json
from models.ssmp.evaluate import Evaluation, evaluate_model, held_out_accuracy
from models.ssmp.history import History
from models.ssmp.masking import ScheduleName, make_schedule
from models.ssmp.model import SCALE_MAX, SCALE_MIN, SSMP
from models.ssmp.objective import Loss, MaskedPrediction, Objective, WholeTrailer
from models.ssmp.ranks import Ranks
from pipeline.errors import InputError

log = logging.getLogger("trailer")

STATE_SECONDS = 600.0  # a training that is killed loses no more than this
MASKS, ORDER = 3, 4  # streams of the seed
WARM_UP = 0.1  # share of the steps; this and the next two as published
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The defaults are the published ones where there are any.

    lr: the highest learning rate. batch_size: trailers a step. schedule, mu_a, mu_t, loss: of SSMP only. clip_norm: largest
    norm of the gradient; the paper names none, and while it bites a constant weight on the loss has no effect.
    precision: of the matrix products; norms, rotations, cosines and the loss are float32 always.
    """

    steps: int
    seed: int = 0
    lr: float = 1e-4
    batch_size: int = 5
    schedule: ScheduleName = "self_paced"
    mu_a: float = 0.98
    mu_t: float = 0.1
    loss: Loss = "cross_entropy"
    clip_norm: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, slots=True)
class Step:
    """One training step, for whoever watches. loss and accuracy: at the hidden slots of the batch, before the update.

    rate: share of slots that was asked to be hidden. held_out: accuracy on the held-out trailers, where it was measured.
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

    best_step: the step that made it. held_out: its accuracy on the held-out trailers. evaluation: its trailers, on the same.
    steps: made in all, with all resumptions.
    """

    best: Path
    last: Path
    steps: int
    best_step: int
    held_out: float
    evaluation: Evaluation


def measure_scale(samples: Sequence[Sample]) -> float:
    """The scale to start from, 25 / sqrt(1 - mean cosine between shots of a film), within [1, 100]."""
    return min(max(25 / math.sqrt(max(1 - mean_cosine(samples), 1e-6)), SCALE_MIN), SCALE_MAX)


def scale_to(config: Config, samples: Sequence[Sample]) -> Config:
    """The same model, its scale starting where these samples want it; as it is where no scale is learned."""
    if getattr(config, "literal", False) or not hasattr(config, "initial_scale"):
        return config
    return replace(config, initial_scale=measure_scale(samples))  # type: ignore[arg-type]


def make_model(config: Config, seed: int) -> Model:
    """An untrained model; same seed, same weights, and torch's own random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(config)


class Learner:
    """A model under training: all that the next step depends on, so that it can be put down and taken up again."""

    def __init__(self, model: Model, recipe: Recipe, *, device: str = "cpu", ranks: Ranks | None = None) -> None:
        self.model, self.recipe, self.device, self.ranks = (
            model.to(device),
            recipe,
            torch.device(device),
            ranks or Ranks(),
        )
        if recipe.batch_size < self.ranks.world:
            raise InputError(f"{self.ranks.world} processes cannot share batches of {recipe.batch_size} trailers")
        on_gpu = self.device.type == "cuda"
        if on_gpu and isinstance(model, SSMP):
            if any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang")):
                model.compile_blocks()
            else:
                log.warning("no C compiler here: training without torch.compile, which is slower")
        self.rng = np.random.default_rng((recipe.seed, MASKS))
        self.objective = choose_objective(self.model, recipe, self.rng)
        learned = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learned if p.ndim == 2], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in learned if p.ndim != 2], "weight_decay": 0.0},  # log_scale, norms, mask token
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=BETAS, fused=on_gpu)
        self.step = 0
        self._feeder: Feeder | None = None
        self._order: tuple[int, list[int]] = (-1, [])  # (epoch, its order of the samples)

    def take_step(self, samples: Sequence[Sample]) -> Step:
        """One batch and one update. All samples are seen once in an epoch, in an order that the seed gives."""
        if self._feeder is None or self._feeder.samples is not samples:
            self._feeder = Feeder(samples, self.device)
        chosen = self._choose(len(samples))
        lengths = np.array([len(samples[i].labels_J) for i in chosen])
        rate, learning_rate = self.objective.rate, self.learning_rate()
        hidden = self.objective.draw(lengths, self.rng)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss_sum, right = self._backward(chosen[self.ranks.mine], hidden[self.ranks.mine], int(hidden.sum()))
        self.ranks.add([p.grad for p in self.model.parameters() if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if isinstance(scale := getattr(self.model, "log_scale", None), torch.Tensor):
            with torch.no_grad():
                scale.clamp_(math.log(SCALE_MIN), math.log(SCALE_MAX))
        told = torch.stack((loss_sum.detach().double(), right.detach().double()))
        self.ranks.add([told])
        loss, accuracy = (value / int(hidden.sum()) for value in told.tolist())  # the one place that waits for a GPU
        if not math.isfinite(loss):
            raise InputError(f"training diverged at step {self.step + 1}: loss {loss}; lower the learning rate")
        self.objective.update(accuracy)
        self.step += 1
        return Step(self.step, self.recipe.steps, loss, accuracy, rate, learning_rate)

    def _backward(
        self, chosen: Sequence[int], hidden_BJ: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], count: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of this process's share of the batch; (sum of its loss, sum of what is right)."""
        assert self._feeder is not None
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        batch = self._feeder.batch(chosen)
        half = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            total, right = self.objective.measure(batch, hidden_BJ[:, : int(batch.trailer_lengths.max())])
        (total / count).backward()  # type: ignore[no-untyped-call]
        return total, right

    def _choose(self, count: int) -> list[int]:
        """The samples of this step. What is left over at an epoch's end is left out, other ones each time."""
        size = min(self.recipe.batch_size, count)
        if size < self.ranks.world:
            raise InputError(f"{self.ranks.world} processes cannot share {count} trailers")
        epoch, place = divmod(self.step, count // size)
        if self._order[0] != epoch:
            order = np.random.default_rng((self.recipe.seed, ORDER, epoch)).permutation(count)
            self._order = epoch, [int(i) for i in order]
        return self._order[1][place * size : (place + 1) * size]

    def learning_rate(self) -> float:
        """Linear warm-up over a tenth of the steps, then a cosine to zero."""
        warm = max(round(WARM_UP * self.recipe.steps), 1)
        if self.step < warm:
            return self.recipe.lr * (self.step + 1) / warm
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (self.step - warm) / max(self.recipe.steps - warm, 1)))

    def save(self, path: Path, about: Mapping[str, object]) -> None:
        """Write everything to path (.json) and a weights file that it names, so that going on equals never stopping.

        about: what the caller wants to know again; its "data" must be the same on loading. The weights get a name of their
        own each time: killed between the two writes, the old pair is still whole.
        """
        tensors = {f"model.{name}": tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor.detach().cpu() for name, tensor in moments.items()}
        weights = path.with_name(f"{path.stem}-{self.step}.safetensors")
        state = {
            **about,
            "step": self.step,
            "recipe": asdict(self.recipe),
            "config": asdict(self.model.config),
            "schedule": _state_of(self.objective),
            "rng": self.rng.bit_generator.state,
            "weights": weights.name,
            "sha256": write_tensors(weights, tensors),
        }
        write_whole(path, (json.dumps(state, indent=1) + "\n").encode())
        for old in path.parent.glob(f"{path.stem}-*.safetensors"):
            if old != weights:
                old.unlink()

    def load(self, path: Path, data: Mapping[str, str]) -> dict[str, object]:
        """Take up what save() wrote, and return it. InputError if it is of another training, or is not whole."""
        state = read_json(path, "state of a training")
        wanted = {"recipe": asdict(self.recipe), "config": asdict(self.model.config), "data": dict(data)}
        for name, now in wanted.items():
            then = state.get(name)
            if then != now:
                known = then if isinstance(then, dict) else {}
                other = [key for key in now if known.get(key) != now[key]]
                raise InputError(
                    f"cannot resume {path}: it was trained with other {', '.join(other)}; give the same, or another --out"
                )
        try:
            tensors = read_tensors(path.with_name(Path(str(state["weights"])).name), str(state["sha256"]))
            weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
            self.model.load_state_dict(weights)
            optimizer = self.optimizer.state_dict()
            for name, tensor in tensors.items():
                if name.startswith("optimizer."):
                    _, number, moment = name.split(".")
                    optimizer["state"].setdefault(int(number), {})[moment] = tensor
            self.optimizer.load_state_dict(optimizer)
            if isinstance(self.objective, MaskedPrediction):
                for name, value in cast(dict[str, object], state["schedule"]).items():
                    setattr(self.objective.schedule, name, value)
            self.rng.bit_generator.state = cast(dict[str, object], state["rng"])
            self.step = cast(int, state["step"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(f"cannot resume {path}: it is not whole ({error}); begin anew in another --out") from error
        return state


def choose_objective(model: Model, recipe: Recipe, rng: np.random.Generator) -> Objective:
    """What this model minimises."""
    if isinstance(model, SSMP):
        schedule = make_schedule(recipe.schedule, steps=recipe.steps, rng=rng, mu_a=recipe.mu_a, mu_t=recipe.mu_t)
        return MaskedPrediction(model, schedule, recipe.loss)
    return WholeTrailer(model.measure)


def train(
    learning: Sequence[Sample],
    testing: Sequence[Sample],
    out: Path,
    config: Config,
    recipe: Recipe,
    *,
    device: str = "cpu",
    ranks: Ranks | None = None,
    encoder: str = "unknown",
    data: str = "",
    command: str = "",
    save_every: int = 500,
    resume: bool = False,
    start: Path | None = None,
    tensorboard: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> TrainingResult:
    """Train on the samples of `learning` and leave best.safetensors and last.safetensors in the folder out.

    config.initial_scale is replaced by the one measured on the training films (not if literal). testing: held-out
    samples, whose accuracy chooses the best checkpoint. Every save_every steps: accuracy on them, best and last written.
    encoder, data, command: for the card. resume: go on from what an interrupted training with the same arguments left in
    out; the result is the same as without the interruption; other data or settings are refused. start: a checkpoint whose
    weights are taken to begin with, of the same shape; none: from scratch. progress is called after every step. out
    also gets history.jsonl, a line a step; mask-rate.svg, the curve of the supplement's Figure 5; with tensorboard, the
    same scalars as event files.
    Raises InputError for samples of another width than config, and ValueError for fewer than one step.
    """
    if recipe.steps < 1 or save_every < 1 or not learning or not testing:
        raise ValueError(
            f"at least 1 step, sample and held-out sample: {recipe.steps}, {len(learning)}, {len(testing)}"
        )
    ranks = ranks or Ranks()
    width = learning[0].movie_ID.shape[1]
    if width != config.feature_dim:
        raise InputError(f"the features have width {width}, the model reads {config.feature_dim}")
    config = scale_to(config, learning)
    model = make_model(config, recipe.seed)
    if start is not None:
        begun = load_model(start, encoder=encoder).model
        if type(begun) is not type(model) or scale_to(begun.config, learning) != config:
            raise InputError(f"{start} is a model of another shape than the one to train: {begun.config}")
        model.load_state_dict(begun.state_dict())
    learner = Learner(model, recipe, device=device, ranks=ranks)
    best_path, last_path, state_path = out / "best.safetensors", out / "last.safetensors", out / "state.json"
    identity = {"learning": digest_samples(learning), "held_out": digest_samples(testing), "encoder": encoder}
    best, best_step = -1.0, 0
    if resume and state_path.exists():
        state = learner.load(state_path, identity)
        if _is_whole(best_path):  # else killed between its two files: the next one measured is the best
            best, best_step = cast(float, state["best"]), cast(int, state["best_step"])
    about = f"{data}: {len(learning)} trailers, {len(testing)} held out"
    card = Card(data=about, command=command, seed=recipe.seed)

    with ExitStack() as stack:
        leads = ranks.rank == 0
        history = stack.enter_context(History(out, learner.step, tensorboard=tensorboard)) if leads else None
        saved = time.monotonic()
        while learner.step < recipe.steps:
            step = learner.take_step(learning)
            if history is None:
                continue
            due = step.step % save_every == 0 or step.step == recipe.steps
            if due:
                half = recipe.precision == "bfloat16"
                score = held_out_accuracy(learner.model, testing, seed=recipe.seed, bfloat16=half)
                step = replace(step, held_out=score)
                now = replace(card, figures={"step": float(step.step), "held_out": score})
                if score > best:
                    best, best_step = score, step.step
                    save_checkpoint(best_path, learner.model, encoder=encoder, card=now)
                save_checkpoint(last_path, learner.model, encoder=encoder, card=now)
            history.add(step)
            if due or time.monotonic() - saved > STATE_SECONDS:
                history.keep()
                learner.save(state_path, {"best": best, "best_step": best_step, "data": identity})
                saved = time.monotonic()
            if progress is not None:
                progress(step)
    ranks.wait()
    checkpoint = load_model(best_path, device=device)
    evaluation = evaluate_model(checkpoint.model, testing, seed=recipe.seed)
    best_step, best = int(checkpoint.card.figures["step"]), checkpoint.card.figures["held_out"]
    if ranks.rank == 0:
        figures = {"step": float(best_step), "held_out": best, **evaluation.figures()}
        save_checkpoint(best_path, checkpoint.model, encoder=encoder, card=replace(checkpoint.card, figures=figures))
    return TrainingResult(best_path, last_path, learner.step, best_step, best, evaluation)


def _is_whole(path: Path) -> bool:
    try:
        load_model(path)
    except InputError:
        return False
    return True


def _state_of(objective: Objective) -> dict[str, object]:
    """What of a schedule changes from step to step."""
    if not isinstance(objective, MaskedPrediction):
        return {}
    schedule = objective.schedule
    names = ["done"] if hasattr(schedule, "done") else [n for n in ("accuracy", "rate") if hasattr(schedule, n)]
    return {name: getattr(schedule, name) for name in names}
