"""Files and folders that are written completely or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pat.base.errors import Failure, UserError

try:
    import fcntl
except ImportError:  # Windows has other locks; drafts are then never taken for abandoned
    fcntl = None  # type: ignore[assignment]

QUIET = 600.0
"""Seconds without a change before a draft that nobody holds counts as abandoned."""


def named_path(text: str) -> Path:
    """A path as somebody wrote it. Raises UserError for an empty one, which would mean the working folder."""
    if not text:
        raise UserError("an empty path (a shell variable that is not set?); write . for the working folder")
    return Path(text)


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with ~ or ~NAME replaced. Raises UserError where that home folder is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: the home folder is not known; give the whole path, or set HOME") from error


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    It has the permissions of any new file, or with `private` can be read by its owner alone.
    Whatever was at `path` stays intact until the rename, also through a full disk or a killed process.
    Raises Failure in one line when the operating system refuses (no space, no permission).
    """
    path = Path(path)
    with _in_one_line(path), _draft(path) as temporary:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o600 if private else 0o666 & ~_umask())
        temporary.replace(path)
        sync(path.parent)


@contextlib.contextmanager
def folder_written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder beside `path`; on success it takes the name `path`, in place of a folder there.

    If the rename fails, the old folder is back. Raises Failure in one line when the operating system refuses.
    """
    path = Path(path)
    with _in_one_line(path), _draft(path, folder=True) as temporary:
        yield temporary
        for each in (temporary, *temporary.rglob("*")):
            sync(each)
        temporary.chmod(0o777 & ~_umask())
        _replace_folder(temporary, path)
        sync(path.parent)


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write several files that belong together: all are on the disk before they are renamed in the order given.

    Whoever reads them compares hashes. Raises Failure as `written_whole` does.
    """
    with contextlib.ExitStack() as stack:  # left in reverse order, so that the file named first is renamed first
        for path, content in reversed(list(files.items())):
            draft = stack.enter_context(written_whole(path))
            draft.write_bytes(content)
            sync(draft)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content`, completely or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, completely or not at all; bytes of file names that are none become \\udcXX."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | os.PathLike[str], values: Any, indent: int | None = 2) -> None:
    """Write plain values as JSON, completely or not at all."""
    write_text(path, json.dumps(values, indent=indent) + "\n")


def write_image(image: Any, path: str | os.PathLike[str]) -> None:
    """Write an image of Pillow as PNG, completely or not at all."""
    with written_whole(path) as temporary:
        image.save(temporary, format="PNG")


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file, completely or not at all."""
    with written_whole(path) as temporary:
        shutil.copyfile(source, temporary)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable. Not every platform can open a folder."""
    with contextlib.suppress(PermissionError, IsADirectoryError):
        # Windows syncs only what is open for writing
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or f"{error} (is the disk full?)"  # NumPy tells how much was written
        raise Failure(f"cannot write {path}: {reason}; what was there is untouched") from error


@contextlib.contextmanager
def _draft(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """An empty file or folder beside `path`; what is left of it goes at the end.

    It is locked while its writer lives: drafts of the same path that no process holds were left by one that was
    killed, and are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    if folder:
        temporary = Path(tempfile.mkdtemp(".part", f".{path.name}.", path.parent))
    else:
        handle, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
        os.close(handle)
        temporary = Path(name)
    held = -1
    try:
        held = _lock(temporary)
        yield temporary
    finally:
        _remove(temporary)
        if held >= 0:
            os.close(held)


def _sweep(path: Path) -> None:
    """Remove drafts of `path` whose writers are gone."""
    if fcntl is None:
        return
    prefix = f".{path.name}."
    for name in os.listdir(path.parent):
        if not (name.startswith(prefix) and name.endswith(".part")):
            continue
        found = path.parent / name
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if time.time() - found.stat().st_mtime < QUIET:
                continue
            held = _lock(found)
            if held >= 0:
                _remove(found)
                os.close(held)


def _lock(path: Path) -> int:
    """A descriptor that holds the draft's lock; -1 when another process has it, or there are no locks."""
    if fcntl is None:
        return -1
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _replace_folder(new: Path, path: Path) -> None:
    if not path.is_dir():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    path.rename(old)  # onto an empty folder, which a rename may replace
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
