"""A checkpoint comes back as it was, and anything else is refused in one line that names the file."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.ssmp.checkpoint import Card, load_checkpoint, save_checkpoint
from models.ssmp.model import SSMP, SSMPConfig
from pipeline.errors import InputError

CONFIG = SSMPConfig(16, 32, 2, 2, initial_scale=30.0, positions="stretch")
CARD = Card(data="invented films", command="trailer train", seed=3, figures={"masked_accuracy@0.1": 0.75})


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = SSMP(CONFIG)
    path = tmp_path / "deep" / "ssmp.safetensors"
    save_checkpoint(path, model, encoder="descriptor@1", card=CARD)
    return path, model


def rewrite(path, **changes):
    """Change fields of the JSON; a value that is callable gets the old value."""
    about_path = path.with_suffix(".json")
    about = json.loads(about_path.read_text())
    for name, value in changes.items():
        about[name] = value(about[name]) if callable(value) else value
    about_path.write_text(json.dumps(about))


def refuse(path, words: str, **options):
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert path.stem in message
    assert "\n" not in message


def test_a_checkpoint_comes_back_as_it_was(saved):
    path, model = saved
    loaded = load_checkpoint(path, encoder="descriptor@1")
    assert loaded.model.config == CONFIG
    assert (loaded.encoder, loaded.card) == ("descriptor@1", CARD)
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    film, trailer, hidden = torch.randn(1, 6, 16), torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool)
    lengths = torch.tensor([6]), torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(model(film, trailer, hidden, *lengths), loaded.model(film, trailer, hidden, *lengths))


def test_same_model_same_bytes_and_nothing_is_left_behind(saved):
    path, model = saved
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    save_checkpoint(path, model, encoder="descriptor@1", card=CARD)
    assert before == (path.read_bytes(), path.with_suffix(".json").read_bytes())
    assert sorted(p.name for p in path.parent.iterdir()) == ["ssmp.json", "ssmp.safetensors"]


def test_parameter_names_are_those_of_the_specification(saved):
    _, model = saved
    names = {"mask_token", "log_scale"} | {
        f"layers.{layer}.{part}.weight"
        for layer in range(2)
        for part in (
            "attention_norm",
            *(f"attention.{x}" for x in ("q", "k", "v", "out")),
            "ffn_norm",
            "ffn.up",
            "ffn.out",
        )
    }
    assert set(model.state_dict()) == names


def test_missing_files_are_refused(saved):
    path, _ = saved
    path.rename(path.with_name("moved"))
    refuse(path, "cannot read checkpoint")
    path.with_suffix(".json").unlink()
    refuse(path, "cannot read checkpoint description")


@pytest.mark.parametrize("damage", [lambda d: d[:-10], lambda d: d[:40], lambda d: b"", lambda d: d[:-1] + b"\x7f"])
def test_truncated_and_changed_weights_are_refused(saved, damage):
    path, _ = saved
    path.write_bytes(damage(path.read_bytes()))
    refuse(path, "damaged")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "{}", '{"schema": 1}', "\x00\xff", "[" * 100_000])
def test_bad_json_is_refused(saved, text):
    path, _ = saved
    path.with_suffix(".json").write_text(text)
    refuse(path, "not JSON|not a checkpoint description")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"config": {"feature_dim": 16}},
        {"config": lambda c: c | {"colour": 1}},
        {"config": lambda c: c | {"layers": "2"}},
        {"config": lambda c: c | {"heads": 5}},
        {"config": lambda c: c | {"layers": 3}},
        {"config": lambda c: c | {"layers": 10**9}},
        {"config": lambda c: c | {"ffn_dim": 10**30}},
        {"config": lambda c: c | {"ffn_dim": 64}},
        {"config": lambda c: c | {"literal": 1}},
        {"config": None},
        {"card": {"data": "x"}},
        {"card": lambda c: c | {"seed": True}},
        {"encoder": None},
        {"sha256": 7},
        {"sha256": "0" * 64},
    ],
)
def test_descriptions_of_something_else_are_refused(saved, changes):
    path, _ = saved
    rewrite(path, **changes)
    refuse(path, ".")


def test_foreign_and_wrongly_shaped_weights_are_refused(saved):
    path, model = saved
    good = model.state_dict()
    for change, words in (
        ({"extra": torch.zeros(2)}, "unknown"),
        ({"mask_token": torch.zeros(8)}, "mask_token is"),
        ({"mask_token": torch.zeros(16, dtype=torch.float16)}, "float16"),
        ({"mask_token": torch.full((16,), torch.nan)}, "not finite"),
    ):
        save_file({**good, **change}, path)
        rewrite(path, sha256=digest(path))
        refuse(path, words)
    path.write_bytes(b"not safetensors at all")
    rewrite(path, sha256=digest(path))
    refuse(path, "not a safetensors file")


def test_a_pickle_is_never_opened(saved):
    path, _ = saved

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    path.write_bytes(pickle.dumps(Bomb()))
    rewrite(path, sha256=digest(path))
    refuse(path, "not a safetensors file")


def test_another_encoder_and_another_suffix_are_refused(saved):
    path, model = saved
    refuse(path, "descriptor@1 features, not imagebind@1", encoder="imagebind@1")
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        load_checkpoint(path.with_suffix(".pt"))
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save_checkpoint(path.with_suffix(".bin"), model, encoder="x", card=CARD)


def test_figures_that_are_not_numbers_do_not_reach_the_file(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(
            tmp_path / "x.safetensors", SSMP(CONFIG), encoder="x", card=Card("d", "c", 0, {"f1": float(np.nan)})
        )


def digest(path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
