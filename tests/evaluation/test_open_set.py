"""Open-set figures against definitions worked out one query and one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.evaluation.open_set import (
    Identification,
    calibration_error,
    divide_identities,
    fit_probability,
    identify,
    open_set,
)
from pat.evaluation.ranking import Features
from pat.evaluation.verification import STEPS, PairScores, pairs_between


def people(count: int, each: int, seed: int, noise: float = 0.7) -> Features:
    """`each` images of `count` people (from 1) by two cameras, with junk and a distractor among them."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((count + 2, 16))
    identities = np.concatenate([np.repeat(np.arange(1, count + 1), each), [0, -1]])
    vectors = centres[identities] + noise * rng.standard_normal((len(identities), 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors.astype(np.float32), identities, np.arange(len(identities)) % 2)


QUERY, GALLERY = people(12, 2, 1), people(12, 4, 2)


def by_hand(enrolled: np.ndarray) -> tuple[list[float], list[float]]:
    right, unknown = [], []
    for vector, who, camera in zip(QUERY.vectors, QUERY.identities, QUERY.cameras, strict=True):
        if who < 1:
            continue
        answers = [
            (float(vector @ GALLERY.vectors[i]), GALLERY.identities[i])
            for i in range(len(GALLERY))
            if GALLERY.identities[i] in enrolled
            and not (GALLERY.identities[i] == who and GALLERY.cameras[i] == camera)
        ]
        cosine, answer = max(answers)
        if who in enrolled:
            right.append(cosine if answer == who else -np.inf)
        else:
            unknown.append(cosine)
    return right, unknown


def test_identification_is_that_of_each_query_by_itself() -> None:
    enrolled, _ = divide_identities(GALLERY.identities, seed=3)
    found = identify(QUERY, GALLERY, enrolled)
    right, strangers = by_hand(enrolled)
    np.testing.assert_allclose(found.right, right, atol=1e-6)
    np.testing.assert_allclose(found.unknown, strangers, atol=1e-6)
    for far in (0.1, 0.25):
        threshold = found.threshold(far)
        assert (found.unknown >= threshold).mean() <= far
        assert (found.unknown >= np.nextafter(np.float32(threshold), np.float32(-2))).mean() > far
        assert found.dir_at(far) == (found.right >= threshold).mean()
    assert np.isnan(found.dir_at(0.01))  # a dozen strangers cannot show one false alarm in a hundred


def test_people_are_enrolled_or_unknown_and_the_same_everywhere() -> None:
    enrolled, unknown = divide_identities(GALLERY.identities, seed=0)
    assert not set(enrolled) & set(unknown)
    assert sorted({*enrolled, *unknown}) == list(range(1, 13))
    np.testing.assert_array_equal(enrolled, divide_identities(GALLERY.identities[::-1], seed=0)[0])
    assert set(divide_identities(GALLERY.identities, seed=1)[0]) != set(enrolled)
    with pytest.raises(UserError, match="two identities"):
        divide_identities(np.array([0, -1, 4, 4]), seed=0)


@pytest.mark.parametrize(("rate", "reaching"), [(0.0, 0), (0.2, 1), (0.39, 1), (0.4, 1), (0.6, 3), (1.0, 5)])
def test_no_more_than_the_rate_reach_the_threshold_ties_included(rate: float, reaching: int) -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.2, 0.1], dtype=np.float32)
    assert (scores >= Identification(scores, unknown=scores).threshold(rate)).sum() == reaching


def test_verification_is_that_of_all_pairs() -> None:
    pairs = pairs_between(QUERY, GALLERY)
    query, gallery = (side[side.identities != -1] for side in (QUERY, GALLERY))
    same = query.identities[:, None] == gallery.identities
    apart = query.cameras[:, None] != gallery.cameras
    cosines = query.vectors @ gallery.vectors.T
    assert pairs.genuine_pairs == (same & apart).sum()
    assert pairs.impostor_pairs == (~same).sum()
    found = open_set(QUERY, GALLERY)
    for rate in (0.01, 0.001):
        threshold = np.sort(cosines[~same])[::-1][int(rate * (~same).sum())]
        expected = (cosines[same & apart] > threshold).mean()
        assert found.tpr_at_fpr[rate] == pytest.approx(expected, abs=1.5 / pairs.genuine_pairs)
    assert np.isnan(found.tpr_at_fpr[0.0001])
    assert found.to_mapping()["tpr_at_fpr"]["0.0001"] is None  # type: ignore[index]


def test_a_threshold_costs_what_the_pairs_say() -> None:
    plain, asked = open_set(QUERY, GALLERY), open_set(QUERY, GALLERY, 0.5)
    assert plain.decision is None
    assert asked.decision is not None
    pairs = pairs_between(QUERY, GALLERY)
    assert asked.decision.false_match_rate == pairs.false_match_rate(0.5) > 0
    assert asked.decision.miss_rate == pairs.false_non_match_rate(0.5) > 0
    assert asked.to_mapping()["decision"] == vars(asked.decision)
    assert asked.to_mapping() | {"decision": None} == plain.to_mapping()  # and the same figures every time


def test_figures_that_so_few_queries_cannot_show_are_a_dash() -> None:
    found = open_set(QUERY, GALLERY)
    figures = found.figures()
    assert list(figures) == ["DIR 1 %", "DIR 0.1 %", "TPR 1 %", "TPR 0.1 %", "EER", "calib."]
    assert figures["DIR 0.1 %"] == "-"
    assert figures["EER"] == f"{100 * found.equal_error_rate:.1f}"
    many = open_set(people(60, 10, 1), people(60, 4, 2)).figures()
    assert " ± " in many["DIR 1 %"]


def test_figures_are_those_of_ten_draws_and_of_the_other_half_of_the_people() -> None:
    query, gallery = people(60, 10, 1), people(60, 4, 2)
    found = open_set(query, gallery)
    draws = [identify(query, gallery, divide_identities(gallery.identities, seed)[0]) for seed in range(10)]
    shares = [each.dir_at(0.01) for each in draws]
    assert found.dir_at_far[0.01] == pytest.approx((np.mean(shares), np.std(shares, ddof=1)))
    fitted, judged = (
        pairs_between(query[np.isin(query.identities, half)], gallery[np.isin(gallery.identities, half)])
        for half in divide_identities(gallery.identities, seed=0)
    )
    assert found.calibration_error == calibration_error(judged, *fit_probability(fitted))
    assert found.calibration_error != calibration_error(fitted, *fit_probability(fitted))


def test_draws_without_both_kinds_of_queries_are_left_out() -> None:
    """One person whom two cameras saw, and three whom one did: half of the draws enrol nobody who can be found."""
    identities, cameras = np.array([1, 1, 2, 3, 4]), np.array([0, 1, 0, 0, 0])
    vectors = np.eye(5, 16, dtype=np.float32)[np.array([0, 0, 1, 2, 3])]
    few = Features(vectors, identities, cameras)
    found = open_set(few, few)
    assert 0 < found.draws < 10
    assert np.isnan(found.calibration_error)
    with pytest.raises(UserError, match="pairs of one person by two cameras"):
        open_set(few[2:], few[2:])
    with pytest.raises(UserError, match="two identities"):
        open_set(few[:2], few[:2])


def logistic_pairs(slope: float, offset: float) -> PairScores:
    """Pairs whose share of one person at a cosine is the logistic curve's, both kinds weighing the same."""
    cosines = np.linspace(-1, 1, STEPS + 1)
    told = 1 / (1 + np.exp(-(slope * cosines + offset)))
    shape = np.exp(-4 * (cosines + offset / slope) ** 2)  # around the cosine at which both are as likely
    genuine, impostor = ((10_000 * share * shape).round().astype(np.int64) for share in (told, 1 - told))
    return PairScores(genuine, impostor, True, 2, 2)


def test_a_curve_is_found_again_and_calibrated() -> None:
    pairs = logistic_pairs(9.0, -1.8)
    slope, offset = fit_probability(pairs)
    assert slope == pytest.approx(9.0, rel=0.05)
    assert offset == pytest.approx(-1.8, abs=0.1)
    assert calibration_error(pairs, slope, offset) < 0.01
    assert calibration_error(pairs, 100.0, -20.0) > 0.05  # too sure of itself
    assert calibration_error(pairs, 0.0, 5.0) == pytest.approx(1 / (1 + np.exp(-5)) - 0.5, abs=1e-6)


def test_scores_that_a_threshold_separates_have_a_curve_too() -> None:
    counts = np.zeros((2, STEPS + 1), dtype=np.int64)
    counts[0, int(0.9 * STEPS)], counts[1, int(0.2 * STEPS)] = 5, 50
    pairs = PairScores(counts[0], counts[1], True, 2, 2)
    slope, offset = fit_probability(pairs)
    assert np.isfinite([slope, offset]).all()
    assert calibration_error(pairs, slope, offset) < 0.1


def test_a_perfect_model_and_one_that_knows_nothing() -> None:
    exact = open_set(people(12, 2, 1, noise=0.0), people(12, 4, 2, noise=0.0))
    assert exact.equal_error_rate == 0
    assert exact.tpr_at_fpr[0.01] == 1
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((len(GALLERY), 16)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    lost = open_set(QUERY, Features(noise, GALLERY.identities, GALLERY.cameras))
    assert 0.3 < lost.equal_error_rate < 0.7
    assert pairs_between(QUERY, Features(noise, GALLERY.identities, GALLERY.cameras)).decision(0.01).useless
    assert not pairs_between(QUERY, people(12, 4, 2, noise=0.0)).decision(0.01).useless


def test_a_query_whose_person_nobody_else_saw_is_left_out() -> None:
    found = identify(QUERY, GALLERY[GALLERY.cameras == 0], np.arange(1, 7))
    assert len(found.right) == 6  # of twelve: those by the other camera
    with pytest.raises(UserError, match="none of an enrolled"):
        identify(QUERY[QUERY.cameras == 0], GALLERY[GALLERY.cameras == 0], np.arange(1, 7))


def test_an_identification_counts_what_reaches() -> None:
    found = Identification(
        np.array([0.9, 0.6, -np.inf, 0.3], np.float32), np.linspace(0, 0.5, 100, dtype=np.float32)
    )
    assert found.dir_at(0.01) == 0.5
    assert found.dir_at(0.5) == 0.75
