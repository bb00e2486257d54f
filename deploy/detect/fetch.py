"""Published ONNX detectors, fetched when a user asks for one: from its address, and only with its hash."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from deploy.detect.describe import describe
from deploy.detect.manifest import DetectorManifest, FamilyName
from export.manifest import sha256
from pat.base.errors import Failure, UserError
from pat.base.files import written_whole
from pat.base.progress import Progress

SILENCE = 30.0
"""Seconds after which a server that sends nothing is given up."""
CHUNK = 1 << 18


@dataclass(frozen=True)
class Published:
    """A file that its makers offer."""

    url: str
    bytes: int
    sha256: str
    family: FamilyName
    licence: str


_YOLOX = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/"
PUBLISHED = {
    f"yolox-{size}": Published(f"{_YOLOX}yolox_{size}.onnx", bytes, sha256, "yolox", "Apache-2.0")
    for size, bytes, sha256 in (
        ("nano", 3_659_407, "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d"),
        ("tiny", 20_219_662, "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7"),
        ("s", 35_858_002, "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063"),
    )
}
"""The makers publish no hashes. These are what at least four projects each, unrelated to one another, have written
down after fetching the same addresses (November 2026)."""


def fetch(name: str, out: Path, *, url: str | None = None, progress: Progress) -> DetectorManifest:
    """Fetch a published detector into the folder `out` and write its manifest; what is there already is kept.

    `url` is another address of the same file. Raises UserError for an unknown name, Failure when the file cannot
    be fetched or is not the one that was published.
    """
    if (known := PUBLISHED.get(name)) is None:
        raise UserError(f"no detector is called {name!r}; there are {', '.join(PUBLISHED)}")
    address = url or known.url
    if not address.startswith(("https://", "http://")):
        raise UserError(f"{address} is no http(s) address")
    file = out / known.url.rsplit("/", 1)[1]
    if file.exists() and sha256(file) != known.sha256:
        raise UserError(f"{file} is there already and is another file; name another folder: --out FOLDER")
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as temporary:
            _download(address, known, temporary, progress)
    return describe(file, known.family, licence=known.licence)


def _download(url: str, known: Published, path: Path, progress: Progress) -> None:
    found, size = hashlib.sha256(), 0
    try:
        with (
            urllib.request.urlopen(url, timeout=SILENCE) as answer,
            open(path, "wb") as file,
            progress.bar("fetch", known.bytes) as advance,
        ):
            while size <= known.bytes and (chunk := answer.read(CHUNK)):
                file.write(chunk)
                found.update(chunk)
                size += len(chunk)
                advance(len(chunk), "")
    except OSError as error:  # urllib's errors too
        raise Failure(f"{url} cannot be fetched: {getattr(error, 'reason', error)}") from error
    if size != known.bytes or found.hexdigest() != known.sha256:
        more = "more than " if size > known.bytes else ""
        raise Failure(
            f"{url} gave {more}{min(size, known.bytes)} bytes with the SHA-256 {found.hexdigest()}, expected "
            f"{known.bytes} bytes with {known.sha256}; nothing was kept"
        )
