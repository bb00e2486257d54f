"""Banks with fewer slots than images: who has a slot, whose it was, and a loss as if the others were not there."""

import torch

from pat.losses import MemoryBank, cross_id_similarity
from pat.losses.small_bank import SmallBank, images_of_quota


def features_of(*values):
    return torch.tensor(values).view(1, -1, 1)


def test_a_quota_keeps_so_many_of_each():
    labels = torch.tensor([2, 0, 1, 0, 2, 0, 2, 2])
    drawn = [images_of_quota(labels, 2, torch.Generator().manual_seed(seed)) for seed in range(40)]
    for kept in drawn:
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert labels[kept].bincount().tolist() == [2, 1, 2]
    assert set(torch.cat(drawn).tolist()) == set(range(8))  # any image may be kept


def test_images_without_a_slot_move_nothing_and_have_no_own():
    bank = SmallBank(1, torch.tensor([1, 3]), 4, 1, momentum=0.5)
    bank.fill(torch.arange(4), features_of(10.0, 11.0, 12.0, 13.0))
    assert bank.features.flatten().tolist() == [11, 13]
    bank.update(torch.tensor([0, 3, 2]), features_of(0.0, 15.0, 0.0))
    assert bank.features.flatten().tolist() == [11, 14]
    assert bank.own(torch.arange(4)).tolist() == [-1, 0, -1, 1]
    assert bank.of_slots(torch.tensor([5, 6, 7, 8])).tolist() == [6, 8]


def test_a_batch_of_which_no_image_has_a_slot_moves_nothing():
    bank = SmallBank(1, torch.tensor([1, 3]), 4, 1)
    bank.fill(torch.arange(4), features_of(10.0, 11.0, 12.0, 13.0))
    bank.update(torch.tensor([0, 2]), features_of(0.0, 0.0))
    assert bank.features.flatten().tolist() == [11, 13]


def test_a_queue_takes_in_who_comes_and_forgets_the_oldest():
    bank = SmallBank(1, torch.tensor([0, 1, 2]), 6, 1, momentum=0.5, queue=True)
    bank.fill(torch.arange(6), features_of(0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    bank.update(torch.tensor([4, 2, 4]), features_of(40.0, 4.0, 42.0))  # 4 takes the slot of 0; 2 moves half way
    assert bank.features.flatten().tolist() == [41, 1, 3]
    assert bank.image_of.tolist() == [4, 1, 2]
    bank.update(torch.tensor([5, 2]), features_of(50.0, 9.0))  # 1 was never seen
    assert sorted(bank.image_of.tolist()) == [2, 4, 5]
    bank.update(torch.tensor([0]), features_of(9.0))  # 2 was seen again after 4
    assert bank.own(torch.tensor([1, 3, 4])).tolist() == [-1, -1, -1]
    found = {int(image): float(value) for image, value in zip(bank.image_of, bank.features.flatten(), strict=True)}
    assert found == {2: 6, 5: 50, 0: 9}
    again = SmallBank(1, torch.tensor([0, 1, 2]), 6, 1, momentum=0.5, queue=True)
    again.load_state_dict(bank.state_dict())
    for each in (bank, again):
        each.update(torch.tensor([3]), features_of(7.0))
    assert again.image_of.tolist() == bank.image_of.tolist()
    torch.testing.assert_close(again.features, bank.features)
    torch.testing.assert_close(again.squared_norms, bank.squared_norms)


def test_who_took_a_slot_is_averaged_from_then_on():
    bank = SmallBank(1, torch.tensor([0, 1]), 4, 1, momentum=0.5, queue=True)
    for value, average in ((8.0, 8.0), (4.0, 6.0)):
        bank.update(torch.tensor([3]), features_of(value))
        assert bank.features[0, bank.own(torch.tensor([3]))].item() == average


def test_a_queue_never_drops_an_image_of_the_batch():
    bank = SmallBank(1, torch.tensor([0, 1, 2]), 6, 1, queue=True)
    bank.update(torch.tensor([0, 4, 5]), features_of(1.0, 2.0, 3.0))  # 0 was there first of all
    assert sorted(bank.image_of.tolist()) == [0, 4, 5]


def test_the_loss_is_that_of_a_bank_of_the_kept_images_alone():
    torch.manual_seed(0)
    everything, kept = torch.randn(2, 9, 4), torch.tensor([1, 2, 5, 8])
    small, alone = SmallBank(2, kept, 9, 4), MemoryBank(2, 4, 4)
    small.fill(torch.arange(9), everything)
    alone.fill(torch.arange(4), everything[:, kept])
    queries = torch.randn(2, 2, 4)
    of_small = cross_id_similarity(queries, small, torch.tensor([5, 2]), k=2)
    of_alone = cross_id_similarity(queries, alone, torch.tensor([2, 1]), k=2)
    torch.testing.assert_close(of_small, of_alone)
    loss, neighbours = cross_id_similarity(queries, small, torch.tensor([0, 2]), k=4)  # image 0 has no slot
    assert loss.isfinite()
    assert (neighbours[:, 0] >= 0).all()
    assert (neighbours[:, 1] == -1).sum() == 2
