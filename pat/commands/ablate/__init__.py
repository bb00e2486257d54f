"""`pat ablate`: the questions that the method leaves open, each answered by one command with table and figure."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Sequence

from pat.base.progress import TerminalProgress
from pat.commands.ablate.arguments import LabelsArguments, ShiftsArguments, read_arguments
from pat.commands.arguments import parse

OF_MODELS = {"labels": LabelsArguments, "shifts": ShiftsArguments}
"""Studies of models that are trained already, with what they can be told; the others train."""


def main(arguments: Sequence[str]) -> None:
    """Run the study that the first word names."""
    name = arguments[0] if arguments else ""
    if name in OF_MODELS:
        module, given = name, parse(OF_MODELS[name], arguments[1:], f"ablate {name}")
    else:
        module, given = "trainings", read_arguments(arguments)
    study = importlib.import_module(f"pat.commands.ablate.{module}")  # here: the help does without PyTorch
    study.run(given, shlex.join(["pat", "ablate", *arguments]), TerminalProgress())
