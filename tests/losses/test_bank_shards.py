"""A memory bank in shards is the whole bank: updates, losses, neighbours, gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.nearest_parts import merge_nearest
from pat.losses import MemoryBank, cross_id_similarity

PARTS, SIZE, DIM = 2, 13, 6


def shards_of(count, size=SIZE):
    return [range(size * i // count, size * (i + 1) // count) for i in range(count)]


def banks_of(values, shards, **options):
    banks = [MemoryBank(*values.shape, shard=shard, **options) for shard in shards]
    for bank in banks:
        bank.fill(torch.arange(values.shape[1]), values)
    return banks


def searched(features, banks, indices, **options):
    """Loss, neighbours and gradient as several ranks get them: each differentiates through its own shard alone."""
    partial = []

    def note(found):
        partial.append(found)
        return found

    for bank in banks:
        cross_id_similarity(features.detach(), bank, indices, merge=note, **options)
    gradient = torch.zeros_like(features)
    for own, bank in enumerate(banks):

        def merge(found, own=own):
            return merge_nearest([found if i == own else other for i, other in enumerate(partial[: len(banks)])])

        loss, neighbours = cross_id_similarity(features, bank, indices, merge=merge, **options)
        gradient += torch.autograd.grad(loss, features)[0]
    return loss.detach(), neighbours, gradient


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, SIZE),
    seed=st.integers(0, 1000),
    k=st.integers(1, 15),
    other_identities=st.booleans(),
    read_dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_loss_neighbours_and_gradient_of_shards_equal_the_whole(count, seed, k, other_identities, read_dtype):
    torch.manual_seed(seed)
    values, indices = torch.randn(PARTS, SIZE, DIM), torch.randint(SIZE, (4,))
    features = torch.randn(PARTS, 4, DIM, requires_grad=True)
    people = torch.arange(SIZE) // 3
    options = {"k": k, "scale": 0.1}
    if other_identities:
        options |= {"identities": people[indices], "bank_identities": people}

    (whole,) = banks_of(values, [range(SIZE)], read_dtype=read_dtype)
    loss, neighbours = cross_id_similarity(features, whole, indices, **options)
    (gradient,) = torch.autograd.grad(loss, features)
    banks = banks_of(values, shards_of(count), read_dtype=read_dtype)
    shard_loss, shard_neighbours, shard_gradient = searched(features, banks, indices, **options)

    torch.testing.assert_close(shard_loss, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shard_gradient, gradient, rtol=1e-4, atol=1e-6)
    assert torch.equal(shard_neighbours, neighbours)


@pytest.mark.parametrize("count", [2, 5, SIZE])
def test_an_update_moves_each_slot_in_the_shard_that_holds_it_and_no_other(count):
    torch.manual_seed(3)
    values = torch.randn(PARTS, SIZE, DIM)
    (whole,), banks = banks_of(values, [range(SIZE)]), banks_of(values, shards_of(count))
    for indices in (torch.tensor([12, 0, 5, 5]), torch.tensor([1, 1, 1, 1])):
        new = torch.randn(PARTS, 4, DIM)
        for bank in (whole, *banks):
            bank.update(indices, new)
    for name in ("features", "squared_norms"):
        joined = torch.cat([getattr(bank, name) for bank in banks], dim=1)
        torch.testing.assert_close(joined, getattr(whole, name), rtol=0, atol=0)
