"""TensorRT and TensorRT for RTX: one API in two packages. Finding them, and hearing what they say."""

from __future__ import annotations

import importlib
import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TextIO

from pat.base.errors import UserError, one_line

FlavourName = Literal["tensorrt", "tensorrt-rtx"]
PACKAGES: dict[FlavourName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""The modules that may hold each flavour; `pip install tensorrt-rtx` brings both of the second."""


class Messages:
    """What the library said since `clear`, oldest first, and optionally all of it in a file.

    TensorRT calls the logger from its own threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: list[tuple[int, str]] = []
        self.file: TextIO | None = None
        self._lost = ""

    def close_file(self) -> str:
        """Write the file no further; returns why it is not complete, or nothing."""
        with self._lock:
            if self.file is not None:
                try:
                    self.file.close()
                except OSError as error:
                    self._lost = self._lost or error.strerror or str(error)
            self.file, lost, self._lost = None, self._lost, ""
            return lost

    def add(self, severity: int, text: str) -> None:
        """Keep a message; severity as in `ILogger.Severity`: 0 internal error ... 4 verbose."""
        with self._lock:
            self._said.append((severity, text))
            if self.file is not None and not self._lost:
                try:
                    self.file.write(f"[{'FEWIV'[min(severity, 4)]}] {text}\n")
                except OSError as error:  # a full disk; an exception must not reach the library, which called this
                    self._lost = error.strerror or str(error)

    def clear(self) -> None:
        with self._lock:
            self._said.clear()

    def texts(self) -> list[str]:
        """Every message since `clear`."""
        with self._lock:
            return [text for _, text in self._said]

    def last_error(self) -> str:
        """The last error in one line, or a sentence that there was none."""
        with self._lock:
            errors = [text for severity, text in self._said if severity <= 1]
        # Without a driver every build reports this one, also where no GPU is needed.
        telling = [text for text in errors if "driver version is insufficient" not in text] or errors
        return one_line(telling[-1]) if telling else "it gave no reason"


@cache
def logger_of(trt: Any) -> Any:
    """The one logger that this process gives to an imported TensorRT module; what it hears is in its `messages`.

    The library keeps the first logger it is given for the life of the process.
    """

    class CollectingLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages = Messages()

        def log(self, severity: Any, text: str) -> None:
            self.messages.add(int(severity), text)

    return CollectingLogger()


@dataclass
class Library:
    """An imported TensorRT."""

    name: FlavourName
    trt: Any
    """The module: `tensorrt`, `tensorrt_rtx` or `tensorrt_rtx_bindings`."""

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    @property
    def logger(self) -> Any:
        return logger_of(self.trt)

    @property
    def messages(self) -> Messages:
        messages: Messages = self.logger.messages
        return messages


def load_library(name: FlavourName) -> Library:
    """The library that runs engines of a flavour. Raises UserError that says what to install."""
    if name not in PACKAGES:
        raise UserError(f"there is no flavour {name!r}; choose one of {', '.join(PACKAGES)}")
    return first_installed((name,), "Runtime")


def first_installed(names: Sequence[FlavourName], part: str) -> Library:
    """The first of the flavours that is here and has `part`: a lean or dispatch runtime has no Builder.

    Raises UserError that says what to install on this system.
    """
    reasons = []
    for name in names:
        for package in PACKAGES[name]:
            try:
                trt = importlib.import_module(package)
            except ModuleNotFoundError:
                continue
            except (ImportError, OSError) as error:  # the bindings are there, their library is not
                reasons.append(f"{package}: {one_line(error)}")
                continue
            if hasattr(trt, part):
                return Library(name, trt)
            reasons.append(f"{package} has no {part}")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise UserError(f"{' or '.join(names)} is not installed{why}: {_how_to_install(names)}")


def _how_to_install(names: Sequence[FlavourName]) -> str:
    if Path("/etc/nv_tegra_release").exists():
        return (
            "on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, and make the virtual "
            "environment with --system-site-packages"
        )
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "pip install tensorrt (on a Jetson: sudo apt install python3-libnvinfer)"
    commands = {
        "tensorrt": "pip install tensorrt on a server or workstation",
        "tensorrt-rtx": "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs for an RTX GPU",
    }
    return "; ".join(commands[name] for name in names)
