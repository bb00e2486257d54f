"""The fixture that every suite here measures with, and the table at the end of a run."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.device import device_name
from bench.results import Row, append_row, row, table

ROWS = pytest.StashKey[list[Row]]()
NEEDS_TORCH = re.compile(
    r"^(import torch|from (bench\.(measure|rows|work)|kernels|pat\.(losses|training))\b)", re.MULTILINE
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-rows", type=Path, metavar="FILE", help="add each row to FILE as it is measured")


@pytest.fixture
def keep(pytestconfig: pytest.Config) -> Callable[[list[Row]], None]:
    """`keep(rows)` notes rows for the table and the file."""
    return lambda found: _note(pytestconfig, found)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle given, or one of a ViT with random weights."""
    if given := os.environ.get("PAT_BENCH_BUNDLE"):
        return Path(given)
    pytest.importorskip("torch", reason="without PyTorch there is no model to export; set PAT_BENCH_BUNDLE")
    pytest.importorskip("onnxscript", reason="no model can be exported; set PAT_BENCH_BUNDLE")
    from bench.test_embedding import noise_crops, random_model
    from export.to_onnx import export_bundle

    folder = tmp_path_factory.mktemp("bundle")
    return export_bundle(random_model(folder), folder / "fp32", check_images=noise_crops(folder)).folder


@pytest.fixture
def measure_embedding(benchmark, pytestconfig: pytest.Config) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """`measure_embedding(embed, crops, flops, ...)`: its vectors come to the host, so the wall clock is right."""

    def run(embed: Callable[[Any], object], crops: Any, flops: int, *, rounds: int, **facts: str) -> None:
        def rates(seconds: float) -> dict[str, float]:
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


def _keep(
    benchmark: Any, config: pytest.Config, facts: Mapping[str, str], rates: Callable[[float], Mapping[str, float]]
) -> None:
    """Note what pytest-benchmark measured."""
    if benchmark.stats is not None:  # None with --benchmark-disable
        stats = benchmark.stats.stats
        _note(config, [row({**facts, **rates(stats.median)}, stats.as_dict())])


def _note(config: pytest.Config, found: list[Row]) -> None:
    config.stash.setdefault(ROWS, []).extend(found)
    if path := config.getoption("--keep-rows"):
        for entry in found:
            append_row(path, entry)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(ROWS, []):
        terminalreporter.write_sep("=", f"measured on {device_name()}")
        terminalreporter.write_line(table(found))
