"""Are two images the same person? Error rates of a cosine threshold, over all pairs of a set of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.data.sample import JUNK
from pat.evaluation.ranking import Features

STEPS = 2_000_000
"""Steps that the cosines from -1 to 1 are counted in: 1e-6 each, for models whose cosines all lie near 1 too."""
BLOCK = 512

USELESS_ERROR, USELESS_MISSES = 0.3, 0.99
"""Beyond these a threshold is refused: chance has an equal error rate of 0.5."""


@dataclass(frozen=True)
class Decision:
    """A threshold and what follows from it on the pairs that it was chosen on."""

    threshold: float
    """Cosine from which on two images are said to show one person."""
    stated_rate: float
    """The false-match rate that was asked for."""
    false_match_rate: float
    false_non_match_rate: float
    equal_error_rate: float

    @property
    def useless(self) -> str:
        """Why nobody should decide by it, or nothing."""
        if self.equal_error_rate > USELESS_ERROR:
            return (
                f"the equal error rate is {self.equal_error_rate:.0%}: the model hardly tells these people apart, "
                "and no threshold mends that"
            )
        if self.false_non_match_rate > USELESS_MISSES:
            return (
                f"at a false-match rate of {self.stated_rate:g}, {self.false_non_match_rate:.1%} of the pairs of "
                "one person do not match; a higher rate, or a better model, is needed"
            )
        return ""


@dataclass(frozen=True)
class PairScores:
    """How many pairs of images have which cosine. A pair matches when its cosine reaches the threshold."""

    genuine: NDArray[np.int64]
    """[STEPS + 1] pairs of one person, by two cameras where that occurs. Entry i: cosines from i * 1e-6 - 1 on."""
    impostor: NDArray[np.int64]
    """[STEPS + 1] pairs of different people."""
    across_cameras: bool
    """The genuine pairs are of two cameras; otherwise nobody was seen by two."""
    identities: int
    cameras: int

    @property
    def genuine_pairs(self) -> int:
        return int(self.genuine.sum())

    @property
    def impostor_pairs(self) -> int:
        return int(self.impostor.sum())

    @property
    def smallest_rate(self) -> float:
        """The least false-match rate that the pairs can show: none seen allows 3 / pairs (95 % confidence)."""
        return 3 / self.impostor_pairs

    def threshold(self, rate: float) -> float:
        """The lowest threshold at which at most a share `rate` of the impostor pairs match."""
        reaching = _reaching(self.impostor)  # [STEPS + 2], falling
        step = int(np.argmax(reaching <= rate * self.impostor_pairs))
        return min(step * 2 / STEPS - 1, 1.0)

    def false_match_rate(self, threshold: float) -> float:
        """Share of impostor pairs that match."""
        return float(_reaching(self.impostor)[_step(threshold)]) / self.impostor_pairs

    def false_non_match_rate(self, threshold: float) -> float:
        """Share of genuine pairs that do not match."""
        return 1 - float(_reaching(self.genuine)[_step(threshold)]) / self.genuine_pairs

    def decision(self, rate: float) -> Decision:
        """The threshold for a stated false-match rate, and what it costs."""
        threshold = self.threshold(rate)
        misses = self.false_non_match_rate(threshold)
        return Decision(threshold, rate, self.false_match_rate(threshold), misses, self.equal_error_rate)

    @property
    def equal_error_rate(self) -> float:
        """The error rate where both are equal, or the mean of both where they come closest."""
        false_matches = _reaching(self.impostor) / self.impostor_pairs
        misses = 1 - _reaching(self.genuine) / self.genuine_pairs
        nearest = int(np.argmin(np.abs(false_matches - misses)))
        return float(false_matches[nearest] + misses[nearest]) / 2


def pair_scores(features: Features, progress: Callable[[int], object] | None = None) -> PairScores:
    """Compare N images with each other, in memory that does not grow with their pairs.

    `features.vectors` float32 [N, D] of unit length. `progress` is called with the number of images just done.
    Raises UserError when no person has two images, or all images show one person.
    """
    vectors, identities, cameras = features.vectors, features.identities, features.cameras
    genuine = {across: np.zeros(STEPS + 1, dtype=np.int64) for across in (True, False)}
    impostor = np.zeros(STEPS + 1, dtype=np.int64)
    for begin in range(0, len(vectors), BLOCK):
        end = min(begin + BLOCK, len(vectors))
        cosines = vectors[begin:end] @ vectors[begin:].T  # [b, N - begin]
        steps = _steps_of(cosines)
        later = np.arange(begin, len(vectors)) > np.arange(begin, end)[:, None]  # each pair once
        same = identities[begin:end, None] == identities[begin:]
        apart = cameras[begin:end, None] != cameras[begin:]
        impostor += _counts(steps[later & ~same])
        for across, counts in genuine.items():
            counts += _counts(steps[later & same & (apart == across)])
        if progress is not None:
            progress(end - begin)
    across = bool(genuine[True].any())
    if not genuine[across].any():
        raise UserError("no person has two images; calibrating needs some of the same person")
    if not impostor.any():
        raise UserError("all images show the same person; calibrating needs different people")
    return PairScores(genuine[across], impostor, across, len(np.unique(identities)), len(np.unique(cameras)))


def pairs_between(query: Features, gallery: Features) -> PairScores:
    """Compare every query with every gallery image, as a ranking does: junk and one person's pairs of one camera
    are left out, distractors are different people.

    Vectors of unit length. Raises UserError when there is no pair of one person by two cameras, or of different
    people.
    """
    query, gallery = (side[side.identities != JUNK] for side in (query, gallery))
    genuine, impostor = np.zeros((2, STEPS + 1), dtype=np.int64)
    for begin in range(0, len(query), BLOCK):
        part = query[begin : begin + BLOCK]
        steps = _steps_of(part.vectors @ gallery.vectors.T)  # [b, G]
        same = part.identities[:, None] == gallery.identities
        genuine += _counts(steps[same & (part.cameras[:, None] != gallery.cameras)])
        impostor += _counts(steps[~same])
    if not genuine.any() or not impostor.any():
        raise UserError("verification needs pairs of one person by two cameras, and pairs of different people")
    people = np.union1d(query.identities, gallery.identities)
    cameras = np.union1d(query.cameras, gallery.cameras)
    return PairScores(genuine, impostor, True, len(people), len(cameras))


def counted(
    genuine: NDArray[np.float32], impostor: NDArray[np.float32], *, people: int, cameras: int
) -> PairScores:
    """Cosines [n] of pairs of one person, by one camera, and [m] of different people, neither of them empty."""
    of_one, of_two = (_counts(_steps_of(each)) for each in (genuine, impostor))
    return PairScores(of_one, of_two, False, people, cameras)


def _counts(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(steps, minlength=STEPS + 1)


def _steps_of(cosines: NDArray[np.float32]) -> NDArray[np.int64]:
    steps: NDArray[np.int64] = np.clip(np.floor((cosines + 1) * (STEPS / 2)), 0, STEPS).astype(np.int64)
    return steps


def _reaching(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """[STEPS + 2] pairs of at least each step's cosine; none reach the last, which lies beyond 1."""
    return np.append(np.cumsum(counts[::-1])[::-1], 0)


def _step(threshold: float) -> int:
    """The first step whose cosines all reach the threshold."""
    return int(np.clip(np.ceil(np.round((threshold + 1) * (STEPS / 2), 6)), 0, STEPS + 1))
