"""Is this somebody who is enrolled, and who? Figures for people whom nobody may have enrolled. numpy alone.

Identification (Phillips, Grother and Micheals, "Evaluation Methods in Face Recognition", Handbook of Face
Recognition, 2011): part of the identities are enrolled, the others are unknown. A query of an unknown person
raises a false alarm when its best cosine reaches the threshold; FAR is the share of such queries. A query of an
enrolled person is detected and identified when its best cosine reaches the threshold and is its own person's; DIR
is the share of such queries. As in a ranking, gallery images of the query's own identity and camera are left out.

Verification: two images match when their cosine reaches the threshold. FPR is the share of pairs of different
people that match, TPR of pairs of one person (`verification.PairScores`).

Calibration: a logistic curve turns a cosine into the probability of one person, fitted on some people (Platt,
"Probabilistic Outputs for Support Vector Machines", 1999) with both kinds of pairs weighing the same; the expected
calibration error (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017) is measured on others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.base.errors import UserError
from pat.data.sample import DISTRACTOR, JUNK
from pat.evaluation.extract import unit_length
from pat.evaluation.ranking import Features, Floats, Indices
from pat.evaluation.verification import STEPS, PairScores, pairs_between

FAR = (0.01, 0.001)
FPR = (0.01, 0.001, 0.0001)
DRAWS = 10
"""Divisions into enrolled and unknown, with the seeds 0, 1, ...; who is unknown moves DIR by some points."""

_BLOCK = 512
_COARSE = 4000
"""Steps of the cosine that the curve is fitted on."""
_BINS = 15
_PULL = 1e-6


def divide_identities(identities: Indices, seed: int) -> tuple[Indices, Indices]:
    """The people among `identities` i64 [N], half of them enrolled and the others unknown, sorted.

    Junk and distractors are nobody. The same for a seed on every machine. Raises UserError for fewer than two.
    """
    people = np.setdiff1d(identities, (JUNK, DISTRACTOR))
    if len(people) < 2:
        raise UserError("open-set figures need two identities, one to enrol and one to be unknown")
    count = round(len(people) / 2)
    order = np.random.default_rng(seed).permutation(len(people))
    return np.sort(people[order[:count]]), np.sort(people[order[count:]])


@dataclass(frozen=True)
class Identification:
    """The best answer to every query."""

    right: Floats
    """[A] best cosine of each query of an enrolled person; -inf where the best answer is somebody else."""
    unknown: Floats
    """[B] best cosine of each query of an unknown person."""

    def threshold(self, far: float) -> float:
        """The lowest threshold that at most a share `far` of the queries of unknown people reach."""
        falling = np.sort(self.unknown)[::-1]
        allowed = int(np.floor(far * len(falling) + 1e-9))
        return -1.0 if allowed >= len(falling) else float(np.nextafter(falling[allowed], np.float32(np.inf)))

    def dir_at(self, far: float) -> float:
        """DIR at that threshold; NaN where there are too few unknown queries to see one false alarm in 1 / far."""
        if far * len(self.unknown) < 1:
            return float("nan")
        return float((self.right >= self.threshold(far)).mean())


def identify(query: Features, gallery: Features, enrolled: Indices) -> Identification:
    """The best answer to each query from the gallery images of the people `enrolled`.

    A query of an enrolled person whom no other camera has enrolled is left out. Raises UserError where a kind of
    query is missing.
    """
    gallery = gallery[np.isin(gallery.identities, enrolled)]
    query = query[~np.isin(query.identities, (JUNK, DISTRACTOR))]
    answers = unit_length(gallery.vectors)
    right, unknown = [], []
    for begin in range(0, len(query), _BLOCK):
        part = query[begin : begin + _BLOCK]
        cosines = unit_length(part.vectors) @ answers.T  # [b, G]
        own = part.identities[:, None] == gallery.identities
        seen = own & (part.cameras[:, None] != gallery.cameras)
        cosines[own & ~seen] = -np.inf
        best = cosines.argmax(axis=1)
        rows = np.arange(len(part))
        scores = np.where(own[rows, best], cosines[rows, best], -np.inf)
        right.append(scores[seen.any(axis=1)])
        stranger = ~np.isin(part.identities, enrolled)
        unknown.append(cosines[rows, best][stranger])
    found = Identification(*(np.concatenate(each).astype(np.float32) for each in (right, unknown)))
    if not len(found.right) or not len(found.unknown):
        kind = "enrolled person seen by another camera" if not len(found.right) else "unknown person"
        raise UserError(f"open-set figures need queries of both kinds; there is none of an {kind}")
    return found


@dataclass(frozen=True)
class AtThreshold:
    """What it costs to decide by a threshold on the cosine; shares of 1."""

    threshold: float
    false_match_rate: float
    """Share of pairs of different people that match."""
    miss_rate: float
    """Share of pairs of one person that do not."""


@dataclass(frozen=True)
class OpenSet:
    """Figures of one embedding on one data set; shares of 1, NaN where there are too few queries or pairs."""

    dir_at_far: dict[float, tuple[float, float]]
    """FAR -> mean and standard deviation of DIR over the draws."""
    tpr_at_fpr: dict[float, float]
    equal_error_rate: float
    calibration_error: float
    draws: int
    """Divisions that have queries of both kinds."""
    queries: int
    """Of enrolled and unknown people together, in the first of them."""
    decision: AtThreshold | None = None
    """By the threshold that was asked about."""

    def figures(self) -> dict[str, str]:
        """The columns of a table, in percent; "-" for what so few queries or pairs cannot show."""
        return {
            **{f"DIR {100 * far:g} %": _percent(*found) for far, found in self.dir_at_far.items()},
            **{f"TPR {100 * fpr:g} %": _percent(self.tpr_at_fpr[fpr]) for fpr in FAR},
            "EER": _percent(self.equal_error_rate),
            "calib.": _percent(self.calibration_error),
        }

    def to_mapping(self) -> dict[str, object]:
        """For JSON; what cannot be measured is null."""

        def plain(value: float) -> float | None:
            return None if np.isnan(value) else value

        return {
            "dir_at_far": {f"{far:g}": [plain(each) for each in found] for far, found in self.dir_at_far.items()},
            "tpr_at_fpr": {f"{fpr:g}": plain(found) for fpr, found in self.tpr_at_fpr.items()},
            "equal_error_rate": self.equal_error_rate,
            "calibration_error": plain(self.calibration_error),
            "draws": self.draws,
            "queries": self.queries,
            "decision": None if self.decision is None else vars(self.decision),
        }


def open_set(
    query: Features,
    gallery: Features,
    threshold: float | None = None,
    *,
    progress: Callable[[int], object] | None = None,
) -> OpenSet:
    """All figures, and what `threshold` on the cosine costs. `progress` is called with 1 after each of the draws.

    Raises UserError where there are fewer than two identities, or no pair of one person by two cameras.
    """
    found = []
    for seed in range(DRAWS):
        enrolled, _ = divide_identities(gallery.identities, seed)
        with contextlib.suppress(UserError):  # nobody whom two cameras saw was enrolled, or all of them were
            found.append(identify(query, gallery, enrolled))
        if progress is not None:
            progress(1)
    dirs = {far: _spread([each.dir_at(far) for each in found]) for far in FAR}
    pairs = pairs_between(query, gallery)
    tprs = {fpr: _tpr(pairs, fpr) for fpr in FPR}
    cost = None
    if threshold is not None:
        cost = AtThreshold(threshold, pairs.false_match_rate(threshold), pairs.false_non_match_rate(threshold))
    return OpenSet(
        dirs, tprs, pairs.equal_error_rate, _calibration_error(query, gallery), draws=len(found),
        queries=len(found[0].right) + len(found[0].unknown) if found else 0, decision=cost,
    )  # fmt: skip


def fit_probability(pairs: PairScores) -> tuple[float, float]:
    """Slope and offset of sigmoid(slope * cosine + offset), the probability that two images show one person.

    Both kinds of pairs weigh the same, as if half of all questions were about one person. Maximum likelihood by
    Newton's method, with a slight pull of the slope towards 0 so that separable scores have an answer too.
    """
    cosines, genuine, impostor = _coarse(pairs)
    x = np.stack([cosines, np.ones_like(cosines)])  # [2, steps]
    weights = genuine + impostor
    beta = np.zeros(2)
    for _ in range(100):
        probability = _sigmoid(beta @ x)
        gradient = x @ (genuine - weights * probability) - _PULL * np.array([beta[0], 0])
        hessian = (x * (weights * probability * (1 - probability))) @ x.T + _PULL * np.diag([1.0, 1e-3])
        step = np.linalg.solve(hessian, gradient)
        beta = beta + step * min(1.0, 20 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def calibration_error(pairs: PairScores, slope: float, offset: float) -> float:
    """Mean gap between the probability told and the share of pairs of one person, over bins of equal width.

    Each bin weighs as the pairs in it, both kinds weighing the same over all.
    """
    cosines, genuine, impostor = _coarse(pairs)
    told = _sigmoid(slope * cosines + offset)
    places = np.minimum((told * _BINS).astype(np.int64), _BINS - 1)
    weight = np.bincount(places, genuine + impostor, _BINS)
    share = np.bincount(places, genuine, _BINS)
    confidence = np.bincount(places, (genuine + impostor) * told, _BINS)
    return float(np.abs(share - confidence).sum() / weight.sum())


def _calibration_error(query: Features, gallery: Features) -> float:
    """Fitted on one half of the people and measured on the other; NaN where a half has no pair of one person."""
    halves = divide_identities(gallery.identities, seed=0)
    try:
        fitted, judged = (
            pairs_between(query[np.isin(query.identities, half)], gallery[np.isin(gallery.identities, half)])
            for half in halves
        )
    except UserError:
        return float("nan")
    return calibration_error(judged, *fit_probability(fitted))


def _tpr(pairs: PairScores, fpr: float) -> float:
    if fpr * pairs.impostor_pairs < 1:
        return float("nan")
    return 1 - pairs.false_non_match_rate(pairs.threshold(fpr))


def _coarse(pairs: PairScores) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cosines [steps] and the share of genuine and of impostor pairs at each, either summing to a half."""
    every = STEPS // _COARSE
    place = np.arange(STEPS + 1) // every
    genuine, impostor = (np.bincount(place, counts) for counts in (pairs.genuine, pairs.impostor))
    cosines = (np.arange(len(genuine)) + 0.5) * 2 / _COARSE - 1
    some = (genuine + impostor) > 0
    return cosines[some], genuine[some] / (2 * genuine.sum()), impostor[some] / (2 * impostor.sum())


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -values))


def _percent(share: float, deviation: float | None = None) -> str:
    if np.isnan(share):
        return "-"
    return f"{100 * share:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def _spread(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return float("nan"), float("nan")
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)), deviation
