"""Weights kept as float16 in the file of a graph that computes in float32: half the bytes at the same speed.

A Cast stands between each stored weight and the node that reads it; runtimes fold it away when they load.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STORED = ".float16"
"""What the name of a stored weight ends with; the Cast gives it back its own."""


def halve_weights(graph: onnx.ModelProto) -> None:
    """Keep every float32 matrix and kernel of `graph` as float16, in place, where that loses nothing.

    A model whose weights were rounded to numbers that float16 holds computes the same afterwards, bit for bit.
    Vectors (biases, norms, statistics) stay as they are, and what float16 does not hold: kernels into which the
    exporter multiplied a batch normalisation.
    """
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        halves = values.astype(np.float16)
        if (halves != values).any():
            continue
        tensor.CopyFrom(numpy_helper.from_array(halves, name + STORED))
        casts.append(helper.make_node("Cast", [name + STORED], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def restore_weights(graph: onnx.ModelProto) -> None:
    """Undo `halve_weights`, in place: the graph that a lower precision is made from has plain float32 weights."""
    stored = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name.endswith(STORED)}
    if not stored:
        return
    for name, tensor in stored.items():
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, name.removesuffix(STORED)))
    nodes = [node for node in graph.graph.node if not (node.op_type == "Cast" and node.input[0] in stored)]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
