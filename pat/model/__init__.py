"""The part-aware transformer: tokens, regions, attention, heads, and its weights on disk."""

from pat import own_kernels

own_kernels.check()

from pat.config import ModelConfig  # noqa: E402
from pat.model.transformer import PartAwareTransformer, ReidOutput  # noqa: E402

__all__ = ["ModelConfig", "PartAwareTransformer", "ReidOutput"]
