"""The precisions: what each needs, and the gate that a graph or an engine in it must pass.

The gate compares with the fp32 model's embeddings of the same images. Plain cosines say little where embeddings
point nearly the same way (measured: worst cosine 0.99 where the nearest neighbours of 16 % of the images differ),
so cosines are centred: the mean of the fp32 embeddings is taken from both sides first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pat.base.errors import UserError
from pat.base.mapping import Within, overlay

PrecisionName = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Lower = Literal["fp16", "bf16", "int8", "fp8"]

Share = Annotated[float, Within(0, 1)]


@dataclass(frozen=True)
class Gate:
    """What must hold on every set of images that is compared. The names are the same wherever they are written."""

    centred_worst: Annotated[float, Within(-1, 1)]
    """Smallest centred cosine of any image."""
    centred_p1: Annotated[float, Within(-1, 1)]
    """Smallest 1st percentile of the centred cosines."""
    same_first: Share
    """Smallest share of images whose nearest other image is the same. One image may always change."""
    decisions: Share
    """Largest share of decisions at the threshold that change, of the pairs that either side calls one person.
    One pair may always change."""
    points: Annotated[float, Within(0, 100)] = 0.5
    """Largest loss of rank-1 and of mAP on labelled images, in points of 100."""

    def changed(self, settings: Sequence[str]) -> Gate:
        """The gate with some limits set otherwise: ["centred_worst=0.9"]. Raises UserError for another form."""
        values = {}
        for setting in settings:
            name, _, number = setting.partition("=")
            try:
                values[name.replace("-", "_")] = float(number)
            except ValueError:
                raise UserError(f"--gate {setting!r} is not NAME=NUMBER, such as centred_worst=0.9") from None
        return overlay(self, values, "--gate")

    def wider(self, other: Gate) -> Gate:
        """The gate that lets through what either does, in each limit by itself."""
        return Gate(
            min(self.centred_worst, other.centred_worst),
            min(self.centred_p1, other.centred_p1),
            min(self.same_first, other.same_first),
            max(self.decisions, other.decisions),
            max(self.points, other.points),
        )


@dataclass(frozen=True)
class PrecisionFacts:
    """A line of the table."""

    bits: int
    least_capability: int
    """Smallest compute capability of a GPU that computes in it; 0: every one that TensorRT supports."""
    calibrated: bool
    """Its ranges are measured on images (but for a form that measures them as it runs)."""
    gate: Gate


EXACT = Gate(centred_worst=0.999, centred_p1=0.9995, same_first=0.995, decisions=0.005)
SIXTEEN = Gate(centred_worst=0.99, centred_p1=0.995, same_first=0.98, decisions=0.02)
EIGHT = Gate(centred_worst=0.95, centred_p1=0.97, same_first=0.95, decisions=0.10)

MERGED = EIGHT
"""Of a graph that merges patch tokens, in whatever precision: against the model that merges none."""

PRECISIONS: Mapping[PrecisionName, PrecisionFacts] = MappingProxyType(
    {
        "fp32": PrecisionFacts(32, 0, False, EXACT),
        "fp16": PrecisionFacts(16, 0, False, SIXTEEN),
        "bf16": PrecisionFacts(16, 80, False, SIXTEEN),
        "int8": PrecisionFacts(8, 0, True, EIGHT),
        "fp8": PrecisionFacts(8, 89, True, EIGHT),
    }
)

MOST_HIGHER = 0.25
"""Largest share of its multiply-adds that a graph may do in a higher precision than the one it is named after."""
ENOUGH_IMAGES = 256
"""Images, none of them used for calibration, from which on the gate's figures are worth their digits."""
