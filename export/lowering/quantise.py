"""Q/DQ nodes around the layers with weights: INT8 or FP8 in a form that a backend fuses.

Symmetric; activations have one scale a tensor, INT8 weights one for each output channel, FP8 weights one. The
products inside attention, biases and everything else stay as they are. Activations may be stored unsigned around
128, the same steps otherwise: CPUs multiply unsigned by signed bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from pat.base.errors import UserError

QuantisedName = Literal["int8", "fp8"]
LEAST_SCALE = 2.0**-14
"""The smallest normal fp16 number: scales are stored in the type of the tensors around them."""

_LARGEST = {"int8": 127.0, "fp8": 448.0}


def layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that can be quantised: one operand is a stored weight."""
    weights = {each.name for each in model.graph.initializer}
    return [
        node.name for node in model.graph.node if node.op_type in ("MatMul", "Conv") and node.input[1] in weights
    ]


def activations(model: onnx.ModelProto) -> dict[str, str]:
    """Layer name -> name of the tensor that enters it."""
    wanted = set(layers(model))
    return {node.name: node.input[0] for node in model.graph.node if node.name in wanted}


def quantise_graph(
    proto: onnx.ModelProto,
    kind: QuantisedName,
    ranges: Mapping[str, float],
    chosen: Collection[str],
    *,
    unsigned: bool = False,
) -> onnx.ModelProto:
    """The fp32 graph with the layers `chosen` quantised; everything else, scales included, is fp32 still.

    `ranges` maps a layer's input tensor to the largest absolute value that is to be represented. `unsigned` stores
    INT8 activations as bytes around 128. The operator set becomes at least 19 (`in_opset_19`). Raises UserError
    for an unknown layer.
    """
    unknown = sorted(set(chosen) - set(layers(proto)))
    if unknown:
        raise UserError(f"the graph has no layer {unknown[0]} to quantise")
    model = ir.from_proto(in_opset_19(proto))
    shared: dict[str, ir.Value] = {}
    for node in list(model.graph):
        if node.name not in chosen or node.op_type not in ("MatMul", "Conv"):
            continue
        entering, weight = node.inputs[:2]
        assert entering is not None
        assert weight is not None
        name = str(entering.name)
        if name not in shared:  # several layers may read the same tensor
            shared[name] = _quantised_activation(model, entering, kind, ranges[name], unsigned)
        node.replace_input_with(0, shared[name])
        axis = 1 if node.op_type == "MatMul" else 0  # of the output channels
        node.replace_input_with(1, _quantised_weight(model, weight, kind, axis))
    passes.RemoveUnusedNodesPass()(model)  # the weights as they were
    return ir.to_proto(model)


def in_opset_19(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in at least the first operator set with 16-bit scales and FP8; itself where it is in one."""
    opset = next(each.version for each in proto.opset_import if each.domain == "")
    return proto if opset >= 19 else onnx.version_converter.convert_version(proto, 19)


def _quantised_activation(
    model: ir.Model, value: ir.Value, kind: QuantisedName, largest: float, unsigned: bool
) -> ir.Value:
    """`value` through QuantizeLinear and DequantizeLinear, right behind where it is made."""
    name = str(value.name)
    scale = _constant(model, f"{name}_scale", scale_of(np.array(largest, np.float32), kind))
    zero = _middle(model) if unsigned else _zero_point(model, kind, ())
    assert zero.dtype is not None
    stored = ir.Value(name=f"{name}_{kind}", type=ir.TensorType(zero.dtype), shape=value.shape)
    restored = ir.Value(name=f"{name}_restored", type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    nodes = [
        ir.node("QuantizeLinear", [value, scale, zero], outputs=[stored], name=f"{name}_quantise"),
        ir.node("DequantizeLinear", [stored, scale, zero], outputs=[restored], name=f"{name}_restore"),
    ]
    producer = value.producer()
    assert producer is not None
    model.graph.insert_after(producer, nodes)
    return restored


def _quantised_weight(model: ir.Model, value: ir.Value, kind: QuantisedName, axis: int) -> ir.Value:
    """A weight stored in 8 bits, through DequantizeLinear."""
    assert value.const_value is not None
    name, weight = str(value.name), value.const_value.numpy()
    others = tuple(each for each in range(weight.ndim) if each != axis)
    largest = np.abs(weight).max(axis=others) if kind == "int8" else np.abs(weight).max()
    scale = scale_of(largest, kind)
    wide = scale if kind == "fp8" else np.expand_dims(scale, others)
    stored = _constant(model, f"{name}_{kind}", rounded(weight / wide, kind))
    scale_value = _constant(model, f"{name}_scale", scale)
    inputs = [stored, scale_value, _zero_point(model, kind, scale.shape)]
    restored = ir.Value(name=f"{name}_restored", type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    attributes = {"axis": axis} if kind == "int8" else {}
    node = ir.node("DequantizeLinear", inputs, attributes, outputs=[restored], name=f"{name}_restore")
    model.graph.insert_before(model.graph[0], node)
    return restored


def scale_of(largest: NDArray[np.float32], kind: QuantisedName) -> NDArray[np.float32]:
    """Step between two representable values, rounded to fp16 and never denormal there."""
    scale = np.maximum(np.asarray(largest, np.float32) / _LARGEST[kind], LEAST_SCALE)
    return scale.astype(np.float16).astype(np.float32)


def rounded(values: NDArray[np.floating], kind: QuantisedName) -> NDArray[np.generic]:
    """The nearest representable numbers, ends included."""
    limited = np.clip(values, -_LARGEST[kind], _LARGEST[kind])
    return np.rint(limited).astype(np.int8) if kind == "int8" else limited.astype(ml_dtypes.float8_e4m3fn)


def _zero_point(model: ir.Model, kind: QuantisedName, shape: tuple[int, ...]) -> ir.Value:
    """A zero of the 8-bit type: it is what tells the nodes their type."""
    name = "_".join(["zero", kind, *map(str, shape)])
    if name in model.graph.initializers:
        return model.graph.initializers[name]
    return _constant(model, name, rounded(np.zeros(shape, np.float32), kind))


def _middle(model: ir.Model) -> ir.Value:
    """The zero of unsigned activations."""
    if "middle" in model.graph.initializers:
        return model.graph.initializers["middle"]
    return _constant(model, "middle", np.array(128, np.uint8))


def _constant(model: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    tensor = ir.Tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    model.graph.register_initializer(value)
    return value
