"""The paper's: identity with soft targets (PSD), triplet, cross-ID similarity (CSL). Contrastive; distillation."""

from pat import own_kernels as own_kernels  # first: it looks whose `kernels` it is
from pat.losses.contrastive import supervised_contrastive
from pat.losses.cross_id import cross_id_similarity
from pat.losses.distillation import distillation
from pat.losses.identity import identity_loss, soft_targets
from pat.losses.memory_bank import MemoryBank
from pat.losses.triplet import batch_hard_triplet

__all__ = [
    "MemoryBank",
    "batch_hard_triplet",
    "cross_id_similarity",
    "distillation",
    "identity_loss",
    "soft_targets",
    "supervised_contrastive",
]
