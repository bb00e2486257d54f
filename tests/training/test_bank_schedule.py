"""When the memory bank is filled and moved, when CSL and PSD begin, and the scale that is measured on the bank."""

import dataclasses

import pytest
import torch

import pat
from pat.base.errors import Failure
from pat.base.mapping import from_mapping
from pat.base.progress import SILENT
from pat.config import AugmentConfig, LossConfig, TrainConfig
from pat.data.augment import Augmentation
from pat.losses import MemoryBank, cross_id_similarity
from pat.model import PartAwareTransformer
from pat.training import bank_fill, loop
from pat.training.bank_fill import UNRELATED, measured_scale
from pat.training.data import open_training_data
from pat.training.distributed import Ranks
from pat.training.draws import draw, generator_of
from pat.training.loop import Interrupted, train
from pat.training.state import build_state
from pat.training.step import training_losses
from run_logs import logged

RANKS = Ranks(torch.device("cpu"))


@pytest.fixture
def config(market, tmp_path, tiny):
    """A run of four epochs on the small market with some settings of the losses."""

    def made(out="run", resume=False, **loss) -> TrainConfig:
        data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
        values = {**tiny, "out": str(tmp_path / out), "data": data, "epochs": 4, "resume": resume}
        return from_mapping(TrainConfig, {**values, "loss": {**tiny["loss"], **loss}})

    return made


@pytest.fixture
def fills(monkeypatch):
    """The epochs before which the bank was filled."""
    epochs, real = [], loop.fill_bank

    def noted(*arguments, epoch):
        epochs.append(epoch)
        return real(*arguments, epoch=epoch)

    monkeypatch.setattr(loop, "fill_bank", noted)
    return epochs


def csl_of(folder):
    return [line["csl"] for line in logged(folder, "epoch")]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({}, [1]),
        ({"bank_refill": 1}, [1, 2, 3, 4]),
        ({"bank_refill": 2, "csl_start": 2}, [2, 4]),
        ({"csl_start": 3}, [3]),
        ({"csl": 0.0, "psd": 0.0, "bank_refill": 1}, []),
    ],
)
def test_the_bank_is_filled_when_csl_begins_and_every_so_many_epochs(config, fills, loss, expected):
    start = loss.get("csl_start", 1)
    csl = csl_of(train(config(**loss)).model.parent)
    assert fills == expected
    assert csl[: start - 1] == [0.0] * (start - 1)
    assert all(each > 0 for each in csl[start - 1 :]) or not expected


def test_a_run_stopped_while_the_bank_is_filled_again_goes_on_the_same(config, monkeypatch):
    loss = {"bank_refill": 2, "bank_fill": "train"}
    whole = train(config("whole", **loss))
    real = loop.fill_bank
    monkeypatch.setattr(loop, "fill_bank", lambda *a, epoch: real(*a[:-1], lambda: epoch == 3, epoch=epoch))
    with pytest.raises(Interrupted, match="--resume"):
        train(config("parts", **loss))
    monkeypatch.undo()
    resumed = train(config("parts", resume=True, **loss))
    assert csl_of(resumed.model.parent) == csl_of(whole.model.parent)
    for name, tensor in pat.load(whole.model).state_dict().items():
        torch.testing.assert_close(pat.load(resumed.model).state_dict()[name], tensor, rtol=0, atol=0)


def test_a_bank_that_is_filled_in_training_mode_mixes_styles(config, monkeypatch):
    styles, real = [], PartAwareTransformer.features

    def features(self, images, regions=None, drop_path=None, style=None):
        if not torch.is_grad_enabled():
            styles.append(style)
        return real(self, images, regions, drop_path, style)

    monkeypatch.setattr(PartAwareTransformer, "features", features)
    mixing = AugmentConfig(mix_style=1.0)
    train(dataclasses.replace(config(bank_fill="train"), augment=mixing, epochs=1))
    assert styles
    assert None not in styles


def test_every_fill_in_training_mode_draws_anew(config, monkeypatch):
    drawn, real = [], bank_fill.draw

    def noted(*arguments):
        draws = real(*arguments)
        drawn.append(draws.regions)
        return draws

    monkeypatch.setattr(bank_fill, "draw", noted)
    train(dataclasses.replace(config(bank_fill="train", bank_refill=1), epochs=2))
    first, second = (torch.cat(half) for half in (drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]))
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_the_measured_scale_is_that_of_all_pairs_in_one_shard_or_two():
    values = 3 + torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    bank = MemoryBank(2, 9, 16)
    bank.fill(torch.arange(9), values)
    distance = torch.stack([torch.pdist(part.double()).square().mean() for part in values]).mean()
    assert measured_scale(bank, RANKS) == pytest.approx(UNRELATED / float(distance))

    shards = [MemoryBank(2, 9, 16, shard=shard) for shard in (range(4), range(4, 9))]
    for shard in shards:
        shard.fill(torch.arange(9), values)

    class Both(Ranks):
        """Adds what the other shard would send."""

        def sum(self, tensor):
            other = shards[1].features.double()
            return tensor + (other.sum(1) if tensor.dim() == 2 else other.square().sum((1, 2)))

    assert measured_scale(shards[0], Both(torch.device("cpu"))) == pytest.approx(measured_scale(bank, RANKS))


def test_a_given_scale_is_that_of_features_of_the_papers_width(config):
    made = config(scale=0.02)
    training = open_training_data(made.data, made.model.image_size, made.seed, SILENT).training
    assert build_state(made, training, RANKS, SILENT).csl_scale == pytest.approx(0.02 * 768 / 64)


def test_unrelated_features_have_the_papers_scale_and_equal_ones_none():
    bank = MemoryBank(1, 400, 768)
    normal = torch.randn(1, 400, 768, generator=torch.Generator().manual_seed(0))
    bank.fill(torch.arange(400), torch.nn.functional.layer_norm(normal, (768,)))
    assert measured_scale(bank, RANKS) == pytest.approx(0.02, rel=0.01)
    bank.fill(torch.arange(400), torch.ones(1, 400, 768))
    with pytest.raises(Failure, match=r"--loss\.scale 0 cannot be measured"):
        measured_scale(bank, RANKS)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_bank_moves_once_before_or_after_the_loss(config, when):
    made = config()
    torch.manual_seed(0)
    model = PartAwareTransformer(from_mapping(type(made.model), {**vars(made.model), "identities": 6})).train()
    bank = MemoryBank(3, 12, 64)
    bank.fill(torch.arange(12), torch.randn(3, 12, 64))
    old = MemoryBank(3, 12, 64)
    old.load_state_dict(bank.state_dict())
    slots, labels = torch.tensor([0, 4, 9]), torch.tensor([0, 2, 4])
    images = torch.rand(3, 3, 32, 16)
    draws = draw(model, Augmentation(made.augment, (32, 16)), 3, generator_of(0, 1, 1))
    losses = training_losses(
        *(model, bank, torch.arange(12) // 2, images, labels, slots, draws),
        *(LossConfig(k=3, bank_update=when), None, RANKS),
        scale=0.1,
    )
    losses.loss.backward()  # the bank may have moved since
    _, parts = model.features(images, draws.regions, draws.drop_path)
    parts = parts.detach().transpose(0, 1)
    if when == "before":
        old.update(slots, parts)
    expected, _ = cross_id_similarity(parts, old, slots, k=3, scale=0.1)
    if when == "after":
        old.update(slots, parts)
    torch.testing.assert_close(losses.csl.detach(), expected)
    torch.testing.assert_close(bank.features, old.features)
