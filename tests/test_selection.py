"""Guards and choice, with a predictor whose mind is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.edit import Slots
from pipeline.errors import InputError, NoSolutionError
from pipeline.records import Film, Shots, Span
from pipeline.selection import select_shots, steer_by_energy
from pipeline.settings import SelectionSettings

FILM = Film(Path("f"), "f", 0.0, 40.0, Fraction(24), 640, 360, 0)


def shots(flags: dict[int, set[str]] | None = None, count: int = 10) -> Shots:
    spans = tuple(Span(4.0 * i, 4.0 * i + 4) for i in range(count))
    named = tuple(frozenset((flags or {}).get(i, set())) for i in range(count))
    return Shots(FILM, spans, named, np.linspace(0, 1, count, dtype=np.float32), np.zeros(count, np.float32))


def prefer(*wanted: int, count: int = 10) -> NDArray[np.float64]:
    table = np.full((len(wanted), count), 0.01)
    table[np.arange(len(wanted)), wanted] = 0.9
    return table / table.sum(axis=1, keepdims=True)


SLOTS = Slots(Fraction(24), (0, 48, 96, 144), 200, (0.5, 0.5, 0.5), ("a warning",))
LONG = np.full(10, 5.0)
PLAIN = SelectionSettings(energy_weight=0)


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
    chosen = choose(prefer(7, 2, 5), pins={1: 9})
    assert chosen.shots[1] == 9
    assert chosen.pinned == (1,)
    with pytest.raises(InputError):
        choose(prefer(7, 2, 5), pins={1: 9, 2: 9})


def test_everything_excluded_is_said() -> None:
    with pytest.raises(NoSolutionError, match="every one"):
        choose(prefer(7, 2, 5), dict.fromkeys(range(10), "black"))


def test_loud_music_draws_moving_shots_and_quiet_music_still_ones() -> None:
    even = np.full((2, 10), 0.1)
    steered = steer_by_energy(lambda assignment: even, np.array([1.0, 0.0]), shots(), {}, 2.0)(np.array([-1, -1]))
    assert np.allclose(steered.sum(axis=1), 1)
    assert np.argmax(steered[0]) == 9
    assert np.argmax(steered[1]) == 0
    assert (np.diff(steered[0]) > 0).all()
