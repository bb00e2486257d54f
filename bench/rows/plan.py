"""A row that is to be measured, and what the measuring of a kernel has in common."""

from __future__ import annotations

import functools
import importlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from bench.measure import Work, peak_memory
from bench.results import FACTS, Row, quantiles, row
from bench.rows import SUITES
from kernels.timing import INTERPRETED, ON_GPU, ROUNDS, captured, seconds, timings

TOLERANCE = {torch.bfloat16: 0.03, torch.float16: 0.005, torch.float32: 1e-3, torch.float64: 1e-9}
"""Largest relative error against float64 (norm of the difference over the norm) with which a row counts."""

T = TypeVar("T")


@dataclass(frozen=True)
class RowPlan:
    """One row to be measured; plans of a lower priority number come first."""

    operation: str
    shape: str
    dtype: str
    implementation: str
    priority: int
    run: Callable[[dict[str, str], Path], list[Row]]
    """From the facts of the row and a folder for what belongs to the result: the row and those of its phases."""

    @property
    def facts(self) -> dict[str, str]:
        return {fact: getattr(self, fact) for fact in FACTS}

    @property
    def name(self) -> str:
        return " ".join(self.facts.values())

    def measure(self, out: Path) -> list[Row]:
        """The row and, after it, those of its phases; what else belongs to the result goes to `out`."""
        return self.run(self.facts, out)


class Errors(NamedTuple):
    """Of the output and of the gradient (None where there is none), relative to float64."""

    error: float
    gradient_error: float | None = None


@dataclass(frozen=True)
class Ready:
    """A call that has been checked and may be timed."""

    function: Callable[[], object]
    work: Work
    errors: Errors


def plans(suites: Sequence[str] = SUITES) -> list[RowPlan]:
    """All rows of some suites, what matters most first.

    A suite that cannot be loaded, for want of a package, is one row that fails.
    """
    found: list[RowPlan] = []
    for suite in suites:
        try:
            found += importlib.import_module(f"bench.rows.{suite}").plans()
        except ImportError as error:
            found.append(RowPlan(suite, "-", "-", "all rows", 9, functools.partial(_fail, error)))
    return sorted(found, key=lambda plan: plan.priority)


def _fail(error: ImportError, _facts: dict[str, str], _out: Path) -> list[Row]:
    raise error


def sizes(large: Sequence[T], small: Sequence[T], tiny: Sequence[T]) -> Sequence[T]:
    """Those for a GPU, for a CPU, for Triton's interpreter."""
    return large if ON_GPU else tiny if INTERPRETED else small


def kernel_plan(
    priority: int, operation: str, shape: str, dtype: torch.dtype, implementation: str,
    prepare: Callable[[], Ready],
) -> RowPlan:  # fmt: skip
    """A call that is checked, then timed as eager PyTorch makes it and as a CUDA graph."""
    run = functools.partial(_run, prepare)
    return RowPlan(operation, shape, dtype_name(dtype), implementation, priority, run)


def _run(prepare: Callable[[], Ready], facts: dict[str, str], _out: Path) -> list[Row]:
    return [timed(prepare(), facts)]


def dtype_name(dtype: torch.dtype) -> str:
    """E.g. "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def timed(ready: Ready, facts: dict[str, str]) -> Row:
    """The row of a call: its time on the device with a cold cache, the host's, and that of a captured graph."""
    peak = peak_memory(ready.function)  # also the first call, which may compile
    found = timings(ready.function)
    stats = quantiles([timing.device for timing in found])
    more: dict[str, Any] = {
        "host": statistics.median(timing.host for timing in found),
        **ready.errors._asdict(),
        "peak_memory": peak,
        "note": "launch gaps are in the time" if sum(timing.gaps for timing in found) > ROUNDS // 2 else None,
    }
    if ON_GPU:
        try:
            more["captured"] = statistics.median(seconds(captured(ready.function)))
        except RuntimeError as error:
            more["note"] = f"no graph: {first_line(error)}"
    return row({**facts, **ready.work.rates(stats["median"]), **more}, stats)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


def relative_error(found: Tensor, exact: Tensor) -> float:
    """The norm of the difference over that of the float64 numbers; NaN where one is no number."""
    difference = (found.detach().double() - exact.detach()).norm()
    return float(difference / exact.detach().norm().clamp_min(1e-30))


def checked(dtype: torch.dtype, error: float, gradient_error: float | None = None) -> Errors:
    """The errors, for `Ready`. Raises ValueError where one is too large, or no number."""
    for name, found in (("error", error), ("gradient error", gradient_error)):
        if found is not None and not found <= TOLERANCE[dtype]:
            raise ValueError(f"wrong: {name} {found:.2g} relative to float64, allowed {TOLERANCE[dtype]:g}")
    return Errors(error, gradient_error)
