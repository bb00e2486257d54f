"""What the losses and the bank refuse, by name and in one line, rather than to train on nonsense."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pat.losses import (
    MemoryBank,
    batch_hard_triplet,
    cross_id_similarity,
    distillation,
    identity_loss,
    soft_targets,
    supervised_contrastive,
)
from pat.losses.alignment_uniformity import alignment
from pat.losses.camera_adversary import CameraAdversary
from pat.losses.small_bank import SmallBank, images_of_quota

NAN = float("nan")
LABELS = torch.tensor([0, 0, 1])
FEATURES, COLUMN = torch.randn(3, 4), LABELS[:, None]
SLOTS = torch.zeros(1, 3, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: MemoryBank(2, 5, 4, momentum=NAN), "momentum: nan, expected a share from 0 to 1"),
        (lambda: MemoryBank(2, 5, 4, momentum=-0.1), "momentum: -0.1, expected a share"),
        (lambda: MemoryBank(2, 5, 4, momentum=1.5), "momentum: 1.5, expected a share"),
        (lambda: MemoryBank(2, -5, 4), "size: -5, expected at least 1"),
        (lambda: MemoryBank(0, 5, 4), "parts: 0, expected at least 1"),
        (lambda: MemoryBank(2, 5, 4, read_dtype=torch.int8), "read_dtype: torch.int8, expected one of"),
        (lambda: MemoryBank(2, 5, 4, shard=range(3, 9)), r"shard: range\(3, 9\), expected adjoining slots of the"),
        (lambda: MemoryBank(2, 5, 4, shard=range(0, 5, 2)), "expected adjoining slots"),
        (lambda: MemoryBank(1, 5, 4).update(LABELS.int(), FEATURES[None]), r"indices: torch.int32 \(3,\) on cpu"),
        (lambda: MemoryBank(1, 5, 4).update(COLUMN, FEATURES[None]), r"indices: torch.int64 \(3, 1\)"),
        (lambda: MemoryBank(1, 5, 4).fill(LABELS.to("meta"), FEATURES[None]), "on meta, expected .* on cpu"),
        (lambda: MemoryBank(1, 5, 4).fill(LABELS, FEATURES[None].int()), "features: torch.int32, expected"),
        (lambda: SmallBank(1, torch.tensor([2, 2]), 5, 4), "kept: 2 numbers, expected different ones from 0 to 4"),
        (lambda: SmallBank(1, torch.tensor([-1, 2]), 5, 4), "expected different ones from 0 to 4"),
        (lambda: SmallBank(1, torch.tensor([1, 5]), 5, 4), "expected different ones from 0 to 4"),
        (lambda: SmallBank(1, torch.tensor([1, 2]), 5, 4, momentum=2.0), "momentum: 2.0"),
        (lambda: images_of_quota(LABELS, 0, torch.Generator()), "quota: 0, expected at least 1"),
        (lambda: cross_id_similarity(FEATURES[None], MemoryBank(1, 5, 4), LABELS, k=-1), "k: -1, expected"),
        (lambda: cross_id_similarity(FEATURES[None], MemoryBank(1, 5, 4), LABELS, k=2.5), "k: 2.5, expected"),
        (lambda: cross_id_similarity(FEATURES[None], MemoryBank(1, 5, 4), LABELS, scale=NAN), "scale: nan"),
        (lambda: supervised_contrastive(FEATURES, LABELS, 0.0), "temperature: 0.0, expected a positive"),
        (lambda: supervised_contrastive(FEATURES, COLUMN), r"labels: torch.int64 \(3, 1\) on cpu, expected"),
        (lambda: batch_hard_triplet(FEATURES, LABELS.float()), "labels: torch.float32"),
        (lambda: batch_hard_triplet(FEATURES[None], LABELS), r"features: .* \(1, 3, 4\), expected .* \[B, D\]"),
        (lambda: distillation(FEATURES, LABELS, torch.ones(5, 3)), r"taught: shape \(5, 3\), expected \[M, 4\]"),
        (lambda: distillation(FEATURES, LABELS, torch.ones(5, 4), NAN), "temperature: nan"),
        (lambda: soft_targets(SLOTS, LABELS, LABELS, 2, mix=1.1), "mix: 1.1, expected a share"),
        (lambda: soft_targets(SLOTS[0], LABELS, LABELS, 2, mix=0.5), r"neighbours: shape \(3, 2\)"),
        (lambda: identity_loss(FEATURES, LABELS, share=-0.5), "share: -0.5, expected a share"),
        (lambda: identity_loss(FEATURES, LABELS, smoothing=2), "smoothing: 2, expected a share"),
        (lambda: identity_loss(FEATURES, LABELS, torch.ones(3, 1)), r"targets: shape \(3, 1\)"),
        (lambda: CameraAdversary(4, 2)(FEATURES, COLUMN), "cameras: torch.int64"),
        (lambda: alignment(FEATURES, FEATURES[:1], LABELS), r"changed: shape \(1, 4\)"),
    ],
)
def test_nonsense_is_named_in_one_line(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_a_small_bank_takes_no_negative_image() -> None:
    with pytest.raises(IndexError):
        SmallBank(1, torch.tensor([1, 3]), 4, 1).own(torch.tensor([-1, 0]))
