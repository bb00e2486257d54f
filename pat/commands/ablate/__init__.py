"""`pat ablate`: the questions that the method leaves open, each answered by one command with table and figure."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

OF_MODELS = ("labels", "shifts")
"""Studies of models that are trained already; the others train."""


def main(arguments: Sequence[str]) -> None:
    """Run the study that the first word names."""
    words = list(arguments)
    of_models = bool(words) and words[0] in OF_MODELS
    name = words.pop(0) if of_models else "trainings"
    importlib.import_module(f"pat.commands.ablate.{name}").main(words)
