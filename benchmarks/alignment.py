"""How often `trailer align` finds the film shot of a trailer shot that was cropped, graded, shrunk and given black bars.

    python benchmarks/alignment.py FILM [FILM ...] [--encoder descriptor] [--shots 60] [--seed 1] [--wrong]

Of each film, shots are drawn that are neither black nor very short; a second or two from inside each, in another order, is
re-encoded by each recipe as a fake trailer with another sound. "known" columns: where the shots of the trailer begin and end
is told, so that only the comparison is measured; "detected": the whole way of `trailer align`, and the shot that covers the
middle of what was planted counts. "right" has the very shot; "beside" is the shot before or after it, where the two are of
one scene: of_one_scene() says when; "same view" is a shot in which the film itself holds the same picture, as of a camera
that stands still: show_one_view(). The share counts all three. "others" is how many of the shots pass for a shot of another
film of the command line: those should be doubtful (unless it has the same shots: the reel has some of Tears of Steel).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import cv2
import numpy as np

from models.encoders import Encoder, load_encoder
from pipeline.align import Pictures, align_trailer, look_at_pictures
from pipeline.analysis import Threads, analyse_film, count_cores, read_samples
from pipeline.decode import read_pictures
from pipeline.media import probe_film
from pipeline.writing import write_film
from pipeline.records import F32, U8, Analysis, Film, Shots, Span
from pipeline.settings import FeatureSettings, Site, load_config
from pipeline.shots import cut_shots
from pipeline.shrink import Sampler

SHORTEST = 0.7  # s that a shot must show alone to be drawn
EXCERPT = (1.0, 2.0)  # s of it that are shown, where it has as many
DECODED = 480  # px of the shorter side from which the trailers are made
SAMPLE_RATE = 48000
ONE_SCENE = 0.6  # of the colours of two neighbours are the same: then they may be taken for one another
ONE_VIEW = (
    6.0  # of 255 by which two pictures differ in the mean, at most, that nobody could tell apart after a new grade
)
COLOUR_BINS = 8  # a channel


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to the pictures, in this order.

    crop: fractions cut off on the left, top, right and bottom. aspect: the rest is cropped to this shape about its middle;
    0 leaves it. size (w, h) px: of the trailer; what its shape does not fill is black. saturation, gamma, gain, lift: of
    values 0..1, gain for red, green and blue. crf: x264's, 23 is usual, more is worse.
    """

    name: str
    size: tuple[int, int]
    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    aspect: float = 0.0
    saturation: float = 1.0
    gamma: float = 1.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lift: float = 0.0
    crf: int = 30


RECIPES = (
    Recipe("mild", (854, 480), (0.02,) * 4, gain=(1.05, 1.05, 1.0), crf=26),
    Recipe("dull and small", (480, 270), (0.03,) * 4, saturation=0.7, gain=(0.7, 0.72, 0.75), lift=0.08, crf=34),
    Recipe("bright and cropped", (854, 480), (0.12, 0.08, 0.06, 0.1), saturation=1.2, gamma=0.7, gain=(1.15, 1.1, 1.0)),
    Recipe("dark with bars", (640, 360), (0.04,) * 4, aspect=2.0, gamma=1.3, gain=(0.85, 0.85, 0.9), crf=32),
    Recipe("narrow with bars", (720, 480), (0.03, 0.02, 0.05, 0.04), aspect=1.6, gamma=0.85, gain=(0.95, 0.9, 0.85)),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A film, or a trailer, that has been looked at."""

    film: Film
    analysis: Analysis
    shots: Shots
    pictures: Pictures


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What a trailer shows of a film shot: a span on the film's clock, shown as `frames` pictures."""

    shot: int
    span: Span
    frames: int


@dataclass(frozen=True, slots=True)
class Found:
    """The film shots that were found for the excerpts, one each.

    right: how many are the very shot; beside: the one before or after it in the same scene; same_view: another that holds
    the same picture. doubtful: how many are said to be no shot of the film. wrong: pairs of the shot shown and the one
    found, which is none of these.
    """

    count: int
    right: int
    beside: int
    same_view: int
    doubtful: int
    wrong: tuple[tuple[int, int], ...]

    @property
    def share(self) -> float:
        """Of the excerpts that were found: all but the wrong ones."""
        return 1 - len(self.wrong) / self.count


def look_at_file(path: Path, encoder: Encoder) -> Subject:
    """Analysis, shots and pictures of a file, as `trailer align` has them."""
    film = probe_film(path)
    config = load_config(None)
    with tempfile.TemporaryDirectory() as scratch:
        analysis = analyse_film(film, Path(scratch), spread=Threads(count_cores()))
    shots = cut_shots(analysis, config.shots, config.guards)
    return Subject(film, analysis, shots, look_at_pictures(analysis, shots, encoder))


def draw_excerpts(subject: Subject, count: int, seed: int) -> list[Excerpt]:
    """A part of up to `count` different shots, in another order than the film's; fewer where the film has not as many."""
    rng = np.random.default_rng(seed)
    usable = [
        number
        for number, (clear, flags) in enumerate(zip(subject.shots.clear, subject.shots.flags, strict=True))
        if clear.duration >= SHORTEST and "black" not in flags
    ]
    rate = float(subject.film.frame_rate)
    excerpts = []
    for shot in rng.permutation(usable)[:count].tolist():
        clear = subject.shots.clear[shot]
        frames = int(min(rng.uniform(*EXCERPT), clear.duration) * rate + 1e-6)
        start = clear.start + rng.uniform(0, max(0.0, clear.duration - frames / rate))
        excerpts.append(Excerpt(shot, Span(start, start + frames / rate), frames))
    return excerpts


def write_trailer(film: Film, excerpts: Sequence[Excerpt], recipe: Recipe, folder: Path) -> Path:
    """The excerpts by a recipe, with a hum for sound."""
    seconds = sum(excerpt.frames for excerpt in excerpts) / float(film.frame_rate)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hum = 0.1 * np.sin(2 * np.pi * 220 * times) + 0.05 * np.random.default_rng(0).standard_normal(len(times))
    path = folder / f"{recipe.name.replace(' ', '-')}.mp4"
    write_film(
        path,
        (distort(picture, recipe) for picture in _read_excerpts(film, excerpts)),
        frame_rate=film.frame_rate,
        sound=hum[:, None].astype(np.float32),
        sample_rate=SAMPLE_RATE,
        crf=recipe.crf,
        options={"preset": "ultrafast"},  # its coarse pictures at a low rate are part of the trial
    )
    return path


def _read_excerpts(film: Film, excerpts: Sequence[Excerpt]) -> Iterator[U8]:
    sampler = Sampler(film, shortest=DECODED, longest=4 * DECODED)
    for excerpt in excerpts:
        for frame in read_pictures(film, excerpt.span.start + np.arange(excerpt.frames) / float(film.frame_rate)):
            yield sampler.show(frame)


def distort(bgr: U8, recipe: Recipe) -> U8:
    """A picture (h, w, 3) BGR as a recipe has it, RGB."""
    height, width = bgr.shape[:2]
    left, top, right, bottom = recipe.crop
    part = bgr[round(top * height) : round((1 - bottom) * height), round(left * width) : round((1 - right) * width)]
    height, width = part.shape[:2]
    if recipe.aspect:
        high, wide = min(height, round(width / recipe.aspect)), min(width, round(height * recipe.aspect))
        above, beside = (height - high) // 2, (width - wide) // 2
        part = part[above : above + high, beside : beside + wide]
        height, width = part.shape[:2]
    scale = min(recipe.size[0] / width, recipe.size[1] / height)
    size = min(recipe.size[0], round(width * scale)), min(recipe.size[1], round(height * scale))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if recipe.saturation != 1:
        gray = cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        part = cv2.addWeighted(part, recipe.saturation, gray, 1 - recipe.saturation, 0)
    values = (np.arange(256) / 255) ** recipe.gamma
    table = np.stack([values * gain + recipe.lift for gain in recipe.gain], axis=-1)[None]
    canvas = np.zeros((recipe.size[1], recipe.size[0], 3), np.uint8)
    above, beside = (recipe.size[1] - size[1]) // 2, (recipe.size[0] - size[0]) // 2
    canvas[above : above + size[1], beside : beside + size[0]] = cv2.LUT(
        cv2.cvtColor(part, cv2.COLOR_BGR2RGB), np.clip(255 * table, 0, 255).astype(np.uint8)
    )
    return canvas


def of_one_scene(subject: Subject, one: int, other: int) -> bool:
    """Whether two shots follow one another and have ONE_SCENE of their colours in common.

    Colours: the share of pixels in each of 8 x 8 x 8 cells of BGR, over the shot's sampled pictures of the film itself;
    in common is the sum of the smaller shares. Nothing of it is used to align.
    """
    if abs(one - other) != 1:
        return False
    return float(np.minimum(_count_colours(subject, one), _count_colours(subject, other)).sum()) >= ONE_SCENE


def _count_colours(subject: Subject, shot: int) -> F32:
    span, times = subject.shots.spans[shot], subject.analysis.sample_times
    numbers = np.flatnonzero((times >= span.start) & (times < span.end))
    counts = np.zeros(COLOUR_BINS**3, np.float32)
    for picture in read_samples(subject.analysis, numbers, shortest=96):
        cells = (picture // (256 // COLOUR_BINS)).astype(np.int64).reshape(-1, 3) @ [COLOUR_BINS**2, COLOUR_BINS, 1]
        counts += np.bincount(cells, minlength=len(counts)) / len(cells)
    return counts / max(1, len(numbers))


def find_known(film: Subject, trailer: Subject, excerpts: Sequence[Excerpt], encoder: Encoder) -> Found:
    """The film shots of a trailer whose own shots are told."""
    ends = list(accumulate(excerpt.frames / float(film.film.frame_rate) for excerpt in excerpts))
    edges = [trailer.film.start, *ends[:-1], trailer.film.end]
    blank = np.zeros(len(excerpts), np.float32)
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    shots = Shots(trailer.film, spans, (frozenset(),) * len(spans), energy=blank, luma=blank)
    told = align_trailer(look_at_pictures(trailer.analysis, shots, encoder), film.pictures, shots.flags)
    return _judge(film, excerpts, told.film_shots.tolist(), told.found.tolist())


def find_detected(film: Subject, trailer: Subject, excerpts: Sequence[Excerpt]) -> Found:
    """The film shots of a trailer as `trailer align` has them."""
    told = align_trailer(trailer.pictures, film.pictures, trailer.shots.flags)
    ends = np.cumsum([excerpt.frames for excerpt in excerpts]) / float(film.film.frame_rate)
    middles = ends - [excerpt.span.duration / 2 for excerpt in excerpts]
    at = np.searchsorted([span.start for span in trailer.shots.spans], middles, side="right") - 1
    return _judge(film, excerpts, told.film_shots[at].tolist(), told.found[at].tolist())


def show_one_view(subject: Subject, one: int, other: int) -> bool:
    """Whether the film's own pictures of two shots, as they were sampled, include two that are the same to ONE_VIEW."""
    pictures, spans = subject.pictures, [subject.shots.spans[number] for number in (one, other)]
    (a, b), (c, d) = np.searchsorted(pictures.times, [[span.start, span.end] for span in spans]).tolist()
    copies = pictures.copies.reshape(len(pictures.times), -1).astype(np.float32)
    return any(np.abs(copies[c:d] - copy).mean(axis=1).min(initial=np.inf) < ONE_VIEW for copy in copies[a:b])


def _judge(film: Subject, excerpts: Sequence[Excerpt], found: Sequence[int], sure: Sequence[bool]) -> Found:
    right = beside = same_view = 0
    wrong = []
    for excerpt, shot in zip(excerpts, found, strict=True):
        if shot == excerpt.shot:
            right += 1
        elif of_one_scene(film, excerpt.shot, shot):
            beside += 1
        elif show_one_view(film, excerpt.shot, shot):
            same_view += 1
        else:
            wrong.append((excerpt.shot, shot))
    return Found(len(excerpts), right, beside, same_view, doubtful=len(excerpts) - sum(sure), wrong=tuple(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How often `trailer align` finds the right shot of distorted trailers."
    )
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM")
    parser.add_argument("--encoder", default="descriptor")
    parser.add_argument("--shots", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wrong", action="store_true", help="name the shots that were not found")
    wanted = parser.parse_args()
    encoder = load_encoder(FeatureSettings(encoder=wanted.encoder), Site())
    films = [look_at_file(path, encoder) for path in wanted.films]
    print("| film | recipe | shots | known: right + beside + same view | detected: the same | doubtful | others |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for subject in films:
        excerpts = draw_excerpts(subject, wanted.shots, wanted.seed)
        others = [other for other in films if other is not subject]
        with tempfile.TemporaryDirectory() as folder:
            for recipe in RECIPES:
                path = write_trailer(subject.film, excerpts, recipe, Path(folder))
                trailer = look_at_file(path, encoder)
                known = find_known(subject, trailer, excerpts, encoder)
                whole = find_detected(subject, trailer, excerpts)
                strange = [align_trailer(trailer.pictures, other.pictures, trailer.shots.flags) for other in others]
                passed, tried = sum(int(one.found.sum()) for one in strange), sum(len(one.found) for one in strange)
                print(
                    f"| {subject.film.path.stem} | {recipe.name} | {known.count} | {_tell(known)} | {_tell(whole)} | "
                    f"{whole.doubtful} | {passed} of {tried} |",
                    flush=True,
                )
                if wanted.wrong:
                    print(f"    known {known.wrong}; detected {whole.wrong}", flush=True)


def _tell(found: Found) -> str:
    return f"{found.right} + {found.beside} + {found.same_view} ({found.share:.1%})"


if __name__ == "__main__":
    main()
