"""The TensorRT that builds: TensorRT or TensorRT for RTX, one API in two packages."""

from __future__ import annotations

from typing import Any

from deploy.runtime.trt_library import PACKAGES, FlavourName, Library, first_installed
from pat.base.errors import UserError


class Flavour(Library):
    """An imported TensorRT that builds."""

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

    Raises UserError that says what to install on this system, or that this version is too old.
    """
    found = first_installed((name,) if name else tuple(PACKAGES), "Builder")
    trt = found.trt
    types_by_flag = hasattr(trt.BuilderFlag, "FP16")  # gone in TensorRT 11, where every network is strongly typed
    if types_by_flag and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise UserError(
            f"{found.name} {found.version} knows no strongly typed networks; TensorRT 10.3 or newer is needed"
        )
    return Flavour(found.name, trt)
