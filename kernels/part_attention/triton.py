"""Part-masked attention on a GPU: picks tiles, launches the kernels, and lists what is compiled ahead of time."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.configuration import Configuration
from kernels.part_attention.tiles import (
    ROWS,
    WHOLE_BACKWARD,
    Cut,
    Tiles,
    backward_tiles,
    candidates,
    cut,
    forward_tiles,
    power_of_two,
)
from kernels.part_attention.triton_kernels import part_attention_bwd_kernel, part_attention_fwd_kernel
from kernels.part_attention.triton_whole import part_attention_whole_bwd_kernel, part_attention_whole_fwd_kernel
from kernels.tuning import architecture

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
DIMS = (32, 48, 64, 80, 96, 128)
MOST_PARTS = 8


def check(q: Tensor, regions: Tensor) -> None:
    """What this implementation, unlike the others, cannot do. Raises ValueError."""
    if q.shape[-1] not in DIMS:
        raise ValueError(f"q has head size {q.shape[-1]}; expected one of {DIMS} for impl='triton'")
    if q.dtype not in DTYPES:
        raise ValueError(f"q has dtype {q.dtype}; expected float16, bfloat16 or float32 for impl='triton'")
    if regions.shape[1] > MOST_PARTS:
        raise ValueError(f"regions has {regions.shape[1]} parts; expected at most {MOST_PARTS} for impl='triton'")
    if q.device.type != "cuda" and isinstance(part_attention_fwd_kernel, triton.runtime.JITFunction):
        raise ValueError(
            f"q is on {q.device}; expected a CUDA tensor for impl='triton' (a CPU has only Triton's interpreter: "
            "TRITON_INTERPRET=1, set before Triton is imported)"
        )


@dataclass(frozen=True)
class _Launch:
    """What a kernel is told about the shapes, and how many programs it takes."""

    kernel: Any
    numbers: tuple[float | int, ...]  # in the order of the kernel's arguments
    options: dict[str, int]
    programs: int


@functools.lru_cache(maxsize=1024)  # a model asks for a handful, in every layer and step
def _launch(
    shape: tuple[int, ...], strides: tuple[int, ...], bits: int, tokens: int, parts: int, shared: bool,
    numbers: tuple[int, int, float], arch: str, tiles: Tiles | None, *, backward: bool,
) -> _Launch:  # fmt: skip
    """For q of `shape`, the strides of q and of kv, (columns, registers, scale), and regions shared by a batch."""
    (batch, queries, heads, dim), (columns, registers, scale) = shape, numbers
    special = 1 + parts + registers
    where = cut(tokens, special)
    if tiles is None:
        tiles = (backward_tiles if backward else forward_tiles)(dim, bits, where, arch)
    counts: tuple[int, ...] = ()
    programs = batch * heads
    if not tiles.whole:
        asking = max(0, queries - where.head)  # queries in the body
        query_tiles, query_steps = triton.cdiv(asking, tiles.block), triton.cdiv(asking, tiles.step)
        key_tiles, key_steps = where.body // tiles.block, where.body // tiles.step
        counts = (query_tiles, key_tiles, query_steps, key_steps) if backward else (query_tiles, key_steps)
        programs *= query_tiles + 1 + (key_tiles + 1 if backward else 0)
    return _Launch(
        kernel=_kernel(tiles, backward=backward),
        numbers=(
            scale, heads, queries, tokens, where.head, parts, special, columns,
            *strides, 0 if shared else 4 * parts, *counts,
        ),
        options=_constants(where.rows, tiles, dim) | {"num_warps": tiles.warps, "num_stages": tiles.stages},
        programs=programs,
    )  # fmt: skip


def _launch_of(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float, tiles: Tiles | None,
    *, backward: bool,
) -> _Launch:  # fmt: skip
    return _launch(
        tuple(q.shape), q.stride() + kv.stride(), 8 * q.element_size(), kv.shape[1], regions.shape[1],
        regions.shape[0] == 1, (columns, registers, scale), architecture(q.device), tiles, backward=backward,
    )  # fmt: skip


def _kernel(tiles: Tiles, *, backward: bool) -> Any:
    if tiles.whole:
        return part_attention_whole_bwd_kernel if backward else part_attention_whole_fwd_kernel
    return part_attention_bwd_kernel if backward else part_attention_fwd_kernel


def _constants(rows: int, tiles: Tiles, dim: int) -> dict[str, int]:
    block = "BODY" if tiles.whole else "BLOCK"
    return {"HEAD": rows, block: tiles.block, "STEP": tiles.step, "DIM": dim, "DIM_PAD": power_of_two(dim)}


def launch_forward(
    q: Tensor, kv: Tensor, regions: Tensor, columns: int, registers: int, scale: float, tiles: Tiles | None = None
) -> tuple[Tensor, Tensor]:
    """Output [B, n, H*D], and what makes the weights again in the backward pass, fp32 [B, H, 2, n].

    `tiles` replaces the choice of `forward_tiles`: one of `forward_candidates`.
    """
    regions = regions.contiguous()
    out, sums = forward_buffers(q)
    launch = _launch_of(q, kv, regions, columns, registers, scale, tiles, backward=False)
    if launch.programs:  # none where the batch is empty
        with torch.cuda.device_of(q):
            launch.kernel[(launch.programs,)](q, kv, out, sums, regions, *launch.numbers, **launch.options)
    return out, sums


def forward_buffers(q: Tensor) -> tuple[Tensor, Tensor]:
    batch, queries, heads, dim = q.shape
    return q.new_empty(batch, queries, heads * dim), q.new_empty(batch, heads, 2, queries, dtype=torch.float32)


def launch_backward(
    out_grad: Tensor, q: Tensor, kv: Tensor, regions: Tensor, out: Tensor, sums: Tensor,
    columns: int, registers: int, scale: float, tiles: Tiles | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of q [B, n, H, D] and of kv [B, N, 2, H, D], contiguous. `tiles` as in `launch_forward`."""
    out_grad, regions = out_grad.contiguous(), regions.contiguous()
    q_grad, kv_grad = backward_buffers(q, kv)
    launch = _launch_of(q, kv, regions, columns, registers, scale, tiles, backward=True)
    if launch.programs:
        with torch.cuda.device_of(q):
            launch.kernel[(launch.programs,)](
                q, kv, out, sums, out_grad, q_grad, kv_grad, regions, *launch.numbers, **launch.options
            )
    return q_grad, kv_grad


def backward_buffers(q: Tensor, kv: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), kv.new_empty(kv.shape)


STANDARD = {
    "": Cut(head=4, rows=16, body=256, multiple=128),
    "whole": Cut(head=4, rows=16, body=128, multiple=128),
    "tile64": Cut(head=8, rows=16, body=192, multiple=64),
}
"""Name -> the cut of 260, of 132 and of 200 tokens."""


def aot_configurations() -> list[Configuration]:
    """What ViT of the usual head sizes need, at 132 tokens ("whole"), 260 ("d64") and 196 or 200 ("d64_tile64").

    Counts and strides are arguments, so one kernel serves the full blocks and the last one, which asks for a
    few tokens, and any number of tokens that is cut into the same tiles. D = 96 stands for sizes that are no
    power of two. 260 tokens take the same backward kernel as 196 and 200, and so do 132 where no program holds a
    whole head.
    """
    cases = [
        ("forward", "bf16", 64, "whole"), ("forward", "fp16", 64, "whole"), ("forward", "bf16", 32, "whole"),
        ("forward", "bf16", 64, ""), ("forward", "fp16", 64, ""), ("forward", "fp32", 64, ""),
        ("forward", "bf16", 64, "tile64"), ("forward", "bf16", 96, ""), ("forward", "bf16", 128, ""),
        ("backward", "bf16", 64, "whole"), ("backward", "fp16", 64, "whole"),
        ("backward", "bf16", 64, ""), ("backward", "fp16", 64, ""), ("backward", "fp32", 64, ""),
        ("backward", "bf16", 96, ""), ("backward", "bf16", 128, ""),
    ]  # fmt: skip
    return [
        configuration(
            direction, dtype, dim, STANDARD[name], arch=WHOLE_BACKWARD[0], suffix=f"_{name}" if name else ""
        )
        for direction, dtype, dim, name in cases
    ]


def every_configuration() -> list[Configuration]:
    """The default for every shape that `tiles.cut` can pick, in bf16, for every head size: a gate against spills.

    A body of one block may be held whole; where the backward pass cannot, the tiles of three blocks stand for it.
    """
    cuts = [
        Cut(head=rows, rows=rows, body=blocks * multiple, multiple=multiple)
        for multiple, heads in ROWS.items()
        for rows in heads
        for blocks in ((1, 3) if rows == 16 else (3,))
    ]
    return [
        configuration(
            direction, "bf16", dim, where, arch=WHOLE_BACKWARD[0],
            suffix=f"_whole{where.body}" if where.whole else f"_tile{where.multiple}_head{where.rows}",
        )
        for direction in ("forward", "backward")
        for dim in DIMS
        for where in cuts
        if dim <= 64 or not where.whole
    ]  # fmt: skip


def configuration(
    direction: str, dtype: str, dim: int, where: Cut, tiles: Tiles | None = None, *, arch: str = "",
    suffix: str = "",
) -> Configuration:  # fmt: skip
    """One kernel for contiguous last dimensions and strides and pointers that are divisible by 16.

    The tiles are the default ones unless given: what is compiled ahead must not depend on what was measured.
    """
    backward = direction == "backward"
    if tiles is None:
        bits = 32 if dtype == "fp32" else 16
        tiles, *_ = candidates(backward, dim, bits, where, arch)
    kernel = _kernel(tiles, backward=backward)
    constexprs: dict[str, object] = {**_constants(where.rows, tiles, dim), "q_dim": 1, "kv_dim": 1}
    special_types = {"sums": "*fp32", "regions": "*i32", "scale": "fp32"}
    tensors = ("q", "kv", "out", "out_grad", "q_grad", "kv_grad")
    strides = ("q_batch", "q_token", "q_head", "kv_batch", "kv_token", "kv_pair", "kv_head")
    signature = {
        name: "constexpr" if name in constexprs
        else special_types.get(name, f"*{dtype}" if name in tensors else "i32")
        for name in kernel.arg_names
    }  # fmt: skip
    return Configuration(
        name=f"part_attention_{direction}_{dtype}_d{dim}{suffix}",
        kernel=kernel,
        signature=signature,
        constexprs={name: constexprs[name] for name in signature if name in constexprs},
        archs=tuple(arch for arch in WHOLE_BACKWARD if arch != "cpu") if backward and tiles.whole else (),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        aligned=frozenset(signature) & {*tensors, *strides, "sums", "regions"},
    )
