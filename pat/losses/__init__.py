"""The losses of the paper: identity with soft targets (PSD), triplet, and cross-ID similarity (CSL)."""

from pat.losses.cross_id import cross_id_similarity
from pat.losses.identity import identity_loss, soft_targets
from pat.losses.memory_bank import MemoryBank
from pat.losses.triplet import batch_hard_triplet

__all__ = ["MemoryBank", "batch_hard_triplet", "cross_id_similarity", "identity_loss", "soft_targets"]
