"""The fixture that every suite here measures with, and the table at the end of a run."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.device import device_name
from bench.results import Row, quantiles, rows, table

ROWS = pytest.StashKey[list[Row]]()
NEEDS_TORCH = re.compile(
    r"^(import torch|from (bench\.(measure|phases|work)|kernels|pat\.(losses|training))\b)", re.MULTILINE
)

NEEDS = {
    "test_camera.py": ("av", "cv2", "onnxruntime", "trackers"),
    "test_detect.py": ("cv2", "onnxruntime", "trackers"),
    "test_gallery.py": ("numkong",),
    "test_runtime_overhead.py": ("onnxruntime",),
    "test_sources.py": ("av", "psutil"),
    # On a Jetson, which has no PyTorch, what embeds and tracks is measured, training is not.
    **{
        path.name: ("torch",)
        for path in Path(__file__).parent.glob("test_*.py")
        if NEEDS_TORCH.search(path.read_text())
    },
}
"""Packages without which a suite has nothing to measure."""

LEFT_OUT = {
    suite: missing
    for suite, packages in NEEDS.items()
    if (missing := [package for package in packages if importlib.util.find_spec(package) is None])
}
collect_ignore = list(LEFT_OUT)


def pytest_report_header() -> list[str]:
    return [f"left out: {suite} (needs {', '.join(missing)})" for suite, missing in sorted(LEFT_OUT.items())]


@pytest.fixture
def measure(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure(function, work, operation=..., implementation=..., shape=..., dtype=...)` makes one row."""
    from bench.measure import Work, peak_memory
    from kernels.timing import CLOCK, ROUNDS, WARMUP

    def run(function: Callable[[], object], work: Work, **facts: str) -> None:
        benchmark.group = f"{facts['operation']} {facts['shape']} {facts['dtype']}"
        peak = peak_memory(function)  # also the first call, which may compile
        benchmark.pedantic(CLOCK.call, args=(function,), rounds=ROUNDS, iterations=1, warmup_rounds=WARMUP)
        _keep(benchmark, pytestconfig, facts, work.rates, peak_memory=peak)

    return run


@pytest.fixture
def measure_embedding(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure_embedding(embed, crops, flops, ...)`: its vectors come to the host, so the wall clock is right."""

    def run(embed: Callable[[Any], object], crops: Any, flops: int, *, rounds: int, **facts: str) -> None:
        def rates(seconds: float) -> dict[str, float | None]:
            return {"images_per_second": len(crops) / seconds, "teraflops": flops * len(crops) / seconds / 1e12}

        benchmark.group = f"{facts['operation']} {facts['shape']}"
        benchmark.pedantic(embed, args=(crops,), rounds=rounds, iterations=1, warmup_rounds=2)
        _keep(benchmark, pytestconfig, facts, rates)

    return run


@pytest.fixture
def measure_images(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure_images(function, images, rounds=..., ...)`: the device has to be done when `function` returns."""

    def run(function: Callable[[], object], images: int, *, rounds: int, **facts: str) -> None:
        benchmark.group = f"{facts['operation']} {facts['shape']}"
        benchmark.pedantic(function, rounds=rounds)
        _keep(benchmark, pytestconfig, facts, lambda seconds: {"images_per_second": images / seconds})

    return run


@pytest.fixture
def measure_step(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure_step(build, images=..., flops=..., ...)` measures a training step and its phases.

    `build()` makes the step, a function of the clock of its phases. Peak memory counts from before it is built.
    The benchmark's timer has to wait for the device, which is then done once a round.
    """
    from bench.measure import watch_memory
    from bench.phases import Phases
    from kernels.timing import ON_GPU

    rounds, steps_of_a_round = (5, 10) if ON_GPU else (3, 1)

    def run(build: Callable[[], Callable[[Phases], object]], *, images: int, flops: int, **facts: str) -> None:
        watched, phases = watch_memory(), Phases()
        step = build()

        def timed() -> None:
            with phases.step():
                step(phases)

        for _ in range(3 if ON_GPU else 1):  # compiles, starts workers, makes the optimiser's state
            timed()
        benchmark.group = f"{facts['operation']} {facts['shape']} {facts['dtype']}"
        benchmark.pedantic(timed, rounds=rounds, iterations=steps_of_a_round)
        if benchmark.stats is None:  # --benchmark-disable
            return
        found = phases.seconds(rounds * steps_of_a_round)
        _keep(
            benchmark,
            pytestconfig,
            facts,
            lambda seconds: {"images_per_second": images / seconds, "teraflops": flops / seconds / 1e12},
            peak_memory=watched(),
            phases={name: quantiles(values) for name, values in found.items()},
        )

    return run


def _keep(
    benchmark: Any,
    config: pytest.Config,
    facts: Mapping[str, str],
    rates: Callable[[float], Mapping[str, float | None]],
    **more: Any,
) -> None:
    """Note what was measured for the table and the file of results."""
    benchmark.extra_info.update(facts, **more)
    if benchmark.stats is not None:  # None with --benchmark-disable
        stats = benchmark.stats.stats
        benchmark.extra_info.update(rates(stats.median))
        config.stash.setdefault(ROWS, []).extend(rows(benchmark.extra_info, stats.as_dict()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(ROWS, []):
        terminalreporter.write_sep("=", f"measured on {device_name()}")
        terminalreporter.write_line(table(found))
