"""Writing a bundle folder: whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from export.manifest import CHECK_SET, MANIFEST, MODEL, ExportError, ExportFailure, Manifest, fact


def check_target(out: str | Path) -> Path:
    """The folder that a bundle may be written to: new, empty, or a bundle to be replaced.

    Raises ExportError for a file, or a folder that holds something else.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; name a folder for the bundle")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ExportError(f"{out} holds files and is no bundle; name a new folder")
    return out


def write_bundle(
    out: str | Path,
    manifest: Manifest,
    model: bytes,
    check_inputs: NDArray[np.uint8],
    check_embeddings: NDArray[np.float32],
    kernels: Mapping[str, bytes] = MappingProxyType({}),
) -> Manifest:
    """Write model, check set, kernels and manifest into the folder `out`; returns the manifest with their hashes.

    Everything is written beside `out` first and renamed when it is complete: a bundle that was there stays until
    then. Raises ExportError for a folder that holds something else, ExportFailure when the disk refuses.
    """
    out = check_target(out)
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
        with open(temporary / MODEL, "wb") as file:
            file.write(model)
        np.savez_compressed(temporary / CHECK_SET, inputs=check_inputs, embeddings=check_embeddings)
        for name, content in kernels.items():
            (temporary / name).write_bytes(content)
        files = {name: fact(temporary / name) for name in (MODEL, CHECK_SET, *kernels)}
        manifest = dataclasses.replace(manifest, files=files, folder=out)
        (temporary / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        for path in temporary.iterdir():
            _sync(path)
        temporary.chmod(0o755)
        _replace(temporary, out)
        _sync(out.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportFailure(f"cannot write the bundle {out}: {reason}; what was there is untouched") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _replace(new: Path, out: Path) -> None:
    """Put the folder `new` in the place of `out`; if that fails, the old one comes back."""
    if not out.exists():
        new.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent))
    out.rename(old)  # onto an empty folder, which a rename may replace
    try:
        new.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Make a file's or folder's contents durable; not every platform can open a folder."""
    with contextlib.suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
