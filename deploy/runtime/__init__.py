"""Something that embeds people, whatever runs it: `deploy.runtime.open(bundle)`.

A backend is a module of this package with a class `Session(bundle)`; `session.py` holds what they share.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, get_args

from export.manifest import BackendName as Backend
from export.manifest import Manifest
from pat.base.errors import UserError

BACKENDS: tuple[Backend, ...] = get_args(Backend)
_EXTRAS = {"openvino": "openvino", "tensorrt": "trt"}
"""Extras of the package other than "deploy"."""

log = logging.getLogger(__name__)


class Runtime(AbstractContextManager["Runtime"], Protocol):
    """An opened model; a context manager that frees what it holds. The thread that opened it uses it."""

    manifest: Manifest
    name: str
    """A few words for the log: what runs the model, and where."""

    def embed(self, crops: Any) -> Any:
        """Crops uint8 [N, h, w, 3] RGB of any one size -> float32 [N, D], unit length."""

    def embed_boxes(self, frames: Sequence[Any], boxes: Sequence[Any]) -> Any:
        """Boxes float32 [n, 4] of each frame uint8 [H, W, 3] RGB -> float32 [sum of n, D], frame by frame."""

    def self_test(self) -> float:
        """The worst cosine to the manifest's check set; Failure when it misses the target."""

    def close(self) -> None:
        """Free everything; once more does nothing."""


def open(bundle: str | Path, backend: Backend = "onnxruntime", **options: Any) -> Runtime:
    """Open the bundle folder for embedding, in a `with` statement.

    `options` go to the backend's Session; there is no silent fall-back. Raises UserError for a folder that is no
    bundle, files that are not those the manifest describes, an unknown backend, or one whose library is missing.
    """
    if backend not in BACKENDS:
        raise UserError(f"there is no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    module = f"deploy.runtime.{backend}"
    try:
        runtime: Runtime = importlib.import_module(module).Session(bundle, **options)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("deploy"):
            raise UserError(f"this installation has no backend {backend}") from error
        raise UserError(
            f"the backend {backend} needs {error.name}, which is not installed: "
            f"pip install 'pat-reid[{_EXTRAS.get(backend, 'deploy')}]'"
        ) from error
    if backend not in runtime.manifest.backends:
        made_for = ", ".join(runtime.manifest.backends)
        log.warning("%s was made for %s; %s may run it slower than the fp32 bundle", bundle, made_for, backend)
    return runtime
