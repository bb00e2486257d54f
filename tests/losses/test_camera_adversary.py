"""The adversary learns the camera, and the features unlearn it."""

import torch
from torch.nn import functional as F

from pat.losses.camera_adversary import CameraAdversary, reversed_gradient


def test_the_head_gets_its_gradient_and_the_features_the_opposite_of_theirs():
    torch.manual_seed(0)
    adversary, cameras = CameraAdversary(3, 2).double(), torch.tensor([0, 1, 1])
    features = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    adversary(features, cameras).backward()
    head, reached = adversary.classifier.weight.grad.clone(), features.grad.clone()

    adversary.zero_grad()
    features.grad = None
    loss = F.cross_entropy(adversary.classifier(features), cameras)
    loss.backward()
    torch.testing.assert_close(head, adversary.classifier.weight.grad)
    torch.testing.assert_close(reached, -features.grad)
    torch.testing.assert_close(adversary(features, cameras), loss)


def test_a_case_by_hand():
    adversary = CameraAdversary(1, 2).double()
    with torch.no_grad():
        adversary.classifier.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        adversary.classifier.bias.zero_()
    feature = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    loss = adversary(feature, torch.tensor([0]))
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(2.0, dtype=torch.float64).log())  # both cameras as likely
    # The loss falls by 1 for a step of 1 towards camera 0; the network is told the opposite.
    torch.testing.assert_close(feature.grad, torch.ones(1, 1, dtype=torch.float64))


def test_reversed_values_are_the_same_bits():
    values = torch.randn(1000) * torch.logspace(-20, 20, 1000)
    assert torch.equal(reversed_gradient(values), values)
