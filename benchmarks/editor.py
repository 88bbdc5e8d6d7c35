"""Compare SSMP with all other systems on the generated benchmark whose rules are known (models/ssmp/planted.py).

Every system is trained with the same data, steps, batches and seeds, at equal width and depth, on one core, and fills the
trailers of the same films. Prints Markdown: F1, slot accuracy in all and by kind of slot, order; mean ± standard deviation.

    python benchmarks/editor.py [--seeds 3] [--steps 1500] [--films 4000] [--markdown table.md]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flows.ablating import spread
from flows.tables import Table
from models.baselines.ranker import RankerConfig
from models.baselines.tgt import TGTConfig
from models.ssmp.checkpoint import Config
from models.ssmp.data import Sample
from models.ssmp.evaluate import Made, make_by_heuristics, make_by_model, mean_row, measure_trailer
from models.ssmp.model import SSMPConfig
from models.ssmp.planted import World, make_world, plant_samples
from models.ssmp.train import Learner, Recipe, make_model, scale_to

KINDS = ("anchor", "follow", "precede", "bridge")


def measure(made: Sequence[Made], samples: Sequence[Sample], world: World) -> dict[str, float]:
    """Figures of one row for one seed."""
    row = mean_row([measure_trailer(one, s.labels_J.tolist()) for one, s in zip(made, samples, strict=True)])
    right_NJ = np.array([np.array(one.shots) == s.labels_J for one, s in zip(made, samples, strict=True)])
    kinds = np.array(world.kinds)
    figures: dict[str, Any] = {"F1": row.f1, "F1±3": row.matched[3].f1, "slot": row.slot_accuracy}
    figures |= {kind: float(right_NJ[:, kinds == kind].mean()) for kind in KINDS if (kinds == kind).any()}
    return figures | {"LD": row.ld, "AA slot": row.aa_slot, "passes": row.rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--films", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--schedule", action="append", help="more SSMP rows, by schedule of the mask rate")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, layers = 64, options.layers
    base = SSMPConfig(width, 2 * width, heads=4, layers=layers, in_scale="sqrtD")
    systems: dict[str, tuple[Config, dict[str, Any]]] = {
        "ssmp": (base, {}),
        # never less deep than SSMP: half of TGT's layers are its decoder's
        "tgt": (TGTConfig(width, 2 * width, heads=4, layers=(layers + 1) // 2, in_scale="sqrtD"), {}),
        "ranker": (RankerConfig(width, 2 * width, heads=4, layers=layers + 1, in_scale="sqrtD"), {}),
        **{f"ssmp, {name}": (base, {"schedule": name}) for name in options.schedule or []},
    }
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        world = make_world(np.random.default_rng((seed, 0)), feature_dim=width)
        learning, testing = plant_samples(world, options.films, 2 * seed + 1), plant_samples(world, 100, 2 * seed + 2)
        made = {name: measure(one, testing, world) for name, one in make_by_heuristics(testing, seed=seed).items()}
        for name, (config, changes) in systems.items():
            recipe = Recipe(options.steps, seed=seed, lr=options.lr, batch_size=options.batch, **changes)
            learner = Learner(make_model(scale_to(config, learning[:50]), seed), recipe)
            started = time.perf_counter()
            while learner.step < options.steps:
                step = learner.take_step(learning)
            took = time.perf_counter() - started
            for row, trailers in make_by_model(learner.model, testing, seed=seed).items():
                made[name if row == name else f"{name}: {row}"] = measure(trailers, testing, world)
            print(f"seed {seed}, {name}: {took:.0f} s, loss {step.loss:.3f}, mask rate {step.rate:.2f}", flush=True)
        for name, figures in made.items():
            rows.setdefault(name, []).append(figures)
    columns = list(rows["random"][0])
    cells = [
        [name, *(spread([figures[c] for figures in rows[name]], 1 if c in ("LD", "passes") else 2) for c in columns)]
        for name in rows
    ]
    sizes = {n: sum(p.numel() for p in make_model(replace(c), 0).parameters()) for n, (c, _) in systems.items()}
    note = (
        f"{options.films} films of {world.n_shots} shots, {len(world.kinds)} slots ({world.pattern}), "
        f"{options.steps} steps of {options.batch}, learning rate {options.lr:g}; 100 other films measured; "
        f"mean ± standard deviation over {options.seeds} seeds (data, weights and draws). "
        f"Weights: {', '.join(f'{n} {size}' for n, size in sizes.items())}."
    )
    text = Table("Systems on the generated benchmark", ["", *columns], cells, note).markdown()
    print(text)
    if options.markdown is not None:
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
