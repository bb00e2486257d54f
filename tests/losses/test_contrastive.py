"""The contrastive loss against its definition, pair by pair in float64, values and gradients."""

import pytest
import torch

from pat.losses import supervised_contrastive


def by_definition(features, labels, temperature):
    unit = [f / f.norm() for f in features]
    terms = []
    for i, anchor in enumerate(unit):
        others = [j for j in range(len(unit)) if j != i]
        total = sum(torch.exp(anchor @ unit[j] / temperature) for j in others)
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            logs = [torch.log(torch.exp(anchor @ unit[j] / temperature) / total) for j in positives]
            terms.append(-sum(logs) / len(logs))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 0, 0, 1, 2, 2], [3, 1, 3, 1, 3, 0, 7]])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_and_gradient_are_those_of_the_definition(labels, temperature):
    features = torch.randn(len(labels), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    ours, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    loss = supervised_contrastive(ours, torch.tensor(labels), temperature)
    expected = by_definition(other, labels, temperature)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, other.grad)


def test_without_a_pair_it_is_zero_and_has_a_gradient_of_zero():
    features = torch.randn(3, 4, requires_grad=True)
    loss = supervised_contrastive(features, torch.arange(3))
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


def test_the_length_of_a_feature_does_not_matter_and_half_precision_is_raised():
    features, labels = torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    scaled = features * torch.linspace(0.1, 10, 6)[:, None]
    torch.testing.assert_close(supervised_contrastive(features, labels), supervised_contrastive(scaled, labels))
    assert supervised_contrastive(features.bfloat16(), labels).dtype == torch.float32


def test_nothing_hides_a_feature_that_is_not_a_number():
    features = torch.randn(4, 8)
    features[0, 0] = torch.nan
    assert supervised_contrastive(features, torch.tensor([0, 0, 1, 1])).isnan()
