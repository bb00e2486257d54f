import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pat.losses import MemoryBank, batch_hard_triplet, cross_id_similarity, identity_loss, soft_targets


def bank_of(values: torch.Tensor, **settings) -> MemoryBank:
    bank = MemoryBank(*values.shape, **settings)
    bank.fill(torch.arange(values.shape[1]), values)
    return bank


# Memory bank


def test_update_is_a_moving_average_and_keeps_the_norms():
    values, new = torch.randn(2, 6, 4), torch.randn(2, 3, 4)
    bank = bank_of(values)
    bank.update(torch.tensor([4, 0, 2]), new)
    expected = values.clone()
    expected[:, [4, 0, 2]] = 0.9 * values[:, [4, 0, 2]] + 0.1 * new
    torch.testing.assert_close(bank.features, expected)
    torch.testing.assert_close(bank.squared_norms, expected.square().sum(-1))


def test_an_image_twice_in_a_batch_moves_once_towards_the_mean_in_any_order():
    values, new = torch.randn(1, 4, 3), torch.randn(1, 3, 3)
    bank, swapped = bank_of(values), bank_of(values)
    bank.update(torch.tensor([2, 1, 2]), new)
    swapped.update(torch.tensor([2, 2, 1]), new[:, [2, 0, 1]])
    torch.testing.assert_close(bank.features[:, 2], 0.9 * values[:, 2] + 0.1 * (new[:, 0] + new[:, 2]) / 2)
    torch.testing.assert_close(swapped.features, bank.features)


def test_a_bfloat16_reader_does_not_stall_the_average():
    bank = bank_of(torch.ones(1, 1, 8), read_dtype=torch.bfloat16)
    target = torch.full((1, 1, 8), 1.02)
    for _ in range(60):
        bank.update(torch.tensor([0]), target)
    assert bank.reading.dtype == torch.bfloat16
    torch.testing.assert_close(bank.features, target, atol=1e-3, rtol=0)
    torch.testing.assert_close(bank.reading.float(), target, atol=8e-3, rtol=0)
    torch.testing.assert_close(bank.squared_norms, bank.reading.float().square().sum(-1))


def test_bank_state_survives_saving():
    bank = bank_of(torch.randn(2, 5, 4), read_dtype=torch.bfloat16)
    again = MemoryBank(2, 5, 4, read_dtype=torch.bfloat16)
    again.load_state_dict(bank.state_dict())
    for name in ("features", "squared_norms", "readable"):
        torch.testing.assert_close(getattr(again, name), getattr(bank, name), rtol=0, atol=0)


@pytest.mark.parametrize("indices", [[-1, 0], [0, 5]])
def test_a_slot_that_is_none_is_refused(indices):
    bank = bank_of(torch.zeros(2, 5, 4))
    with pytest.raises(IndexError):
        bank.update(torch.tensor(indices), torch.ones(2, 2, 4))
    with pytest.raises(IndexError):
        bank.fill(torch.tensor(indices), torch.ones(2, 2, 4))


def test_features_of_another_number_of_parts_are_refused_and_not_spread_over_all():
    bank = bank_of(torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match=r"shape \(1, 2, 4\), expected \(2, 2, 4\)"):
        bank.update(torch.tensor([0, 1]), torch.ones(1, 2, 4))
    with pytest.raises(ValueError, match="expected"):
        bank.fill(torch.tensor([0, 1]), torch.ones(1, 2, 4))


def test_update_takes_no_gradient():
    bank, new = bank_of(torch.randn(1, 2, 3)), torch.randn(1, 1, 3, requires_grad=True)
    bank.update(torch.tensor([0]), new)
    assert not bank.features.requires_grad


# Cross-ID similarity


def csl_by_hand(features, bank, indices, k, scale, identities=None, bank_identities=None):
    """DESIGN's formula, one query at a time, with everything spelled out."""
    terms = []
    for part in range(features.shape[0]):
        for row in range(features.shape[1]):
            allowed = torch.ones(bank.shape[1], dtype=torch.bool)
            allowed[indices[row]] = False
            if identities is not None:
                allowed &= bank_identities != identities[row]
            distances = (features[part, row] - bank[part, allowed]).square().sum(-1)
            if len(distances) == 0:
                terms.append(features[part, row].sum() * 0)
                continue
            nearest = distances.sort().values[:k]
            terms.append(torch.logsumexp(-scale * distances, 0) - torch.logsumexp(-scale * nearest, 0))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("own_identity_out", [False, True])
def test_csl_and_its_gradient_against_the_formula(own_identity_out):
    torch.manual_seed(0)
    values = torch.randn(3, 40, 16)
    bank, indices = bank_of(values), torch.tensor([3, 17, 17, 39])
    people = {}
    if own_identity_out:
        bank_identities = torch.arange(40) // 4
        people = {"identities": bank_identities[indices], "bank_identities": bank_identities}
    features = torch.randn(3, 4, 16, requires_grad=True)
    loss, neighbours = cross_id_similarity(features, bank, indices, k=5, scale=0.1, **people)
    (gradient,) = torch.autograd.grad(loss, features)

    exact = features.detach().double().requires_grad_()
    expected = csl_by_hand(exact, values.double(), indices, 5, 0.1, **people)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), expected_gradient, atol=1e-6, rtol=1e-4)
    assert neighbours.shape == (3, 4, 5)
    assert not (neighbours == indices[None, :, None]).any()


def test_csl_passes_gradcheck_in_float64():
    torch.manual_seed(1)
    bank = bank_of(torch.randn(2, 12, 5))
    features = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    indices = torch.tensor([0, 4, 4])
    assert torch.autograd.gradcheck(
        lambda f: cross_id_similarity(f, bank, indices, k=3, scale=0.3)[0], (features,), atol=1e-7
    )


def test_csl_gradient_is_the_difference_of_two_averages():
    torch.manual_seed(2)
    values, scale = torch.randn(1, 20, 6), 0.2
    bank, features = bank_of(values), torch.randn(1, 2, 6, requires_grad=True)
    loss, neighbours = cross_id_similarity(features, bank, torch.tensor([1, 8]), k=4, scale=scale)
    loss.backward()
    for row, own in enumerate((1, 8)):
        logits = -scale * (features[0, row].detach() - values[0]).square().sum(-1)
        allowed = [slot for slot in range(20) if slot != own]
        over_all = logits[allowed].softmax(0) @ values[0, allowed]
        over_nearest = logits[neighbours[0, row]].softmax(0) @ values[0, neighbours[0, row]]
        assert features.grad is not None
        expected = 2 * scale * (over_all - over_nearest) / 2  # two queries
        torch.testing.assert_close(features.grad[0, row], expected, atol=1e-6, rtol=1e-4)


def test_csl_with_few_or_no_candidates():
    features = torch.randn(2, 1, 4, requires_grad=True)
    loss, neighbours = cross_id_similarity(features, bank_of(torch.randn(2, 1, 4)), torch.tensor([0]), k=3)
    loss.backward()
    assert loss == 0
    assert (neighbours == -1).all()
    assert features.grad is not None
    assert (features.grad == 0).all()

    features = torch.randn(1, 1, 4, requires_grad=True)
    loss, neighbours = cross_id_similarity(features, bank_of(torch.randn(1, 3, 4)), torch.tensor([0]), k=3)
    loss.backward()
    assert loss.abs() < 1e-6  # the two candidates are all there is, so both sums agree
    assert sorted(neighbours[0, 0].tolist()) == [-1, 1, 2]
    assert torch.isfinite(features.grad).all()


def test_csl_stays_finite_where_exp_underflows():
    features = torch.full((1, 1, 8), 1e3, requires_grad=True)
    loss, _ = cross_id_similarity(features, bank_of(torch.randn(1, 30, 8)), torch.tensor([0]), scale=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(features.grad).all()


# Identity loss and soft targets


def test_soft_targets_count_the_neighbours_identities():
    neighbours = torch.tensor([[[0, 1]], [[2, -1]]])  # P = 2, B = 1, k = 2
    target = soft_targets(neighbours, torch.tensor([1, 1, 2]), torch.tensor([0]), 4, mix=0.5)
    torch.testing.assert_close(target, torch.tensor([[0.5, 0.5 * 2 / 3, 0.5 * 1 / 3, 0.0]]))


def test_soft_targets_without_neighbours_are_one_hot():
    target = soft_targets(torch.full((3, 2, 5), -1), torch.tensor([0]), torch.tensor([1, 0]), 3, mix=0.5)
    torch.testing.assert_close(target, F.one_hot(torch.tensor([1, 0]), 3).float())


def test_identity_loss_is_the_weighted_sum_of_both_terms():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 6), torch.tensor([0, 5, 2, 2])
    targets = torch.rand(4, 6).softmax(-1)
    log_p = logits.log_softmax(-1)
    smoothed = torch.full((4, 6), 0.1 / 6) + 0.9 * F.one_hot(labels, 6)
    hard, soft = -(smoothed * log_p).sum(1).mean(), -(targets * log_p).sum(1).mean()
    torch.testing.assert_close(identity_loss(logits, labels, targets, share=0.3), 0.7 * hard + 0.3 * soft)
    torch.testing.assert_close(identity_loss(logits, labels), hard)


def test_labels_beyond_the_classifier_are_refused():
    with pytest.raises(IndexError, match="out of bounds"):
        identity_loss(torch.randn(2, 6), torch.tensor([0, 6]))


# Triplet


def test_triplet_against_loops():
    torch.manual_seed(0)
    features, labels = torch.randn(8, 5), torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    expected = []
    for i in range(8):
        distances = [float((features[i] - features[j]).norm()) for j in range(8)]
        hardest = max(distances[j] for j in range(8) if labels[j] == labels[i])
        nearest = min(distances[j] for j in range(8) if labels[j] != labels[i])
        expected.append(np.log1p(np.exp(hardest - nearest)))
    assert float(batch_hard_triplet(features, labels)) == pytest.approx(np.mean(expected), abs=1e-5)


def test_triplet_with_equal_features_or_one_identity_has_finite_gradients():
    for labels in (torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)):
        features = torch.ones(4, 3, requires_grad=True)
        loss = batch_hard_triplet(features, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(features.grad).all()
    assert loss == 0


@pytest.mark.filterwarnings("ignore:invalid value encountered", "ignore:All-NaN slice")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_a_feature_that_is_not_finite_reaches_the_loss(impl, value):
    """In the batch, or in the bank from an earlier one: a run must not go on for days with it."""
    if impl == "triton":
        pytest.importorskip("triton")
    device = "cuda" if impl == "triton" and torch.cuda.is_available() else "cpu"
    bank = bank_of(torch.randn(2, 20, 4)).to(device)
    features, own = torch.randn(2, 3, 4, device=device), torch.tensor([0, 1, 2], device=device)
    good, _ = cross_id_similarity(features, bank, own, k=2, impl=impl)
    assert good.isfinite()
    features[1, 2, 0] = value
    loss, _ = cross_id_similarity(features, bank, own, k=2, impl=impl)
    assert not loss.isfinite()
    if np.isnan(value):
        bank.fill(torch.tensor([9], device=device), features[:, 2:])
        loss, _ = cross_id_similarity(features[:, :2], bank, own[:2], k=2, impl=impl)
        assert not loss.isfinite()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_query_without_candidates_contributes_nothing_but_what_is_not_finite(value):
    bank, own = bank_of(torch.randn(1, 1, 4)), torch.tensor([0])
    features = torch.randn(1, 1, 4, requires_grad=True)
    loss, neighbours = cross_id_similarity(features, bank, own, k=2)
    assert loss == 0
    assert torch.equal(neighbours, torch.full((1, 1, 2), -1))
    (gradient,) = torch.autograd.grad(loss, features)
    assert torch.equal(gradient, torch.zeros_like(gradient))
    loss, _ = cross_id_similarity(torch.full((1, 1, 4), value), bank, own, k=2)
    assert loss.isnan()
