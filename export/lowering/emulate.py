"""Running a 16-bit or FP8 graph where the machine has no such arithmetic: fp32 with every rounding in place.

TensorRT multiplies in 16 or 8 bits, sums in fp32 and rounds what leaves a layer. So does this: each tensor that
the graph declares in a 16-bit type is computed in fp32 and rounded to that type. Matrix products differ from a
GPU's only by the order of their sums.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

_LOW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def emulated(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A graph for ONNX Runtime on any CPU (unoptimised) that computes what `proto` declares, rounding included.

    One without 16-bit types is given back itself.
    """
    if not _declares_16_bits(proto.graph):
        return proto
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    for value in model.graph.initializers.values():
        if value.dtype in _LOW:
            assert value.const_value is not None
            wide = value.const_value.numpy().astype("float32")
            value.const_value = ir.Tensor(wide, name=value.name)
            value.dtype = ir.DataType.FLOAT
    for node in list(model.graph):
        for output in node.outputs:
            if output.dtype in _LOW:
                _round(model, node, output)
        if node.op_type == "Cast" and ir.DataType(node.attributes["to"].as_int()) in _LOW:
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    return ir.to_proto(model)


def _declares_16_bits(graph: onnx.GraphProto) -> bool:
    """Whether a constant or a cast is in 16 bits: input and output are not, so nothing else is without them."""
    types = {each.data_type for each in graph.initializer}
    types |= {each.i for node in graph.node if node.op_type == "Cast" for each in node.attribute}
    return not types.isdisjoint(map(int, _LOW))


def _round(model: ir.Model, node: ir.Node, output: ir.Value) -> None:
    """Replace a 16-bit output by its fp32 value rounded to that type."""
    low = output.dtype
    assert low is not None
    output.dtype = ir.DataType.FLOAT
    name, users = output.name, list(output.uses())
    short = ir.Value(name=f"{name}_rounded", type=ir.TensorType(low), shape=output.shape)
    wide = ir.Value(name=f"{name}_wide", type=ir.TensorType(ir.DataType.FLOAT), shape=output.shape)
    narrow = ir.node("Cast", [output], {"to": int(low)}, outputs=[short], name=f"{name}_narrow")
    widen = ir.node("Cast", [short], {"to": int(ir.DataType.FLOAT)}, outputs=[wide], name=f"{name}_widen")
    model.graph.insert_after(node, [narrow, widen])
    for user, index in users:
        user.replace_input_with(index, wide)
