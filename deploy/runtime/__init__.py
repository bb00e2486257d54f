"""Something that embeds crops, whatever runs it: `deploy.runtime.open(bundle)`.

A backend is a module of this package with a class `Session(bundle)` that has `embed` and `close`.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from export.manifest import ExportError, Manifest

Backend = Literal["onnxruntime", "tensorrt"]
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "tensorrt")


class Runtime(AbstractContextManager["Runtime"], Protocol):
    """An opened model; a context manager that frees what it holds."""

    manifest: Manifest

    def embed(self, crops: Any) -> Any:
        """Crops uint8 [N, h, w, 3] RGB of any one size -> float32 [N, D], unit length."""


def open(bundle: str | Path, backend: Backend = "onnxruntime", **options: Any) -> Runtime:
    """Open the bundle folder for embedding, in a `with` statement.

    `options` go to the backend. Raises ExportError for a folder that is no bundle, files that are not those the
    manifest describes, an unknown backend, or one whose library is missing. There is no silent fall-back.
    """
    if backend not in BACKENDS:
        raise ExportError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    module = f"deploy.runtime.{backend}"
    try:
        runtime: Runtime = importlib.import_module(module).Session(bundle, **options)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("deploy"):
            raise ExportError(f"this installation has no backend {backend}") from error
        raise ExportError(
            f"the backend {backend} needs {error.name}, which is not installed: pip install 'pat-reid[deploy]'"
        ) from error
    return runtime
