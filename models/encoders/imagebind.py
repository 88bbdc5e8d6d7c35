"""Describe a shot, a sound or a text by ImageBind: one space for all three.

Written from the paper (arXiv 2305.05665: a ViT-H and CLIP's text tower as in OpenCLIP, a ViT-B over log mel spectra), the
names in the published checkpoint and the usual layout of such transformers; the published code is under another licence
and was not copied. Depth, thermal and motion towers are left out.

Shapes: N inputs, T tokens, D width of a tower, H heads, K = D / H, E width of the shared space. The residual stream,
norms and heads are float32 always; on a GPU the matrices of the blocks are bfloat16.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders import ShotContent
from models.encoders.imagebind_input import (
    BINS,
    CLIPS,
    COLOUR_DEVIATION,
    COLOUR_MEAN,
    F32,
    FRAMES,
    IDENTITIES,
    SIDE,
    Seen,
    Views,
    clip_moments,
    hear_clips,
    view_pictures,
)
from models.encoders.tokens import CONTEXT, TOKENS, tokenize

log = logging.getLogger("trailer")

EPSILON = 1e-6  # of the norms, the sound stem's excepted
PATCH, PICTURES = 14, 2  # px; a token of the vision tower is a square of two pictures
SOUND_PATCH, SOUND_STRIDE = 16, 10  # mel bins and frames
TEXT_SCALE, SOUND_SCALE, LARGEST_SCALE = 1 / 0.07, 20.0, 100.0  # lengths of a text's and a sound's vector at birth
TEXTS_AT_ONCE = 32
CROP_SECONDS = 2.8  # of CPU for one crop through the huge vision tower, on two cores


@dataclass(frozen=True)
class TowerConfig:
    """width D, layers, heads H."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes; the defaults are those of the published imagebind_huge. out: E."""

    out: int = 1024
    vision: TowerConfig = field(default=TowerConfig(1280, 32, 16))
    text: TowerConfig = field(default=TowerConfig(1024, 24, 16))
    audio: TowerConfig = field(default=TowerConfig(768, 12, 12))


HUGE = ImageBindConfig()


class Attention(nn.Module):
    """Self-attention. extra_token: a learned key and value that stand in every sequence (audio)."""

    def __init__(self, config: TowerConfig, *, extra_token: bool) -> None:
        super().__init__()
        self.heads = config.heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * config.width, config.width) * config.width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.width))
        self.out_proj = nn.Linear(config.width, config.width)
        self.bias_k = nn.Parameter(torch.zeros(1, 1, config.width)) if extra_token else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, config.width)) if extra_token else None

    def forward(self, x_NTD: Tensor, mask_TT: Tensor | None) -> Tensor:
        q, k, v = F.linear(x_NTD, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], dim=1)
        q, k, v = (part.view(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in (q, k, v))
        mixed_NHTK = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_TT)
        return cast(Tensor, self.out_proj(mixed_NHTK.transpose(1, 2).flatten(-2)))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class Block(nn.Module):
    """Norm before each part, and the stream past it in float32."""

    def __init__(self, config: TowerConfig, *, extra_token: bool) -> None:
        super().__init__()
        self.attn = Attention(config, extra_token=extra_token)
        self.norm_1 = nn.LayerNorm(config.width, EPSILON)
        self.mlp = Mlp(config.width)
        self.norm_2 = nn.LayerNorm(config.width, EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        kind = self.attn.in_proj_weight.dtype
        x = x + self.attn(self.norm_1(x).to(kind), mask if mask is None else mask.to(kind)).float()
        return x + cast(Tensor, self.mlp(self.norm_2(x).to(kind))).float()


class Trunk(nn.Module):
    """A tower's blocks. first_norm: a norm in front of them (vision)."""

    def __init__(self, config: TowerConfig, *, first_norm: bool = False, extra_token: bool = False) -> None:
        super().__init__()
        self.pre_transformer_layer = nn.Sequential(*([nn.LayerNorm(config.width, EPSILON)] if first_norm else []))
        self.blocks = nn.ModuleList(Block(config, extra_token=extra_token) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.pre_transformer_layer(x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Positions(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))


class Patches(nn.Module):
    """A vector for each patch (N, T, D)."""

    def __init__(self, convolution: nn.Module, width: int, *, norm: bool) -> None:
        super().__init__()
        self.proj = convolution
        self.norm_layer = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm_layer(cast(Tensor, self.proj(x)).flatten(2).transpose(1, 2)))


class PatchStem(nn.Module):
    """Two pictures (N, 3, 2, SIDE, SIDE), or a spectrum (N, 1, BINS, FRAMES) -> a token a patch, behind a learned one."""

    def __init__(self, convolution: nn.Module, patches: int, width: int, *, norm: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.rgbt_stem = Patches(convolution, width, norm=norm)
        self.pos_embedding_helper = Positions(1 + patches, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens_NTD = torch.cat([self.cls_token.expand(len(x), -1, -1), self.rgbt_stem(x)], dim=1)
        return tokens_NTD + self.pos_embedding_helper.pos_embed


class TextStem(nn.Module):
    """Tokens (N, CONTEXT) -> their vectors. mask (CONTEXT, CONTEXT): added to the scores; -inf hides what comes later."""

    mask: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, CONTEXT, width))
        self.token_embedding = nn.Embedding(TOKENS, width)
        self.register_buffer("mask", torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1))

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.token_embedding(tokens)) + self.pos_embed


class TextHead(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.LayerNorm(width, EPSILON), nn.Linear(width, out, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x))


class Scale(nn.Module):
    """Times exp(log_logit_scale), at most LARGEST_SCALE."""

    log_logit_scale: Tensor

    def __init__(self, scale: float, *, learned: bool) -> None:
        super().__init__()
        value = torch.tensor(scale).log()
        if learned:
            self.log_logit_scale = nn.Parameter(value)
        else:
            self.register_buffer("log_logit_scale", value)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.log_logit_scale.exp().clamp(max=LARGEST_SCALE)


class Towers(nn.Module):
    """ImageBind's vision, text and audio towers, weights named as in the published file."""

    def __init__(self, config: ImageBindConfig = HUGE) -> None:
        super().__init__()
        self.config = config
        vision, text, audio, out = config.vision, config.text, config.audio, config.out
        # place 1, as in the file: place 0 is where a single picture is doubled, which is done before
        squares = nn.Conv3d(3, vision.width, (PICTURES, PATCH, PATCH), (PICTURES, PATCH, PATCH), bias=False)
        spectral = nn.Conv2d(1, audio.width, SOUND_PATCH, SOUND_STRIDE, bias=False)
        spectral_patches = ((BINS - SOUND_PATCH) // SOUND_STRIDE + 1) * ((FRAMES - SOUND_PATCH) // SOUND_STRIDE + 1)
        self.modality_preprocessors = nn.ModuleDict(
            {
                "vision": PatchStem(
                    nn.Sequential(nn.Identity(), squares), (SIDE // PATCH) ** 2, vision.width, norm=False
                ),
                "text": TextStem(text.width),
                "audio": PatchStem(spectral, spectral_patches, audio.width, norm=True),
            }
        )
        self.modality_trunks = nn.ModuleDict(
            {"vision": Trunk(vision, first_norm=True), "text": Trunk(text), "audio": Trunk(audio, extra_token=True)}
        )
        self.modality_heads = nn.ModuleDict(
            {
                "vision": _make_head(vision.width, out),
                "text": TextHead(text.width, out),
                "audio": _make_head(audio.width, out),
            }
        )
        self.modality_postprocessors = nn.ModuleDict(
            {
                "text": nn.Sequential(nn.Identity(), Scale(TEXT_SCALE, learned=True)),
                "audio": nn.Sequential(nn.Identity(), Scale(SOUND_SCALE, learned=False)),
            }
        )

    def see(self, pictures: Tensor) -> Tensor:
        """Pairs of normalised pictures (N, 3, 2, SIDE, SIDE) -> unit rows (N, E)."""
        x = self.modality_trunks["vision"](self.modality_preprocessors["vision"](pictures))
        return F.normalize(self.modality_heads["vision"](x[:, 0]), dim=-1)

    def hear(self, spectra: Tensor) -> Tensor:
        """Normalised spectra (N, 1, BINS, FRAMES) -> rows (N, E) of the length that the checkpoint gives to sounds."""
        x = self.modality_trunks["audio"](self.modality_preprocessors["audio"](spectra))
        unit = F.normalize(self.modality_heads["audio"](x[:, 0]), dim=-1)
        return cast(Tensor, self.modality_postprocessors["audio"](unit))

    def read(self, tokens: Tensor) -> Tensor:
        """Tokens (N, CONTEXT) -> rows (N, E) of the length that the checkpoint gives to texts."""
        stem = cast(TextStem, self.modality_preprocessors["text"])
        x = self.modality_trunks["text"](stem(tokens), stem.mask)
        ends = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]  # the end mark has the highest number
        unit = F.normalize(self.modality_heads["text"](ends), dim=-1)
        return cast(Tensor, self.modality_postprocessors["text"](unit))


def _make_head(width: int, out: int) -> nn.Sequential:
    # place 1, as in the file: place 0's output, of which the first token is taken; that is done before, it costs less
    return nn.Sequential(nn.LayerNorm(width, EPSILON), nn.Identity(), nn.Linear(width, out, bias=False))


def use_bfloat16(towers: Towers) -> Towers:
    """Bring the matrices of the blocks, which are nearly all of the work, to bfloat16; norms, stems and heads stay."""
    for module in towers.modules():
        if isinstance(module, (Attention, Mlp)):
            module.to(torch.bfloat16)
    return towers


class ImageBind:
    """The encoder. Weights are read when they are first needed: a run whose features are there already does without.

    batch: shots at once, about 120 crops on a GPU (1 GB beside the weights), one shot on a CPU.
    """

    shortest = SIDE

    def __init__(self, path: Path, weights: str, *, device: str, views: Views, config: ImageBindConfig = HUGE) -> None:
        """path: converted weights, weights: their SHA-256 (`open` finds both)."""
        self.identity = replace(IDENTITIES[views], width=config.out)
        self.weights = weights
        self.batch = (8 if views == "official" else 64) if device != "cpu" else 1 if views == "official" else 4
        self.path, self.device, self.views, self.config = path, device, views, config
        self._towers: Towers | None = None

    @classmethod
    def open(cls, weights_dir: Path, device: str, views: Views) -> ImageBind:
        """The encoder with the weights in that folder; the published file is converted at its first use.

        device: cpu or cuda. Raises MissingDependencyError where there are no weights, InputError where they are no good.
        """
        from models.encoders.imagebind_weights import find_weights

        path, sha256 = find_weights(weights_dir)
        return cls(path, sha256, device=device, views=views)

    @property
    def towers(self) -> Towers:
        """The network, on the device. Raises InputError where the file is not ImageBind's."""
        if self._towers is None:
            from models.encoders.imagebind_weights import load_imagebind

            self._towers = load_imagebind(self.path, device=self.device, config=self.config)
        return self._towers

    def moments(self, seconds: float) -> Sequence[float]:
        """First and last moment of each clip: 10 offsets, or 2 around the middle."""
        return clip_moments(seconds, self.views)

    def prepare(self, shot: ShotContent) -> Seen:
        """The shot's pictures, resized and cropped."""
        return view_pictures(shot.pictures, self.views)

    @torch.inference_mode()
    def encode(self, prepared: Sequence[Seen]) -> F32:
        """Shots -> unit rows (n, E): the mean of each one's views, at unit length."""
        if self.device == "cpu" and self._towers is None and self.views == "official":
            crops = 3 * CLIPS[self.views]
            log.warning(
                "ImageBind on a CPU: %d crops a shot at about %.1f s each; `--set features.views=one` looks at one",
                crops,
                CROP_SECONDS,
            )
        towers = self.towers
        pixels = torch.from_numpy(np.concatenate([seen.pixels for seen in prepared])).to(self.device).float()
        mean, deviation = (
            torch.tensor(values, device=self.device).view(3, 1, 1, 1) for values in (COLOUR_MEAN, COLOUR_DEVIATION)
        )
        rows = torch.split(towers.see((pixels - mean) / deviation).cpu(), [len(seen.shares) for seen in prepared])
        means = [torch.from_numpy(seen.shares) @ views for seen, views in zip(prepared, rows, strict=True)]
        return _unit_rows(means, self.config.out)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> F32:
        """Texts -> unit rows (n, E). Raises MissingDependencyError where the tokenizer's packages are absent."""
        tokens = torch.from_numpy(tokenize(texts))
        rows = (
            [self.towers.read(part.to(self.device)).cpu() for part in torch.split(tokens, TEXTS_AT_ONCE)]
            if len(texts)
            else []
        )
        return _unit_rows([row for part in rows for row in part], self.config.out)

    @torch.inference_mode()
    def encode_sound(self, waveforms: Sequence[F32]) -> F32:
        """Sounds at 16 kHz, mono, full scale = 1 -> unit rows (n, E): the mean of up to three clips of 2 s each."""
        clips = [torch.from_numpy(hear_clips(waveform)) for waveform in waveforms]
        means = [self.towers.hear(spectra.to(self.device)).mean(dim=0).cpu() for spectra in clips]
        return _unit_rows(means, self.config.out)


def _unit_rows(rows: Sequence[Tensor], width: int) -> F32:
    """Rows of any length -> (n, width) of length 1."""
    stacked = torch.stack(list(rows)) if rows else torch.zeros(0, width)
    unit: F32 = F.normalize(stacked.float(), dim=-1).numpy()
    return unit
