"""From which cosine on two vectors are the same person, as a number or a calibration says, and what that costs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from pat.base.errors import UserError

FORMAT = "pat-reid-calibration/1"


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

    points: Sequence[Point] = ()
    measured_on: str = ""

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


NOT_MEASURED = ErrorRates()


def read_threshold(given: str, bundle: str | Path) -> tuple[float, ErrorRates]:
    """The threshold that `given` says, and what is known of its cost.

    A cosine from -1 to 1, of which nothing is known; the path of a calibration file; "": the bundle's. Raises
    UserError for anything else, and for a calibration made with another model than the bundle's.
    """
    if not given:
        return _of_bundle(bundle)
    try:
        threshold, rates = float(given), NOT_MEASURED
    except ValueError:
        threshold, rates = _calibrated(Path(given), bundle)
    if not -1 <= threshold <= 1:
        raise UserError(f"the threshold is {threshold:g}; a cosine lies between -1 and 1")
    return threshold, rates


def _of_bundle(bundle: str | Path) -> tuple[float, ErrorRates]:
    decision = Manifest.load(bundle).decision
    if decision is None:
        raise UserError(
            f"no threshold is set, and the bundle {bundle} has none: give a cosine such as 0.7, or the file that "
            "`pat gallery calibrate` writes"
        )
    measured = Point(decision.threshold, decision.false_match_rate, None)
    return decision.threshold, ErrorRates((measured,), decision.chosen_on)


def _calibrated(path: Path, bundle: str | Path) -> tuple[float, ErrorRates]:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, not {FORMAT!r}")
        model, threshold = str(values["model"]), float(values["threshold"])
        points = [
            Point(row["threshold"], row["false_match_rate"], row["false_non_match_rate"])
            for row in values.get("table", ())
        ]
    except OSError as error:
        raise UserError(
            f"the threshold {path} is no number, and cannot be read as a file: {error.strerror or error}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no file of `pat gallery calibrate`, or damaged: {error}") from error
    wanted = fingerprint(Manifest.load(bundle))
    if model != wanted:
        raise UserError(
            f"{path} was calibrated for the model {model}, the bundle {bundle} holds {wanted}; calibrate again"
        )
    people = f"{values.get('identities')} people, {values.get('data')}"
    return threshold, ErrorRates(sorted(points, key=lambda each: each.threshold), people)


def false_alarms(rate: float, entries: int) -> float:
    """The chance that a stranger is taken for somebody of a gallery of so many entries."""
    return -math.expm1(entries * math.log1p(-min(rate, 1 - 1e-12)))
