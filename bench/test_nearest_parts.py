"""Memory-bank neighbours and logsumexp against matmul + topk + logsumexp, and against a full sort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from bench.measure import Work
from kernels.cases import NEAREST_PARTS_LARGE
from kernels.nearest_parts import nearest_parts
from kernels.timing import CLOCK, DEVICE, ON_GPU

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

SCALE = 0.02
CASES = NEAREST_PARTS_LARGE if ON_GPU else [replace(NEAREST_PARTS_LARGE[0], slots=4096)]
DTYPES = [torch.bfloat16, torch.float32] if ON_GPU else [torch.float32]
Found = tuple[Tensor, Tensor, Tensor]  # log_sum [P, B], distances [P, B, K], indices [P, B, K]
Search = Callable[[Tensor, Tensor, Tensor, Tensor, int], Found]  # query, bank, squared norms, own slots, K


def ours(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Found:
    impl: Literal["triton", "reference"] = "triton" if ON_GPU else "reference"
    return nearest_parts(query, bank, own, k=k, scale=SCALE, squared_norms=norms, impl=impl)


def all_distances(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Tensor:
    """Squared distances to every slot, float32 [P, B, M]; +inf to the own one."""
    products = (query.to(bank.dtype) @ bank.mT).float()
    distances = query.float().square().sum(-1, keepdim=True) + norms[:, None] - 2 * products
    return distances.index_put((*_own(query, own),), distances.new_tensor(torch.inf))


def _own(query: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    part, image = (torch.arange(size, device=query.device) for size in query.shape[:2])
    return part[:, None], image[None, :], own[None, :]


def topk(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Found:
    distances = all_distances(query, bank, norms, own)
    nearest, indices = distances.topk(k, largest=False)
    return torch.logsumexp(-SCALE * distances, -1), nearest, indices


def sort(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Found:
    ordered, order = all_distances(query, bank, norms, own).sort(-1)
    return torch.logsumexp(-SCALE * ordered, -1), ordered[..., :k], order[..., :k]


IMPLEMENTATIONS: dict[str, Search] = {"ours": ours, "matmul + topk + logsumexp": topk, "full sort": sort}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nearest_parts(case, dtype, backward, implementation, measure):
    generator = torch.Generator().manual_seed(0)
    bank = (torch.randn(case.parts, case.slots, case.dim, generator=generator) * 0.3).to(DEVICE, dtype)
    own = torch.randperm(case.slots, generator=generator)[: case.batch].to(DEVICE)
    noise = torch.randn(case.parts, case.batch, case.dim, generator=generator).to(DEVICE) * 0.1
    query = bank[:, own].float() + noise  # [P, B, D]
    norms = bank.float().square().sum(-1)  # [P, M]
    search = IMPLEMENTATIONS[implementation]
    check(search, query, bank, norms, own, case.k)

    read = bank.numel() * dtype.itemsize
    products = 2 * bank.numel() * case.batch
    if backward:
        query.requires_grad_()

        def function() -> object:
            log_sum, distances, _ = search(query, bank, norms, own, case.k)
            return torch.autograd.grad((log_sum + torch.logsumexp(-SCALE * distances, -1)).sum(), query)
    else:

        def function() -> object:
            return search(query, bank, norms, own, case.k)

    measure(
        function,
        Work(bytes=read, flops=products * (2 if backward else 1)),  # the floor: the bank is read once
        operation="nearest parts " + ("forward+backward" if backward else "forward"),
        implementation=implementation,
        shape=f"P={case.parts} M={case.slots} B={case.batch} D={case.dim} K={case.k}",
        dtype=str(dtype).removeprefix("torch."),
    )


def check(search: Search, query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> None:
    """What is about to be timed computes the right thing."""
    expected = nearest_parts(query[:, :4].double(), bank.double(), own[:4], k=k, scale=SCALE, impl="reference")
    log_sum, distances, _ = search(query, bank, norms, own, k)
    torch.testing.assert_close(log_sum[:, :4].double(), expected.log_sum, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(distances[:, :4].double(), expected.distances, rtol=2e-2, atol=0.2)
