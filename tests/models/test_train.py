"""A training can be interrupted, shared among processes, and leaves behind what it says."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.baselines.ranker import RankerConfig
from models.baselines.tgt import TGTConfig
from models.ssmp.checkpoint import Config, load_checkpoint, load_model
from models.ssmp.data import Sample, load_samples, make_batch, split_by_film
from models.ssmp.history import draw_curve, read_history
from models.ssmp.masking import ScheduleName
from models.ssmp.model import SSMPConfig
from models.ssmp.simulate import write_dataset
from models.ssmp.train import Learner, Recipe, TrainingResult, make_model, measure_scale, train
from pipeline.errors import InputError, MissingDependencyError
from tests.conftest import absent

ROOT = Path(__file__).resolve().parents[2]
TINY = SSMPConfig(16, 32, heads=2, layers=1)
MODELS: dict[str, Config] = {
    "ssmp": TINY,
    "tgt": TGTConfig(16, 32, heads=2, layers=1),
    "ranker": RankerConfig(16, 32, heads=2, layers=1),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("data")
    write_dataset([], out, 6, 2, np.random.default_rng(0), slots=(6, 9), feature_dim=16)
    return out


@pytest.fixture(scope="module")
def split(folder) -> tuple[list[Sample], list[Sample]]:
    return split_by_film(load_samples(folder), 0.3, np.random.default_rng(0))


def run(
    split: tuple[Sequence[Sample], Sequence[Sample]],
    out: Path,
    config: Config = TINY,
    *,
    steps: int = 16,
    lr: float = 1e-2,
    save_every: int = 4,
    seed: int = 0,
    recipe: dict[str, Any] | None = None,
    **options: Any,
) -> TrainingResult:
    made = Recipe(steps, seed=seed, lr=lr, **(recipe or {}))
    return train(*split, out, config, made, save_every=save_every, **options)


class Interrupted(Exception):
    pass


def interrupt_at(number: int):
    def watch(step):
        if step.step == number:
            raise Interrupted

    return watch


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("ssmp", {"schedule": "self_paced"}),
        ("ssmp", {"schedule": "self_paced_ema", "mu_a": 0.9}),
        ("ssmp", {"schedule": "linear_up"}),
        ("ssmp", {"schedule": "linear_down"}),
        ("ssmp", {"schedule": "random"}),
        ("ssmp", {"schedule": "fixed"}),
        ("ssmp", {"loss": "mse"}),
        ("tgt", {}),
        ("ranker", {}),
    ],
)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(split, tmp_path, kind: str, recipe):
    whole = run(split, tmp_path / "whole", MODELS[kind], recipe=recipe)
    with pytest.raises(Interrupted):  # after the save at 8: step 9 is made again
        run(split, tmp_path / "cut", MODELS[kind], recipe=recipe, progress=interrupt_at(9))
    assert [entry["step"] for entry in read_history(tmp_path / "cut" / "history.jsonl")] == list(range(1, 10))
    resumed = run(split, tmp_path / "cut", MODELS[kind], recipe=recipe, resume=True)
    assert (resumed.steps, resumed.best_step, resumed.held_out) == (16, whole.best_step, whole.held_out)
    assert resumed.evaluation == whole.evaluation
    expected = files_of(tmp_path / "whole")
    assert {"best.safetensors", "last.json", "state.json", "state-16.safetensors", "history.jsonl"} <= set(expected)
    assert files_of(tmp_path / "cut") == expected


KILLED = """
import sys
import numpy as np
from models.ssmp.data import load_samples, split_by_film
from models.ssmp.model import SSMPConfig
from models.ssmp.train import Recipe, train
data, out, steps = sys.argv[1:]
from pathlib import Path
split = split_by_film(load_samples(Path(data)), 0.3, np.random.default_rng(0))
train(*split, Path(out), SSMPConfig(16, 32, heads=2, layers=1), Recipe(int(steps), lr=1e-2), save_every=7, resume=True)
"""


def test_a_training_killed_anywhere_has_the_same_loss_curve(folder, split, tmp_path):
    """SIGKILL at two random moments; whatever was being written, the next start goes on and nothing differs."""
    steps = 150
    whole = run(split, tmp_path / "whole", steps=steps, save_every=7)
    out = tmp_path / "killed"
    rng = np.random.default_rng(time.time_ns())
    command = [sys.executable, "-c", KILLED, str(folder), str(out), str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        while process.poll() is None and not (out / "state.json").exists():  # the first start: nothing to lose yet
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.8)))
        process.send_signal(signal.SIGKILL)
        assert b"Traceback" not in process.communicate()[1]
        kills += process.returncode == -signal.SIGKILL
    subprocess.run(command, env=environment, check=True)
    assert kills >= 1
    assert (out / "history.jsonl").read_bytes() == (tmp_path / "whole" / "history.jsonl").read_bytes()
    assert (out / "best.safetensors").read_bytes() == whole.best.read_bytes()
    assert len(list(out.glob("state-*.safetensors"))) == 1


def test_two_processes_train_as_one(folder, split, tmp_path):
    """torchrun with two processes: the same loss and accuracy at every step, but for rounding (sums in another order)."""
    run(split, tmp_path / "one", recipe={"batch_size": 4})
    code = KILLED.replace("lr=1e-2)", "lr=1e-2, batch_size=4)").replace("save_every=7", "save_every=4, ranks=ranks")
    code = code.replace(
        "data, out", "from models.ssmp.ranks import join_ranks, leave_ranks\nranks, _ = join_ranks('cpu')\ndata, out"
    )
    script = tmp_path / "two.py"
    script.write_text(code + "leave_ranks(ranks)\n")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(folder), str(tmp_path / "two"), "16"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    alone, shared = (read_history(tmp_path / name / "history.jsonl") for name in ("one", "two"))
    assert len(alone) == len(shared) == 16
    for a, b in zip(alone, shared, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert (b["accuracy"], b["rate"]) == pytest.approx((a["accuracy"], a["rate"]), abs=1e-9)


def test_more_processes_than_trailers_are_refused():
    from models.ssmp.ranks import Ranks

    with pytest.raises(InputError, match="8 processes cannot share batches of 5"):
        Learner(make_model(TINY, 0), Recipe(1), ranks=Ranks(0, 8))


def test_a_training_leaves_checkpoints_and_tells_its_steps(split, tmp_path):
    steps = []
    result = run(
        split,
        tmp_path,
        steps=12,
        seed=3,
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
    history = read_history(tmp_path / "history.jsonl")
    assert [entry["loss"] for entry in history] == [step.loss for step in steps]
    assert "<polyline" in (tmp_path / "mask-rate.svg").read_text()


@pytest.mark.parametrize("text", ["nonsense\n", "[1]\n", '{"step": 1}\n'])
def test_a_history_of_something_else_is_named(tmp_path, text):
    (tmp_path / "history.jsonl").write_text(text)
    with pytest.raises(InputError, match="not the history of a training"):
        read_history(tmp_path / "history.jsonl")


def test_the_curve_shows_the_rate():
    drawn = draw_curve([(step, step / 10, 0.5) for step in range(11)])
    rate = drawn.split('<polyline points="')[2].split('"')[0].split()
    heights = [float(point.split(",")[1]) for point in rate]
    assert heights == sorted(heights, reverse=True)  # up the page is less: the rate rises
    assert heights[0] - heights[-1] == pytest.approx(320 - 2 * 48, abs=0.2)  # from 0 to 1 is the whole height


def test_tensorboard_gets_the_same_scalars(split, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(split, tmp_path, steps=6, save_every=3, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    history = read_history(tmp_path / "history.jsonl")
    for name in ("loss", "rate", "accuracy"):
        told = events.Scalars(f"train/{name}")
        assert [event.step for event in told] == list(range(1, 7))
        assert [event.value for event in told] == pytest.approx([entry[name] for entry in history], rel=1e-6)
    assert [event.step for event in events.Scalars("train/held_out")] == [3, 6]


def test_without_tensorboard_the_request_says_what_to_install(split, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"trailer-pipeline\[train\]"):
        run(split, tmp_path, tensorboard=True)


def test_every_trailer_is_seen_once_an_epoch(split):
    learner = Learner(make_model(TINY, 0), Recipe(8, batch_size=2))
    count = len(split[0])
    orders = []
    for _ in range(2):
        seen = []
        for _ in range(count // 2):
            seen += learner._choose(count)
            learner.step += 1
        assert len(set(seen)) == count // 2 * 2
        orders.append(seen)
    assert orders[0] != orders[1]


def test_the_scale_is_measured_and_not_decayed():
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
    first, again, other = (make_model(TINY, seed).state_dict()["mask_token"] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", MODELS)
def test_training_starts_from_a_checkpoint_of_the_same_shape(split, tmp_path, kind):
    config = MODELS[kind]
    first = run(split, tmp_path / "a", config, steps=2, encoder="e@1")
    run(split, tmp_path / "b", config, steps=1, lr=1e-12, encoder="e@1", start=first.best)
    begun, gone_on = load_model(first.best).model, load_model(tmp_path / "b" / "last.safetensors").model
    for name, tensor in begun.state_dict().items():
        torch.testing.assert_close(gone_on.state_dict()[name], tensor)
    with pytest.raises(InputError, match="another shape"):
        run(split, tmp_path / "c", replace(config, layers=2), steps=1, encoder="e@1", start=first.best)


def test_unusable_requests_are_refused(split, tmp_path):
    with pytest.raises(InputError, match="width 16, the model reads 32"):
        run(split, tmp_path, SSMPConfig(32, 32, 2, 1))
    with pytest.raises(ValueError, match="at least 1"):
        run(split, tmp_path, steps=0)
    run(split, tmp_path / "run", steps=2)
    with pytest.raises(InputError, match="trained with other steps"):
        run(split, tmp_path / "run", steps=3, resume=True)
    state = tmp_path / "run" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(InputError, match="damaged"):
        run(split, tmp_path / "run", steps=2, resume=True)


def test_a_diverging_training_says_so(split):
    model = make_model(TINY, 0)
    with torch.no_grad():
        model.log_scale.fill_(torch.nan)
    with pytest.raises(InputError, match="diverged at step 1"):
        Learner(model, Recipe(1)).take_step(split[0])


def test_a_training_does_not_go_on_with_other_data(split, tmp_path):
    """Else a film that was learned from could choose the best checkpoint."""
    learning, testing = split
    run(split, tmp_path, steps=2)
    changed = [replace(learning[0], trailer_JD=learning[0].trailer_JD[::-1].copy()), *learning[1:]]
    for other in ((changed, testing), (learning[1:], testing), (learning, testing[1:])):
        with pytest.raises(InputError, match=r"trained with other (learning|held_out)"):
            run(other, tmp_path, steps=2, resume=True)
    with pytest.raises(InputError, match="trained with other encoder"):
        run(split, tmp_path, steps=2, resume=True, encoder="imagebind@1")


def test_a_best_checkpoint_that_is_half_of_two_is_made_again(split, tmp_path):
    """Killed between its two files, where going on gives slightly other numbers, as a GPU does."""
    with pytest.raises(Interrupted):
        run(split, tmp_path, progress=interrupt_at(9))
    best = tmp_path / "best.json"
    best.write_text(json.dumps(json.loads(best.read_text()) | {"sha256": "0" * 64}))
    load_model(run(split, tmp_path, resume=True).best)


@pytest.mark.parametrize(
    "spoil", [lambda s: s.pop("weights"), lambda s: s.update(rng=3), lambda s: s.update(sha256=None)]
)
def test_a_state_that_is_not_whole_is_named(split, tmp_path, spoil):
    run(split, tmp_path, steps=2)
    path = tmp_path / "state.json"
    state = json.loads(path.read_text())
    spoil(state)
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"state\.json|state-2"):
        run(split, tmp_path, steps=2, resume=True)


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_weighs_its_trailers_as_its_parts_do(split, kind):
    """The loss is a sum over slots, whoever stands beside them: what makes several processes the same as one."""
    learner = Learner(make_model(MODELS[kind], 0), Recipe(1, batch_size=4))
    samples = split[0][:4]
    lengths = np.array([len(sample.labels_J) for sample in samples])
    hidden = np.arange(lengths.max()) < lengths[:, None]
    parts = []
    for chosen in ([0, 1, 2, 3], [0, 2], [1, 3]):
        mask = hidden[chosen][:, : lengths[chosen].max()]
        with torch.no_grad():
            loss, right = learner.objective.measure(make_batch([samples[i] for i in chosen]), mask)
        parts.append((float(loss), float(right)))
    assert parts[0] == pytest.approx((parts[1][0] + parts[2][0], parts[1][1] + parts[2][1]), rel=1e-5)


@pytest.mark.parametrize("schedule", ["self_paced", "fixed"])
def test_half_precision_stays_close(split, schedule: ScheduleName):
    losses = []
    for precision in ("float32", "bfloat16"):
        learner = Learner(make_model(TINY, 0), Recipe(5, schedule=schedule, precision=precision))
        losses.append([learner.take_step(split[0]).loss for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # eight bits of mantissa through one layer
    assert losses[1] != losses[0]


@pytest.mark.gpu
def test_a_gpu_trains_as_a_cpu(split):
    """float32: the same losses but for rounding; bfloat16: eight bits of mantissa through one layer."""
    if not torch.cuda.is_available():
        absent("gpu", "no GPU here")
    losses = []
    for device, precision in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        learner = Learner(make_model(TINY, 0), Recipe(5, precision=precision), device=device)
        losses.append([learner.take_step(split[0]).loss for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.gpu
def test_forward_and_backward_never_wait_for_the_gpu(split):
    if not torch.cuda.is_available():
        absent("gpu", "no GPU here")
    learner = Learner(make_model(TINY, 0), Recipe(5, precision="bfloat16"), device="cuda")
    learner.take_step(split[0])  # compiles, sends the features, makes the optimizer's state
    hidden = learner.objective.draw(np.array([len(split[0][i].labels_J) for i in range(3)]), learner.rng)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner._backward([0, 1, 2], hidden, int(hidden.sum()))
    finally:
        torch.cuda.set_sync_debug_mode("default")
