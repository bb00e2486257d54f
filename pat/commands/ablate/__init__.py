"""`pat ablate`: the questions that the method leaves open, each answered by one command with table and figure."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence

from pat.base.progress import TerminalProgress
from pat.commands.ablate.arguments import read_arguments

OF_MODELS = ("labels", "shifts")
"""Studies of models that are trained already; the others train."""


def main(arguments: Sequence[str]) -> None:
    """Run the study that the first word names."""
    if arguments and arguments[0] in OF_MODELS:
        importlib.import_module(f"pat.commands.ablate.{arguments[0]}").main(arguments[1:])
        return
    given = read_arguments(arguments)
    from pat.commands.ablate.trainings import run  # here: the help does without PyTorch

    run(given, shlex.join(["pat", "ablate", *arguments]), TerminalProgress())
