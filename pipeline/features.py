"""Give every shot a vector, with whichever encoder is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.encoders import Encoder, ShotContent
from pipeline.analysis import read_samples
from pipeline.records import U8, Analysis, Features, Shots, Span

MOST_PICTURES = 5  # per shot; more of one shot add cost and little else


def encode_shots(
    analysis: Analysis, shots: Shots, encoder: Encoder, *, progress: Callable[[float], None] | None = None
) -> Features:
    """Features (n, encoder.width), row i for shot i, from the analysis' sampled pictures, changes and sound levels."""
    vectors = np.empty((len(shots), encoder.width), np.float32)
    for number, span in enumerate(shots.spans):
        vectors[number] = encoder.encode(_content(analysis, span))
        if progress is not None and number % 50 == 49:
            progress((number + 1) / len(shots))
    return Features(shots.film.fingerprint, encoder.name, vectors)


def _content(analysis: Analysis, span: Span) -> ShotContent:
    inside = np.flatnonzero((analysis.sample_times >= span.start) & (analysis.sample_times < span.end))
    if not len(inside):  # a very short shot: the sample nearest its middle
        middle = (span.start + span.end) / 2
        inside = np.array([np.argmin(np.abs(analysis.sample_times - middle))])
    if len(inside) > MOST_PICTURES:
        inside = inside[np.linspace(0, len(inside) - 1, MOST_PICTURES).round().astype(np.int64)]
    pictures = [crop_bars(picture, analysis) for picture in read_samples(analysis, inside)]
    first, last = np.searchsorted(analysis.times, [span.start, span.end])
    windows = slice(
        max(0, round((span.start - analysis.sound_start) / analysis.sound_step)),
        max(0, round((span.end - analysis.sound_start) / analysis.sound_step)),
    )
    return ShotContent(pictures, analysis.scores[first + 1 : last], analysis.sound[windows])


def crop_bars(picture: U8, analysis: Analysis) -> U8:
    """Without the black bars: they would make all shots of a film alike."""
    left, top, right, bottom = (float(bar) for bar in analysis.letterbox)
    height, width = picture.shape[:2]
    rows = slice(round(top * height), max(round(top * height) + 2, round((1 - bottom) * height)))
    columns = slice(round(left * width), max(round(left * width) + 2, round((1 - right) * width)))
    return picture[rows, columns]
