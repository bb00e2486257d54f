"""What a threshold costs: how often strangers are taken for one another, and one person for two."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold that was measured."""

    threshold: float
    false_match_rate: float
    """Of comparisons of different people."""
    false_non_match_rate: float | None
    """Of comparisons of one person; None where it was not measured."""


@dataclass(frozen=True)
class ErrorRates:
    """Measured points of a model, by threshold, and on what they were measured; no points: nothing is known."""

    points: Sequence[Point]
    measured_on: str

    def at(self, threshold: float) -> Point | None:
        """The rates at a threshold: between two points on a straight line (the false-match rate's logarithm);
        None outside them."""
        after = next((each for each in self.points if each.threshold >= threshold), None)
        before = next((each for each in reversed(self.points) if each.threshold <= threshold), None)
        if after is None or before is None:
            return None
        if after.threshold == before.threshold:
            return after
        share = (threshold - before.threshold) / (after.threshold - before.threshold)

        def between(one: float, other: float) -> float:
            return (1 - share) * one + share * other

        low, high = before.false_match_rate, after.false_match_rate
        matches = math.exp(between(math.log(low), math.log(high))) if min(low, high) > 0 else between(low, high)
        one, other = before.false_non_match_rate, after.false_non_match_rate
        return Point(threshold, matches, None if one is None or other is None else between(one, other))


def read_error_rates(given: str, manifest: Manifest) -> ErrorRates:
    """What the calibration file `given` tells (`deploy.gallery.threshold.read_threshold` has checked it), or the
    bundle; a bare number tells nothing."""
    if given:
        with contextlib.suppress(ValueError):
            float(given)
            return ErrorRates((), "")
        values = json.loads(Path(given).read_text(encoding="utf-8"))
        points = [
            Point(row["threshold"], row["false_match_rate"], row["false_non_match_rate"])
            for row in values.get("table", ())
        ]
        people = f"{values.get('identities')} people, {values.get('data')}"
        return ErrorRates(sorted(points, key=lambda each: each.threshold), people)
    if manifest.decision is None:
        return ErrorRates((), "")
    chosen = manifest.decision
    return ErrorRates((Point(chosen.threshold, chosen.false_match_rate, None),), chosen.chosen_on)


def false_alarms(rate: float, entries: int) -> float:
    """The chance that a stranger is taken for somebody of a gallery of so many entries."""
    return -math.expm1(entries * math.log1p(-min(rate, 1 - 1e-12)))
