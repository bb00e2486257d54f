"""Rows of a benchmark run: measured by the suites, printed as a table, kept in one file per device."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from kernels.command import in_columns
from pat.base.errors import UserError
from pat.base.files import write_json

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"
Row = dict[str, Any]

FACTS = ("operation", "shape", "dtype", "implementation")
RATES = ("images_per_second", "gigabytes_per_second", "teraflops", "share_of_floor", "peak_memory")
CHECKS = ("captured", "host", "error", "gradient_error", "note")
"""Median seconds as a CUDA graph, median seconds of the host, relative errors against float64, and a remark."""
OF_THE_WHOLE: dict[str, None] = dict.fromkeys(RATES + CHECKS)
QUANTILES = ("min", "q1", "median", "q3", "max")


def run_suites(arguments: Sequence[str] = ()) -> tuple[list[Row], int]:
    """Runs the suites of this folder: the rows that they measured, and pytest's exit status.

    Rows are written as they are measured, so those of a run that fails, or dies, are there too.
    """
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / "rows.jsonl"
        command = [sys.executable, "-m", "pytest", str(BENCH), f"--keep-rows={kept}", "-q", *arguments]
        # pytest-benchmark's own table would show neither rates nor memory: conftest.py prints ours.
        result = subprocess.run([*command, "--benchmark-quiet"], cwd=BENCH.parent)
        return read_rows(kept), result.returncode


def append_row(path: Path, entry: Row) -> None:
    """Adds a row to a file of lines; it is on the disk when this returns."""
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """The rows of such a file; none where it is missing. A last line that was cut off is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def rows(facts: Mapping[str, Any], stats: Mapping[str, float]) -> list[Row]:
    """The row of a measurement, and after it one for each of its `phases`, {name: quantiles}."""
    phases: Mapping[str, Mapping[str, float]] = facts.get("phases", {})
    operation = facts["operation"]
    parts = [row({**facts, **OF_THE_WHOLE, "operation": f"{operation}: {name}"}, phases[name]) for name in phases]
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
        **{rate: facts.get(rate) for rate in RATES + CHECKS},
    }


def path_for(device: str) -> Path:
    """Where the result of a device is kept."""
    return RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def store(path: Path, device: str, found: Sequence[Row]) -> None:
    """Writes a result with the versions it was made with; rows that failed stand apart."""
    measured, failed = [entry for entry in found if "median" in entry], [row for row in found if "failed" in row]
    facts: dict[str, Any] = {"device": device, **versions()} | ({"failed": failed} if failed else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**facts, "rows": measured}, indent=1)


def read_result(path: Path) -> tuple[str, list[Row]]:
    """The device and the rows of a file that `store` wrote. Raises UserError for any other."""
    try:
        loaded = json.loads(path.read_text())
        device, found = loaded["device"], loaded["rows"]
        path_for(device)
        for entry in found:
            name(entry), [float(entry[quantile]) for quantile in QUANTILES]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no file of results ({type(error).__name__}: {error})") from error
    return device, found


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


COLUMNS: dict[str, tuple[str, float]] = {
    "q1": ("q1 ms", 1e-3),
    "median": ("median ms", 1e-3),
    "q3": ("q3 ms", 1e-3),
    "captured": ("graph ms", 1e-3),
    "host": ("host ms", 1e-3),
    "images_per_second": ("images/s", 1),
    "gigabytes_per_second": ("GB/s", 1),
    "teraflops": ("TFLOP/s", 1),
    "share_of_floor": ("of floor", 1),
    "peak_memory": ("peak MB", 1e6),
    "error": ("error", 1),
    "gradient_error": ("of gradient", 1),
}
"""What a table shows of a row: heading and unit."""


def table(found: Sequence[Row]) -> str:
    """Rows as text; "x ours" is the time in units of ours, the first row of its group. A failed row says why."""
    lines: list[Sequence[str]] = [(*FACTS, "x ours", *(heading for heading, _ in COLUMNS.values()), "note")]
    ours: dict[tuple[str, ...], float] = {}
    for entry in found:
        names = tuple(str(entry[fact]) for fact in FACTS)
        if "failed" in entry:
            lines.append((*names, "-", *("-" for _ in COLUMNS), f"failed: {entry['failed']}"))
            continue
        ratio = entry["median"] / ours.setdefault(names[:-1], entry["median"])
        figures = (_number(entry.get(column), unit) for column, (_, unit) in COLUMNS.items())
        lines.append((*names, f"{ratio:.2f}", *figures, entry.get("note") or ""))
    return in_columns(lines)


def _number(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.4g}"
