"""Time and memory of ImageBind at full size with random weights: shots a second, for both settings and several batches.

On a CPU one shot with one view, unless told otherwise. The pictures are noise of 256 px, prepared outside the clock; the
floor is the tower's arithmetic at this machine's own measured matrix rate of the same type.

    python benchmarks/encoders.py [--device auto] [--views official one] [--batches 1 8 32] [--repeat 2]
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import numpy as np
import torch
from flops import matrix_rate, seconds

from models.device import choose_device
from models.encoders import ShotContent
from models.encoders.imagebind import HUGE, ImageBind, ImageBindConfig, Towers, use_bfloat16
from models.encoders.imagebind_input import CLIPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--views", nargs="+", choices=CLIPS)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    device = choose_device(options.device)
    on_cpu = device == "cpu"
    settings = options.views or (["one"] if on_cpu else ["one", "official"])
    batches = options.batches or ([1, 2] if on_cpu else [1, 8, 32, 64])
    dtype = torch.float32 if on_cpu else torch.bfloat16

    torch.manual_seed(0)
    with torch.device(device):
        towers = Towers().requires_grad_(False).eval()
    if not on_cpu:
        use_bfloat16(towers)
    rate = matrix_rate(device, dtype, 1024 if on_cpu else 8192)
    name = torch.cuda.get_device_name() if not on_cpu else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}, {str(dtype).removeprefix('torch.')}, matrix rate {rate / 1e9:.3g} GFLOP/s")
    print("| views | shots at once | crops | shots/s | seconds a crop | of the floor | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for views in settings:
        encoder = ImageBind(Path(), "", device=device, views=views)
        encoder._towers = towers
        for batch in batches:
            prepared = [encoder.prepare(noise(number, 2 * CLIPS[views])) for number in range(batch)]
            crops = sum(len(seen.shares) for seen in prepared)
            if not on_cpu:
                torch.cuda.reset_peak_memory_stats()
            spent = min(seconds(lambda: encoder.encode(prepared), device) for _ in range(options.repeat))  # noqa: B023
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            if not on_cpu:
                peak = torch.cuda.max_memory_allocated() / 2**20
            floor = crops * count_flop(HUGE) / rate
            print(
                f"| {views} | {batch} | {crops} | {batch / spent:.3g} | {spent / crops:.3g} | {spent / floor:.2f} times "
                f"| {peak:.0f} |",
                flush=True,
            )


def noise(seed: int, pictures: int) -> ShotContent:
    """A shot of 16:9 pictures, all different."""
    rng = np.random.default_rng(seed)
    shown = [rng.integers(0, 256, (256, 456, 3), np.uint8) for _ in range(pictures)]
    return ShotContent(shown, np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32))


def count_flop(config: ImageBindConfig) -> float:
    """Of one crop through the vision tower: two a multiplication, attention's included, stem and head are nothing."""
    tokens, width = 257, config.vision.width
    return config.vision.layers * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


if __name__ == "__main__":
    main()
