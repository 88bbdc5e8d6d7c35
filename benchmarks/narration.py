"""How long the narration's placement takes, against a plain loop over lines and slots and a floor.

    python benchmarks/narration.py [--lines 200] [--slots 2000] [--rounds 5]

Peer: equation 13 as it is written, two nested loops, on the same numbers (one slot a line). Floor: one pass over the table
of similarities with numpy's cumulative maximum. All in this process, medians.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pipeline.narration import align_narration


def loop(c: NDArray[np.float64], lines: NDArray[np.float64], slots: NDArray[np.float64]) -> float:
    """The largest sum by equation 13, in plain Python."""
    best = [0.0] * (len(slots) + 1)
    for n in range(len(lines)):
        row = [-np.inf] * (len(slots) + 1)
        for j in range(1, len(slots) + 1):
            row[j] = row[j - 1]
            if lines[n] <= slots[j - 1]:
                row[j] = max(row[j], best[j - 1] + c[n, j - 1])
        best = row
    return best[-1]


def floor(c: NDArray[np.float64]) -> float:
    return float(np.maximum.accumulate(c, axis=1)[-1, -1])


def measure(work: Callable[[], object], rounds: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--slots", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    c = rng.normal(size=(options.lines, options.slots))
    lines, slots = rng.uniform(1, 4, options.lines), rng.uniform(1, 3, options.slots)
    short = np.minimum(lines, 2.5)
    plain = align_narration(c, short, slots, spans=False)
    total = sum(float(c[n, spot[0]]) for n, spot in enumerate(plain) if spot is not None)
    assert abs(total - loop(c, short, slots)) < 1e-6
    peer = measure(lambda: loop(c, short, slots), 1)
    base = measure(lambda: floor(c), options.rounds)
    print(f"{options.lines} lines, {options.slots} slots; loop {peer:.3f} s, floor {1000 * base:.2f} ms")
    for name, work in {
        "one slot a line": lambda: align_narration(c, short, slots, spans=False),
        "spans, mean": lambda: align_narration(c, lines, slots),
        "spans, start": lambda: align_narration(c, lines, slots, score="start"),
        "spans, mean, skipping": lambda: align_narration(c, lines, slots, skip_cost=0.5),
    }.items():
        seconds = measure(work, options.rounds)
        print(
            f"{name:<22} {1000 * seconds:7.1f} ms   loop / ours {peer / seconds:5.1f}   ours / floor {seconds / base:.1f}"
        )


if __name__ == "__main__":
    main()
