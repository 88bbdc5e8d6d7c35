"""Measure trailers against the real ones, beside orders that need no learning.

Every table carries the rows random, uniform and chronological (chronological order alone agrees with real trailers on
.70 of pairs), or it says nothing. I film shots, J slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from models.baselines.heuristics import fill_chronological, fill_random, fill_uniform
from models.ssmp.checkpoint import Model
from models.ssmp.data import Facts, Sample, make_batch
from models.ssmp.generate import Decoder, Generation, generate
from models.ssmp.masking import sample_hidden
from models.ssmp.metrics import (
    PrecisionRecallF1,
    best_slot_accuracy,
    length_difference,
    levenshtein,
    normalised_levenshtein,
    pairwise_agreement,
    precision_recall_f1,
    slot_accuracy,
    slot_agreement,
)
from models.ssmp.model import SSMP, predict_slots

DECODERS: tuple[Decoder, ...] = ("self_corrective", "confidence", "greedy", "left_to_right")
HEURISTICS = {"random": fill_random, "uniform": fill_uniform, "chronological": fill_chronological}
MASK_RATES = (0.1, 0.5, 1.0)
TOLERANCES = (0, 1, 2, 3, 4)  # shots; the published relaxed F1 is at 3
# streams of the seed: generated data often comes from the plain one, and must not be guessed by it
ORDERS, DRAWS = 1, 2
EVALUATION_BATCH = 8
PRF_NAMES = ("precision", "recall", "f1")
TENTHS = 10  # parts of a trailer by which corrections are counted


@dataclass(frozen=True, slots=True)
class Row:
    """Measures of one trailer, or their means over several.

    matched, one_to_one: tolerance in shots -> precision, recall and F1 on the sets. slot_accuracy: exact shot in the exact
    slot, None where lengths differ. ld, ld_normalised: Levenshtein distance. sld: difference of lengths in shots.
    aa_common, aa_slot: agreement of order, None where it is not defined; means leave those out, and aa_common's are counted
    in unshared (fewer than two shots in common). rounds: predictions made, 0 where no model was asked.
    """

    matched: dict[int, PrecisionRecallF1]
    one_to_one: dict[int, PrecisionRecallF1]
    slot_accuracy: float | None
    ld: float
    ld_normalised: float
    aa_common: float | None
    aa_slot: float | None
    sld: float
    unshared: int = 0
    rounds: float = 0.0

    @property
    def precision(self) -> float:
        return self.matched[0].precision

    @property
    def recall(self) -> float:
        return self.matched[0].recall

    @property
    def f1(self) -> float:
        return self.matched[0].f1


@dataclass(frozen=True, slots=True)
class Made:
    """A trailer that is to be measured: its shots in order, and how they came about where SSMP chose them."""

    shots: Sequence[int]
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Corrections:
    """Where a decoder changes its mind: means a slot, by tenth of the trailer (the supplement's Figure 6).

    hidden_again: draws lost. revised: changes of candidate. most_rounds: of any trailer. forced: share of slots that were
    fixed without winning their draw.
    """

    hidden_again: tuple[float, ...]
    revised: tuple[float, ...]
    most_rounds: int
    forced: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """rows: name -> means over all trailers. groups: period or genre -> (its trailers, its rows).

    masked_accuracy: mask rate -> share of hidden slots whose best shot is the true one (SSMP only). corrections: by row.
    best_slot_accuracy: what a generator that never repeats a shot can reach on these trailers. trailers, films: how many.
    """

    rows: dict[str, Row]
    groups: dict[str, tuple[int, dict[str, Row]]]
    masked_accuracy: dict[float, float]
    corrections: dict[str, Corrections]
    best_slot_accuracy: float
    trailers: int
    films: int

    def figures(self) -> dict[str, float]:
        """Flat, for a checkpoint's card: "masked_accuracy@0.1", "greedy.f1" ..."""
        flat = {f"masked_accuracy@{rate:g}": value for rate, value in self.masked_accuracy.items()}
        for name, row in self.rows.items():
            near = {"f1@3": row.matched[3].f1}
            told = near | {m: getattr(row, m) for m in ("f1", "slot_accuracy", "ld", "aa_common", "aa_slot", "rounds")}
            flat |= {f"{name}.{measure}": round(float(v), 6) for measure, v in told.items() if v is not None}
        return {**flat, "best_slot_accuracy": self.best_slot_accuracy, "trailers": float(self.trailers)}

    def tell(self) -> dict[str, Any]:
        """All of it as a tree for JSON."""
        groups = {
            name: {"trailers": count, "rows": {row: asdict(values) for row, values in rows.items()}}
            for name, (count, rows) in self.groups.items()
        }
        return {**asdict(self), "groups": groups}


def evaluate_model(
    model: Model,
    samples: Sequence[Sample],
    *,
    seed: int = 0,
    decoders: Sequence[Decoder] = DECODERS,
    rates: Sequence[float] = MASK_RATES,
    max_rounds: int = 32,
    scale: float | None = None,
) -> Evaluation:
    """What a model makes of the samples, beside random, uniform and chronological. Same arguments, same figures."""
    made = make_by_heuristics(samples, seed=seed)
    made |= make_by_model(model, samples, seed=seed, decoders=decoders, max_rounds=max_rounds, scale=scale)
    accuracy = {rate: masked_accuracy(model, samples, rate, seed=seed) for rate in rates if isinstance(model, SSMP)}
    return evaluate_trailers(made, samples, masked=accuracy)


def make_by_heuristics(samples: Sequence[Sample], *, seed: int = 0) -> dict[str, list[Made]]:
    """Row -> a trailer for every sample, by the orders that need no model."""
    made: dict[str, list[Made]] = {}
    for name, fill in HEURISTICS.items():
        rng = np.random.default_rng((seed, ORDERS))
        made[name] = [Made(fill(len(s.movie_ID), len(s.labels_J), rng).tolist()) for s in samples]
    return made


def make_by_model(
    model: Model,
    samples: Sequence[Sample],
    *,
    seed: int = 0,
    decoders: Sequence[Decoder] = DECODERS,
    max_rounds: int = 32,
    scale: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, list[Made]]:
    """Row -> a trailer as long as the real one for every sample: a row a decoder for SSMP, one for a baseline.

    scale: softmax at this scale, not the trained one.
    """
    rng = np.random.default_rng((seed, DRAWS))
    made: dict[str, list[Made]] = {}
    for number, sample in enumerate(samples, 1):
        n_shots, n_slots = len(sample.movie_ID), len(sample.labels_J)
        if isinstance(model, SSMP):
            uniforms = rng.random((max_rounds, n_slots))
            predict = predict_slots(model, sample.movie_ID, scale=scale)
            for decoder in decoders:
                done = generate(predict, n_shots, n_slots, uniforms=uniforms, decoder=decoder, max_rounds=max_rounds)
                made.setdefault(decoder, []).append(Made(done.shots.tolist(), done))
        else:
            made.setdefault(model.row, []).append(Made(model.fill(sample.movie_ID, n_slots).tolist()))
        if progress is not None:
            progress(number / len(samples))
    return made


def evaluate_trailers(
    made: Mapping[str, Sequence[Made]],
    samples: Sequence[Sample],
    *,
    facts: Mapping[str, Facts] | None = None,
    masked: Mapping[float, float] | None = None,
) -> Evaluation:
    """Measure made trailers, one for every sample in each row. facts: film -> what it is grouped by."""
    measured = {
        name: [measure_trailer(one, sample.labels_J.tolist()) for one, sample in zip(trailers, samples, strict=True)]
        for name, trailers in made.items()
    }
    groups: dict[str, list[int]] = {}
    for number, sample in enumerate(samples):
        for group in _groups_of((facts or {}).get(sample.film)):
            groups.setdefault(group, []).append(number)
    return Evaluation(
        rows={name: mean_row(rows) for name, rows in measured.items()},
        groups={
            group: (len(chosen), {name: mean_row([rows[i] for i in chosen]) for name, rows in measured.items()})
            for group, chosen in sorted(groups.items())
        },
        masked_accuracy=dict(masked or {}),
        corrections={
            name: count_corrections([one.generation for one in trailers if one.generation is not None])
            for name, trailers in made.items()
            if name == "self_corrective" or name.endswith(": self_corrective")
        },
        best_slot_accuracy=float(np.mean([best_slot_accuracy(sample.labels_J.tolist()) for sample in samples])),
        trailers=len(samples),
        films=len({sample.film for sample in samples}),
    )


def measure_trailer(made: Made, reference: Sequence[int]) -> Row:
    """All measures of one trailer."""
    got = list(made.shots)
    common = pairwise_agreement(got, reference)
    return Row(
        matched={r: precision_recall_f1(got, reference, r) for r in TOLERANCES},
        one_to_one={r: precision_recall_f1(got, reference, r, one_to_one=True) for r in TOLERANCES},
        slot_accuracy=slot_accuracy(got, reference) if len(got) == len(reference) else None,
        ld=levenshtein(got, reference),
        ld_normalised=normalised_levenshtein(got, reference),
        aa_common=common,
        aa_slot=slot_agreement(got, reference),
        sld=length_difference(got, reference),
        unshared=int(common is None),
        rounds=made.generation.rounds if made.generation is not None else 0,
    )


def mean_row(rows: Sequence[Row]) -> Row:
    """Means over trailers, one Row a trailer."""

    def mean(values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return float(np.mean(there)) if there else None

    def mean_prf(values: Sequence[PrecisionRecallF1]) -> PrecisionRecallF1:
        return PrecisionRecallF1(*(float(np.mean([getattr(v, name) for v in values])) for name in PRF_NAMES))

    return Row(
        matched={r: mean_prf([row.matched[r] for row in rows]) for r in TOLERANCES},
        one_to_one={r: mean_prf([row.one_to_one[r] for row in rows]) for r in TOLERANCES},
        slot_accuracy=mean([row.slot_accuracy for row in rows]),
        ld=float(np.mean([row.ld for row in rows])),
        ld_normalised=float(np.mean([row.ld_normalised for row in rows])),
        aa_common=mean([row.aa_common for row in rows]),
        aa_slot=mean([row.aa_slot for row in rows]),
        sld=float(np.mean([row.sld for row in rows])),
        unshared=sum(row.unshared for row in rows),
        rounds=float(np.mean([row.rounds for row in rows])),
    )


def count_corrections(generations: Sequence[Generation]) -> Corrections:
    """How often slots were hidden again and revised, by where in the trailer they stand."""
    sums = np.zeros((3, TENTHS))  # slots, hidden again, revised
    for made in generations:
        tenth = np.arange(len(made.shots)) * TENTHS // len(made.shots)
        for row, values in enumerate((np.ones(len(tenth)), made.hidden_again, made.revised)):
            np.add.at(sums[row], tenth, values)
    per_slot = sums[1:] / np.maximum(sums[0], 1)
    return Corrections(
        hidden_again=tuple(float(value) for value in per_slot[0]),
        revised=tuple(float(value) for value in per_slot[1]),
        most_rounds=max((made.rounds for made in generations), default=0),
        forced=float(sum(made.forced for made in generations) / max(sums[0].sum(), 1)),
    )


def held_out_accuracy(model: Model, samples: Sequence[Sample], *, seed: int = 0, bfloat16: bool = False) -> float:
    """One number that chooses a checkpoint: SSMP's mean masked accuracy over MASK_RATES, a baseline's own accuracy."""
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        if isinstance(model, SSMP):
            return float(np.mean([masked_accuracy(model, samples, rate, seed=seed) for rate in MASK_RATES]))
        model.eval()
        batches = [samples[first : first + EVALUATION_BATCH] for first in range(0, len(samples), EVALUATION_BATCH)]
        right = sum(float(model.measure(make_batch(chosen, device))[1]) for chosen in batches)
    return right / sum(len(sample.labels_J) for sample in samples)


def masked_accuracy(model: SSMP, samples: Sequence[Sample], rate: float, *, seed: int = 0) -> float:
    """Share of hidden slots whose best shot is the true one, the other slots being shown. Masks come from the seed."""
    rng = np.random.default_rng(seed)
    device = model.log_scale.device
    right = total = 0
    model.eval()
    for first in range(0, len(samples), EVALUATION_BATCH):
        chosen = samples[first : first + EVALUATION_BATCH]
        batch = make_batch(chosen, device)
        mask = sample_hidden(np.array([len(sample.labels_J) for sample in chosen]), rate, rng)
        hidden = torch.from_numpy(mask).to(device)
        with torch.inference_mode():
            logits = model(batch.movie_BID, batch.trailer_BJD, hidden, batch.movie_lengths, batch.trailer_lengths)
        right += int((logits[hidden].argmax(-1) == batch.labels_BJ[hidden]).sum())
        total += int(mask.sum())
    return right / total


def _groups_of(facts: Facts | None) -> list[str]:
    """The period and the genres that a film is counted under (the form of the supplement's Table 12)."""
    if facts is None:
        return []
    decade = [f"{facts.year // 10 * 10}-{facts.year // 10 * 10 + 9}"] if facts.year is not None else []
    return [*decade, *facts.genres]
