"""Say in a sentence what a picture shows, with a vision-language network.

Two networks, both read by the transformers library's own code from safetensors: no code comes with the weights.

smolvlm: SmolVLM-256M-Instruct (Marafioti et al., arXiv 2504.05299), small enough for a CPU.
minicpm: MiniCPM-V. The paper's captions come from MiniCPM-V 2.6 (8 B), which only code from its own repository can run: that
is not run here. The members of the family that transformers itself knows are 4.6 and 4.7 (1.3 and 1.6 B). `trailer weights
fetch minicpm` brings 4.6; a folder with 4.7-1B works too, but no revision of it could be confirmed to be pinned.

A picture is looked at whole and once. Both networks can cut a large one into tiles, each as dear as the picture: the film's
sampled pictures are smaller than one tile.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from models.encoders.frames import WEIGHTS, quiet, read_kind, read_network, reading
from models.known_weights import find_weights, known_digest
from pipeline.errors import MissingDependencyError

U8 = NDArray[np.uint8]

PROMPT = "Describe this picture in one short sentence."
MOST_TOKENS = 48  # of an answer; a sentence of 20 words has 25 to 30
FEWEST_WORDS = 3  # of a sentence: what ends before is an abbreviation ("Mr.") or says too little
NOTHING_SAID = "a shot"
THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
MARKS = ("image_token", "image_start_token", "image_end_token", "image_id_start_token", "image_id_end_token")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class CaptionNetwork(Protocol):
    """name: of the network and of how it is asked. weights: SHA-256 of the weights."""

    name: str
    weights: str

    def caption(self, pictures: Sequence[U8]) -> list[str]:
        """RGB pictures (h, w, 3) -> a sentence each, none of them empty."""
        ...


def load_captioner(name: str, weights_dir: Path, device: str) -> CaptionNetwork:
    """smolvlm or minicpm, on cpu or cuda. The network is read when it is first needed.

    Raises MissingDependencyError where a package or the weights are absent, InputError where other weights lie.
    """
    match name:
        case "smolvlm":
            return SmolVLM(weights_dir, device=device)
        case "minicpm":
            return MiniCPM(weights_dir, device=device)
        case _:
            raise ValueError(f"no captioner {name!r}")


class Captioner:
    """What both networks share. folder: their name in the folder of weights. titles: model_type -> name.

    On a GPU a network runs in bfloat16, on a CPU in cpu_dtype.
    """

    folder: ClassVar[str]
    titles: ClassVar[dict[str, str]]
    cpu_dtype: ClassVar[str]

    def __init__(self, weights_dir: Path, *, device: str = "cpu") -> None:
        """Raises MissingDependencyError where a package or a file is absent, InputError where another model lies."""
        for module in ("transformers", "PIL"):
            if importlib.util.find_spec(module) is None:
                raise MissingDependencyError(
                    f"the captioner {self.folder} needs {module}: pip install 'trailer-pipeline[captions]'"
                )
        self._folder, self._device = weights_dir / self.folder, device
        needed = [weights_dir / file.path for file in find_weights(self.folder).files]
        lacking = [path.name for path in needed if not path.is_file()]
        if lacking:
            raise MissingDependencyError(
                f"the weights of {self.folder} are not in {self._folder} (no {', '.join(lacking)}): "
                f"`trailer weights fetch {self.folder}`"
            )
        self._kind = read_kind(self._folder, self.folder, tuple(self.titles))
        self.name = f"{self.titles[self._kind]}@1"
        self.weights = known_digest(self._folder / WEIGHTS)
        self._loaded: Any = None

    def caption(self, pictures: Sequence[U8]) -> list[str]:
        """RGB pictures (h, w, 3) -> a sentence each, greedily: the same picture gives the same sentence.

        One after the other, so that memory does not depend on their number. Raises InputError for damaged weights.
        """
        return [self._describe(picture) for picture in pictures]

    def _describe(self, picture: U8) -> str:
        import torch
        from PIL import Image
        from transformers import GenerationConfig

        if self._loaded is None:
            self._loaded = self._read()
        network, reader = self._loaded
        own = network.generation_config
        with quiet(), torch.inference_mode():
            inputs = self._prepare(reader, Image.fromarray(np.ascontiguousarray(picture)))
            placed = {
                name: value.to(self._device, network.dtype if value.is_floating_point() else value.dtype)
                for name, value in inputs.items()
            }
            tokenizer = reader.tokenizer
            end = tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id
            how = GenerationConfig(
                max_new_tokens=MOST_TOKENS, do_sample=False, eos_token_id=end, pad_token_id=tokenizer.pad_token_id
            )
            told = network.generate(**placed, generation_config=how)
            answer = tokenizer.decode(told[0, placed["input_ids"].shape[1] :], skip_special_tokens=True)
        return keep_sentence(answer)

    def _read(self) -> tuple[Any, Any]:
        """The network, and what turns words and pictures into its input. Raises InputError."""
        from transformers import AutoModelForImageTextToText

        dtype = self.cpu_dtype if self._device == "cpu" else "bfloat16"
        network = read_network(AutoModelForImageTextToText, self._folder, self.folder, dtype=dtype)
        with reading(f"{self._folder}", f"(`trailer weights fetch {self.folder}`)"):
            reader = self._read_reader()
        return network.to(self._device).requires_grad_(False).eval(), reader

    def _read_reader(self) -> Any:
        raise NotImplementedError

    def _prepare(self, reader: Any, picture: Any) -> dict[str, Any]:
        """A PIL picture -> the network's input tensors, the question included."""
        raise NotImplementedError


class SmolVLM(Captioner):
    """SmolVLM-256M-Instruct: one picture of 512 x 512 becomes 64 tokens."""

    folder = "smolvlm"
    titles: ClassVar[dict[str, str]] = {"idefics3": "SmolVLM-256M-Instruct"}
    cpu_dtype = "float32"

    def _read_reader(self) -> Any:
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)

    def _prepare(self, reader: Any, picture: Any) -> dict[str, Any]:
        text = reader.apply_chat_template(_ask(), add_generation_prompt=True, tokenize=False)
        return dict(reader(text=[text], images=[[picture]], do_image_splitting=False, return_tensors="pt"))


@dataclass(frozen=True, slots=True)
class Reader:
    """What turns words and a picture into MiniCPM-V's input."""

    tokenizer: Any
    pictures: Any


class MiniCPM(Captioner):
    """MiniCPM-V 4.6 or 4.7-1B. Their processor also reads films, by a library that is not needed here: so what it does with
    a picture is written out, and its tokenizer and its picture processor are used."""

    folder = "minicpm"
    titles: ClassVar[dict[str, str]] = {"minicpmv4_6": "MiniCPM-V-4.6", "minicpmv4_7": "MiniCPM-V-4.7-1B"}
    cpu_dtype = "bfloat16"  # 2.6 GB; in float32 it would take 5.2 GB

    def _read_reader(self) -> Reader:
        from transformers import AutoImageProcessor, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        pictures = AutoImageProcessor.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
        for mark in MARKS:
            if not isinstance(getattr(tokenizer, mark, None), str):
                raise ValueError(f"the tokenizer has no {mark}")
        return Reader(tokenizer, pictures)

    def _prepare(self, reader: Reader, picture: Any) -> dict[str, Any]:
        words, pictures = reader.tokenizer, reader.pictures
        seen = pictures([picture], slice_mode=False, return_tensors="pt")
        tokens = int(seen["target_sizes"][0].prod()) // (4 if pictures.downsample_mode == "4x" else 16)
        shown = words.image_start_token + words.image_token * tokens + words.image_end_token
        if pictures.use_image_id:
            shown = f"{words.image_id_start_token}0{words.image_id_end_token}{shown}"
        text = words.apply_chat_template(_ask(), add_generation_prompt=True, tokenize=False, enable_thinking=False)
        inputs = dict(words([text.replace(words.image_token, shown, 1)], return_tensors="pt"))
        inputs.pop("token_type_ids", None)  # some tokenizers make them, the network knows none
        if self._kind == "minicpmv4_7":  # it lays pictures out in two dimensions, and must know which tokens they are
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == words.image_token_id).int()
        return inputs | {"pixel_values": seen["pixel_values"], "target_sizes": seen["target_sizes"]}


def _ask() -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": PROMPT}]}]


def keep_sentence(answer: str) -> str:
    """The first sentence of an answer, on one line and without what the network thought aloud; NOTHING_SAID for a blank."""
    text = " ".join(THOUGHT.sub(" ", answer).split())
    kept = ""
    for part in SENTENCE_END.split(text):
        kept = f"{kept} {part}".strip()
        if len(kept.split()) >= FEWEST_WORDS:
            break
    return kept if any(letter.isalnum() for letter in kept) else NOTHING_SAID
