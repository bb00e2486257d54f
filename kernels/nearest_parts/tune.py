"""What `python -m kernels.tune` times of nearest_parts: the search of a training step, with gradient."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import product

import torch

from kernels.cases import NEAREST_PARTS_LARGE, NearestPartsCase
from kernels.job import Job, Run
from kernels.nearest_parts.tiles import Tiles, candidates, key
from kernels.nearest_parts.triton import MOST_SPLITS, forward_configuration, nearest_parts_triton
from kernels.roofline import Work
from kernels.timing import DEVICE

DTYPES = {torch.bfloat16: "bf16", torch.float32: "fp32"}  # fp16 moves the same bytes as bf16
SCALE = 0.02


def jobs(arch: str, cases: Sequence[NearestPartsCase] = NEAREST_PARTS_LARGE) -> list[Job]:
    """One for each dtype of a bank and what else the choice depends on."""
    groups: dict[tuple[torch.dtype, str], list[NearestPartsCase]] = {}
    for dtype, case in product(DTYPES, cases):
        groups.setdefault((dtype, key(dtype, case.dim, case.batch)), []).append(case)
    return [
        Job(
            operation="nearest_parts_forward",
            key=name,
            candidates=candidates(dtype, group[0].dim, group[0].batch, arch),
            cases=tuple(group),
            matrix=dtype != torch.float32,
            compile=functools.partial(forward_configuration, DTYPES[dtype], group[0].dim),
            work=functools.partial(_work, dtype),
            prepare=functools.partial(_prepare, dtype),
        )
        for (dtype, name), group in groups.items()
    ]


def _work(dtype: torch.dtype, case: NearestPartsCase, tiles: Tiles, multiprocessors: int) -> Work:
    """The bank is split so that the programs fill the GPU once; each block of queries loads all of it."""
    blocks = -(-case.batch // tiles.queries)
    splits = min(MOST_SPLITS, max(1, multiprocessors // (case.parts * blocks)))
    bank = case.parts * case.slots * case.dim
    return Work(
        bytes=bank * dtype.itemsize,
        flops=bank * blocks * tiles.queries * 2 * 2,
        loaded=(bank * blocks + splits * case.parts * case.batch * case.dim) * dtype.itemsize,
        programs=case.parts * blocks * splits,
    )


def _prepare(dtype: torch.dtype, case: NearestPartsCase) -> Run:
    """A random bank, and queries near some of its slots."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    shape = (case.parts, case.slots, case.dim)
    bank = (torch.randn(shape, generator=generator, device=DEVICE) * 0.3).to(dtype)
    own = torch.randperm(case.slots, generator=generator, device=DEVICE)[: case.batch]
    query = bank[:, own].float()
    query += torch.randn(query.shape, generator=generator, device=DEVICE) * 0.1
    norms = bank.float().square().sum(-1)

    def run(tiles: Tiles | None) -> tuple[torch.Tensor, ...]:
        found, saved = nearest_parts_triton(
            query, bank, own, k=case.k, scale=SCALE, squared_norms=norms, master=None, query_identity=None,
            bank_identity=None, offset=0, save=True, tiles=tiles,
        )  # fmt: skip
        assert saved is not None
        return found.log_sum, found.distances, saved.average

    return run
