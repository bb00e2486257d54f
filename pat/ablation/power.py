"""What a number of seeds can see: the power of the paired t-test."""

from __future__ import annotations

import bisect

import numpy as np

POWER = 0.8
LEVEL = 0.05
CERTAIN = 100.0
"""Difference over its standard error from which two pairs see it; SciPy's distribution gives NaN far beyond."""
MOST = 999
"""Seeds above which nobody would train."""


def power(seeds: int, deviation: float, difference: float) -> float:
    """The chance that `seeds` pairs tell a true `difference` from 0 at the level of 5 %, two-sided.

    `deviation` is that of the paired differences.
    """
    from scipy import stats

    if seeds < 2:
        return 0.0
    if deviation == 0:
        return 1.0 if difference else LEVEL
    freedom, shift = seeds - 1, abs(difference) / deviation * seeds**0.5
    if shift > CERTAIN:
        return 1.0
    edge = stats.t.ppf(1 - LEVEL / 2, freedom)
    # The other tail is nothing where there is any power to speak of.
    return float(stats.nct.sf(edge, freedom, shift))


def seeds_needed(deviation: float, difference: float) -> int:
    """The fewest seeds that see a true `difference` eight times in ten; MOST where more are needed."""
    return 2 + bisect.bisect_left(range(2, MOST), POWER, key=lambda seeds: power(seeds, deviation, difference))


def smallest_seen(seeds: int, deviation: float) -> float:
    """The smallest true difference that `seeds` pairs see eight times in ten; NaN for fewer than two."""
    from scipy.optimize import brentq

    if seeds < 2:
        return float("nan")
    if deviation == 0:
        return 0.0
    found = brentq(lambda size: power(seeds, 1.0, size) - POWER, 1e-3, 200.0)
    return float(found * deviation)


def pooled(deviations: list[float], freedoms: list[int]) -> float:
    """One deviation of several, weighted by their degrees of freedom; NaN without any."""
    weights = np.array(freedoms, dtype=np.float64)
    if not weights.sum():
        return float("nan")
    return float(np.sqrt((weights * np.square(deviations)).sum() / weights.sum()))
