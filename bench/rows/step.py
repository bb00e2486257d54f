"""The training step in parts, and the cross-ID step (memory update, loss, gradient): ours, the authors' way."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bench.authors.memory import ListMemory
from bench.authors.memory import cross_id_similarity as authors_similarity
from bench.measure import Work, watch_memory
from bench.phases import Phases
from bench.results import Row, quantiles, rows
from bench.rows import training
from bench.rows.plan import Ready, RowPlan, checked, dtype_name, kernel_plan, relative_error, sizes
from bench.rows.training import Setting, Step
from bench.work import bank_flops, network_flops
from kernels.timing import DEVICE, INTERPRETED, ON_GPU
from pat.losses import MemoryBank, cross_id_similarity
from pat.training.state import amp_dtype

(MARKET,), (MSMT,) = sizes([12_936], [12_936], [40]), sizes([32_621], [32_621], [50])
ROUNDS, STEPS_OF_A_ROUND = (5, 10) if ON_GPU else (1, 1) if INTERPRETED else (3, 1)
(PARTS, BATCH, DIM, K), SCALE = sizes([(3, 64, 768, 10)], [(3, 64, 768, 10)], [(2, 4, 64, 3)])[0], 0.02

STEPS: dict[str, tuple[Callable[[Setting], Step], int, int]] = {
    "ours": (training.ours, MARKET, 1),
    "authors' way": (training.authors, MARKET, 1),
    "ours, compiled": (training.compiled, MARKET, 2),
}
"""Name -> how the step is made, slots of the bank, priority."""

if not INTERPRETED:
    STEPS |= {
        "ours, bank of 32,621": (training.ours, MSMT, 2),
        "ours, optimiser not fused": (training.plain_optimiser, MARKET, 3),
        "ours, channels last": (training.channels_last, MARKET, 3),
    }
if ON_GPU:
    STEPS["ours, CUDA graphs"] = (training.cuda_graphs, MARKET, 2)
    STEPS["ours, compiled, max-autotune-no-cudagraphs"] = (
        functools.partial(training.compiled, mode="max-autotune-no-cudagraphs"), MARKET, 4
    )  # fmt: skip


def plans() -> list[RowPlan]:
    config = training.run_config()
    dtype = dtype_name(amp_dtype(config.amp, DEVICE) or torch.float32)
    batch = config.identities_per_batch * config.images_per_identity
    shape = f"P={PARTS} M={MSMT} B={BATCH} D={DIM} K={K}"
    found = [
        kernel_plan(priority, "CSL step", shape, read, name, functools.partial(prepare_csl, way, read))
        for name, way, read, priority in CSL_STEPS
    ]
    for name, (build, slots, priority) in STEPS.items():
        shape, run = f"{config.model.backbone} B={batch} M={slots}", functools.partial(run_step, build, slots)
        found.append(RowPlan("training step", shape, dtype, name.split(", bank")[0], priority, run))
    return found


def run_step(build: Callable[[Setting], Step], slots: int, facts: dict[str, str], _: Path) -> list[Row]:
    """A training step and its phases. Peak memory counts from before the run's state is made."""
    chosen = training.setting(slots)
    model = chosen.config.model
    watched, phases = watch_memory(), Phases()
    step = build(chosen)

    def take() -> None:
        with phases.step():
            step(phases)

    for _warmup in range(3 if ON_GPU else 1):  # compiles, starts workers, makes the optimiser's state
        take()
    taken = []
    for _round in range(ROUNDS):
        begun = now()
        for _step in range(STEPS_OF_A_ROUND):
            take()
        taken.append((now() - begun) / STEPS_OF_A_ROUND)
    flops = chosen.batch * network_flops(model, training.IDENTITIES)
    flops += bank_flops(model.parts, slots, chosen.batch, model.width or (768 if ON_GPU else 384))
    found = phases.seconds(ROUNDS * STEPS_OF_A_ROUND)
    rates = {
        "images_per_second": chosen.batch / statistics.median(taken),
        "teraflops": flops / statistics.median(taken) / 1e12,
        "peak_memory": watched(),
        "phases": {name: quantiles(values) for name, values in found.items()},
    }
    return rows({**facts, **rates}, quantiles(taken))


def now() -> float:
    """Seconds when the device has done all that it was given."""
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


CSLStep = Callable[[], tuple[Tensor, Tensor, Tensor]]


def our_csl_step(bank: Tensor, features: Tensor, indices: Tensor, read: torch.dtype) -> CSLStep:
    memory = MemoryBank(PARTS, MSMT, DIM, read_dtype=read).to(DEVICE)
    for start in range(0, MSMT, 4096):
        slots = torch.arange(start, min(start + 4096, MSMT), device=DEVICE)
        memory.fill(slots, bank[:, slots])
    features = features.clone().requires_grad_()
    impl = "triton" if ON_GPU or INTERPRETED else "reference"

    def step() -> tuple[Tensor, Tensor, Tensor]:
        memory.update(indices, features)
        loss, neighbours = cross_id_similarity(features, memory, indices, k=K, scale=SCALE, impl=impl)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, features)
        return loss.detach(), gradient, neighbours

    return step


def authors_csl_step(bank: Tensor, features: Tensor, indices: Tensor, _: torch.dtype) -> CSLStep:
    memory = ListMemory(bank, range(MSMT))
    features = features.clone().requires_grad_()

    def step() -> tuple[Tensor, Tensor, Tensor]:
        keys = indices.tolist()
        memory.update(keys, features)
        loss, neighbours = authors_similarity(features, memory, keys, k=K, scale=SCALE)
        (gradient,) = torch.autograd.grad(loss, features)
        return loss.detach(), gradient, neighbours.to(DEVICE)

    return step


CSL_STEPS = (
    ("ours", our_csl_step, torch.bfloat16, 0),
    ("ours", our_csl_step, torch.float32, 1),
    ("authors", authors_csl_step, torch.float32, 1),
)


def prepare_csl(way: Callable[..., CSLStep], read: torch.dtype) -> Ready:
    """A random bank, features near some of its slots; the first step's loss and gradient against float64."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    bank = torch.randn(PARTS, MSMT, DIM, generator=generator, device=DEVICE) * 0.3
    indices = torch.randperm(MSMT, generator=generator, device=DEVICE)[:BATCH]
    features = bank[:, indices] + torch.randn(PARTS, BATCH, DIM, generator=generator, device=DEVICE) * 0.1
    step = way(bank, features, indices, read)
    loss, gradient, _ = step()

    exact = MemoryBank(PARTS, MSMT, DIM).to(DEVICE, torch.float64)
    exact.fill(torch.arange(MSMT, device=DEVICE), bank)
    leaf = features.double().requires_grad_()
    exact.update(indices, leaf)
    true_loss, _ = cross_id_similarity(leaf, exact, indices, k=K, scale=SCALE)
    (true_gradient,) = torch.autograd.grad(true_loss, leaf)
    work = Work(
        bytes=PARTS * MSMT * DIM * read.itemsize,  # the bank, once
        flops=4 * PARTS * BATCH * MSMT * DIM,  # distances, then the average that the gradient needs
    )
    return Ready(
        step, work, checked(read, relative_error(loss, true_loss), relative_error(gradient, true_gradient))
    )
