"""Memory-bank neighbours and logsumexp against matmul + topk + logsumexp, and against a full sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from bench.measure import CLOCK, DEVICE, ON_GPU, Work
from kernels.nearest_parts import nearest_parts

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

PARTS, BATCH, DIM, K, SCALE = 3, 64, 768, 10, 0.02
IMAGES = [12_936, 32_621] if ON_GPU else [4096]  # Market-1501, MSMT17
DTYPES = [torch.bfloat16, torch.float32] if ON_GPU else [torch.float32]
Found = tuple[Tensor, Tensor, Tensor]  # log_sum [P, B], distances [P, B, K], indices [P, B, K]
Search = Callable[[Tensor, Tensor, Tensor, Tensor], Found]  # query, bank, squared norms, own slots


def ours(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Found:
    impl: Literal["triton", "reference"] = "triton" if ON_GPU else "reference"
    return nearest_parts(query, bank, own, k=K, scale=SCALE, squared_norms=norms, impl=impl)


def all_distances(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Tensor:
    """Squared distances to every slot, float32 [P, B, M]; +inf to the own one."""
    products = (query.to(bank.dtype) @ bank.mT).float()
    distances = query.float().square().sum(-1, keepdim=True) + norms[:, None] - 2 * products
    return distances.index_put((*_own(query, own),), distances.new_tensor(torch.inf))


def _own(query: Tensor, own: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    part, image = (torch.arange(size, device=query.device) for size in query.shape[:2])
    return part[:, None], image[None, :], own[None, :]


def topk(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Found:
    distances = all_distances(query, bank, norms, own)
    nearest, indices = distances.topk(K, largest=False)
    return torch.logsumexp(-SCALE * distances, -1), nearest, indices


def sort(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Found:
    ordered, order = all_distances(query, bank, norms, own).sort(-1)
    return torch.logsumexp(-SCALE * ordered, -1), ordered[..., :K], order[..., :K]


IMPLEMENTATIONS: dict[str, Search] = {"ours": ours, "matmul + topk + logsumexp": topk, "full sort": sort}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("images", IMAGES)
def test_nearest_parts(images, dtype, backward, implementation, measure):
    generator = torch.Generator().manual_seed(0)
    bank = (torch.randn(PARTS, images, DIM, generator=generator) * 0.3).to(DEVICE, dtype)
    own = torch.randperm(images, generator=generator)[:BATCH].to(DEVICE)
    noise = torch.randn(PARTS, BATCH, DIM, generator=generator).to(DEVICE) * 0.1
    query = bank[:, own].float() + noise  # [P, B, D]
    norms = bank.float().square().sum(-1)  # [P, M]
    search = IMPLEMENTATIONS[implementation]
    check(search, query, bank, norms, own)

    read = PARTS * images * DIM * dtype.itemsize
    products = 2 * PARTS * BATCH * images * DIM
    if backward:
        query.requires_grad_()

        def function() -> object:
            log_sum, distances, _ = search(query, bank, norms, own)
            return torch.autograd.grad((log_sum + torch.logsumexp(-SCALE * distances, -1)).sum(), query)
    else:

        def function() -> object:
            return search(query, bank, norms, own)

    measure(
        function,
        Work(bytes=read, flops=products * (2 if backward else 1)),  # the floor: the bank is read once
        operation="nearest parts " + ("forward+backward" if backward else "forward"),
        implementation=implementation,
        shape=f"P={PARTS} M={images} B={BATCH} D={DIM} K={K}",
        dtype=str(dtype).removeprefix("torch."),
    )


def check(search: Search, query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> None:
    """What is about to be timed computes the right thing."""
    expected = nearest_parts(query[:, :4].double(), bank.double(), own[:4], k=K, scale=SCALE, impl="reference")
    log_sum, distances, _ = search(query, bank, norms, own)
    torch.testing.assert_close(log_sum[:, :4].double(), expected.log_sum, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(distances[:, :4].double(), expected.distances, rtol=2e-2, atol=0.2)
