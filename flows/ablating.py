"""Rerun the supplement's tables on a data set, and write them beside the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.tables import Table, figure
from flows.training import Split, choose_model, choose_recipe, load_split
from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.ssmp.ablation import Variant
    from pipeline.settings import Site

TITLES = {
    "schedules": "Schedules of the mask rate",
    "mu_a": "mu_a, the weight of the new accuracy (as printed)",
    "mu_t": "mu_t, the weight of the old rate",
    "layers": "Layers, and TGT at equal width",
    "decoders": "Decoding",
    "loss": "Loss",
    "systems": "Systems",
}
COLUMNS = {
    "f1": "F1",
    "f1@3": "F1±3",
    "ld": "LD",
    "aa_common": "AA common",
    "aa_slot": "AA slot",
    "slot_accuracy": "slot",
}
NAME = "ablation.md"


def ablate(
    data: Path,
    out: Path,
    site: Site,
    *,
    test: Sequence[Path],
    tables: Sequence[str],
    seeds: int,
    steps: int | None,
    epochs: float | None,
    preset: str,
    say: Callable[[str], None],
    bar: Callable[[str, float], None],
) -> tuple[list[Table], dict[str, Any]]:
    """Train and measure every row of the named tables (all if none) with seeds 0 .. seeds - 1; write out/ablation.md.

    test: lists of the films or trailers to measure on; without, a tenth of the films, the same for all. Another tenth
    chooses each training's best checkpoint. Interrupted, it goes on where it was. Returns tables, and the same as a tree.
    """
    import numpy as np

    from models.device import choose_device
    from models.ssmp.ablation import Bench, list_variants, measure_variant
    from models.ssmp.data import digest_samples, split_by_film
    from pipeline.workdir import deliver_text

    unknown = [name for name in tables if name not in TITLES]
    if unknown:
        raise InputError(f"no table {unknown[0]!r}: one of {', '.join(TITLES)}")
    whole = load_split(data, seed=0, held_out=test)
    if len({sample.film for sample in whole.learning}) < 2:
        raise InputError(f"{data} has too few films: at least one each to learn from, to choose by and to measure on")
    learning, held_out = split_by_film(whole.learning, 0.1, np.random.default_rng(0))
    device = choose_device(site.device)
    bench = Bench(
        learning,
        held_out,
        whole.held_out,
        lambda kind, layers: choose_model(preset, whole.width, kind=kind, layers=layers),
        choose_recipe(preset, Split(learning, held_out), device, {"steps": steps}, epochs=epochs),
        out,
        device,
        " ".join(digest_samples(samples) for samples in (learning, held_out, whole.held_out)),
    )
    variants = [v for v in list_variants() if not tables or v.table in tables]
    measured: list[tuple[Variant, list[dict[str, float]]]] = []
    for number, variant in enumerate(variants):
        rows = []
        for seed in range(seeds):
            rows.append(measure_variant(bench, variant, seed))
            bar("ablation", (number * seeds + seed + 1) / (len(variants) * seeds))
        measured.append((variant, rows))
        say(f"{variant.table}, {variant.name}: F1 {spread([row['f1'] for row in rows])}")
    about = (
        f"{data.name}: {len(learning)} trailers to learn from, {len(held_out)} to choose the checkpoint by, "
        f"{len(whole.held_out)} measured; preset {preset}, {bench.recipe.steps} steps of {bench.recipe.batch_size}, "
        f"learning rate {bench.recipe.lr:g}; mean ± standard deviation over {seeds} seeds. paper: F1 on Test-ALL of CMTD."
    )
    drawn = draw_tables(measured)
    deliver_text(f"# Ablations\n\n{about}\n\n" + "\n".join(table.markdown() for table in drawn), out / NAME)
    told = [{"table": v.table, "name": v.name, "published_f1": v.published, "seeds": rows} for v, rows in measured]
    return drawn, {"about": about, "rows": told, "markdown": str(out / NAME)}


def draw_tables(measured: Sequence[tuple[Variant, Sequence[dict[str, float]]]]) -> list[Table]:
    """One table for each of the names that stand in the rows."""
    drawn = []
    for name in dict.fromkeys(variant.table for variant, _ in measured):
        cells = [
            [
                v.name,
                *(spread([row[m] for row in rows], 2 if m == "ld" else 3) for m in COLUMNS),
                figure(v.published, 4),
            ]
            for v, rows in measured
            if v.table == name
        ]
        note = describe_published_decoders() if name == "decoders" else ""
        drawn.append(Table(TITLES[name], ["", *COLUMNS.values(), "paper"], cells, note))
    return drawn


def describe_published_decoders() -> str:
    """What the paper says of decoding beside its F1."""
    from models.ssmp import published

    distances = ", ".join(f"{name} {value:.2f}" for name, value in published.DECODERS_LD.items())
    relaxed = ", ".join(f"{name} {a:.3f} and {b:.3f}" for name, (a, b) in published.RELAXED_F1.items())
    return f"Paper, LD: {distances}; F1 within 3 shots, Test-8 and Test-74: {relaxed}."


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation over seeds (n - 1), of those that have the measure."""
    import numpy as np

    there = [value for value in values if value is not None]
    if len(there) < 2:
        return figure(there[0] if there else None, digits)
    return f"{np.mean(there):.{digits}f} ± {np.std(there, ddof=1):.{digits}f}"
