"""SigLIP 2 and DINOv3 at tiny size: what transformers computes, of the pictures that were meant, and of no other files."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.encoders import Encoder, Identity, ShotContent, identify_encoder, load_encoder
from models.encoders.dinov3 import DINOv3
from models.encoders.siglip2 import SigLIP2
from models.known_weights import digest_of
from pipeline.errors import InputError, MissingDependencyError
from pipeline.settings import EncoderName, FeatureSettings, Site
from tests.conftest import absent
from tests.synthetic import encode_shot

SIZE, WIDTH, WORDS = 32, 32, 16
TINY = Identity("tiny@1", WIDTH)
KINDS = {"siglip2": SigLIP2, "dinov3": DINOv3}
STATISTICS = {
    "siglip2": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "dinov3": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
Picture = NDArray[np.uint8]


@dataclass
class Saved:
    """A folder of weights with both networks at tiny size, and the networks."""

    folder: Path
    networks: dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import DINOv3ViTConfig, DINOv3ViTModel, SiglipConfig, SiglipModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    parts = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    seeing = {**parts, "image_size": SIZE, "patch_size": 16}
    telling = {**parts, "vocab_size": 20, "max_position_embeddings": WORDS, "bos_token_id": 2, "eos_token_id": 1}
    networks = {
        "siglip2": SiglipModel(SiglipConfig(vision_config=seeing, text_config=telling)).eval(),
        "dinov3": DINOv3ViTModel(DINOv3ViTConfig(**seeing, num_register_tokens=4)).eval(),
    }
    for name, network in networks.items():
        with torch.no_grad():
            for weight in network.parameters():  # as they are born, biases and class tokens are nearly nothing
                weight.normal_(0, 0.2)
        network.save_pretrained(folder / name)
    words = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, **{f"w{n}": 4 + n for n in range(16)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "siglip2" / "tokenizer.json"))
    return Saved(folder, networks)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def copied(saved: Saved, tmp_path: Path) -> Path:
    """The same files, to be spoiled."""
    shutil.copytree(saved.folder, tmp_path / "weights")
    return tmp_path / "weights"


def build(name: str, folder: Path, **changes: Any) -> Any:
    return KINDS[name](folder, **{"identity": TINY, "size": SIZE, **changes})


def picture(seed: int, height: int = SIZE, width: int = SIZE) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def shot(*pictures: Picture) -> ShotContent:
    return ShotContent(pictures, np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32))


def expect(saved: Saved, name: str, pictures: list[Picture]) -> NDArray[np.float64]:
    """By hand: RGB, normalised, the network itself, unit, mean, unit."""
    mean, std = STATISTICS[name]
    rgb = np.stack([p[:, :, ::-1] for p in pictures]).astype(np.float32) / 255
    pixels = torch.from_numpy(((rgb - np.float32(mean)) / np.float32(std)).transpose(0, 3, 1, 2).copy())
    network = saved.networks[name]
    with torch.no_grad():
        out = network.get_image_features(pixels) if name == "siglip2" else network(pixels)
    rows = out.pooler_output.double().numpy()
    row = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("name", KINDS)
def test_a_shot_is_what_the_network_says_of_its_pictures(saved: Saved, name: str) -> None:
    encoder: Encoder = build(name, saved.folder)
    pictures = [picture(n) for n in range(5)]  # of the network's own size: nothing is resized
    prepared = encoder.prepare(shot(*pictures))
    assert (prepared.shape, prepared.dtype) == ((5, 3, SIZE, SIZE), np.uint8)
    row = encoder.encode([prepared])[0]
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, expect(saved, name, pictures), atol=1e-5)
    turned = expect(saved, name, [np.ascontiguousarray(p[:, :, ::-1]) for p in pictures])
    assert np.abs(row - turned).max() > 1e-3  # red and blue exchanged is another vector, by far more than rounding
    assert len(encoder.weights) == 64
    assert digest_of(saved.folder / name / "model.safetensors").read_text().startswith(encoder.weights)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_gives_the_rows_of_single_shots(saved: Saved, name: str) -> None:
    encoder = build(name, saved.folder)
    shots = [shot(*(picture(10 * n + k) for k in range(1 + n % 5))) for n in range(7)]
    rows = encoder.encode([encoder.prepare(one) for one in shots])
    assert rows.shape == (7, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows, np.stack([encode_shot(encoder, one) for one in shots]), atol=1e-5)


def test_pictures_are_shrunk_as_pillow_shrinks_them(saved: Saved) -> None:
    from PIL import Image

    encoder = build("siglip2", saved.folder)
    for height, width in ((90, 160), (360, 150), (16, 16), (1, 2)):
        bgr = picture(1, height, width)
        (square,) = encoder.prepare(shot(bgr))
        rgb = Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))
        pillow = np.asarray(rgb.resize((SIZE, SIZE), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(square.astype(int) - pillow).max() <= 1  # both round, in two steps


def test_the_same_picture_is_looked_at_once(saved: Saved) -> None:
    encoder = build("dinov3", saved.folder)
    one, two = picture(1), picture(2)
    assert len(encoder.prepare(shot(one, one, one, two, two))) == 2
    moments = encoder.moments(10.0)
    assert moments == [1.0, 3.0, 5.0, 7.0, 9.0]


def test_texts_lie_in_the_space_of_pictures(saved: Saved) -> None:
    encoder = build("siglip2", saved.folder)
    texts = ["W1 w2", "w3 nonsense", " ".join(["w4"] * 40), ""]
    ids = [[5, 6, 1], [7, 3, 1], [8] * (WORDS - 1) + [1], [1]]
    padded = torch.tensor([row + [0] * (WORDS - len(row)) for row in ids])
    with torch.no_grad():
        direct = saved.networks["siglip2"].get_text_features(padded).pooler_output
    direct = torch.nn.functional.normalize(direct, dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_text(texts), direct, atol=1e-5)
    assert encoder.encode_text([]).shape == (0, WIDTH)


def test_a_tokenizer_that_is_absent_or_another_is_said(copied: Path) -> None:
    path = copied / "siglip2" / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace("<eos>", "<end>"))
    with pytest.raises(InputError, match="not the tokenizer of siglip2"):
        build("siglip2", copied).encode_text(["w1"])
    path.write_text(text[:100])
    with pytest.raises(InputError, match="not the tokenizer of siglip2"):
        build("siglip2", copied).encode_text(["w1"])
    path.unlink()
    with pytest.raises(MissingDependencyError, match="`trailer weights fetch siglip2`"):
        build("siglip2", copied).encode_text(["w1"])


@pytest.mark.parametrize("name", KINDS)
def test_settings_choose_it_and_say_what_is_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FeatureSettings(encoder=EncoderName(name))
    identity = identify_encoder(settings)
    assert (identity.name, identity.width, identity.licence) == {
        "siglip2": ("siglip2-base-224@1", 768, ""),
        "dinov3": ("dinov3-b16-224@1", 768, "DINOv3 License"),
    }[name]
    site = Site(weights_dir=tmp_path, device="cpu")
    with pytest.raises(MissingDependencyError) as absent:
        load_encoder(settings, site)
    assert str(absent.value) == f"the weights of {name} are not in {tmp_path / name}: `trailer weights fetch {name}`"
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trailer-pipeline\[encoders\]'"):
        load_encoder(settings, site)


def refuse(name: str, folder: Path, reason: str, **changes: Any) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        encode_shot(build(name, folder, **changes), shot(picture(0)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", KINDS)
def test_files_of_another_model_are_refused(copied: Path, name: str) -> None:
    other = {"siglip2": "dinov3", "dinov3": "siglip2"}[name]
    config, weights = copied / name / "config.json", copied / name / "model.safetensors"
    text, content = config.read_text(), weights.read_bytes()
    refuse(name, copied, "32 wide for pictures of 32 px, not 768 for 32 px", identity=Identity("real@1", 768))
    refuse(name, copied, "not 32 for 64 px", size=64)
    weights.write_bytes((copied / other / "model.safetensors").read_bytes())
    digest_of(weights).unlink()
    refuse(name, copied, r"are not all there: \d+ tensors are missing, the first is")
    weights.write_bytes(content[: len(content) // 2])
    digest_of(weights).unlink()
    refuse(name, copied, f"`trailer weights fetch {name}` checks them")
    weights.write_bytes(content)
    config.write_text((copied / other / "config.json").read_text())
    digest_of(weights).unlink()
    refuse(name, copied, f"describes a model of type .*, {name} is one of type")
    for spoilt in ("", "[]", "{}", "<html>"):
        config.write_text(spoilt)
        refuse(name, copied, r"config.json does not describe a model")
    config.write_text(text.replace('"hidden_size": 32', '"hidden_size": "wide"'))
    refuse(name, copied, "cannot be used")
    config.write_text(text.replace('"hidden_size": 32', '"hidden_size": 48'))
    refuse(name, copied, "weights fetch")


def test_a_changed_file_is_refused(copied: Path) -> None:
    build("siglip2", copied)
    weights = copied / "siglip2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    refuse("siglip2", copied, "has changed since it was fetched")


def test_naflex_is_another_model(copied: Path) -> None:
    config = copied / "siglip2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "siglip2"}))
    refuse("siglip2", copied, "type 'siglip2', siglip2 is one of type 'siglip'")


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_the_gpu_says_the_same_but_for_bfloat16(saved: Saved, name: str) -> None:
    if not torch.cuda.is_available():
        absent("gpu", "no GPU")
    shots = [shot(*(picture(10 * n + k) for k in range(3))) for n in range(6)]
    rows = {}
    for device in ("cpu", "cuda"):
        encoder = build(name, saved.folder, device=device)
        rows[device] = encoder.encode([encoder.prepare(one) for one in shots])
    assert rows["cuda"].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows["cuda"], axis=1), 1, atol=1e-5)
    assert (rows["cpu"] * rows["cuda"]).sum(axis=1).min() > 0.99  # bfloat16 keeps 8 bits: about 0.4 % a step
