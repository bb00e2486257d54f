"""P x K batches: what every epoch must hold, whatever the data set looks like."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pat.base.errors import UserError
from pat.data.sampler import batches_of_epoch


def batches(labels: np.ndarray, cameras: np.ndarray | None = None, **changed: Any) -> np.ndarray:
    arguments: dict[str, Any] = {
        "identities": 4, "images": 4, "spread_cameras": False, "seed": 0, "epoch": 1, **changed,
    }  # fmt: skip
    return batches_of_epoch(labels, np.zeros_like(labels) if cameras is None else cameras, **arguments)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 11), min_size=3, max_size=12),
    images=st.integers(1, 5),
    spread=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_step_is_p_times_k(sizes: list[int], images: int, spread: bool, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    cameras = np.arange(len(labels)) % 3
    steps = batches(labels, cameras, identities=3, images=images, spread_cameras=spread, seed=seed)
    assert steps.dtype == np.int64
    assert steps.shape[1] == 3 * images
    of_step = labels[steps].reshape(len(steps), 3, images)
    assert (of_step == of_step[:, :, :1]).all()
    assert all(len(set(step[:, 0])) == 3 for step in of_step)
    seen = Counter(steps.ravel().tolist())
    for label, size in enumerate(sizes):
        counts = [seen[index] for index in np.flatnonzero(labels == label)]
        if size >= images:
            assert max(counts) <= 1
        elif sum(counts):  # fewer images than K: one group, its repeats as even as they can be
            assert sum(counts) == images
            assert max(counts) - min(counts) <= 1


def test_the_epoch_ends_when_fewer_than_p_identities_have_images_left() -> None:
    labels = np.repeat(np.arange(4), [9, 8, 4, 4])  # groups of 4: 2, 2, 1, 1, with one image dropped
    steps = batches(labels, identities=2)
    assert len(steps) in (2, 3)  # 3 where the draw pairs them well
    assert len(batches(np.repeat(np.arange(4), 8), identities=4)) == 2


def test_same_seed_and_epoch_same_batches_another_epoch_others() -> None:
    labels = np.repeat(np.arange(20), 7)
    np.testing.assert_array_equal(batches(labels), batches(labels))
    assert not np.array_equal(batches(labels)[0], batches(labels, epoch=2)[0])
    assert not np.array_equal(batches(labels)[0], batches(labels, seed=1)[0])


def test_over_epochs_every_image_is_used_alike() -> None:
    labels = np.repeat(np.arange(6), 10)
    counts = np.zeros(60)
    for epoch in range(300):
        np.add.at(counts, batches(labels, identities=3, epoch=epoch).ravel(), 1)
    rates = counts / 300
    assert abs(rates.mean() - rates).max() < 0.15  # about 0.7 to 0.8 each


def test_spread_takes_different_cameras_first() -> None:
    labels = np.zeros(12, dtype=np.int64)
    cameras = np.array([0] * 8 + [1, 1, 2, 3])
    for epoch in range(20):
        spread = batches(labels, cameras, identities=1, spread_cameras=True, epoch=epoch)
        assert set(cameras[spread[0]]) == {0, 1, 2, 3}
    plain = [batches(labels, cameras, identities=1, epoch=epoch)[0] for epoch in range(20)]
    assert min(len(set(cameras[step])) for step in plain) < 4
    pairs = [batches(labels, cameras, identities=1, images=2, spread_cameras=True, epoch=e)[0] for e in range(40)]
    assert {int(cameras[first]) for first, _ in pairs} == {0, 1, 2, 3}


def test_identity_with_one_image_and_source_with_one_camera() -> None:
    steps = batches(np.arange(4), spread_cameras=True)
    assert sorted(steps[0]) == sorted(list(range(4)) * 4)


def test_fewer_identities_than_a_batch_takes() -> None:
    with pytest.raises(UserError, match=r"has 3 identities and a batch takes 4; --identities-per-batch 3"):
        batches(np.repeat(np.arange(3), 5))


def test_the_alike_share_a_batch_and_steps_are_as_many_as_without() -> None:
    labels = np.repeat(np.arange(6), [8, 8, 8, 8, 3, 12])
    alike = np.array([[1], [0], [3], [2], [5], [4]])  # pairs
    plain, graph = batches(labels, identities=2), batches(labels, identities=2, alike=alike)
    assert graph.shape == plain.shape
    people = labels[graph].reshape(len(graph), 2, 4)[:, :, 0]
    assert {tuple(sorted(pair)) for pair in people.tolist()} <= {(0, 1), (2, 3), (4, 5)}
    assert {first for first, _ in people.tolist()} == set(range(6))  # each identity has its turn
    np.testing.assert_array_equal(graph, batches(labels, identities=2, alike=alike))
    orders = {tuple(labels[batches(labels, identities=2, alike=alike, epoch=e)][:, 0]) for e in range(5)}
    assert len(orders) == 5


def test_the_alike_are_spread_over_cameras_in_every_round() -> None:
    labels, cameras = np.repeat(np.arange(4), 8), np.tile(np.repeat(np.arange(4), 2), 4)
    alike = np.array([[1], [0], [0], [0]])  # identity 0 is in every batch, and has two groups of images
    for epoch in range(10):
        graph = batches(labels, cameras, identities=2, alike=alike, spread_cameras=True, epoch=epoch)
        assert all(len(set(cameras[group])) == 4 for step in graph for group in step.reshape(2, 4))


def test_an_identity_shows_all_its_images_before_it_repeats_one() -> None:
    labels = np.repeat(np.arange(4), 8)
    alike = np.array([[1], [0], [0], [0]])  # identity 0 is in every batch
    grouped_anew = 0
    for epoch in range(5):
        graph = batches(labels, identities=2, alike=alike, epoch=epoch)
        shown = np.concatenate([step[labels[step] == 0] for step in graph])
        assert len(shown) == 4 * len(graph) > 8
        for start in range(0, len(shown) - 7, 8):
            assert len(set(shown[start : start + 8])) == 8
        grouped_anew += set(shown[8:12]) not in (set(shown[:4]), set(shown[4:8]))
    assert grouped_anew >= 3
