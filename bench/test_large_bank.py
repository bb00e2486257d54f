"""The cross-ID step over a million slots: the whole bank, and the shard of one rank of four. `-m slow`, 4 GB.

Run it alone (`pytest bench/test_large_bank.py -m slow`): memory is read off the process.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Literal

import pytest
import torch

from bench.measure import Work
from kernels.nearest_parts import NearestParts, merge_nearest
from kernels.timing import CLOCK, DEVICE, ON_GPU
from pat.losses import MemoryBank, cross_id_similarity

pytestmark = [pytest.mark.slow, pytest.mark.benchmark(timer=CLOCK.now)]

PARTS, SLOTS, BATCH, DIM, K, SCALE = 3, 1_000_000, 64, 128, 10, 0.12
RANKS = 4
PIECE = 1 << 14
IMPL: Literal["triton", "reference"] = "triton" if ON_GPU else "reference"
Features = tuple[torch.Tensor, torch.Tensor]
Merge = Callable[[NearestParts], NearestParts]
Step = Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def slots_of(start: int, stop: int) -> torch.Tensor:
    """[P, stop - start, D] of a bank that is the same however it is cut into pieces of PIECE."""
    generator = torch.Generator().manual_seed(start)
    return (torch.randn(PARTS, PIECE, DIM, generator=generator) * 0.3)[:, : stop - start]


def bank_of(shard: range) -> MemoryBank:
    bank = MemoryBank(PARTS, SLOTS, DIM, shard=shard).to(DEVICE)
    for start in range(shard.start // PIECE * PIECE, shard.stop, PIECE):  # slots of other shards are left to them
        stop = min(start + PIECE, SLOTS)
        bank.fill(torch.arange(start, stop, device=DEVICE), slots_of(start, stop).to(DEVICE))
    return bank


def shards() -> list[range]:
    return [range(SLOTS * rank // RANKS, SLOTS * (rank + 1) // RANKS) for rank in range(RANKS)]


@pytest.fixture(scope="module")
def batch() -> Features:
    """Features [P, B, D] with gradient, and the slots [B] of their images, in all shards."""
    generator = torch.Generator().manual_seed(1)
    indices = torch.randperm(SLOTS, generator=generator)[:BATCH]
    features = torch.randn(PARTS, BATCH, DIM, generator=generator) * 0.3
    return features.to(DEVICE).requires_grad_(), indices.to(DEVICE)


def most_memory() -> int:
    """Bytes that this process had resident at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def csl_step(bank: MemoryBank, batch: Features, merge: Merge | None = None) -> Step:
    """Update, loss and gradient: loss [], gradient [P, B, D], neighbours [P, B, k]."""
    features, indices = batch

    def step() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        bank.update(indices, features)
        loss, neighbours = cross_id_similarity(features, bank, indices, k=K, scale=SCALE, impl=IMPL, merge=merge)
        (gradient,) = torch.autograd.grad(loss, features)
        return loss.detach(), gradient, neighbours

    return step


@pytest.mark.parametrize("ranks", [RANKS, 1])  # the small one first: the most memory a process had never sinks
def test_csl_step_over_a_large_bank(ranks, batch, measure, benchmark):
    bank = bank_of(shards()[0] if ranks > 1 else range(SLOTS))
    held = bank.features.nbytes + bank.squared_norms.nbytes
    before = most_memory()
    measure(
        csl_step(bank, batch),
        Work(bytes=held, flops=4 * BATCH * bank.features.numel()),
        operation="CSL step",
        implementation="whole bank" if ranks == 1 else f"shard of one of {ranks} ranks",
        shape=f"P={PARTS} M={SLOTS} B={BATCH} D={DIM} K={K}",
        dtype="float32",
    )
    benchmark.extra_info.update(bank_bytes=held, most_resident_bytes=most_memory())
    print(
        f"\nbank {held / 1e9:.3f} GB; resident at most {before / 1e9:.3f} GB, with steps {most_memory() / 1e9:.3f}"
    )


def test_four_shards_give_the_step_of_the_whole_bank(batch):
    features, indices = batch
    loss, gradient, neighbours = csl_step(bank_of(range(SLOTS)), batch)()
    found: list[NearestParts] = []

    def merge(own: NearestParts) -> NearestParts:
        found.append(own)
        return merge_nearest(found)

    for shard in shards():  # after the last one the loss is that of all, and differentiates through all
        bank = bank_of(shard)
        bank.update(indices, features)
        merged, nearest = cross_id_similarity(features, bank, indices, k=K, scale=SCALE, impl=IMPL, merge=merge)
    torch.testing.assert_close(merged.detach(), loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(merged, features)[0], gradient, rtol=1e-4, atol=1e-7)
    assert (nearest == neighbours).float().mean() > 0.999  # near ties may swap
