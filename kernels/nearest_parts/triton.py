"""Launchers of the Triton kernels, the tile sizes they are launched with, and what is compiled ahead of time."""

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.configuration import Configuration
from kernels.nearest_parts.reference import NearestParts, Saved, candidates, joined, vectors_of
from kernels.nearest_parts.tiles import MOST_NEIGHBOURS, Tiles, default_tiles, forward_tiles
from kernels.nearest_parts.triton_kernels import (
    nearest_parts_bwd_kernel,
    nearest_parts_fwd_kernel,
    nearest_parts_merge_kernel,
)
from kernels.tuning import architecture

MOST_SLOTS = 1 << 30
MOST_DIMENSIONS = 1536
MOST_SPLITS = 128
MOST_TILES = 4096
"""The merge holds the minima of all tiles at once, and scratch memory all distances of that many."""

MERGE_WARPS = 4
BACKWARD_WARPS = 4

LEAST_SHARED = "sm_86"
"""An architecture with the least shared memory."""

INTERPRETED_PROGRAMS = 12
"""Programs that stand for a GPU's multiprocessors in the interpreter: enough that tests have splits to merge."""

INTERPRETED = not isinstance(nearest_parts_fwd_kernel, triton.runtime.JITFunction)
LOG2_E = 1.4426950408889634


def nearest_parts_triton(
    query: Tensor, bank: Tensor, exclude: Tensor, *, k: int, scale: float, squared_norms: Tensor | None,
    master: Tensor | None, query_identity: Tensor | None, bank_identity: Tensor | None, offset: int, save: bool,
    tiles: Tiles | None = None,
) -> tuple[NearestParts, Saved | None]:  # fmt: skip
    """As `nearest_parts_reference`, on a GPU. `tiles` replaces the choice of `forward_tiles`.

    Deterministic: no atomics, and splits that depend only on the shapes and the device. A bank of more than
    MOST_TILES is searched in ranges, one after the other.
    """
    _check_limits(query, bank, k)
    if tiles is None:
        tiles = forward_tiles(bank.dtype, query.shape[2], query.shape[1], architecture(query.device))
    slots, most = bank.shape[1], MOST_TILES * tiles.slots
    pieces = []
    for held in (slice(start, min(start + most, slots)) for start in range(0, slots, most)):
        piece = _search(
            query, bank[:, held], exclude, k=k, scale=scale,
            squared_norms=None if squared_norms is None else squared_norms[:, held],
            master=None if master is None else master[:, held],
            query_identity=query_identity,
            bank_identity=None if bank_identity is None else bank_identity[held],
            offset=offset + held.start, save=save, tiles=tiles,
        )  # fmt: skip
        pieces.append(piece)
    if len(pieces) == 1:
        return pieces[0]
    found, average = joined([(piece, None if saved is None else saved.average) for piece, saved in pieces])
    if average is None:
        return found, None
    return found, Saved(average, vectors_of(bank if master is None else master, found.indices, offset))


def _search(
    query: Tensor, bank: Tensor, exclude: Tensor, *, k: int, scale: float, squared_norms: Tensor | None,
    master: Tensor | None, query_identity: Tensor | None, bank_identity: Tensor | None, offset: int, save: bool,
    tiles: Tiles,
) -> tuple[NearestParts, Saved | None]:  # fmt: skip
    """`nearest_parts_triton` for at most MOST_TILES."""
    (parts, batch, dim), slots = query.shape, bank.shape[1]
    count = triton.cdiv(slots, tiles.slots)
    tiles_per_split = triton.cdiv(count, min(count, _splits(query.device, parts, batch, tiles)))
    splits = triton.cdiv(count, tiles_per_split)
    listed = k if master is None else candidates(k)
    fetched = bank if master is None else master

    scratch = functools.partial(torch.empty, dtype=torch.float32, device=query.device)

    q = query.to(bank.dtype).contiguous()
    norms = None if squared_norms is None else squared_norms.float().contiguous()
    log_sums, minima = scratch(splits, parts, batch), scratch(parts, batch, count)
    tile_distances = scratch(parts, batch, count, tiles.slots)
    averages = scratch(splits, parts, batch, dim) if save else log_sums
    # Where there is nothing to give, any pointer of its type stands for it: the kernel does not read it.
    nearest_parts_fwd_kernel[(triton.cdiv(batch, tiles.queries), splits, parts)](
        q, bank, q if norms is None else norms, (exclude - offset).contiguous(),
        exclude if query_identity is None else query_identity.contiguous(),
        exclude if bank_identity is None else bank_identity.contiguous(),
        log_sums, tile_distances, minima, averages,
        batch, slots, count, tiles_per_split, scale * LOG2_E, *bank.stride(),
        DIM=dim, BLOCK_B=tiles.queries, BLOCK_M=tiles.slots, CHUNK=tiles.chunk,
        AVERAGE=save, HAS_NORMS=norms is not None, HAS_IDENTITY=query_identity is not None,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    found = NearestParts(
        scratch(parts, batch), scratch(parts, batch, k), scratch(parts, batch, k, dtype=torch.int64)
    )
    saved = None
    if save:
        saved = Saved(scratch(parts, batch, dim), scratch(parts, batch, k, dim, dtype=fetched.dtype))
    nearest_parts_merge_kernel[(parts, batch)](
        log_sums, tile_distances, minima, averages,
        fetched, q if master is None else query.float().contiguous(), *found, *(saved or (averages, fetched)),
        batch, count, splits, k, listed, offset, *fetched.stride(),
        DIM=dim, BLOCK_D=triton.next_power_of_2(dim), LIST=list_length(listed), BLOCK_M=tiles.slots,
        TILES=triton.next_power_of_2(count), SPLITS=triton.next_power_of_2(splits),
        AVERAGE=save, MASTER=master is not None, num_warps=MERGE_WARPS,
    )  # fmt: skip
    return found, saved


def list_length(listed: int) -> int:
    """Entries of the merge's running list for the `listed` nearest."""
    return max(16, triton.next_power_of_2(listed))


def nearest_parts_triton_backward(
    grad_log_sum: Tensor | None, grad_distances: Tensor | None, query: Tensor, indices: Tensor, average: Tensor,
    neighbours: Tensor, scale: float,
) -> Tensor:  # fmt: skip
    """As `nearest_parts_backward`, in one launch."""
    parts, batch, dim = query.shape
    grad = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    nearest_parts_bwd_kernel[(parts * batch,)](
        average if grad_log_sum is None else grad_log_sum.contiguous(),
        average if grad_distances is None else grad_distances.contiguous(),
        query.contiguous(), indices, average, neighbours, grad, indices.shape[-1], scale,
        DIM=dim, BLOCK_D=triton.next_power_of_2(dim),
        FOR_SUM=grad_log_sum is not None, FOR_DISTANCES=grad_distances is not None, num_warps=BACKWARD_WARPS,
    )  # fmt: skip
    return grad


def aot_configurations() -> list[Configuration]:
    """Training with norms at hand, tiles that every architecture has room for (99 KiB).

    D = 768 is ViT-B, D = 384 ViT-S. The merge depends on the bank's dtype only through the neighbours it fetches;
    it keeps a list of 16, for at most 16 neighbours, and over a rounded bank one of 32, or of 64 for more than 16.
    """
    tiles = default_tiles(torch.bfloat16, 768, LEAST_SHARED)
    merge = functools.partial(
        _configuration, kernel=nearest_parts_merge_kernel, dim=768, warps=MERGE_WARPS, stages=1,
        BLOCK_M=tiles.slots, TILES=2048, SPLITS=32,
    )  # fmt: skip
    return [
        *(forward_configuration(dtype, 768) for dtype in ("bf16", "fp16", "fp32")),
        forward_configuration("bf16", 384),
        merge("merge", dtype="bf16", LIST=list_length(16), MASTER=False),
        merge("merge_again", dtype="fp32", LIST=list_length(candidates(1)), MASTER=True),
        merge("merge_again_list64", dtype="fp32", LIST=list_length(candidates(MOST_NEIGHBOURS)), MASTER=True),
        _configuration(
            "backward", nearest_parts_bwd_kernel, "bf16", 768, BACKWARD_WARPS, 1, FOR_SUM=True, FOR_DISTANCES=True
        ),
    ]


def forward_configuration(dtype: str, dim: int, tiles: Tiles | None = None) -> Configuration:
    """The forward kernel; with tiles that fit every architecture unless given."""
    if tiles is None:
        tiles = default_tiles(torch.float32 if dtype == "fp32" else torch.bfloat16, dim, LEAST_SHARED)
    return _configuration(
        "forward", nearest_parts_fwd_kernel, dtype, dim, tiles.warps, tiles.stages, BLOCK_B=tiles.queries,
        BLOCK_M=tiles.slots, CHUNK=tiles.chunk, HAS_NORMS=True, HAS_IDENTITY=False,
    )  # fmt: skip


def _configuration(
    step: str, kernel: Any, dtype: str, dim: int, warps: int, stages: int, **constexprs: object
) -> Configuration:
    """Types follow the arguments' names: vectors in the bank's dtype, statistics float32, counts integers."""
    constexprs |= {"DIM": dim, "BLOCK_D": triton.next_power_of_2(dim), "AVERAGE": True, "stride_dim": 1}
    constexprs = {name: constexprs[name] for name in kernel.arg_names if name in constexprs}
    signature = {}
    for name in kernel.arg_names:
        if name in constexprs:
            signature[name] = "constexpr"
        elif name in ("p_bank", "p_neighbours") or (name == "p_query" and step == "forward"):
            signature[name] = f"*{dtype}"
        elif name in ("p_exclude", "p_query_identity", "p_bank_identity", "p_indices"):
            signature[name] = "*i64"
        elif name.startswith("p_"):
            signature[name] = "*fp32"
        else:
            signature[name] = {"scale": "fp32", "scale_log2": "fp32"}.get(
                name, "i64" if name.startswith("stride") or name == "offset" else "i32"
            )
    aligned = {name for name, kind in signature.items() if kind.startswith("*")}
    aligned |= {"stride_part", "stride_slot"} & signature.keys()
    return Configuration(
        f"nearest_parts_{step}_{dtype}_d{dim}", kernel, signature, constexprs, warps, stages, frozenset(aligned)
    )


def _check_limits(query: Tensor, bank: Tensor, k: int) -> None:
    """What this implementation, unlike the reference, cannot do."""
    if not query.is_cuda and not INTERPRETED:
        raise ValueError(
            f"query: on {query.device}, expected a CUDA tensor with impl='triton' "
            "(on a CPU: impl='reference', or Triton's interpreter, TRITON_INTERPRET=1)"
        )
    for name, tensor in (("query", query), ("bank", bank)):
        if tensor.dtype == torch.float64:
            raise ValueError(f"{name}: dtype {tensor.dtype}, expected float32 or less with impl='triton'")
    for name, value, most in (
        ("k", k, MOST_NEIGHBOURS),
        ("bank: M", bank.shape[1], MOST_SLOTS),
        ("query: D", query.shape[2], MOST_DIMENSIONS),
    ):
        if value > most:
            raise ValueError(f"{name}: {value}, expected at most {most} with impl='triton'")


def _splits(device: torch.device, parts: int, batch: int, tiles: Tiles) -> int:
    """Parts of the bank at a time, so that the programs fill the GPU once."""
    programs = INTERPRETED_PROGRAMS
    if device.type == "cuda":
        programs = torch.cuda.get_device_properties(device).multi_processor_count
    return min(MOST_SPLITS, max(1, programs // (parts * triton.cdiv(batch, tiles.queries))))
