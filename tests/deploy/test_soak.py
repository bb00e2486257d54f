"""The camera process left alone with four cameras: memory, threads and files stay flat while videos loop.

PAT_SOAK_SECONDS=3600 python -m pytest -m slow tests/deploy/test_soak.py -s
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("PAT_SOAK_SECONDS", "180"))
CAMERAS = 4
GROWTH = 16
"""MiB that the last quarter's least resident memory may lie above the second quarter's."""

pytestmark = pytest.mark.slow


def test_nothing_grows(colour_bundle, street, tmp_path):
    command = [
        *(sys.executable, "-m", "pat.cli", "camera", str(colour_bundle)),
        *(f"gate-{number}={street / f'camera-{1 + number % 2}.mp4'}" for number in range(CAMERAS)),
        *(
            "--camera.loop",
            "--camera.pace",
            "--camera.rate",
            "4",
            "--detect.detector",
            "hog:720",
            "--runtime.threads",
            "1",
        ),
        *("--gallery.path", str(tmp_path / "gallery"), "--gallery.threshold", "0.8"),
        *("--gallery.retention-hours", "0.02", "--track.every", "0.3"),
        *(
            "--output.events",
            str(tmp_path / "events.jsonl"),
            "--output.rotate-megabytes",
            "0.05",
            "--output.keep",
            "2",
        ),
        *("--output.video", str(tmp_path / "video"), "--output.metrics-port", "0"),
    ]
    with open(tmp_path / "log", "w") as log:
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    samples = []
    try:
        process = psutil.Process(child.pid)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(SECONDS / 60)
            assert child.poll() is None, (tmp_path / "log").read_text()
            samples.append((process.memory_info().rss / 2**20, process.num_threads(), process.num_fds()))
            if len(samples) % 5 == 0:
                memory, threads, files = samples[-1]
                seconds = SECONDS * len(samples) / 60
                print(f"{seconds:5.0f} s: {memory:.1f} MiB, {threads} threads, {files} files", flush=True)
    finally:
        child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=60)
    print((tmp_path / "log").read_text()[-1500:])
    assert code == 0
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    assert min(late)[0] < min(early)[0] + GROWTH
    assert max(each[1] for each in late) <= max(each[1] for each in early)
    assert max(each[2] for each in late) <= max(each[2] for each in early) + 2
