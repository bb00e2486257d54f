"""Smaller matrices that do nearly the same, against what is known of the best ones."""

from __future__ import annotations

import pytest
import torch

from pat.model.seen import Seen, Sums, completed, fewer, low_rank, nearest_product, principal


def rows(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Rows of unequal directions and with a mean, float64 [count, size]."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(count, size, generator=generator, dtype=torch.float64) @ mix + mix[0]


def seen_of(given: torch.Tensor) -> Seen:
    return Seen(given.mean(0), given.T @ given / len(given))


def test_sums_of_batches_are_those_of_all_rows():
    given, sums = rows(60, 5), Sums()
    for batch in given.view(3, 4, 5, 5):
        sums.add(batch)
    mean, second = sums.seen()
    torch.testing.assert_close(mean, given.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second, given.T @ given / 60, rtol=1e-4, atol=1e-4)


def test_through_a_layer():
    given, weight, bias = rows(100, 4), rows(3, 4, seed=1), rows(1, 3, seed=2)[0]
    through = seen_of(given @ weight.T + bias)
    for found, expected in zip(seen_of(given).through(weight, bias), through, strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(seen_of(given).covariance, torch.cov(given.T, correction=0))


def test_the_rest_of_a_row_is_guessed_from_what_it_goes_with():
    part = rows(200, 2)
    whole = torch.cat([part, part @ torch.tensor([[2.0], [-1.0]], dtype=torch.float64)], 1)
    axes = torch.eye(3, dtype=torch.float64)[:2]
    torch.testing.assert_close(part @ completed(axes, seen_of(whole).second).T, whole, rtol=1e-4, atol=1e-4)


def test_principal_axes_keep_the_most():
    given = rows(300, 6)
    axes, share = principal(seen_of(given).second, 2)
    torch.testing.assert_close(axes @ axes.T, torch.eye(2, dtype=torch.float64))
    assert (given @ axes.T).square().sum() / given.square().sum() == pytest.approx(share)
    other = torch.linalg.qr(rows(6, 2, seed=3))[0]
    assert (given @ other).square().sum() < (given @ axes.T).square().sum()


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_matrix_of_low_rank_is_the_best_for_what_was_seen(rank):
    given, matrix = rows(400, 5), rows(7, 5, seed=1)
    down, up = low_rank(matrix, seen_of(given).second, rank)
    assert down.shape == (rank, 5)
    wrong = (given @ (matrix - up @ down).T).square().sum()
    expected = torch.linalg.svdvals(given @ matrix.T)[rank:].square().sum()  # Eckart and Young
    torch.testing.assert_close(wrong, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [2, 4, 6])
def test_products_change_least(rank):
    queries, keys = rows(300, 6), rows(200, 6, seed=1)
    left, right = nearest_product(seen_of(queries).second, seen_of(keys).second, rank)
    products = queries @ keys.T
    wrong = (products - (queries @ left.T) @ (keys @ right.T).T).square().sum()
    expected = torch.linalg.svdvals(products)[rank:].square().sum()
    torch.testing.assert_close(wrong, expected, rtol=1e-4, atol=1e-3 * float(products.square().mean()))


def test_units_that_others_tell_are_not_missed():
    own = rows(500, 4)
    units = torch.cat([own, own @ rows(4, 5, seed=1) + 3], 1)  # nine, of four that vary by themselves
    writes = rows(6, 9, seed=2)
    kept, weight, always = fewer(writes, seen_of(units), 4)
    assert len(set(kept.tolist())) == 4
    expected = units @ writes.T
    assert (units[:, kept] @ weight.T + always - expected).norm() < 1e-3 * expected.norm()


def test_the_unit_that_explains_most_is_first():
    units = rows(500, 3) * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    kept, weight, always = fewer(torch.eye(3, dtype=torch.float64), seen_of(units), 1)
    assert kept.tolist() == [1]
    wrong = (units[:, kept] @ weight.T + always - units).square().sum()
    for other in (0, 2):
        given = torch.stack([units[:, other], torch.ones(500, dtype=torch.float64)], 1)
        assert wrong < (given @ torch.linalg.lstsq(given, units).solution - units).square().sum()


def test_a_unit_that_never_fires_breaks_nothing():
    units = torch.cat([rows(100, 2), torch.zeros(100, 2, dtype=torch.float64)], 1)
    kept, weight, always = fewer(rows(3, 4, seed=1), seen_of(units), 3)
    assert {0, 1} <= set(kept.tolist())
    assert torch.isfinite(weight).all()
    assert torch.isfinite(always).all()


def test_where_nothing_was_seen_all_is_finite():
    nothing = Seen(torch.zeros(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64))
    matrix = rows(3, 4)
    found = [
        *low_rank(matrix, nothing.second, 2), *nearest_product(nothing.second, nothing.second, 2),
        completed(torch.eye(4, dtype=torch.float64)[:2], nothing.second), *fewer(matrix, nothing, 2),
    ]  # fmt: skip
    assert all(torch.isfinite(tensor).all() for tensor in found)
