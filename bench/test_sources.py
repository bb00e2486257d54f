"""Reading video on one core: decoding with conversion to RGB, and what a frame costs that nobody wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.device import device_name
from deploy.sources import open_source

FRAMES, WIDTH, HEIGHT = 100, 1280, 720
CASES = [("all", 0.0, FRAMES), ("one in five", 5.0, FRAMES // 5), ("the first", 0.01, 1)]


@pytest.fixture(scope="module", params=["libx264", "mpeg4", "mjpeg"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares that move over a textured ground, with sensor noise: about what an encoder sees of a street."""
    random = np.random.default_rng(0)
    ground = np.kron(random.integers(60, 180, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1))).astype(np.int16)
    path = tmp_path_factory.mktemp("video") / f"{request.param}.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(request.param, rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 4_000_000
        stream.pix_fmt = "yuvj420p" if request.param == "mjpeg" else "yuv420p"
        for number in range(FRAMES):
            pixels = ground + random.normal(0, 3, (HEIGHT, WIDTH, 1)).astype(np.int16)
            for person in range(6):
                left = (person * 200 + number * (person + 2)) % (WIDTH - 60)
                pixels[300 : 300 + 180, left : left + 60] = 40 * person
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def one_core() -> Iterator[None]:
    process = psutil.Process()
    cores = process.cpu_affinity()
    process.cpu_affinity(cores[:1])
    yield
    process.cpu_affinity(cores)


def read(path: Path, rate: float) -> Callable[[], int]:
    def count() -> int:
        with open_source(str(path), rate=rate) as source:
            return sum(1 for _ in source)

    return count


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(("case", "rate", "kept"), CASES)
def test_reading(benchmark: BenchmarkFixture, video: Path, case: str, rate: float, kept: int) -> None:
    """Per frame of the file, whether it is kept or not: "the first" is what a dropped frame costs."""
    benchmark.group = f"read {video.stem} {WIDTH}x{HEIGHT}"
    assert benchmark.pedantic(read(video, rate), rounds=5, warmup_rounds=1) == kept
    benchmark.extra_info.update(device=device_name(), cores=1, codec=video.stem, size=[WIDTH, HEIGHT], kept=case)
    if benchmark.stats is not None:  # None with --benchmark-disable
        seconds = benchmark.stats.stats.median / FRAMES
        benchmark.extra_info.update(
            frames_per_second=round(1 / seconds, 1), milliseconds_per_frame=round(seconds * 1e3, 3)
        )
