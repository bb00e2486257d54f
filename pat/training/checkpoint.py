"""The state of a run between two steps: everything that the next step depends on."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pat.base.errors import UserError
from pat.base.files import written_whole

FORMAT = "pat-reid-run/1"


@dataclass
class Position:
    """How far a run has come: `step` steps of `epoch` (counted from 1) are done."""

    epoch: int = 1
    step: int = 0
    global_step: int = 0
    seconds: float = 0.0
    """Spent on training steps; what a run of so many minutes counts."""
    csl_scale: float = 0.0
    """s of CSL where it is measured, since the bank was filled last."""
    alike: list[list[int]] | None = None
    """With graph sampling, the identities most like each one, as the epoch began."""
    best_score: float = -1.0
    best_epoch: int = 0


def save_checkpoint(
    path: Path, position: Position, samples: str, parts: dict[str, Any], *, write: bool = True
) -> None:
    """Write the run's state whole or not at all; `parts` maps names to objects with `state_dict()`.

    Every rank calls it, for the bank is gathered from all, and the one with `write` writes.
    `samples` is the digest of the training images, because a slot of the memory bank is an image's index.
    Raises Failure when the disk is full; the previous checkpoint stays.
    """
    state = {
        "format": FORMAT,
        "position": vars(position),
        "samples": samples,
        **{name: part.state_dict() for name, part in parts.items() if part is not None},
    }
    if not write:
        return
    # Through a file of Python's, which says why a write failed: torch's own says "inline_container.cc:671".
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch closes its archive after the failed write, and fails again
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_checkpoint(path: Path, samples: str, parts: dict[str, Any]) -> Position:
    """Put the state at `path` into `parts` and return the position. Raises UserError when it does not fit.

    The file is mapped, not read: of a large bank a rank reads the slots that it holds.
    """
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"the checkpoint {path} is damaged ({str(error).splitlines()[0][:120]})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is no checkpoint of a training run (expected format {FORMAT})")
    if state["samples"] != samples:
        raise UserError(f"the training images are not those that {path} was made with; the run cannot go on")
    for name, part in parts.items():
        if part is None:
            continue
        if name not in state:
            raise UserError(f"the checkpoint {path} has no {name}; it was made with other settings")
        try:
            # An optimiser would keep tensors of the file itself; a module copies them.
            part.load_state_dict(copy.deepcopy(state[name]) if name == "optimiser" else state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"{name} in the checkpoint {path} does not fit: {str(error).splitlines()[0]}"
            ) from error
    return Position(**state["position"])
