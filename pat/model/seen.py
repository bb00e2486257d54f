"""Mean and mean products of the rows that a tensor was seen to hold, and smaller matrices that do nearly the same.

All in float64 on the CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RIDGE = 1e-6
"""Of least squares, relative to the mean square of what is given: a direction hardly seen counts little."""
LEAST = 1e-8
"""Of the largest: mean squares below are taken for it, so that nothing is divided by what was never seen."""


class Seen(NamedTuple):
    """Mean [D] and mean products [D, D] of rows."""

    mean: Tensor
    second: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.second - torch.outer(self.mean, self.mean)

    def through(self, weight: Tensor, bias: Tensor) -> Seen:
        """Of weight @ row + bias."""
        mean = weight @ self.mean
        cross = torch.outer(mean, bias)
        return Seen(mean + bias, weight @ self.second @ weight.T + cross + cross.T + torch.outer(bias, bias))


class Sums:
    """What `Seen` is made of, batch by batch."""

    def __init__(self) -> None:
        self.count, self.sum, self.products = 0, torch.zeros(()), torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """rows [..., D]"""
        rows = rows.flatten(0, -2).float()
        self.count += len(rows)
        self.sum = self.sum + rows.sum(0).double().cpu()
        self.products = self.products + (rows.T @ rows).double().cpu()

    def seen(self) -> Seen:
        return Seen(self.sum / self.count, self.products / self.count)


def principal(second: Tensor, count: int) -> tuple[Tensor, float]:
    """The first principal axes [count, D] of mean products [D, D], about zero, and their share of the squares."""
    values, vectors = torch.linalg.eigh(second)
    return vectors[:, -count:].T.flip(0), float(values[-count:].sum() / values.sum())


def completed(axes: Tensor, second: Tensor) -> Tensor:
    """[D, k]: from what of a row lies along the axes [k, D] to what it most likely is part of (least squares)."""
    along = axes @ second @ axes.T
    ridge = RIDGE * _or_one(along.diagonal().mean()) * torch.eye(len(axes), dtype=torch.float64)
    return torch.linalg.solve(along + ridge, axes @ second).T


def nearest_product(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices [rank, d] for two kinds of rows: the products of rows of the one with the other's change least.

    left, right: mean products [d, d] of each kind.
    """
    root, inverse = _roots(left)
    other, other_inverse = _roots(right)
    u, values, v = torch.linalg.svd(root @ other)
    stretch = values[:rank].sqrt()[:, None]
    return stretch * (u[:, :rank].T @ inverse), stretch * (v[:rank] @ other_inverse)


def low_rank(matrix: Tensor, second: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """[rank, d] and [D, rank]: applied to rows of mean products `second`, nearest to the matrix [D, d]."""
    root, inverse = _roots(second)
    u, values, v = torch.linalg.svd(matrix @ root, full_matrices=False)
    stretch = values[:rank].sqrt()
    return stretch[:, None] * (v[:rank] @ inverse), u[:, :rank] * stretch


def fewer(writes: Tensor, units: Seen, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix [D, H] with `count` of its H columns, fitted anew so that it writes nearly the same.

    Which columns stay, int64 [count]; the new matrix [D, count]; what is to be added, [D]. Each column chosen
    explains most of what those before it left (orthogonal least squares), for `units` as they were seen.
    """
    covariance = units.covariance
    left = writes @ covariance  # [D, H]: covariance of what is not yet explained with each unit
    variance, least = covariance.diagonal().clone(), RIDGE * _or_one(covariance.diagonal().mean())
    factors = torch.zeros(count, len(covariance), dtype=torch.float64)  # of Cholesky, row by row
    taken: list[int] = []
    for place in range(count):
        gain = left.square().sum(0) / variance.clamp(min=least)
        gain[taken] = -1
        unit = int(gain.argmax())
        taken.append(unit)
        pivot = variance[unit].clamp(min=least)
        row = covariance[unit] - factors[:place, unit] @ factors[:place]
        factors[place] = row / pivot.sqrt()
        left -= torch.outer(left[:, unit] / pivot, row)
        variance = (variance - factors[place].square()).clamp(min=0)
    kept = torch.tensor(sorted(taken))
    among = covariance[kept][:, kept] + least * torch.eye(count, dtype=torch.float64)
    weight = torch.linalg.solve(among, (writes @ covariance[:, kept]).T).T
    return kept, weight, writes @ units.mean - weight @ units.mean[kept]


def _roots(second: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric square root of mean products [d, d], and its inverse."""
    values, vectors = torch.linalg.eigh(second)
    values = values.clamp(min=LEAST * _or_one(values.max()))
    return (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T


def _or_one(size: Tensor) -> float:
    """What was seen, or 1 where nothing was: there, every matrix does the same."""
    return float(size) if size > 0 else 1.0
