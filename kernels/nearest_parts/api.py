"""Validation, the custom operators and their autograd, and the choice of implementation."""

import math
import os
from typing import Literal, get_args

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
TRITON_MOST_NEIGHBOURS = 32
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def nearest_parts(
    query: Tensor,
    bank: Tensor,
    exclude: Tensor,
    *,
    k: int,
    scale: float,
    squared_norms: Tensor | None = None,
    query_identity: Tensor | None = None,
    bank_identity: Tensor | None = None,
    offset: int = 0,
    impl: Implementation = "reference",
) -> NearestParts:
    """Compare each query with every slot of its part's memory bank (DESIGN 2, cross-ID similarity learning).

    query: [P, B, D]. bank: [P, M, D], M >= 1, float16, bfloat16, float32 or float64; both may have any strides.
    exclude: int64 [B], the slot each query must not find (its own image), -1 for none.
    k: neighbours wanted, at least 1 (at most 32 with Triton). scale: positive factor of the squared distance.
    squared_norms: [P, M], |bank|^2 if it is at hand; saves one reading of the bank in Triton, a reduction otherwise.
    query_identity: int64 [B] and bank_identity: int64 [M], both or none: slots of the query's identity are left out.
    offset: slot number of bank[:, 0], for a bank that is one shard of several; `exclude` and the indices returned count
        over all shards, and `merge_nearest` joins their results.
    impl: "reference" (plain torch, any device) or "triton" (CUDA, or a CPU in Triton's interpreter).

    Returns `NearestParts(log_sum [P, B], distances [P, B, k], indices int64 [P, B, k])`: float32 (float64 if an input
    is), differentiable with respect to `query` only, and once. Equal distances come in ascending order of slot.
    Missing neighbours: +inf and -1; no allowed slot: log_sum -inf; their gradient is 0. A slot at infinite distance
    counts as missing. Raises ValueError for a bad argument, naming it.
    """
    _check_vectors(query, bank)
    _check_slots(query, bank, exclude, squared_norms, query_identity, bank_identity)
    _check_options(query, bank, k, scale, offset, impl)
    save = torch.is_grad_enabled() and query.requires_grad
    log_sum, distances, indices, _, _ = _search(
        query, bank, exclude, k, float(scale), squared_norms, query_identity, bank_identity, offset, save, impl
    )
    return NearestParts(log_sum, distances, indices)


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
    query: Tensor,
    bank: Tensor,
    exclude: Tensor,
    squared_norms: Tensor | None,
    query_identity: Tensor | None,
    bank_identity: Tensor | None,
) -> None:
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


def _check_options(query: Tensor, bank: Tensor, k: int, scale: float, offset: int, impl: str) -> None:
    if k < 1:
        raise ValueError(f"k: {k}, expected at least 1 neighbour")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale: {scale}, expected a positive finite number")
    if offset < 0:
        raise ValueError(f"offset: {offset}, expected the number of the first slot, at least 0")
    if impl not in get_args(Implementation):
        raise ValueError(f"impl: {impl!r}, expected one of {', '.join(map(repr, get_args(Implementation)))}")
    if impl != "triton":
        return
    if k > TRITON_MOST_NEIGHBOURS:
        raise ValueError(f"k: {k}, expected at most {TRITON_MOST_NEIGHBOURS} with impl='triton'")
    for name, tensor in (("query", query), ("bank", bank)):
        if tensor.dtype == torch.float64:
            raise ValueError(f"{name}: dtype {tensor.dtype}, expected float32 or less with impl='triton'")
    if query.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"query: on {query.device}, expected a CUDA tensor with impl='triton' "
            "(on a CPU: impl='reference', or Triton's interpreter, TRITON_INTERPRET=1)"
        )


@torch.library.custom_op("kernels::nearest_parts", mutates_args=())
def _search(
    query: Tensor,
    bank: Tensor,
    exclude: Tensor,
    k: int,
    scale: float,
    squared_norms: Tensor | None,
    query_identity: Tensor | None,
    bank_identity: Tensor | None,
    offset: int,
    save: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`NearestParts` and `Saved` as one flat tuple; `Saved` is empty unless asked for."""
    if impl == "triton":
        from kernels.nearest_parts.triton import nearest_parts_triton as search
    else:
        search = nearest_parts_reference
    with torch.autocast(query.device.type, enabled=False):  # distances must not be rounded to half precision
        found, saved = search(
            query,
            bank,
            exclude,
            k=k,
            scale=scale,
            squared_norms=squared_norms,
            query_identity=query_identity,
            bank_identity=bank_identity,
            offset=offset,
            save=save,
        )
    if saved is None:
        saved = Saved(query.new_empty(0, dtype=found.log_sum.dtype), bank.new_empty(0))
    return *found, *saved


@_search.register_fake
def _(query, bank, exclude, k, scale, squared_norms, query_identity, bank_identity, offset, save, impl):  # type: ignore[no-untyped-def]
    parts, batch, dim = query.shape
    dtype = statistics_dtype(query, bank)
    return (
        query.new_empty(parts, batch, dtype=dtype),
        query.new_empty(parts, batch, k, dtype=dtype),
        query.new_empty(parts, batch, k, dtype=torch.int64),
        query.new_empty((parts, batch, dim) if save else 0, dtype=dtype),
        bank.new_empty((parts, batch, k, dim) if save else 0),
    )


@torch.library.custom_op("kernels::nearest_parts_backward", mutates_args=())
def _search_backward(
    grad_log_sum: Tensor,
    grad_distances: Tensor,
    query: Tensor,
    indices: Tensor,
    average: Tensor,
    neighbours: Tensor,
    scale: float,
) -> Tensor:
    """An operator without autograd of its own, so that a second derivative fails loudly instead of being wrong."""
    with torch.autocast(query.device.type, enabled=False):
        return nearest_parts_backward(
            grad_log_sum, grad_distances, query, indices, average, neighbours, scale
        )


@_search_backward.register_fake
def _(grad_log_sum, grad_distances, query, indices, average, neighbours, scale):  # type: ignore[no-untyped-def]
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    query, scale = inputs[0], inputs[4]
    _, _, indices, average, neighbours = output
    ctx.save_for_backward(query, indices, average, neighbours)
    ctx.scale = scale
    ctx.set_materialize_grads(False)  # no zeros of the size of all neighbours


def _backward(ctx, grad_log_sum, grad_distances, *_):  # type: ignore[no-untyped-def]
    query, indices, average, neighbours = ctx.saved_tensors
    if grad_log_sum is None:
        grad_log_sum = average.new_zeros(indices.shape[:-1])
    if grad_distances is None:
        grad_distances = average.new_zeros(indices.shape)
    grad = _search_backward(grad_log_sum, grad_distances, query, indices, average, neighbours, ctx.scale)
    return grad, *[None] * 10


_search.register_autograd(_backward, setup_context=_setup_context)
