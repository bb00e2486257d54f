"""Identity with soft targets (PSD), triplet and cross-ID similarity (CSL), which are the paper's; contrastive."""

from pat import own_kernels

own_kernels.check()

from pat.losses.contrastive import supervised_contrastive  # noqa: E402
from pat.losses.cross_id import cross_id_similarity  # noqa: E402
from pat.losses.identity import identity_loss, soft_targets  # noqa: E402
from pat.losses.memory_bank import MemoryBank  # noqa: E402
from pat.losses.triplet import batch_hard_triplet  # noqa: E402

__all__ = [
    "MemoryBank",
    "batch_hard_triplet",
    "cross_id_similarity",
    "identity_loss",
    "soft_targets",
    "supervised_contrastive",
]
