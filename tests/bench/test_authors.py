"""The authors' way and ours take the same step on the same images, regions and depths."""

import numpy as np
import pytest
import torch

from bench.authors import network
from bench.authors.loader import ImageFiles, load_batches
from bench.authors.memory import ListMemory, soft_targets
from bench.authors.step import training_losses as authors_losses
from bench.authors.step import training_step as authors_step
from kernels.part_attention.reference import visibility
from pat import losses
from pat.base.mapping import from_mapping
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.data.augment import Augmentation
from pat.data.sample import Sample
from pat.data.sources import TrainingSet
from pat.model.regions import random_regions
from pat.training.distributed import Ranks
from pat.training.draws import draw, generator_of
from pat.training.state import TrainingState, build_state
from pat.training.step import training_losses

SLOTS, BATCH = 40, 6
RANKS = Ranks(torch.device("cpu"))


@pytest.fixture
def config(tiny) -> TrainConfig:
    # Half of the deep branches are dropped, so that a factor in the wrong place would show.
    # The authors draw one set of regions for a batch; ours can do so too.
    model, augment = {**tiny["model"], "drop_path": 0.5}, {**tiny["augment"], "regions": "batch"}
    return from_mapping(TrainConfig, {**tiny, "model": model, "augment": augment})


@pytest.fixture
def training(market) -> TrainingSet:
    paths = sorted((market / "bounding_box_train").iterdir())
    labels = np.array([int(path.name[:4]) - 1 for path in paths])
    samples = tuple(Sample(path, int(path.name[:4]), 0, "market") for path in paths)
    return TrainingSet(samples, labels, np.zeros(len(paths), np.int64), 6, ("market",))


def state_of(config: TrainConfig, training: TrainingSet) -> TrainingState:
    state = build_state(config, training, RANKS, Progress())
    assert state.bank is not None
    slots = torch.arange(len(training))
    state.bank.fill(slots, torch.randn(3, len(slots), 64, generator=torch.Generator().manual_seed(1)))
    state.model.train()
    return state


def test_losses_gradients_and_memory_are_those_of_our_step(config, training):
    ours, theirs = state_of(config, training), state_of(config, training)
    memory = ListMemory(theirs.bank.features, [str(sample.path) for sample in training.samples])
    images = torch.rand(BATCH, 3, 32, 16, generator=torch.Generator().manual_seed(2))
    slots = torch.tensor([3, 11, 7, 30, 22, 14])
    labels = torch.from_numpy(training.labels)[slots]
    augmentation = Augmentation(config.augment, (32, 16))
    one_region = config.augment.regions == "batch"
    draws = draw(ours.model, augmentation, BATCH, generator_of(0, 1, 1), one_region=one_region)
    assert draws.drop_path is not None
    assert (draws.drop_path == 0).any()

    our_losses = training_losses(
        *(ours.model, ours.bank, ours.bank_labels, images, labels, slots, draws, config.loss, None, RANKS),
        scale=ours.csl_scale,
    )
    paths = [str(training.samples[slot].path) for slot in slots]
    known = torch.from_numpy(training.labels)
    their_losses = authors_losses(
        theirs.model, memory, known, images, labels, paths, draws.regions[0], draws.drop_path, config.loss, None
    )
    torch.testing.assert_close(their_losses.row(), our_losses.row(), rtol=1e-4, atol=1e-5)
    our_losses.loss.backward()
    their_losses.loss.backward()
    for (name, one), two in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        if one.grad is not None and one.numel():
            assert (two.grad - one.grad).norm() < 5e-4 * one.grad.norm(), name
    torch.testing.assert_close(torch.stack([torch.stack(part) for part in memory.parts]), ours.bank.features)


def test_masks_and_soft_targets_are_the_same():
    bands = torch.tensor([[[0, 4, 0, 4], [2, 6, 0, 4], [4, 8, 0, 4]]], dtype=torch.int32)
    regions = random_regions(bands, 5, torch.Generator().manual_seed(0))
    masks = torch.stack([network.mask(image, (8, 4)) for image in regions])
    assert torch.equal(masks, visibility(regions, (8, 4), 36))

    labels, own = torch.arange(SLOTS) % 7, torch.tensor([1, 5])
    neighbours = torch.randint(0, SLOTS, (3, 2, 4), generator=torch.Generator().manual_seed(0))
    expected = losses.soft_targets(neighbours, labels, own, 7, 0.5)
    found = soft_targets(neighbours, labels, own, 7, 0.5)
    torch.testing.assert_close(found, expected)


def test_a_step_from_files_moves_the_weights(config, training):
    state = state_of(config, training)
    before = state.model.blocks[0].attn.qkv.weight.clone()
    memory = ListMemory(state.bank.features, [str(sample.path) for sample in training.samples])
    files = ImageFiles([sample.path for sample in training.samples], training.labels, (32, 16))
    (batch,) = load_batches(files, np.array([[0, 1, 8, 9, 20, 21]]), pinned=False)
    images, labels, paths = batch
    assert images.shape == (6, 3, 32, 16)
    assert labels.tolist() == training.labels[[0, 1, 8, 9, 20, 21]].tolist()
    assert list(paths) == [str(training.samples[index].path) for index in (0, 1, 8, 9, 20, 21)]
    assert authors_step(config, state, memory, torch.from_numpy(training.labels), batch).isfinite().all()
    assert not torch.equal(state.model.blocks[0].attn.qkv.weight, before)
