"""Glance at some of the sampled pictures: lettering, plain grounds, test bars, sharpness, and copies to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.analysis import read_samples
from pipeline.lettering import count_glyphs, find_logo, is_card
from pipeline.likeness import WIDTH, copy_pictures, cut_bars
from pipeline.records import F32, F64, I64, U8, Analysis, Bool, Span

OPENING_SHARE = 0.08  # of the film: titles and logos are looked for here
OPENING_LEAST, OPENING_MOST = 12.0, 300.0  # s of it
CREDITS_SHARE = 0.35  # of the film, at its end: credits are looked for here (a short has a third of them now and then)
PICTURES = 400  # that a whole film would have, looked at as closely as its end: a long film's credits are long
CLOSEST, WIDEST = 1.0, 3.0  # s between two of them, whatever comes out
ENOUGH = 128  # px of the shorter side for all but lettering; stored pictures are read at half their size
OF_A_SHOT = 3  # pictures that stand for a shot: beginning, middle, end
FINE, MIDDLE = 0.7, 3.0  # px of blur; what the first takes away is detail, the second form
SHARP_CELLS = (16, 9)  # a picture is as sharp as its sharpest parts: what lies before and behind may be soft
PLAIN = 5.0  # deviation of luma and colour; a picture with less shows nothing
BARS_SIZE = (64, 36)  # px
BARS_LEAST, BARS_MOST = 5, 12  # colour bars beside one another
BARS_STEP, BARS_EVEN = 18.0, 4.0  # Lab steps from bar to bar, and most deviation down a column


@dataclass(frozen=True, slots=True)
class Glances:
    """What some of the sampled pictures show.

    times (k,) s on the film's clock, increasing. letters (k,) letter-like marks in rows (lettering.count_glyphs). logo, card
    (k,): a word of touching letters; a plain ground with little on it. copies: shot -> (m, d) as likeness.copy_pictures
    gives them, of pictures of its clear part. sharpness, blank: one a shot: (n, 3) of its sharpest picture as measure_detail
    gives it, NaN where there is none; whether it shows one plain colour or test bars only.
    """

    times: F64
    letters: F64
    logo: Bool
    card: Bool
    copies: tuple[F32, ...]
    sharpness: F64
    blank: Bool


def find_zones(analysis: Analysis) -> tuple[float, float]:
    """Until when on the film's clock titles and logos are looked for, and from when end credits."""
    film = analysis.film
    opening = min(max(OPENING_SHARE * film.duration, OPENING_LEAST), OPENING_MOST, film.duration / 3)
    return film.start + opening, film.end - CREDITS_SHARE * film.duration


def glance_at(analysis: Analysis, spans: Sequence[Span], clear: Sequence[Span]) -> Glances:
    """Look at the opening, the end, and a few pictures of every shot, each picture once."""
    cv2.setNumThreads(1)  # pictures are small: OpenCV's own threads cost more than they bring
    times = analysis.sample_times
    shown = [choose_pictures(times, one, within) for one, within in zip(clear, spans, strict=True)]
    middles = [int(numbers[len(numbers) // 2]) for numbers in shown if len(numbers)]
    until, since = find_zones(analysis)
    read = np.zeros(len(times), np.bool_)
    read[times < until] = True
    late = np.flatnonzero(times >= since)
    step = min(max(analysis.film.duration / PICTURES, CLOSEST), WIDEST)
    slots = np.floor((times[late] - since) / step)
    read[late[np.concatenate([[True], np.diff(slots) > 0])[: len(late)]]] = True
    read[middles] = True
    of_shots = {int(number) for numbers in shown for number in numbers}
    letters, logo, card = np.zeros(len(times)), np.zeros(len(times), np.bool_), np.zeros(len(times), np.bool_)
    seen: dict[int, tuple[F32, tuple[float, float, float], bool]] = {}
    for number in sorted(of_shots | set(np.flatnonzero(read).tolist())):
        (picture,) = read_samples(analysis, np.array([number]), shortest=0 if read[number] else ENOUGH)
        if read[number]:
            letters[number], card[number] = count_glyphs(picture), is_card(picture)
            logo[number] = times[number] < until and find_logo(picture)
        if number in of_shots:
            if min(picture.shape[:2]) >= 2 * ENOUGH:
                picture = np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
            inner = cut_bars(picture)
            seen[number] = copy_pictures([inner])[0], measure_detail(inner), is_blank(inner)
    copies = tuple(
        np.array([seen[int(n)][0] for n in numbers], np.float32).reshape(len(numbers), WIDTH) for numbers in shown
    )
    sharpness = [
        np.max([seen[int(n)][1] for n in numbers], axis=0) if len(numbers) else [np.nan] * 3 for numbers in shown
    ]
    blank = [bool(len(numbers)) and all(seen[int(n)][2] for n in numbers) for numbers in shown]
    return Glances(
        times[read], letters[read], logo[read], card[read], copies, np.array(sharpness).reshape(-1, 3), np.array(blank)
    )


def choose_pictures(times: F64, clear: Span, span: Span) -> I64:
    """Numbers of at most OF_A_SHOT sampled pictures of a shot, of its clear part where there are any; none for some."""
    for part in (clear, span):
        inside = np.arange(*np.searchsorted(times, [part.start, part.end]))
        if len(inside):
            return np.unique(inside[np.linspace(0, len(inside) - 1, OF_A_SHOT).round().astype(np.int64)])
    return np.zeros(0, np.int64)


def measure_detail(bgr: U8) -> tuple[float, float, float]:
    """Detail in luma steps, its share of form, and form in luma steps, of the sharpest parts of a picture (h, w, 3).

    Detail is what a blur of FINE px takes away, form what one of MIDDLE px takes.
    """
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.float32)
    fine, form = (
        cv2.resize(np.abs(gray - cv2.GaussianBlur(gray, (0, 0), width)), SHARP_CELLS, interpolation=cv2.INTER_AREA)
        for width in (FINE, MIDDLE)
    )
    high = [float(np.percentile(part, 90)) for part in (fine, fine / (form + 2), form)]
    return high[0], high[1], high[2]


def is_blank(bgr: U8) -> bool:
    """Whether a picture (h, w, 3) shows one plain colour, or nothing but upright bars of plain colours: a test signal."""
    lab = cv2.cvtColor(cv2.resize(bgr, BARS_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2LAB).astype(np.float32)
    if lab.std(axis=(0, 1)).max() < PLAIN:
        return True
    upper = lab[: BARS_SIZE[1] // 2]  # below stand smaller patches
    even = upper.std(axis=0).max(axis=1) < BARS_EVEN
    means = upper.mean(axis=0)
    steps = np.abs(np.diff(means, axis=0)).sum(axis=1) >= BARS_STEP
    edges = int((np.diff(np.concatenate([[False], steps]).astype(np.int8)) == 1).sum())
    return bool(even.mean() > 0.75 and BARS_LEAST - 1 <= edges < BARS_MOST)
