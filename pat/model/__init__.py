"""The part-aware transformer: tokens, regions, attention, heads, and its weights on disk."""

from pat.config import ModelConfig
from pat.model.transformer import PartAwareTransformer, ReidOutput

__all__ = ["ModelConfig", "PartAwareTransformer", "ReidOutput"]
