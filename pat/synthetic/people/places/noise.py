"""Noise that is the same on every machine: hashed integers, smoothly interpolated. Compiled."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True)
def hashed(x: int, y: int, seed: int) -> float:
    """A number in [0, 1) for a cell of the integer lattice."""
    h = (x * 374761393 + y * 668265263 + seed * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@njit(cache=True)
def smooth(x: float, y: float, seed: int) -> float:
    """Value noise in [0, 1) with cells of size 1."""
    i, j = math.floor(x), math.floor(y)
    u, v = x - i, y - j
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    i, j = int(i), int(j)
    top = hashed(i, j, seed) * (1 - u) + hashed(i + 1, j, seed) * u
    low = hashed(i, j + 1, seed) * (1 - u) + hashed(i + 1, j + 1, seed) * u
    return top * (1 - v) + low * v


@njit(cache=True)
def cloudy(x: float, y: float, seed: int) -> float:
    """Three octaves of value noise in [0, 1)."""
    fine, finer = smooth(2.1 * x, 2.1 * y, seed + 1), smooth(4.3 * x, 4.3 * y, seed + 2)
    return 0.55 * smooth(x, y, seed) + 0.3 * fine + 0.15 * finer
