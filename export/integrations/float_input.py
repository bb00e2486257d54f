"""The graph of a bundle with another input: float32 planes, scaled as some other program scales them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.manifest import Manifest

Pixels = NDArray[np.uint8]
NAMED = "scaling"
"""Of the names of added nodes: the graph has nodes called input.transpose and input.mul already."""


@dataclass(frozen=True)
class Scaling:
    """What a program does to pixels before it gives them: (pixel * scale - mean) / std, RGB."""

    scale: float = 1.0
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)

    def planes(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels uint8 [N, H, W, 3] RGB as such a program gives them, float32 [N, 3, H, W]."""
        mean, std = (np.array(each, np.float32) for each in (self.mean, self.std))
        scaled = (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)


def with_float_input(graph: onnx.ModelProto, manifest: Manifest, name: str, scaling: Scaling) -> onnx.ModelProto:
    """The graph with the one input `name`, float32 [batch, 3, H, W], whose scaling it takes back first."""
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    old = made.graph.input[0]
    size = [manifest.input.height, manifest.input.width]
    mean, std = (np.array(each, np.float32) / np.float32(scaling.scale) for each in (scaling.mean, scaling.std))
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    # pixel = value * (std / scale) + mean / scale
    for operator, numbers, idle in (("Mul", std, 1), ("Add", mean, 0)):
        if (numbers != idle).any():
            constant = numpy_helper.from_array(numbers.reshape(1, 3, 1, 1), f"{NAMED}.{operator.lower()}")
            made.graph.initializer.append(constant)
            steps.append((operator, [constant.name], {}))
    if manifest.input.layout == "NHWC":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    value, nodes = name, []
    for operator, constants, attributes in steps:
        node = f"{NAMED}.{operator.lower()}"
        result = f"{node}.result"
        nodes.append(helper.make_node(operator, [value, *constants], [result], node, **attributes))
        value = result
    for node in made.graph.node:
        for place, entering in enumerate(node.input):
            if entering == old.name:
                node.input[place] = value
    rest = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend([*nodes, *rest])
    old.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, *size]))
    onnx.checker.check_model(made, full_check=True)
    return made
