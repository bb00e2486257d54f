"""A model made from nothing in stages: each leaves a result that the next call finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.commands import exit_status, option
from bench.deadline import UNFINISHED, Deadline
from bench.train import Lines
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.training.run_folder import claimed


@dataclass(frozen=True)
class Options:
    out: Path
    training: float
    """Minutes that the network learns; these two have a default of each command's own."""
    minutes: float | None = option(None, "leave in time; the same command goes on (exit status 75)")
    threads: int = option(0, "of PyTorch; default: its own choice")
    small: bool = option(False, "little data and seconds: to try the way")

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


Make = Callable[[Options, Deadline, Progress], bool]


def run(make: Make, options: Options) -> int:
    """Returns the exit status: 0 when `make` has finished, UNFINISHED when time was up, 2, 1 and 130 as `pat`."""

    def all_stages() -> int:
        options.check()
        return _run(make, options, Deadline(options.minutes))

    return exit_status(all_stages)


def _run(make: Make, options: Options, deadline: Deadline) -> int:
    try:
        with claimed(options.out):
            if make(options, deadline, Lines()):
                return 0
        print("time is up; the same command goes on", file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt as error:  # a training that `deadline` stopped says so itself
        print(str(error) or "interrupted; the same command goes on", file=sys.stderr)
        return UNFINISHED if str(error) and deadline.passed() else 130
