"""A command that torchrun started several times: the processes share its embedding, one speaks and writes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pat.base.progress import Progress
from pat.commands.embedders import OpenedModel, opened_model

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


@contextlib.contextmanager
def shared_model(path: Path, device: str, attention: str, progress: Progress) -> Iterator[SharedModel]:
    """The model at `path` for all processes of torchrun, or for this one alone; errors as in `opened_model`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
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
