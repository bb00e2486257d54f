"""Rows of a benchmark run: measured by the suites, printed as a table, kept in one file per device."""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"
Row = dict[str, Any]

FACTS = ("operation", "shape", "dtype", "implementation")
RATES = ("images_per_second", "gigabytes_per_second", "teraflops", "share_of_floor", "peak_memory")
NO_RATES: dict[str, None] = dict.fromkeys(RATES)
QUANTILES = ("min", "q1", "median", "q3", "max")


def run_suites(arguments: Sequence[str] = ()) -> list[Row]:
    """Runs the pytest-benchmark suites of this folder. Raises RuntimeError when one of them fails."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pytest", str(BENCH), f"--benchmark-json={report}", "-q", *arguments]
        # pytest-benchmark's own table would show neither rates nor memory: conftest.py prints ours.
        result = subprocess.run([*command, "--benchmark-quiet"], cwd=BENCH.parent)
        if result.returncode:
            raise RuntimeError(f"the benchmark suites failed (pytest exit status {result.returncode})")
        found = json.loads(report.read_text())["benchmarks"]
    measured = [entry for entry in found if "operation" in entry["extra_info"]]
    return [each for entry in measured for each in rows(entry["extra_info"], entry["stats"])]


def rows(facts: Mapping[str, Any], stats: Mapping[str, float]) -> list[Row]:
    """The row of a measurement, and after it one for each of its `phases`, {name: quantiles}."""
    phases: Mapping[str, Mapping[str, float]] = facts.get("phases", {})
    operation = facts["operation"]
    parts = [row({**facts, **NO_RATES, "operation": f"{operation}: {name}"}, phases[name]) for name in phases]
    return [row(facts, stats), *parts]


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of some measurements, under the names of a row."""
    seconds = seconds if len(seconds) > 1 else [*seconds, *seconds]  # one has no quartiles of its own
    found = statistics.quantiles(seconds, n=4, method="inclusive")
    return dict(zip(QUANTILES, (min(seconds), *found, max(seconds)), strict=True))


def row(facts: Mapping[str, Any], stats: Mapping[str, float]) -> Row:
    """What was measured, quantiles in seconds, rates."""
    return {
        **{fact: facts[fact] for fact in FACTS},
        **{quantile: stats[quantile] for quantile in QUANTILES},
        **{rate: facts.get(rate) for rate in RATES},
    }


def path_for(device: str) -> Path:
    """Where the result of a device is kept."""
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def store(path: Path, device: str, found: Sequence[Row]) -> None:
    """Writes a result with the versions it was made with."""
    facts: dict[str, Any] = {"device": device, **versions()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({**facts, "rows": list(found)}, indent=1) + "\n")
    draft.replace(path)


def versions() -> dict[str, str]:
    """Of what is installed of that which decides the figures."""
    found = {}
    for package in ("torch", "triton", "onnxruntime", "tensorrt", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def name(entry: Row) -> str:
    """What was measured, without the figures."""
    return " ".join(str(entry[fact]) for fact in FACTS)


def table(found: Sequence[Row]) -> str:
    """Rows as text; "x ours" is the time in units of ours, the first row of its group."""
    header = (
        *FACTS,
        "q1 ms",
        "median ms",
        "q3 ms",
        "x ours",
        "images/s",
        "GB/s",
        "TFLOP/s",
        "of floor",
        "peak MB",
    )
    lines: list[Sequence[str]] = [header]
    ours: dict[tuple[str, ...], float] = {}
    for entry in found:
        group = tuple(entry[fact] for fact in FACTS[:-1])
        ratio = entry["median"] / ours.setdefault(group, entry["median"])
        lines.append(
            (
                *(str(entry[fact]) for fact in FACTS),
                *(f"{entry[quantile] * 1e3:.4g}" for quantile in ("q1", "median", "q3")),
                f"{ratio:.2f}",
                *(_number(entry[rate], unit) for rate, unit in zip(RATES, (1, 1, 1, 1, 1e6), strict=True)),
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _number(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.3g}"
