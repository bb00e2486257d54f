"""The whole training step, ready to be taken: the trainer's own, variants of it, and the authors' way.

On a GPU ViT-B in bfloat16, on a CPU ViT-S in float32; 64 images a step, a bank of Market-1501's size. The images
are synthetic people, files of Market-1501's size; the bank begins with random features.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.authors.loader import ImageFiles, load_batches
from bench.authors.memory import ListMemory
from bench.authors.step import training_step as authors_training_step
from kernels.timing import DEVICE, INTERPRETED, ON_GPU
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
from pat.training.state import TrainingState, build_state
from pat.training.step import Phase, training_step

IDENTITIES, EPOCHS = 751, 40
RANKS = Ranks(DEVICE)
Step = Callable[[Phase], Tensor]


@dataclass(frozen=True)
class Setting:
    """Images, and the run whose steps are measured."""

    config: TrainConfig
    paths: list[Path]
    pixels: np.ndarray
    """uint8 [n, H, W, 3], of the synthetic images: the first of the training set"""
    slots: int

    @property
    def batch(self) -> int:
        return self.config.identities_per_batch * self.config.images_per_identity

    @property
    def training(self) -> TrainingSet:
        """Of `slots` images, whose synthetic ones alone are ever read."""
        samples = [Sample(path, int(path.name[:4]), 0, "synthetic") for path in self.paths]
        samples += [Sample(Path(str(slot)), 0, 0, "none") for slot in range(len(samples), self.slots)]
        labels = np.arange(self.slots) % IDENTITIES
        labels[: len(self.paths)] = [sample.identity - 1 for sample in samples[: len(self.paths)]]
        cameras = np.zeros(self.slots, dtype=np.int64)
        return TrainingSet(tuple(samples), labels, cameras, IDENTITIES, ("synthetic",))

    def steps(self) -> np.ndarray:
        """Image indices of some epochs, int64 [S, B]."""
        training, config = self.training, self.config
        synthetic = slice(len(self.paths))
        epoch = functools.partial(
            batches_of_epoch, training.labels[synthetic], training.cameras[synthetic], spread_cameras=False,
            seed=0, identities=config.identities_per_batch, images=config.images_per_identity,
        )  # fmt: skip
        return np.concatenate([epoch(epoch=number) for number in range(EPOCHS)])

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


def run_config() -> TrainConfig:
    """The defaults of `pat train` on this device; a network of two thin blocks in Triton's interpreter."""
    if INTERPRETED:
        size = {"patch_size": 8, "width": 32, "depth": 1, "heads": 1}
        return TrainConfig(
            weights="none", identities_per_batch=2, images_per_identity=2,
            model=ModelConfig("vit_tiny_patch16_224", (32, 16), attention="triton", **size),  # type: ignore[arg-type]
            loss=LossConfig(neighbours="triton", k=3), augment=AugmentConfig(pad=2),
        )  # fmt: skip
    model = ModelConfig(backbone="vit_base_patch16_224" if ON_GPU else "vit_small_patch16_224", attention="auto")
    loss = LossConfig(neighbours="auto", bank_read="auto")
    return TrainConfig(weights="none", model=resolve_model(model, DEVICE), loss=resolve_loss(loss, DEVICE))


@functools.cache
def images() -> tuple[list[Path], np.ndarray]:
    """Images of synthetic people, 512 of 64: their files, and their pixels from the cache. Gone at exit."""
    folder = Path(tempfile.mkdtemp(prefix="pat-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    generate(
        folder / "set", style="source", identities_train=4 if INTERPRETED else 64, identities_test=0, cameras=4,
        images_per_camera=2, workers=1,
    )  # fmt: skip
    paths = sorted((folder / "set").rglob("*.jpg"))
    return paths, cached_images(paths, run_config().model.image_size, folder / "cache").pixels


def setting(slots: int) -> Setting:
    return Setting(run_config(), *images(), slots)


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


def not_fused(state: TrainingState) -> TrainingState:
    """The optimiser as PyTorch runs it where nobody asks for the fused one."""
    for group in state.optimiser.param_groups:
        group["fused"] = None
    return state


def plain_optimiser(setting: Setting) -> Step:
    return ours(setting, not_fused(setting.state()))


class ChannelsLast(Augmentation):
    """Images as they lie in the cache: [B, 3, H, W] with the channels of a pixel side by side."""

    def apply(self, pixels: Tensor, draw: AugmentDraw) -> Tensor:
        return super().apply(pixels, draw).contiguous(memory_format=torch.channels_last)


def channels_last(setting: Setting) -> Step:
    state = setting.state()
    state.model.to(memory_format=torch.channels_last)
    return ours(setting, state, ChannelsLast(setting.config.augment, setting.config.model.image_size))


def compiled(setting: Setting, mode: str | None = None) -> Step:
    """The network compiled, by the default or another mode of torch.compile."""
    torch._dynamo.reset()
    state = setting.state()
    how: dict[str, str] = {"backend": "aot_eager"} if INTERPRETED else {"mode": mode} if mode else {}
    state.model.features = torch.compile(state.model.features, **how)  # type: ignore[method-assign, call-overload]
    return ours(setting, state)


def cuda_graphs(setting: Setting) -> Step:
    """Raises where the compiler gives a graph up and goes on without: the row would not be one of CUDA graphs."""
    from torch._dynamo.utils import counters

    before = counters["inductor"]["cudagraph_skips"]
    step = compiled(setting, "reduce-overhead")

    def captured(phase: Phase) -> Tensor:
        losses = step(phase)
        if skips := counters["inductor"]["cudagraph_skips"] - before:
            raise RuntimeError(f"no CUDA graph: {skips} captures were given up (TORCH_LOGS=cudagraphs says why)")
        return losses

    return captured


def authors(setting: Setting) -> Step:
    """Workers decode; memory as lists; see bench/authors."""
    state, training, config = not_fused(setting.state()), setting.training, setting.config
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
