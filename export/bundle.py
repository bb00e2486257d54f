"""Writing a bundle folder: whole or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.manifest import CHECK_SET, MANIFEST, MODEL, Manifest, fact
from pat.base.errors import UserError
from pat.base.files import folder_written_whole


def check_target(out: str | Path) -> Path:
    """The folder that a bundle may be written to: new, empty, or a bundle to be replaced.

    Raises UserError for a file, or a folder that holds something else.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the bundle")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"{out} holds files and is no bundle; name a new folder")
    return out


def write_bundle(
    out: str | Path,
    manifest: Manifest,
    model: bytes,
    check_inputs: NDArray[np.uint8],
    check_embeddings: NDArray[np.float32],
    kernels: Mapping[str, bytes] = MappingProxyType({}),
    identities: NDArray[np.int64] | None = None,
) -> Manifest:
    """Write model, check set, kernels and manifest into the folder `out`; returns the manifest with their hashes.

    `identities` says whom the images of the check set show, where that is known.
    Everything is written beside `out` first and renamed when it is complete: a bundle that was there stays until
    then. Raises UserError for a folder that holds something else, Failure when the disk refuses.
    """
    out = check_target(out)
    with folder_written_whole(out) as draft:
        (draft / MODEL).write_bytes(model)
        known: dict[str, Any] = {} if identities is None else {"identities": identities}
        np.savez_compressed(draft / CHECK_SET, inputs=check_inputs, embeddings=check_embeddings, **known)
        for name, content in kernels.items():
            (draft / name).write_bytes(content)
        files = {name: fact(draft / name) for name in (MODEL, CHECK_SET, *kernels)}
        manifest = dataclasses.replace(manifest, files=files, folder=out)
        (draft / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
