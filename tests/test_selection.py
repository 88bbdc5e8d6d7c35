"""Guards and choice, with a predictor whose mind is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import InputError, NoSolutionError
from pipeline.records import Film, Shots, Span
from pipeline.refine import Refinement
from pipeline.selection import group_looks, most_of_scene, select_shots, steer, weigh_energy, weigh_order
from pipeline.settings import SelectionSettings
from pipeline.slots import Slots

FILM = Film(Path("f"), "f", 0.0, 40.0, Fraction(24), 640, 360, 0)


def shots(flags: dict[int, set[str]] | None = None, count: int = 10) -> Shots:
    spans = tuple(Span(4.0 * i, 4.0 * i + 4) for i in range(count))
    named = tuple(frozenset((flags or {}).get(i, set())) for i in range(count))
    film = replace(FILM, duration=4.0 * count)
    return Shots(film, spans, named, np.linspace(0, 1, count, dtype=np.float32), np.zeros(count, np.float32))


def prefer(*wanted: int, count: int = 10) -> NDArray[np.float64]:
    table = np.full((len(wanted), count), 0.01)
    table[np.arange(len(wanted)), wanted] = 0.9
    return table / table.sum(axis=1, keepdims=True)


SLOTS = Slots(Fraction(24), (0, 48, 96, 144), 200, (0.5, 0.5, 0.5), ("a warning",))
LONG = np.full(10, 5.0)
PLAIN = SelectionSettings(energy_weight=0, order_weight=0)


def choose(
    table: NDArray[np.float64],
    excluded: dict[int, str] | None = None,
    seconds: NDArray[np.float64] = LONG,
    **more: object,
):  # type: ignore[no-untyped-def]
    return select_shots(
        lambda assignment: table,
        shots(),
        SLOTS,
        seconds,
        excluded or {},
        PLAIN,
        looks=np.arange(10),
        track="t",
        model={},
        seed=1,
        **more,  # type: ignore[arg-type]
    )


def test_the_predictors_wish_is_granted() -> None:
    chosen = choose(prefer(7, 2, 5))
    assert chosen.shots == (7, 2, 5)
    assert chosen.warnings == ("a warning",)


def test_an_excluded_shot_is_never_chosen_and_the_reason_is_kept() -> None:
    chosen = choose(prefer(7, 2, 5), {2: "black"})
    assert 2 not in chosen.shots
    assert chosen.shots[0] == 7
    assert chosen.excluded == {"2": "black"}


def test_a_shot_too_short_for_its_slot_goes_elsewhere_or_nowhere() -> None:
    seconds = LONG.copy()
    seconds[7] = 1.9
    chosen = choose(prefer(7, 7, 7), seconds=seconds)
    assert 7 not in chosen.shots


def test_same_seed_same_choice() -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(10), 3)
    assert choose(table) == choose(table)


def test_pins_stand_and_are_said() -> None:
    chosen = choose(prefer(7, 2, 5), refinement=Refinement(pins={1: 9}, pinned=frozenset({1})))
    assert chosen.shots == (7, 9, 5)
    assert chosen.pinned == (1,)
    with pytest.raises(InputError):
        choose(prefer(7, 2, 5), refinement=Refinement(pins={1: 9, 2: 9}))


def test_what_is_banned_or_barred_is_not_chosen() -> None:
    chosen = choose(prefer(7, 2, 5), refinement=Refinement(banned=(7,), barred={1: 2}))
    assert 7 not in chosen.shots
    assert chosen.shots[1] != 2
    assert chosen.excluded["7"] == "banned by hand"


def test_the_runners_up_are_the_next_best_of_each_slot() -> None:
    """With what is chosen elsewhere, excluded, or too short left out."""
    table = np.full((3, 10), 0.01)
    table[0, [7, 3, 4, 2]] = 0.5, 0.2, 0.1, 0.05
    table[1, 2] = table[2, 5] = 0.9
    chosen = choose(table, {4: "black"})
    assert chosen.shots == (7, 2, 5)
    assert chosen.runners_up[0][0][0] == 3
    told = {shot for runners in chosen.runners_up for shot, _ in runners}
    assert not told & {7, 2, 5, 4}
    assert all(p > 0 for runners in chosen.runners_up for _, p in runners)


@pytest.mark.parametrize(
    ("pins", "seconds", "reason"),
    [
        ({1: 9}, 1.0, "shot 9 cannot stand in slot 1: it gives 1.00 s, the slot lasts 2.00 s"),
        ({5: 9}, 9.0, "there is no slot 5"),
    ],
)
def test_a_pin_that_cannot_stand_is_one_line(pins: dict[int, int], seconds: float, reason: str) -> None:
    given = LONG.copy()
    given[9] = seconds
    with pytest.raises(InputError, match=reason):
        choose(prefer(7, 2, 5), seconds=given, refinement=Refinement(pins=pins))


def test_everything_excluded_is_said() -> None:
    with pytest.raises(NoSolutionError, match="every one"):
        choose(prefer(7, 2, 5), dict.fromkeys(range(10), "black"))


def test_loud_music_draws_moving_shots_and_quiet_music_still_ones() -> None:
    even = np.full((2, 10), 0.1)
    steered = steer(lambda assignment: even, weigh_energy(np.array([1.0, 0.0]), shots(), {}, 2.0))(np.array([-1, -1]))
    assert np.allclose(steered.sum(axis=1), 1)
    assert np.argmax(steered[0]) == 9
    assert np.argmax(steered[1]) == 0
    assert (np.diff(steered[0]) > 0).all()


def test_the_order_of_the_film_is_kept_by_and_large_and_the_last_beat_is_free() -> None:
    many = shots({0: {"opening"}, 39: {"credits"}, 38: {"ending"}}, count=40)
    slots = Slots(Fraction(24), tuple(range(0, 241, 24)), 300, (0.5,) * 11, closing=(260, 300))
    weights = weigh_order(slots, many, 50.0)
    best = weights[:-1].argmax(axis=1)
    assert (np.diff(best) > 0).all()
    assert 1 <= best[0] < best[-1] <= 37
    assert (weights[-1] == 1).all()
    # the published shares: .169 of the shots from the first tenth (of a story of 37 shots: the first four) and so on
    fine = Slots(Fraction(24), tuple(range(0, 24001, 24)), 24000, (0.5,) * 1000)
    wanted = weigh_order(fine, shots(count=1000), 50.0).argmax(axis=1) / 1000 * 0.945
    shares = np.histogram(wanted, [0, 0.1, 0.25, 0.5, 0.75, 0.945])[0] / 1000
    assert shares == pytest.approx(np.array([0.169, 0.19, 0.26, 0.198, 0.133]) / 0.95, abs=0.005)
    assert (weigh_order(slots, many, 0.0) == 1).all()


def test_a_shot_that_must_be_slowed_down_is_the_last_resort() -> None:
    seconds = np.full(10, 1.8)
    seconds[[1, 4, 6]] = 2.0
    slots = Slots(Fraction(24), SLOTS.edges, 200, SLOTS.energy, slow_down=0.15)
    even = np.full((3, 10), 0.1)
    chosen = select_shots(
        lambda a: even, shots(), slots, seconds, {}, PLAIN, looks=np.arange(10), track="t", model={}, seed=1
    )
    assert set(chosen.shots) == {1, 4, 6}
    chosen = select_shots(
        lambda a: even,
        shots(),
        slots,
        np.minimum(seconds, 1.8),
        {},
        PLAIN,
        looks=np.arange(10),
        track="t",
        model={},
        seed=1,
    )
    assert len(set(chosen.shots)) == 3


def test_one_scene_gives_no_more_than_its_share() -> None:
    scenes = np.array([0] * 6 + [1, 2, 3, 4])
    film = shots()
    film = Shots(FILM, film.spans, film.flags, film.energy, film.luma, scenes=scenes)
    slots = Slots(Fraction(24), (0, 24, 48, 72, 96, 120), 120, (0.5,) * 5)
    table = np.tile(np.where(scenes == 0, 0.16, 0.01), (5, 1))

    def choose(settings: SelectionSettings) -> list[int]:
        chosen = select_shots(
            lambda a: table, film, slots, LONG, {}, settings, looks=np.arange(10), track="t", model={}, seed=3
        )
        return [int(scenes[shot]) for shot in chosen.shots]

    bounded = choose(SelectionSettings(energy_weight=0, order_weight=0, scene_share=0.2))
    assert bounded.count(0) == 2
    assert choose(SelectionSettings(energy_weight=0, order_weight=0, scene_share=1)).count(0) > 2


def test_few_large_scenes_may_give_more_and_what_looks_alike_is_still_shown_once() -> None:
    """Two scenes of ten shots and ten slots: no bound of two can hold, and it must not take the other bound with it."""
    film = shots(count=20)
    film = Shots(film.film, film.spans, film.flags, film.energy, film.luma, scenes=np.repeat([0, 1], 10))
    assert most_of_scene(film, {}, 10, 0.15) == 6  # 1.2 times 10 shots to choose from
    assert most_of_scene(film, dict.fromkeys(range(8), "out"), 10, 0.15) == 10
    assert most_of_scene(shots(count=20), {}, 10, 0.15) == 2
    slots = Slots(Fraction(24), tuple(range(0, 241, 24)), 240, (0.5,) * 10)
    looks = np.array([0, 0, 0, *range(1, 18)])
    table = np.tile(np.where(looks == 0, 0.2, 0.02), (10, 1))
    chosen = select_shots(
        lambda a: table, film, slots, np.full(20, 5.0), {}, PLAIN, looks=looks, track="t", model={}, seed=0
    )
    assert len(set(looks[list(chosen.shots)].tolist())) == 10


def test_shots_that_look_alike_form_a_group_and_what_lies_between_joins_none() -> None:
    rng = np.random.default_rng(2)
    common = rng.normal(size=64) * 3
    kinds = rng.normal(size=(6, 64))
    rows = np.concatenate([kinds[[k]] + 0.2 * rng.normal(size=(3, 64)) for k in range(6)]) + common
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    groups = group_looks(rows.astype(np.float32))
    assert [len(set(groups[3 * k : 3 * k + 3].tolist())) for k in range(6)] == [1] * 6
    assert len(set(groups.tolist())) == 6
    assert group_looks(rows[:2].astype(np.float32)).tolist() == [0, 1]


def test_of_shots_that_look_alike_one_is_shown() -> None:
    table = prefer(0, 1, 2)
    looks = np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7])
    chosen = select_shots(lambda a: table, shots(), SLOTS, LONG, {}, PLAIN, looks=looks, track="t", model={}, seed=1)
    assert len(set(looks[list(chosen.shots)].tolist())) == 3
