"""Give every shot a vector, with whichever encoder is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from models.encoders import Encoder, ShotContent
from pipeline.analysis import read_samples
from pipeline.errors import MissingDependencyError
from pipeline.records import F32, I64, U8, Analysis, Features, Shots, Span

log = logging.getLogger("trailer")


def encode_shots(
    analysis: Analysis, shots: Shots, encoder: Encoder, *, progress: Callable[[float], None] | None = None
) -> Features:
    """Features (n, encoder.width), row i for shot i, from the analysis' sampled pictures, changes and sound levels."""
    rows = encode_all(encoder, len(shots), lambda n: show_shot(analysis, shots.clear[n], encoder), progress=progress)
    return Features(shots.film.fingerprint, encoder.identity.name, rows)


def encode_all(
    encoder: Encoder,
    count: int,
    show: Callable[[int], ShotContent],
    *,
    progress: Callable[[float], None] | None = None,
) -> F32:
    """Unit rows (count, width) of the shots that show(0), show(1) ... give.

    While a batch is encoded the next one is read and prepared by another thread. When the device's memory runs out the
    batch is halved, with a WARNING; raises MissingDependencyError where a single shot does not fit.
    """
    size = encoder.batch
    rows: list[F32] = []
    with ThreadPoolExecutor(1, "prepare") as reader:
        for batch in _prepare_ahead(reader, encoder, count, show):
            at = 0
            while at < len(batch):
                try:
                    rows.append(encoder.encode(batch[at : at + size]))
                except RuntimeError as error:  # torch.OutOfMemoryError is one; named by its class, torch stays unloaded
                    if type(error).__name__ != "OutOfMemoryError":
                        raise
                    if size == 1:
                        raise MissingDependencyError(
                            f"{encoder.identity.name} does not fit into the device's memory: use TRAILER_DEVICE=cpu"
                        ) from error
                    size = size // 2
                    log.warning("the device's memory ran out: going on with %d shots at once", size)
                    continue
                at += size
                if progress is not None:
                    progress(sum(map(len, rows)) / count)
    return np.concatenate(rows) if rows else np.zeros((0, encoder.identity.width), np.float32)


def _prepare_ahead(
    reader: ThreadPoolExecutor, encoder: Encoder, count: int, show: Callable[[int], ShotContent]
) -> Iterator[Sequence[Any]]:
    def prepare(start: int) -> list[Any]:
        return [encoder.prepare(show(number)) for number in range(start, min(start + encoder.batch, count))]

    following = reader.submit(prepare, 0)
    for start in range(0, count, encoder.batch):
        batch = following.result()
        if start + encoder.batch < count:
            following = reader.submit(prepare, start + encoder.batch)
        yield batch


def show_shot(analysis: Analysis, span: Span, encoder: Encoder) -> ShotContent:
    """What the encoder may see of a shot: at each of its moments the nearest sampled picture of the shot."""
    numbers = nearest_samples(analysis, span, encoder.moments(span.duration))
    kept, where = np.unique(numbers, return_inverse=True)
    pictures = [crop_bars(picture, analysis) for picture in read_samples(analysis, kept, shortest=encoder.shortest)]
    first, last = np.searchsorted(analysis.times, [span.start, span.end])
    windows = slice(
        max(0, round((span.start - analysis.sound_start) / analysis.sound_step)),
        max(0, round((span.end - analysis.sound_start) / analysis.sound_step)),
    )
    return ShotContent([pictures[w] for w in where], analysis.scores[first + 1 : last], analysis.sound[windows])


def nearest_samples(analysis: Analysis, span: Span, moments: Sequence[float]) -> I64:
    """Numbers of the span's sampled pictures that are nearest to these moments, seconds from its start."""
    times = analysis.sample_times
    inside = np.flatnonzero((times >= span.start) & (times < span.end))
    if not len(inside):  # a very short shot: the sample nearest its middle
        inside = np.array([np.argmin(np.abs(times - (span.start + span.end) / 2))])
    wanted = span.start + np.asarray(moments)
    nearest: I64 = inside[np.abs(times[inside][None, :] - wanted[:, None]).argmin(axis=1)]
    return nearest


def crop_bars(picture: U8, analysis: Analysis) -> U8:
    """Without the black bars: they would make all shots of a film alike."""
    left, top, right, bottom = (float(bar) for bar in analysis.letterbox)
    height, width = picture.shape[:2]
    rows = slice(round(top * height), max(round(top * height) + 2, round((1 - bottom) * height)))
    columns = slice(round(left * width), max(round(left * width) + 2, round((1 - right) * width)))
    return picture[rows, columns]
