"""Train SSMP at the paper's size on generated features of the public set's shape, and say how well the machine is used.

500 films of about 1,909 shots, 922 trailers of about 76 (CMTD), 5 trailers a step, bfloat16 on a GPU. Prints steps a
second, the model's floating point operations against the machine's own measured matrix rate, peak memory, and the time
that 500 epochs would take. Goal on one H200: at least 50 % and under 30 minutes.

    python benchmarks/training.py                                  a GPU, the whole shape
    python benchmarks/training.py --films 4 --trailers 8 --steps 3   a CPU, to see that it runs
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from flops import count_flop, matrix_rate

from models.ssmp.data import Sample
from models.ssmp.model import PRESETS
from models.ssmp.train import Learner, Recipe, make_model, scale_to

EPOCHS = 500


def invent_samples(films: int, trailers: int, width: int) -> list[Sample]:
    """Films and trailers of the public set's sizes; rows of one film resemble each other (mean cosine about 0.6)."""
    rng = np.random.default_rng(0)
    samples: list[Sample] = []
    count = np.bincount(np.arange(trailers) % films, minlength=films)
    for film in range(films):
        n_shots = int(np.clip(rng.lognormal(np.log(1850), 0.25), 600, 4000))  # mean about 1,909
        rows = rng.standard_normal((n_shots, width), dtype=np.float32) * 0.4**0.5
        rows += rng.standard_normal((1, width), dtype=np.float32) * 0.6**0.5
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for trailer in range(count[film]):
            labels = rng.permutation(n_shots)[: int(np.clip(rng.normal(76, 25), 20, 200))]
            samples.append(Sample(f"{film}-{trailer + 1}", str(film), rows, rows[labels], labels))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=500)
    parser.add_argument("--trailers", type=int, default=922)
    parser.add_argument("--steps", type=int, default=200, help="measured, after a tenth as many that are not")
    parser.add_argument("--preset", default="paper", choices=PRESETS)
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    config = PRESETS[options.preset]
    samples = invent_samples(options.films, options.trailers, config.feature_dim)
    warm = max(options.steps // 10, 1)
    recipe = Recipe(options.steps + warm, precision=options.precision)
    learner = Learner(make_model(scale_to(config, samples[:20]), 0), recipe, device=device)
    rate = matrix_rate(device, dtype, 8192 if device == "cuda" else 2048)
    for _ in range(warm):
        learner.take_step(samples)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    work, started = 0.0, time.perf_counter()
    for _ in range(options.steps):
        chosen = learner._choose(len(samples))
        # forward once and backward twice as much
        work += 3 * sum(count_flop(config, len(samples[i].movie_ID), len(samples[i].labels_J)) for i in chosen)
        step = learner.take_step(samples)  # waits for the GPU: it tells the loss
    took = time.perf_counter() - started
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    per_epoch = len(samples) // recipe.batch_size
    print(f"{name}, {options.precision}: {options.steps / took:.3g} steps/s, loss {step.loss:.3f}")
    print(
        f"{work / took / 1e12:.3g} TFLOP/s of {rate / 1e12:.3g} measured for a matrix product: "
        f"utilisation {work / took / rate:.0%}"
    )
    if device == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, features included")
    print(f"{EPOCHS} epochs of {per_epoch} steps: {EPOCHS * per_epoch * took / options.steps / 60:.1f} min")


if __name__ == "__main__":
    main()
