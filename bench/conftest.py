"""The fixture that every suite here measures with, and the table at the end of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.measure import Work, device_name, peak_memory
from bench.results import Row, row, table
from kernels.timing import CLOCK, ROUNDS, WARMUP

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture
def measure(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure(function, work, operation=..., implementation=..., shape=..., dtype=...)` makes one row."""

    def run(function: Callable[[], object], work: Work, **facts: str) -> None:
        benchmark.group = f"{facts['operation']} {facts['shape']} {facts['dtype']}"
        peak = peak_memory(function)  # also the first call, which may compile
        benchmark.pedantic(CLOCK.call, args=(function,), rounds=ROUNDS, iterations=1, warmup_rounds=WARMUP)
        benchmark.extra_info.update(facts, peak_memory=peak)
        if benchmark.stats is not None:  # None with --benchmark-disable
            stats = benchmark.stats.stats
            benchmark.extra_info.update(work.rates(stats.median))
            pytestconfig.stash.setdefault(ROWS, []).append(row(benchmark.extra_info, stats.as_dict()))

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(ROWS, []):
        terminalreporter.write_sep("=", f"measured on {device_name()}")
        terminalreporter.write_line(table(found))
