"""Several processes that train one model: what each has of a batch and of the memory bank, and what they exchange.

Every rank computes the losses of the whole global batch: it puts its own rows through the network, and the
features of all rows meet in `gather`. So BNNeck, triplet, PSD and CSL see what a single process would.

Gradients follow from one rule. Each rank differentiates its loss divided by the number of ranks, all these losses
are the same number, and so their sum is the loss. The derivative of the sum with respect to anything that a rank
sent in a `gather` is the sum, over ranks, of the derivatives with respect to what they received: the backward of
`gather` adds. It holds for features, and for what each rank finds in its shard of the bank, where the rank that
holds a slot is the only one that knows its pull on every row. A parameter has a copy on each rank: its gradient is
the sum over ranks too (`sum_gradients`). No network sees gradients scaled otherwise than in a single process, so
float16 loss scaling takes the same course.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from kernels.nearest_parts import NearestParts, merge_nearest
from pat.evaluation.extract import Embed, Pixels
from pat.evaluation.ranking import Floats
from pat.losses import MemoryBank

BUCKET = 64 << 20
"""Bytes of gradients that are added in one message: few messages, and little memory beside the gradients."""

PIECE = 64 << 20
"""Bytes of a memory bank that travel to the writer at a time."""


class RankLost(Exception):
    """An exchange failed: another rank has gone, or did not answer in time."""


class Stateful(Protocol):
    """What a checkpoint can keep."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Ranks:
    """The processes of a run. This class is the run of one process, which has everything to itself."""

    rank, count = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks to the user."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """This rank's rows of a global batch, whose size the ranks divide."""
        share = batch // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def shard(self, slots: int, rank: int | None = None) -> range:
        """The slots of a memory bank of `slots` that `rank` (default: this one) holds: equal shares, in order."""
        rank = self.rank if rank is None else rank
        return range(slots * rank // self.count, slots * (rank + 1) // self.count)

    def gather(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Each tensor [b, ...] of this rank's rows as that of the global batch [B, ...], with gradient."""
        return features

    def merge(self, found: NearestParts) -> NearestParts:
        """What all ranks found in their shards of the bank, from what this one did; with gradient."""
        return found

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, the same bits on each."""
        return tensor

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of all ranks."""

    def agree(self, facts: Callable[[], Mapping[str, str]], stop: Callable[[], bool]) -> None:
        """Wait until every rank is here, however long it prepared, and check that all have the same facts.

        Raises UserError naming the first rank and fact that differ, RankLost when a rank ended meanwhile, and
        KeyboardInterrupt when `stop` asks to leave off.
        """

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any rank."""
        return flag

    def whole(self, bank: MemoryBank) -> Stateful:
        """The bank with the slots of all ranks, to be saved and restored whatever the number of ranks."""
        return bank

    def sharing(self, embedder: Embed) -> Embed:
        """An embedder whose batches are shared by all ranks; each gets all vectors."""
        return embedder


class Group(Ranks):
    """One of several processes that a process group connects."""

    def __init__(self, device: torch.device, rank: int, count: int) -> None:
        super().__init__(device)
        self.rank, self.count = rank, count

    def gather(self, *features: Tensor) -> tuple[Tensor, ...]:
        mine = torch.cat([feature.flatten(1) for feature in features], dim=1)  # one message for all
        everyones = stacked(mine, self.count).flatten(0, 1)  # [B, sum of widths]
        parts = everyones.split([feature[0].numel() for feature in features], dim=1)
        return tuple(part.unflatten(1, feature.shape[1:]) for part, feature in zip(parts, features, strict=True))

    def merge(self, found: NearestParts) -> NearestParts:
        numbers = torch.cat([found.log_sum[..., None], found.distances], dim=-1)  # [P, B, 1 + k]
        shards = zip(stacked(numbers, self.count), stacked(found.indices, self.count), strict=True)
        return merge_nearest([NearestParts(each[..., 0], each[..., 1:], slots) for each, slots in shards])

    def sum(self, tensor: Tensor) -> Tensor:
        return stacked(tensor, self.count).sum(0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            with exchange():
                dist.all_reduce(flat)
            for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def any(self, flag: bool) -> bool:
        # Through the hosts: no device is waited for, and a rank that is gone is noticed though its GPU would hang.
        raised = torch.tensor(int(flag))
        with exchange():
            dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)

    def whole(self, bank: MemoryBank) -> Stateful:
        return _WholeBank(bank, self)

    def sharing(self, embedder: Embed) -> Embed:
        def shared(pixels: Pixels) -> Floats:
            share = -(-len(pixels) // self.count)
            mine = np.arange(self.rank * share, (self.rank + 1) * share) % len(pixels)  # some twice: equal shares
            vectors = torch.from_numpy(embedder(pixels[mine]))
            everyones: Floats = stacked(vectors, self.count).flatten(0, 1)[: len(pixels)].numpy()
            return everyones

        return shared


def stacked(tensor: Tensor, count: int) -> Tensor:
    """The tensors of all ranks, [count, ...], in the order of the ranks, with gradient."""
    gathered: Tensor = _Gather.apply(tensor, count)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather, and its adjoint: each rank's part of the gradients that all ranks computed, added."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, count: int) -> Tensor:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(count)]
        with exchange():
            dist.all_gather(parts, tensor)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # All-reduce and a slice, for want of a reduce-scatter that every version of torch has; it is small.
        summed = gradients[0].clone(memory_format=torch.contiguous_format)
        with exchange():
            dist.all_reduce(summed)
        return summed[dist.get_rank()], None


class _WholeBank:
    """Gathers a sharded bank on the first rank, and cuts this rank's shard out of a whole one."""

    def __init__(self, bank: MemoryBank, ranks: Ranks) -> None:
        self.bank, self.ranks = bank, ranks

    def state_dict(self) -> dict[str, Any]:
        """The features of all slots on the first rank, on the host; nothing on the others, which send theirs."""
        parts, _, dim = self.bank.features.shape
        if not self.ranks.first:
            for piece in _pieces(self.bank.features, self.bank.shard, self.bank.shard.start):
                with exchange():
                    dist.send(piece.cpu(), 0)
            return {}
        whole = torch.empty(parts, self.bank.size, dim)
        whole[:, : len(self.bank.shard)] = self.bank.features.cpu()
        for rank in range(1, self.ranks.count):
            for piece in _pieces(whole, self.ranks.shard(self.bank.size, rank), 0):
                with exchange():
                    dist.recv(piece, rank)
        return {"features": whole}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shard = self.bank.shard
        self.bank.load_state_dict({"features": state["features"][:, shard.start : shard.stop]})


def _pieces(features: Tensor, shard: range, first: int) -> Iterator[Tensor]:
    """Views [n, D] of the slots `shard` of `features` [P, M, D], whose first slot is number `first`."""
    rows = max(1, PIECE // (features.shape[-1] * features.element_size()))
    for part in features:
        for start in range(shard.start, shard.stop, rows):
            yield part[start - first : min(start + rows, shard.stop) - first]


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in groups of about BUCKET bytes."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.nbytes > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


@contextlib.contextmanager
def exchange() -> Iterator[None]:
    """Name what goes wrong between ranks by one exception. Raises RankLost."""
    try:
        yield
    except RuntimeError as error:  # gloo raises it plain, NCCL and the store raise classes derived from it
        raise RankLost(str(error).splitlines()[0]) from error
