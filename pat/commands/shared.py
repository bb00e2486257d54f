"""A command that torchrun started several times: the processes share its embedding, one speaks and writes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pat.base.progress import Progress
from pat.commands.embedders import OpenedModel, check_device, opened_model
from pat.config import EvaluateConfig
from pat.evaluation.kinds import every_kind
from pat.evaluation.scoring import EvaluationSet, Score, score_kinds

PATIENCE = 600.0
"""Seconds that a process waits for another before the command ends."""


@dataclass(frozen=True)
class SharedModel:
    """A model whose batches are split over `processes`; each process gets all vectors."""

    opened: OpenedModel
    processes: int = 1
    first: bool = True
    """Whether this process is the one that ranks, prints and writes."""
    agree: Callable[[Mapping[str, str]], None] = lambda facts: None
    """Wait for the others, however long they take to decode, and raise UserError where their facts differ."""

    def score(self, images: EvaluationSet, config: EvaluateConfig, progress: Progress) -> dict[str, Score]:
        """The scores of the kinds that `config` asks for; nothing in a process that only helps to embed.

        Raises UserError where the processes have different images.
        """
        self.agree({f"images of {images.name}": images.digest()})
        kinds = every_kind(parts=config.parts, flip=config.flip, debias=config.debias, rerank=config.rerank)
        return score_kinds(
            self.opened.embedder, images, kinds, progress, plain=self.opened.kind,
            batch_size=config.batch_size * self.processes, max_rank=config.max_rank, device=self.opened.device,
            embed_only=not self.first,
        )  # fmt: skip


@contextlib.contextmanager
def shared_model(path: Path, device: str, attention: str, progress: Progress) -> Iterator[SharedModel]:
    """The model at `path` for all processes of torchrun, or for this one alone; errors as in `opened_model`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        check_device(path, device)
        with opened_model(path, device, attention, progress) as opened:
            yield SharedModel(opened)
        return
    from pat.training.job import joined  # needs PyTorch, which a bundle in one process does not

    with joined(device, PATIENCE) as ranks:
        progress = progress if ranks.first else Progress()
        with opened_model(path, str(ranks.device), attention, progress) as opened:
            parts = None if opened.with_parts is None else ranks.sharing(opened.with_parts)
            opened = dataclasses.replace(opened, cls=ranks.sharing(opened.cls), with_parts=parts)
            yield SharedModel(
                opened, ranks.count, ranks.first, lambda facts: ranks.agree(lambda: facts, lambda: False)
            )
