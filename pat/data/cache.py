"""Images decoded and resized once, then read through a memory map.

An entry is two files, `pixels-KEY.u8` (the bytes of uint8 [N, H, W, 3]) and `pixels-KEY.json` (its facts and
checksums). KEY covers the contents of the image files, their order and the size, so a second run decodes
nothing and a changed image makes a new entry. The .json is written last: without it there is no entry.
Whoever adds an entry removes those that were not used for 30 days.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pat.base.errors import Failure, UserError
from pat.base.files import expanded, write_text, written_whole
from pat.data.images import UnreadableImage, decode_rgb, read_bytes, resize
from pat.data.layouts.reading import OnError

FORMAT = 1
"""Part of the key; raise it when decoding or resizing changes what an entry holds."""

UNUSED_DAYS = 30

_CHUNK = 256
"""Images decoded, written and checked at a time; bounds the memory that building takes."""

_OURS = re.compile(r"\.?pixels-[0-9a-f]{32}\..*(u8|json|lock|part)")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CachedImages:
    """Pixels of the images that could be read."""

    pixels: np.ndarray
    """uint8 [N, H, W, 3], RGB, memory-mapped and read-only."""
    kept: np.ndarray
    """i64 [N]: which of the images asked for each row is."""
    broken: tuple[tuple[Path, str], ...]
    """The others, with the reason."""


def cached_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    folder: Path,
    *,
    on_error: OnError = "stop",
    progress: Progress | None = None,
) -> CachedImages:
    """The images of `paths` at `size` (height, width), from the cache in `folder` or decoded into it.

    Several processes may ask for the same images at once: one decodes, the others wait. A damaged entry is
    noticed by its checksums and made anew. `progress(done, total)` is called while images are decoded.

    Raises UserError for the first unreadable image (on_error "stop") or when none can be read, and Failure
    when the entry cannot be written.
    """
    if not paths:
        raise UserError("there are no images to read")
    folder = expanded(folder)
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as threads:
        digests = list(threads.map(_digest, paths))
        text = json.dumps([FORMAT, list(size), digests])
        entry = _Entry(folder, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
        with _locked(entry):
            facts = entry.facts(threads)
            if facts is None:
                facts = _build(entry, paths, digests, size, on_error, progress, threads)
    broken = tuple((paths[index], reason) for index, reason in facts["broken"])
    if broken and on_error == "stop":
        raise _stopped_at(UnreadableImage(*broken[0]))
    left_out = {index for index, _ in facts["broken"]}
    kept = np.array([i for i in range(len(paths)) if i not in left_out], dtype=np.int64)
    return CachedImages(entry.pixels(facts), kept, broken)


class _Entry:
    """The files of one entry; its lock is held wherever they are written or checked."""

    def __init__(self, folder: Path, key: str) -> None:
        self.data = folder / f"pixels-{key}.u8"
        self.index = folder / f"pixels-{key}.json"
        self.lock = folder / f"pixels-{key}.lock"

    def facts(self, threads: ThreadPoolExecutor) -> dict[str, Any] | None:
        """What the entry holds, or None when it is missing or damaged."""
        try:
            facts: dict[str, Any] = json.loads(self.index.read_text(encoding="utf-8"))
            whole = self.data.stat().st_size == int(np.prod(facts["shape"]))
            if whole and facts["checksums"] == _checksums(self.pixels(facts), threads):
                return facts
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def pixels(self, facts: dict[str, Any]) -> np.ndarray:
        return np.memmap(self.data, np.uint8, "r", shape=tuple(facts["shape"]))  # [N, H, W, 3]


def _build(
    entry: _Entry,
    paths: Sequence[Path],
    digests: list[str],
    size: tuple[int, int],
    on_error: OnError,
    progress: Progress | None,
    threads: ThreadPoolExecutor,
) -> dict[str, Any]:
    """Decode every image into the entry and return its facts."""
    _remove_unused(entry)
    broken: list[tuple[int, str]] = []
    rows = 0
    # Plain writes, not a writable memory map: on a full disk a write fails, a map kills the process.
    with written_whole(entry.data) as temporary, temporary.open("wb") as file:
        for start in range(0, len(paths), _CHUNK):
            span = slice(start, start + _CHUNK)
            results = threads.map(_decoded, paths[span], digests[span], [size] * _CHUNK)
            for index, result in enumerate(results, start):
                if isinstance(result, UnreadableImage):
                    if on_error == "stop":
                        raise _stopped_at(result)
                    broken.append((index, result.reason))
                else:
                    file.write(result.tobytes())
                    rows += 1
            if progress:
                progress(min(start + _CHUNK, len(paths)), len(paths))
        if not rows:
            raise UserError(f"none of {len(paths)} images can be read; the first, {paths[0]}: {broken[0][1]}")
    facts: dict[str, Any] = {"shape": [rows, *size, 3], "broken": broken}
    facts["checksums"] = _checksums(entry.pixels(facts), threads)
    write_text(entry.index, json.dumps(facts))
    return facts


def _stopped_at(error: UnreadableImage) -> UserError:
    return UserError(f"{error}; --data.on-error skip leaves such images out")


def _digest(path: Path) -> str:
    """Hash of an image file; of a file that cannot be read, the reason."""
    try:
        return hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()
    except UnreadableImage as error:
        return f"unreadable: {error.reason}"


def _decoded(path: Path, digest: str, size: tuple[int, int]) -> np.ndarray | UnreadableImage:
    """Pixels uint8 [H, W, 3], or why there are none."""
    try:
        data = read_bytes(path)
        if hashlib.blake2b(data, digest_size=16).hexdigest() != digest:
            raise Failure(f"the image {path} changed while it was being read; start again")
        return resize(decode_rgb(data, path), size)
    except UnreadableImage as error:
        return error


def _checksums(pixels: np.ndarray, threads: ThreadPoolExecutor) -> list[int]:
    """A CRC of every _CHUNK images."""
    starts = range(0, len(pixels), _CHUNK)
    return list(threads.map(lambda start: zlib.crc32(pixels[start : start + _CHUNK].data), starts))


@contextlib.contextmanager
def _locked(entry: _Entry) -> Iterator[None]:
    """Hold the lock of an entry; the system frees it when a process dies."""
    lock = FileLock(entry.lock)
    try:
        entry.lock.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        folder = entry.lock.parent
        raise UserError(f"cannot use the cache folder {folder} ({error}); choose one with --data.cache") from error
    try:
        for file in (entry.data, entry.index, entry.lock):  # used now
            with contextlib.suppress(OSError):
                os.utime(file)
        yield
    finally:
        lock.release()


def _remove_unused(entry: _Entry) -> None:
    """Remove what nobody used for UNUSED_DAYS, and what a killed process left of this entry.

    A process that has such an entry mapped keeps its pixels; one that waits for a removed lock at worst decodes
    the same images again.
    """
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for file in entry.data.parent.iterdir():
        if not _OURS.fullmatch(file.name):
            continue
        left_over = file.suffix == ".part" and file.name.startswith(f".{entry.data.stem}.")
        with contextlib.suppress(OSError):
            if left_over or file.stat().st_mtime < oldest:
                file.unlink()
