"""The camera process on a filmed street: frames a second, and where the time goes.

python -m pytest bench/test_camera.py
PAT_BENCH_BUNDLE=BUNDLE PAT_BENCH_VIDEO=street.avi python -m pytest bench/test_camera.py   # yours
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from deploy.assembly import named_sources
from deploy.pipeline import run
from deploy.settings import GallerySettings, OutputSettings, ProcessSettings

VIDEO = os.environ.get("PAT_BENCH_VIDEO")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if VIDEO:
        return Path(VIDEO)
    from flat_street import film_street

    out = tmp_path_factory.mktemp("street") / "street"
    film_street(out, cameras=1, people=6)
    return out / "camera-1.mp4"


@pytest.mark.benchmark(group="camera process")
def test_a_street(benchmark, video: Path, bundle: Path, tmp_path: Path) -> None:
    settings = ProcessSettings(
        gallery=GallerySettings(path=str(tmp_path / "gallery")),
        output=OutputSettings(events=str(tmp_path / "events.jsonl"), metrics_port=0),
    )
    sources = named_sources([str(video)])
    summary = benchmark.pedantic(
        run, args=(bundle, sources, settings), kwargs={"threshold": 0.9, "stopping": threading.Event()}, rounds=1
    )
    assert summary.frames > 0
    seconds = {stage: total for stage, (total, _) in summary.stages.items()}
    benchmark.extra_info["frames per second"] = round(summary.frames / summary.seconds, 2)
    benchmark.extra_info["crops per second"] = round(summary.crops / summary.seconds, 2)
    benchmark.extra_info["ms per frame"] = {
        stage: round(1e3 * total / summary.frames, 2) for stage, total in seconds.items()
    }
    for name, value in benchmark.extra_info.items():
        print(f"{name}: {value}")
