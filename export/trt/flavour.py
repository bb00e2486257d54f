"""TensorRT and TensorRT for RTX: one API in two packages. Finding them, and hearing what they say."""

from __future__ import annotations

import importlib
import platform
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from export.manifest import ExportError

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

    def add(self, severity: int, text: str) -> None:
        """Keep a message; severity as in `ILogger.Severity`: 0 internal error ... 4 verbose."""
        with self._lock:
            self._said.append((severity, text))
            if self.file is not None:
                self.file.write(f"[{'FEWIV'[min(severity, 4)]}] {text}\n")

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


@dataclass
class Flavour:
    """An imported TensorRT package."""

    name: FlavourName
    trt: Any
    """The module: `tensorrt`, `tensorrt_rtx` or `tensorrt_rtx_bindings`."""
    messages: Messages = field(default_factory=Messages)
    logger: Any = None

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    def builder(self) -> Any:
        """A new builder. Raises ExportError where the library finds no GPU that it needs."""
        try:
            return self.trt.Builder(self.logger)
        except (TypeError, RuntimeError) as error:  # pybind11 reports the library's null pointer as TypeError
            raise ExportError(
                f"{self.name} {self.version} cannot start its builder: {self.messages.last_error()}; it builds on "
                "the machine that will run the engine, with an NVIDIA GPU and its driver (check nvidia-smi)"
            ) from error


_LOADED: dict[FlavourName, Flavour] = {}
"""The library keeps the first logger it is given for the life of the process, so a flavour is wrapped once."""


def load_flavour(name: FlavourName | None = None) -> Flavour:
    """The flavour asked for, or the installed one (TensorRT before TensorRT for RTX).

    Raises ExportError that says what to install on this system.
    """
    reasons = []
    for candidate in (name,) if name else tuple(PACKAGES):
        if candidate in _LOADED:
            return _LOADED[candidate]
        for package in PACKAGES[candidate]:
            try:
                trt = importlib.import_module(package)
            except (ImportError, OSError) as error:  # OSError: the bindings are there, their library is not
                if not isinstance(error, ModuleNotFoundError):
                    reasons.append(f"{package}: {one_line(str(error))}")
                continue
            if hasattr(trt, "Builder"):
                _LOADED[candidate] = _wrap(candidate, trt)
                return _LOADED[candidate]
            reasons.append(f"{package} has no Builder (a lean or dispatch runtime builds no engines)")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise ExportError(f"{name or 'TensorRT'} is not installed{why}: {_how_to_install(name)}")


def _wrap(name: FlavourName, trt: Any) -> Flavour:
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise ExportError(
            f"{name} {trt.__version__} knows no strongly typed networks; TensorRT 10.3 or newer is needed"
        )
    messages = Messages()

    class CollectingLogger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.add(int(severity), text)

    return Flavour(name, trt, messages, CollectingLogger())


def _how_to_install(name: FlavourName | None) -> str:
    if Path("/etc/nv_tegra_release").exists():
        return (
            "on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, and make the virtual "
            "environment with --system-site-packages"
        )
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "pip install tensorrt (on a Jetson: sudo apt install python3-libnvinfer)"
    if name == "tensorrt-rtx":
        return "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs"
    return (
        "pip install tensorrt on a server or workstation (for an RTX GPU also: "
        "pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs)"
    )


def one_line(text: str, limit: int = 400) -> str:
    """The text without line breaks, at most `limit` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
