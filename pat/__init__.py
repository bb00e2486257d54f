"""Part-Aware Transformer for generalisable person re-identification (arXiv 2308.03322).

`import pat` loads nothing heavy: `pat.load` brings PyTorch in when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pat.model.weights import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("pat.model.weights").load
    raise AttributeError(f"module 'pat' has no attribute {name!r}")
