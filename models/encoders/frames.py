"""What the encoders share that look at single pictures of a shot, with a network of the transformers library.

A shot's vector is the mean of its pictures' unit vectors, brought to unit length, as SSMP's supplement (table 9) uses image
encoders. Files are read from the folder of weights alone: no network, no pickles, no code from elsewhere.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.encoders import Identity, ShotContent
from models.known_weights import known_digest
from pipeline.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

MOST_PICTURES = 5  # per shot
SIZE = 224  # px; the square that both networks were trained on
WEIGHTS, CONFIG = "model.safetensors", "config.json"
CPU_BATCH, GPU_BATCH = 4, 32  # shots


class FrameEncoder:
    """A network that turns one picture into one vector. name: of its weights and their folder. kind: its model_type.

    mean, std: of the channels R, G, B in 0..1, by which it was trained. The network is loaded when it is first needed, so
    that a run whose features are all there does not wait for it.
    """

    name: str
    kind: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(self, weights_dir: Path, *, device: str, identity: Identity, size: int = SIZE) -> None:
        """size: edge of the picture in pixels.

        Raises MissingDependencyError where transformers or the weights are absent, InputError where another model's lie.
        """
        if importlib.util.find_spec("transformers") is None:
            raise MissingDependencyError(
                f"the encoder {self.name} needs transformers: pip install 'trailer-pipeline[encoders]'"
            )
        self.identity = identity
        self.shortest = size
        self.batch = CPU_BATCH if device == "cpu" else GPU_BATCH
        self._folder, self._device, self._size = weights_dir / self.name, device, size
        if not all((self._folder / file).is_file() for file in (WEIGHTS, CONFIG)):
            raise MissingDependencyError(
                f"the weights of {self.name} are not in {self._folder}: `trailer weights fetch {self.name}`"
            )
        read_kind(self._folder, self.name, (self.kind,))
        self.weights = known_digest(self._folder / WEIGHTS)
        self._loaded: Any = None

    def moments(self, seconds: float) -> Sequence[float]:
        """MOST_PICTURES, spread over the shot."""
        return [seconds * (k + 0.5) / MOST_PICTURES for k in range(MOST_PICTURES)]

    def prepare(self, shot: ShotContent) -> U8:
        """The shot's different pictures (k, 3, size, size), RGB, squeezed into a square as the network was trained.

        Bilinear with antialiasing, as Pillow and torchvision shrink a picture; cv2's bilinear would alias.
        """
        import torch
        from torch.nn.functional import interpolate

        # a short shot has one picture at several moments: it is the same object, and is looked at once
        pictures = {id(picture): picture for picture in shot.pictures}.values()
        squares = []
        for bgr in pictures:
            rgb = torch.from_numpy(np.ascontiguousarray(bgr[:, :, ::-1].transpose(2, 0, 1)))[None]
            square = interpolate(rgb, (self._size, self._size), mode="bilinear", antialias=True, align_corners=False)
            squares.append(square[0].numpy())
        return np.stack(squares)

    def encode(self, prepared: Sequence[U8]) -> F32:
        """What prepare() made of n shots -> unit rows (n, width). On a GPU the network runs in bfloat16."""
        import torch
        from torch.nn.functional import normalize

        network = self._network()
        pictures = torch.from_numpy(np.concatenate(prepared)).to(self._device)
        with torch.inference_mode():
            seen = normalize(self._look(network, self._normalise(pictures, network.dtype)).float(), dim=-1)
            means = torch.stack([part.mean(dim=0) for part in torch.split(seen, [len(shot) for shot in prepared])])
            rows: F32 = normalize(means, dim=-1).cpu().numpy()
        return rows

    def _look(self, network: Any, pixels: Tensor) -> Tensor:
        """Normalised pictures (b, 3, size, size) -> vectors (b, width)."""
        raise NotImplementedError

    def _normalise(self, pictures: Tensor, dtype: Any) -> Tensor:
        import torch

        mean = torch.tensor(self.mean, device=pictures.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pictures.device).view(3, 1, 1)
        return ((pictures.float() / 255 - mean) / std).to(dtype)

    def _network(self) -> Any:
        if self._loaded is None:
            import torch

            network = self._read()
            dtype = torch.float32 if self._device == "cpu" else torch.bfloat16
            self._loaded = network.to(self._device, dtype).requires_grad_(False).eval()
        return self._loaded

    def _read(self) -> Any:
        """The network on the CPU. Raises InputError, one line with the folder, for files that are not this model."""
        from transformers import AutoModel

        network = read_network(AutoModel, self._folder, self.name)
        seeing = getattr(network.config, "vision_config", network.config)
        if (seeing.hidden_size, seeing.image_size) != (self.identity.width, self._size):
            raise InputError(
                f"{self._folder} is another {self.kind} than {self.identity.name}: {seeing.hidden_size} wide for "
                f"pictures of {seeing.image_size} px, not {self.identity.width} for {self._size} px"
            )
        return network


def read_kind(folder: Path, name: str, kinds: Sequence[str]) -> str:
    """The model_type that the folder's config.json names. Raises InputError where it is none of the kinds."""
    path = folder / CONFIG
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not describe a model: {error} (`trailer weights fetch {name}`)") from error
    if kind not in kinds:
        wanted = " or ".join(repr(one) for one in kinds)
        raise InputError(f"{path} describes a model of type {kind!r}, {name} is one of type {wanted}")
    return str(kind)


def read_network(auto: Any, folder: Path, name: str, *, dtype: str = "float32") -> Any:
    """The network of a folder on the CPU. auto: transformers' class that builds it, such as AutoModel. dtype: torch's name.

    Raises InputError, one line with the folder, for files that are damaged, of another model, or not all there.
    """
    import torch
    from safetensors import safe_open

    again = f"(`trailer weights fetch {name}` checks them)"
    with reading(f"the weights of {name} in {folder}", again):
        with safe_open(folder / WEIGHTS, "pt"):
            pass  # its header says how long it must be
        network, found = auto.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    missing = sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"])
    if missing:
        raise InputError(
            f"the weights of {name} in {folder} are not all there: {len(missing)} tensors are missing, the first is "
            f"{missing[0]} {again}"
        )
    return network


@contextmanager
def reading(what: str, again: str) -> Iterator[None]:
    """transformers reads in silence, and what it raises over unusable files becomes an InputError: `what` cannot be used.

    Without it a bar and a table of its own are drawn. again: what to do, in brackets.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (SafetensorError, StrictDataclassError, OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{what} cannot be used: {reason} {again}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """transformers says nothing and draws no bars."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
