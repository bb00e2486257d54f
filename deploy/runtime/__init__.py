"""Something that embeds people, whatever runs it: `deploy.runtime.open(bundle)`.

A backend is a module of this package with a class `Session(bundle)`, a `deploy.runtime.session.Runtime`.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from export.manifest import BackendName as Backend
from pat.base.errors import UserError

if TYPE_CHECKING:
    from deploy.runtime.session import Runtime

BACKENDS: tuple[Backend, ...] = get_args(Backend)
_EXTRAS = {"openvino": "openvino", "tensorrt": "trt"}
"""Extras of the package other than "deploy"."""

log = logging.getLogger(__name__)


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
