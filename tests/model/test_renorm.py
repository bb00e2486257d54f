"""Batch renormalisation: plain at first, then towards the running statistics, within limits."""

import pytest
import torch
from torch import nn

from pat.model.renorm import SCALE_LIMIT, SHIFT_LIMIT, WARMUP, BatchRenorm1d


@pytest.fixture
def norm():
    torch.manual_seed(0)
    made = BatchRenorm1d(3).double()
    nn.init.uniform_(made.weight, 0.5, 2)
    nn.init.uniform_(made.bias)
    return made


def test_the_first_batch_is_plainly_normalised(norm):
    plain = nn.BatchNorm1d(3).double()
    plain.load_state_dict(norm.state_dict())
    features = 5 + 3 * torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(norm(features), plain(features))
    torch.testing.assert_close(norm.state_dict(), plain.state_dict())
    torch.testing.assert_close(norm.eval()(features), plain.eval()(features))


def test_with_room_a_batch_is_normalised_as_in_evaluation(norm):
    norm.num_batches_tracked.fill_(WARMUP)
    norm.running_mean.copy_(torch.tensor([0.5, -1.0, 0.0]))
    norm.running_var.copy_(torch.tensor([2.0, 1.0, 0.5]))
    features = torch.randn(8, 3, dtype=torch.float64)
    expected = norm.eval()(features).clone()
    torch.testing.assert_close(norm.train()(features), expected)


def test_limits_by_hand():
    norm = BatchRenorm1d(1, eps=1e-12).double()
    norm.num_batches_tracked.fill_(WARMUP // 2)  # half way: limits 2 and 2.5
    features = torch.tensor([[90.0], [110.0]], dtype=torch.float64)  # deviation 10, mean 100, against 1 and 0
    expected = torch.tensor([[-1 * 2 + 2.5], [1 * 2 + 2.5]], dtype=torch.float64)
    torch.testing.assert_close(norm(features), expected)
    assert (SCALE_LIMIT, SHIFT_LIMIT) == (3, 5)


def test_gradient_is_that_of_the_batch_scaled(norm):
    norm.num_batches_tracked.fill_(WARMUP)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}

    def forward(features):
        norm.load_state_dict(before)
        return norm(features)

    features = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    forward(features).square().sum().backward()
    detached = features.detach()
    variance, mean = torch.var_mean(detached, dim=0, correction=0)
    deviation = (variance + norm.eps).sqrt()
    running = (before["running_var"] + norm.eps).sqrt()
    scale = (deviation / running).clamp(1 / 3, 3)
    shift = ((mean - before["running_mean"]) / running).clamp(-5, 5)
    ours = features.detach().clone().requires_grad_()
    variance, mean = torch.var_mean(ours, dim=0, correction=0)
    normal = (ours - mean) / (variance + norm.eps).sqrt()
    ((normal * scale + shift) * norm.weight.detach() + norm.bias.detach()).square().sum().backward()
    torch.testing.assert_close(features.grad, ours.grad)
