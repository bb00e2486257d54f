"""What a model scores on each person: whether another choice of people would have told the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pat.evaluation.scoring import Score

FILE = "people.json"
"""Beside a run's result: target -> kind -> what `of_score` gives."""

DRAWS = 2000


@dataclass(frozen=True)
class Resampled:
    """The difference in mAP to another row over the people of a target."""

    people: int
    low: float
    high: float
    """95 % of the bootstrap's means lie between; seeds are averaged, not drawn."""


def of_score(score: Score) -> dict[str, list[float]]:
    """Identity -> number of its queries that count and the sum of their average precision."""
    found: dict[str, list[float]] = {}
    for identity, precision in zip(score.query.identities, score.result.average_precision, strict=True):
        if np.isfinite(precision):
            entry = found.setdefault(str(identity), [0, 0.0])
            entry[0] += 1
            entry[1] += float(precision)
    return found


def read(folder: Path, target: str, kind: str) -> dict[str, list[float]]:
    """What a run's people.json says; empty where the run is older than the file or was not scored so."""
    try:
        found: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return dict(found[target][kind])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def difference(
    ours: Sequence[Mapping[str, Sequence[float]]], theirs: Sequence[Mapping[str, Sequence[float]]]
) -> Resampled | None:
    """The bootstrap over people between two sides' runs of the same seeds; None without two people in common.

    A draw takes as many people as there are, with repeats, each with all its queries.
    """
    if not ours or not theirs:
        return None
    common = sorted(set.intersection(*(set(each) for each in (*ours, *theirs))))
    if len(common) < 2:
        return None
    queries = np.array([ours[0][identity][0] for identity in common])
    mine, other = (
        np.mean([[each[identity][1] for identity in common] for each in side], axis=0) for side in (ours, theirs)
    )  # [people]: sums of average precision
    low, high = interval(mine - other, queries)
    return Resampled(len(common), low, high)


def interval_of(values: NDArray[Any], identities: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` [n] by a bootstrap over whom they are of, `identities` [n]."""
    people = np.unique(identities, return_inverse=True)[1]
    return interval(np.bincount(people, weights=values), np.bincount(people))


def interval(sums: NDArray[Any], counts: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """The 95 % interval of a mean over items that come in groups [n]: their sums and how many they are.

    Groups are drawn with repeats, always the same way. NaN without a group that counts.
    """
    generator = np.random.default_rng(0)
    means = []
    for _ in range(DRAWS):
        drawn = generator.integers(0, len(sums), len(sums))
        total = counts[drawn].sum()
        if total:
            means.append(sums[drawn].sum() / total)
    if not means:
        return float("nan"), float("nan")
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
