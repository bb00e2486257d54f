import pytest
import torch

from pat.base.errors import UserError
from pat.model.regions import band_rows, full_bands, random_regions


def test_the_papers_bands_on_its_grid():
    assert band_rows(16, 3, "overlapping") == [(0, 8), (4, 12), (8, 16)]


@pytest.mark.parametrize("rows", [7, 16, 18, 24])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_bands_stay_in_the_grid_and_reach_both_ends(rows, parts):
    for kind in ("overlapping", "stripes"):
        bands = band_rows(rows, parts, kind)
        assert bands[0][0] == 0
        assert bands[-1][1] == rows
        assert all(top < bottom for top, bottom in bands)


def test_own_bands_as_fractions():
    assert band_rows(10, 2, ((0.0, 0.3), (0.2, 1.0))) == [(0, 3), (2, 10)]


@pytest.mark.parametrize(
    ("rows", "parts", "bands", "message"),
    [
        (16, 3, ((0.0, 1.0),), "names 1 bands for 3 parts"),
        (16, 1, ((0.5, 0.5),), "at least one row"),
        (16, 1, ((0.5, 1.2),), "at least one row"),
        (2, 3, "stripes", "at least one row"),
    ],
)
def test_bands_that_cannot_be(rows, parts, bands, message):
    with pytest.raises(UserError, match=message):
        band_rows(rows, parts, bands)


def test_no_parts_is_an_empty_set():
    assert full_bands((16, 8), []).shape == (1, 0, 4)
    assert random_regions(full_bands((16, 8), []), 5).shape == (5, 0, 4)


def test_random_regions_are_rectangles_within_their_band():
    bands = full_bands((16, 8), band_rows(16, 3, "overlapping"))
    regions = random_regions(bands, 4000, torch.Generator().manual_seed(0))
    assert regions.dtype == torch.int32
    top, bottom, left, right = regions.unbind(-1)
    assert (top < bottom).all()
    assert (left < right).all()
    assert (top >= bands[0, :, 0]).all()
    assert (bottom <= bands[0, :, 1]).all()
    assert (left >= 0).all()
    assert (right <= 8).all()


def test_every_pair_of_distinct_edges_is_equally_likely():
    bands = torch.tensor([[[0, 3, 0, 1]]], dtype=torch.int32)
    regions = random_regions(bands, 60_000, torch.Generator().manual_seed(0))[:, 0]
    assert (regions[:, 2:] == torch.tensor([0, 1])).all()
    pairs, counts = regions[:, :2].unique(dim=0, return_counts=True)
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    expected = 10_000
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # 5 degrees of freedom: exceeded by chance once in a thousand seeds
