"""A memory bank with fewer slots than there are images: of some images, or of those seen last."""

from __future__ import annotations

import torch
from torch import Tensor

from pat.losses.checks import check_numbers
from pat.losses.memory_bank import MemoryBank


class SmallBank(MemoryBank):
    """Slots of the images `kept` int64 [M] out of `count`.

    As a `queue` it keeps the images seen last: one without a slot takes that of the image seen longest ago.

    Images without a slot ask like the others: what is nearest to them in the bank. It is not shared by ranks.
    """

    slot_of: Tensor
    image_of: Tensor
    fresh: Tensor
    last_seen: Tensor

    def __init__(
        self,
        parts: int,
        kept: Tensor,
        count: int,
        dim: int,
        *,
        momentum: float = 0.1,
        read_dtype: torch.dtype = torch.float32,
        queue: bool = False,
    ) -> None:
        """Raises ValueError for what cannot be a bank."""
        super().__init__(parts, len(kept), dim, momentum=momentum, read_dtype=read_dtype)
        check_numbers("kept", kept, len(kept), kept.device)
        if len(kept.unique()) < len(kept) or not 0 <= int(kept.min()) <= int(kept.max()) < count:
            raise ValueError(f"kept: {len(kept)} numbers, expected different ones from 0 to {count - 1}")
        self.queue = queue
        slots = torch.full((count,), -1)
        slots[kept] = torch.arange(len(kept))
        self.register_buffer("slot_of", slots)  # [count], -1: none
        self.register_buffer("image_of", kept.clone())  # [M]
        self.register_buffer("fresh", torch.zeros(len(kept), dtype=torch.bool), persistent=False)  # taken over now
        self.register_buffer("last_seen", torch.zeros(len(kept), dtype=torch.int64))  # [M], in updates

    @property
    def images(self) -> range:
        return range(len(self.slot_of))

    def own(self, indices: Tensor) -> Tensor:
        return self.slot_of.index_select(0, indices)  # which, unlike [], takes no negative number

    def of_slots(self, labels: Tensor) -> Tensor:
        return labels[self.image_of]

    @torch.no_grad()
    def update(self, indices: Tensor, features: Tensor) -> None:
        """As of the full bank, for images with a slot; in a queue the others first take slots."""
        if self.queue:
            self._take_in(indices.unique())
        super().update(*self._with_slots(indices, features))
        self.fresh.zero_()

    @torch.no_grad()
    def fill(self, indices: Tensor, features: Tensor) -> None:
        super().fill(*self._with_slots(indices, features))

    def _take_in(self, images: Tensor) -> None:
        now, slots = self.last_seen.amax() + 1, self.slot_of[images]
        self.last_seen[slots[slots >= 0]] = now
        images = images[slots < 0]
        taken = self.last_seen.argsort(stable=True)[: len(images)]
        self.slot_of[self.image_of[taken]] = -1
        self.slot_of[images], self.image_of[taken], self.fresh[taken] = taken, images, True
        self.last_seen[taken] = now

    def _with_slots(self, indices: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        slots = self.own(indices)
        return slots[slots >= 0], features[:, slots >= 0]

    def _share_of_new(self, slots: Tensor) -> Tensor:
        return torch.where(self.fresh[slots], 1.0, self.momentum)[:, None]


def images_of_quota(labels: Tensor, quota: int, generator: torch.Generator) -> Tensor:
    """`quota` random images of each identity, or all that it has: sorted, int64 [M] of labels int64 [N].

    Raises ValueError for a quota below 1.
    """
    if quota < 1:
        raise ValueError(f"quota: {quota}, expected at least 1")
    order = torch.randperm(len(labels), generator=generator)
    shuffled = labels[order]
    grouped = shuffled.argsort(stable=True)
    counts = shuffled.bincount()
    before = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    place = torch.arange(len(labels)) - before  # of each image among those of its identity
    return order[grouped[place < quota]].sort().values
