"""A model made from nothing in stages: each leaves a result that the next call finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.deadline import UNFINISHED, Deadline
from bench.train import Lines
from pat.base.errors import Failure, UserError
from pat.base.progress import Progress
from pat.training.run_folder import claimed


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    out: Path
    training: float
    """Minutes that the network learns."""
    minutes: float | None = None
    """Minutes after which this call leaves."""
    threads: int = 0
    """Of PyTorch; 0 leaves its own choice."""
    small: bool = False
    """Little data and seconds of training: to try the way, not to keep."""

    def check(self) -> None:
        """Raise UserError for numbers that cannot be."""
        if not 0 < self.training < math.inf:
            raise UserError(f"--training {self.training}: expected minutes, more than 0")
        if self.threads < 0:
            raise UserError(f"--threads {self.threads}: expected 0, PyTorch's own choice, or more")


def all_done(stages: Sequence[Callable[[], object]], deadline: Deadline) -> bool:
    """Run one stage after the other; False when time was up before the last had begun."""
    for stage in stages:
        if deadline.passed():
            return False
        stage()
    return True


def run(command: str, make: Callable[[Options, Deadline, Progress], bool], options: Options) -> int:
    """Returns the exit status: 0 when `make` has finished, UNFINISHED when time was up, 2, 1 and 130 as `pat`."""
    try:
        options.check()
        return _run(make, options, Deadline(options.minutes))
    except (UserError, Failure) as error:
        print(f"bench {command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1


def _run(make: Callable[[Options, Deadline, Progress], bool], options: Options, deadline: Deadline) -> int:
    try:
        with claimed(options.out):
            if make(options, deadline, Lines()):
                return 0
        print("time is up; the same command goes on", file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt as error:  # a training that `deadline` stopped says so itself
        print(str(error) or "interrupted; the same command goes on", file=sys.stderr)
        return UNFINISHED if str(error) and deadline.passed() else 130
