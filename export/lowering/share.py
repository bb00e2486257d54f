"""How much of a graph's arithmetic is done in which type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import onnx

from export.precisions import PRECISIONS, PrecisionName

_BITS = {
    onnx.TensorProto.FLOAT: 32, onnx.TensorProto.FLOAT16: 16, onnx.TensorProto.BFLOAT16: 16,
    onnx.TensorProto.INT8: 8, onnx.TensorProto.UINT8: 8, onnx.TensorProto.FLOAT8E4M3FN: 8,
}  # fmt: skip
Shape = tuple[int, ...]


def share_in(graph: onnx.ModelProto, precision: PrecisionName) -> float:
    """The share of the multiply-adds of `graph` that is done in `precision` or fewer bits.

    Counted are matrix products, convolutions and attention, for one image.
    """
    counted = multiply_adds(graph)
    low = sum(count for bits, count in counted.items() if bits <= PRECISIONS[precision].bits)
    return low / max(sum(counted.values()), 1)


def multiply_adds(graph: onnx.ModelProto) -> Counter[int]:
    """Bits of the factors -> multiply-adds of one image. A product is as wide as its wider factor."""
    whole = onnx.shape_inference.infer_shapes(graph).graph
    constants = {each.name: each for each in whole.initializer}
    values = {each.name: each.type.tensor_type for each in (*whole.input, *whole.output, *whole.value_info)}
    made_by = {name: node for node in whole.node for name in node.output}

    def shape(name: str) -> Shape:
        if name in constants:
            return tuple(constants[name].dims)
        return tuple(each.dim_value or 1 for each in values[name].shape.dim)  # the batch is 1

    def bits(name: str) -> int:
        source = made_by.get(name)
        if source is not None and source.op_type == "DequantizeLinear":
            name = source.input[0]
        kind = constants[name].data_type if name in constants else values[name].elem_type
        return _BITS[kind]

    counted = Counter[int]()
    for node in whole.node:
        if node.op_type in _COUNTS:
            counted[max(map(bits, node.input[:2]))] += _COUNTS[node.op_type](node, shape)
    return counted


def _product(node: onnx.NodeProto, shape: Callable[[str], Shape]) -> int:
    turned = any(each.name == "transA" and each.i for each in node.attribute)
    return math.prod(shape(node.output[0])) * shape(node.input[0])[-2 if turned else -1]


def _convolution(node: onnx.NodeProto, shape: Callable[[str], Shape]) -> int:
    return math.prod(shape(node.output[0])) * math.prod(shape(node.input[1])[1:])


def _attention(node: onnx.NodeProto, shape: Callable[[str], Shape]) -> int:
    """Queries times keys, and the weights times values: [B, H, n, D] and [B, H, N, D]."""
    return 2 * math.prod(shape(node.input[0])) * shape(node.input[1])[-2]


_COUNTS = {
    "MatMul": _product, "MatMulInteger": _product, "Gemm": _product, "Conv": _convolution,
    "ConvInteger": _convolution, "Attention": _attention,
}  # fmt: skip
