"""The captioners at tiny size: the real networks, tokenizers and picture processors, from files to a sentence."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.captioners import MOST_TOKENS, NOTHING_SAID, PROMPT, keep_sentence, load_captioner
from models.known_weights import digest_of, find_weights
from pipeline.errors import InputError, MissingDependencyError
from tests.conftest import absent

WORDS = ["Describe", "this", "picture", "in", "one", "short", "sentence", "user", "assistant", "a", "dog", "runs", "."]
KINDS = ("smolvlm", "minicpm", "minicpm-4.7")  # the last by hand: a folder minicpm with another model_type
TILE = 64  # px of SmolVLM's tiny picture
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant{% if enable_thinking %} one{% endif %}{% endif %}"
)
MINICPM_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}
Picture = NDArray[np.uint8]


def save_tokenizer(folder: Path, marks: list[str], **more: Any) -> Any:
    """A tokenizer of whole words, with the given marks as tokens of their own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    listed = ["<pad>", "<eos>", "<unk>", *marks, *WORDS, *"0123456789"]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(listed)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=marks,
        **more,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_network(network: Any, folder: Path) -> None:
    with torch.no_grad():
        for weight in network.parameters():  # as they are born they hardly tell one picture from another
            weight.normal_(0, 0.2)
    network.generation_config.eos_token_id = 1
    network.save_pretrained(folder)


def save_smolvlm(folder: Path) -> None:
    """As the repository has them: the template in a JSON file, and no word of picture tokens in the processor."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = save_tokenizer(folder, marks)
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Idefics3Config(
        text_config={
            **text,
            "num_key_value_heads": 2,
            "vocab_size": len(tokenizer),
            "pad_token_id": 0,
            "model_type": "llama",
        },
        vision_config={**text, "image_size": TILE, "patch_size": 16},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    save_network(Idefics3ForConditionalGeneration(config), folder)
    tile = {"longest_edge": TILE}
    pictures = {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "do_image_splitting": True,
        "max_image_size": tile,
        "size": {"longest_edge": 4 * TILE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    (folder / "processor_config.json").write_text(
        json.dumps({"image_seq_len": 4, "processor_class": "Idefics3Processor"})
    )
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE.replace("IMAGE", "<image>")}))


def save_minicpm(folder: Path, version: str) -> None:
    import transformers

    tokenizer = save_tokenizer(folder, list(MINICPM_MARKS.values()), model_specific_special_tokens=MINICPM_MARKS)
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("IMAGE", "<|image_pad|>"))
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in MINICPM_MARKS.items()}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    marks = {} if version == "4_6" else {f"{name}_id": ids[f"{name}_token"] for name in ("image_start", "image_end")}
    if marks:
        marks |= {"slice_start_id": ids["slice_start_token"], "slice_end_id": ids["slice_end_token"], "newline_id": 2}
    config = getattr(transformers, f"MiniCPMV{version}Config")(
        text_config={
            **text,
            "model_type": "qwen3_5_text",
            "num_key_value_heads": 2,
            "head_dim": 32,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 2,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        vision_config={**text, "image_size": 112, "patch_size": 14},
        insert_layer_id=1,
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        **marks,
    )
    network = getattr(transformers, f"MiniCPMV{version}ForConditionalGeneration")(config)
    save_network(network, folder)
    pictures = {
        "image_processor_type": "MiniCPMV4_6ImageProcessor",
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "scale_resolution": 112,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of weights, one for each kind."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    save_smolvlm(folders["smolvlm"] / "smolvlm")
    save_minicpm(folders["minicpm"] / "minicpm", "4_6")
    save_minicpm(folders["minicpm-4.7"] / "minicpm", "4_7")
    return folders


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails the test."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def load(saved: dict[str, Path], kind: str) -> Any:
    return load_captioner(kind.partition("-")[0], saved[kind], "cpu")


def picture(seed: int, height: int = 90, width: int = 160) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_becomes_a_sentence(saved: dict[str, Path], kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    captioner = load(saved, kind)
    pictures = [picture(1), picture(2, 3, 3), picture(3, 200, 40), picture(4, 256, 456)]
    told = captioner.caption(pictures)
    assert len(told) == 4
    assert all(text and text == text.strip() and "\n" not in text for text in told)
    assert not any("<" in text for text in told)  # marks are not words
    assert told == captioner.caption(pictures) == load(saved, kind).caption(pictures)
    assert captioner.caption([]) == []
    assert capfd.readouterr() == ("", "")
    assert (
        captioner.name
        == {
            "smolvlm": "SmolVLM-256M-Instruct@1",
            "minicpm": "MiniCPM-V-4.6@1",
            "minicpm-4.7": "MiniCPM-V-4.7-1B@1",
        }[kind]
    )
    assert len(captioner.weights) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_sees_the_picture(saved: dict[str, Path], kind: str) -> None:
    """What it would say next depends on the picture, and by far more than rounding."""
    from PIL import Image

    captioner = load(saved, kind)
    network, reader = captioner._read()
    seen = []
    for shown in (
        np.zeros((64, 96, 3), np.uint8),
        picture(1, 64, 96),
        np.ascontiguousarray(picture(1, 64, 96)[:, :, ::-1]),
    ):
        inputs = captioner._prepare(reader, Image.fromarray(shown))
        inputs["pixel_values"] = inputs["pixel_values"].to(network.dtype)
        with torch.inference_mode():
            seen.append(network(**inputs).logits[0, -1].float())
        asked = reader.tokenizer.decode(inputs["input_ids"][0])
        assert PROMPT.removesuffix(".") in asked
        assert asked.endswith("assistant")  # not "assistant one": it is not asked to think
        assert asked.count(reader.tokenizer.image_token if kind != "smolvlm" else "<image>") > 1
    assert (seen[0] - seen[1]).abs().max() > 0.05
    assert (seen[1] - seen[2]).abs().max() > 0.05  # red and blue are not the same


@pytest.mark.parametrize("kind", ["minicpm", "minicpm-4.7"])
def test_minicpms_input_is_what_its_own_processor_makes(saved: dict[str, Path], kind: str) -> None:
    """Its processor cannot be built without torchvision, for the sake of films: so it is given what it reads of them."""
    import transformers
    from PIL import Image

    captioner = load(saved, kind)
    reader = captioner._read_reader()
    words = reader.tokenizer
    version = {"minicpm": "4_6", "minicpm-4.7": "4_7"}[kind]
    processor = object.__new__(getattr(transformers, f"MiniCPMV{version}Processor"))
    processor.tokenizer, processor.image_processor, processor.chat_template = (
        words,
        reader.pictures,
        words.chat_template,
    )
    processor.slice_mode, processor.default_use_image_id = False, reader.pictures.use_image_id
    processor.image_token_id, processor.video_token_id = words.image_token_id, words.video_token_id
    processor.image_ids, processor.video_ids, processor.audio_ids = [words.image_token_id], [words.video_token_id], []
    for name, mark in MINICPM_MARKS.items():
        setattr(processor, name, mark)
    shown = Image.fromarray(picture(5, 100, 170))
    text = words.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}],
        add_generation_prompt=True,
        tokenize=False,
        enable_thinking=False,
    )
    theirs = processor(images=[shown], text=[text], slice_mode=False, return_tensors="pt")
    ours = captioner._prepare(reader, shown)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name].to(value.dtype), value, msg=name)


def test_an_answer_is_cut_to_its_first_sentence() -> None:
    assert keep_sentence(" A dog runs over a field.\nIt is brown. ") == "A dog runs over a field."
    assert keep_sentence("A man in a hat") == "A man in a hat"
    assert keep_sentence("Mr. Smith opens the door. He smiles.") == "Mr. Smith opens the door."
    assert keep_sentence("A dog. It runs. It barks.") == "A dog. It runs."
    assert keep_sentence("<think>\nWhat is this?\n</think>\n\nTwo boats at sea!") == "Two boats at sea!"
    assert keep_sentence("<think>no end") == NOTHING_SAID
    for blank in ("", " \n", "...", "!!"):
        assert keep_sentence(blank) == NOTHING_SAID


def test_a_network_that_ends_at_once_has_still_seen_a_shot(saved: dict[str, Path]) -> None:
    captioner = load(saved, "smolvlm")
    network, reader = captioner._loaded = captioner._read()
    network.generation_config.eos_token_id = list(range(len(reader.tokenizer)))
    assert captioner.caption([picture(1)])[0]
    network.generation_config.eos_token_id = None  # the tokenizer's, then; and no answer is longer than MOST_TOKENS
    assert len(captioner.caption([picture(1)])[0].split()) <= MOST_TOKENS


@pytest.mark.parametrize("name", ["smolvlm", "minicpm"])
def test_what_is_absent_is_said(
    name: str, saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingDependencyError) as refused:
        load_captioner(name, tmp_path, "cpu")
    assert f"are not in {tmp_path / name} (no model.safetensors, config.json" in str(refused.value)
    assert str(refused.value).endswith(f"`trailer weights fetch {name}`")
    shutil.copytree(saved[name] / name, tmp_path / name)
    (tmp_path / name / "tokenizer.json").unlink()
    with pytest.raises(MissingDependencyError, match=r"\(no tokenizer\.json\)"):
        load_captioner(name, tmp_path, "cpu")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match=r"needs PIL: pip install 'trailer-pipeline\[captions\]'"):
        load_captioner(name, saved[name], "cpu")


@pytest.mark.parametrize("name", ["smolvlm", "minicpm"])
def test_other_files_are_refused_in_one_line(name: str, saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(saved[name] / name, folder)

    def refuse(reason: str) -> None:
        digest_of(folder / "model.safetensors").unlink(missing_ok=True)
        with pytest.raises(InputError, match=reason) as refused:
            load_captioner(name, tmp_path, "cpu").caption([picture(1)])
        assert "\n" not in str(refused.value)

    kept = {file: (folder / file).read_bytes() for file in ("config.json", "model.safetensors", "tokenizer.json")}
    other = {"smolvlm": "minicpm", "minicpm": "smolvlm"}[name]
    (folder / "model.safetensors").write_bytes(kept["model.safetensors"][:-100])
    refuse(f"the weights of {name} in .* cannot be used")
    (folder / "model.safetensors").write_bytes((saved[other] / other / "model.safetensors").read_bytes())
    refuse(f"the weights of {name} in .* (are not all there|cannot be used)")
    (folder / "model.safetensors").write_bytes(kept["model.safetensors"])
    (folder / "tokenizer.json").write_text("{}")
    refuse(f"`trailer weights fetch {name}`")
    (folder / "tokenizer.json").write_bytes(kept["tokenizer.json"])
    (folder / "config.json").write_bytes((saved[other] / other / "config.json").read_bytes())
    refuse("describes a model of type")


def test_every_file_that_is_read_is_fetched(saved: dict[str, Path]) -> None:
    for name in ("smolvlm", "minicpm"):
        known = {file.name for file in find_weights(name).files}
        there = {path.name for path in (saved[name] / name).iterdir() if path.suffix != ".sha256"}
        assert known == there


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_says_a_sentence_too(saved: dict[str, Path], kind: str) -> None:
    if not torch.cuda.is_available():
        absent("gpu", "no GPU")
    captioner = load_captioner(kind.partition("-")[0], saved[kind], "cuda")
    told = captioner.caption([picture(1), picture(2)])
    assert all(told)
    assert told == captioner.caption([picture(1), picture(2)])
