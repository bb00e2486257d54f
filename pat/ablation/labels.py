"""Are the neighbours of a part what the paper says: other people who look alike where the part looks?

A part's region shows garments, bags, hair. For each image and each thing that lies in the region, the share of the
K neighbours of the part feature that wear the same is set against chance (the share of all other people's images)
and against the neighbours of the global feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pat.ablation.people import interval_of
from pat.ablation.rendered import Facts
from pat.ablation.summary import Paired, holm, paired
from pat.losses import MemoryBank, cross_id_similarity

WORN = {
    "hat": ("hat", "hat_colour"),
    "hair": ("hair", "hair_colour"),
    "top": ("top", "top_colour", "top_pattern"),
    "bag": ("bag", "bag_colour"),
    "bottom": ("bottom", "bottom_colour", "bottom_pattern"),
    "shoes": ("shoes", "shoe_colour"),
}
"""What is visible -> what people.parquet says of it."""

COLUMNS = ("parts", *(column for columns in WORN.values() for column in columns))

INSIDE = 0.5
"""Share of a thing's height that must lie in a band for the band to show it."""

FEWEST = 20
"""Images that must show a thing for its row to be told."""

Neighbours = NDArray[np.int64]
"""[N, K], -1 where there is none."""


@dataclass(frozen=True)
class Agreement:
    """How often neighbours agree with an image in one attribute that a part's region shows; shares of 1.

    Means over the models, which are trainings of one configuration with several seeds, or one.
    """

    part: int
    attribute: str
    images: int
    people: int
    chance: float
    by_global: float
    by_part: float
    low: float
    high: float
    """95 % interval of by_part - by_global, by a bootstrap over people; models are averaged, not drawn."""
    over_models: Paired | None = None
    """The same difference over the models; None where there is one."""
    p: float | None = None
    """Holm's p value of it, over the rows of the table."""


def neighbours(
    features: NDArray[np.float32], k: int, identities: NDArray[np.int64] | None = None, batch: int = 256
) -> list[Neighbours]:
    """The K nearest other images of each image, as CSL finds them: for features [P, N, D] one array a part.

    With `identities` [N], images of one's own identity are no neighbours.
    """
    vectors = torch.from_numpy(features)
    parts, size, width = vectors.shape
    bank, slots = MemoryBank(parts, size, width), torch.arange(size)
    bank.fill(slots, vectors)
    people = None if identities is None else torch.from_numpy(identities)
    found = []
    for rows in slots.split(batch):
        asking = None if people is None else people[rows]
        _, nearest = cross_id_similarity(
            vectors[:, rows], bank, rows, k=k, identities=asking, bank_identities=people
        )
        found.append(nearest)
    return list(torch.cat(found, dim=1).numpy())


def shown(facts: Sequence[Facts], thing: str, band: tuple[float, float], height: int) -> NDArray[np.bool_]:
    """[N]: whether `thing` is visible, and in `band` (top and bottom as shares of the height) by half or more."""
    return np.array([_inside(row["parts"], thing, band[0] * height, band[1] * height) for row in facts])


def _inside(parts: Sequence[Mapping[str, Any]], thing: str, top: float, bottom: float) -> bool:
    for part in parts:
        if part["part"] == thing:
            _, first, _, last = part["box"]
            return bool(min(last, bottom) - max(first, top) >= INSIDE * (last - first) > 0)
    return False


def agreements(
    facts: Sequence[Facts],
    height: int,
    bands: Sequence[tuple[float, float]],
    of_parts: Sequence[Sequence[Neighbours]],
    of_global: Sequence[Neighbours],
    identities: NDArray[np.int64],
) -> list[Agreement]:
    """A row for each part and attribute that enough images show; neighbours must be other people's.

    of_parts: for each model and part; of_global: for each model.
    """
    table = []
    for part, band in enumerate(bands):
        for thing, attributes in WORN.items():
            seen = np.flatnonzero(shown(facts, thing, band, height))
            if len(seen) < FEWEST:
                continue
            for attribute in attributes:
                values = np.unique([str(row[attribute]) for row in facts], return_inverse=True)[1]
                ours = np.stack([_share(values, model[part], seen) for model in of_parts])
                plain = np.stack([_share(values, model, seen) for model in of_global])
                low, high = interval_of((ours - plain).mean(0), identities[seen])
                over_models = paired(dict(enumerate(ours.mean(1))), dict(enumerate(plain.mean(1))))
                row = Agreement(
                    part, attribute.replace("_", " "), len(seen), len(np.unique(identities[seen])),
                    _chance(values, identities, seen), float(plain.mean()), float(ours.mean()), low, high,
                    over_models,
                )  # fmt: skip
                table.append(row)
    corrected = holm([None if row.over_models is None else row.over_models.p for row in table])
    return [replace(row, p=p) for row, p in zip(table, corrected, strict=True)]


def same_person(found: Neighbours, identities: NDArray[np.int64]) -> float:
    """The share of neighbours that show the image's own person: what PSD takes its soft labels from."""
    return float(_share(identities, found, np.arange(len(identities))).mean())


def _share(values: NDArray[np.int64], found: Neighbours, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each of `rows`, the share of its neighbours with its value; 0 for an image without neighbours."""
    near = found[rows]
    there = near >= 0
    same = (values[near] == values[rows, None]) & there
    shares: NDArray[np.float64] = same.sum(1) / np.maximum(there.sum(1), 1)
    return shares


def _chance(values: NDArray[np.int64], identities: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """The share of all other people's images with the same value, exactly."""
    of_value = np.bincount(values)
    people = np.unique(identities, return_inverse=True)[1]
    of_person = np.bincount(people)
    both = np.zeros((len(of_person), len(of_value)), dtype=np.int64)
    np.add.at(both, (people, values), 1)
    agreeing = of_value[values[rows]] - both[people[rows], values[rows]]
    others = len(values) - of_person[people[rows]]
    return float((agreeing / np.maximum(others, 1)).mean())
