"""A training can be interrupted, leaves what it should, and refuses what it cannot use. What it learns: test_planted.py."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.ssmp.checkpoint import load_checkpoint
from models.ssmp.data import Sample, load_samples
from models.ssmp.masking import ScheduleName
from models.ssmp.model import SSMPConfig
from models.ssmp.simulate import write_dataset
from models.ssmp.train import Learner, Recipe, make_model, measure_scale, train
from pipeline.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    write_dataset([], out, 6, 2, np.random.default_rng(0), slots=(6, 9), feature_dim=16)
    return out


TINY = SSMPConfig(16, 32, heads=2, layers=1)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("schedule", ["self_paced", "linear_up", "random", "fixed"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(folder, tmp_path, schedule: ScheduleName):
    def stop(step):
        if step.step == 9:  # after the save at 8: step 9 is made again
            raise Interrupted

    def run(name: str, **options):
        return train(
            folder, tmp_path / name, TINY, steps=16, lr=1e-2, save_every=4, held_out=0.3, schedule=schedule, **options
        )

    whole = run("whole")
    with pytest.raises(Interrupted):
        run("cut", progress=stop)
    resumed = run("cut", resume=True)
    assert (resumed.steps, resumed.best_step) == (16, whole.best_step)
    assert resumed.evaluation == whole.evaluation
    for file in ("best", "last", "state"):
        for suffix in (".safetensors", ".json"):
            name = file + suffix
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_training_leaves_checkpoints_and_tells_its_steps(folder, tmp_path):
    steps = []
    result = train(
        folder,
        tmp_path,
        TINY,
        steps=12,
        seed=3,
        lr=1e-2,
        save_every=5,
        encoder="descriptor@1",
        command="train x",
        progress=steps.append,
    )
    assert [step.step for step in steps] == list(range(1, 13))
    assert [step.step for step in steps if step.held_out is not None] == [5, 10, 12]
    assert max(step.learning_rate for step in steps) == pytest.approx(1e-2)
    assert steps[-1].learning_rate < steps[5].learning_rate
    best = load_checkpoint(result.best, encoder="descriptor@1")
    assert (best.card.seed, best.card.command) == (3, "train x")
    assert best.card.figures["step"] == result.best_step
    assert "chronological.aa_slot" in best.card.figures
    assert set(result.evaluation.rows) >= {"random", "uniform", "chronological", "self_corrective", "greedy"}
    assert result.last.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_the_scale_is_measured_and_not_decayed(folder):
    torch.manual_seed(0)
    model = make_model(TINY, 0)
    learner = Learner(model, Recipe(10))
    decay = {id(p): g["weight_decay"] for g in learner.optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.1 if parameter.ndim == 2 else 0.0), name
    literal = Learner(make_model(replace(TINY, literal=True), 0), Recipe(10))
    assert all(p is not literal.model.log_scale for g in literal.optimizer.param_groups for p in g["params"])
    rows = np.zeros((3, 16), np.float32)
    rows[:, 0], rows[np.arange(3), np.arange(1, 4)] = math.sqrt(0.6), math.sqrt(0.4)
    sample = Sample("1-1", "1", rows, rows[:1], np.array([0]))
    assert measure_scale([sample]) == pytest.approx(25 / math.sqrt(0.4), rel=1e-5)  # mean cosine .6: about 40


def test_weights_at_birth_come_from_the_seed_and_leave_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = make_model(TINY, 1), make_model(TINY, 1), make_model(TINY, 2)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.mask_token, again.mask_token)
    assert not torch.equal(first.mask_token, other.mask_token)


def test_training_starts_from_a_checkpoint_of_the_same_shape(folder, tmp_path):
    first = train(folder, tmp_path / "a", TINY, steps=2, encoder="e@1")
    train(folder, tmp_path / "b", TINY, steps=1, lr=1e-12, encoder="e@1", start=first.best)
    begun, gone_on = load_checkpoint(first.best).model, load_checkpoint(tmp_path / "b" / "last.safetensors").model
    torch.testing.assert_close(gone_on.mask_token, begun.mask_token)
    with pytest.raises(InputError, match="another shape"):
        train(folder, tmp_path / "c", replace(TINY, layers=2), steps=1, encoder="e@1", start=first.best)


def test_unusable_requests_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="width 16, the model reads 32"):
        train(folder, tmp_path, SSMPConfig(32, 32, 2, 1), steps=1)
    one = tmp_path / "one"
    write_dataset([], one, 1, 2, np.random.default_rng(0), slots=(6, 9), feature_dim=16)
    with pytest.raises(InputError, match="at least two films"):
        train(one, tmp_path, TINY, steps=1)
    with pytest.raises(ValueError, match="at least 1"):
        train(folder, tmp_path, TINY, steps=0)
    train(folder, tmp_path / "run", TINY, steps=2)
    with pytest.raises(InputError, match="other settings"):
        train(folder, tmp_path / "run", TINY, steps=3, resume=True)
    state = tmp_path / "run" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="damaged"):
        train(folder, tmp_path / "run", TINY, steps=2, resume=True)


def test_a_diverging_training_says_so(folder):
    model = make_model(TINY, 0)
    with torch.no_grad():
        model.mask_token.fill_(torch.nan)
    with pytest.raises(InputError, match="diverged at step 1"):
        Learner(model, Recipe(1)).take_step(load_samples(folder))
