"""The distance of a student to its teacher."""

import torch
from torch.nn import functional as F

from pat.losses import distillation


def taught(count=20, width=8):
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(0)), dim=1)


def test_it_is_zero_where_the_teacher_is_and_length_does_not_count():
    bank, slots = taught(), torch.tensor([3, 3, 17])
    assert abs(distillation(5 * bank[slots], slots, bank)) < 1e-6
    assert distillation(bank[[4, 3, 17]], slots, bank) > 0.1


def test_it_is_what_its_formula_says():
    bank, slots, features = taught(), torch.tensor([0, 5]), torch.tensor([[1.0, -2] * 4, [0.5, 3] * 4])
    expected = 0.0
    for feature, slot in zip(features, slots, strict=True):
        student = feature / feature.norm()
        p, q = (torch.exp(bank @ each / 0.2) for each in (bank[slot], student))
        p, q = p / p.sum(), q / q.sum()
        expected += float(1 - student @ bank[slot] + (p * (p / q).log()).sum()) / 2
    torch.testing.assert_close(distillation(features, slots, bank, 0.2), torch.tensor(expected))


def test_going_down_it_finds_the_teacher():
    bank, slots = taught(), torch.arange(20)
    features = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    before = distillation(features, slots, bank).item()
    optimiser = torch.optim.Adam([features], lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        distillation(features, slots, bank).backward()
        optimiser.step()
    assert distillation(features, slots, bank) < 0.05 * before
    assert F.cosine_similarity(features, bank).mean() > 0.97
