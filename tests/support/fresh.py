"""Python in a process of its own: outside Triton's interpreter, or without packages that are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BLOCK = """
import importlib.util, sys
class Blocked:
    def find_spec(name, *rest):
        if name.split(".")[0] in {0!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Blocked)
_find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in {0!r} else _find_spec(name, *rest)
"""


def without(*packages: str) -> str:
    """The beginning of a program that cannot import these packages, nor find them."""
    return BLOCK.format(packages)


def environment(**variables: str) -> dict[str, str]:
    """This one outside Triton's interpreter, with the project's code and these variables."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return inherited | {"PYTHONPATH": str(ROOT)} | variables


def python(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a process says that ran to its end, in the project's folder."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment(**variables), cwd=ROOT, capture_output=True, text=True)
