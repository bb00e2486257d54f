"""The check set of a bundle, and how close another's embeddings of the same images come to those expected.

The check set is images and what the PyTorch model says to them: any backend must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.manifest import Manifest
from export.precisions import PRECISIONS, Gate
from pat.base.errors import UserError

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
KNOWS = 0.2
"""Share of first neighbours of the same person from which on a model knows people; chance among 16 is 3 %."""
STRETCH = 0.01
"""Share by which a vector may be longer or shorter than expected, which no cosine sees; bf16 rounds by less."""
ROUNDING = 1e-9
"""So that a share just at its limit is within: 1 - 0.9 is a little less than 0.1."""
PARALLEL = 0.98
"""Mean cosine of different images beyond which embeddings tell little."""


def read_check_set(manifest: Manifest) -> tuple[NDArray[np.uint8], Vectors]:
    """Images uint8 [n, H, W, 3] and the PyTorch model's embeddings float32 [n, D], hash-checked.

    Raises UserError when they are missing, changed, or not what the manifest describes.
    """
    path = manifest.file(manifest.check_set)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs, embeddings = arrays["inputs"], arrays["embeddings"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a check set ({error}); export the bundle again") from error
    shape = (len(inputs), manifest.input.height, manifest.input.width, 3)
    if inputs.shape != shape or embeddings.shape != (len(inputs), manifest.output.size):
        raise UserError(
            f"{path} holds inputs {list(inputs.shape)} and embeddings {list(embeddings.shape)}, which the "
            "manifest does not describe; export the bundle again"
        )
    return inputs, embeddings


def why_untelling(manifest: Manifest) -> str:
    """Why an untrained model would answer this check set as well, or nothing.

    Measured on random weights: the nearest other image of the synthetic people shows the same person for 0 to 3 %
    of 32 images, and their mean cosine is 0.72 to 0.994. Raises UserError as `read_check_set`.
    """
    _, embeddings = read_check_set(manifest)
    people = read_identities(manifest)
    if len(embeddings) < 8:
        return f"it holds {len(embeddings)} images, too few to tell one model from another"
    if people is not None:
        right = float((people[_nearest(_unit(embeddings))] == people).mean())
        if right < KNOWS:
            return f"its own model finds the same person first for {right:.0%} of the images, which chance does"
    mean = float(pair_cosines(embeddings).mean())
    if mean > PARALLEL and people is None:
        return f"its embeddings are nearly parallel (mean cosine {mean:.4f}), as those of an untrained model are"
    return ""


def read_identities(manifest: Manifest) -> NDArray[np.int64] | None:
    """Whom the images of the check set show, [n]; None where nobody knows."""
    with np.load(manifest.file(manifest.check_set), allow_pickle=False) as arrays:
        return arrays["identities"] if "identities" in arrays.files else None


def thresholds_of(manifest: Manifest) -> tuple[float, float] | None:
    """From which cosine on the expected embeddings of the check set, and this bundle's own, show one person."""
    decision = manifest.decision
    if decision is None:
        return None
    return decision.reference, decision.threshold


def gate_of(manifest: Manifest) -> Gate:
    """The gate that whatever runs this bundle must pass."""
    return manifest.precision.gate or PRECISIONS[manifest.precision.name].gate


@dataclass(frozen=True)
class Agreement:
    """How close two sets of embeddings of the same images are."""

    cosines: Floats
    """[N], one an image"""
    centred: Floats
    """[N], after the mean of the expected embeddings was taken from both"""
    changed_first: int
    """Images whose nearest other image is another one; 0 for fewer than two images."""
    decided: int = 0
    """Pairs of images that either side calls one person, at a threshold each; 0 where none was given."""
    changed: int = 0
    """Of these, the pairs that one side alone calls so."""
    broken: int = 0
    """Embeddings that are not finite, or not as long as those expected."""

    @property
    def worst(self) -> float:
        return float(self.cosines.min())

    @property
    def same_first(self) -> float:
        """Share of images whose nearest other image is the same."""
        return 1 - self.changed_first / len(self.cosines)

    @property
    def centred_p1(self) -> float:
        return float(np.quantile(self.centred, 0.01))

    @property
    def decisions(self) -> float:
        """Share of the decisions that change."""
        return self.changed / max(self.decided, 1)

    def summary(self) -> dict[str, float]:
        """The figures, rounded, by the names of the gate."""
        values = {
            "images": len(self.cosines),
            "worst": self.worst,
            "centred_worst": float(self.centred.min()),
            "centred_p1": self.centred_p1,
            "centred_median": float(np.median(self.centred)),
            "same_first": self.same_first,
            "decisions": self.decisions,
            "decided": self.decided,
        }
        return {name: round(value, 7) for name, value in values.items()}

    def sentence(self) -> str:
        """The figures in one line for the reader."""
        pairs = f", {self.changed} of {self.decided} decisions changed" if self.decided else ""
        return (
            f"{len(self.cosines)} images: centred cosine worst {self.centred.min():.4f}, "
            f"1st percentile {self.centred_p1:.4f}, same first neighbour {self.same_first:.1%}{pairs}"
        )

    def misses(self, gate: Gate) -> str:
        """What misses the gate, or nothing."""
        said = []
        if self.broken:
            said.append(f"{self.broken} embeddings are not finite, or their length is wrong")
        # Written so that a number that is none misses too.
        if not self.centred.min() >= gate.centred_worst:
            said.append(f"worst centred cosine {self.centred.min():.5f}, {gate.centred_worst} needed")
        if not self.centred_p1 >= gate.centred_p1:
            said.append(f"1st percentile of the centred cosine {self.centred_p1:.5f}, {gate.centred_p1} needed")
        if self.changed_first > max(1, (1 - gate.same_first) * len(self.cosines) + ROUNDING):
            said.append(f"same first neighbour for {self.same_first:.1%}, {gate.same_first:.1%} needed")
        if self.changed > max(1, gate.decisions * self.decided + ROUNDING):
            said.append(f"{self.decisions:.1%} of {self.decided} decisions changed, {gate.decisions:.1%} allowed")
        return "; ".join(said)


def compare(expected: Vectors, found: Vectors, thresholds: tuple[float, float] | None = None) -> Agreement:
    """Compare embeddings [N, D] of the same N images. Vectors that are not finite have cosine -1.

    `thresholds` are the cosines from which on the expected and the found embeddings call two images one person.
    Raises ValueError when the shapes differ or there is nothing to compare.
    """
    if expected.shape != found.shape or expected.ndim != 2 or not len(expected):
        raise ValueError(f"embeddings {list(found.shape)} do not compare with {list(expected.shape)}")
    left, right = _unit(expected), _unit(found)
    cosines, broken = _cosines(left, right), _broken(expected, found)
    if len(left) == 1:
        return Agreement(cosines, cosines, 0, broken=broken)
    centre = left.mean(0)
    centred = _cosines(_unit(left - centre), _unit(right - centre))
    changed_first = int((_nearest(left) != _nearest(right)).sum())
    decided = changed = 0
    if thresholds is not None:
        first, second = (
            pair_cosines(each) >= limit for each, limit in zip((left, right), thresholds, strict=True)
        )
        decided, changed = int((first | second).sum()), int((first ^ second).sum())
    return Agreement(cosines, centred, changed_first, decided, changed, broken)


def _broken(expected: Vectors, found: Vectors) -> int:
    """How many of the vectors found are not finite, or longer or shorter than expected."""
    wanted, lengths = (np.linalg.norm(each.astype(np.float64), axis=1) for each in (expected, found))
    return int((~(np.abs(lengths - wanted) <= STRETCH * wanted)).sum())  # a number that is none is broken too


def pair_cosines(vectors: NDArray[np.floating]) -> Vectors:
    """The cosine of each pair of the images, float32 [N (N - 1) / 2]."""
    unit = _unit(vectors).astype(np.float32)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


def moved_threshold(expected: Vectors, found: Vectors, threshold: float) -> float:
    """The threshold nearest to `threshold` at which as many pairs match as do of those expected."""
    count = int((pair_cosines(expected) >= threshold).sum())
    falling = np.sort(pair_cosines(found))[::-1]
    if count < len(falling):
        threshold = max(threshold, float(np.nextafter(falling[count], np.float32(2))))
    return min(threshold, float(falling[count - 1])) if count else threshold


def _cosines(left: Floats, right: Floats) -> Floats:
    return np.where(np.isfinite(right).all(1), (left * right).sum(1), -1.0)


def _unit(vectors: NDArray[np.floating]) -> Floats:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def _nearest(vectors: Floats, block: int = 1024) -> NDArray[np.int64]:
    """The row nearest to each row but itself, [N]; a block of the similarities is held at a time."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    for begin in range(0, len(vectors), block):
        similarity = vectors[begin : begin + block] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, begin + rows] = -np.inf
        nearest[begin : begin + block] = similarity.argmax(1)
    return nearest
