"""Mask rates follow the reference, and a mask always hides something real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.ssmp.masking import FixedRate, Linear, RandomRate, SelfPaced, make_schedule, sample_hidden

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "schedule.json"
SELF_PACED = {
    "literal": {},
    "ema": {"convention": "ema"},
    "literal_mu_t0": {"mu_t": 0.0},
    "literal_mu_t9": {"mu_t": 0.9},
    "literal_b05": {"accuracy": 0.5},
    "mu_a0": {"mu_a": 0.0},
}


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", SELF_PACED)
def test_self_paced_agrees_with_the_reference(golden, name):
    schedule = SelfPaced(**SELF_PACED[name])
    assert schedule.rate == 0.1
    for a, b, t in zip(golden["a"], golden[name]["b"], golden[name]["t"], strict=True):
        assert schedule.update(a) == pytest.approx(t, abs=1e-12)
        assert schedule.accuracy == pytest.approx(b, abs=1e-12)


def test_linear_schedules_agree_with_the_reference(golden):
    for name, schedule in (("linear_ascending", Linear(10)), ("linear_descending", Linear(10, 1.0, 0.1))):
        rates = [schedule.rate]
        while len(rates) < len(golden[name]):
            rates.append(schedule.update(0.0))
        assert rates == pytest.approx(golden[name], abs=1e-12)
        assert schedule.update(0.0) == pytest.approx(rates[-1])  # and stays there


def test_random_and_fixed():
    first, again = (RandomRate(np.random.default_rng(0)) for _ in range(2))
    rates = [first.update(0.5) for _ in range(2000)]
    assert rates == [again.update(0.5) for _ in range(2000)]
    assert 0.1 <= min(rates) < 0.11
    assert 0.99 < max(rates) <= 1.0
    assert np.mean(rates) == pytest.approx(0.55, abs=0.03)  # 0.26 / sqrt(2000) = 0.006: five deviations
    assert FixedRate().update(0.3) == 1.0


@pytest.mark.parametrize("name", ["self_paced", "self_paced_ema", "linear_up", "linear_down", "random", "fixed"])
def test_every_name_makes_a_schedule(name):
    schedule = make_schedule(name, steps=5, rng=np.random.default_rng(0))
    assert all(0 < schedule.update(0.5) <= 1 for _ in range(7))


def test_unknown_names_and_rates_are_refused():
    with pytest.raises(ValueError, match="cosine"):
        make_schedule("cosine", steps=5, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="mask rates"):
        SelfPaced(t_min=0.0)


def test_masks_hide_at_least_one_real_slot_and_no_padding():
    rng = np.random.default_rng(0)
    lengths = np.array([8, 1, 3])
    real = np.arange(8) < lengths[:, None]
    for rate in (0.0001, 0.1, 0.5, 1.0):
        for _ in range(100):
            hidden = sample_hidden(lengths, rate, rng)
            assert hidden.any(axis=1).all()
            assert not (hidden & ~real).any()
        if rate == 1.0:
            assert (hidden == real).all()


def test_few_slots_raise_the_rate_as_computed():
    """8 slots at 0.1: 0.1 + 0.9^8 / 8 = 0.154 (docs/method.md section 3), and no slot is favoured."""
    hidden = sample_hidden(np.full(40_000, 8), 0.1, np.random.default_rng(0))
    assert hidden.mean() == pytest.approx(0.1538, abs=0.002)  # deviation 0.33 / sqrt(320,000) = 0.0006
    assert np.ptp(hidden.mean(axis=0)) < 0.01
