"""BAU's terms: cases by hand, pairs in loops, gradients by differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from pat.losses import alignment_uniformity
from pat.losses.alignment_uniformity import Prototypes, alignment, uniformity

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def doubles(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def by_definition(plain, changed, labels, k):
    plain, changed = F.normalize(plain, dim=1), F.normalize(changed, dim=1)
    every, count = torch.cat([plain, changed]), len(plain)
    near = [set((every @ each).topk(k).indices.tolist()) for each in every]
    mutual = [{j for j in near[i] if i in near[j]} for i in range(2 * count)]
    total = weights = torch.zeros((), dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if labels[i] == labels[j]:
                left, right = mutual[count + i], mutual[j]
                weight = len(left & right) / len(left | right)
                total = total + weight * (changed[i] - plain[j]).square().sum()
                weights = weights + weight
    return total / weights


def test_alignment_is_its_definition(monkeypatch):
    monkeypatch.setattr(alignment_uniformity, "NEIGHBOURS", 5)
    torch.manual_seed(3)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    plain, changed = torch.randn(2, 6, 4, dtype=torch.float64)
    changed = plain + 0.5 * changed
    torch.testing.assert_close(alignment(plain, changed, labels), by_definition(plain, changed, labels, 5))


def test_copies_are_aligned_and_length_does_not_matter():
    features, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6)
    assert alignment(features, 3 * features, labels).abs() < 1e-12
    assert alignment(features, features.roll(1, 0), labels) > 0.1


def test_images_that_are_the_same_are_still_their_own_neighbours():
    labels = torch.arange(4).repeat_interleave(4)
    assert alignment(torch.ones(16, 8), torch.ones(16, 8), labels) == 0
    plain, changed = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    plain[:12] = changed[:12] = 1.0
    assert alignment(plain, changed, labels).isfinite()


def test_uniformity_by_hand():
    # Squared distances 2, 4 and 2.
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    torch.testing.assert_close(uniformity(doubles(EAST, NORTH, WEST)).item(), expected)
    assert uniformity(doubles(EAST, EAST, EAST)).item() == 0  # all in one place is the worst


def test_prototypes_of_other_sources_and_of_oneself_do_not_count():
    prototypes = Prototypes(2, torch.tensor([0, 0, 1, 0])).double()
    features, labels = doubles(EAST, WEST), torch.tensor([0, 1])
    assert prototypes.uniformity(features, labels).item() == 0  # nobody has been seen
    prototypes.update(doubles(EAST, NORTH, EAST), torch.tensor([0, 1, 2]))
    # EAST is of identity 0: its only other of the source is 1, NORTH. WEST is of 1: its only other is 0, EAST.
    expected = math.log((math.exp(-4) + math.exp(-8)) / 2)
    torch.testing.assert_close(prototypes.uniformity(features, labels).item(), expected)


def test_prototypes_move_once_a_batch():
    prototypes = Prototypes(2, torch.zeros(2, dtype=torch.int64)).double()
    prototypes.update(doubles([5.0, 0.0]), torch.tensor([0]))
    torch.testing.assert_close(prototypes.features, doubles(EAST, [0.0, 0.0]))
    prototypes.update(doubles(NORTH, EAST), torch.tensor([0, 0]))
    moved = 0.1 * doubles(EAST) + 0.9 * doubles([0.5, 0.5])
    torch.testing.assert_close(prototypes.features[:1], F.normalize(moved, dim=1))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 2, 3]])
def test_gradients(labels):
    torch.manual_seed(1)
    labels = torch.tensor(labels)
    plain, changed = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    prototypes = Prototypes(3, torch.zeros(5, dtype=torch.int64)).double()
    prototypes.update(torch.randn(5, 3, dtype=torch.float64), torch.arange(5))
    assert torch.autograd.gradcheck(lambda p, c: alignment(p, c, labels), (plain, changed))
    assert torch.autograd.gradcheck(uniformity, (plain,))
    assert torch.autograd.gradcheck(lambda p: prototypes.uniformity(p, labels), (plain,))
