"""The two steps of `pat.evaluation.ranking` that touch every score, with torch, for a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pat.evaluation.arrays import Floats, Indices, squared_norms


def score_slabs(query: Floats, gallery: Floats, size: int, device: str) -> Iterator[tuple[int, torch.Tensor]]:
    """`size` queries at a time: the first one's index, and scores |g|^2 - 2 q.g [size, G] on the device."""
    on_device = torch.tensor(gallery, device=device)
    norms = torch.tensor(squared_norms(gallery), device=device)
    for begin in range(0, len(query), size):
        part = torch.tensor(query[begin : begin + size], device=device)
        with _full_precision():
            scores = torch.addmm(norms, part, on_device.T, alpha=-2)
        yield begin, scores


def match_ranks(scores: torch.Tensor, rows: Indices, columns: Indices, is_match: NDArray[np.bool_]) -> Indices:
    """Ranks, from 1, of the matches among the pairs; the other pairs are moved behind everything.

    One sort of (score, column) packed in 64 bits, where no two are equal. Overwrites `scores`.
    """
    device = scores.device
    scores[torch.tensor(rows[~is_match]).to(device), torch.tensor(columns[~is_match]).to(device)] = torch.inf
    bits = scores.view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the floats
    keys = (ordered.long() << 32) | torch.arange(scores.shape[1], device=device)  # [B, G]

    counts = np.bincount(rows[is_match], minlength=len(scores))
    slots = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column, slot = (torch.tensor(a).to(device) for a in (rows[is_match], columns[is_match], slots))
    wanted = torch.zeros(len(scores), int(counts.max(initial=0)), dtype=torch.long, device=device)
    wanted[row, slot] = keys[row, column]  # [B, most matches of a query]
    ranks: Indices = (torch.searchsorted(keys.sort(dim=1).values, wanted)[row, slot] + 1).cpu().numpy()
    return ranks


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 products as a CPU makes them, whatever the caller has chosen for training."""
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)
