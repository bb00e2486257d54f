"""The whole training step, in parts: the trainer's own, variants of it, and the authors' way.

    python -m pytest bench/test_train_step.py

On a GPU ViT-B in bfloat16, on a CPU ViT-S in float32; 64 images a step, a bank of Market-1501's size. The
images are drawn people, files of Market-1501's size; the bank begins with random features.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.authors.loader import ImageFiles, load_batches
from bench.authors.memory import ListMemory
from bench.authors.step import training_step as authors_training_step
from bench.work import bank_flops, network_flops
from kernels.timing import DEVICE, ON_GPU
from pat.base.progress import Progress
from pat.config import AugmentConfig, LossConfig, ModelConfig, TrainConfig
from pat.data.augment import Augmentation, AugmentDraw
from pat.data.batches import read_batches
from pat.data.cache import cached_images
from pat.data.sample import Sample
from pat.data.sampler import batches_of_epoch
from pat.data.sources import TrainingSet
from pat.device import resolve_loss, resolve_model
from pat.synthetic.flat import generate
from pat.training.distributed import Ranks
from pat.training.state import TrainingState, amp_dtype, build_state
from pat.training.step import Phase, training_step

MARKET, MSMT, IDENTITIES, BATCH, EPOCHS = 12_936, 32_621, 751, 64, 40
RANKS = Ranks(DEVICE)


def now() -> float:
    """Seconds when the device has done all that it was given."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


pytestmark = pytest.mark.benchmark(timer=now)


@dataclass(frozen=True)
class Setting:
    """Images, and the run whose steps are measured."""

    config: TrainConfig
    paths: list[Path]
    pixels: np.ndarray
    """uint8 [n, H, W, 3], of the drawn images: the first of the training set"""
    slots: int

    @property
    def training(self) -> TrainingSet:
        """Of `slots` images, whose drawn ones alone are ever read."""
        samples = [Sample(path, int(path.name[:4]), 0, "drawn") for path in self.paths]
        samples += [Sample(Path(str(slot)), 0, 0, "none") for slot in range(len(samples), self.slots)]
        labels = np.arange(self.slots) % IDENTITIES
        labels[: len(self.paths)] = [sample.identity - 1 for sample in samples[: len(self.paths)]]
        cameras = np.zeros(self.slots, dtype=np.int64)
        return TrainingSet(tuple(samples), labels, cameras, IDENTITIES, ("drawn",))

    def steps(self) -> np.ndarray:
        """Image indices of some epochs, int64 [S, B]."""
        training, config = self.training, self.config
        drawn = slice(len(self.paths))
        epochs = [
            batches_of_epoch(
                training.labels[drawn],
                training.cameras[drawn],
                identities=config.identities_per_batch,
                images=config.images_per_identity,
                spread_cameras=False,
                seed=0,
                epoch=epoch,
            )
            for epoch in range(EPOCHS)
        ]
        return np.concatenate(epochs)

    def state(self) -> TrainingState:
        state = build_state(self.config, self.training, RANKS, Progress())
        assert state.bank is not None
        generator = torch.Generator(DEVICE).manual_seed(0)
        for slots in torch.arange(self.slots, device=DEVICE).split(4096):
            features = torch.randn(3, len(slots), state.model.dim, generator=generator, device=DEVICE)
            state.bank.fill(slots, features)
        state.model.train()
        state.schedule.step(1)
        return state


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Path], np.ndarray]]:
    """512 images of 64 people: their files, and their pixels from the cache."""
    folder = tmp_path_factory.mktemp("people")
    generate(
        folder / "set",
        style="source",
        identities_train=64,
        identities_test=0,
        cameras=4,
        images_per_camera=2,
        workers=1,
    )
    paths = sorted((folder / "set").rglob("*.jpg"))
    yield paths, cached_images(paths, ModelConfig().image_size, folder / "cache").pixels
    shutil.rmtree(folder)


@pytest.fixture
def setting(drawn: tuple[list[Path], np.ndarray]) -> Callable[[int], Setting]:
    model = ModelConfig(backbone="vit_base_patch16_224" if ON_GPU else "vit_small_patch16_224", attention="auto")
    config = TrainConfig(
        weights="none",
        model=resolve_model(model, DEVICE),
        loss=resolve_loss(LossConfig(neighbours="auto"), DEVICE),
    )
    return lambda slots: Setting(config, *drawn, slots)


Step = Callable[[Phase], Tensor]


def ours(setting: Setting, state: TrainingState | None = None, augmentation: Augmentation | None = None) -> Step:
    """The step that `pat train` takes."""
    config, state = setting.config, state or setting.state()
    augmentation = augmentation or Augmentation(config.augment, config.model.image_size)
    batches = read_batches(setting.pixels, setting.training.labels, setting.steps(), DEVICE)
    number = itertools.count(1)

    def step(phase: Phase) -> Tensor:
        with phase("data"):
            batch = next(batches)
        return training_step(config, state, augmentation, batch, RANKS, epoch=1, step=next(number), phase=phase)

    return step


def plain_optimiser(setting: Setting) -> Step:
    return ours(setting, with_plain_optimiser(setting.state()))


def with_plain_optimiser(state: TrainingState) -> TrainingState:
    """The optimiser as PyTorch runs it where nobody asks for the fused one."""
    for group in state.optimiser.param_groups:
        group["fused"] = None
    return state


class ChannelsLast(Augmentation):
    """Images as they lie in the cache: [B, 3, H, W] with the channels of a pixel side by side."""

    def apply(self, pixels: Tensor, draw: AugmentDraw) -> Tensor:
        return super().apply(pixels, draw).contiguous(memory_format=torch.channels_last)


def channels_last(setting: Setting) -> Step:
    state = setting.state()
    state.model.to(memory_format=torch.channels_last)
    return ours(setting, state, ChannelsLast(AugmentConfig(), setting.config.model.image_size))


def compiled(setting: Setting, **how: Any) -> Step:
    """Skips where the network does not compile: the figures of the others are wanted all the same."""
    state = setting.state()
    state.model.features = torch.compile(state.model.features, **how)  # type: ignore[method-assign]
    try:
        ours(setting, state)(nullcontext)
    except Exception as error:  # of many kinds: compilers of C++ and Triton, graphs that cannot be captured
        pytest.skip(f"does not compile here: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return ours(setting, state)


def cuda_graphs(setting: Setting) -> Step:
    """Skips where the compiler gives a graph up and goes on without: the row would not be one of CUDA graphs."""
    from torch._dynamo.utils import counters

    before = counters["inductor"]["cudagraph_skips"]
    step = compiled(setting, mode="reduce-overhead")

    def captured(phase: Phase) -> Tensor:
        losses = step(phase)
        if skips := counters["inductor"]["cudagraph_skips"] - before:
            pytest.skip(f"no CUDA graph: {skips} captures were given up (TORCH_LOGS=cudagraphs says why)")
        return losses

    return captured


def authors(setting: Setting) -> Step:
    """Workers decode; memory as lists; see bench/authors."""
    state, training, config = with_plain_optimiser(setting.state()), setting.training, setting.config
    assert state.bank is not None
    memory = ListMemory(state.bank.features, [str(sample.path) for sample in training.samples])
    state.bank, labels = None, torch.from_numpy(training.labels)
    files = ImageFiles(setting.paths, training.labels, config.model.image_size)
    batches = iter(load_batches(files, setting.steps(), pinned=ON_GPU))

    def step(phase: Phase) -> Tensor:
        with phase("data"):
            batch = next(batches)
        return authors_training_step(config, state, memory, labels, batch, phase)

    return step


CASES: dict[str, tuple[Callable[[Setting], Step], int]] = {
    "ours": (ours, MARKET),
    "authors' way": (authors, MARKET),
    "ours, optimiser not fused": (plain_optimiser, MARKET),
    "ours, channels last": (channels_last, MARKET),
    "ours, compiled": (compiled, MARKET),
    **({"ours, CUDA graphs": (cuda_graphs, MARKET)} if ON_GPU else {}),
    "ours, bank of 32,621": (ours, MSMT),
}


@pytest.mark.parametrize("implementation", CASES)
def test_training_step(implementation, setting, measure_step):
    build, slots = CASES[implementation]
    chosen = setting(slots)
    model, amp = chosen.config.model, amp_dtype(chosen.config.amp, DEVICE)
    dim = 768 if ON_GPU else 384
    measure_step(
        lambda: build(chosen),
        images=BATCH,
        flops=BATCH * network_flops(model, IDENTITIES) + bank_flops(model.parts, slots, BATCH, dim),
        operation="training step",
        implementation=implementation.split(", bank")[0],
        shape=f"{model.backbone} B={BATCH} M={slots}",
        dtype=str(amp or torch.float32).removeprefix("torch."),
    )
