"""Frames of rendered people on disk: a folder for each camera, with JPEGs and their boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pat.base.errors import Failure
from pat.base.files import write_text
from pat.base.progress import Progress
from pat.synthetic.people.frames import surveillance_camera, take_frame
from pat.synthetic.people.person import Person
from pat.synthetic.people.plan import Domain, Plan
from pat.synthetic.people.site import KINDS, Site, Sites, make_site
from pat.synthetic.randomness import stream

SEED = 3
FRAMES = 12
"""Of each camera."""
PEOPLE = 14
"""Who may come by at one camera."""
SHOWN = 0.3
"""Share of somebody that must be seen; who is hidden more is neither to be found nor a false alarm."""
BOXES = "boxes.json"
QUALITY = 92


@dataclass(frozen=True)
class Labelled:
    """A frame on disk; `boxes` f32 [n, 4] of its people, `unclear` f32 [m, 4] of those who are mostly hidden."""

    path: Path
    boxes: NDArray[np.float32]
    unclear: NDArray[np.float32]


def render_cameras(
    folder: Path, cameras: range, domain: Domain, sites: Path, leave: Callable[[], bool], progress: Progress
) -> None:
    """Render the frames of every camera that `folder` lacks; stops early when `leave` says so.

    `sites` is where places are kept that were rendered before.
    """
    for number in cameras:
        if leave():
            return
        if not (folder / f"{number:05d}" / BOXES).is_file():
            progress.say(f"{folder}: camera {number + 1} of {len(cameras)}")
            _render(folder / f"{number:05d}", number, domain, Sites(sites))


def read_frames(folder: Path) -> list[Labelled]:
    """All frames that are finished, in order."""
    frames = []
    for told in sorted(folder.glob(f"*/{BOXES}")):
        for name, rows in json.loads(told.read_text(encoding="utf-8")).items():
            table = np.array(rows, np.float32).reshape(-1, 5)
            shown = table[:, 4] >= SHOWN
            frames.append(Labelled(told.parent / name, table[shown, :4], table[~shown, :4]))
    return frames


def _render(folder: Path, number: int, domain: Domain, sites: Sites) -> None:
    g = stream("frames", SEED, number, int(domain == "test"))
    try:
        site = _site(number, domain, sites)
    except Failure:  # a camera that looks at no ground where people could stand
        write_text(folder / BOXES, "{}")
        return
    people = [Person.sample(int(g.integers(1 << 30)), style=domain) for _ in range(PEOPLE)]
    told = {}
    for index in range(FRAMES):
        frame = take_frame(site, people, g)
        name = f"{index:02d}.jpg"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame.pixels).save(folder / name, quality=QUALITY)
        told[name] = np.column_stack((frame.boxes, frame.seen)).round(3).tolist()
    write_text(folder / BOXES, json.dumps(told))


def _site(number: int, domain: Domain, sites: Sites) -> Site:
    """Two of three cameras hang as those of `pat synth people --seed 3` do, every third as it may."""
    seed = Plan(seed=SEED, domain=domain).camera_seed(number)
    return make_site(surveillance_camera(seed, KINDS[domain])) if number % 3 == 0 else sites.get(seed, domain)
