"""Tiles chosen by measurement (`kernels.tune`), a row an entry of the table, which goes to the result."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from bench.device import device_name
from bench.results import Row, quantiles, row
from bench.rows.plan import RowPlan
from kernels import tune, tuning
from kernels.cases import NearestPartsCase, PartAttentionCase
from kernels.job import Job
from kernels.roofline import DEVICES
from kernels.timing import DEVICE, INTERPRETED, ON_GPU

TINY = (
    [PartAttentionCase("tiny", batch=1, heads=1, dim=32, grid=(14, 14))],
    [NearestPartsCase("tiny", parts=1, batch=20, slots=90, dim=64, k=3)],
)


def plans() -> list[RowPlan]:
    arch = tuning.architecture(DEVICE)
    found = []
    for job in jobs(arch):
        bits, priority = ("16-bit", 3) if job.matrix else ("32-bit", 4)
        measure = functools.partial(run, job, arch)
        found.append(RowPlan(f"tune {job.operation}", job.key, bits, "all candidates", priority, measure))
    return found


def jobs(arch: str) -> list[Job]:
    """None where tiles mean nothing: on a CPU without the interpreter, on a GPU without a data sheet here."""
    if INTERPRETED:
        from kernels.nearest_parts import tune as nearest
        from kernels.part_attention import tune as attention

        found = attention.jobs("sm_90", TINY[0]) + nearest.jobs("sm_90", TINY[1])[:1]
        return [replace(job, candidates=job.candidates[:2]) for job in found]
    return tune.find_jobs(arch) if ON_GPU and arch in DEVICES else []


def run(job: Job, arch: str, facts: dict[str, str], out: Path) -> list[Row]:
    """Times the candidates that fit, writes the entry to `out`/tuned/ARCH.json; the row is that of the fastest."""
    tiles, left_out = job.candidates, 0
    if ON_GPU:
        candidates = tune.survey(job, arch)
        tiles = tuple(one.tiles for one in candidates if not one.problem or one.tiles == job.candidates[0])
        left_out = len(candidates) - len(tiles)
    times = tune.time_tiles(job, tiles)
    tune.store(out / "tuned" / f"{arch}.json", {(job.operation, job.key): tune.entry(job, times, device_name())})
    best = tune.fastest(times, job.candidates[0])
    gain = times[job.candidates[0]] / times[best]
    note = f"{vars(best)}: {gain:.2f} x the default's speed; {len(times)} timed, {left_out} do not fit"
    return [row({**facts, "note": note}, quantiles([times[best]]))]
