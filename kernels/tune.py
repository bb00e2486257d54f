"""Chooses tiles by measurement and writes the table that the package ships.

    python -m kernels.tune                          on a GPU: times candidates, writes kernels/tuned/sm_XX.json
    python -m kernels.tune --dry-run --arch sm_90   anywhere: what would be timed, with resources and estimates

Left out are tiles that spill registers or need more shared memory than there is. The fastest over all cases of a
key wins, if it beats the default by more than the noise.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kernels import tuning
from kernels.command import exit_status, in_columns
from kernels.compiler import compile_each, modules, write_whole
from kernels.job import Job
from kernels.resources import LIMITS
from kernels.roofline import DEVICES, Estimate, estimate
from kernels.timing import DEVICE, ON_GPU, seconds

NOISE = 0.02  # of the default's time; a smaller gain is none
TOLERANCE = 0.02  # of the largest number, between tiles; in bf16 sums in another order differ by less


@dataclass(frozen=True)
class Candidate:
    """One choice of tiles, compiled for one architecture."""

    job: Job
    tiles: Any
    resources: dict[str, Any]  # as in the resource report
    estimate: Estimate
    problem: str  # why it is not timed; empty otherwise


def find_jobs(arch: str, pattern: str = "*") -> list[Job]:
    """All jobs whose "operation, key" matches a shell pattern. Raises ValueError when there is none."""
    found = [job for module in modules("tune") for job in module.jobs(arch)]
    chosen = [job for job in found if fnmatch.fnmatch(name(job), pattern)]
    if not chosen:
        raise ValueError(f"nothing is named {pattern!r}; there are {'; '.join(map(name, found))}")
    return chosen


def name(job: Job) -> str:
    """For people and for `--only`."""
    return f"{job.operation}, {job.key}"


def survey(job: Job, arch: str) -> list[Candidate]:
    """The candidates with what the compiler and the data sheet say of them."""
    compiled = compile_each([job.compile(tiles) for tiles in job.candidates], [arch])
    pairs = zip(job.candidates, compiled, strict=True)
    return [_candidate(job, tiles, resources, arch) for tiles, (resources, _) in pairs]


def _candidate(job: Job, tiles: Any, resources: dict[str, Any], arch: str) -> Candidate:
    limits, device = LIMITS[arch], DEVICES[arch]
    works = [job.work(case, tiles, device.multiprocessors) for case in job.cases]
    blocks = round(resources["occupancy"] * limits.warps / resources["num_warps"])
    problem = ""
    if resources["shared_memory"] > limits.shared_memory_block:
        problem = "too much shared memory"
    elif resources["spills"]:
        problem = "spills"
    return Candidate(job, tiles, resources, estimate(works, device, matrix=job.matrix, blocks=blocks), problem)


def time_tiles(job: Job, candidates: Sequence[Any]) -> dict[Any, float]:
    """Tiles -> seconds over all cases of the job, for tiles that compute what the default computes."""
    default = job.candidates[0]
    times = dict.fromkeys(candidates, 0.0)
    for case in job.cases:
        run = job.prepare(case)
        expected = run(default)
        for tiles in list(times):
            if differs(run(tiles), expected):
                print(f"error: {name(job)}: {tiles} is wrong for {case.name}; left out", file=sys.stderr)
                del times[tiles]
                continue
            times[tiles] += statistics.median(seconds(lambda run=run, tiles=tiles: run(tiles)))  # type: ignore[misc]
    return times


def differs(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether tiles computed something else than the default did."""
    pairs = ((one.float(), other.float()) for one, other in zip(found, expected, strict=True))
    return not all(torch.allclose(one, other, atol=TOLERANCE * float(other.abs().max())) for one, other in pairs)


def fastest(times: dict[Any, float], default: Any) -> Any:
    """The tiles to keep: the default, unless others are faster by more than the noise."""
    best = min(times, key=times.__getitem__)
    return best if times[best] < (1 - NOISE) * times[default] else default


def entry(job: Job, times: dict[Any, float], device: str) -> dict[str, Any]:
    """What the table holds of a job: the tiles, and the evidence."""
    import triton

    default = job.candidates[0]
    chosen = fastest(times, default)
    return {
        "tiles": vars(chosen),
        "microseconds": round(times[chosen] * 1e6, 2),
        "default_microseconds": round(times[default] * 1e6, 2),
        "device": device,
        "triton": triton.__version__,
    }


def store(path: Path, entries: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts entries, by operation and key, into a table; what else it holds stays. Whole or not at all."""
    table = {operation: dict(part) for operation, part in tuning.load(path).items()}
    for (operation, key), values in entries.items():
        table.setdefault(operation, {})[key] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(table, indent=1, sort_keys=True) + "\n").encode())
    tuning.load.cache_clear()


def table(candidates: Sequence[Candidate], times: dict[Any, float] | None = None) -> str:
    """The candidates of one job as text; `*` is the default. `us` is measured, all else is not."""
    figures = ("registers", "shared", "occupancy", "memory us", "products us", "loaded MB", "rounds", "us")
    lines = [["", *vars(candidates[0].tiles), *figures]]
    for each in candidates:
        guess, resources = each.estimate, each.resources
        measured = "" if times is None or each.tiles not in times else f"{times[each.tiles] * 1e6:.1f}"
        lines.append([
            "*" if each.tiles == each.job.candidates[0] else "", *map(str, vars(each.tiles).values()),
            str(resources["registers"]), str(resources["shared_memory"]), f"{resources['occupancy']:.2f}",
            f"{guess.memory * 1e6:.1f}", f"{guess.products * 1e6:.1f}", f"{guess.loaded / 1e6:.0f}",
            str(guess.rounds), f"not timed: {each.problem}" if each.problem else measured,
        ])  # fmt: skip
    return in_columns(lines, right=True)


def tune(jobs: Sequence[Job], arch: str, path: Path | None) -> None:
    """Surveys each job and, where a path is given, times it on this GPU and stores what it found there."""
    for job in jobs:
        print(f"{name(job)}: {'; '.join(case.name for case in job.cases)}", flush=True)
        candidates = survey(job, arch)
        if path is None:
            print(table(candidates), flush=True)
            continue
        default = job.candidates[0]
        timed = [one.tiles for one in candidates if not one.problem or one.tiles == default]
        times = time_tiles(job, timed)
        store(path, {(job.operation, job.key): entry(job, times, torch.cuda.get_device_name())})
        print(table(candidates, times), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 for a failure, 2 for a user's mistake or no GPU."""
    parser = argparse.ArgumentParser(prog="python -m kernels.tune", description="Choose tiles by measurement.")
    parser.add_argument("--dry-run", action="store_true", help="list the candidates, time nothing, write nothing")
    parser.add_argument("--arch", choices=tuple(DEVICES), help="with --dry-run; default: this GPU's, else sm_90")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="e.g. 'part_attention_forward*'")
    parser.add_argument("--out", type=Path, default=tuning.TABLES, help="folder of tables; default: the package's")
    options = parser.parse_args(arguments)
    if not options.dry_run and (options.arch or not ON_GPU):
        reason = "--arch is for --dry-run" if options.arch else "no CUDA GPU here; --dry-run works anywhere"
        print(f"error: tiles are timed on this machine's GPU: {reason}", file=sys.stderr)
        return 2
    return exit_status(lambda: _run(options, options.arch or (tuning.architecture(DEVICE) if ON_GPU else "sm_90")))


def _run(options: argparse.Namespace, arch: str) -> int:
    if arch not in DEVICES:
        raise ValueError(f"this GPU is {arch}; expected one of {', '.join(DEVICES)}")
    jobs = find_jobs(arch, options.only)
    print(f"{arch}; estimates for {DEVICES[arch].name} at its data sheet's peaks; * is the default")
    tune(jobs, arch, None if options.dry_run else options.out / f"{arch}.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
