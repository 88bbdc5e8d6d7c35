"""Time generation at the paper's size: a film of 2,000 shots, a trailer of 76 slots, on CPU (float32 and bfloat16) and GPU.

The floor is the arithmetic: one forward pass's multiplications at this machine's own measured matrix rate. A random model
of the published shape, at its trained scale; the number of passes is bounded by max_rounds + 1 whatever the weights.

    python benchmarks/generation.py [--shots 2000] [--slots 76] [--preset paper] [--decoder self_corrective]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from flops import count_flop, matrix_rate, seconds

from models.ssmp.data import unit_rows
from models.ssmp.generate import generate
from models.ssmp.model import PRESETS, SSMP, predict_slots
from models.ssmp.train import make_model


PATIENCE = 15.0  # s; where one pass takes longer, a whole generation is not worth waiting for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=76)
    parser.add_argument("--preset", default="paper", choices=PRESETS)
    parser.add_argument("--decoder", default="self_corrective")
    options = parser.parse_args()
    config = PRESETS[options.preset]
    model = make_model(config, 0)
    assert isinstance(model, SSMP)
    rng = np.random.default_rng(0)
    # real shots of a film resemble each other: mean cosine 0.6
    rows = (
        rng.normal(size=(1, config.feature_dim)) * 0.6**0.5
        + rng.normal(size=(options.shots, config.feature_dim)) * 0.4**0.5
    )
    film = unit_rows(rows).astype(np.float32)
    uniforms = rng.random((32, options.slots))
    flop = count_flop(config, options.shots, options.slots)
    print(
        f"{options.preset}: {options.shots} shots, {options.slots} slots, {flop / 1e9:.0f} GFLOP a pass, {options.decoder}"
    )
    places = [("cpu", torch.float32), ("cpu", torch.bfloat16)]
    places += [("cuda", torch.float32), ("cuda", torch.bfloat16)] if torch.cuda.is_available() else []
    for device, dtype in places:
        predict = predict_slots(model.to(device), film, bfloat16=dtype == torch.bfloat16)
        one_pass = seconds(lambda: predict(np.full(options.slots, -1)), device)  # noqa: B023
        if one_pass < PATIENCE:  # the first pass also warms up
            one_pass = min(one_pass, *(seconds(lambda: predict(np.full(options.slots, -1)), device) for _ in range(2)))  # noqa: B023
        rate = matrix_rate(device, dtype, 1024 if device == "cpu" else 8192)
        name = f"{device} {str(dtype).removeprefix('torch.')}"
        floor = f"{one_pass / (flop / rate):.2f} times the floor of {flop / rate:.3f} s at {rate / 1e9:.3g} GFLOP/s"
        if one_pass >= PATIENCE:
            print(
                f"{name}: one pass {one_pass:.1f} s = {floor}; not run on: 33 passes would take {33 * one_pass / 60:.0f} min"
            )
            continue
        started = time.perf_counter()
        made = generate(predict, options.shots, options.slots, uniforms=uniforms, decoder=options.decoder)
        print(
            f"{name}: {time.perf_counter() - started:.2f} s for {made.rounds} passes (at most 33), {made.forced} slots at "
            f"the last; one pass {one_pass:.3f} s = {floor}"
        )


if __name__ == "__main__":
    main()
