"""Error rates of a threshold, against a comparison of all pairs one by one."""

from __future__ import annotations

import numpy as np
import pytest

from pat.base.errors import UserError
from pat.evaluation import verification
from pat.evaluation.ranking import Features
from pat.evaluation.verification import pair_scores


def people(count: int, each: int, cameras: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(count), each)
    vectors = rng.standard_normal((count, 8))[identities] + 0.5 * rng.standard_normal((count * each, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Features(vectors.astype(np.float32), identities, rng.integers(0, cameras, count * each))


@pytest.mark.parametrize("cameras", [1, 3])
def test_rates_are_those_of_all_pairs(cameras, monkeypatch):
    monkeypatch.setattr(verification, "BLOCK", 7)
    features = people(9, 5, cameras)
    found = pair_scores(features)
    first, second = np.triu_indices(45, 1)
    cosines = np.einsum("nd,nd->n", features.vectors[first], features.vectors[second])
    same = features.identities[first] == features.identities[second]
    apart = features.cameras[first] != features.cameras[second]
    genuine = cosines[same & apart] if cameras > 1 else cosines[same]
    impostor = cosines[~same]
    assert (found.genuine_pairs, found.impostor_pairs) == (len(genuine), len(impostor))
    assert found.across_cameras == (cameras > 1)
    for rate in (0.5, 0.1, 0.01, 1e-6):
        threshold = found.threshold(rate)
        assert (impostor >= threshold).mean() <= rate
        assert (impostor >= threshold - 2e-5).mean() > rate  # any lower would be too low
        assert found.false_match_rate(threshold) == pytest.approx((impostor >= threshold).mean())
        assert found.false_non_match_rate(threshold) == pytest.approx((genuine < threshold).mean(), abs=1 / 100)
    steps = np.linspace(-1, 1, 20001)
    gaps = [abs((impostor >= step).mean() - (genuine < step).mean()) for step in steps]
    best = steps[int(np.argmin(gaps))]
    expected = ((impostor >= best).mean() + (genuine < best).mean()) / 2
    assert found.equal_error_rate == pytest.approx(expected, abs=0.01)


def test_the_rule_of_three():
    assert pair_scores(people(9, 5, 1)).smallest_rate == 3 / (9 * 8 / 2 * 25)


def test_images_that_tell_nothing_are_refused():
    with pytest.raises(UserError, match="no person has two images"):
        pair_scores(people(5, 1, 2))
    with pytest.raises(UserError, match="all images show the same person"):
        pair_scores(people(1, 5, 2))
    with pytest.raises(UserError, match="no person has two images"):
        pair_scores(people(1, 1, 1))
