"""Tensors into a model, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pat.base.errors import UserError
from pat.model.foreign.checkpoint import listed


def assign(model: nn.Module, tensors: Mapping[str, Tensor], where: str, advice: str = "") -> None:
    """Copy tensors into the model; every name and shape must agree.

    Raises UserError naming those that do not, or that hold NaN; `advice` says what would fit.
    """
    own = model.state_dict()
    # Older checkpoints do not count batches; the count has no effect at a fixed BatchNorm momentum.
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in own]
    misshaped = [
        f"{name} {list(tensors[name].shape)}, expected {list(own[name].shape)}"
        for name in own
        if name in tensors and own[name].shape != tensors[name].shape
    ]
    whole = [  # weights that were quantised, without their scales
        f"{name} {str(tensors[name].dtype).removeprefix('torch.')}"
        for name in own
        if name in tensors and own[name].is_floating_point() and not tensors[name].is_floating_point()
    ]
    kinds = (
        ("missing", missing), ("unexpected", unexpected), ("other shape", misshaped), ("whole numbers", whole),
    )  # fmt: skip
    problems = [f"{kind}: {listed(names, 5)}" for kind, names in kinds if names]
    if problems:
        raise UserError(f"{where} does not fit the model; {'; '.join([advice] * bool(advice) + problems)}")
    not_finite = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if not_finite:
        raise UserError(f"{where} holds NaN or infinite numbers in {listed(not_finite, 5)}")
    model.load_state_dict(dict(tensors), strict=False)
