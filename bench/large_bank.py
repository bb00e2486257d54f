"""`python -m bench.large_bank`: the cross-ID step over a bank of a million slots, or of as many as you ask for.

Under torchrun the bank is shared: `torchrun --nproc-per-node 8 -m bench.large_bank --slots 10000000 --dim 768`.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time

import torch

from bench.device import device_name
from pat.losses import MemoryBank, cross_id_similarity
from pat.training.distributed import Ranks
from pat.training.job import joined

PARTS, K, SCALE = 3, 10, 0.02
FILLED = 1 << 14
"""Slots filled at a time."""


def main() -> None:
    """Fill the bank with random features, take a few steps, print time, memory and what is sent."""
    parser = argparse.ArgumentParser(prog="python -m bench.large_bank", description=main.__doc__)
    parser.add_argument("--slots", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64, help="images of the global batch")
    parser.add_argument("--steps", type=int, default=5, help="steps measured, after one that is not")
    parser.add_argument("--read", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    with joined("auto", timeout=600) as ranks:
        shard = ranks.shard(options.slots)
        read = getattr(torch, options.read)
        bank = MemoryBank(PARTS, options.slots, options.dim, read_dtype=read, shard=shard).to(ranks.device)
        filling = -time.perf_counter()
        fill(bank, ranks.device)
        filling += time.perf_counter()
        steps = [step(bank, number, options.batch, ranks) for number in range(options.steps + 1)]
        if ranks.first:
            report(options, ranks, bank, filling, steps[1:])


def fill(bank: MemoryBank, device: torch.device) -> None:
    """Random features; a slot has the same ones whatever the number of ranks."""
    dim = bank.features.shape[-1]
    for start in range(0, bank.size, FILLED):
        slots = torch.arange(start, min(start + FILLED, bank.size), device=device)
        if slots[-1] >= bank.shard.start and slots[0] < bank.shard.stop:
            generator = torch.Generator(device).manual_seed(start)
            bank.fill(slots, torch.randn(PARTS, len(slots), dim, generator=generator, device=device) * 0.3)


def step(bank: MemoryBank, number: int, batch: int, ranks: Ranks) -> tuple[float, float]:
    """Seconds and loss of one step as training takes it: gather, bank update, search, merge, gradient."""
    device, dim, rows = ranks.device, bank.features.shape[-1], ranks.rows(batch)
    generator = torch.Generator().manual_seed(number)
    slots = torch.randint(bank.size, (batch,), generator=generator).to(device)
    features = (torch.randn(batch, PARTS, dim, generator=generator) * 0.3).to(device)[rows].requires_grad_()
    ranks.any(False)  # all start together
    started = time.perf_counter()
    (everyones,) = ranks.gather(features)
    parts = everyones.transpose(0, 1)  # [P, B, D]
    bank.update(slots, parts)
    impl = "triton" if device.type == "cuda" else "reference"
    scale = SCALE * 768 / dim
    loss, _ = cross_id_similarity(parts, bank, slots, k=K, scale=scale, impl=impl, merge=ranks.merge)  # type: ignore[arg-type]
    (loss / ranks.count).backward()
    value = loss.item()
    assert features.grad is not None
    features.grad.sum().item()  # waits for a GPU
    ranks.any(False)
    return time.perf_counter() - started, value


def report(
    options: argparse.Namespace, ranks: Ranks, bank: MemoryBank, filling: float, steps: list[tuple[float, float]]
) -> None:
    """What the first rank measured, and what a step sends, counted from shapes."""
    seconds = [each for each, _ in steps]
    held = sum(buffer.nbytes for buffer in bank.buffers())
    if ranks.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    features = options.batch // ranks.count * PARTS * options.dim * 4
    found = PARTS * options.batch * (4 * (1 + K) + 8 * K)
    print(f"device              {device_name()}, {ranks.count} ranks, {torch.get_num_threads()} threads each")
    print(f"bank                {PARTS} x {options.slots} x {options.dim}, read as {options.read}")
    print(f"bank of this rank   {held / 1e9:.2f} GB; peak memory of the process {peak / 1e9:.2f} GB")
    print(f"filled in           {filling:.1f} s")
    middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
    print(f"step                {middle:.2f} s median ({least:.2f} to {most:.2f})")
    print(f"sent by a rank      {features / 1e3:.0f} kB of features, {found / 1e3:.1f} kB of neighbours and sums")
    print(f"loss                {steps[-1][1]:.6f}")


if __name__ == "__main__":
    main()
