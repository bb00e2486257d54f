"""The folder of one training run: who writes it, what it was started with, and its log."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import filelock

from pat.base.errors import Failure, UserError
from pat.base.files import write_json, write_text
from pat.base.mapping import flat, from_mapping, read_mapping, to_mapping
from pat.config import Role, TrainConfig, settings_of

CONFIG = "config.json"
CHECKPOINT = "checkpoint.pt"
MODEL = "model.safetensors"
LOG = "log.jsonl"
LOCK = ".lock"

MAY_CHANGE = frozenset().union(*map(settings_of, Role))
"""Settings that a resumed run may change; any other would make it a different run."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder against other runs; where nothing was written into it, no trace of it stays.

    Raises UserError when another run is already writing there.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = set(os.listdir(folder))
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"another run is writing to {folder}; choose another folder with --out") from error
    except OSError as error:
        raise UserError(f"cannot write to the run folder {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that holds more stays
            if set(os.listdir(folder)) - before == {LOCK}:
                (folder / LOCK).unlink()
                for place in made:
                    place.rmdir()
        lock.release()


def saved_config(folder: Path) -> TrainConfig:
    """The settings that the run in `folder` was started with. Raises UserError when there is no run."""
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            f"there is no run to resume in {folder} ({CONFIG} is missing); leave out --resume to start one"
        )
    return from_mapping(TrainConfig, read_mapping(path), str(path))


def prepare(folder: Path, config: TrainConfig) -> None:
    """Check the folder against the run that is to start or go on in it. Nothing is written yet."""
    if config.resume:
        changed = differences(to_mapping(saved_config(folder)), to_mapping(config), MAY_CHANGE)
        if changed:
            listed = ", ".join(changed[:4])
            raise UserError(f"cannot resume {folder} with other settings ({listed}); start a new run with --out")
        if not (folder / CHECKPOINT).is_file():
            raise UserError(
                f"{folder} holds no {CHECKPOINT} to resume; the run stopped before its first checkpoint"
            )
    elif (folder / CHECKPOINT).exists() or (folder / MODEL).exists():
        raise UserError(
            f"{folder} holds a run already; continue it with `pat train --out {folder} --resume`, or choose "
            "another --out"
        )
    for leftover in folder.glob(".*.part"):  # of a run that was killed while it saved; the folder is ours alone
        leftover.unlink(missing_ok=True)


def write_config(folder: Path, config: TrainConfig) -> None:
    """Write down what the run is started with."""
    write_json(folder / CONFIG, {**to_mapping(config), "resume": False})


class Log:
    """Forgets the numbers of the run: for ranks that do not write."""

    def write(self, event: str, global_step: int, **numbers: float) -> None:
        """Append one line; `event` is "step", "epoch" or "heldout"."""

    def flush(self) -> None:
        """Hand all lines over to the system."""

    def close(self) -> None:
        """Write nothing more."""


class FileLog(Log):
    """Keeps them as JSON lines, one a step and one an epoch, and as TensorBoard events."""

    def __init__(self, folder: Path, tensorboard: bool, after: int) -> None:
        """Open the log for appending; lines past global step `after` belong to work that is done again."""
        path = folder / LOG
        kept = [line for line in _lines(path) if line.get("global_step", 0) <= after] if path.exists() else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._board: Any = None
        if tensorboard:
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def write(self, event: str, global_step: int, **numbers: float) -> None:
        with self._in_one_line():
            self._file.write(json.dumps({"event": event, "global_step": global_step, **numbers}) + "\n")
        if self._board is not None:
            for name, number in numbers.items():
                if name not in ("epoch", "step"):
                    self._board.add_scalar(f"{event}/{name}", number, global_step)

    def flush(self) -> None:
        with self._in_one_line():
            self._file.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        with self._in_one_line():
            self._file.close()
        if self._board is not None:
            self._board.close()

    @contextlib.contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Failure(
                f"cannot write {self._file.name}: {error.strerror}; --resume goes on from the last checkpoint"
            ) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; a line cut short by a kill is dropped."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def differences(before: dict[str, Any], now: dict[str, Any], leaving_out: Set[str]) -> list[str]:
    """Nested settings that are not the same, as `name before -> now`."""
    old, new = flat(before), flat(now)
    names = [name for name in {**old, **new} if name not in leaving_out and old.get(name) != new.get(name)]
    return [f"{name} {old.get(name)} -> {new.get(name)}" for name in names]
