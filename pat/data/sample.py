"""One image of a person, as a data set layout describes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

JUNK = -1
"""Identity of an image that the evaluation ignores altogether (bad detections of Market-1501)."""

DISTRACTOR = 0
"""Identity of a gallery image that matches no query but stays in the ranking."""


@dataclass(frozen=True)
class Sample:
    """An image on disk.

    `identity` is the number that the data set uses: JUNK, DISTRACTOR, or a person above 0 (also 0 where a
    layout has no distractors). `camera` counts from 0. `domain` names the data set it came from.
    """

    path: Path
    identity: int
    camera: int
    domain: str


def digest(samples: Sequence[Sample], labels: Iterable[int]) -> str:
    """A hash of images in order: data set, name, label, camera. Folders may move, or differ between machines."""
    text = "\n".join(
        f"{sample.domain}/{sample.path.name} {label} {sample.camera}"
        for sample, label in zip(samples, labels, strict=True)
    )
    return hashlib.sha256(os.fsencode(text)).hexdigest()
