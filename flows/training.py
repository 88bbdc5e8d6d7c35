"""Learn from films: make training data, train a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.ssmp.checkpoint import Config
    from models.ssmp.data import Sample
    from models.ssmp.simulate import FilmShots
    from models.ssmp.train import Recipe, Step
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, TrailerConfig

# what differs from the published recipe (learning rate 1e-4, 5 trailers a step), by preset: a small model learns faster
RECIPES: dict[str, dict[str, Any]] = {"small": {"lr": 3e-3, "batch_size": 16}}
DEFAULT_STEPS = 5000
HELD_OUT = 0.1  # share of the films kept for measuring where no list names them
SAVES = 20  # times in a training that the held-out trailers are measured and checkpoints written


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint and how well it does. held_out: accuracy on held-out trailers, 0..1. rank: of the process, 0 leads."""

    checkpoint: Path
    steps: int
    best_step: int
    held_out: float
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Trailers to learn from and trailers to measure on; no film is in both."""

    learning: Sequence[Sample]
    held_out: Sequence[Sample]

    @property
    def width(self) -> int:
        return int(self.learning[0].movie_ID.shape[1])


def load_split(data: Path, *, seed: int, exclude: Sequence[Path] = (), held_out: Sequence[Path] = ()) -> Split:
    """The trailers of a folder. exclude: lists of films or trailers never to be seen; held_out: lists to measure on.

    Without the latter a tenth of the films, drawn by the seed. A film that is listed is listed with all of its trailers.
    """
    import numpy as np

    from models.ssmp.data import choose_samples, load_samples, read_lists, split_by_film

    samples = load_samples(data)
    if exclude:
        hidden = {sample.film for sample in choose_samples(samples, read_lists(exclude))}
        samples = [sample for sample in samples if sample.film not in hidden]
    if held_out:
        testing = choose_samples(samples, read_lists(held_out))
        kept = {sample.film for sample in testing}
        learning = [sample for sample in samples if sample.film not in kept]
    elif len({sample.film for sample in samples}) < 2:
        raise InputError(f"training needs at least two films, one of them held out: {data} has too few")
    else:
        learning, testing = split_by_film(samples, HELD_OUT, np.random.default_rng(seed))
    if not learning or not testing:
        raise InputError(
            f"the lists leave {len(learning)} trailers of {data} to learn from and {len(testing)} to measure on"
        )
    return Split(learning, testing)


def choose_model(preset: str, width: int, *, kind: str = "ssmp", layers: int | None = None) -> Config:
    """small: as bundled, its layers in proportion to the features. paper: as published; paper-5: the supplement's best.

    kind: ssmp, or a baseline (tgt, ranker) of the same width, feed-forward width, heads and depth; TGT's depth is shared by
    its encoder and its decoder. layers: in place of the preset's.
    """
    from models.ssmp.checkpoint import KINDS, config_class
    from models.ssmp.model import PRESETS

    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}: one of {', '.join(PRESETS)}")
    if kind not in KINDS:
        raise InputError(f"no kind of model {kind!r}: one of {', '.join(KINDS)}")
    try:
        hidden = 2 * width if preset == "small" else PRESETS[preset].ffn_dim
        config = replace(PRESETS[preset], feature_dim=width, ffn_dim=hidden, layers=layers or PRESETS[preset].layers)
        if kind == "ssmp":
            return config
        if kind == "tgt":
            config = replace(config, layers=max(config.layers // 2, 1))
        wanted = config_class(kind)
        return wanted(
            **{field.name: getattr(config, field.name) for field in fields(wanted) if hasattr(config, field.name)}
        )
    except ValueError as error:
        raise InputError(f"features of width {width} fit no model: {error}") from error


def check_words(schedule: str | None, loss: str | None) -> None:
    """Refuse a schedule or a loss that does not exist."""
    from models.ssmp.masking import ScheduleName
    from models.ssmp.objective import Loss

    for what, word, known in (("schedule", schedule, get_args(ScheduleName)), ("loss", loss, get_args(Loss))):
        if word is not None and word not in known:
            raise InputError(f"no {what} {word!r}: one of {', '.join(known)}")


def has_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 are fast there: GPUs since Ampere."""
    import torch

    return device.startswith("cuda") and torch.cuda.get_device_capability(device) >= (8, 0)


def name_encoder(name: str | None, width: int, data: Path) -> str:
    """Name and version of what made the features. InputError where that encoder's features are of another width."""
    from models.encoders import identify_encoder
    from pipeline.settings import EncoderName, FeatureSettings

    if name is not None and name not in set(EncoderName):
        return name  # features made elsewhere: the name is only written down
    known = identify_encoder(FeatureSettings(encoder=EncoderName(name or "descriptor")))
    if known.width == width:
        return known.name
    if name is None:
        return "unknown"
    raise InputError(f"{data} has features of width {width}, {known.name} makes {known.width}: say --encoder NAME")


def check_checkpoint_place(out: Path, *, resume: bool) -> None:
    """Refuse, before any work, a place where a checkpoint cannot be written, or where something else lies."""
    about = out.with_suffix(".json")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out} must end in .safetensors")
    folder = out.with_suffix(".training")
    if out.is_dir() or about.is_dir() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"--out {out}: something else has this name, or that of {about.name} or {folder.name}")
    if not all(parent.is_dir() for parent in out.parents if parent.exists()):
        raise InputError(f"--out {out} cannot be a file: choose another place")
    if not resume and (out.exists() or about.exists()):
        from models.ssmp.checkpoint import load_model

        load_model(out)  # one of ours may be replaced by a better one


def choose_recipe(preset: str, split: Split, device: str, values: Mapping[str, Any], *, epochs: float | None) -> Recipe:
    """The preset's recipe with what was asked for. values: fields of Recipe, None = not asked for."""
    from models.ssmp.train import Recipe

    if epochs is not None and values.get("steps") is not None:
        raise InputError("--steps and --epochs both say how long: give one")
    asked = {name: value for name, value in values.items() if value is not None}
    chosen = {
        "steps": DEFAULT_STEPS,
        "precision": "bfloat16" if has_bfloat16(device) else "float32",
        **RECIPES.get(preset, {}),
        **asked,
    }
    recipe = Recipe(**chosen)
    if epochs is not None:
        an_epoch = max(len(split.learning) // min(recipe.batch_size, len(split.learning)), 1)
        recipe = replace(recipe, steps=max(round(epochs * an_epoch), 1))
    return recipe


def train_checkpoint(
    data: Path,
    out: Path,
    site: Site,
    *,
    values: Mapping[str, Any],
    epochs: float | None,
    preset: str,
    kind: str,
    layers: int | None,
    encoder: str | None,
    exclude: Sequence[Path],
    held_out: Sequence[Path],
    start: Path | None,
    resume: bool,
    tensorboard: bool,
    command: str,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
) -> Trained:
    """Train on DATA and leave the best checkpoint at out, its .json beside it; the work lies in out's .training folder."""
    from models.device import choose_device
    from models.ssmp.ranks import join_ranks, leave_ranks
    from models.ssmp.train import train
    from pipeline.workdir import deliver_file

    check_checkpoint_place(out, resume=resume)
    folder = out.with_suffix(".training")
    if (folder / "state.json").exists() and not resume:
        raise InputError(f"{folder} holds an earlier training: --resume goes on with it; remove it to begin anew")
    split = load_split(data, seed=values["seed"], exclude=exclude, held_out=held_out)
    encoder = name_encoder(encoder, split.width, data)

    def watch(step: Step) -> None:
        bar("training", step.step / step.steps)
        if step.held_out is not None:
            say(
                f"step {step.step} of {step.steps}: loss {step.loss:.3f}, mask rate {step.rate:.2f}, "
                f"held-out accuracy {100 * step.held_out:.1f} %"
            )

    ranks, device = join_ranks(choose_device(site.device))
    try:
        recipe = choose_recipe(preset, split, device, values, epochs=epochs)
        result = train(
            split.learning,
            split.held_out,
            folder,
            choose_model(preset, split.width, kind=kind, layers=layers),
            recipe,
            device=device,
            ranks=ranks,
            encoder=encoder,
            data=data.name,
            command=command,
            save_every=max(recipe.steps // SAVES, 1),
            resume=resume,
            start=start,
            tensorboard=tensorboard,
            progress=watch,
        )
        if ranks.rank == 0:
            deliver_file(result.best, out)
            deliver_file(result.best.with_suffix(".json"), out.with_suffix(".json"))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the same command with --resume goes on from what was saved last") from stop
    finally:
        leave_ranks(ranks)
    return Trained(out, result.steps, result.best_step, result.held_out, ranks.rank)


def simulate_data(
    films: Sequence[Path],
    out: Path,
    config: TrailerConfig,
    site: Site,
    runner: LocalRunner,
    *,
    count: int,
    trailers: int,
    excerpts: float,
    planted: bool,
    seed: int,
) -> None:
    """Write `count` films, varied from the named ones (invented without any), and their simulated trailers.

    planted: the generated benchmark instead, films and trailers whose rules are known, one trailer a film.
    """
    import numpy as np

    from models.ssmp.planted import make_world, write_planted
    from models.ssmp.simulate import write_dataset

    if out.exists() and (not out.is_dir() or any(out.glob("*.npy"))):
        raise InputError(f"--out {out} is not an empty folder; data of two makings must not mix")
    if planted:
        if films or trailers != 1 or excerpts:
            raise InputError("--planted invents its films, with one trailer each: name no films, trailers or excerpts")
        write_planted(out, make_world(np.random.default_rng((seed, 0))), count, seed)
        return
    known = [read_film(film, config, site, runner) for film in films]
    try:
        write_dataset(known, out, count, trailers, np.random.default_rng(seed), excerpts=excerpts)
    except ValueError as error:
        raise InputError(f"no data from these films: {error}") from error


def read_film(path: Path, config: TrailerConfig, site: Site, runner: LocalRunner) -> FilmShots:
    """A film as the simulated editor sees it, by the same steps as `make`."""
    import numpy as np

    from models.ssmp.simulate import FilmShots
    from pipeline import steps
    from pipeline.guards import exclude_shots
    from pipeline.media import probe_film
    from pipeline.workdir import WorkDir

    film = probe_film(path)
    work = WorkDir(site.work_dir, film.fingerprint)
    analysis = runner.step("analysis", steps.analyse, work, film, config, site)
    shots = runner.step("shots", steps.find_shots, work, analysis, config)
    features = runner.step("features", steps.encode, work, analysis, shots, config, site).load()
    cut = shots.load()
    excluded = exclude_shots(cut, config.guards)
    return FilmShots(
        features_ID=features.vectors,
        energy_I=np.asarray(cut.energy, np.float64),
        start_I=np.array([(span.start - cut.film.start) / cut.film.duration for span in cut.spans]),
        usable_I=np.array([number not in excluded for number in range(len(cut))]),
    )
