"""What a crop costs besides the model: cutting it out of its frame, and the rest of the runtime.

    python -m pytest bench/test_runtime_overhead.py
    PAT_BENCH_BUNDLE=BUNDLE python -m pytest bench/test_runtime_overhead.py

A ViT with random weights, unless a bundle is given; boxes of 80 to 400 pixels' height in a frame of 1080p. `model`
is `embed` of crops that have the right size; ratios are of medians of one run. Then what it takes to import it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

from bench.results import BENCH
from deploy import runtime
from deploy.frames import clipped
from deploy.runtime.crops import write_boxes
from deploy.runtime.session import Runtime

BATCHES = (1, 8, 32)
ROUNDS = 7


def street(people: int) -> tuple[np.ndarray, np.ndarray]:
    """A 1080p frame and boxes float32 [people, 4] in it."""
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    height = random.uniform(80, 400, people)
    corner = random.uniform(0, [1700, 680], (people, 2))
    boxes = np.column_stack((corner, corner[:, 0] + 0.4 * height, corner[:, 1] + height))
    return frame, clipped(boxes.astype(np.float32), 1080, 1920)[0]


@pytest.mark.parametrize("batch", BATCHES)
def test_boxes_of_a_frame(batch, bundle, benchmark):
    """A frame's boxes to vectors, set against the model alone in turns."""
    frame, boxes = street(batch)
    with runtime.open(bundle, threads=int(os.environ.get("OMP_NUM_THREADS", "0"))) as session:
        assert isinstance(session, Runtime)
        size = (session.manifest.input.height, session.manifest.input.width)
        crops = np.random.default_rng(1).integers(0, 256, (batch, *size, 3), dtype=np.uint8)
        model, cutting = [], []

        def between() -> None:
            """Before every measured call: the two things it is compared with."""
            begun = time.perf_counter()
            session.embed(crops)
            embedded = time.perf_counter()
            write_boxes(frame, boxes, session._rows[:batch], session.manifest)
            model.append(embedded - begun)
            cutting.append(time.perf_counter() - embedded)

        benchmark.group = f"boxes to vectors, batch {batch}"
        benchmark.pedantic(
            lambda: session.embed_boxes([frame], [boxes]), setup=between, rounds=ROUNDS, warmup_rounds=1
        )
        alone = statistics.median(model[1:])
        benchmark.extra_info |= {
            "runtime": session.name,
            "model_ms_per_crop": 1e3 * alone / batch,
            "cutting_share_of_model": statistics.median(cutting[1:]) / alone,
        }
        if benchmark.stats is not None:  # None with --benchmark-disable
            benchmark.extra_info["end_to_end_over_model"] = benchmark.stats.stats.median / alone


PROCESS = r"""
import re, sys, time
from pathlib import Path
begun = time.perf_counter()
import deploy.runtime
imported = time.perf_counter() - begun
if len(sys.argv) > 1:
    import deploy.runtime.onnxruntime
memory = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
print(imported, time.perf_counter() - begun, int(memory) / 1024)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("what", ["deploy.runtime", "deploy.runtime.onnxruntime"])
def test_importing(what, benchmark):
    """A fresh process each time. Its own figures are in extra_info; the time measured is with Python's start."""
    command = [sys.executable, "-c", PROCESS, *(["backend"] if what.endswith("onnxruntime") else [])]
    seconds, megabytes = [], []

    def run() -> None:
        done = subprocess.run(command, cwd=BENCH.parent, capture_output=True, text=True, check=True)
        package, whole, memory = map(float, done.stdout.split())
        seconds.append(whole if what.endswith("onnxruntime") else package)
        megabytes.append(memory)

    benchmark.group = "import"
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info |= {"import_seconds": statistics.median(seconds), "peak_megabytes": max(megabytes)}
