"""`python -m bench detector`: renders frames, trains on them, exports the detector, scores it and writes its card.

Each stage leaves a result that the next call finds; a call with --minutes leaves in time with the state saved, and
the same command goes on. Remove `detector` and give more --training to train further.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import stages
from bench.commands import option
from bench.deadline import Deadline
from bench.detector.card import card
from bench.detector.data import read_frames, render_cameras
from bench.detector.graph import MODEL, export_detector
from bench.detector.scores import Detected, look
from bench.detector.train import averaged, train
from bench.stages import all_done
from deploy.detect import HOG, open_detector
from deploy.detect.manifest import MANIFEST
from pat.base.files import write_text
from pat.base.progress import Progress

CAMERAS, TEST_CAMERAS = 110, 12
SEED = 0
LEAST_SCORE = 0.05
"""From which on boxes count for the average precision."""


@dataclass(frozen=True)
class Options(stages.Options):
    out: Path = option(Path("runs/detector"), "default: %(default)s")
    training: float = option(69.0, "default: %(default)s", metavar="MINUTES")


def main(options: Options) -> int:
    """As `stages.run`."""
    return stages.run(make, options)


def make(options: stages.Options, deadline: Deadline, progress: Progress) -> bool:
    """All stages, each where its result is not there yet; False when time was up before the last."""
    out = options.out
    cameras, test_cameras = (2, 1) if options.small else (CAMERAS, TEST_CAMERAS)
    minutes = 0.1 if options.small else options.training
    if options.threads:
        torch.set_num_threads(options.threads)
    parts = (
        lambda: render_cameras(out / "train", range(cameras), "train", out / "sites", deadline.passed, progress),
        lambda: render_cameras(
            out / "test", range(test_cameras), "test", out / "sites", deadline.passed, progress
        ),
        lambda: train(out / "train", out / "checkpoint.pt", minutes, SEED, deadline.passed, progress),
        lambda: _export(out),
        lambda: _score(out, progress),
    )
    if not all_done(parts, deadline):
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
    found: dict[str, Detected] = {}
    for name, what in (("this detector", str(folder)), ("HOG", HOG)):
        progress.say(f"{name} looks at {len(frames)} frames")
        found[name] = look(open_detector(what, threshold=LEAST_SCORE).detect, frames)
    told = {name: each.told() for name, each in found.items()}
    write_text(out / "scores.json", json.dumps(told, indent=1) + "\n")
    steps = averaged(out / "checkpoint.pt")[1]
    size = (folder / MODEL).stat().st_size
    write_text(folder / "README.md", card(found, steps, len(read_frames(out / "train")), size))
