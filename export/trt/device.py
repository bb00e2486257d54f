"""Which GPU is here and which GPUs are meant, without CUDA's Python packages."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from export.precisions import PRECISIONS, PrecisionName
from pat.base.errors import UserError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ..._MINOR in cuda.h


@dataclass(frozen=True)
class Gpu:
    """The first GPU that the driver offers."""

    name: str
    capability: int
    """Compute capability as NVIDIA writes it after "sm_": 87 for Orin, 90 for H100."""

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability})"


def find_gpu(library: str | None = None) -> Gpu | None:
    """Ask the CUDA driver; None where there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL(library or ("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"))
    except OSError:
        return None
    device, name, major, minor = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    calls = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetName(name, len(name), device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
    )
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


def parse_targets(trt: Any, text: str | None) -> list[int]:
    """Compute capabilities from "86", "sm86,sm120" or "8.6"; empty when nothing is asked for.

    Raises UserError where the library builds for the GPU it runs on alone, or does not know a target.
    """
    if not text:
        return []
    if not hasattr(trt.IBuilderConfig, "num_compute_capabilities"):
        raise UserError(
            "--device is for tensorrt-rtx; this TensorRT builds for the GPU in this machine: run it on the target"
        )
    known = {int(name[2:]) for name in dir(trt.ComputeCapability) if name[:2] == "SM" and name[2:].isdigit()}
    targets = []
    for part in text.split(","):
        digits = part.strip().lower().removeprefix("sm").removeprefix("_").replace(".", "")
        if not digits.isdigit() or int(digits) not in known:
            choice = ", ".join(f"sm{each}" for each in sorted(known))
            raise UserError(f"--device {part.strip()!r} is not a target of this TensorRT; it knows {choice}")
        targets.append(int(digits))
    return sorted(set(targets))


def check_precision(precision: PrecisionName, targets: list[int], gpu: Gpu | None) -> None:
    """Raises UserError when a target (or, with none, the GPU here) cannot compute in this precision."""
    needed = PRECISIONS[precision].least_capability
    for capability in targets or ([gpu.capability] if gpu else []):
        if capability < needed:
            instead = "int8 or fp16" if precision == "fp8" else "fp16"
            raise UserError(
                f"{precision} needs sm_{needed} or newer, this is for sm_{capability}; use {instead}"
            )
