"""A moving average of every training image's part features (arXiv 2308.03322, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pat.losses.checks import check_numbers, check_share

READ_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class MemoryBank(nn.Module):
    """`features` float32 [P, M, D], one slot for each training image and part; slot = sample index.

    `squared_norms` float32 [P, M] are kept beside them. With `read_dtype=torch.bfloat16` a rounded copy is kept
    for reading, which halves the bytes of a pass; the average itself stays in float32, where a bfloat16 average
    would stall once an update is smaller than its rounding. Neighbours are exact all the same: of twice as many
    or more that the copy finds, the nearest by `master` are taken.

    With `shard` this is one of several banks that have the `size` slots between them: it holds the slots of
    that range alone, M = len(shard). Slot numbers count over all shards everywhere; updates of slots that
    another shard holds are left to it.
    """

    features: Tensor
    squared_norms: Tensor
    readable: Tensor

    def __init__(
        self,
        parts: int,
        size: int,
        dim: int,
        *,
        momentum: float = 0.1,
        read_dtype: torch.dtype = torch.float32,
        shard: range | None = None,
    ) -> None:
        """Raises ValueError for what cannot be a bank."""
        super().__init__()
        for name, number in (("parts", parts), ("size", size), ("dim", dim)):
            if number < 1:
                raise ValueError(f"{name}: {number}, expected at least 1")
        check_share("momentum", momentum)
        if read_dtype not in READ_DTYPES:
            raise ValueError(f"read_dtype: {read_dtype}, expected one of {', '.join(map(str, READ_DTYPES))}")
        if shard is not None and not (0 <= shard.start < shard.stop <= size and shard.step == 1):
            raise ValueError(f"shard: {shard}, expected adjoining slots of the {size}")
        self.momentum = momentum
        self.size, self.shard = size, range(size) if shard is None else shard
        held = len(self.shard)
        self.register_buffer("features", torch.zeros(parts, held, dim))
        self.register_buffer("squared_norms", torch.zeros(parts, held), persistent=False)
        copy = torch.zeros(parts, held, dim, dtype=read_dtype) if read_dtype != torch.float32 else None
        self.register_buffer("readable", copy, persistent=False)

    @property
    def reading(self) -> Tensor:
        """The features as the loss reads them, [P, M, D]: the rounded copy where there is one."""
        return self.features if self.readable is None else self.readable

    @property
    def master(self) -> Tensor | None:
        """The features of which `reading` is a rounded copy, to rank neighbours exactly; None where it is none."""
        return None if self.readable is None else self.features

    @property
    def images(self) -> range:
        """The images whose features may be among the slots that are here."""
        return self.shard

    def own(self, indices: Tensor) -> Tensor:
        """The slots of images `indices` int64 [B], -1 for one without; here the same numbers."""
        return indices

    def of_slots(self, labels: Tensor) -> Tensor:
        """The labels of the slots from those of all images, int64."""
        return labels

    @torch.no_grad()
    def update(self, indices: Tensor, features: Tensor) -> None:
        """Move the slots `indices` int64 [B] towards `features` [P, B, D]: m <- (1 - momentum) m + momentum f.

        An image that occurs several times in a batch moves once, towards the mean of its features, whatever
        their order. Slot numbers out of range raise an IndexError (on a GPU, a device assertion), unless the
        bank is a shard; features of another shape and numbers of another type a ValueError.
        """
        self._check(indices, features)
        if not len(indices):  # no image of a batch has a slot in a small bank
            return
        same = indices[:, None] == indices[None, :]  # [B, B]
        weights = same.to(self.features.dtype) / same.sum(1, keepdim=True)
        mean = weights @ features.detach().to(self.features.dtype)  # [P, B, D]
        positions = torch.arange(len(indices), device=indices.device)
        first = torch.where(same, positions, len(indices)).amin(1)  # so that repeated images write one value
        slots, values = self._held(indices, mean[:, first])
        self._write(slots, torch.lerp(self.features[:, slots], values, self._share_of_new(slots)))

    @torch.no_grad()
    def fill(self, indices: Tensor, features: Tensor) -> None:
        """Set the slots `indices` int64 [B] to `features` [P, B, D], as at the start. Raises as `update`."""
        self._check(indices, features)
        self._write(*self._held(indices, features.detach().to(self.features.dtype)))

    def _check(self, indices: Tensor, features: Tensor) -> None:
        expected = (self.features.shape[0], len(indices), self.features.shape[2])
        if features.shape != expected:
            raise ValueError(f"features: shape {tuple(features.shape)}, expected {expected}")
        if not features.is_floating_point():
            raise ValueError(f"features: {features.dtype}, expected floating point")
        check_numbers("indices", indices, len(indices), self.features.device)

    def _share_of_new(self, slots: Tensor) -> float | Tensor:
        """What weighs the new feature in each slot's average."""
        return self.momentum

    def _held(self, indices: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the slots that are here, counted from the first of this shard, and their `values` [P, b, D]."""
        if len(self.shard) == self.size:
            return indices, values
        here = (indices >= self.shard.start) & (indices < self.shard.stop)  # a GPU waits here for their number
        return indices[here] - self.shard.start, values[:, here]

    @torch.no_grad()
    def _write(self, indices: Tensor, values: Tensor) -> None:
        self.features.index_copy_(1, indices, values)  # which, unlike an assignment, takes no negative number
        norms = values.square().sum(-1)
        if self.readable is not None:
            rounded = values.to(self.readable.dtype)
            self.readable[:, indices] = rounded
            norms = rounded.float().square().sum(-1)  # distances are to what is read
        self.squared_norms[:, indices] = norms

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[no-untyped-call]
        if self.readable is not None:
            self.readable.copy_(self.features)
        for part, norms in zip(self.reading, self.squared_norms, strict=True):
            norms.copy_(part.float().square().sum(-1))
