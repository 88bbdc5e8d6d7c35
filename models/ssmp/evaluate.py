"""Measure what a trained SSMP can do, beside orders that need no learning.

Every table carries the rows random, uniform and chronological (chronological order alone agrees with real trailers on
.70 of pairs), or it says nothing. I film shots, J slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.ssmp.data import Sample, make_batch
from models.ssmp.generate import Decoder, generate
from models.ssmp.masking import sample_hidden
from models.ssmp.metrics import (
    best_slot_accuracy,
    levenshtein,
    pairwise_agreement,
    precision_recall_f1,
    slot_accuracy,
    slot_agreement,
)
from models.ssmp.model import SSMP, predict_slots

DECODERS: tuple[Decoder, ...] = ("self_corrective", "confidence", "greedy", "left_to_right")
MASK_RATES = (0.1, 0.5, 1.0)
NEAR = 3  # shots: the tolerance of the published relaxed F1


@dataclass(frozen=True, slots=True)
class Row:
    """Means over the trailers. aa_common leaves out `unshared` trailers, with fewer than two shots in common.

    f1, precision, recall: on the sets, exact; f1_near: within NEAR shots. slot_accuracy: exact shot in the exact slot.
    ld: Levenshtein distance in shots. rounds: predictions made (0 for the rows that need no model).
    """

    f1: float
    f1_near: float
    precision: float
    recall: float
    slot_accuracy: float
    ld: float
    aa_common: float | None
    aa_slot: float
    unshared: int
    rounds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """masked_accuracy: mask rate -> share of hidden slots whose best shot is the true one. rows: name -> measures.

    best_slot_accuracy: what a generator that never repeats a shot can reach on these trailers. trailers: how many.
    """

    masked_accuracy: dict[float, float]
    rows: dict[str, Row]
    best_slot_accuracy: float
    trailers: int

    def figures(self) -> dict[str, float]:
        """Flat, for a checkpoint's card: "masked_accuracy@0.1", "greedy.f1" ..."""
        flat = {f"masked_accuracy@{rate:g}": value for rate, value in self.masked_accuracy.items()}
        for name, row in self.rows.items():
            for measure in ("f1", "f1_near", "slot_accuracy", "ld", "aa_common", "aa_slot", "rounds"):
                value = getattr(row, measure)
                if value is not None:
                    flat[f"{name}.{measure}"] = round(float(value), 6)
        return {**flat, "best_slot_accuracy": self.best_slot_accuracy, "trailers": float(self.trailers)}


def evaluate_model(
    model: SSMP,
    samples: Sequence[Sample],
    *,
    seed: int = 0,
    decoders: Sequence[Decoder] = DECODERS,
    rates: Sequence[float] = MASK_RATES,
    max_rounds: int = 32,
    scale: float | None = None,
) -> Evaluation:
    """Masked accuracy at the rates, and by generation the rows of `decoders` beside random, uniform and chronological.

    scale: softmax at this scale when generating, not the trained one. Same model, samples and seed: same figures.
    """
    rng = np.random.default_rng(seed)
    trailers: dict[str, list[tuple[NDArray[np.int64], int]]] = {}  # row -> (shots, rounds) per sample
    for sample in samples:
        n_shots, n_slots = len(sample.movie_ID), len(sample.labels_J)
        uniforms = rng.random((max_rounds, n_slots))
        drawn = rng.permutation(n_shots)[:n_slots]
        even = ((np.arange(n_slots) + 0.5) * n_shots / n_slots).astype(np.int64)
        for name, shots in (("random", drawn), ("uniform", even), ("chronological", np.sort(drawn))):
            trailers.setdefault(name, []).append((shots, 0))
        predict = predict_slots(model, sample.movie_ID, scale=scale)
        for decoder in decoders:
            made = generate(predict, n_shots, n_slots, uniforms=uniforms, decoder=decoder, max_rounds=max_rounds)
            trailers.setdefault(decoder, []).append((made.shots, made.rounds))
    references = [[int(shot) for shot in sample.labels_J] for sample in samples]
    return Evaluation(
        {rate: masked_accuracy(model, samples, rate, seed=seed) for rate in rates},
        {name: measure_trailers(made, references) for name, made in trailers.items()},
        float(np.mean([best_slot_accuracy(reference) for reference in references])),
        len(samples),
    )


def masked_accuracy(
    model: SSMP, samples: Sequence[Sample], rate: float, *, seed: int = 0, batch_size: int = 8
) -> float:
    """Share of hidden slots whose best shot is the true one, the other slots being shown. Masks come from the seed."""
    rng = np.random.default_rng(seed)
    device = model.log_scale.device
    right = total = 0
    model.eval()
    for first in range(0, len(samples), batch_size):
        chosen = samples[first : first + batch_size]
        batch = make_batch(chosen, device)
        mask = sample_hidden(np.array([len(sample.labels_J) for sample in chosen]), rate, rng)
        hidden = torch.from_numpy(mask).to(device)
        with torch.inference_mode():
            logits = model(batch.movie_BID, batch.trailer_BJD, hidden, batch.movie_lengths, batch.trailer_lengths)
        right += int((logits[hidden].argmax(-1) == batch.labels_BJ[hidden]).sum())
        total += int(mask.sum())
    return right / total


def measure_trailers(made: Sequence[tuple[NDArray[np.int64], int]], references: Sequence[Sequence[int]]) -> Row:
    """One row of a table: means over trailers (shots, rounds) against their references of equal length."""
    pairs = [
        ([int(shot) for shot in shots], list(reference)) for (shots, _), reference in zip(made, references, strict=True)
    ]
    exact = [precision_recall_f1(got, want) for got, want in pairs]
    common = [agreement for got, want in pairs if (agreement := pairwise_agreement(got, want)) is not None]
    slots = [agreement for got, want in pairs if (agreement := slot_agreement(got, want)) is not None]
    return Row(
        f1=float(np.mean([e.f1 for e in exact])),
        f1_near=float(np.mean([precision_recall_f1(got, want, NEAR).f1 for got, want in pairs])),
        precision=float(np.mean([e.precision for e in exact])),
        recall=float(np.mean([e.recall for e in exact])),
        slot_accuracy=float(np.mean([slot_accuracy(got, want) for got, want in pairs])),
        ld=float(np.mean([levenshtein(got, want) for got, want in pairs])),
        aa_common=float(np.mean(common)) if common else None,
        aa_slot=float(np.mean(slots)) if slots else 0.5,
        unshared=len(pairs) - len(common),
        rounds=float(np.mean([rounds for _, rounds in made])),
    )
