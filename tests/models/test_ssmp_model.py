"""The network agrees with an independent reference, and every position can influence every other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.ssmp.data import Batch
from models.ssmp.masking import FixedRate
from models.ssmp.model import PRESETS, SSMP, SSMPConfig, predict_slots
from models.ssmp.objective import MaskedPrediction
from tests.conftest import absent

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
SHORT_NAMES = {
    "g1": "attention_norm.weight",
    "wq": "attention.q.weight",
    "wk": "attention.k.weight",
    "wv": "attention.v.weight",
    "wo": "attention.out.weight",
    "g2": "ffn_norm.weight",
    "w_up": "ffn.up.weight",
    "w_out": "ffn.out.weight",
}
TOLERANCE = 2e-5  # absolute, on cosines: golden/encoder.json, for a float32 implementation
CASES = ("base", "restart", "stretch", "interleaved", "sqrtD", "scale20", "allmasked", "nomask", "causal")


@pytest.fixture(scope="module")
def golden():
    if not (GOLDEN / "encoder.npz").exists():
        pytest.skip(f"no golden vectors at {GOLDEN}")
    return dict(np.load(GOLDEN / "encoder.npz").items())


def golden_model(golden, **options) -> SSMP:
    model = SSMP(SSMPConfig(feature_dim=16, ffn_dim=32, heads=2, layers=2, **options))
    weights = {}
    for key, array in golden.items():
        if key.startswith("w.layers."):
            _, _, layer, short = key.split(".")
            weights[f"layers.{layer}.{SHORT_NAMES[short]}"] = torch.from_numpy(array)
        elif key.startswith("w."):
            weights[key[2:]] = torch.from_numpy(array)
    model.load_state_dict(weights)  # strict: exactly the names of docs/method.md section 2
    return model.eval()


def golden_options(case: str) -> dict[str, object]:
    about = json.loads((GOLDEN / "encoder.json").read_text())["cases"][case]
    return {name: value for name, value in about.items() if name in SSMPConfig.__dataclass_fields__}


def padded(*samples):
    """(movie, trailer, hidden) triples -> one padded batch; padding is filled with large numbers, not zeros."""
    n_shots, n_slots = max(len(m) for m, _, _ in samples), max(len(v) for _, v, _ in samples)
    width = samples[0][0].shape[1]
    movie = torch.full((len(samples), n_shots, width), 7.0)
    trailer = torch.full((len(samples), n_slots, width), -9.0)
    hidden = torch.ones((len(samples), n_slots), dtype=torch.bool)
    for b, (m, v, h) in enumerate(samples):
        movie[b, : len(m)], trailer[b, : len(v)], hidden[b, : len(h)] = map(torch.as_tensor, (m, v, h))
    lengths = torch.tensor([[len(m), len(v)] for m, v, _ in samples])
    return movie, trailer, hidden, lengths[:, 0], lengths[:, 1]


@pytest.mark.parametrize("case", CASES)
def test_cosines_and_probabilities_agree_with_the_reference(golden, case):
    model = golden_model(golden, **golden_options(case))
    batch = padded((golden["M"], golden["V"], golden[f"{case}.mask"]))
    scale = 20.0 if case == "scale20" else 1.0
    with torch.no_grad():
        cosines = model.cosines(*batch)[0].numpy()
        states = model.encode(*batch)[0].numpy()
        probabilities = (model.cosines(*batch)[0] * scale).softmax(-1).numpy()
    np.testing.assert_allclose(cosines, golden[f"{case}.cos"], atol=TOLERANCE)
    np.testing.assert_allclose(states, golden[f"{case}.h"], atol=1e-4)  # entries up to 10: float32 has 1e-6 of that
    np.testing.assert_allclose(probabilities, golden[f"{case}.P"], atol=TOLERANCE * scale)


def test_padded_batch_gives_the_numbers_of_single_samples(golden):
    model = golden_model(golden)
    first = (golden["M"], golden["V"], golden["base.mask"])
    second = (golden["pad.M1"], golden["pad.V1"], golden["pad.mask1"])
    with torch.no_grad():
        logits = model(*padded(first, second))
        cosines = model.cosines(*padded(first, second))
    np.testing.assert_allclose(cosines[0], golden["base.cos"], atol=TOLERANCE)
    np.testing.assert_allclose(cosines[1, :3, :5], golden["pad.cos1"], atol=TOLERANCE)
    assert torch.isneginf(logits[1, :, 5:]).all()
    assert torch.isfinite(logits[0]).all()
    assert torch.isfinite(logits[1, :3, :5]).all()


@pytest.mark.parametrize("options", [{}, {"positions": "stretch"}, {"causal_trailer": True}, {"positions": "restart"}])
def test_padding_never_matters(options):
    torch.manual_seed(1)
    model = SSMP(SSMPConfig(16, 32, 2, 3, **options)).eval()
    a = (torch.randn(9, 16), torch.randn(4, 16), torch.tensor([True, False, True, True]))
    b = (torch.randn(5, 16), torch.randn(6, 16), torch.tensor([True, False, False, True, False, True]))
    with torch.no_grad():
        both = model(*padded(a, b))
        torch.testing.assert_close(both[0, :4], model(*padded(a))[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(both[1, :, :5], model(*padded(b))[0], atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when its compiler is imported
def test_compiled_blocks_give_the_same_numbers(lively_model):
    """What is compiled can be traced and is right whatever the lengths; this backend needs no C++ compiler."""
    fast = SSMP(lively_model.config).eval()
    fast.load_state_dict(lively_model.state_dict())
    fast.compile_blocks("aot_eager")
    for shots, slots in ((7, 5), (11, 3)):
        torch.manual_seed(shots)
        sample = (torch.randn(shots, 16), torch.randn(slots, 16), torch.arange(slots) % 2 == 0)
        with torch.no_grad():
            torch.testing.assert_close(fast(*padded(sample)), lively_model(*padded(sample)), atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", [[(9, 4), (9, 4)], [(9, 4), (5, 6), (30, 2)]])
def test_a_gpu_gives_the_numbers_of_the_cpu(lively_model, lengths):
    """float32: the same but for rounding. bfloat16, by the flash kernels: close, cosines of eight bits' products."""
    if not torch.cuda.is_available():
        absent("gpu", "no GPU here")
    torch.manual_seed(2)
    batch = padded(*((torch.randn(i, 16), torch.randn(j, 16), torch.rand(j) < 0.5) for i, j in lengths))
    model = SSMP(lively_model.config).eval().cuda()
    model.load_state_dict(lively_model.state_dict())
    with torch.no_grad():
        want = lively_model.cosines(*batch)
        on_gpu = [x.cuda() for x in batch[:3]] + list(batch[3:])
        torch.testing.assert_close(model.cosines(*on_gpu).cpu(), want, atol=1e-4, rtol=0)
        with torch.autocast("cuda", torch.bfloat16):
            half = model.cosines(*on_gpu).cpu()
        model.compile_blocks()
        torch.testing.assert_close(model.cosines(*on_gpu).cpu(), want, atol=1e-4, rtol=0)
    real = torch.arange(batch[0].shape[1]) < batch[3][:, None]
    assert (half - want).masked_fill(~real[:, None], 0).abs().max() < 0.05


def test_loss_agrees_with_the_reference(golden):
    about = json.loads((GOLDEN / "encoder.json").read_text())["loss"]
    model = golden_model(golden)
    first = (golden["M"], golden["V"], golden["base.mask"])
    first = padded(first, (golden["pad.M1"], golden["pad.V1"], golden["pad.mask1"]))
    labels = torch.tensor([[5, 0, 3, 6], [4, 1, 2, 0]])
    hidden = first[2] & (torch.arange(4) < first[4][:, None])
    batch = Batch(first[0], first[1], labels, first[3], first[4])
    with torch.no_grad():
        model.log_scale.fill_(float(np.log(20.0)))
        total, right = MaskedPrediction(model, FixedRate()).measure(batch, hidden.numpy())
        best = model(*first).argmax(-1)
    assert float(total) == pytest.approx(about["sum_over_masked"], abs=1e-3)
    assert float(total) / hidden.sum() == pytest.approx(
        about["mean_over_masked"], abs=1e-4
    )  # what a training divides by
    assert float(total) / (0.5 * 7) == pytest.approx(about["inv_t"], abs=1e-3)  # as published, at t = 0.5
    assert int(right) == int((best == labels)[hidden].sum())


def test_squared_error_is_zero_where_the_output_is_the_shot(golden):
    """The loss MSE compares an output with its label's input token, whatever the length of tokens."""
    for in_scale in ("none", "sqrtD"):
        model = golden_model(golden, in_scale=in_scale)
        film, lengths = torch.randn(2, 5, 16), (torch.tensor([5, 4]), torch.tensor([3, 2]))
        labels = torch.tensor([[4, 0, 2], [1, 3, 0]])
        target = model.scale_in(film)
        model.encode = lambda *_: torch.stack([target[b, labels[b]] for b in range(2)])  # noqa: B023
        hidden = np.array([[True, False, True], [True, True, False]])
        batch = Batch(film, torch.randn(2, 3, 16), labels, *lengths)
        total, right = MaskedPrediction(model, FixedRate(), "mse").measure(batch, hidden)
        assert float(total) == pytest.approx(0, abs=1e-6)
        assert int(right) == 4


@pytest.fixture(scope="module")
def lively_model() -> SSMP:
    """Weights large enough that every influence is far above rounding."""
    torch.manual_seed(0)
    model = SSMP(SSMPConfig(16, 32, 2, 2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return model


def test_every_position_moves_every_slot(lively_model):
    torch.manual_seed(2)
    film, trailer = torch.randn(7, 16), torch.randn(5, 16)
    hidden = torch.tensor([False, False, True, False, False])
    lengths = torch.tensor([7]), torch.tensor([5])
    with torch.no_grad():
        before = lively_model.encode(film[None], trailer[None], hidden[None], *lengths)[0]
        for shot in range(7):
            moved = film.clone()
            moved[shot] += 1
            after = lively_model.encode(moved[None], trailer[None], hidden[None], *lengths)[0]
            assert ((after - before).abs().amax(-1) > 1e-4).all(), f"film shot {shot} is not seen by some slot"
        for slot in (0, 1, 3, 4):  # to the left and to the right
            moved = trailer.clone()
            moved[slot] += 1
            after = lively_model.encode(film[None], moved[None], hidden[None], *lengths)[0]
            assert ((after - before).abs().amax(-1) > 1e-4).all(), f"slot {slot} is not seen by some slot"


def test_a_hidden_slot_is_not_read(lively_model):
    film, trailer = torch.randn(1, 7, 16), torch.randn(1, 5, 16)
    hidden = torch.tensor([[False, False, True, False, False]])
    other = trailer.clone()
    other[0, 2] = 100.0
    lengths = torch.tensor([7]), torch.tensor([5])
    with torch.no_grad():
        assert torch.equal(lively_model(film, trailer, hidden, *lengths), lively_model(film, other, hidden, *lengths))


def test_a_causal_trailer_sees_nothing_to_the_right(lively_model):
    model = SSMP(replace(lively_model.config, causal_trailer=True)).eval()
    model.load_state_dict(lively_model.state_dict())
    film, trailer, hidden = torch.randn(1, 7, 16), torch.randn(1, 5, 16), torch.zeros(1, 5, dtype=torch.bool)
    moved = trailer.clone()
    moved[0, 3] += 1
    lengths = torch.tensor([7]), torch.tensor([5])
    with torch.no_grad():
        moves = (model.encode(film, moved, hidden, *lengths) - model.encode(film, trailer, hidden, *lengths))[0]
    assert moves[:3].abs().max() == 0
    assert (moves[3:].abs().amax(-1) > 1e-4).all()


def test_the_order_of_the_film_matters(lively_model):
    torch.manual_seed(3)
    film, trailer, hidden = torch.randn(1, 7, 16), torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool)
    lengths = torch.tensor([7]), torch.tensor([5])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    without = SSMP(replace(lively_model.config, positions="none")).eval()
    without.load_state_dict(lively_model.state_dict())
    with torch.no_grad():
        plain = lively_model.cosines(film, trailer, hidden, *lengths)
        shuffled = lively_model.cosines(film[:, order], trailer, hidden, *lengths)
        assert (shuffled - plain[..., order]).abs().max() > 1e-2
        plain = without.cosines(film, trailer, hidden, *lengths)
        shuffled = without.cosines(film[:, order], trailer, hidden, *lengths)
        torch.testing.assert_close(shuffled, plain[..., order], atol=1e-5, rtol=0)  # the control: no rotary, no order


def test_zero_vectors_have_cosine_zero(lively_model):
    film, trailer = torch.randn(1, 7, 16), torch.zeros(1, 5, 16)
    film[0, 2] = 0
    cosines = lively_model.cosines(
        film, trailer, torch.zeros(1, 5, dtype=torch.bool), torch.tensor([7]), torch.tensor([5])
    )
    assert torch.isfinite(cosines).all()
    assert (cosines[..., 2] == 0).all()


def test_bfloat16_keeps_cosines_in_float32(lively_model):
    film, trailer, hidden = torch.randn(1, 7, 16), torch.randn(1, 5, 16), torch.zeros(1, 5, dtype=torch.bool)
    lengths = torch.tensor([7]), torch.tensor([5])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = lively_model.cosines(film, trailer, hidden, *lengths)
    assert cosines.dtype == torch.float32
    exact = lively_model.cosines(film, trailer, hidden, *lengths)
    assert (cosines - exact).abs().max() < 0.05  # eight bits of mantissa through two layers


def test_published_size_and_presets():
    with torch.device("meta"):
        model = SSMP(PRESETS["paper"])
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(33.6e6, rel=0.002)
    assert PRESETS["paper-5"].layers == 5
    assert (PRESETS["small"].feature_dim, PRESETS["small"].ffn_dim, PRESETS["small"].layers) == (128, 256, 4)


def test_literal_scale_is_one_and_not_learned():
    model = SSMP(SSMPConfig(16, 32, 2, 1, literal=True))
    assert float(model.scale()) == 1.0
    assert not model.log_scale.requires_grad
    assert SSMP(SSMPConfig(16, 32, 2, 1, initial_scale=25)).scale().item() == pytest.approx(25)


@pytest.mark.parametrize(
    "bad", [{"layers": 0}, {"heads": 3}, {"initial_scale": 0.5}, {"positions": "learned"}, {"pairing": "x"}]
)
def test_impossible_configs_are_refused(bad):
    with pytest.raises(ValueError, match=r"\w"):
        SSMPConfig(**{"feature_dim": 16, "ffn_dim": 32, **bad})


def test_predict_slots_hides_exactly_the_open_slots(lively_model):
    film = torch.randn(7, 16)
    predict = predict_slots(lively_model, film.numpy())
    got = predict(np.array([2, -1, 5]))
    with torch.no_grad():
        trailer, hidden = film[torch.tensor([2, 0, 5])], torch.tensor([[False, True, False]])
        want = lively_model(film[None], trailer[None], hidden, torch.tensor([7]), torch.tensor([3]))[0].softmax(-1)
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert got.sum(1) == pytest.approx(1)
    sharper = predict_slots(lively_model, film.numpy(), scale=100.0)(np.array([2, -1, 5]))
    assert sharper.max() > got.max()
