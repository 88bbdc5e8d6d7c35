"""Draw a demo film, so that a first trailer needs no file.

A paper lantern leaves its valley, crosses forest, sea, desert and city, is lost in a storm, and rises to the others: a
title, four acts, end credits, all of it from noise and arithmetic. Acts rise as films do: shots get shorter and cameras
restless, then calm returns. Every picture is a function of the shot and the time alone, so pictures are drawn side by
side on threads and still come out the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.demo_drawing import Camera, add_light, draw_lantern, draw_sky
from pipeline.demo_scenes import Moment, Place, build_places
from pipeline.demo_sound import SAMPLE_RATE, Cue, make_sound
from pipeline.records import F32, U8, Span
from pipeline.writing import write_film

TITLE = "LANTERN"
TITLE_SECONDS = 6.0
CREDITS_SECONDS = 17.0
FADE_SECONDS = 1.5  # from black at the start, to black after the last act
CLOSE = 1.9  # zoom from which the background falls out of focus
GRAINS = 7  # grain pictures, dealt in turn
GRAIN_LEVEL = 1.0  # of 255, RMS: enough to hide the steps of a gradient, little enough to encode well
WORKERS = 2

Three = tuple[float, float, float]
Two = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DemoTruth:
    """What is known of the demo film, in seconds of film.

    cuts: where a hard cut shows the first picture of a new shot. acts: four spans that touch, from the title's end to
    the credits' start. The fourth act fades to black and the credits begin on black: no hard cut there.
    """

    path: Path
    duration: float
    cuts: tuple[float, ...]
    acts: tuple[Span, ...]
    title: Span
    credits: Span


@dataclass(frozen=True, slots=True)
class DemoShot:
    """One shot. look: camera x, y, zoom at its start and end; hero: the lantern's x, y, in picture heights from the
    middle; size: of the lantern at the start, in heights; shake: of the camera, in heights."""

    act: int
    place: str
    start_frame: int
    frames: int
    look: tuple[Three, Three]
    hero: tuple[Two, Two]
    size: float
    shake: float


WIDE, MEDIUM, NEAR = 0.065, 0.17, 0.42  # heights of the lantern

# place, seconds, camera from, camera to, lantern from, lantern to, its size
STORY: tuple[tuple[tuple[str, float, Three, Three, Two, Two, float], ...], ...] = (
    (  # calm: it leaves home
        ("valley", 4.6, (-0.30, 0.00, 1.00), (0.15, -0.05, 1.05), (-0.40, 0.30), (-0.20, 0.05), WIDE),
        ("valley", 3.6, (0.30, -0.25, 1.90), (0.40, -0.30, 2.00), (-0.10, 0.08), (0.05, -0.02), NEAR),
        ("valley", 3.6, (0.50, 0.12, 1.60), (0.20, 0.08, 1.60), (0.45, 0.10), (0.10, -0.08), MEDIUM),
        ("forest", 3.8, (-0.60, 0.05, 1.00), (-0.20, 0.05, 1.00), (-0.60, 0.05), (-0.25, 0.00), WIDE),
        ("forest", 3.4, (0.10, -0.05, 2.20), (0.25, -0.08, 2.20), (0.25, 0.05), (0.05, 0.02), NEAR),
        ("sea", 4.2, (-0.30, 0.06, 1.00), (0.00, 0.06, 1.04), (-0.50, 0.02), (-0.25, -0.03), WIDE),
        ("forest", 3.2, (0.40, 0.10, 1.50), (0.75, 0.05, 1.55), (-0.35, 0.10), (-0.05, 0.00), MEDIUM),
        ("sea", 3.4, (0.20, 0.12, 1.50), (0.30, 0.10, 1.60), (-0.20, 0.08), (-0.05, 0.02), MEDIUM),
        ("sea", 3.2, (0.10, -0.35, 2.10), (0.15, -0.45, 2.10), (-0.30, 0.10), (-0.22, -0.02), NEAR),
        ("valley", 3.4, (-0.70, -0.15, 1.20), (-0.45, -0.18, 1.15), (0.40, -0.05), (0.60, -0.20), WIDE),
    ),
    (  # rise: the wide world
        ("desert", 3.2, (-0.45, 0.02, 1.00), (0.10, 0.02, 1.03), (-0.65, 0.00), (-0.15, -0.08), WIDE),
        ("desert", 2.4, (0.30, 0.42, 1.70), (0.60, 0.42, 1.70), (-0.30, -0.10), (0.20, -0.16), MEDIUM),
        ("city", 3.0, (-0.50, -0.05, 1.00), (0.10, 0.02, 1.05), (-0.60, -0.20), (-0.15, -0.10), WIDE),
        ("desert", 2.2, (-0.60, -0.10, 2.20), (-0.35, -0.05, 2.20), (0.20, 0.00), (0.00, 0.02), NEAR),
        ("city", 2.4, (0.50, 0.25, 1.70), (0.20, 0.20, 1.80), (0.50, 0.00), (0.05, -0.05), MEDIUM),
        ("forest", 2.2, (-0.90, 0.00, 1.60), (-0.20, 0.00, 1.60), (-0.40, -0.05), (0.20, 0.05), MEDIUM),
        ("city", 2.2, (-0.20, -0.10, 2.30), (0.05, -0.15, 2.40), (-0.20, 0.08), (0.10, 0.00), NEAR),
        ("desert", 2.2, (0.60, -0.05, 1.25), (0.00, 0.05, 1.20), (0.60, -0.20), (0.10, -0.05), WIDE),
        ("sea", 2.4, (-0.60, 0.15, 1.30), (0.10, 0.15, 1.30), (-0.50, 0.05), (0.30, -0.05), WIDE),
        ("city", 2.0, (0.30, 0.30, 1.40), (0.45, -0.20, 1.40), (0.20, 0.20), (-0.10, -0.15), MEDIUM),
        ("storm", 2.4, (-0.20, -0.15, 1.00), (0.10, -0.10, 1.05), (-0.40, 0.05), (-0.10, -0.05), WIDE),
        ("rain", 2.0, (0.00, 0.05, 1.20), (0.30, 0.05, 1.30), (-0.30, -0.10), (0.15, 0.00), MEDIUM),
    ),
    (  # storm: lost, and under
        ("storm", 1.9, (0.30, 0.05, 1.20), (-0.20, 0.05, 1.30), (0.40, -0.05), (-0.10, 0.00), MEDIUM),
        ("rain", 1.5, (-0.60, 0.10, 1.00), (0.10, 0.10, 1.05), (-0.50, 0.00), (0.20, -0.10), WIDE),
        ("storm", 1.4, (0.00, -0.25, 2.10), (0.15, -0.20, 2.20), (-0.15, 0.05), (0.20, -0.05), NEAR),
        ("rain", 1.3, (0.40, -0.10, 2.10), (0.10, -0.10, 2.20), (0.25, -0.05), (-0.10, 0.05), NEAR),
        ("storm", 1.5, (-0.60, 0.20, 1.60), (0.20, 0.15, 1.60), (-0.50, -0.10), (0.30, 0.10), MEDIUM),
        ("tunnel", 1.2, (0.00, 0.00, 1.00), (0.20, 0.10, 1.20), (0.00, 0.05), (0.10, 0.00), WIDE),
        ("storm", 1.3, (0.60, -0.05, 1.00), (-0.10, 0.00, 1.10), (0.50, -0.15), (-0.20, 0.10), WIDE),
        ("city", 1.1, (-0.40, 0.15, 1.30), (0.50, 0.10, 1.35), (-0.50, 0.10), (0.40, -0.10), MEDIUM),
        ("storm", 1.2, (0.20, 0.00, 2.30), (-0.10, 0.05, 2.40), (0.20, 0.00), (-0.15, 0.12), NEAR),
        ("storm", 1.6, (-0.10, 0.25, 1.20), (0.10, 0.35, 1.40), (0.00, -0.20), (0.10, 0.30), MEDIUM),
        ("deep", 2.2, (-0.20, -0.20, 1.00), (0.00, 0.10, 1.05), (0.00, -0.45), (0.05, -0.05), WIDE),
        ("deep", 1.5, (0.30, -0.10, 2.10), (0.30, 0.10, 2.10), (0.05, -0.12), (-0.05, 0.08), NEAR),
        ("tunnel", 1.1, (-0.20, 0.10, 1.30), (0.10, -0.10, 1.60), (-0.10, 0.00), (0.10, 0.05), MEDIUM),
        ("deep", 1.3, (-0.60, 0.20, 1.50), (-0.10, 0.20, 1.60), (-0.40, 0.00), (0.10, 0.10), MEDIUM),
        ("storm", 1.0, (-0.40, -0.30, 1.30), (0.40, -0.25, 1.40), (0.10, 0.10), (0.20, -0.10), MEDIUM),
        ("deep", 1.1, (0.10, -0.30, 1.80), (0.00, -0.45, 1.80), (-0.20, 0.15), (-0.05, -0.10), MEDIUM),
        ("rain", 1.0, (0.70, 0.20, 1.60), (-0.10, 0.20, 1.60), (0.50, -0.10), (-0.40, 0.05), MEDIUM),
        ("tunnel", 1.0, (0.10, 0.00, 1.00), (-0.20, 0.00, 1.10), (0.30, 0.10), (-0.20, -0.10), MEDIUM),
        ("storm", 1.0, (0.50, 0.10, 1.80), (-0.30, 0.10, 1.90), (0.30, 0.05), (-0.30, -0.10), NEAR),
        ("tunnel", 1.2, (0.00, 0.20, 1.60), (0.00, -0.20, 2.20), (0.00, 0.10), (0.00, 0.00), NEAR),
        ("city", 0.9, (0.60, -0.10, 1.10), (-0.20, 0.00, 1.10), (0.50, -0.20), (-0.10, -0.10), WIDE),
        ("tunnel", 2.0, (0.00, 0.00, 1.20), (0.00, 0.00, 3.00), (0.00, 0.12), (0.00, -0.02), WIDE),
    ),
    (  # calm: the others
        ("stars", 4.4, (-0.30, 0.15, 1.00), (0.10, 0.00, 1.05), (-0.30, 0.25), (-0.10, -0.05), WIDE),
        ("stars", 3.4, (0.30, -0.20, 2.00), (0.40, -0.25, 2.10), (0.10, 0.05), (0.00, 0.00), NEAR),
        ("stars", 3.4, (0.50, 0.30, 1.40), (0.30, 0.25, 1.40), (-0.30, 0.10), (-0.10, -0.05), MEDIUM),
        ("morning", 4.2, (-0.40, 0.00, 1.00), (-0.10, -0.03, 1.00), (-0.50, -0.20), (-0.30, -0.08), WIDE),
        ("stars", 3.2, (-0.50, -0.10, 1.60), (-0.30, -0.15, 1.60), (0.30, 0.00), (0.15, -0.05), MEDIUM),
        ("sea", 3.4, (0.30, 0.10, 1.20), (0.15, 0.08, 1.15), (0.00, 0.05), (-0.10, 0.00), WIDE),
        ("morning", 3.4, (0.30, 0.15, 1.70), (0.15, 0.12, 1.70), (0.25, -0.05), (0.10, 0.02), MEDIUM),
        ("morning", 5.0, (0.00, -0.05, 1.10), (0.00, -0.15, 1.00), (0.00, 0.00), (0.05, -0.12), WIDE),
    ),
)
SHAKE = (0.0, 0.003, 0.014, 0.0)  # heights, per act

CREDITS = (  # role, what did it; without a role a line of its own
    ("", TITLE),
    ("", ""),
    ("the lantern", "a rounded outline"),
    ("its light", "one over one plus r squared"),
    ("the hills", "noise with a falling spectrum"),
    ("the pines", "saw teeth"),
    ("the moon", "a disc"),
    ("the sea", "two tiles in opposite directions"),
    ("the towers", "rectangles"),
    ("the rain", "170 short lines"),
    ("the lightning", "a random walk"),
    ("the rays", "an arc tangent"),
    ("the shoal", "forty polygons"),
    ("the tunnel", "polar coordinates"),
    ("", ""),
    ("camera", "an affine matrix"),
    ("second camera", "the same matrix, shaken"),
    ("focus", "a smaller picture"),
    ("colour", "three channels"),
    ("grain", "seven pictures, dealt in turn"),
    ("music", "sums of sines"),
    ("wind, waves, rain", "shaped noise"),
    ("editing", "a table"),
    ("catering", "none needed"),
    ("", ""),
    ("", "no camera was used"),
    ("", "the end"),
)


def plan_shots(seed: int, frame_rate: Fraction) -> list[DemoShot]:
    """The shots between title and credits: the story above, with lengths and cameras varied a little by the seed."""
    rng = np.random.default_rng([seed, 100])
    at = round(TITLE_SECONDS * frame_rate)
    shots = []
    for act, rows in enumerate(STORY):
        for place, seconds, look_from, look_to, hero_from, hero_to, size in rows:
            frames = round(seconds * rng.uniform(0.93, 1.07) * frame_rate)
            dx, dy, dz = rng.uniform(-0.04, 0.04), rng.uniform(-0.02, 0.02), rng.uniform(0.97, 1.03)
            look = tuple((x + dx, y + dy, max(1.0, z * dz)) for x, y, z in (look_from, look_to))
            shots.append(DemoShot(act, place, at, frames, (look[0], look[1]), (hero_from, hero_to), size, SHAKE[act]))
            at += frames
    return shots


# Pictures ---------------------------------------------------------------------------------------------------------


def set_text(text: str, pixels: float, *, spacing: float = 0.0) -> F32:
    """(h, w) of one line of text, 0..1. pixels: the font's size; spacing: between letters, in font sizes."""
    font = ImageFont.load_default(size=max(4.0, pixels))
    widths = [font.getlength(letter) + spacing * pixels for letter in text]
    widths[-1] -= spacing * pixels
    image = Image.new("L", (max(1, int(sum(widths)) + 2), int(pixels * 1.5) + 1))
    draw, x = ImageDraw.Draw(image), 0.0
    for letter, width in zip(text, widths, strict=True):
        draw.text((x, 0), letter, fill=255, font=font)
        x += width
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _add_mask(canvas: F32, mask: F32, x: float, y: float, colour: Three) -> None:
    """Add a mask's light with its middle at pixel (x, y)."""
    rows, columns = mask.shape
    shift = np.array([[1, 0, x - columns / 2], [0, 1, y - rows / 2]], dtype=np.float32)
    seen = cv2.warpAffine(mask, shift, (canvas.shape[1], canvas.shape[0]), flags=cv2.INTER_LINEAR)
    add_light(canvas, seen, colour)


def _ease(t: float) -> float:
    """0..1 to 0..1, slow at both ends, but never standing still: a shot should move from its first picture."""
    return 0.35 * t + 0.65 * t * t * (3 - 2 * t)


def draw_shot(
    places: Mapping[str, Place], shot: DemoShot, number: int, frame: int, frame_rate: Fraction, size: tuple[int, int]
) -> F32:
    """Picture `frame` of a shot. size: (width, height)."""
    width, height = size
    age = float(frame / frame_rate)
    time = float((shot.start_frame + frame) / frame_rate)
    t = _ease(frame / max(1, shot.frames - 1))
    x, y, zoom = (a + (b - a) * t for a, b in zip(*shot.look, strict=True))
    hx, hy = (a + (b - a) * t for a, b in zip(*shot.hero, strict=True))
    quake = [math.sin(time * f + number) * math.sin(time * g + 2 * number) for f, g in ((37, 23), (41, 19), (29, 13))]
    x, y = x + shot.shake * quake[0], y + shot.shake * quake[1]
    camera = Camera(x, y, zoom, shot.shake * 0.8 * quake[2], width, height)
    large = shot.size * zoom / shot.look[0][2]
    hx += 0.12 * large * math.sin(time * 1.1 + number) - shot.shake * 2 * quake[0]
    hy += 0.10 * large * math.sin(time * 1.7 + number) - shot.shake * 2 * quake[1]
    moment = Moment(time, age, number, (hx, hy, large))
    place = places[shot.place]
    canvas = place.back(camera, moment)
    if zoom > CLOSE and shot.place != "tunnel":
        small = cv2.resize(canvas, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), height / 360 * (zoom - CLOSE + 0.5))
        canvas = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    flicker = 1 + 0.06 * math.sin(time * 13) * math.sin(time * 7.3)
    sway = (0.1 + 6 * shot.shake) * math.sin(time * 1.3 + number)
    draw_lantern(canvas, hx * height + width / 2, hy * height + height / 2, large * height, sway, glow=flicker)
    if place.front:
        place.front(canvas, camera, moment)
    return canvas


def draw_title(stars: Place, frame: int, frame_rate: Fraction, size: tuple[int, int], words: tuple[F32, F32]) -> F32:
    """Picture `frame` of the opening card: the lantern in its ring is the logo, the name below."""
    width, height = size
    time = float(frame / frame_rate)
    camera = Camera(-0.8, -0.4, 1.5, 0.0, width, height)
    canvas = stars.back(camera, Moment(time, time, 0, (0.0, 0.0, 0.0))) * np.float32(0.3)
    canvas += draw_sky(camera, [(-0.5, (2, 3, 14)), (0.4, (16, 12, 34))])
    ring = np.zeros((height, width), np.uint8)
    middle = (width * 0.5, height * (0.34 - 0.006 * min(time, 4.0)))
    shown = np.clip((time - 0.6) / 1.5, 0, 1)
    cv2.ellipse(
        ring,
        (round(middle[0] * 8), round(middle[1] * 8)),
        (round(height * 1.28), round(height * 1.28)),
        -90,
        0,
        360 * shown,
        255,
        max(1, height // 200),
        cv2.LINE_AA,
        3,
    )
    add_light(canvas, ring.astype(np.float32), (1.0, 0.75, 0.42), 0.7)
    draw_lantern(
        canvas, middle[0], middle[1], height * 0.2, 0.06 * math.sin(time * 1.4), glow=1 + 0.1 * math.sin(time * 5)
    )
    for mask, y, colour, after in zip(words, (0.68, 0.81), ((250, 232, 200), (150, 160, 190)), (1.2, 2.2), strict=True):
        _add_mask(canvas, mask * np.float32(np.clip((time - after) / 1.2, 0, 1)), width / 2, height * y, colour)
    return canvas


def _set_credits(size: tuple[int, int]) -> F32:
    width, height = size
    step = height * 0.082
    sheet = np.zeros((int(step * len(CREDITS)) + 2, width), np.float32)
    for row, (role, what) in enumerate(CREDITS):
        middle = (row + 0.5) * step
        if not role and what:
            words = set_text(what, height * (0.075 if row == 0 else 0.05), spacing=0.25)
            _paste(sheet, words, width / 2 - words.shape[1] / 2, middle)
        elif what:
            words = set_text(role, height * 0.044)
            _paste(sheet, words * 0.62, width * 0.47 - words.shape[1], middle)
            _paste(sheet, set_text(what, height * 0.05), width * 0.5, middle)
    return sheet


def _paste(sheet: F32, words: F32, left: float, middle: float) -> None:
    top, left = max(0, int(middle - words.shape[0] / 2)), max(0, int(left))
    part = sheet[top : top + words.shape[0], left : left + words.shape[1]]
    np.maximum(part, words[: part.shape[0], : part.shape[1]], out=part)


def draw_demo_pictures(seed: int, size: tuple[int, int], frame_rate: Fraction, shots: list[DemoShot]) -> Iterator[U8]:
    """Every picture of the film, (h, w, 3), in order."""
    width, height = size
    places = build_places(seed, height)
    words = (
        set_text(TITLE, height * 0.15, spacing=0.28),
        set_text("a film drawn by arithmetic", height * 0.05, spacing=0.12),
    )
    roll = _set_credits(size)
    title_frames, credit_frames = (round(seconds * frame_rate) for seconds in (TITLE_SECONDS, CREDITS_SECONDS))
    end = shots[-1].start_frame + shots[-1].frames
    fade = round(FADE_SECONDS * frame_rate)
    rng = np.random.default_rng([seed, 101])
    grains = [
        np.repeat(rng.normal(0.5, GRAIN_LEVEL, (height, width, 1)), 3, axis=2).astype(np.float32) for _ in range(GRAINS)
    ]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    vignette = np.repeat((1 - 0.2 * np.clip(x * x + y * y - 0.5, 0, 1.5))[..., None], 3, axis=2).astype(np.float32)
    owner = np.repeat(np.arange(len(shots)), [shot.frames for shot in shots])

    def draw(frame: int) -> U8:
        if frame < title_frames:
            canvas = draw_title(places["stars"], frame, frame_rate, size, words)
        elif frame < end:
            number = int(owner[frame - title_frames])
            canvas = draw_shot(places, shots[number], number, frame - shots[number].start_frame, frame_rate, size)
        else:
            canvas = np.zeros((height, width, 3), np.float32)
            gone = (frame - end) / max(1, credit_frames - 1)
            middle = height + roll.shape[0] / 2 - gone * (roll.shape[0] + height)
            _add_mask(canvas, roll, width / 2, middle, (236, 232, 224))
            return cv2.convertScaleAbs(canvas)  # type: ignore[return-value]
        light = min(1.0, (frame + 1) / fade, (end - 1 - frame) / fade)
        cv2.multiply(canvas, vignette, dst=canvas, scale=max(0.0, light))
        return cv2.add(canvas, grains[frame % GRAINS], dtype=cv2.CV_8U)  # type: ignore[return-value]

    with ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[Future[U8]] = deque()
        for frame in range(end + credit_frames):
            ahead.append(pool.submit(draw, frame))
            if len(ahead) > 4 * WORKERS:  # a bound on memory
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def make_demo_film(
    path: Path,
    *,
    seed: int = 0,
    size: tuple[int, int] = (640, 360),
    frame_rate: Fraction = Fraction(24),
    progress: Callable[[float], None] | None = None,
) -> DemoTruth:
    """Draw and write the demo film. size: (width, height), even; progress is told the share that is done, 0..1."""
    if size[0] % 2 or size[1] % 2 or min(size) < 64:
        raise ValueError(f"the demo film's sides must be even and 64 pixels or more: {size[0]}x{size[1]}")
    shots = plan_shots(seed, frame_rate)
    end = shots[-1].start_frame + shots[-1].frames
    frames = end + round(CREDITS_SECONDS * frame_rate)
    seconds = [float(shot.start_frame / frame_rate) for shot in shots]
    acts = [float(end / frame_rate)]
    for act in reversed(range(len(STORY))):
        acts.insert(0, next(s for s, shot in zip(seconds, shots, strict=True) if shot.act == act))
    duration = float(frames / frame_rate)
    cues = [Cue(s, float(shot.frames / frame_rate), shot.place) for s, shot in zip(seconds, shots, strict=True)]
    sound = make_sound(cues, acts, duration, seed=seed)

    def pictures() -> Iterator[U8]:
        for number, picture in enumerate(draw_demo_pictures(seed, size, frame_rate, shots)):
            if progress and number % 24 == 0:
                progress(number / frames)
            yield picture

    write_film(
        path,
        pictures(),
        frame_rate=frame_rate,
        sound=sound,
        sample_rate=SAMPLE_RATE,
        crf=20,
        options={"preset": "veryfast"},
    )
    if progress:
        progress(1.0)
    return DemoTruth(
        path=path,
        duration=duration,
        cuts=tuple(seconds),
        acts=tuple(Span(a, b) for a, b in pairwise(acts)),
        title=Span(0.0, acts[0]),
        credits=Span(acts[-1], duration),
    )
