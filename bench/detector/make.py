"""`python -m bench detector`: renders frames, trains on them, exports the detector, scores it and writes its card.

Each stage leaves a result that the next call finds; a call with --minutes leaves in time with the state saved, and
the same command goes on. Remove `detector` and give more --training to train further.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.detector.card import card
from bench.detector.data import read_frames, render_cameras
from bench.detector.graph import MODEL, export_detector
from bench.detector.scores import Found, look
from bench.detector.train import averaged, train
from bench.train import UNFINISHED, Deadline, Lines
from deploy.detect import HOG, open_detector
from deploy.detect.manifest import MANIFEST
from pat.base.errors import Failure, UserError
from pat.base.files import write_text
from pat.base.progress import Progress

CAMERAS, TEST_CAMERAS = 65, 12
SEED = 0
LEAST_SCORE = 0.05
"""From which on boxes count for the average precision."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path = Path("runs/detector")
    training: float = 69.0
    """Minutes that the network learns."""
    minutes: float | None = None
    """Minutes after which this call leaves."""
    threads: int = 0
    """Of PyTorch; 0 leaves its own choice."""
    small: bool = False
    """Two cameras and seconds of training: to try the way, not to keep."""


def main(options: Options) -> int:
    """Returns the exit status: 0 when the detector is finished, UNFINISHED when time was up, 2 and 1 as `pat`."""
    try:
        if not make(options, Deadline(options.minutes), Lines()):
            print("time is up; the same command goes on", file=sys.stderr)
            return UNFINISHED
    except (UserError, Failure) as error:
        print(f"bench detector: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def make(options: Options, deadline: Deadline, progress: Progress) -> bool:
    """All stages, each where its result is not there yet; False when time was up between two of them."""
    out = options.out
    cameras, test_cameras = (2, 1) if options.small else (CAMERAS, TEST_CAMERAS)
    minutes = 0.1 if options.small else options.training
    if options.threads:
        torch.set_num_threads(options.threads)
    for stage in (
        lambda: render_cameras(out / "train", range(cameras), "train", out / "sites", deadline.passed, progress),
        lambda: render_cameras(
            out / "test", range(test_cameras), "test", out / "sites", deadline.passed, progress
        ),
        lambda: train(out / "train", out / "checkpoint.pt", minutes, SEED, deadline.passed, progress),
        lambda: _export(out),
        lambda: _score(out, progress),
    ):
        stage()
        if deadline.passed():
            return False
    progress.say(f"the detector is {out / 'detector'}; copy it to models/pat-detector to ship it")
    return True


def _export(out: Path) -> None:
    if not (out / "detector" / MANIFEST).is_file():
        export_detector(averaged(out / "checkpoint.pt")[0], out / "detector")


def _score(out: Path, progress: Progress) -> None:
    """scores.json and the detector's README.md."""
    frames = read_frames(out / "test")
    folder = out / "detector"
    found: dict[str, Found] = {}
    for name, what in (("this detector", str(folder)), ("HOG", HOG)):
        progress.say(f"{name} looks at {len(frames)} frames")
        found[name] = look(open_detector(what, threshold=LEAST_SCORE).detect, frames)
    told = {name: each.told() for name, each in found.items()}
    write_text(out / "scores.json", json.dumps(told, indent=1) + "\n")
    steps = averaged(out / "checkpoint.pt")[1]
    size = (folder / MODEL).stat().st_size
    write_text(folder / "README.md", card(found, steps, len(read_frames(out / "train")), size))
