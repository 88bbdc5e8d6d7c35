"""Logos, titles and credits of many kinds are found where they were planted, and a film without any loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from pipeline.guards import exclude_shots
from pipeline.records import U8, Analysis, Film, Shots
from pipeline.settings import GuardSettings, ShotSettings
from pipeline.shots import cut_shots

SIZE = (320, 180)
RATE = 2  # pictures a second, all of them kept
GUARDS = GuardSettings(ending=0, twins=False)
FONT = Path(__file__).resolve().parents[1] / "assets/fonts/DejaVuSansCondensed-Bold.ttf"
CREW = (
    "Directed by",
    "Anna Almeida",
    "Written by",
    "Boris Castillo",
    "Music by",
    "Greta Dubois",
    "Edited by",
    "Jack Moreau",
)
NIGHT, WHITE = (0, 0, 0), (250, 250, 250)

Shot = list[U8]


def scene(seed: int, seconds: float) -> Shot:
    """Rocks, boughs and leaves before a ground that is lit unevenly; a disc moves, and the camera pans a little."""
    rng = np.random.default_rng(seed)
    wide, tall = SIZE[0] + 60, SIZE[1]
    ground = np.linspace(0.7, 1.2, wide)[None, :, None] * rng.integers(50, 190, 3)
    place = np.ascontiguousarray(np.broadcast_to(ground, (tall, wide, 3)).clip(0, 255).astype(np.uint8))
    for _ in range(60):
        centre = (int(rng.integers(0, wide)), int(rng.integers(0, tall)))
        axes = (int(rng.integers(2, 40)), int(rng.integers(2, 25)))
        colour = tuple(int(c) for c in rng.integers(0, 210, 3))
        cv2.ellipse(place, centre, axes, int(rng.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    pictures = []
    for n in range(round(seconds * RATE)):
        picture = place[:, n % 60 : n % 60 + SIZE[0]].copy()
        cv2.circle(picture, (60 + 5 * n % 200, 90), 22, (40, 70, 220), -1, cv2.LINE_AA)
        pictures.append(picture)
    return pictures


def write(picture: U8, rows: Sequence[tuple[float, str, float]], colour: tuple[int, int, int]) -> U8:
    """Centred rows of text on a picture: (middle, text, height), as shares of the picture's height."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for middle, text, height in rows:
        font = ImageFont.truetype(FONT, round(height * SIZE[1]))
        pen.text((SIZE[0] / 2, middle * SIZE[1]), text, font=font, fill=colour, anchor="mm")
    return np.asarray(image, np.uint8).copy()


def plain(colour: tuple[int, int, int], seconds: float) -> Shot:
    return [np.full((SIZE[1], SIZE[0], 3), colour, np.uint8)] * round(seconds * RATE)


def card(rows: Sequence[tuple[float, str, float]], seconds: float, ground: tuple[int, int, int] = NIGHT) -> Shot:
    ink = WHITE if sum(ground) < 380 else NIGHT
    return [write(picture, rows, ink) for picture in plain(ground, 1 / RATE)] * round(seconds * RATE)


def roll(seconds: float, ground: tuple[int, int, int] = NIGHT) -> Shot:
    ink = WHITE if sum(ground) < 380 else NIGHT
    pictures = []
    for n in range(round(seconds * RATE)):
        rows = [((0.1 * k - 0.04 * n) % 2 - 0.5, CREW[k % 8], 0.06) for k in range(20)]
        pictures.append(write(plain(ground, 1 / RATE)[0], rows, ink))
    return pictures


def name_cards(count: int, seconds: float, ground: tuple[int, int, int] = NIGHT, pause: float = 0.5) -> list[Shot]:
    shots = []
    for n in range(count):
        shots += [card([(0.45, CREW[2 * n % 8], 0.06), (0.55, CREW[(2 * n + 1) % 8], 0.09)], seconds, ground)]
        shots += [plain(ground, pause)]
    return shots


def lettered(shots: list[Shot], rows: Sequence[tuple[float, str, float]]) -> list[Shot]:
    return [[write(picture, rows, WHITE) for picture in shot] for shot in shots]


def logo(ground: tuple[int, int, int], seconds: float) -> Shot:
    """A mark without any letter."""
    pictures = []
    for n in range(round(seconds * RATE)):
        picture = plain(ground, 1 / RATE)[0].copy()
        cv2.circle(picture, (160, 80), 25 + min(n, 12), (180, 90, 40), -1, cv2.LINE_AA)
        cv2.ellipse(picture, (160, 110), (60, 14), 0, 0, 360, (120, 60, 30), 5, cv2.LINE_AA)
        pictures.append(picture)
    return pictures


def story(count: int = 20, first: int = 0) -> list[Shot]:
    return [scene(first + n, 4 + n % 3) for n in range(count)]


def observe(shots: Sequence[Shot]) -> Analysis:
    """An analysis of pictures that were drawn (RGB), with a change at each planted cut that no rule can miss."""
    pictures = [picture for shot in shots for picture in shot]
    scores = np.zeros((len(pictures), 3), np.float32)
    gray = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in pictures]
    for n in range(1, len(pictures)):
        scores[n] = np.abs(gray[n] - gray[n - 1]).mean() / 4
    starts = np.cumsum([len(shot) for shot in shots])[:-1]
    scores[starts] = 80
    jpegs = [cv2.imencode(".jpg", p[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].reshape(-1) for p in pictures]
    times = np.arange(len(pictures)) / RATE
    return Analysis(
        film=Film(Path("f"), "f", 0.0, len(pictures) / RATE, Fraction(RATE), SIZE[0], SIZE[1], 0),
        times=times,
        scores=scores,
        luma=np.array([(16 + 0.86 * g.mean(), 0.86 * g.std()) for g in gray], np.float32),
        focus=np.zeros((len(times), 3), np.float32),
        letterbox=np.zeros(4, np.float32),
        sample_times=times,
        sample_bytes=np.concatenate(jpegs).astype(np.uint8),
        sample_offsets=np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in jpegs])]).astype(np.int64),
        sound=np.zeros((0, 7), np.float32),
        sound_start=0.0,
        sound_step=0.1,
        blends=np.zeros((0, 2)),
        transitions=np.zeros((0, 2), np.float32),
    )


def seconds(shots: Sequence[Shot]) -> float:
    return sum(len(shot) for shot in shots) / RATE


@dataclass(frozen=True)
class Found:
    """What may be shown of the film: of its planted opening and end, and what is lost of the story, s."""

    shots: Shots
    before: list[float]
    after: list[float]
    lost: float


def look(before: list[Shot], middle: list[Shot], after: list[Shot]) -> Found:
    shots = cut_shots(observe([*before, *middle, *after]), ShotSettings(), GUARDS)
    begin, end = seconds(before), seconds(before) + seconds(middle)
    left_out = exclude_shots(shots, GUARDS)
    shown = [span for number, span in enumerate(shots.spans) if number not in left_out]
    inside = [max(0.0, min(span.end, end) - max(span.start, begin)) for span in shown]
    return Found(
        shots,
        [span.start for span in shown if span.start < begin - 0.3],
        [span.end for span in shown if span.end > end + 0.3],
        seconds(middle) - sum(inside),
    )


ENDS = {
    "a roll, white on black": [plain(NIGHT, 1), roll(20)],
    "a roll, black on white": [roll(20, WHITE)],
    "a roll on blue": [roll(20, (30, 50, 110))],
    "cards with a pause": [plain(NIGHT, 1), *name_cards(6, 3)],
    "white cards that follow one another": name_cards(6, 3, WHITE),
    "credits over pictures": lettered(
        story(4, 200), [(0.3, "Directed by Anna Almeida", 0.07), (0.45, "Jack Moreau", 0.09)]
    ),
    "credits, a scene, credits, a scene": [roll(12), scene(300, 5), roll(8), scene(301, 4)],
    "a roll and a long scene after it": [plain(NIGHT, 1), roll(10), *story(4, 310)],
    "one short word": [plain(NIGHT, 1), card([(0.5, "Fin", 0.12)], 3)],
    "a mark and no letter": [plain(NIGHT, 1), logo(NIGHT, 4), plain(NIGHT, 1)],
}


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_the_end_is_left_out_from_its_credits_on(end: list[Shot]) -> None:
    found = look([], story(), end)
    assert found.after == []
    assert found.lost == 0


OPENINGS = {
    "two marks between black": [plain(NIGHT, 1), logo(NIGHT, 4), plain(NIGHT, 1), logo(WHITE, 5), plain(NIGHT, 1)],
    "a mark from the first picture on": [logo(NIGHT, 4), plain(NIGHT, 1)],
    "a mark and a title": [plain(NIGHT, 1), logo(NIGHT, 4), plain(NIGHT, 1), card([(0.5, "NIGHTFALL", 0.14)], 3)],
    "a title, black on white": [card([(0.5, "Winter Songs", 0.12)], 4, WHITE)],
    "titles over pictures": lettered(story(2, 400), [(0.4, "Anna Almeida presents", 0.09), (0.55, "NIGHTFALL", 0.14)]),
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=list(OPENINGS))
def test_the_opening_is_left_out_up_to_its_last_title(opening: list[Shot]) -> None:
    found = look(opening, story(24), [])
    assert found.before == []
    assert found.lost == 0


def test_a_cold_open_is_story_and_the_title_after_it_is_not() -> None:
    cold, title = story(6, 500), lettered([scene(520, 4)], [(0.5, "THE LONG WAY", 0.16)])
    found = look([], [*cold, *title, *story(80)], [])
    start = seconds(cold)
    assert found.lost == pytest.approx(4)
    number = next(n for n, span in enumerate(found.shots.spans) if span.start == start)
    assert found.shots.flags[number] == {"text"}


def test_a_film_without_credits_or_titles_loses_nothing() -> None:
    for first in (0, 100):
        assert look([], story(24, first), []).lost == 0


def test_subtitles_burned_in_cost_nothing() -> None:
    said = [(0.84, "I told you never to open", 0.06), (0.91, "that door on the second floor.", 0.06)]
    assert look([], lettered(story(12), said), []).lost == 0


def test_cards_amid_a_silent_film_are_left_out_and_end_nothing() -> None:
    silent = []
    for n in range(20):
        silent += [scene(n, 5), card([(0.5, f"Meanwhile, in town {n}", 0.09)], 3)]
    found = look([], [*silent, scene(40, 6)], [])
    # cards so near to the beginning are opening titles as well, and cost the two scenes between them
    assert 20 * 3 <= found.lost <= 20 * 3 + 2 * 5


def test_test_bars_a_flash_and_one_colour_are_blank() -> None:
    colours = (
        (235, 235, 235),
        (235, 235, 16),
        (16, 235, 235),
        (16, 235, 16),
        (235, 16, 235),
        (235, 16, 16),
        (16, 16, 235),
    )
    bars = np.repeat(np.array(colours, np.uint8)[None], SIZE[1], axis=0)
    bars = np.asarray(cv2.resize(bars, SIZE, interpolation=cv2.INTER_NEAREST), np.uint8)
    shots = cut_shots(
        observe([[bars] * 12, *story(4), plain(WHITE, 2), *story(4, 9), plain((30, 60, 160), 2)]),
        ShotSettings(),
        GUARDS,
    )
    blank = [number for number, flags in enumerate(shots.flags) if "blank" in flags]
    assert blank == [0, 5, 10]


def grained(shots: list[Shot], blur: float) -> list[Shot]:
    """The same with a grain on what is seen, as surfaces have it, out of focus by so many px; 0: sharp."""
    grain = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, (SIZE[1], SIZE[0], 1)), (0, 0), 1)[:, :, None]

    def focus(picture: U8) -> U8:
        seen = (picture + grain).clip(0, 255).astype(np.uint8)
        return np.asarray(cv2.GaussianBlur(seen, (0, 0), blur) if blur else seen, np.uint8)

    return [[focus(picture) for picture in shot] for shot in shots]


def test_a_shot_out_of_focus_is_blurred_and_a_soft_film_is_not() -> None:
    pictures = [*grained(story(5), 0), *grained([scene(30, 4)], 3), *grained(story(3, 20), 0)]
    shots = cut_shots(observe(pictures), ShotSettings(), GUARDS)
    assert [number for number, flags in enumerate(shots.flags) if "blurred" in flags] == [5]
    soft = cut_shots(observe(grained(story(10), 3)), ShotSettings(), GUARDS)
    assert not any("blurred" in flags for flags in soft.flags)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_films_of_few_shots_or_nothing_but_black_are_cut_without_complaint(count: int) -> None:
    assert len(cut_shots(observe(story(count)), ShotSettings(), GuardSettings())) == count
    dark = cut_shots(observe([plain(NIGHT, 3)] * count), ShotSettings(), GuardSettings())
    assert all("black" in flags for flags in dark.flags)
    still = cut_shots(observe([[scene(n, 1)[0]] * 16 for n in range(count)]), ShotSettings(), GuardSettings())
    assert all("static" in flags for flags in still.flags)


def test_a_shot_that_runs_into_the_ending_is_judged_by_what_comes_before_it() -> None:
    """Twenty shots of 99 s in all and one of 21 s: the ending begins at 108 s, 9 s into it."""
    guards = GuardSettings(ending=0.1, twins=False)
    moving, still = scene(600, 21), [scene(600, 0.5)[0]] * 18 + scene(600, 21)[18:]
    for last, flags in ((moving, frozenset()), (still, frozenset({"static"}))):
        shots = cut_shots(observe([*story(), last]), ShotSettings(), guards)
        assert len(shots) == 21
        assert shots.secret == pytest.approx(108)
        assert (shots.shown[-1].start, shots.shown[-1].end) == pytest.approx((99, 108))
        assert shots.flags[-1] == flags
    calm = cut_shots(observe([*story(), [*scene(600, 9), *scene(600, 0.5) * 24]]), ShotSettings(), guards)
    assert calm.flags[-1] == frozenset()  # what stands still does so in the ending, which nobody sees
    assert calm.energy[-1] == cut_shots(observe([*story(), moving]), ShotSettings(), guards).energy[-1]
