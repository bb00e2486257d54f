"""The cross-ID step (memory update, loss, gradient) over 32,621 images: ours and the authors' way, in one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch

from bench.authors.memory import ListMemory
from bench.authors.memory import cross_id_similarity as authors_similarity
from bench.measure import Work
from kernels.timing import CLOCK, DEVICE, ON_GPU
from pat.losses import MemoryBank, cross_id_similarity

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

PARTS, IMAGES, BATCH, DIM, K, SCALE = 3, 32_621, 64, 768, 10, 0.02
SHAPE = f"P={PARTS} M={IMAGES} B={BATCH} D={DIM} K={K}"
WORK = Work(
    bytes=PARTS * IMAGES * DIM * 4,  # the bank, once
    flops=4 * PARTS * BATCH * IMAGES * DIM,  # distances, then the average that the gradient needs
)
Step = Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bank [P, M, D], features [P, B, D] near some of its slots, and these slots [B]."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(PARTS, IMAGES, DIM, generator=generator) * 0.3
    indices = torch.randperm(IMAGES, generator=generator)[:BATCH]
    features = bank[:, indices] + torch.randn(PARTS, BATCH, DIM, generator=generator) * 0.1
    return bank.to(DEVICE), features.to(DEVICE), indices.to(DEVICE)


def our_step(bank: torch.Tensor, features: torch.Tensor, indices: torch.Tensor) -> Step:
    memory = MemoryBank(PARTS, IMAGES, DIM).to(DEVICE)
    for start in range(0, IMAGES, 4096):
        slots = torch.arange(start, min(start + 4096, IMAGES), device=DEVICE)
        memory.fill(slots, bank[:, slots])
    features = features.clone().requires_grad_()

    impl: Literal["triton", "reference"] = "triton" if ON_GPU else "reference"

    def step() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        memory.update(indices, features)
        loss, neighbours = cross_id_similarity(features, memory, indices, k=K, scale=SCALE, impl=impl)
        (gradient,) = torch.autograd.grad(loss, features)
        return loss.detach(), gradient, neighbours

    return step


def authors_step(bank: torch.Tensor, features: torch.Tensor, indices: torch.Tensor) -> Step:
    memory = ListMemory(bank, range(IMAGES))
    features = features.clone().requires_grad_()

    def step() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        keys = indices.tolist()
        memory.update(keys, features)
        loss, neighbours = authors_similarity(features, memory, keys, k=K, scale=SCALE)
        (gradient,) = torch.autograd.grad(loss, features)
        return loss.detach(), gradient, neighbours.to(DEVICE)

    return step


STEPS = {"ours": our_step, "authors": authors_step}


@pytest.mark.parametrize("implementation", STEPS)
def test_csl_step(implementation, data, measure):
    measure(
        STEPS[implementation](*data),
        WORK,
        operation="CSL step",
        implementation=implementation,
        shape=SHAPE,
        dtype="float32",
    )


def test_both_ways_give_the_same_step(data):
    (loss, gradient, neighbours), (their_loss, their_gradient, their_neighbours) = (
        step(*data)() for step in STEPS.values()
    )
    torch.testing.assert_close(loss, their_loss, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-3, atol=1e-6)
    assert (neighbours == their_neighbours).float().mean() > 0.999  # near ties may swap
