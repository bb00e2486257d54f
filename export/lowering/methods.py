"""The two ways to a lower precision, each able to leave parts of the graph out."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import onnx

from export.lowering.cast import LowName, cast_graph
from export.lowering.quantise import QuantisedName, in_opset_19, layers, quantise_graph
from export.manifest import BackendName
from export.precisions import PrecisionName


@dataclass(frozen=True)
class Form:
    """How 8 bits are written so that a backend runs them fast."""

    half: bool
    """What is not in 8 bits is in fp16; TensorRT fuses attention then. CPUs only convert it back."""
    unsigned: bool
    """Activations are bytes around 128."""
    convolutions: bool
    """Convolutions are quantised too."""


# Measured on one thread of a CPU with AVX512-VNNI, as multiples of fp32 in ONNX Runtime: a ViT-S of 132 tokens in
# batches of 4, and a convolutional stem with 33 tokens of width 256 in batches of 8. ONNX Runtime: 2.56 and 2.04
# without the convolutions, 2.49 and 1.83 with them, 2.44 and 1.96 with ranges measured at each run, 0.69 and 0.51
# in TensorRT's form. OpenVINO: 3.40 and 3.13 with the convolutions.
FORMS: Mapping[BackendName, Form] = {
    "tensorrt": Form(half=True, unsigned=False, convolutions=True),
    "onnxruntime": Form(half=False, unsigned=True, convolutions=False),
    "openvino": Form(half=False, unsigned=True, convolutions=True),
}


def backends_for(precision: PrecisionName, backend: BackendName) -> tuple[BackendName, ...]:
    """What runs a graph in `precision` fast that was written for `backend`; the first one is what it is for."""
    if precision == "fp32":
        return get_args(BackendName)
    if precision == "int8":
        return (backend, "onnxruntime" if backend == "openvino" else "openvino")
    return ("tensorrt",) if precision == "fp8" else ("tensorrt", "openvino")


class Lowering(Protocol):
    """Lowers the precision of an fp32 graph part by part."""

    @property
    def units(self) -> Sequence[str]:
        """Names of the parts that can be left out."""

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        """The graph with every part lowered but `excluded`."""

    def alone(self, unit: str) -> onnx.ModelProto:
        """The fp32 graph with this one part lowered."""


@dataclass(frozen=True)
class SixteenBits:
    """Everything in fp16 or bf16; the parts are the patch projection and whole blocks."""

    graph: onnx.ModelProto
    low: LowName

    @property
    def units(self) -> Sequence[str]:
        names = [node.name.split(".") for node in self.graph.graph.node]
        blocks = dict.fromkeys(f"blocks.{parts[1]}" for parts in names if parts[0] == "blocks")
        return ["patch_embed", *blocks]

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        return cast_graph(self.graph, self.low, keep=excluded)

    def alone(self, unit: str) -> onnx.ModelProto:
        return self.build([each for each in self.units if each != unit])


@dataclass(frozen=True)
class EightBits:
    """Layers with weights in INT8 or FP8; the parts are single layers."""

    graph: onnx.ModelProto
    kind: QuantisedName
    ranges: Mapping[str, float]
    form: Form

    @property
    def units(self) -> Sequence[str]:
        convolutions = {node.name for node in self.graph.graph.node if node.op_type == "Conv"}
        return [each for each in layers(self.graph) if self.form.convolutions or each not in convolutions]

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        graph = self._quantised([each for each in self.units if each not in excluded])
        return cast_graph(graph, "fp16") if self.form.half else graph

    def alone(self, unit: str) -> onnx.ModelProto:
        return self._quantised([unit])

    @functools.cached_property
    def _upgraded(self) -> onnx.ModelProto:
        return in_opset_19(self.graph)  # once for the graphs of all layers

    def _quantised(self, chosen: Collection[str]) -> onnx.ModelProto:
        return quantise_graph(self._upgraded, self.kind, self.ranges, chosen, unsigned=self.form.unsigned)
