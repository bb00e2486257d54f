"""Part-masked attention: self-attention in which a part token sees only its own region of the image."""

from kernels.part_attention.api import part_attention
from kernels.part_attention.reference import visibility

__all__ = ["part_attention", "visibility"]
