"""Files that are written whole or not at all, with the standard library alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from export.manifest import ExportError


def write_whole(files: Mapping[Path, bytes]) -> None:
    """Write every file under a temporary name and sync it, then rename them all, in the order given.

    Until the first rename everything that was there stays; readers of several files that belong together compare
    hashes. Raises ExportError in one line when the operating system refuses (no space, no permission).
    """
    temporary: dict[Path, Path] = {}
    target = Path()
    try:
        for target, content in files.items():
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
            temporary[target] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary[target].chmod(0o644)
        for target, source in temporary.items():
            source.replace(target)
        for folder in {path.parent for path in files}:
            _sync_folder(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ExportError(f"cannot write {target}: {reason}; what was there before is untouched") from error
    finally:
        for source in temporary.values():
            source.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renames durable; not every platform can open a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
