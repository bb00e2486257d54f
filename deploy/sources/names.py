"""What a source's URL means, and how it may be shown."""

from __future__ import annotations

import os
import re
import stat
from enum import Enum
from urllib.parse import unquote, urlsplit

from pat.base.errors import UserError
from pat.base.files import expanded

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm"})

_URL = re.compile(r"\w+://[^\s\"']+")
_USER = re.compile(r"://.*@")  # to the last @: a password may hold @ / and ?
_VALUE = re.compile(r"([?&;/][^=&;/]+=)[^&;]+")  # some cameras take user and password in the path
_PROPERTY = re.compile(r"\b((?:\w+-)*(?:user-id|user-pw|password|pw|token|secret|key)=)(\"[^\"]*\"|[^\s&]+)", re.I)


class SourceKind(Enum):
    """Who reads a source."""

    FILE = "a video file"
    FOLDER = "a folder of images"
    IMAGE = "an image"
    NETWORK = "a network stream"
    DEVICE = "a V4L2 device"
    PIPELINE = "a GStreamer pipeline"


def shown(url: str) -> str:
    """The URL without user, password and the values of its parameters, in printable characters: fit for a log."""
    if not url.startswith("v4l2:"):  # its query holds size and rate
        url = _PROPERTY.sub(r"\1***", _URL.sub(_without_secrets, url))
    return "".join(c if c.isprintable() else "?" for c in url)


def _without_secrets(url: re.Match[str]) -> str:
    return _VALUE.sub(r"\1***", _USER.sub("://***@", url[0]))


def kind_of(url: str) -> tuple[SourceKind, str]:
    """Who reads it, and what he is to open: a path, a URL or a pipeline.

    Raises:
        UserError: nothing is there, or it may not be read.
    """
    if not url.strip():
        raise UserError("the camera has no source: give a file, a folder, rtsp://..., /dev/video0 or gst:...")
    if "\0" in url:
        raise UserError(f"{shown(url)}: the name of a source cannot hold a NUL character")
    scheme = re.match(r"([a-zA-Z][\w+.-]*):", url)
    if url.startswith("gst:"):
        return SourceKind.PIPELINE, url[4:].strip()
    if url.startswith("v4l2:") or re.match(r"/dev/video\d+$", url):
        return SourceKind.DEVICE, url
    if url.startswith("file:"):
        return _on_disk(unquote(urlsplit(url).path))
    if scheme and "://" in url:
        return SourceKind.NETWORK, url
    return _on_disk(url)


def _on_disk(name: str) -> tuple[SourceKind, str]:
    path = expanded(name)
    try:
        if path.is_dir():
            return SourceKind.FOLDER, str(path)
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # whoever opens it may wait for ever
            raise UserError(f"{shown(name)}: is a pipe or socket, not a video; give a file, or the camera's URL")
        if not os.access(path, os.R_OK, effective_ids=True):  # opening it would wait at a named pipe
            raise PermissionError
    except FileNotFoundError:
        raise UserError(f"{shown(name)}: no such file or folder; check the path of the source") from None
    except PermissionError:
        raise UserError(f"{shown(name)}: permission denied; let the user of this process read it") from None
    except OSError as error:
        raise UserError(f"{shown(name)}: cannot be opened: {error.strerror}") from None
    return (SourceKind.IMAGE if path.suffix.lower() in IMAGES else SourceKind.FILE), str(path)
