"""The TensorRT that builds: finding TensorRT or TensorRT for RTX, one API in two packages."""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.runtime.trt_library import PACKAGES, FlavourName, Messages, listener, one_line
from pat.base.errors import UserError


@dataclass
class Flavour:
    """An imported TensorRT package."""

    name: FlavourName
    trt: Any
    """The module: `tensorrt`, `tensorrt_rtx` or `tensorrt_rtx_bindings`."""
    messages: Messages
    logger: Any

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    def builder(self) -> Any:
        """A new builder. Raises UserError where the library finds no GPU that it needs."""
        try:
            return self.trt.Builder(self.logger)
        except (TypeError, RuntimeError) as error:  # pybind11 reports the library's null pointer as TypeError
            raise UserError(
                f"{self.name} {self.version} cannot start its builder: {self.messages.last_error()}; it builds on "
                "the machine that will run the engine, with an NVIDIA GPU and its driver (check nvidia-smi)"
            ) from error


def load_flavour(name: FlavourName | None = None) -> Flavour:
    """The flavour asked for, or the installed one (TensorRT before TensorRT for RTX).

    Raises UserError that says what to install on this system.
    """
    reasons = []
    for candidate in (name,) if name else tuple(PACKAGES):
        for package in PACKAGES[candidate]:
            try:
                trt = importlib.import_module(package)
            except (ImportError, OSError) as error:  # OSError: the bindings are there, their library is not
                if not isinstance(error, ModuleNotFoundError):
                    reasons.append(f"{package}: {one_line(str(error))}")
                continue
            if hasattr(trt, "Builder"):
                return _wrap(candidate, trt)
            reasons.append(f"{package} has no Builder (a lean or dispatch runtime builds no engines)")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise UserError(f"{name or 'TensorRT'} is not installed{why}: {_how_to_install(name)}")


def _wrap(name: FlavourName, trt: Any) -> Flavour:
    types_by_flag = hasattr(trt.BuilderFlag, "FP16")  # gone in TensorRT 11, where every network is strongly typed
    if types_by_flag and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise UserError(
            f"{name} {trt.__version__} knows no strongly typed networks; TensorRT 10.3 or newer is needed"
        )
    heard = listener(trt)
    return Flavour(name, trt, heard.messages, heard.logger)


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
