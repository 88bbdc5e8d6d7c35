"""ImageBind's towers agree with an independent reference, and see and hear what they should of a shot."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest
import torch

from models.encoders import ShotContent, identify_encoder, load_encoder
from models.encoders import imagebind_input as given
from models.encoders.imagebind import HUGE, ImageBind, ImageBindConfig, TowerConfig, Towers, use_bfloat16
from models.encoders.imagebind_input import F32, SOUND_RATE, clip_moments, hear_clips, log_mel, view_pictures
from pipeline.errors import MissingDependencyError
from pipeline.features import show_shot
from pipeline.records import Analysis, Span
from pipeline.settings import FeatureSettings, Site, Views
from tests.conftest import absent
from tests.synthetic import encode_shot

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
TOLERANCE = 1e-4  # of golden/README.md
TINY = ImageBindConfig(8, TowerConfig(16, 2, 2), TowerConfig(16, 2, 2), TowerConfig(16, 2, 2))


@pytest.fixture(scope="module")
def towers() -> Towers:
    """Tiny ones, with every weight random: at birth many are zero or one and would hide a mistake."""
    torch.manual_seed(0)
    made = Towers(TINY)
    for name, weight in made.named_parameters():
        if "log_logit_scale" not in name:
            weight.data += torch.randn_like(weight) * 0.2
    return made.eval()


@pytest.fixture(params=["official", "one"])
def encoder(request: pytest.FixtureRequest, towers: Towers) -> ImageBind:
    return tiny_encoder(towers, request.param)


def tiny_encoder(towers: Towers, views: given.Views) -> ImageBind:
    encoder = ImageBind(Path("none"), "0" * 64, device="cpu", views=views, config=TINY)
    encoder._towers = towers
    return encoder


def shot(*pictures: np.ndarray) -> ShotContent:
    return ShotContent(pictures, np.zeros((0, 3), np.float32), np.zeros((0, 8), np.float32))


def noise(seed: int, count: int, height: int = 256, width: int = 400) -> ShotContent:
    rng = np.random.default_rng(seed)
    return shot(*(rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)))


# --- the towers


def wave(shape: tuple[int, ...], frequency: float) -> torch.Tensor:
    values = np.sin(frequency * np.arange(math.prod(shape), dtype=np.float64))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def test_the_golden_outputs() -> None:
    if not (GOLDEN / "imagebind_tiny.npz").exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    golden = dict(np.load(GOLDEN / "imagebind_tiny.npz").items())
    weights = {name[2:]: torch.from_numpy(array).float() for name, array in golden.items() if name.startswith("w.")}
    towers = Towers(TINY).eval()
    found = towers.load_state_dict(weights, strict=False)
    assert found.missing_keys == [
        "modality_preprocessors.text.mask"
    ]  # a constant; all else is there, nothing is unknown
    assert not found.unexpected_keys
    with torch.inference_mode():
        outputs = {
            "vision": towers.see(wave((6, 3, 2, 224, 224), 0.37)).view(2, 3, 8).mean(dim=1),  # 3 clips each
            "audio": towers.hear(wave((4, 1, 128, 204), 0.11)).view(2, 2, 8).mean(dim=1),  # 2 clips each
            "text": towers.read(torch.from_numpy(golden["tokens"])),
        }
    for name, output in outputs.items():
        assert np.abs(output.numpy() - golden[f"out.{name}"]).max() < TOLERANCE, name


def test_names_and_shapes_are_those_of_the_published_file() -> None:
    if not (GOLDEN / "imagebind_tensors.json").exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    expected = json.loads((GOLDEN / "imagebind_tensors.json").read_text())["tensors"]
    with torch.device("meta"):
        found = {name: list(tensor.shape) for name, tensor in Towers(HUGE).state_dict().items()}
    assert len(found) == 864
    assert found == expected


def test_a_text_is_blind_to_what_stands_behind_its_end(towers: Towers) -> None:
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[:, :3] = torch.tensor([49406, 320, 49407])
    tokens[1, 3:] = 5
    with torch.inference_mode():
        rows = towers.read(tokens)
    assert torch.allclose(rows[0], rows[1], atol=1e-5)


# --- what is seen


def test_moments_are_the_edges_of_clips_of_two_seconds() -> None:
    assert clip_moments(20, "official") == pytest.approx([0, 2, 4.5, 6.5, 9, 11, 13.5, 15.5, 18, 20])
    assert clip_moments(6, "official") == pytest.approx([0, 2, 1, 3, 2, 4, 3, 5, 4, 6])  # clips overlap
    assert clip_moments(20, "one") == pytest.approx([9, 11])
    for views in ("official", "one"):  # shorter than a clip: the whole shot each time
        assert clip_moments(0.8, views) == pytest.approx([0, 0.8] * (5 if views == "official" else 1))


def test_red_is_red() -> None:
    bgr = np.zeros((224, 224, 3), np.uint8)
    bgr[:] = (10, 100, 250)
    seen = view_pictures([bgr], "one")
    assert seen.pixels.shape == (1, 3, 2, 224, 224)
    assert seen.pixels.dtype == np.float16
    for channel, value in enumerate((250, 100, 10)):
        assert np.allclose(seen.pixels[0, channel], value / 255, atol=2**-12)  # half precision below 1


@pytest.mark.parametrize(("long", "starts"), [(400, [0, 88, 176]), (399, [0, 88, 175]), (224, [0]), (225, [0, 1, 1])])
@pytest.mark.parametrize("upright", [False, True])
def test_crops_lie_at_both_ends_and_in_the_middle(long: int, starts: list[int], upright: bool) -> None:
    """Each column carries its own number, in two colours; at a short side of 224 nothing is resized."""
    numbers = np.zeros((224, long, 3), np.uint8)
    numbers[:, :, 0], numbers[:, :, 1] = np.arange(long) % 256, np.arange(long) // 256
    picture = numbers.transpose(1, 0, 2) if upright else numbers
    seen = view_pictures([picture], "official")
    assert len(seen.pixels) == len(starts)
    assert seen.shares == pytest.approx([1 / len(starts)] * len(starts))
    for view, start in zip(seen.pixels, starts, strict=True):
        planes = np.round(view.astype(np.float32) * 255)
        along = (planes[2] + 256 * planes[1])[0]
        assert np.array_equal(along[:, 0] if upright else along[0], np.arange(start, start + 224))
    (middle,) = view_pictures([picture], "one").pixels
    assert np.array_equal(middle, seen.pixels[len(starts) // 2])


def test_the_resize_is_bilinear_without_antialiasing() -> None:
    """At half size each pixel is the mean of two: stripes two wide stay black and white; antialiased they would be grey."""
    stripes = np.zeros((448, 448, 3), np.uint8)
    stripes[:, np.arange(448) % 4 >= 2] = 255
    pixels = view_pictures([stripes], "one").pixels[0, 0, 0].astype(np.float32)
    assert np.allclose(pixels, np.arange(224) % 2)
    assert given.resize(np.zeros((256, 455, 3), np.uint8)).shape == (3, 224, 398)  # 398.1: rounded down
    assert given.resize(np.zeros((300, 100, 3), np.uint8)).shape == (3, 672, 224)  # small ones are enlarged


def test_each_clip_is_its_first_and_its_last_picture() -> None:
    pictures = [np.full((224, 224, 3), 20 * n, np.uint8) for n in range(10)]
    seen = view_pictures(pictures, "official")
    levels = np.round(seen.pixels[:, 0, :, 0, 0].astype(np.float32) * 255 / 20)
    assert levels.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    with pytest.raises(ValueError, match="3 pictures for 5 clips"):
        view_pictures(pictures[:3], "official")


@pytest.mark.parametrize("size", [(224, 300), (224, 224)])
def test_equal_views_are_computed_once_and_count_as_often(towers: Towers, size: tuple[int, int]) -> None:
    a, b = noise(1, 2, *size).pictures
    encoder = tiny_encoder(towers, "official")
    crops = 1 if size[0] == size[1] else 3
    short = encoder.prepare(shot(*[a, b] * 4, b, a))  # four equal clips and another
    assert short.shares.tolist() == pytest.approx([0.8 / crops] * crops + [0.2 / crops] * crops)
    copies = encoder.prepare(shot(*[picture.copy() for picture in [a, b] * 4], b, a))
    assert len(copies.shares) == 5 * crops
    assert np.allclose(encoder.encode([short]), encoder.encode([copies]), atol=1e-5)
    still = encoder.prepare(shot(a))
    assert len(still.shares) == crops
    assert np.allclose(encoder.encode([still]), encode_shot(encoder, shot(*[a.copy()] * 10)), atol=1e-5)


def test_a_shot_alone_and_among_others_has_the_same_vector(encoder: ImageBind) -> None:
    pictures = len(encoder.moments(3))
    shots = [noise(0, pictures), noise(1, 1), noise(2, pictures, 400, 256), noise(3, pictures, 230, 230)]
    prepared = [encoder.prepare(one) for one in shots]
    rows = encoder.encode(prepared)
    assert rows.shape == (4, 8)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for row, one in zip(rows, prepared, strict=True):
        assert np.allclose(encoder.encode([one])[0], row, atol=1e-5)  # another batch, another order of sums
    assert np.abs(rows[0] - rows[3]).max() > 1e-3


def test_colours_are_normalised_and_views_averaged_as_published(towers: Towers) -> None:
    encoder = tiny_encoder(towers, "official")
    prepared = encoder.prepare(noise(5, 10))
    mean, deviation = np.float32([0.48145466, 0.4578275, 0.40821073]), np.float32([0.26862954, 0.26130258, 0.27577711])
    normal = (prepared.pixels.astype(np.float32) - mean[:, None, None, None]) / deviation[:, None, None, None]
    with torch.inference_mode():
        views = towers.see(torch.from_numpy(normal)).numpy()
    assert views.shape == (15, 8)
    assert np.allclose(np.linalg.norm(views, axis=1), 1, atol=1e-6)
    expected = views.mean(axis=0) / np.linalg.norm(views.mean(axis=0))
    assert np.allclose(encoder.encode([prepared])[0], expected, atol=1e-5)


# --- what is heard


def slow_log_mel(waveform: F32) -> np.ndarray:
    """Kaldi's recipe, frame by frame and bin by bin, in float64: what hear_clips is held against."""
    samples = waveform.astype(np.float64) - waveform.astype(np.float64).mean()
    lowest, highest = (1127 * math.log(1 + hertz / 700) for hertz in (20, 8000))
    gap = (highest - lowest) / 129
    angles = 2 * np.pi * np.outer(np.arange(257), np.arange(512)) / 512
    cosines, sines = np.cos(angles), np.sin(angles)
    rows = []
    for first in range(0, len(samples) - 400 + 1, 160):  # 25 ms every 10 ms, whole frames only
        frame = samples[first : first + 400].copy()
        frame -= frame.sum() / 400
        for n in range(399, 0, -1):
            frame[n] -= 0.97 * frame[n - 1]
        frame[0] -= 0.97 * frame[0]
        for n in range(400):
            frame[n] *= 0.5 - 0.5 * math.cos(2 * math.pi * n / 399)
        padded = np.concatenate([frame, np.zeros(112)])
        power = (cosines @ padded) ** 2 + (sines @ padded) ** 2
        row = []
        for band in range(128):
            left, centre, right = lowest + band * gap, lowest + (band + 1) * gap, lowest + (band + 2) * gap
            energy = 0.0
            for bin_ in range(256):  # half the rate itself is outside of every triangle
                mel = 1127 * math.log(1 + bin_ * 16000 / 512 / 700)
                if left < mel <= centre:
                    energy += power[bin_] * (mel - left) / (centre - left)
                elif centre < mel < right:
                    energy += power[bin_] * (right - mel) / (right - centre)
            row.append(math.log(max(energy, 2.0**-23)))
        rows.append(row)
    return np.array(rows)


def sound(seconds: float, seed: int = 0) -> F32:
    """A rising tone in noise that is off centre."""
    t = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    rng = np.random.default_rng(seed)
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * t) * t) + 0.01 * rng.normal(size=len(t)) + 0.1).astype(np.float32)


@pytest.mark.parametrize("kind", ["sound", "tone", "silence", "faint"])
def test_the_filterbank_is_kaldis(kind: str) -> None:
    waveform = sound(0.2)
    if kind == "tone":  # bins far from it hold next to nothing
        waveform = np.sin(np.arange(2000) * 2 * np.pi * 440 / SOUND_RATE).astype(np.float32)
    elif kind == "silence":
        waveform = np.zeros(2000, np.float32)
    elif kind == "faint":
        waveform = waveform * np.float32(1e-4)
    assert np.abs(log_mel(waveform) - slow_log_mel(waveform)).max() < 1e-4


def test_three_clips_of_two_seconds_are_heard() -> None:
    waveform = sound(10)
    spectra = hear_clips(waveform)
    assert spectra.shape == (3, 1, 128, 204)
    assert spectra.dtype == np.float32
    for spectrum, second in zip(spectra, (0, 4, 8), strict=True):
        rows = log_mel(waveform[second * SOUND_RATE : (second + 2) * SOUND_RATE])
        assert rows.shape == (198, 128)
        assert np.allclose(spectrum[0, :, :198], (rows.T + 4.268) / 9.138, atol=1e-5)
        assert np.allclose(spectrum[0, :, 198:], 4.268 / 9.138)  # zeros, normalised


@pytest.mark.parametrize(("seconds", "clips"), [(0, 1), (0.01, 1), (1, 1), (2, 1), (2.5, 3)])
def test_short_sounds_are_heard_once(seconds: float, clips: int, towers: Towers) -> None:
    assert hear_clips(sound(seconds)).shape == (clips, 1, 128, 204)
    rows = tiny_encoder(towers, "one").encode_sound([sound(seconds), sound(5)])
    assert rows.shape == (2, 8)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_what_is_no_sound_is_refused() -> None:
    for waveform in (np.zeros((2, 100), np.float32), np.array([0, np.nan], np.float32)):
        with pytest.raises(ValueError, match="one row of finite samples"):
            hear_clips(waveform)


def test_texts_are_unit_rows_whatever_their_number(towers: Towers) -> None:
    encoder = tiny_encoder(towers, "one")
    texts = [f"shot number {n}" for n in range(35)]  # more than go through together
    rows = encoder.encode_text(texts)
    assert rows.shape == (35, 8)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(encoder.encode_text(texts[34:])[0], rows[34], atol=1e-5)
    assert encoder.encode_text([]).shape == encoder.encode_sound([]).shape == (0, 8)


# --- its place in the product


def test_it_is_chosen_by_its_name_and_needs_its_weights(site: Site) -> None:
    for views, name in ((Views.official, "imagebind@1"), (Views.one, "imagebind-light@1")):
        chosen = FeatureSettings.model_validate({"encoder": "imagebind", "views": views})
        identity = identify_encoder(chosen)
        assert (identity.name, identity.width) == (name, 1024)
        assert "non-commercial" in identity.licence
        with pytest.raises(MissingDependencyError, match="trailer weights fetch imagebind"):
            load_encoder(chosen, site)


def test_a_cpu_is_warned_of_the_cost_once_it_comes(
    towers: Towers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("models.encoders.imagebind_weights.load_imagebind", lambda path, *, device, config: towers)
    for views, warnings in (("one", 0), ("official", 1)):
        encoder = ImageBind(Path("none"), "", device="cpu", views=views, config=TINY)
        assert not caplog.records
        for seed in range(2):
            encode_shot(encoder, noise(seed, 1))
        assert len(caplog.records) == warnings
    assert "15 crops a shot" in caplog.text
    assert "features.views=one" in caplog.text


def test_it_is_shown_the_edges_of_overlapping_clips() -> None:
    """Moments go back where clips overlap, and equal ones share a picture: a film of 3 s, sampled each half second."""
    jpegs = [cv2.imencode(".jpg", np.full((240, 240, 3), 30 * n, np.uint8))[1] for n in range(6)]
    analysis = cast(
        Analysis,
        SimpleNamespace(
            film=SimpleNamespace(display_size=(240, 240)),
            times=np.arange(6) / 2,
            scores=np.zeros((6, 3), np.float32),
            letterbox=np.zeros(4, np.float32),
            sample_times=np.arange(6) / 2,
            sample_bytes=np.concatenate(jpegs),
            sample_offsets=np.cumsum([0, *map(len, jpegs)]),
            sound=np.zeros((0, 8), np.float32),
            sound_start=0.0,
            sound_step=0.1,
        ),
    )
    encoder = ImageBind(Path("none"), "", device="cpu", views="official", config=TINY)
    for span, starts, lasts in ((Span(0, 3), [0, 1, 2], [4, 5, 5]), (Span(1, 2), [2], [3])):
        content = show_shot(analysis, span, encoder)
        levels = [round(float(picture.mean()) / 30) for picture in content.pictures]
        assert sorted(set(levels[::2])) == [n for n in starts if n in levels[::2]]
        assert all(first <= last for first, last in zip(levels[::2], levels[1::2], strict=True))
        assert (levels[0], levels[-1]) == (starts[0], lasts[-1])
        assert len(encoder.prepare(content).shares) == len(set(zip(levels[::2], levels[1::2], strict=True)))


def test_bfloat16_is_for_the_blocks_alone(towers: Towers) -> None:
    """Rounding to 2^-9 in four residual parts of a tiny tower: well within 0.02 on unit rows."""
    half = use_bfloat16(copy.deepcopy(towers))
    kinds = {name: tensor.dtype for name, tensor in half.state_dict().items()}
    assert kinds["modality_trunks.audio.blocks.1.attn.bias_k"] == kinds["modality_trunks.text.blocks.0.mlp.fc1.weight"]
    assert {kind for name, kind in kinds.items() if ".attn." in name or ".mlp." in name} == {torch.bfloat16}
    assert {kind for name, kind in kinds.items() if ".attn." not in name and ".mlp." not in name} == {torch.float32}
    shots, texts, sounds = [noise(0, 2)], ["a dog", "rain"], [sound(3)]
    one, other = tiny_encoder(towers, "one"), tiny_encoder(half, "one")
    assert np.allclose(encode_shot(one, shots[0]), encode_shot(other, shots[0]), atol=0.02)
    assert np.allclose(one.encode_text(texts), other.encode_text(texts), atol=0.02)
    assert np.allclose(one.encode_sound(sounds), other.encode_sound(sounds), atol=0.02)


@pytest.mark.gpu
def test_full_size_in_bfloat16_agrees_with_float32() -> None:
    """Random weights. With the residual sum in float32, a CPU's bfloat16 changes the cosine by 1.6e-5 (2026-11-24); a GPU
    rounds elsewhere and its stem runs in TF32: ten times that, and still far below what tells two shots apart (4e-2).
    """
    if not torch.cuda.is_available():
        absent("gpu", "no GPU")
    torch.manual_seed(0)
    with torch.device("cuda"):
        exact = Towers(HUGE).eval()
    encoder = ImageBind(Path("none"), "", device="cuda", views="one")
    encoder._towers = exact
    shots = [encoder.prepare(noise(seed, 2)) for seed in range(3)]
    texts, sounds = ["a dog", "an explosion at night"], [sound(5), sound(3, seed=1)]

    def measure() -> list[F32]:
        return [encoder.encode(shots), encoder.encode_text(texts), encoder.encode_sound(sounds)]

    before = measure()
    use_bfloat16(exact)
    for float32, bfloat16 in zip(before, measure(), strict=True):
        assert (np.sum(float32 * bfloat16, axis=1) > 1 - 2e-4).all()
