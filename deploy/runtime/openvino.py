"""A bundle run by OpenVINO: an Intel or AMD CPU, an Intel GPU or NPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino

from deploy.runtime.crops import rows_shape
from deploy.runtime.session import Runtime, Vectors
from export.check_set import gate_of
from export.manifest import MODEL, Manifest
from export.precisions import PRECISIONS, Gate, PrecisionName
from pat.base.errors import Failure, UserError, one_line

Arithmetic = Literal["f32", "bf16", "f16"]
_NAMES: dict[Arithmetic, PrecisionName] = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class Session(Runtime):
    """A bundle's model.onnx compiled for one of OpenVINO's devices.

    `device` is a name that OpenVINO gives: CPU, GPU, GPU.1, NPU. `arithmetic` is the type of what the graph
    computes in fp32: OpenVINO by itself takes bf16 where a CPU has it, here it is asked for. `threads` 0 leaves
    their number to OpenVINO. Larger batches than `batch_size` are split; an NPU takes one crop at a time.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        device: str = "CPU",
        arithmetic: Arithmetic = "f32",
        threads: int = 0,
        batch_size: int = 64,
    ) -> None:
        if arithmetic not in _NAMES:
            raise UserError(f"arithmetic is {arithmetic!r}; choose one of {', '.join(_NAMES)}")
        super().__init__(Manifest.load(bundle))
        self.arithmetic = arithmetic
        fixed = device.startswith("NPU")  # it compiles static shapes alone
        self._hold(1 if fixed else batch_size)
        model = compiled(self.manifest, device, arithmetic, threads, fixed=fixed)
        self._request = model.create_infer_request()
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]}, {device}, {arithmetic}"

    def gate(self) -> Gate:
        own = gate_of(self.manifest)
        computed = PRECISIONS[_NAMES[self.arithmetic]]
        return own.wider(computed.gate) if computed.bits < PRECISIONS[self.manifest.precision.name].bits else own

    def _run(self, count: int) -> Vectors:
        try:
            found = self._request.infer({0: openvino.Tensor(self._rows[:count], shared_memory=True)})
        except Exception as error:  # its exception types share no base of their own
            raise Failure(f"{self.name} cannot run the model: {one_line(error)}") from error
        return np.asarray(found[0], dtype=np.float32)

    def _release(self) -> None:
        self._request = None


def compiled(manifest: Manifest, device: str, arithmetic: str, threads: int, *, fixed: bool) -> Any:
    """The bundle's graph for a device. Raises UserError for one that is not here, or refuses the graph."""
    core = openvino.Core()
    path = manifest.file(MODEL)
    available = core.available_devices
    if device not in available and device.split(".")[0] not in available:
        raise UserError(f"OpenVINO finds no device {device} here; it finds {', '.join(available) or 'none'}")
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith(("CPU", "GPU")):
        settings["INFERENCE_PRECISION_HINT"] = arithmetic
    if device == "CPU" and threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(path)
        if fixed:
            model.reshape(list(rows_shape(manifest, 1)))
        return core.compile_model(model, device, settings)
    except Exception as error:  # RuntimeError of its bindings, in many lines
        raise UserError(f"OpenVINO cannot compile {path} for {device}: {one_line(error)}") from error


def arithmetics(device: str = "CPU") -> tuple[Arithmetic, ...]:
    """The types that a device computes in, fp32 first."""
    capabilities = openvino.Core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    known: dict[str, Arithmetic] = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}
    # A CPU's FP16 is mostly a way to store weights.
    return tuple(known[each] for each in known if each in capabilities and (each != "FP16" or device != "CPU"))
