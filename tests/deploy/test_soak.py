"""The camera process, and the service with its page open, left alone with four cameras: nothing grows.

PAT_SOAK_SECONDS=3600 python -m pytest -m slow tests/deploy/test_soak.py -s
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx
import psutil
import pytest

from bench.children import LIVE, PAGE, Child

SECONDS = float(os.environ.get("PAT_SOAK_SECONDS", "180"))
RATE = os.environ.get("PAT_SOAK_RATE", "4")
"""Frames a second of each camera."""
CAMERAS = tuple(f"gate-{number}" for number in range(4))
GROWTH = 16
"""MiB that the last quarter's least resident memory may lie above the second quarter's."""
SPARE_THREADS = {"camera": 0, "serve": 8}
"""More in the last quarter than in the second: the service's answers have threads that come and go."""

pytestmark = pytest.mark.slow


class Sample(NamedTuple):
    """What a process holds."""

    memory: float
    """MiB"""
    threads: int
    files: int


@contextlib.contextmanager
def nobody(address: str) -> Iterator[dict[str, int]]:
    """Nobody looks."""
    yield {}


@contextlib.contextmanager
def as_the_page_asks(address: str) -> Iterator[dict[str, int]]:
    """What the page asks for while somebody looks at the cameras, and how often it was answered.

    An image of each camera and their states every second, the service's state every five, all events as they come.
    """
    answers = dict.fromkeys([*(f"cameras/{name}/frame.jpg" for name in CAMERAS), "cameras", "status", "events"], 0)
    problems: list[str] = []
    over = threading.Event()

    def ask(path: str, pause: float) -> None:
        with httpx.Client(base_url=f"{address}api/v1/", timeout=60) as client:
            while not over.wait(pause):
                answer = client.get(path)
                if answer.status_code == 200:
                    answers[path] += 1
                elif answer.status_code != 503 or answers[path]:  # a camera has no image before its first
                    problems.append(f"{path}: {answer.status_code}")

    def listen() -> None:
        with httpx.stream("GET", f"{address}api/v1/events/stream", timeout=60) as stream:
            for line in stream.iter_lines():
                answers["events"] += line.startswith("data:")
                if over.is_set():
                    return

    asking = [
        threading.Thread(target=ask, args=(path, 5.0 if path == "status" else 1.0), daemon=True)
        for path in answers if path != "events"
    ]  # fmt: skip
    threads = [*asking, threading.Thread(target=listen, daemon=True)]
    for thread in threads:
        thread.start()
    yield answers
    assert all(thread.is_alive() for thread in threads)  # nobody was sent away
    over.set()
    assert problems == []


@contextlib.contextmanager
def the_page(address: str) -> Iterator[dict[str, int]]:
    """The page itself in Chromium, on the view of the cameras; at the end what it shows: cameras, events."""
    shown = {"cameras": 0, "events": 0}
    from chromium import CHROMIUM, NONE, launched  # skips the test where there is no playwright

    if CHROMIUM is None:
        pytest.skip(NONE)
    with launched() as browser:
        page, errors = browser.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}#/live", timeout=90_000)
        yield shown
        shown["cameras"] = page.evaluate(
            "[...document.querySelectorAll('.frame img')].filter((each) => each.naturalWidth > 0).length"
        )
        shown["events"] = page.locator(".feed li:not(.nothing)").count()
        print(f"the page's heap: {page.evaluate('performance.memory.usedJSHeapSize') / 2**20:.1f} MiB")
        assert errors == []
        assert shown["cameras"] == len(CAMERAS)


Client = Callable[[str], contextlib.AbstractContextManager[dict[str, int]]]


@pytest.mark.parametrize(
    ("command", "client"),
    [("camera", nobody), ("serve", as_the_page_asks), ("serve", the_page)],
    ids=["camera", "requests", "page"],
)
def test_nothing_grows(command, client: Client, colour_bundle, street, tmp_path):
    words = [str(colour_bundle)]
    words += [f"{name}={street / f'camera-{1 + number % 2}.mp4'}" for number, name in enumerate(CAMERAS)]
    words += ["--camera.loop", "--camera.pace", "--camera.rate", RATE]
    words += ["--detect.detector", "hog:720", "--runtime.threads", "1", "--track.every", "0.3"]
    words += ["--gallery.path", str(tmp_path / "gallery"), "--gallery.threshold", "0.8"]
    words += ["--gallery.retention-hours", "0.02"]
    words += ["--output.events", str(tmp_path / "events.jsonl"), "--output.rotate-megabytes", "0.05"]
    words += ["--output.keep", "2", "--output.video", str(tmp_path / "video")]
    words += ["--port", "0", "--keep.views", "best"] if command == "serve" else ["--output.metrics-port", "0"]
    with Child(command, *words, until=PAGE if command == "serve" else LIVE) as child:
        with client(child.found) as seen:
            samples = list(watched(child))
        code = child.end(signal.SIGTERM)
    print("".join(child.said)[-1500:], seen)
    assert code == 0
    assert not child.traces
    assert all(seen.values())
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    assert min(late).memory < min(early).memory + GROWTH
    assert max(each.threads for each in late) <= max(each.threads for each in early) + SPARE_THREADS[command]
    assert max(each.files for each in late) <= max(each.files for each in early) + 2


def watched(child: Child) -> Iterator[Sample]:
    """What it holds, sixty times."""
    process = psutil.Process(child.process.pid)
    for number in range(1, 61):
        time.sleep(SECONDS / 60)
        assert child.process.poll() is None, child.said
        sample = Sample(process.memory_info().rss / 2**20, process.num_threads(), process.num_fds())
        if number % 5 == 0:
            print(f"{SECONDS * number / 60:5.0f} s: {sample}", flush=True)
        yield sample
