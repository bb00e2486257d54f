"""The folder of a gallery: made whole, locked against other processes, sealed when it is closed in order."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from deploy.errors import DeployError, DeployFailure
from deploy.gallery.facts import Facts
from deploy.gallery.files import sync, written_whole

FACTS = "gallery.json"
LOCK = "lock"
STORE = "store"
JOURNAL = "journal"
SEAL = "closed.json"
"""CRC-32 of every file of the store, from closing in order to the next opening. A process that is killed leaves
none: then what was acknowledged is on the disk, and the store itself checks what it can."""


class Folder:
    """A gallery's folder, held by this process alone until `close`. It is for its owner's eyes (mode 0700)."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self.store = path / STORE
        self._lock = lock

    @classmethod
    def open(cls, path: Path, facts: Facts, make_store: Callable[[Path], None]) -> tuple[Folder, Facts]:
        """Lock the folder, made with `make_store` where there is none, and compare `facts` with its own.

        Raises DeployError for another model, a folder in use, damaged, not to be written to, or of other things.
        """
        try:
            if not path.exists() or (path.is_dir() and not any(path.iterdir())):
                _make(path, facts, make_store)
            stored = read_facts(path)
            facts.check(stored, str(path))
            # Not bound to a thread: a gallery may be closed by another one than opened it.
            lock = FileLock(path / LOCK, timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise DeployError(
                f"the gallery {path} is in use by another process; stop it, or share one Qdrant server (http://...)"
            ) from error
        except OSError as error:
            raise DeployError(f"cannot open the gallery {path} for writing: {error.strerror or error}") from error
        folder = cls(path, lock)
        try:
            folder._break_seal()
        except BaseException:
            lock.release()
            raise
        return folder, stored

    def write_facts(self, facts: Facts) -> None:
        """Replace the gallery's facts. Raises DeployFailure when the disk refuses."""
        _write_json(self.path / FACTS, facts.to_mapping())

    def seal(self) -> None:
        """Write down the checksum of every file, so that damage is noticed. The store must be closed."""
        _write_json(self.path / SEAL, _checksums(self.store))

    def close(self) -> None:
        self._lock.release()

    def _break_seal(self) -> None:
        """Compare the store with its seal, if there is one, and remove it: from here on files change."""
        seal = self.path / SEAL
        if not self.store.is_dir():
            raise DeployError(
                f"the gallery {self.path} is damaged: {STORE} is missing; restore it from a snapshot"
            )
        try:
            if not seal.exists():
                return
            expected, found = json.loads(seal.read_text(encoding="utf-8")), _checksums(self.store)
            if expected != found:
                names = expected.keys() | found.keys()
                changed = sorted(name for name in names if expected.get(name) != found.get(name))
                raise DeployError(
                    f"the gallery {self.path} is damaged: {STORE}/{changed[0]} is missing or was changed; restore "
                    f"a snapshot (or delete {SEAL} to open what can still be read)"
                )
            seal.unlink()
            sync(self.path)
        except (ValueError, AttributeError) as error:
            raise DeployError(f"{seal} is damaged ({error}); delete it, or restore a snapshot") from error
        except OSError as error:
            raise DeployError(f"cannot read the gallery {self.path}: {error.strerror or error}") from error


def read_facts(path: Path) -> Facts:
    """What the gallery in the folder says about itself. Raises DeployError when it is none, or damaged."""
    file = path / FACTS
    if not path.is_dir():
        raise DeployError(f"{path} is a file, no gallery" if path.exists() else f"there is no gallery {path}")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (path / STORE).exists():
            raise DeployError(f"the gallery {path} is damaged: {FACTS} is missing; restore a snapshot") from error
        raise DeployError(f"{path} is no gallery: it has no {FACTS}; name a new folder for one") from error
    except ValueError as error:
        raise DeployError(f"{file} is damaged ({error}); restore the gallery from a snapshot") from error
    except OSError as error:
        raise DeployError(f"cannot read {file}: {error.strerror or error}") from error
    return Facts.from_mapping(values, str(file))


def _make(path: Path, facts: Facts, make_store: Callable[[Path], None]) -> None:
    """A new, empty gallery: written beside `path`, then renamed to it. OSError when that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        make_store(draft / STORE)
        _write_json(draft / FACTS, facts.to_mapping())
        sync(draft)
        try:
            draft.rename(path)
        except OSError:
            if not (path / FACTS).exists():  # else another process has just made it, and theirs is opened
                raise
        sync(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_json(path: Path, values: object) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _checksums(folder: Path) -> dict[str, int]:
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return {file.relative_to(folder).as_posix(): _checksum(file) for file in sorted(files)}


def _checksum(path: Path) -> int:
    """CRC-32, four to six times as fast as a cryptographic hash: this is against damage, not against people."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def free_bytes(path: Path) -> int:
    """Bytes that may still be written to the disk of `path`. Raises DeployFailure when nobody can tell."""
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        raise DeployFailure(f"{path} cannot be reached: {error.strerror or error}") from error


def used_bytes(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk; sparse files count what they fill."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(root, name)).st_blocks * 512
    return total
