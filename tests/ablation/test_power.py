"""The power of the paired t-test against a simulation and published tables."""

import math

import numpy as np
import pytest
from scipy import stats

from pat.ablation.power import MOST, pooled, power, seeds_needed, smallest_seen


def test_power_is_what_a_simulation_shows():
    generator = np.random.default_rng(0)
    draws = generator.normal(0.01, 0.012, (4000, 6))
    seen = (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert power(6, 0.012, 0.01) == pytest.approx(seen, abs=0.02)


def test_the_sample_sizes_of_the_tables():
    # Cohen (1988): a paired t-test at 5 %, power 0.8, needs 34 pairs for d = 0.5 and 15 for d = 0.8.
    assert (seeds_needed(1.0, 0.5), seeds_needed(1.0, 0.8)) == (34, 15)
    assert seeds_needed(1.0, 1e-3) == MOST


def test_what_is_seen_needs_as_many_seeds():
    for seeds in (3, 5, 20):
        assert seeds_needed(0.02, smallest_seen(seeds, 0.02) * 1.001) == seeds
    assert smallest_seen(5, 0.0) == 0
    assert math.isnan(smallest_seen(1, 0.02))


def test_power_at_its_ends():
    assert power(1, 0.01, 0.01) == 0
    assert power(2, 0.0, 0.01) == 1
    assert power(3, 1e-6, 0.5) == pytest.approx(1)


def test_pooled_weighs_by_freedom():
    assert pooled([0.1, 0.3], [3, 1]) == pytest.approx(math.sqrt((3 * 0.01 + 0.09) / 4))
    assert math.isnan(pooled([], []))
