"""Memory-bank neighbours and logsumexp against matmul + topk + logsumexp, and against a full sort."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bench.measure import Work
from bench.rows.plan import Errors, Ready, RowPlan, checked, kernel_plan, relative_error, sizes
from kernels.cases import NEAREST_PARTS_LARGE, NearestPartsCase
from kernels.nearest_parts import nearest_parts
from kernels.timing import DEVICE, INTERPRETED, ON_GPU

SCALE = 0.02
CHECKED = 4
"""Queries of each part whose results are compared with float64."""

CASES = sizes(
    (NEAREST_PARTS_LARGE[1], NEAREST_PARTS_LARGE[0], NEAREST_PARTS_LARGE[2]),
    [replace(NEAREST_PARTS_LARGE[0], slots=4096)],
    [NearestPartsCase("tiny", parts=2, batch=6, slots=90, dim=64, k=3)],
)
DTYPES = sizes([torch.bfloat16, torch.float32], [torch.float32], [torch.float16])
Nearest = tuple[Tensor, Tensor, Tensor]  # log_sum [P, B], distances [P, B, K], indices [P, B, K]
Search = Callable[[Tensor, Tensor, Tensor, Tensor, int], Nearest]  # query, bank, squared norms, own slots, K


def ours(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Nearest:
    impl = "triton" if ON_GPU or INTERPRETED else "reference"
    return nearest_parts(query, bank, own, k=k, scale=SCALE, squared_norms=norms, impl=impl)  # type: ignore[arg-type]


def all_distances(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor) -> Tensor:
    """Squared distances to every slot, float32 [P, B, M]; +inf to the own one."""
    products = (query.to(bank.dtype) @ bank.mT).float()
    distances = query.float().square().sum(-1, keepdim=True) + norms[:, None] - 2 * products
    columns = torch.arange(bank.shape[1], device=query.device)
    return distances.masked_fill(columns == own[:, None], torch.inf)


def topk(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Nearest:
    distances = all_distances(query, bank, norms, own)
    nearest, indices = distances.topk(k, largest=False)
    return torch.logsumexp(-SCALE * distances, -1), nearest, indices


def sort(query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Nearest:
    ordered, order = all_distances(query, bank, norms, own).sort(-1)
    return torch.logsumexp(-SCALE * ordered, -1), ordered[..., :k], order[..., :k]


IMPLEMENTATIONS: dict[str, Search] = {"ours": ours, "matmul + topk + logsumexp": topk, "full sort": sort}


def plans() -> list[RowPlan]:
    found = []
    everything = itertools.product(enumerate(CASES), DTYPES, (False, True), IMPLEMENTATIONS)
    for (number, case), dtype, backward, way in everything:
        priority = min(number, 1) + 2 * (dtype != DTYPES[0]) + (way == "full sort")
        operation = "nearest parts " + ("forward+backward" if backward else "forward")
        shape = f"P={case.parts} M={case.slots} B={case.batch} D={case.dim} K={case.k}"
        run = functools.partial(prepare, case, dtype, IMPLEMENTATIONS[way], backward=backward)
        found.append(kernel_plan(priority, operation, shape, dtype, way, run))
    return found


def objective(log_sum: Tensor, distances: Tensor) -> Tensor:
    """A number with the gradient of the cross-ID loss, up to a factor, of both differentiable results."""
    return (log_sum - torch.logsumexp(-SCALE * distances, -1)).sum()


def prepare(case: NearestPartsCase, dtype: torch.dtype, search: Search, *, backward: bool) -> Ready:
    """A random bank and queries near some of its slots; results compared with float64; what is to be timed."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape = (case.parts, case.slots, case.dim)
    bank = (torch.randn(shape, generator=generator, device=DEVICE) * 0.3).to(dtype)
    own = torch.randperm(case.slots, generator=generator, device=DEVICE)[: case.batch]
    noise = torch.randn(case.parts, case.batch, case.dim, generator=generator, device=DEVICE) * 0.1
    query = bank[:, own].float() + noise  # [P, B, D]
    norms = bank.float().square().sum(-1)  # [P, M]
    errors = compare(search, query, bank, norms, own, case.k)

    read = bank.numel() * dtype.itemsize
    products = 2 * bank.numel() * case.batch
    work = Work(bytes=read, flops=products * (2 if backward else 1))  # the floor: the bank is read once
    if not backward:
        return Ready(lambda: search(query, bank, norms, own, case.k), work, errors)
    query.requires_grad_()

    def function() -> object:
        log_sum, distances, _ = search(query, bank, norms, own, case.k)
        return torch.autograd.grad(objective(log_sum, distances), query)

    return Ready(function, work, errors)


def compare(search: Search, query: Tensor, bank: Tensor, norms: Tensor, own: Tensor, k: int) -> Errors:
    """Relative errors of the first queries. Raises ValueError where one is too large."""
    leaf = query.clone().requires_grad_()
    log_sum, distances, _ = search(leaf, bank, norms, own, k)
    (gradient,) = torch.autograd.grad(objective(log_sum, distances), leaf)

    some = slice(0, CHECKED)
    # The query as the bank's dtype holds it: what is compared is the search, not that rounding.
    exact = query[:, some].to(bank.dtype).double().requires_grad_()
    true = nearest_parts(exact, bank.double(), own[some], k=k, scale=SCALE, impl="reference")
    (true_gradient,) = torch.autograd.grad(objective(true.log_sum, true.distances), exact)
    pairs = ((log_sum, true.log_sum), (distances, true.distances), (gradient, true_gradient))
    *errors, gradient_error = (relative_error(found[:, some], truth) for found, truth in pairs)
    return checked(bank.dtype, max(errors), gradient_error)
