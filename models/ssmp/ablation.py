"""Train every variant of the supplement's tables on one data set, with several seeds, and measure all alike.

Variants that are the same training share it: the published setting stands in every table and is trained once a seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from models.ssmp import published
from models.ssmp.checkpoint import Config, load_model, write_whole
from models.ssmp.data import Sample
from models.ssmp.description import read_json
from models.ssmp.evaluate import evaluate_model
from models.ssmp.train import Recipe, train
from pipeline.errors import InputError

VERSION = 1  # raised when the same training or measuring gives other figures
MEASURES = ("f1", "f1@3", "ld", "aa_common", "aa_slot", "slot_accuracy")


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a table: what differs from the published setting.

    kind: of model. layers: None = the preset's. changes: fields of Recipe. decoder: the row of the evaluation that is told;
    "" = the only one of a baseline. published: the paper's F1, None where it has none.
    """

    table: str
    name: str
    published: float | None = None
    kind: str = "ssmp"
    layers: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    decoder: str = "self_corrective"


def list_variants() -> list[Variant]:
    """All rows, table by table, in the order of the supplement."""
    schedules = ("self_paced", "self_paced_ema", "linear_up", "linear_down", "random", "fixed")
    rows = [Variant("schedules", name, published.SCHEDULES.get(name), changes={"schedule": name}) for name in schedules]
    rows += [Variant("mu_a", f"{value:g}", paper, changes={"mu_a": value}) for value, paper in published.MU_A.items()]
    rows += [Variant("mu_t", f"{value:g}", changes={"mu_t": value}) for value in (0.0, 0.1, 0.5, 0.9)]
    rows += [Variant("layers", str(count), paper, layers=count) for count, paper in published.LAYERS.items()]
    rows += [Variant("layers", "tgt", published.TGT_F1, kind="tgt", decoder="")]
    decoders = ("self_corrective", "greedy", "confidence", "left_to_right")
    rows += [Variant("decoders", name, published.DECODERS.get(name), decoder=name) for name in decoders]
    rows += [Variant("loss", name, paper, changes={"loss": name}) for name, paper in published.LOSSES.items()]
    rows += [
        Variant("systems", "ssmp", published.SSMP["f1"]),
        Variant("systems", "tgt", published.TGT_F1, kind="tgt", decoder=""),
        Variant("systems", "ranker", kind="ranker", decoder=""),
        *(Variant("systems", name, decoder=name) for name in ("random", "uniform", "chronological")),
    ]
    return rows


@dataclass(frozen=True, slots=True)
class Bench:
    """What all variants share. configure: (kind, layers) -> the model to train; recipe: the published setting.

    data: digest of the three lists, so that a changed data set is not answered with old figures.
    """

    learning: Sequence[Sample]
    held_out: Sequence[Sample]
    test: Sequence[Sample]
    configure: Callable[[str, int | None], Config]
    recipe: Recipe
    folder: Path
    device: str
    data: str


def measure_variant(bench: Bench, variant: Variant, seed: int) -> dict[str, float]:
    """MEASURES of one row for one seed; what was measured before, on the same data and settings, is read back."""
    recipe = replace(bench.recipe, seed=seed, **variant.changes)
    config = bench.configure(variant.kind, variant.layers)
    inputs = {
        "recipe": asdict(recipe),
        "config": asdict(config),
        "kind": variant.kind,
        "data": bench.data,
        "version": VERSION,
    }
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    folder = bench.folder / "runs" / f"{variant.kind}-{key}-{seed}"
    done = folder / "measured.json"
    if not done.exists():
        save_every = max(min(500, recipe.steps // 10), 1)
        result = train(
            bench.learning,
            bench.held_out,
            folder,
            config,
            recipe,
            device=bench.device,
            save_every=save_every,
            resume=True,
        )
        model = load_model(result.best, device=bench.device).model
        measured = evaluate_model(model, bench.test, seed=seed, rates=()).rows
        told = {
            name: {**{m: getattr(row, m) for m in MEASURES if "@" not in m}, "f1@3": row.matched[3].f1}
            for name, row in measured.items()
        }
        write_whole(done, (json.dumps({"inputs": inputs, "rows": told}, indent=1) + "\n").encode())
    try:
        rows: dict[str, dict[str, float]] = read_json(done, "measurement")["rows"]  # type: ignore[assignment]
        return rows[variant.decoder or variant.kind]
    except (KeyError, TypeError) as error:
        raise InputError(f"not a measurement of this program: {done}: remove it") from error
