"""From which cosine on two vectors are the same person: a number, or what `pat gallery calibrate` found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.gallery.fingerprint import fingerprint
from export.manifest import Manifest
from pat.base.errors import UserError

FORMAT = "pat-reid-calibration/1"


def read_threshold(given: str, bundle: str | Path) -> float:
    """The threshold that `given` says: a cosine from -1 to 1, or the path of a calibration file; "": the bundle's.

    Raises UserError for anything else, and for a calibration made with another model than the bundle's.
    """
    if not given:
        return _of_bundle(bundle)
    try:
        threshold = float(given)
    except ValueError:
        threshold = _calibrated(Path(given), bundle)
    if not -1 <= threshold <= 1:
        raise UserError(f"the threshold is {threshold:g}; a cosine lies between -1 and 1")
    return threshold


def _of_bundle(bundle: str | Path) -> float:
    decision = Manifest.load(bundle).decision
    if decision is None:
        raise UserError(
            f"no threshold is set, and the bundle {bundle} has none: give a cosine such as 0.7, or the file that "
            "`pat gallery calibrate` writes"
        )
    return decision.threshold


def _calibrated(path: Path, bundle: str | Path) -> float:
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, not {FORMAT!r}")
        model, threshold = str(values["model"]), float(values["threshold"])
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
    return threshold
