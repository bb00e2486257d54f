"""The regression gate that needs no GPU: what every compiled kernel takes of a GPU, against stored figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.commands import option
from kernels.aot import resource_report
from kernels.command import exit_status
from kernels.compiler import ARCHITECTURES, compile_each, write_whole
from kernels.resources import LIMITS

BASELINES = Path(__file__).parent / "baselines"
"""One file for each minor version of Triton, `triton-3.9.json`: another compiler makes other code."""

REGISTER_SLACK = 8  # the hardware hands registers out in eights per thread; less is the compiler's noise
CUBIN_SLACK = 1.25  # instruction scheduling moves the size by a few per cent; unrolling by mistake doubles it
FIGURES = ("registers", "spills", "shared_memory", "mma_instructions", "cubin_bytes", "occupancy")

Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    arch: Sequence[str] | None = option(None, "may be repeated; default: all", action="append", type=str)
    update: bool = option(False, "rewrite the baseline, for all architectures")
    every_shape: bool = option(False, "also every shape of attention there can be")
    table: bool = option(False, "print the baseline as in kernels/README.md")


def baseline(version: str) -> Path:
    """The file of figures made with this version of Triton, or with another patch of the same minor version."""
    return BASELINES / f"triton-{'.'.join(version.split('.')[:2])}.json"


def check(archs: Sequence[str] = ARCHITECTURES, *, every_shape: bool = False) -> list[str]:
    """What is wrong with the kernels as they compile now; empty when all is well.

    With `every_shape` the rules are held against every shape of attention that a launcher can pick, too.
    """
    rows = resource_report(archs)
    found = [problem for row in rows for problem in broken_rules(row)]
    if every_shape:
        from kernels.part_attention.triton import every_configuration

        compiled = compile_each(every_configuration(), archs)
        found += [problem for row, _ in compiled for problem in broken_rules(row | {"config": row["name"]})]
    path = baseline(_triton_version())
    return found + regressions(rows, load(path), archs) if path.exists() else found


def load(path: Path) -> dict[str, Row]:
    """The figures in a file, by kernel and architecture."""
    kernels: dict[str, Row] = json.loads(path.read_text())["kernels"]
    return kernels


def compared_with() -> str:
    """In words, what `check` holds the kernels against."""
    version = _triton_version()
    path = baseline(version)
    if path.exists():
        return f"Triton {version}, compared with the figures of Triton {json.loads(path.read_text())['triton']}"
    there = ", ".join(each.stem.removeprefix("triton-") for each in stored_baselines())
    return f"Triton {version}, of which no figures are stored (there are {there or 'none'}): rules alone"


def stored_baselines() -> list[Path]:
    """Those of all versions, the newest last."""
    return sorted(BASELINES.glob("triton-*.json"), key=lambda path: int(path.stem.rpartition(".")[2]))


def rewrite() -> Path:
    """Rewrites this version's figures, of all architectures: none is left from another time."""
    rows = resource_report(ARCHITECTURES)
    kernels = {_name(row): {figure: row[figure] for figure in FIGURES} for row in rows}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kernels[name])}" for name in sorted(kernels))
    head = f'{{\n "triton": {json.dumps(_triton_version())},\n "kernels": {{\n'
    path = baseline(_triton_version())
    write_whole(path, f"{head}{lines}\n }}\n}}\n".encode())
    return path


def broken_rules(row: Row) -> list[str]:
    """What no kernel may do: spill registers (fp16 and bf16), take more shared memory than a block can have."""
    problems = []
    if row["spills"] and "fp32" not in row["config"].split("_"):
        problems.append(f"{_name(row)} spills {row['spills']} bytes per thread; expected none")
    limit = LIMITS[row["arch"]].shared_memory_block
    if row["shared_memory"] > limit:
        problems.append(f"{_name(row)} takes {row['shared_memory']} bytes of shared memory; at most {limit} exist")
    return problems


def regressions(rows: Sequence[Row], stored: dict[str, Row], archs: Sequence[str]) -> list[str]:
    """Figures that got worse, kernels that came or went without `python -m bench static --update`."""
    current = {_name(row): row for row in rows}
    expected = {name: row for name, row in stored.items() if name.rpartition("/")[2] in archs}
    problems = [f"{name} is gone" for name in sorted(expected.keys() - current.keys())]
    problems += [f"{name} has no stored figures" for name in sorted(current.keys() - expected.keys())]
    for name in sorted(expected.keys() & current.keys()):
        problems += [f"{name}: {text}" for text in _worse(current[name], expected[name])]
    return problems


def markdown() -> str:
    """The newest version's figures as the table of kernels/README.md, a line for each kernel."""
    kernels: dict[str, dict[str, Row]] = {}
    for name, figures in load(stored_baselines()[-1]).items():
        config, _, arch = name.rpartition("/")
        kernels.setdefault(config, {})[arch] = figures
    numbers = ", ".join(arch.removeprefix("sm_") for arch in ARCHITECTURES)
    head = f"| kernel | registers on sm_{numbers} | spills | shared KiB | matrix instructions |\n"
    return head + "|---|---|---|---|---|\n" + "".join(_line(config, kernels[config]) for config in sorted(kernels))


def _line(config: str, rows: dict[str, Row]) -> str:
    families: dict[str, dict[str, int]] = {}
    archs = [arch for arch in ARCHITECTURES if arch in rows]
    for arch in archs:
        for family, count in rows[arch]["mma_instructions"].items():
            families.setdefault(family, {})[arch.removeprefix("sm_")] = count
    matrix = [
        f"{family} {_span(list(counts.values()))}" + (f" ({', '.join(counts)})" if len(counts) < len(rows) else "")
        for family, counts in families.items()
    ]
    registers = ", ".join(str(rows[arch]["registers"]) if arch in rows else "-" for arch in ARCHITECTURES)
    shared = _span([round(row["shared_memory"] / 1024) for row in rows.values()])
    spills = _span([row["spills"] for row in rows.values()])
    return f"| `{config}` | {registers} | {spills} | {shared} | {', '.join(matrix) or 'none'} |\n"


def _span(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


def _worse(now: Row, before: Row) -> list[str]:
    """In what one kernel got worse, by more than a compiler's noise."""
    allowed = {
        "registers": before["registers"] + REGISTER_SLACK,
        "spills": before["spills"],
        "shared_memory": before["shared_memory"],
        "cubin_bytes": int(before["cubin_bytes"] * CUBIN_SLACK),
    }
    worse = [
        f"{figure} {now[figure]}, stored {before[figure]}, allowed {limit}"
        for figure, limit in allowed.items()
        if now[figure] > limit
    ]
    if now["occupancy"] < before["occupancy"] - 1e-6:
        worse.append(f"occupancy {now['occupancy']:.3f}, stored {before['occupancy']:.3f}")
    lost = before["mma_instructions"].keys() - now["mma_instructions"].keys()
    if lost:  # how many there are says little; that a family is gone says that the work moved to slower units
        worse.append(f"no {', '.join(sorted(lost))} any more; has {now['mma_instructions'] or 'none'}")
    return worse


def _name(row: Row) -> str:
    return f"{row['config']}/{row['arch']}"


def _triton_version() -> str:
    import triton

    return triton.__version__


def main(options: Options) -> int:
    """Checks, rewrites or prints; returns the exit status: 1 when a figure got worse or compiling failed."""
    return exit_status(lambda: _run(options))


def _run(options: Options) -> int:
    if options.table:
        print(markdown(), end="")
        return 0
    if options.update:
        print(f"wrote {rewrite()}")
        return 0
    problems = check(options.arch or ARCHITECTURES, every_shape=options.every_shape)
    print(compared_with())
    compared = baseline(_triton_version()).exists()
    print("\n".join(problems) or "no kernel breaks a rule" + " or takes more than stored" * compared)
    return 1 if problems else 0
