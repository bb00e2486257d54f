"""What `python -m kernels.tune` times of part attention: each pass, for each cut of the standard shapes."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from kernels.cases import PART_ATTENTION_LARGE, PartAttentionCase
from kernels.job import Job, Run
from kernels.part_attention.tiles import Cut, Tiles, candidates, cut, key, power_of_two
from kernels.part_attention.triton import configuration, launch_backward, launch_forward
from kernels.roofline import Work
from kernels.timing import DEVICE

ELEMENT = 2  # bytes


def jobs(arch: str, cases: Sequence[PartAttentionCase] = PART_ATTENTION_LARGE) -> list[Job]:
    """One for each pass and key.

    bf16 stands for fp16 too, which moves the same bytes through the same units. fp32 has one choice of tiles.
    """
    groups: dict[str, list[PartAttentionCase]] = {}
    for case in cases:
        groups.setdefault(key(case.dim, 8 * ELEMENT, _cut(case)), []).append(case)
    return [_job(tuple(group), arch, backward=passed) for passed in (False, True) for group in groups.values()]


def _job(cases: tuple[PartAttentionCase, ...], arch: str, *, backward: bool) -> Job:
    direction = "backward" if backward else "forward"
    dim, where = cases[0].dim, _cut(cases[0])
    return Job(
        operation=f"part_attention_{direction}",
        key=key(dim, 8 * ELEMENT, where),
        candidates=candidates(backward, dim, 8 * ELEMENT, where, arch),
        cases=cases,
        matrix=True,
        compile=functools.partial(configuration, direction, "bf16", dim, where),
        work=backward_work if backward else forward_work,
        prepare=functools.partial(_prepare, backward=backward),
    )


def forward_work(case: PartAttentionCase, tiles: Tiles, _multiprocessors: int) -> Work:
    """Each program of queries loads all keys and values; one that holds a whole head loads everything once."""
    where, asking = _cut(case), case.queries or case.tokens
    pairs, row = case.batch * case.heads, case.dim * ELEMENT
    if tiles.whole:
        return _whole_work(case, products=2, tensors=(2, 2))
    query_tiles = _tiles(asking - where.head, tiles.block)
    scores = (query_tiles * tiles.block + where.rows) * where.padded
    return Work(
        bytes=pairs * row * (2 * asking + 2 * case.tokens),
        flops=pairs * scores * power_of_two(case.dim) * 2 * 2,
        loaded=pairs * row * (asking + (query_tiles + 1) * 2 * case.tokens),
        programs=pairs * (query_tiles + 1),
    )


def backward_work(case: PartAttentionCase, tiles: Tiles, _multiprocessors: int) -> Work:
    """Programs of queries load keys and values; those of keys load queries, outputs and their gradients."""
    where, asking = _cut(case), case.queries or case.tokens
    pairs, row = case.batch * case.heads, case.dim * ELEMENT
    if tiles.whole:
        return _whole_work(case, products=5, tensors=(4, 4))
    query_tiles, key_tiles = _tiles(asking - where.head, tiles.block), where.body // tiles.block
    for_queries = (query_tiles * tiles.block + where.rows) * where.padded
    for_keys = (_tiles(asking - where.head, tiles.step) * tiles.step + where.rows) * where.padded
    loaded = (query_tiles + 1) * 2 * case.tokens + 3 * asking + (key_tiles + 1) * 3 * asking + 2 * case.tokens
    return Work(
        bytes=pairs * row * (4 * asking + 4 * case.tokens),
        flops=pairs * (3 * for_queries + 4 * for_keys) * power_of_two(case.dim) * 2,
        loaded=pairs * row * loaded,
        programs=pairs * (query_tiles + key_tiles + 2),
    )


def _whole_work(case: PartAttentionCase, *, products: int, tensors: tuple[int, int]) -> Work:
    """`tensors` of the asking and of all tokens, each moved once; what is written is not loaded."""
    where, asking = _cut(case), case.queries or case.tokens
    pairs, row = case.batch * case.heads, case.dim * ELEMENT
    scores = (where.padded if asking > where.head else where.rows) * where.padded
    written = asking if products == 2 else asking + 2 * case.tokens
    moved = tensors[0] * asking + tensors[1] * case.tokens
    return Work(
        bytes=pairs * row * moved,
        flops=pairs * products * scores * power_of_two(case.dim) * 2,
        loaded=pairs * row * (moved - written),
        programs=pairs,
    )


def _prepare(case: PartAttentionCase, *, backward: bool) -> Run:
    """Random numbers in one packed projection; every region is the whole grid (its size costs nothing)."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape = (case.batch, case.tokens, 3, case.heads, case.dim)
    qkv = torch.randn(shape, generator=generator, device=DEVICE).bfloat16()
    rows, columns = case.grid
    region = torch.tensor([0, rows, 0, columns], dtype=torch.int32, device=DEVICE)
    regions = region.expand(case.batch, case.parts, 4).contiguous()
    q, kv = qkv[:, : case.queries, 0], qkv[:, :, 1:]
    numbers = (columns, case.registers, case.dim**-0.5)
    if not backward:
        return lambda tiles: launch_forward(q, kv, regions, *numbers, tiles)[:1]
    out, sums = launch_forward(q, kv, regions, *numbers)
    out_grad = torch.randn(out.shape, generator=generator, device=DEVICE).bfloat16()
    return lambda tiles: launch_backward(out_grad, q, kv, regions, out, sums, *numbers, tiles)


def _cut(case: PartAttentionCase) -> Cut:
    return cut(case.tokens, 1 + case.parts + case.registers)


def _tiles(rows: int, size: int) -> int:
    """Tiles that `rows` rows take; none where there are no rows."""
    return -(-max(0, rows) // size)
