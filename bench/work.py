"""How many operations training takes: counted from the products of the network's forward and backward pass."""

from __future__ import annotations

import dataclasses

import torch
from torch.utils.flop_counter import FlopCounterMode

from pat.config import ModelConfig
from pat.model import PartAwareTransformer


def network_flops(config: ModelConfig, identities: int) -> int:
    """Of one image, forward and backward, a multiply-add counted as two.

    Attention counts with all pairs of tokens. Nothing is computed: the tensors have shapes and no values.
    """
    with torch.device("meta"):
        model = PartAwareTransformer(dataclasses.replace(config, attention="reference", identities=identities))
    images = torch.empty(2, 3, *config.image_size, device="meta")  # BNNeck takes no batch of one
    regions = torch.empty(2, config.parts, 4, dtype=torch.int32, device="meta")
    counter = FlopCounterMode(display=False)
    with counter:
        cls, parts = model.features(images, regions)
        logits = model.classify(cls)
        assert logits is not None
        (logits.sum() + parts.sum()).backward()
    return counter.get_total_flops() // 2


def bank_flops(parts: int, slots: int, batch: int, dim: int) -> int:
    """Of one step: the distances of the batch to every slot, and the average of slots that the gradient needs."""
    return 4 * parts * slots * batch * dim
