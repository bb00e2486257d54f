"""Draws docs/people.jpg and docs/look-alikes.jpg: python tools/people_sheets.py [FOLDER]"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from pat.synthetic.people.dataset import take_shot
from pat.synthetic.people.person import Person
from pat.synthetic.people.plan import FAMILY, Plan, Shot
from pat.synthetic.people.site import Sites
from pat.synthetic.randomness import stream

PLAN = Plan(cameras=40, size=(160, 80), seed=7)
PEOPLE, EACH = 10, 14
FAMILIES, MEMBER = 8, 3
QUALITY = 80


def main(folder: Path) -> None:
    """Write both sheets."""
    with tempfile.TemporaryDirectory() as sites:
        known = Sites(Path(sites))
        people = [Person.sample(1000 + number) for number in range(PEOPLE)]
        everyone = (_row(known, person, number, EACH) for number, person in enumerate(people, 1))
        _sheet(folder / "people.jpg", everyone)
        families = (Person.look_alikes(2000 + number, FAMILY) for number in range(FAMILIES))
        rows = (
            np.concatenate([_row(known, person, number, MEMBER) for person in family], axis=1)
            for number, family in enumerate(families, 1)
        )
        _sheet(folder / "look-alikes.jpg", rows)


def _row(known: Sites, person: Person, number: int, count: int) -> np.ndarray:
    """Crops of a person in different cameras, side by side."""
    cameras = stream("sheet", number).permutation(PLAN.cameras)[:count]
    shots = [Shot(number, int(camera), index, "") for index, camera in enumerate(cameras)]
    return np.concatenate([np.asarray(take_shot(PLAN, known, person, shot).image) for shot in shots], axis=1)


def _sheet(path: Path, rows: Iterable[np.ndarray]) -> None:
    Image.fromarray(np.concatenate(list(rows))).save(path, quality=QUALITY, optimize=True)
    print(path, f"{path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
