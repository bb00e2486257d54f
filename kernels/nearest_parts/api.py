"""Validation, the custom operators and their autograd, and the choice of implementation."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from kernels.nearest_parts.reference import (
    NearestParts,
    Saved,
    merge_nearest,
    nearest_parts_backward,
    nearest_parts_reference,
    statistics_dtype,
)

__all__ = ["NearestParts", "merge_nearest", "nearest_parts"]

Implementation = Literal["reference", "triton"]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def nearest_parts(
    query: Tensor,
    bank: Tensor,
    exclude: Tensor,
    *,
    k: int,
    scale: float,
    squared_norms: Tensor | None = None,
    master: Tensor | None = None,
    query_identity: Tensor | None = None,
    bank_identity: Tensor | None = None,
    offset: int = 0,
    impl: Implementation = "reference",
) -> NearestParts:
    """Compare each query with every slot of its part's memory bank (DESIGN 2, cross-ID similarity learning).

    Args:
        query: [P, B, D], bank: [P, M, D] with M >= 1: float16, bfloat16, float32 or float64, any strides. They
            are compared in the bank's dtype, to which the query is rounded.
        exclude: int64 [B], the slot each query must not find (its own image), -1 for none.
        k: neighbours wanted, at least 1; with Triton at most 32.
        scale: positive factor of the squared distance.
        squared_norms: [P, M], |bank|^2 where it is at hand; computed otherwise.
        master: float32 [P, M, D], of which `bank` is a rounded copy: the 32 nearest in the bank, or 2 k where that
            is more, are ranked again by their exact distances to the unrounded query, and the k nearest of them
            returned. The sum over all slots stays that of the bank.
        query_identity: int64 [B], with bank_identity: int64 [M]: slots of the query's identity are left out.
        offset: number of the slot bank[:, 0], for a bank that is one shard of several: `exclude` and the
            indices returned count over all shards, and `merge_nearest` joins their results.
        impl: "reference" (plain torch, any device) or "triton" (CUDA, or a CPU in Triton's interpreter).

    Returns:
        `NearestParts`, float32 (float64 for a float64 bank), differentiable with respect to `query`, once.
        Slots at equal distances are in ascending order. Missing neighbours: +inf and -1; no allowed slot:
        log_sum is -inf; for both the gradient is 0. A slot at infinite distance counts as missing. Where the
        distance to an allowed slot is NaN, so is log_sum; the neighbours of such a query mean nothing.

    Raises:
        ValueError: a bad argument, named, with what was expected.
    """
    _check_vectors(query, bank)
    _check_slots(query, bank, exclude, squared_norms, query_identity, bank_identity)
    _check_options(k, scale, offset, impl)
    if master is not None:
        _check_master(master, bank)
    save = torch.is_grad_enabled() and query.requires_grad
    arguments = (
        query, bank, exclude, k, float(scale), squared_norms, master, query_identity, bank_identity, offset, save,
        impl,
    )  # fmt: skip
    # Eager mode goes without the operator, which costs the host as much as a launch.
    if torch.compiler.is_compiling() or type(query) not in (Tensor, torch.nn.Parameter):
        return NearestParts(*_search(*arguments)[:3])
    if save:
        return NearestParts(*_Search.apply(*arguments))
    return _find(*arguments)[0]


def _check_vectors(query: Tensor, bank: Tensor) -> None:
    for name, tensor in (("query", query), ("bank", bank)):
        if tensor.dtype not in FLOATS:
            raise ValueError(f"{name}: dtype {tensor.dtype}, expected one of {', '.join(map(str, FLOATS))}")
    if query.ndim != 3 or 0 in query.shape:
        raise ValueError(f"query: shape {tuple(query.shape)}, expected [P, B, D], none of them 0")
    parts, _, dim = query.shape
    if bank.ndim != 3 or bank.shape[0] != parts or bank.shape[2] != dim or bank.shape[1] == 0:
        expected = f"[{parts}, M, {dim}] with M >= 1 to match query"
        raise ValueError(f"bank: shape {tuple(bank.shape)}, expected {expected}")
    if bank.device != query.device:
        raise ValueError(f"bank: on {bank.device}, expected {query.device}, where query is")


def _check_slots(
    query: Tensor, bank: Tensor, exclude: Tensor, squared_norms: Tensor | None, query_identity: Tensor | None,
    bank_identity: Tensor | None,
) -> None:  # fmt: skip
    (parts, batch, _), slots = query.shape, bank.shape[1]
    _check_tensor("exclude", exclude, (batch,), query.device, integer=True)
    if squared_norms is not None:
        _check_tensor("squared_norms", squared_norms, (parts, slots), query.device, integer=False)
    if (query_identity is None) != (bank_identity is None):
        given, missing = ("query", "bank") if bank_identity is None else ("bank", "query")
        raise ValueError(f"{missing}_identity: missing, expected together with {given}_identity")
    if query_identity is not None and bank_identity is not None:
        _check_tensor("query_identity", query_identity, (batch,), query.device, integer=True)
        _check_tensor("bank_identity", bank_identity, (slots,), query.device, integer=True)


def _check_tensor(
    name: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device, *, integer: bool
) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
    allowed = (torch.int64,) if integer else FLOATS
    if tensor.dtype not in allowed:
        raise ValueError(f"{name}: dtype {tensor.dtype}, expected one of {', '.join(map(str, allowed))}")
    if tensor.device != device:
        raise ValueError(f"{name}: on {tensor.device}, expected {device}, where query is")


def _check_master(master: Tensor, bank: Tensor) -> None:
    if master.shape != bank.shape or master.dtype != torch.float32 or master.device != bank.device:
        found = f"{master.dtype} {tuple(master.shape)} on {master.device}"
        raise ValueError(f"master: {found}, expected float32 {tuple(bank.shape)} on {bank.device}, as the bank")
    if bank.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"master: given with a bank of {bank.dtype}, expected a bank in half precision")


def _check_options(k: int, scale: float, offset: int, impl: str) -> None:
    if k < 1 or k != int(k):
        raise ValueError(f"k: {k}, expected a whole number of neighbours, at least 1")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: {scale}, expected a positive finite number")
    if offset < 0:
        raise ValueError(f"offset: {offset}, expected the number of the first slot, at least 0")
    if impl not in get_args(Implementation):
        raise ValueError(f"impl: {impl!r}, expected one of {', '.join(map(repr, get_args(Implementation)))}")


def _find(
    query: Tensor, bank: Tensor, exclude: Tensor, k: int, scale: float, squared_norms: Tensor | None,
    master: Tensor | None, query_identity: Tensor | None, bank_identity: Tensor | None, offset: int, save: bool,
    impl: str,
) -> tuple[NearestParts, Saved | None]:  # fmt: skip
    search: Callable[..., tuple[NearestParts, Saved | None]] = nearest_parts_reference
    if impl == "triton":
        from kernels.nearest_parts.triton import nearest_parts_triton as search
    # Distances must not be rounded to half precision; a kernel is launched on the current device.
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False), torch.cuda.device_of(query):
        return search(
            query, bank, exclude, k=k, scale=scale, squared_norms=squared_norms, master=master,
            query_identity=query_identity, bank_identity=bank_identity, offset=offset, save=save,
        )  # fmt: skip


def _find_gradient(
    grad_log_sum: Tensor | None, grad_distances: Tensor | None, query: Tensor, indices: Tensor, average: Tensor,
    neighbours: Tensor, scale: float, impl: str,
) -> Tensor:  # fmt: skip
    backward = nearest_parts_backward
    if impl == "triton":
        from kernels.nearest_parts.triton import nearest_parts_triton_backward as backward
    with torch.autocast(query.device.type, enabled=False), torch.cuda.device_of(query):
        return backward(grad_log_sum, grad_distances, query, indices, average, neighbours, scale)


class _Search(torch.autograd.Function):
    """The search without the cost of an operator."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        found, saved = _find(query, *arguments)
        assert saved is not None, "asked for"
        ctx.save_for_backward(query, found.indices, *saved)
        ctx.scale, ctx.impl = arguments[3], arguments[-1]
        ctx.mark_non_differentiable(found.indices)
        ctx.set_materialize_grads(False)
        log_sum, distances, indices = found
        return log_sum, distances, indices

    @staticmethod
    def backward(ctx: Any, grad_log_sum: Tensor | None, grad_distances: Tensor | None, _: None) -> Any:
        # Where a graph is asked for, the operator is put into it, whose own derivative fails loudly.
        gradient: Any = _search_backward if torch.is_grad_enabled() else _find_gradient
        return gradient(grad_log_sum, grad_distances, *ctx.saved_tensors, ctx.scale, ctx.impl), *[None] * 11


@torch.library.custom_op("pat_kernels::nearest_parts", mutates_args=())
def _search(
    query: Tensor, bank: Tensor, exclude: Tensor, k: int, scale: float, squared_norms: Tensor | None,
    master: Tensor | None, query_identity: Tensor | None, bank_identity: Tensor | None, offset: int, save: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """`NearestParts` and `Saved` as one flat tuple; `Saved` is empty unless asked for."""
    found, saved = _find(
        query, bank, exclude, k, scale, squared_norms, master, query_identity, bank_identity, offset, save, impl
    )
    if saved is None:
        saved = Saved(
            query.new_empty(0, dtype=found.log_sum.dtype), (bank if master is None else master).new_empty(0)
        )
    return *found, *saved


@_search.register_fake
def _(query, bank, exclude, k, scale, squared_norms, master, query_identity, bank_identity, offset, save, impl):  # type: ignore[no-untyped-def]
    parts, batch, dim = query.shape
    dtype = statistics_dtype(bank)
    return (
        query.new_empty(parts, batch, dtype=dtype),
        query.new_empty(parts, batch, k, dtype=dtype),
        query.new_empty(parts, batch, k, dtype=torch.int64),
        query.new_empty((parts, batch, dim) if save else 0, dtype=dtype),
        (bank if master is None else master).new_empty((parts, batch, k, dim) if save else 0),
    )


@torch.library.custom_op("pat_kernels::nearest_parts_backward", mutates_args=())
def _search_backward(
    grad_log_sum: Tensor | None, grad_distances: Tensor | None, query: Tensor, indices: Tensor, average: Tensor,
    neighbours: Tensor, scale: float, impl: str,
) -> Tensor:  # fmt: skip
    """An operator without autograd of its own, so that a second derivative fails loudly instead of being wrong."""
    return _find_gradient(grad_log_sum, grad_distances, query, indices, average, neighbours, scale, impl)


@_search_backward.register_fake
def _(grad_log_sum, grad_distances, query, indices, average, neighbours, scale, impl):  # type: ignore[no-untyped-def]
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    query, ctx.scale, ctx.impl = inputs[0], inputs[4], inputs[-1]
    _, _, indices, average, neighbours = output
    ctx.save_for_backward(query, indices, average, neighbours)
    ctx.set_materialize_grads(False)  # no zeros of the size of all neighbours


def _backward(ctx, grad_log_sum, grad_distances, *_):  # type: ignore[no-untyped-def]
    saved = (*ctx.saved_tensors, ctx.scale, ctx.impl)
    return _search_backward(grad_log_sum, grad_distances, *saved), *[None] * 11


_search.register_autograd(_backward, setup_context=_setup_context)
