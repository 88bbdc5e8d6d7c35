"""The commands about the model: train, evaluate, ablate, simulate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flows.tables import Table
from flows.training import choose_model, load_split
from models.baselines.tgt import TGTConfig
from models.ssmp.history import read_history
from models.ssmp.simulate import write_dataset
from pipeline.errors import InputError
from tests.conftest import Command


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine invented films with two trailers each, 16 wide; years and genres of two of them."""
    out = tmp_path_factory.mktemp("features")
    write_dataset([], out, 9, 2, np.random.default_rng(0), slots=(6, 9), feature_dim=16)
    (out / "films.csv").write_text("film,year,genres\n1,1999,comedy\n2,2005,comedy|crime\n")
    return out


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """Two films whose shots are the axes, and trailers whose labels are plain: 1-1 is 1 3 4, 2-1 is 0 1 2."""
    folder = tmp_path / "worked"
    folder.mkdir()
    for film, labels in (("1", [1, 3, 4]), ("2", [0, 1, 2])):
        np.save(folder / f"{film}.npy", np.eye(10, dtype=np.float32))
        np.save(folder / f"{film}-1.npy", np.eye(10, dtype=np.float32)[labels] * 3)
    return folder


def test_training_data_and_training(trailer: Command, tmp_path: Path) -> None:
    data, checkpoint = tmp_path / "data", tmp_path / "c.safetensors"
    written = trailer("simulate", "--out", data, "--films", "3", "--trailers", "1", "--seed", "2")
    assert written.code == 0, written.err
    assert sorted(path.name for path in data.iterdir()) == ["1-1.npy", "1.npy", "2-1.npy", "2.npy", "3-1.npy", "3.npy"]
    assert "must not mix" in trailer("simulate", "--out", data, "--films", "2").err
    trained = trailer("train", data, "--out", checkpoint, "--steps", "3", "--seed", "1")
    assert trained.code == 0, trained.err
    assert str(checkpoint) in trained.out
    assert json.loads(checkpoint.with_suffix(".json").read_text())["encoder"] == "descriptor@1"


def test_the_generated_benchmark_can_be_written(trailer: Command, tmp_path: Path) -> None:
    data = tmp_path / "planted"
    assert trailer("simulate", "--planted", "--films", "3", "--out", data).code == 0
    assert sorted(path.stem for path in data.iterdir()) == ["1", "1-1", "2", "2-1", "3", "3-1"]
    answer = trailer("simulate", "--planted", "--trailers", "2", "--out", tmp_path / "other")
    assert (answer.code, answer.out) == (2, "")
    assert "one trailer each" in answer.err


def test_an_earlier_training_is_not_overwritten(trailer: Command, features: Path, tmp_path: Path) -> None:
    command = ["train", features, "--out", tmp_path / "c.safetensors", "--steps", "4", "--batch", "4"]
    assert trailer(*command).code == 0
    before = (tmp_path / "c.training" / "state.json").read_bytes()
    again = trailer(*command)
    assert again.code == 2
    assert "--resume goes on with it" in again.err
    assert (tmp_path / "c.training" / "state.json").read_bytes() == before
    assert trailer(*command, "--resume").code == 0


def test_epochs_lists_schedules_and_baselines(trailer: Command, features: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("1\n2\n")
    (tmp_path / "choose.txt").write_text("3-1\n")
    lists = ["--exclude", tmp_path / "test.txt", "--held-out", tmp_path / "choose.txt"]
    for model in ("ssmp", "tgt", "ranker"):
        out = tmp_path / f"{model}.safetensors"
        done = trailer("train", features, "--out", out, "--model", model, "--epochs", "2", "--batch", "4", *lists)
        assert done.code == 0, done.err
        about = json.loads(out.with_suffix(".json").read_text())
        assert about["card"]["data"].endswith("12 trailers, 1 held out")  # 9 films less 2 and 1, two trailers each
        assert about["kind"] == model
        assert len(read_history(tmp_path / f"{model}.training" / "history.jsonl")) == 6  # 12 trailers, 4 a step, twice
    wrong = {
        "no schedule 'up': one of self_paced": ["--schedule", "up"],
        "no loss 'mae'": ["--loss", "mae"],
        "no kind of model 'x'": ["--model", "x"],
        "no preset 'huge'": ["--preset", "huge"],
        "cannot read": ["--exclude", "none.txt"],
    }
    for words, options in wrong.items():
        answer = trailer("train", features, "--out", tmp_path / "d.safetensors", *options)
        assert (answer.code, answer.out) == (2, "")
        assert words in answer.err
        assert answer.err.count("\n") == 1
    assert not (tmp_path / "d.safetensors").exists()


def test_evaluation_of_hand_worked_trailers(trailer: Command, worked: Path, tmp_path: Path) -> None:
    """1-1: G = 3 1 9 9 for T = 1 3 4; 2-1: exact. The numbers are worked out in tests/models/test_evaluate.py."""
    made = tmp_path / "made.json"
    made.write_text(json.dumps({"1-1": [3, 1, 9, 9], "2-1": [0, 1, 2]}))
    answer = trailer("evaluate", made, worked, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    row = told["rows"]["made"]
    assert row["matched"]["0"] == pytest.approx(dict.fromkeys(("precision", "recall", "f1"), (2 / 3 + 1) / 2))
    assert row["matched"]["1"] == pytest.approx({"precision": 5 / 6, "recall": 1.0, "f1": 0.9})
    assert row["one_to_one"]["1"]["recall"] == pytest.approx(5 / 6)
    assert (row["ld"], row["ld_normalised"], row["sld"]) == (1.5, 0.375, 0.5)
    assert (row["aa_common"], row["aa_slot"], row["slot_accuracy"]) == (0.5, 1.0, 1.0)  # the last two: of 2-1 alone
    assert {"random", "uniform", "chronological"} < set(told["rows"])
    assert (told["trailers"], told["films"], told["best_slot_accuracy"]) == (2, 2, 1.0)
    table = trailer("evaluate", made, worked).out
    line = next(line for line in table.splitlines() if line.strip().startswith("made"))
    assert line.split()[1:4] == ["0.833", "0.833", "0.833"]
    assert "SSMP as published" in table


def test_checkpoints_are_measured_side_by_side(trailer: Command, features: Path, tmp_path: Path) -> None:
    for model in ("ssmp", "tgt", "ranker"):
        out = tmp_path / f"{model}.safetensors"
        assert trailer("train", features, "--out", out, "--model", model, "--steps", "4", "--batch", "4").code == 0
    others = ["--against", tmp_path / "tgt.safetensors", "--against", tmp_path / "ranker.safetensors"]
    outputs = ["--markdown", tmp_path / "t.md", "--keep", tmp_path / "kept.json"]
    answer = trailer("evaluate", tmp_path / "ssmp.safetensors", features, *others, *outputs, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert list(told["rows"]) == [
        "random", "uniform", "chronological", "self_corrective", "confidence", "greedy", "left_to_right", "tgt", "ranker",
    ]  # fmt: skip
    assert {name: group["trailers"] for name, group in told["groups"].items()} == {
        "1990-1999": 2, "2000-2009": 2, "comedy": 4, "crime": 2,
    }  # fmt: skip
    assert len(told["corrections"]["self_corrective"]["hidden_again"]) == 10
    text = (tmp_path / "t.md").read_text()
    assert text.count("| ranker |") == 3  # which shots, in which order, F1 by group
    kept = trailer("evaluate", tmp_path / "kept.json", features, "--json")  # what was kept can be measured again
    assert json.loads(kept.out)["rows"]["kept"]["ld"] == told["rows"]["self_corrective"]["ld"]
    (tmp_path / "only.txt").write_text("1\n")
    one = trailer("evaluate", tmp_path / "tgt.safetensors", features, "--only", tmp_path / "only.txt", "--json")
    assert json.loads(one.out)["trailers"] == 2


def test_what_cannot_be_measured_is_refused(trailer: Command, worked: Path, features: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    wrong = {
        "has no trailer '2-1'": {"1-1": [1]},
        "film shots from 0 to 9": {"1-1": [1], "2-1": [10]},
        "film shots from 0": {"1-1": [1], "2-1": [True]},
        "expected film shots": {"1-1": [], "2-1": [1]},
        "name the .safetensors": {"sha256": "0"},
    }
    for words, trailers in wrong.items():
        made.write_text(json.dumps(trailers))
        answer = trailer("evaluate", made, worked)
        assert (answer.code, answer.out) == (2, "")
        assert words in answer.err
    made.write_text("[1]")
    assert trailer("evaluate", made, worked).code == 2
    assert "no decoder 'best'" in trailer("evaluate", made, worked, "--decoder", "best").err
    checkpoint = tmp_path / "c.safetensors"
    assert trailer("train", features, "--out", checkpoint, "--steps", "2").code == 0
    assert "width 16, the data has 10" in trailer("evaluate", checkpoint, worked).err


def test_results_are_never_written_over_what_they_come_from(
    trailer: Command, worked: Path, features: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.json"
    made.write_text(json.dumps({"1-1": [1], "2-1": [1]}))
    before = {path: path.read_bytes() for path in (made, *worked.iterdir())}
    (tmp_path / "dir.md").mkdir()
    wrong = {
        "must end in .json": ["--keep", worked / "1-1.npy"],
        "must end in .md": ["--markdown", made],
        "over what is measured": ["--keep", made],
        "written over": ["--keep", worked / "kept.json"],
        "cannot be a file": ["--markdown", tmp_path / "dir.md"],
        "cannot be a file: choose": ["--markdown", made / "x.md"],
    }
    for words, options in wrong.items():
        answer = trailer("evaluate", made, worked, *options)
        assert (answer.code, answer.out) == (2, ""), options
        assert words in answer.err
    assert {path: path.read_bytes() for path in (made, *worked.iterdir())} == before
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    for out in (tmp_path / "notes.safetensors", made / "c.safetensors"):
        answer = trailer("train", features, "--out", out, "--steps", "2")
        assert answer.code == 2
        assert answer.err.count("\n") == 1
    assert (tmp_path / "notes.json").read_text() == '{"mine": 1}'


def test_the_encoder_is_not_guessed(trailer: Command, features: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.safetensors"
    wrong = trailer("train", features, "--out", out, "--steps", "2", "--encoder", "descriptor")
    assert (wrong.code, wrong.out) == (2, "")
    assert "features of width 16, descriptor@1 makes 128" in wrong.err
    assert trailer("train", features, "--out", out, "--steps", "2").code == 0
    assert json.loads(out.with_suffix(".json").read_text())["encoder"] == "unknown"
    assert (
        "give one"
        in trailer("train", features, "--out", tmp_path / "d.safetensors", "--steps", "2", "--epochs", "1").err
    )


def test_a_device_that_is_not_there(trailer: Command, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAILER_DEVICE", "tpu")
    answer = trailer("train", features, "--out", "c.safetensors", "--steps", "2")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "TRAILER_DEVICE is 'tpu'" in answer.err
    monkeypatch.setenv("TRAILER_DEVICE", "cpu")
    monkeypatch.setenv("WORLD_SIZE", "abc")
    assert "as torchrun sets them" in trailer("train", features, "--out", "c.safetensors", "--steps", "2").err


def test_a_baseline_cannot_choose_a_trailers_shots(features: Path, trailer: Command, tmp_path: Path) -> None:
    from models.ssmp.checkpoint import load_checkpoint

    out = tmp_path / "c.safetensors"
    assert trailer("train", features, "--out", out, "--model", "tgt", "--steps", "2").code == 0
    with pytest.raises(InputError, match=r"a baseline \(tgt\), not an SSMP"):
        load_checkpoint(out)


def test_an_ablation_is_a_table_with_spread_and_goes_on(trailer: Command, features: Path, tmp_path: Path) -> None:
    command = ["ablate", features, "--out", tmp_path / "ablation", "--seeds", "2", "--steps", "2", "--table", "loss"]
    answer = trailer(*command, "--table", "systems", "--json")
    assert answer.code == 0, answer.err
    rows = {(row["table"], row["name"]): row for row in json.loads(answer.out)["rows"]}
    assert rows["loss", "mse"]["published_f1"] == 0.1211
    assert rows["loss", "cross_entropy"]["seeds"] == rows["systems", "ssmp"]["seeds"]  # the same two trainings
    assert [len(row["seeds"]) for row in rows.values()] == [2] * 8
    runs = sorted((tmp_path / "ablation" / "runs").iterdir())
    assert len(runs) == 8  # ssmp, mse, tgt, ranker with two seeds
    times = [(run / "measured.json").stat().st_mtime_ns for run in runs]
    text = (tmp_path / "ablation" / "ablation.md").read_text()
    assert "| mse |" in text
    assert "0.1211 |" in text
    assert " ± " in text
    assert trailer(*command).code == 0
    assert [(run / "measured.json").stat().st_mtime_ns for run in runs] == times
    assert "no table 'x'" in trailer("ablate", features, "--out", tmp_path / "a", "--table", "x").err


def test_presets() -> None:
    assert (choose_model("small", 128).layers, choose_model("paper-5", 1024).layers) == (4, 5)
    assert choose_model("paper", 1024).ffn_dim == 2048
    assert choose_model("paper", 1024, layers=8).layers == 8
    tgt = choose_model("paper", 1024, kind="tgt")
    assert isinstance(tgt, TGTConfig)
    assert (tgt.feature_dim, tgt.layers) == (1024, 2)  # two of the encoder and two of the decoder: as deep as SSMP
    with pytest.raises(InputError, match="no preset"):
        choose_model("huge", 128)
    with pytest.raises(InputError, match="width 3"):
        choose_model("small", 3)


def test_a_list_that_names_one_trailer_keeps_its_film_apart(features: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("4-2\n")
    split = load_split(features, seed=0, held_out=[tmp_path / "list.txt"])
    assert [sample.name for sample in split.held_out] == ["4-2"]
    assert "4" not in {sample.film for sample in split.learning}
    split = load_split(features, seed=0, exclude=[tmp_path / "list.txt"])
    assert "4" not in {sample.film for sample in (*split.learning, *split.held_out)}


def test_a_table_is_text_and_markdown() -> None:
    table = Table("T", ["", "F1"], [["a|b", "0.5"]], "note")
    assert "a|b" in table.draw()
    assert table.markdown() == "### T\n\n|  | F1 |\n| --- | ---: |\n| a\\|b | 0.5 |\n\nnote\n"
