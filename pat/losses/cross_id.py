"""Cross-ID similarity learning: pull a part feature towards its nearest look-alikes of any identity.

arXiv 2308.03322, equation 5, in the closed form of DESIGN section 2: the backward pass needs two averages of
the bank and no graph through B x M distances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from kernels.nearest_parts import NearestParts, nearest_parts
from pat.losses.memory_bank import MemoryBank


def cross_id_similarity(
    features: Tensor,
    bank: MemoryBank,
    indices: Tensor,
    *,
    k: int = 10,
    scale: float = 0.02,
    identities: Tensor | None = None,
    bank_identities: Tensor | None = None,
    impl: Literal["reference", "triton"] = "reference",
    merge: Callable[[NearestParts], NearestParts] | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss, float32 [], and the neighbours' slots, int64 [P, B, k], -1 where there is none.

    features [P, B, D] with gradient; indices int64 [B] are the images, whose own slots are no candidates.
    `scale` multiplies squared distances. With `identities` [B] and `bank_identities` [M], slots of an image's
    own identity are no candidates either. A query without candidates contributes 0. Where a feature, or a slot
    of the bank that a query may see, is not finite, neither is the loss.

    Where `bank` is a shard of several, `merge` turns what was found in it into what was found in all of them,
    with gradient; `bank_identities` are still those of all slots.
    """
    with torch.autocast(features.device.type, enabled=False):
        exact = features.dtype == torch.float64  # as gradcheck asks: then the bank counts in float64 too
        found = nearest_parts(
            features if exact else features.float(),
            bank.reading.double() if exact else bank.reading,
            bank.own(indices),
            k=k,
            scale=scale,
            squared_norms=None if exact else bank.squared_norms,
            master=None if exact else bank.master,
            query_identity=identities,
            bank_identity=None if bank_identities is None else bank_identities[bank.shard.start : bank.shard.stop],
            offset=bank.shard.start,
            impl=impl,
        )
        if merge is not None:
            found = merge(found)
        candidates = found.log_sum != -torch.inf  # [P, B]; NaN where a distance is no number
        # Rows without candidates would give inf - inf; their distances carry no gradient either.
        nearest = torch.where(candidates[..., None], found.distances, 0.0)
        log_all = torch.where(candidates, found.log_sum, 0.0)
        log_nearest = torch.logsumexp(-scale * nearest, dim=-1)
        alone = 0.0 * features.float().sum(-1)  # 0, or NaN for a query at infinite distance from everything
        loss = torch.where(candidates, log_all - log_nearest, alone.to(log_all.dtype)).mean()
    return loss, found.indices
