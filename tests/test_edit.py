"""The grid of slots and the cuts in it, by arithmetic and against brute force."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.edit import (
    AIM,
    choose_frame_rate,
    choose_speed,
    lay_out,
    make_cards,
    place_cut,
    usable_seconds,
)
from pipeline.errors import NoSolutionError
from pipeline.framing import choose_size
from pipeline.records import F64, Cut, Film, Line, Placement, Segments, Selection, Shots, Span, Track
from pipeline.settings import EditSettings, VideoSettings
from pipeline.slots import FEWEST_SLOTS, Slots, plan_slots

NTSC = Fraction(24000, 1001)


def film(rate: Fraction = Fraction(24), duration: float = 100.0, **changes: object) -> Film:
    values: dict[str, object] = {
        "path": Path("film.mkv"),
        "fingerprint": "f" * 32,
        "start": 0.0,
        "duration": duration,
        "frame_rate": rate,
        "width": 640,
        "height": 360,
        "video_index": 0,
    }
    return Film(**(values | changes))  # type: ignore[arg-type]


def segments(edges: list[float], beats: list[float] | None = None) -> Segments:
    track = Track(Path("track.ogg"), "t" * 32, edges[-1], 48000)
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    return Segments(track, spans, np.linspace(0, 1, len(spans), dtype=np.float32), np.array(beats or []))


def test_slots_follow_the_segments_and_the_card_takes_the_last() -> None:
    slots = plan_slots(segments([0, 2, 3.5, 6, 7.5, 10]), [5.0] * 10, Fraction(24), EditSettings(card_seconds=2.5))
    assert slots.edges == (0, 48, 84, 144, 180)
    assert slots.frames == 240
    assert slots.warnings == ()
    assert make_cards(slots, "the film", EditSettings())[0].text == "THE FILM"
    (card,) = make_cards(slots, "x", EditSettings())
    assert (card.start_frame, card.frames) == (180, 60)


def test_no_card_when_it_has_no_length() -> None:
    slots = plan_slots(segments([0, 2, 4, 6]), [5.0] * 10, Fraction(25), EditSettings(card_seconds=0))
    assert slots.edges == (0, 50, 100, 150)
    assert make_cards(slots, "x", EditSettings(card_seconds=0)) == ()


def test_a_slot_longer_than_every_shot_is_split_at_a_beat() -> None:
    slots = plan_slots(
        segments([0, 2, 8, 10, 12.5], beats=[3, 4.5, 5.2, 7]), [4.0] * 10, Fraction(24), EditSettings(card_seconds=2.5)
    )
    assert slots.edges == (0, 48, round(5.2 * 24), 192, 240)  # 5.2 is the beat nearest the middle of 2..8
    assert "1 slot(s) longer" in slots.warnings[0]


def test_too_few_shots_make_a_shorter_trailer_and_say_so() -> None:
    slots = plan_slots(segments([0, 2, 4, 6, 8, 10, 12]), [3.0] * 4, Fraction(24), EditSettings(card_seconds=2))
    assert len(slots) == 4
    assert slots.frames == (8 + 2) * 24
    assert "4 usable shots for 5 slots" in slots.warnings[0]


def test_title_last_beat_and_last_card_stand_on_the_musics_marks() -> None:
    edges = [float(t) for t in (*range(0, 30, 2), 32.4, 35.1, 36.9, 39.0)]
    config = EditSettings(
        card_seconds=2.5, button_seconds=2.0, end_text="coming soon", end_seconds=2.0, tagline="a line"
    )
    slots = plan_slots(segments(edges), [9.0] * 40, Fraction(24), config)
    title, after, last = 778, 843, 886  # the frames that begin at 32.4, 35.1 and 36.9 s, or next
    assert (slots.edges[-1], slots.closing) == (title, (after, last))
    assert slots.button == (after, last)
    assert (len(slots), slots.told, len(slots.lengths), len(slots.energy)) == (16, 15, 16, 16)
    cards = make_cards(slots, "the film", config)
    assert [(c.text, c.note, c.start_frame, c.frames) for c in cards] == [
        ("THE FILM", "a line", title, after - title),
        ("coming soon", "", last, 39 * 24 - last),
    ]


def test_without_a_mark_in_reach_the_closing_stands_where_it_was_asked_for() -> None:
    slots = plan_slots(segments([0.0, 8.0, 16.0, 40.0]), [9.0] * 40, Fraction(25), EditSettings(card_seconds=3))
    assert (slots.edges[-1], slots.closing) == (35 * 25, (38 * 25, 40 * 25))


def test_a_cut_never_comes_before_what_it_is_cut_to() -> None:
    hits = [2.01, 3.98, 6.03, 8.02]
    slots = plan_slots(segments([0.0, *hits, 10.0]), [5.0] * 10, Fraction(24), EditSettings(card_seconds=0))
    late = [edge / 24 - hit for edge, hit in zip(slots.edges[1:], hits, strict=False)]
    assert all(-0.1 / 24 <= seconds < 1 / 24 for seconds in late)


def test_a_short_trailer_ends_with_its_title() -> None:
    slots = plan_slots(segments([0.0, 2, 4, 6, 8, 10]), [5.0] * 10, Fraction(24), EditSettings())
    assert slots.button is None
    assert slots.frames == 240


def test_shots_are_slowed_down_only_when_nothing_else_helps() -> None:
    grid = segments([0.0, 2.0, 4.0, 6.0])
    no_card = EditSettings(card_seconds=0)
    spare = plan_slots(grid, [1.8] * 6, Fraction(24), no_card)
    assert (spare.slow_down, len(spare)) == (0.0, 6)  # a spare shot for every split
    slowed = plan_slots(grid, [1.8] * 3, Fraction(24), no_card)
    assert (slowed.slow_down, len(slowed)) == (0.15, 3)
    with pytest.raises(NoSolutionError):
        plan_slots(grid, [1.8] * 3, Fraction(24), EditSettings(card_seconds=0, slow_down=0))


def test_the_speed_is_the_least_slow_that_fills_the_slot() -> None:
    assert choose_speed(2.0, 1.9, 0.15) == 1.0
    assert choose_speed(1.8, 2.0, 0.15) == pytest.approx(0.9, abs=1e-4)
    assert choose_speed(1.8, 2.0, 0.15) * 2.0 <= 1.8


def test_nothing_to_show_is_said_and_not_made() -> None:
    with pytest.raises(NoSolutionError, match=r"2 can be used, for 3\.0 s at most"):
        plan_slots(segments([0, 2, 4, 6, 8]), [3.0] * (FEWEST_SLOTS - 1), Fraction(24), EditSettings())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.5, 9), min_size=3, max_size=14),
    st.lists(st.floats(0.1, 9), min_size=3, max_size=14),
    st.sampled_from([NTSC, Fraction(25), Fraction(60)]),
)
def test_every_planned_slot_has_a_shot_of_its_own(lengths: list[float], seconds: list[float], rate: Fraction) -> None:
    edges = [0.0, *np.cumsum(lengths).tolist()]
    try:
        slots = plan_slots(segments(edges), seconds, rate, EditSettings(card_seconds=1, end_text="soon"))
    except NoSolutionError:
        return
    remaining = sorted(seconds, reverse=True)
    for length in sorted((float(n / rate) for n in slots.lengths), reverse=True):  # longest to longest is optimal
        assert remaining
        assert remaining.pop(0) / (1 - slots.slow_down) >= length - 1e-6
    assert all(n > 0 for n in slots.lengths)
    assert slots.closing is not None
    assert slots.edges[-1] < slots.closing[0] <= slots.closing[1] < slots.frames


@pytest.mark.parametrize(
    ("source", "variable", "wanted"),
    [
        (Fraction(24), False, Fraction(24)),
        (NTSC, False, NTSC),
        (Fraction(120), False, Fraction(60)),
        (Fraction(1), False, Fraction(20)),
        (Fraction(25, 2), False, Fraction(25)),
        (Fraction(117, 4), True, Fraction(30000, 1001)),
        (Fraction(240), True, Fraction(60)),
    ],
)
def test_the_frame_rate_is_the_films_brought_into_range(source: Fraction, variable: bool, wanted: Fraction) -> None:
    assert choose_frame_rate(film(source, variable_rate=variable)) == wanted


def test_the_size_is_in_square_pixels_even_and_bounded() -> None:
    assert choose_size(film(), VideoSettings()) == (640, 360)
    assert choose_size(film(width=480, pixel_aspect=Fraction(4, 3)), VideoSettings()) == (640, 360)
    assert choose_size(film(width=3840, height=2160), VideoSettings(max_height=1080)) == (1920, 1080)
    assert choose_size(film(rotation=90), VideoSettings()) == (360, 640)
    assert choose_size(film(width=427, height=241), VideoSettings()) == (428, 240)


def test_a_cut_lies_in_the_middle_aims_into_its_picture_and_keeps_the_margin() -> None:
    times = np.arange(240) / 24
    span = place_cut(Span(2.0, 6.0), Fraction(1), times, margin=2)
    assert span.duration == pytest.approx(1.0)
    assert (span.start * 24) % 1 == pytest.approx(AIM)
    assert span.start == pytest.approx(3.5, abs=1 / 24)
    with pytest.raises(ValueError, match="does not fit"):
        place_cut(Span(2.0, 3.0), Fraction(1), times, margin=2)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(8, 120), min_size=3, max_size=9),
    st.sampled_from([NTSC, Fraction(24), Fraction(30), Fraction(50)]),
    st.integers(1, 4),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_no_cut_ever_shows_a_neighbours_frame(
    lengths: list[int], rate: Fraction, margin: int, seed: int, variable: bool
) -> None:
    """The pictures on screen over a cut, by brute force over the timestamps, are all of its shot."""
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    steps = (
        rng.choice([1 / 24, 1 / 30, 0.2], count, p=[0.6, 0.35, 0.05]) if variable else np.full(count, float(1 / rate))
    )
    times = np.round(np.concatenate([[0.0], np.cumsum(steps)[:-1]]), 3)  # milliseconds, as Matroska has them
    edges = [0, *np.cumsum(lengths).tolist()]
    bounds = [*times[edges[:-1]].tolist(), float(times[-1] + steps[-1])]
    spans = tuple(Span(a, b) for a, b in pairwise(bounds))
    source = film(rate, duration=bounds[-1])
    zeros = np.zeros(len(spans), np.float32)
    shots = Shots(source, spans, (frozenset(),) * len(spans), zeros, zeros)
    config = EditSettings(margin_frames=margin)
    seconds = usable_seconds(shots, times, config)
    for number, (span, most) in enumerate(zip(spans, seconds, strict=True)):
        frames = int(most * rate)
        if frames < 1:
            continue
        cut = place_cut(span, frames / rate, times, margin)
        shown = [int(np.searchsorted(times, cut.start + float(k / rate), "right")) - 1 for k in range(frames)]
        assert all(edges[number] + margin <= picture < edges[number + 1] - margin + 1 for picture in shown)


def ten_shots() -> tuple[F64, Shots]:
    """The timestamps of 100 s at 24 frames a second, and ten shots of 10 s."""
    spans = tuple(Span(float(a), float(a + 10)) for a in range(0, 100, 10))
    zeros = np.zeros(10, np.float32)
    return np.arange(2400) / 24, Shots(film(), spans, (frozenset(),) * 10, zeros, zeros)


def test_cuts_take_their_place_and_length_from_the_slots() -> None:
    times, shots = ten_shots()
    slots = Slots(Fraction(24), (0, 48, 60, 100), 100, (0.0, 0.5, 1.0))
    chosen = Selection("f", "t", (7, 2, 9), (0.9, 0.8, 0.7), (0, 0, 0), (0, 0, 0), 1, 0, {}, {}, pinned=(1,))
    cuts = lay_out(slots, chosen, shots, times, EditSettings())
    assert [(c.slot, c.shot, c.start_frame, c.frames, c.pinned) for c in cuts] == [
        (0, 7, 0, 48, False),
        (1, 2, 48, 12, True),
        (2, 9, 60, 40, False),
    ]
    assert all(shots.spans[c.shot].start < c.source.start < c.source.end < shots.spans[c.shot].end for c in cuts)


EVEN = Slots(Fraction(24), (0, 48, 96, 144), 144, (0.0, 0.5, 1.0))
SOME = Selection("f", "t", (7, 2, 9), (0.9, 0.8, 0.7), (0, 0, 0), (0, 0, 0), 1, 0, {}, {})


def test_a_line_over_its_own_shot_is_in_step_with_the_lips() -> None:
    times, shots = ten_shots()
    lines = [Line("Over there!", Span(26.43, 27.9)), Line("Elsewhere.", Span(40.0, 42.0))]

    def cut(placed: Placement) -> tuple[Cut, ...]:
        return lay_out(EVEN, SOME, shots, times, EditSettings(), placements=[placed], lines=lines)

    middle = lay_out(EVEN, SOME, shots, times, EditSettings())[1].source
    own = cut(Placement(0, "Over there!", lines[0].span, 1, 55, 0.5))
    seconds_in = (55 - 48) / 24
    assert own[1].source.start + seconds_in == pytest.approx(26.43, abs=0.5 / 24)
    assert own[1].source != middle
    assert [c.sound for c in own] == [True, False, True]  # the line is heard, and not a second time under itself
    # another shot's line, a voice from outside, or one whose place cannot be reached leave the cut in the middle
    for placed in (
        Placement(1, "Elsewhere.", lines[1].span, 1, 55, 0.5),
        Placement(0, "Over there!", lines[0].span, 1, 55, 0.5, Path("voice.wav")),
        Placement(0, "Over there!", Span(29.8, 31.0), 1, 50, 0.5),
    ):
        assert cut(placed)[1].source == middle


def test_a_scrap_of_a_sentence_is_not_heard() -> None:
    times, shots = ten_shots()
    first, second, _ = lay_out(EVEN, SOME, shots, times, EditSettings())
    lines = [Line("Into the first.", Span(first.source.start - 2, first.source.start + 0.2))]
    lines.append(Line("Barely into the second.", Span(second.source.end - 0.05, second.source.end + 2)))
    assert [c.sound for c in lay_out(EVEN, SOME, shots, times, EditSettings(), lines=lines)] == [False, True, True]
