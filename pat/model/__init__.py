"""The part-aware transformer: tokens, regions, attention, heads, and its weights on disk."""

from pat import own_kernels as own_kernels  # first: it looks whose `kernels` it is
from pat.config import ModelConfig
from pat.model.transformer import PartAwareTransformer, ReidOutput

__all__ = ["ModelConfig", "PartAwareTransformer", "ReidOutput"]
