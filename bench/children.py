"""`pat serve` and `pat camera` in processes of their own, with cameras on filmed streets."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploy.gallery import Gallery
from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from pat.base.errors import Failure, UserError

ROOT = Path(__file__).resolve().parents[1]
CAMERAS = 4
PAGE = r"the page is at (\S+)"
"""What `pat serve` says when it answers."""
LIVE = r"camera (\S+) is live"
"""What both say when a camera gives its first frame."""


class Child:
    """One of the two commands; there when it has said `until`, and as a context manager gone at the end.

    Raises Failure when it ends before that.
    """

    def __init__(self, command: str, *words: str, until: str) -> None:
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pat", command, *words], cwd=ROOT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.said: list[str] = []
        """Lines of its standard error."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(until, line):
                self.found = found[1]
                break
        else:
            raise Failure(f"pat {command} ended with {self.process.wait()}: {''.join(self.said[-20:])}")
        self.seconds = time.monotonic() - begun
        """From its start to `until`."""
        threading.Thread(target=self.said.extend, args=(self.process.stderr,), daemon=True).start()

    def end(self, number: int) -> int:
        """Send a signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def traces(self) -> list[str]:
        """Lines that tell of a defect."""
        return [line for line in self.said if "Traceback" in line]


def check_numbers(options: Any, *names: str) -> None:
    """Raise UserError, naming the option, where one of these numbers is not above 0."""
    for name in names:
        if not 0 < getattr(options, name) < math.inf:
            raise UserError(f"--{name} {getattr(options, name)}: expected a number above 0")


def sources(streets: Sequence[Path], out: Path) -> list[str]:
    """CAMERAS sources NAME=FILE: the videos of these folders; without any, of a street filmed in `out`."""
    if not streets:
        from pat.synthetic.people.street import film_people

        streets = [out / "bench-street"]
        if not streets[0].exists():
            film_people(streets[0], cameras=CAMERAS, people=8, rate=5, seed=1)
    videos = [video for street in streets for video in sorted(street.glob("*.mp4"))]
    if not videos:
        raise UserError(f"{streets[0]}: no videos (*.mp4); name folders of `pat synth street`")
    chosen = itertools.islice(itertools.cycle(videos), CAMERAS)
    return [f"gate-{number}={video}" for number, video in enumerate(chosen)]


@contextlib.contextmanager
def opened(folder: Path, bundle: Path) -> Iterator[Gallery]:
    """The gallery of a process that runs this bundle."""
    manifest = Manifest.load(bundle)
    with Gallery.open(folder, dimension=manifest.output.size, model=fingerprint(manifest)) as gallery:
        yield gallery


def settle(gallery: Gallery, people: int, entries: int = 3) -> dict[str, str]:
    """Add people whom no camera will meet, kept for ever: their names by their keys."""
    names = [f"guest {uuid.uuid4().hex}" for _ in range(people)]
    vectors = np.random.default_rng().normal(size=(people * entries, gallery.facts.dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gallery.add(
        vectors.astype(np.float32), identity=[name for name in names for _ in range(entries)], camera="gate-0",
        time=list(time.time() - np.linspace(60, 3600, people * entries)), keep_for=float("inf"),
    )  # fmt: skip
    return {key: name for name in names if (key := gallery.key_of(name)) is not None}
