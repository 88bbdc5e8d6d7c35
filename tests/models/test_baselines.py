"""The baselines see what they may see and nothing else, and learn what they can learn: no straw men."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.baselines.heuristics import fill_chronological, fill_random, fill_uniform
from models.baselines.ranker import Ranker, RankerConfig, ranking_loss, selection_loss
from models.baselines.tgt import TGT, TGTConfig
from models.ssmp.data import Sample, make_batch, unit_rows
from pipeline.errors import NoSolutionError

D = 16  # feature width


def make_lively(model: nn.Module) -> nn.Module:
    """Weights large enough that every influence is far above rounding."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def writer() -> TGT:
    return make_lively(TGT(TGTConfig(D, 2 * D, heads=2, layers=2)))


@pytest.fixture(scope="module")
def chooser() -> Ranker:
    return make_lively(Ranker(RankerConfig(D, 2 * D, heads=2, layers=2)))


def draw(n_shots: int, n_slots: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_shots, D, generator=generator), torch.randn(n_slots, D, generator=generator)


def pad(*samples: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One padded batch of (film, trailer); padding is filled with large numbers, not zeros."""
    n_shots, n_slots = (max(len(sample[part]) for sample in samples) for part in (0, 1))
    movie, trailer = torch.full((len(samples), n_shots, D), 7.0), torch.full((len(samples), n_slots, D), -9.0)
    for b, (film, rows) in enumerate(samples):
        movie[b, : len(film)], trailer[b, : len(rows)] = film, rows
    lengths = torch.tensor([[len(film), len(rows)] for film, rows in samples])
    return movie, trailer, lengths[:, 0], lengths[:, 1]


# --- TGT: what a slot may see -----------------------------------------------------------------------------------------


def test_a_slot_sees_all_earlier_trailer_shots_and_no_other(writer):
    film, trailer = draw(7, 5)
    with torch.no_grad():
        before = writer(*pad((film, trailer)))[0]
        for row in range(5):
            moved = trailer.clone()
            moved[row] += 1
            change = (writer(*pad((film, moved)))[0] - before).abs().amax(-1)
            assert (change[: row + 1] == 0).all(), f"a slot up to {row} has read trailer shot {row}"
            assert (change[row + 1 :] > 1e-3).all(), f"a slot after {row} does not see trailer shot {row}"


def test_every_film_shot_moves_the_scores_of_all_others_in_every_slot(writer):
    film, trailer = draw(7, 5)
    with torch.no_grad():
        before = writer(*pad((film, trailer)))[0]
        for shot in range(7):
            moved = film.clone()
            moved[shot] += 1
            change = (writer(*pad((moved, trailer)))[0] - before).abs()
            change[:, shot] = math.inf  # its own score moves by its feature alone
            assert (change > 1e-5).all(), f"film shot {shot} is not seen"


@pytest.mark.parametrize("place", ["film", "trailer"])
def test_order_matters(writer, place):
    film, trailer = draw(7, 5)
    order = [0, 2, 1, 3, 4]
    with torch.no_grad():
        before = writer(*pad((film, trailer)))[0]
        if place == "trailer":
            after = writer(*pad((film, trailer[order])))[0]
            assert (after[3:] - before[3:]).abs().amax() > 1e-3
        else:
            order += [5, 6]
            after = writer(*pad((film[order], trailer)))[0]
            assert (after - before[:, order]).abs().amax() > 1e-3


@pytest.mark.parametrize("in_scale", ["none", "sqrtD"])
def test_padding_never_matters_to_tgt(in_scale):
    model = make_lively(TGT(TGTConfig(D, 2 * D, heads=2, layers=2, in_scale=in_scale)))
    a, b = draw(9, 4, seed=1), draw(5, 6, seed=2)
    with torch.no_grad():
        both = model(*pad(a, b))
        assert both.dtype == torch.float32
        torch.testing.assert_close(both[0, :4], model(*pad(a))[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(both[1, :, :5], model(*pad(b))[0], atol=1e-4, rtol=1e-4)
    assert torch.isneginf(both[1, :, 5:]).all()


def test_tgt_fill_is_teacher_forcing_on_its_own_shots(writer):
    """Each shot is the best of one whole forward pass over the trailer so far: the film is read once, to no loss."""
    film, _ = draw(9, 1)
    shots = writer.fill(film.numpy(), 6)
    with torch.no_grad():
        logits = writer(*pad((film, film[shots])))[0]
    for slot, shot in enumerate(shots):
        logits[slot, shots[:slot]] = -math.inf
        assert int(logits[slot].argmax()) == shot


def test_tgt_reads_the_film_once(writer, monkeypatch):
    calls = []
    encode = writer.encoder.forward
    monkeypatch.setattr(writer.encoder, "forward", lambda *args: calls.append(1) or encode(*args))
    writer.fill(draw(9, 1)[0].numpy(), 6)
    assert len(calls) == 1


# --- Ranker -----------------------------------------------------------------------------------------------------------


def test_every_film_shot_moves_every_select_and_place(chooser):
    film, _ = draw(7, 1)
    lengths = torch.tensor([7])
    with torch.no_grad():
        before = chooser.score(film[None], lengths)
        for shot in range(7):
            moved = film.clone()
            moved[shot] += 1
            for old, new in zip(before, chooser.score(moved[None], lengths), strict=True):
                assert ((new - old).abs() > 1e-5).all(), f"film shot {shot} is not seen"


def test_padding_never_matters_to_the_ranker(chooser):
    (a, _), (b, _) = draw(9, 1, seed=1), draw(5, 1, seed=2)
    movie, _, lengths, _ = pad((a, a[:1]), (b, b[:1]))
    with torch.no_grad():
        select, place = chooser(movie, lengths)
        assert torch.isneginf(select[1, 5:]).all()
        assert ((place >= 0) & (place <= 1)).all()
        for row, film in enumerate((a, b)):
            alone = chooser(film[None], torch.tensor([len(film)]))
            for both, single in zip((select, place), alone, strict=True):
                torch.testing.assert_close(both[row, : len(film)], single[0], atol=1e-5, rtol=1e-4)


def test_ranker_fill_orders_the_best_by_place(chooser):
    film, _ = draw(9, 1)
    shots = chooser.fill(film.numpy(), 4)
    with torch.no_grad():
        select, place = (x[0] for x in chooser(film[None], torch.tensor([9])))
    assert set(shots.tolist()) == set(select.topk(4).indices.tolist())
    assert (place[shots].diff() > 0).all()


def test_losses_of_the_ranker_by_hand():
    select = torch.tensor([[1.0, -2.0, 0.5, 9.0]])
    chosen = torch.tensor([[True, False, False, False]])
    real = torch.tensor([[True, True, True, False]])
    by_hand = 0.5 * (math.log1p(math.exp(-1)) + (math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5))) / 2)
    assert float(selection_loss(select, chosen, real)) == pytest.approx(by_hand)
    place = torch.tensor([[0.0, 1.0, 3.0, -50.0], [2.0, -50.0, -50.0, -50.0]])  # nothing to order in the second
    slots = torch.tensor([[True, True, True, False], [True, False, False, False]])
    by_hand = sum(math.log1p(math.exp(-step)) for step in (1, 3, 2)) / 3
    assert ranking_loss(place, slots).tolist() == pytest.approx([by_hand, 0.0])


def test_the_ranker_has_a_loss_where_there_is_nothing_to_rank_or_to_leave_out(chooser):
    film = unit_rows(draw(3, 1)[0].numpy()).astype(np.float32)
    for labels in (np.array([1]), np.array([2, 0, 1])):
        sample = Sample("film-1", "film", film, film[labels], labels)
        loss, right = chooser.measure(make_batch([sample]))
        assert math.isfinite(float(loss.detach()))
        assert 0 <= int(right) <= len(labels)


# --- all fills --------------------------------------------------------------------------------------------------------


def fills(writer: TGT, chooser: Ranker) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    heuristics = {
        function.__name__: lambda film, n_slots, function=function: function(
            len(film), n_slots, np.random.default_rng(3)
        )
        for function in (fill_random, fill_uniform, fill_chronological)
    }
    return {
        "tgt": lambda film, n_slots: writer.fill(film, n_slots),
        "ranker": lambda film, n_slots: chooser.fill(film, n_slots),
        **heuristics,
    }


@pytest.mark.parametrize("name", ["tgt", "ranker", "fill_random", "fill_uniform", "fill_chronological"])
def test_no_shot_comes_twice_and_too_few_shots_are_refused(writer, chooser, name):
    fill = fills(writer, chooser)[name]
    film = draw(8, 1)[0].numpy()
    for n_slots in (1, 5, 8):
        shots = fill(film, n_slots)
        assert shots.dtype == np.int64
        assert len(set(shots.tolist())) == len(shots) == n_slots
        assert shots.min() >= 0
        assert shots.max() < 8
        assert (fill(film, n_slots) == shots).all()
    with pytest.raises(NoSolutionError, match="9 slots to fill, but the film has only 8 shots"):
        fill(film, 9)
    with pytest.raises(ValueError, match="0 slots"):
        fill(film, 0)


def test_orders_that_need_no_learning():
    drawn = np.random.default_rng(5).permutation(30)[:7]
    assert (fill_random(30, 7, np.random.default_rng(5)) == drawn).all()
    assert (fill_chronological(30, 7, np.random.default_rng(5)) == np.sort(drawn)).all()
    assert fill_uniform(30, 3).tolist() == [5, 15, 25]
    for n_shots in range(1, 40):
        for n_slots in range(1, n_shots + 1):
            assert (np.diff(fill_uniform(n_shots, n_slots)) > 0).all()


# --- learning ---------------------------------------------------------------------------------------------------------

SHOTS, SLOTS = 12, 4  # a film is 2 scenes x 6 looks in random order
MARK, *LOOKS = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0][:7]


def plant_chain(rng: np.random.Generator) -> Sample:
    """The trailer starts at the marked shot and goes on with the next look of the same scene: a slot's shot follows from
    the film and the shot before it, and no scene is ever seen in another film."""
    scenes = unit_rows(rng.normal(size=(2, D)))
    scene, look = np.divmod(rng.permutation(SHOTS), 6)
    rows = scenes[scene] + np.array(LOOKS)[look]
    first = rng.integers(SHOTS)
    rows[first] += MARK
    labels = [np.flatnonzero((scene == scene[first]) & (look == (look[first] + j) % 6))[0] for j in range(SLOTS)]
    film = unit_rows(rows).astype(np.float32)
    return Sample("film-1", "film", film, film[labels], np.array(labels))


def plant_marks(rng: np.random.Generator) -> Sample:
    """Random shots, of which the trailer is the marked ones in film order."""
    rows = unit_rows(rng.normal(size=(SHOTS, D)))
    labels = np.sort(rng.permutation(SHOTS)[:SLOTS])
    rows[labels] += MARK
    film = unit_rows(rows).astype(np.float32)
    return Sample("film-1", "film", film, film[labels], labels)


def learn(
    model: nn.Module,
    plant: Callable[[np.random.Generator], Sample],
    steps: int,
    lr: float,
) -> list[Sample]:
    """Train on new films every step; returns films that were not trained on."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        loss = model.measure(make_batch([plant(rng) for _ in range(32)]))[0] / (32 * SLOTS)
        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 20, 2 * (1 - step / steps), 1.0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [plant(rng) for _ in range(100)]


def slot_accuracy(fill: Callable[[np.ndarray, int], np.ndarray], samples: list[Sample]) -> float:
    return float(np.mean([fill(sample.movie_ID, SLOTS) == sample.labels_J for sample in samples]))


def make_writer(seed: int = 0) -> TGT:
    torch.manual_seed(seed)
    return TGT(TGTConfig(D, 2 * D, heads=2, layers=2, initial_scale=30.0, in_scale="sqrtD"))


def make_chooser(seed: int = 0) -> Ranker:
    torch.manual_seed(seed)
    return Ranker(RankerConfig(D, 2 * D, heads=2, layers=2, in_scale="sqrtD"))


def test_tgt_learns_to_write_on():
    model = make_writer()
    samples = learn(model, plant_chain, steps=400, lr=4e-3)
    with torch.no_grad():
        told = float(model.measure(make_batch(samples))[1]) / (len(samples) * SLOTS)
    alone = slot_accuracy(lambda film, n_slots: model.fill(film, n_slots), samples)
    chance = 1 / SHOTS
    assert told > 0.9 > 10 * chance  # three seeds gave .987 to .993
    assert alone > 0.85  # .968 to .980; the mark alone would give 1 / SLOTS


def test_ranker_learns_to_choose_and_to_order():
    model = make_chooser()
    samples = learn(model, plant_marks, steps=200, lr=4e-3)
    with torch.no_grad():
        kept = float(model.measure(make_batch(samples))[1]) / (len(samples) * SLOTS)
    slot = slot_accuracy(lambda film, n_slots: model.fill(film, n_slots), samples)
    assert kept > 0.9 > 2.5 * SLOTS / SHOTS  # chance SLOTS / SHOTS; three seeds gave .975 to .988
    assert slot > 0.8 > 3 / SLOTS  # the right shots in random order give 1 / SLOTS; .933 to .965


@pytest.mark.parametrize(
    ("make", "plant"),
    [(make_writer, plant_chain), (make_chooser, plant_marks)],
)
def test_same_seed_same_weights(make, plant):
    runs = []
    for seed in (1, 1, 2):
        model = make(seed)
        learn(model, plant, steps=3, lr=4e-3)
        runs.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_weights_at_birth():
    model = TGT(TGTConfig(64, 128, heads=4, layers=2))
    block = model.decoder[1]
    for attention in (block.attention, block.cross_attention, model.encoder.layers[0].attention):
        assert torch.equal(attention.q.weight, attention.k.weight)
    assert float(block.ffn.up.weight.std().detach()) == pytest.approx(0.5 / 8, rel=0.05)
    assert float(block.ffn.out.weight.std().detach()) == pytest.approx(0.5 / math.sqrt(128 * 6), rel=0.05)
    assert float(model.scale().detach()) == pytest.approx(40)


@pytest.mark.parametrize("config", [TGTConfig, RankerConfig])
def test_impossible_sizes_are_refused(config):
    with pytest.raises(ValueError, match="multiple of 2"):
        config(feature_dim=10, heads=4)
    with pytest.raises(ValueError, match="at least 1"):
        config(layers=0)
