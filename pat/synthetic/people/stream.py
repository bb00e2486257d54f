"""People on the fly: crops straight into arrays, so that no identity need come twice."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.synthetic.people.dataset import sites_in, take_shot
from pat.synthetic.people.plan import CHUNK, MOST_PEOPLE, Plan
from pat.synthetic.sharing import checked_workers, in_processes


@dataclass(frozen=True)
class Batch:
    """Crops u8 [N, H, W, 3] of CHUNK people, N = CHUNK x images; identities and cameras i64 [N]."""

    images: NDArray[np.uint8]
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]


def people(plan: Plan, *, workers: int | None = None, first: int = 0) -> Iterator[Batch]:
    """Batches of new people without end, in any order, from processes that draw them.

    `plan` says cameras, size, look-alikes and images of each person; how many people it has does not matter.
    Identities count from 1; `first` chunks are left out, so that a run goes on with people it has not seen.
    The places are drawn when they are first needed, in a temporary folder that is gone with the iterator.
    Raises UserError for numbers that make no sense, Failure when a worker dies.
    """
    plan = replace(plan, identities=MOST_PEOPLE)
    plan.check()
    workers = checked_workers(workers)
    if first < 0:
        raise UserError(f"first must be at least 0, not {first}")
    with tempfile.TemporaryDirectory(prefix="pat-people-") as folder:
        chunks = (range(1 + k * CHUNK, 1 + (k + 1) * CHUNK) for k in count(first))
        yield from in_processes(partial(draw, plan, Path(folder)), chunks, workers)


def draw(plan: Plan, folder: Path, identities: range) -> Batch:
    """The crops of the people with these numbers; `folder` keeps the places."""
    sites = sites_in(folder)
    images, numbers, cameras = [], [], []
    for identity, person in zip(identities, plan.people(identities), strict=True):
        for shot in plan.shots(identity):
            images.append(np.asarray(take_shot(plan, sites, person, shot).image))
            numbers.append(identity)
            cameras.append(shot.camera)
    return Batch(np.stack(images), np.array(numbers, np.int64), np.array(cameras, np.int64))
