"""Measure trailers against real ones: of a checkpoint, of a baseline, or made by anything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.tables import Table, figure
from pipeline.errors import InputError

if TYPE_CHECKING:
    from models.ssmp.checkpoint import Model
    from models.ssmp.data import Facts, Sample
    from models.ssmp.evaluate import Evaluation, Made, Row
    from models.ssmp.generate import Decoder
    from pipeline.settings import Site

FACTS_NAME = "films.csv"  # in the data's folder: year and genres of its films
SHOWN_TOLERANCES = (1, 2, 3, 4)  # the published relaxed F1 is at 3


def evaluate_files(
    subject: Path,
    against: Sequence[Path],
    data: Path,
    site: Site,
    *,
    only: Sequence[Path],
    films: Path | None,
    decoders: Sequence[Decoder],
    seed: int,
    max_rounds: int,
    scale: float | None,
    keep: Path | None,
    bar: Callable[[str, float], None],
) -> Evaluation:
    """One table of everything that is to be compared, on the trailers of the folder `data`.

    subject, against: checkpoints (.safetensors) of SSMP or of a baseline, or trailers made elsewhere (.json: trailer ->
    film shots, counted from 0). only: lists of films or trailers; films: CSV of years and genres. keep: where to write the
    subject's trailers, in the same form as they are read.
    """
    from models.device import choose_device
    from models.ssmp.data import choose_samples, load_samples, read_facts, read_lists
    from models.ssmp.evaluate import MASK_RATES, evaluate_trailers, make_by_heuristics, make_by_model, masked_accuracy
    from models.ssmp.model import SSMP
    from pipeline.workdir import deliver_text

    samples: Sequence[Sample] = load_samples(data)
    if only:
        samples = choose_samples(samples, read_lists(only))
    films = films or (data / FACTS_NAME if (data / FACTS_NAME).is_file() else None)
    facts: dict[str, Facts] = read_facts(films) if films is not None else {}
    stems = [path.stem for path in (subject, *against)]
    repeated = {stem for stem in stems if stems.count(stem) > 1}
    if repeated:
        raise InputError(f"two files would make rows named {repeated.pop()}: rename one")
    made = make_by_heuristics(samples, seed=seed)
    first: dict[str, list[Made]] = {}
    masked: dict[float, float] = {}
    for path in (subject, *against):
        if path.suffix == ".json":
            rows = {path.stem: read_trailers(path, samples)}
        else:
            model = load_for(path, samples, choose_device(site.device))
            rows = make_by_model(
                model, samples, seed=seed, decoders=decoders, max_rounds=max_rounds, scale=scale,
                progress=lambda share, name=path.stem: bar(name, share),  # type: ignore[misc]
            )  # fmt: skip
            if path == subject and isinstance(model, SSMP):
                masked = {rate: masked_accuracy(model, samples, rate, seed=seed) for rate in MASK_RATES}
            elif path != subject:
                rows = {f"{path.stem}: {name}" if isinstance(model, SSMP) else path.stem: r for name, r in rows.items()}
        first = first or rows
        for name, trailers in rows.items():
            if name in made:
                raise InputError(f"two rows would be named {name}: rename {path}")
            made[name] = trailers
    if keep is not None:
        chosen = next(iter(first.values()))
        told = {s.name: list(one.shots) for s, one in zip(samples, chosen, strict=True)}
        deliver_text(json.dumps(told, indent=1) + "\n", keep)
    return evaluate_trailers(made, samples, facts=facts, masked=masked)


def check_output(option: str, path: Path | None, suffix: str, inputs: Sequence[Path], data: Path) -> None:
    """Refuse, before any work, a place where a result cannot or must not be written."""
    if path is None:
        return
    if path.suffix != suffix:
        raise InputError(f"{option} {path} must end in {suffix}")
    if path.is_dir() or not all(parent.is_dir() for parent in path.parents if parent.exists()):
        raise InputError(f"{option} {path} cannot be a file: choose another place")
    own = [file.resolve() for given in inputs for file in (given, given.with_suffix(".json"))]
    if path.resolve() in own or data.resolve() in path.resolve().parents:
        raise InputError(f"{option} {path} would be written over what is measured: choose another place")


def choose_decoders(words: Sequence[str]) -> Sequence[Decoder]:
    """Decoders by name, all if none is named."""
    from models.ssmp.evaluate import DECODERS

    unknown = [word for word in words if word not in DECODERS]
    if unknown:
        raise InputError(f"no decoder {unknown[0]!r}: one of {', '.join(DECODERS)}")
    return [decoder for decoder in DECODERS if decoder in words] or DECODERS


def load_for(path: Path, samples: Sequence[Sample], device: str) -> Model:
    """A checkpoint that reads features of these samples' width."""
    from models.ssmp.checkpoint import load_model

    model = load_model(path, device=device).model
    width = samples[0].movie_ID.shape[1]
    if model.config.feature_dim != width:
        raise InputError(f"{path} reads features of width {model.config.feature_dim}, the data has {width}")
    return model


def read_trailers(path: Path, samples: Sequence[Sample]) -> list[Made]:
    """Trailers made elsewhere, one for every sample. Raises InputError for one that is missing or names no shot."""
    from models.ssmp.description import read_json
    from models.ssmp.evaluate import Made

    told = read_json(path, "file of trailers")
    if "sha256" in told:
        raise InputError(f"{path} describes a checkpoint: name the .safetensors file beside it")
    made = []
    for sample in samples:
        shots: Any = told.get(sample.name)
        if shots is None:
            raise InputError(f"{path} has no trailer {sample.name!r}")
        good = isinstance(shots, list) and all(type(s) is int and 0 <= s < len(sample.movie_ID) for s in shots)
        if not good or not shots:
            raise InputError(f"{path}, trailer {sample.name}: expected film shots from 0 to {len(sample.movie_ID) - 1}")
        made.append(Made(list(shots)))
    return made


def draw_tables(evaluation: Evaluation) -> list[Table]:
    """The tables of an evaluation: all trailers, by period and genre, and where the model changed its mind."""
    from models.ssmp import published

    paper = published.SSMP
    near = ["", "P", "R", "F1", *(f"F1±{r}" for r in SHOWN_TOLERANCES), *(f"1:1±{r}" for r in SHOWN_TOLERANCES)]
    shots = [[name, *_shot_cells(row)] for name, row in evaluation.rows.items()]
    published_shots = [figure(paper[key], 4) for key in ("precision", "recall", "f1")]
    shots.append(["SSMP as published*", *published_shots, *["-"] * (2 * len(SHOWN_TOLERANCES))])
    order = [[name, *_order_cells(row)] for name, row in evaluation.rows.items()]
    order.append(["SSMP as published*", figure(paper["ld"], 2), "-", figure(paper["aa"], 2), *["-"] * 4])
    unshared = ", ".join(f"{name} {row.unshared}" for name, row in evaluation.rows.items() if row.unshared)
    masked = "".join(f" Masked accuracy at {rate:g}: {v:.3f}." for rate, v in evaluation.masked_accuracy.items())
    tables = [
        Table(
            "Which shots",
            near,
            shots,
            f"{evaluation.trailers} trailers of {evaluation.films} films. ±R: within R shots, any match and one to one. "
            "*On Test-ALL of CMTD.",
        ),
        Table(
            "In which order",
            ["", "LD", "LD/n", "AA common", "AA slot", "SLD", "slot", "rounds"],
            order,
            f"slot: exact shot in the exact slot, at most {evaluation.best_slot_accuracy:.3f} where no shot repeats.{masked}"
            + (f" Left out of AA common, under two shots in common: {unshared}." if unshared else "")
            + " *Its AA is not defined exactly.",
        ),
    ]
    if evaluation.groups:
        groups = list(evaluation.groups)
        heads = [f"{group} ({evaluation.groups[group][0]})" for group in groups]
        known = {**published.PERIODS, **published.GENRES}
        rows = [[name, *(figure(evaluation.groups[group][1][name].f1) for group in groups)] for name in evaluation.rows]
        rows.append(["SSMP as published*", *(figure(known.get(group), 4) for group in groups)])
        tables.append(Table("F1 by period and genre (trailers)", ["", *heads], rows))
    for name, found in evaluation.corrections.items():
        rows = [
            ["hidden again a slot", *(figure(value, 2) for value in found.hidden_again)],
            ["revised a slot", *(figure(value, 2) for value in found.revised)],
        ]
        parts = [f"{100 * k // len(found.revised)} %" for k in range(len(found.revised))]
        note = f"Most rounds of a trailer {found.most_rounds}; {100 * found.forced:.1f} % of slots fixed at the last."
        tables.append(Table(f"Corrections along the trailer, {name}", ["from", *parts], rows, note))
    return tables


def _shot_cells(row: Row) -> list[str]:
    near = [*(row.matched[r].f1 for r in SHOWN_TOLERANCES), *(row.one_to_one[r].f1 for r in SHOWN_TOLERANCES)]
    return [figure(value) for value in (row.precision, row.recall, row.f1, *near)]


def _order_cells(row: Row) -> list[str]:
    agreement = [figure(value) for value in (row.ld_normalised, row.aa_common, row.aa_slot)]
    return [figure(row.ld, 2), *agreement, figure(row.sld, 1), figure(row.slot_accuracy), figure(row.rounds or None, 1)]
