"""Ahead-of-time compilation: every shipped kernel for every GPU architecture, on a machine without a GPU.

    python -m kernels.aot build OUT --arch sm_87     cubin, PTX and JSON of every configuration
    python -m kernels.aot report [--arch sm_90]      registers, spills, matrix instructions as a table

What `build` writes is launched later by the CUDA driver alone: the JSON says how, Triton and torch are not needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels.command import exit_status, in_columns
from kernels.compiler import ARCHITECTURES, compile_all, write_whole

__all__ = ["ARCHITECTURES", "build", "resource_report", "table"]


def build(out: Path, archs: Sequence[str], pattern: str = "*") -> list[Path]:
    """Writes `OUT/ARCH/NAME.cubin`, `.ptx` and `.json`; returns the paths of the JSON files.

    Every file appears whole or not at all, the JSON last: it holds the SHA-256 of the other two.
    """
    written = []
    for description, folder in compile_all(archs, pattern):
        target = out / str(description["arch"])
        target.mkdir(parents=True, exist_ok=True)
        for kind in ("cubin", "ptx", "json"):
            path = target / f"{description['name']}.{kind}"
            write_whole(path, (folder / f"kernel.{kind}").read_bytes())
        written.append(path)
    return written


def resource_report(archs: Sequence[str], pattern: str = "*") -> list[dict[str, Any]]:
    """One row per configuration and architecture, compiled when needed.

    Keys: kernel, arch, config, registers (per thread), spills (bytes per thread), shared_memory (bytes per
    block), mma_instructions (family -> count in the program text), cubin_bytes, occupancy (0 to 1).
    """
    keys = ("arch", "registers", "spills", "shared_memory", "mma_instructions", "cubin_bytes", "occupancy")
    return [
        {"kernel": row["operator"], "config": row["name"], **{key: row[key] for key in keys}}
        for row, _ in compile_all(archs, pattern)
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The resource report as lines of text."""
    keys = ("config", "arch", "registers", "spills", "shared_memory", "cubin_bytes", "occupancy")
    lines = [[*keys, "mma_instructions"]]
    for row in rows:
        families = " ".join(f"{count} {family}" for family, count in row["mma_instructions"].items())
        lines.append([*(str(row[key]) for key in keys[:-1]), f"{row['occupancy']:.2f}", families or "none"])
    return in_columns(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 for a failure, 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m kernels.aot", description="Compile kernels without a GPU.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("build", "write cubin, PTX and JSON"), ("report", "print the resources of every kernel")):
        command = commands.add_parser(name, help=text, description=text)
        if name == "build":
            command.add_argument("out", type=Path, help="folder to write to")
        else:
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        command.add_argument("--arch", action="append", choices=ARCHITECTURES, help="repeatable; default: all")
        command.add_argument("--only", default="*", metavar="PATTERN", help="by name, e.g. 'crop_*'")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _run(options, options.arch or ARCHITECTURES))


def _run(options: argparse.Namespace, archs: Sequence[str]) -> int:
    if options.command == "build":
        written = build(options.out, archs, options.only)
        print(f"wrote {len(written)} kernels to {options.out}")
    else:
        rows = resource_report(archs, options.only)
        print(json.dumps(rows, indent=1) if options.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
