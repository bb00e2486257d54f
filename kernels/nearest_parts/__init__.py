"""Similarity to a memory bank: logsumexp over all slots and the k nearest, with gradient to the query."""

from kernels.nearest_parts.api import NearestParts, merge_nearest, nearest_parts

__all__ = ["NearestParts", "merge_nearest", "nearest_parts"]
