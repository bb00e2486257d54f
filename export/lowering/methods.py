"""The two ways to a lower precision, each able to leave parts of the graph out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx

from export.lowering.cast import LowName, cast_graph
from export.lowering.quantise import QuantisedName, layers, quantise_graph


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
    """Layers with weights in INT8 or FP8 and the rest in fp16; the parts are single layers."""

    graph: onnx.ModelProto
    kind: QuantisedName
    ranges: Mapping[str, float]

    @property
    def units(self) -> Sequence[str]:
        return layers(self.graph)

    def build(self, excluded: Collection[str]) -> onnx.ModelProto:
        chosen = [each for each in self.units if each not in excluded]
        return cast_graph(quantise_graph(self.graph, self.kind, self.ranges, chosen), "fp16")

    def alone(self, unit: str) -> onnx.ModelProto:
        return quantise_graph(self.graph, self.kind, self.ranges, [unit])
