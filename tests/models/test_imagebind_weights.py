"""ImageBind's published file is converted once, exactly, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.encoders import imagebind_weights
from models.encoders.imagebind import ImageBind, ImageBindConfig, TowerConfig, Towers
from models.encoders.imagebind_weights import convert_checkpoint, find_weights, load_imagebind
from pipeline.errors import InputError, MissingDependencyError

TINY = ImageBindConfig(8, TowerConfig(16, 2, 2), TowerConfig(16, 2, 2), TowerConfig(16, 2, 2))
TRUNK = "modality_trunks.vision.blocks.0.norm_1.weight"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: tensor.detach() for name, tensor in Towers(TINY).state_dict().items()}


@pytest.fixture
def published(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    """As it is published: more towers than are kept."""
    others = {f"modality_{part}.{tower}.x": torch.ones(2) for part in ("trunks", "heads") for tower in ("depth", "imu")}
    path = tmp_path / "imagebind_huge.pth"
    torch.save(tensors | others, path)
    return path


def test_a_file_comes_through_unchanged(published: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    target = tmp_path / "made.safetensors"
    sha256 = convert_checkpoint(published, target, config=TINY)
    assert sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert (tmp_path / "made.safetensors.sha256").read_text() == f"{sha256}  made.safetensors\n"
    towers = load_imagebind(target, device="cpu", config=TINY)
    assert not towers.training
    for name, tensor in towers.state_dict().items():
        assert torch.equal(tensor, tensors[name])
    assert not list(tmp_path.glob("*.partial"))
    assert target.stat().st_mode & 0o777 == 0o644
    assert convert_checkpoint(published, target, config=TINY) == sha256  # same weights, same bytes


def test_half_precision_and_the_old_format_of_torch_are_read_too(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    source, target = tmp_path / "old.pth", tmp_path / "made.safetensors"
    torch.save({name: tensor.half() for name, tensor in tensors.items()}, source, _use_new_zipfile_serialization=False)
    convert_checkpoint(source, target, config=TINY)
    for name, tensor in load_file(target).items():
        assert torch.equal(tensor, tensors[name].half().float())


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def spoil(what: str, published: Path, tensors: dict[str, Tensor]) -> None:
    whole = published.read_bytes()
    changed = dict(tensors)
    match what:
        case "gone":
            published.unlink()
        case "empty":
            published.write_bytes(b"")
        case "page":
            published.write_bytes(b"\n<!DOCTYPE html><html>403 Forbidden</html>")
        case "bogus":
            published.write_bytes(b"weights, honestly" * 99)
        case "bogus zip":
            published.write_bytes(b"PK\x03\x04" + bytes(999))
        case "bogus pickle":
            published.write_bytes(b"\x80\x02" + bytes(999))
        case "short":
            published.write_bytes(whole[: len(whole) // 2])
        case "code":
            torch.save({"a": Code()}, published)
        case "old code":
            torch.save({"a": Code()}, published, _use_new_zipfile_serialization=False)
        case "list":
            torch.save([torch.ones(2)], published)
        case "nested":
            torch.save({"model": tensors}, published)
        case "missing":
            del changed[TRUNK]
        case "foreign":
            changed["modality_trunks.vision.blocks.2.norm_1.weight"] = torch.ones(16)
        case "other model":
            changed = {f"layer{n}.weight": torch.ones(2) for n in range(9)}
        case "shape":
            changed[TRUNK] = torch.ones(32)
        case "whole numbers":
            changed[TRUNK] = torch.ones(16, dtype=torch.int64)
        case "nan":
            changed[TRUNK] = torch.full((16,), torch.nan)
        case "mask":
            changed[imagebind_weights.MASK] = torch.zeros(77, 77)
    if set(changed) != set(tensors) or any(changed[name] is not tensors[name] for name in tensors):
        torch.save(changed, published)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("gone", "cannot read .*: No such file"),
        ("empty", "is empty"),
        ("page", "is a web page, not weights"),
        ("bogus", "is not a torch file: it begins with b'weights,'"),
        ("bogus zip", "is damaged or cut short"),
        ("bogus pickle", "is not a torch file, or is damaged"),
        ("short", "is damaged or cut short"),
        ("code", "holds more than tensors, code perhaps: it was not run"),
        ("old code", "holds more than tensors, code perhaps: it was not run"),
        ("list", "it holds no plain table of tensors"),
        ("nested", "it holds no plain table of tensors"),
        ("missing", rf"is not ImageBind: 1 missing \({TRUNK}\)$"),
        ("foreign", r"is not ImageBind: 1 unknown \(modality_trunks.vision.blocks.2.norm_1.weight\)$"),
        ("other model", r"missing \(.*, …\) and 9 unknown \(layer0.weight, layer1.weight, layer2.weight, …\)"),
        ("shape", rf"not ImageBind of this size: {TRUNK} is \(32,\), not \(16,\)"),
        ("whole numbers", f"is not ImageBind: {TRUNK} holds torch.int64"),
        ("nan", f"is damaged: {TRUNK} holds values that are not finite"),
        ("mask", "mask does not hide what comes later"),
    ],
)
def test_what_is_not_the_published_file_is_refused_in_one_line(
    what: str, message: str, published: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(published.parent)
    spoil(what, published, tensors)
    target = published.parent / "made.safetensors"
    with pytest.raises(InputError, match=message) as refusal:
        convert_checkpoint(published, target, config=TINY)
    assert "\n" not in str(refusal.value)
    assert str(published) in str(refusal.value)
    assert not (published.parent / "ran").exists()
    assert not target.exists()


def test_a_full_disk_leaves_nothing(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imagebind_weights, "save_file", fill)
    target = published.parent / "made.safetensors"
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        convert_checkpoint(published, target, config=TINY)
    assert not list(published.parent.glob("made.safetensors*[!k]"))  # the lock may stay


@pytest.mark.parametrize("what", ["gone", "empty", "short", "bogus", "missing", "shape"])
def test_a_converted_file_that_is_no_good_is_refused_in_one_line(
    what: str, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "made.safetensors"
    changed = dict(tensors)
    if what == "missing":
        del changed[TRUNK]
    if what == "shape":
        changed[TRUNK] = torch.ones(32)
    save_file(changed, path)
    whole = path.read_bytes()
    match what:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "short":
            path.write_bytes(whole[:-100])
        case "bogus":
            path.write_bytes(b"\xff" * 500)
    with pytest.raises(InputError, match=r"not ImageBind|not a whole safetensors file") as refusal:
        load_imagebind(path, device="cpu", config=TINY)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_without_weights_it_says_how_to_get_them(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            MissingDependencyError, match=r"not in .*`trailer weights fetch imagebind` .* non-commercial use"
        ):
            ImageBind.open(folder, "cpu", "official")


def test_the_published_file_is_converted_at_first_use(
    published: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(imagebind_weights, "HUGE", TINY)
    folder = published.parent
    with caplog.at_level(logging.WARNING, "trailer"):
        path, sha256 = find_weights(folder)
        assert [record.getMessage()[:10] for record in caplog.records] == ["converting"]
        published.unlink()  # no longer needed
        assert find_weights(folder) == (path, sha256)
    assert len(caplog.records) == 1
    assert path == folder / "imagebind_huge.safetensors"


def test_the_sha256_is_read_from_beside_the_file_and_made_where_it_is_absent(tmp_path: Path) -> None:
    path, beside = tmp_path / "imagebind_huge.safetensors", tmp_path / "imagebind_huge.safetensors.sha256"
    path.write_bytes(b"weights")
    true = hashlib.sha256(b"weights").hexdigest()
    assert find_weights(tmp_path) == (path, true)
    assert beside.read_text().split() == [true, path.name]
    beside.write_text("AB" * 32 + "  imagebind_huge.safetensors\n")  # believed: hashing takes long
    assert find_weights(tmp_path)[1] == "ab" * 32
    beside.write_text("?")
    assert find_weights(tmp_path)[1] == true
