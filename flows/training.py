"""Learn from films: make training data, train a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.ssmp.model import SSMPConfig
    from models.ssmp.simulate import FilmShots
    from models.ssmp.train import Step
    from pipeline.runner import LocalRunner
    from pipeline.settings import Site, TrailerConfig

# what differs from the published recipe (learning rate 1e-4, 5 trailers a step), by preset: a small model learns faster
RECIPES: dict[str, dict[str, Any]] = {"small": {"lr": 3e-3, "batch_size": 16}}


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint and how well it does. held_out: share of hidden slots of held-out films filled as the editor did."""

    checkpoint: Path
    steps: int
    best_step: int
    held_out: float


def choose_model(preset: str, width: int) -> SSMPConfig:
    """small: as bundled, its layers in proportion to the features. paper: as published; paper-5: the supplement's best."""
    from models.ssmp.model import PRESETS

    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}: one of {', '.join(PRESETS)}")
    try:
        hidden = 2 * width if preset == "small" else PRESETS[preset].ffn_dim
        return replace(PRESETS[preset], feature_dim=width, ffn_dim=hidden)
    except ValueError as error:
        raise InputError(f"features of width {width} fit no model: {error}") from error


def train_checkpoint(
    data: Path,
    out: Path,
    site: Site,
    *,
    steps: int,
    seed: int,
    preset: str,
    encoder: str,
    start: Path | None,
    resume: bool,
    command: str,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
) -> Trained:
    """Train on DATA and leave the best checkpoint at out, its .json beside it; the work lies in out's .training folder."""
    from models.encoders import load_encoder
    from models.ssmp.data import load_samples
    from models.ssmp.train import train
    from pipeline.steps import choose_device
    from pipeline.workdir import deliver_file

    if out.suffix != ".safetensors":
        raise InputError(f"--out {out} must end in .safetensors")
    width = load_samples(data)[0].movie_ID.shape[1]
    with suppress(ValueError):  # features made elsewhere: the name is only written down
        encoder = load_encoder(encoder).name

    def watch(step: Step) -> None:
        bar("training", step.step / step.steps)
        if step.held_out is not None:
            say(
                f"step {step.step} of {step.steps}: loss {step.loss:.3f}, held-out accuracy {100 * step.held_out:.1f} %"
            )

    result = train(
        data,
        out.with_suffix(".training"),
        choose_model(preset, width),
        steps=steps,
        seed=seed,
        device=choose_device(site),
        encoder=encoder,
        command=command,
        progress=watch,
        start=start,
        resume=resume,
        **RECIPES.get(preset, {}),
    )
    deliver_file(result.best, out)
    deliver_file(result.best.with_suffix(".json"), out.with_suffix(".json"))
    scores = list(result.evaluation.masked_accuracy.values())
    return Trained(out, result.steps, result.best_step, sum(scores) / len(scores))


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
    seed: int,
) -> None:
    """Write `count` films, varied from the named ones (invented without any), and their simulated trailers."""
    import numpy as np

    from models.ssmp.simulate import write_dataset

    if out.exists() and (not out.is_dir() or any(out.glob("*.npy"))):
        raise InputError(f"--out {out} is not an empty folder; data of two makings must not mix")
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
    from pipeline.media import probe_film
    from pipeline.selection import exclude_shots
    from pipeline.workdir import WorkDir

    film = probe_film(path)
    work = WorkDir(site.work_dir, film.fingerprint)
    analysis = runner.step("analysis", steps.analyse, work, film)
    shots = runner.step("shots", steps.find_shots, work, analysis, config)
    features = runner.step("features", steps.encode, work, analysis, shots, config).load()
    cut = shots.load()
    excluded = exclude_shots(cut, config.guards)
    return FilmShots(
        features_ID=features.vectors,
        energy_I=np.asarray(cut.energy, np.float64),
        start_I=np.array([(span.start - cut.film.start) / cut.film.duration for span in cut.spans]),
        usable_I=np.array([number not in excluded for number in range(len(cut))]),
    )
