"""From fp32 to fp16 or bf16 with explicit types: every tensor of the graph says what it is.

TensorRT builds such a graph strongly typed, as it stands. What enters a product is in 16 bits; what loses most
in them stays in fp32: the pixels' normalisation, the tokens from block to block (every block adds to them, and
each sum would be rounded), LayerNorm and instance normalisation, the softmax with its mask, the final norm and the
division by the length. (An Attention node keeps its softmax to itself: TensorRT refuses the attribute
`softmax_precision`, and its fused kernels sum in fp32 anyway.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from pat.base.errors import UserError

LowName = Literal["fp16", "bf16"]
LOW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
BF16_CONVOLUTIONS = 22
"""The opset from which on ONNX has convolutions in bf16."""
_NUMPY = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_STATISTICS = ("LayerNormalization", "InstanceNormalization", "Softmax")
"""Sums over many numbers, of squares or exponentials."""
_QUANTISE = ("QuantizeLinear", "DequantizeLinear")


def cast_graph(proto: onnx.ModelProto, low: LowName, keep: Collection[str] = ()) -> onnx.ModelProto:
    """The fp32 graph `proto` in a 16-bit type; nodes whose name starts with a prefix in `keep` stay in fp32.

    Input and output keep their types. Raises UserError when a weight does not fit into the type.
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    high = _nodes_in_fp32(model, keep)
    if low == "bf16" and model.opset_imports[""] < BF16_CONVOLUTIONS:
        high |= {node for node in model.graph if node.op_type == "Conv"}
    caster = _Caster(low, high)
    for node in list(model.graph):
        caster.visit(node)
    for output in model.graph.outputs:
        if output.dtype != ir.DataType.FLOAT:
            raise UserError(f"the output {output.name} would be {output.dtype}; it must stay float32")
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    passes.DeduplicateInitializersPass(size_limit=1 << 40)(model)
    return ir.to_proto(model)


def _nodes_in_fp32(model: ir.Model, keep: Collection[str]) -> set[ir.Node]:
    """Nodes that stay in fp32."""
    nodes = list(model.graph)
    high = {node for node in nodes if node.op_type in (*_STATISTICS, "ConstantOfShape")}  # its value has a type
    high |= {node for node in nodes if any(f"{node.name}.".startswith(f"{each}.") for each in keep)}
    for node in nodes:
        if node.op_type == "Softmax":  # the mask is added to the scores in fp32 as well
            before = node.inputs[0].producer() if node.inputs[0] is not None else None
            high |= {before} if before is not None and before.op_type == "Add" else set()
    projection = next(node for node in nodes if node.op_type == "Conv")
    high |= {node for node in _upstream(projection) if node.op_type not in _QUANTISE}
    norms = [node for node in nodes if node.op_type == "LayerNormalization"]
    for norm in norms:
        high |= _residual_stream(norm)
    return high | _downstream(norms[-1])


def _residual_stream(norm: ir.Node) -> set[ir.Node]:
    """The sums and selections of tokens that a LayerNormalization reads, back to the layers that wrote them."""
    found: set[ir.Node] = set()
    pending = [norm.inputs[0]]
    while pending:
        value = pending.pop()
        node = value.producer() if value is not None else None
        if node is None or node in found or not _passes_tokens_on(node):
            continue
        written = [value.producer() for value in node.inputs if value is not None]
        if any(each is not None and each.op_type in ("MatMul", "Gemm") and _has_weights(each) for each in written):
            continue  # a layer's bias
        found.add(node)
        pending += node.inputs
    return found


def _passes_tokens_on(node: ir.Node) -> bool:
    """Whether the node sums, selects or, where tokens are merged, averages them."""
    merges = node.op_type in ("Mul", "Div", "MatMul", "Split") and not _has_weights(node)
    return merges or node.op_type in ("Add", "Slice", "Gather", "Concat", "Expand")


def _has_weights(node: ir.Node) -> bool:
    """Whether a constant enters with a number for each channel; in 8 bits it does through a DequantizeLinear."""
    constants = [_stored(value) for value in node.inputs if value is not None]
    return any(each is not None and each.shape and each.shape[-1] != 1 for each in constants)


def _stored(value: ir.Value) -> ir.Value | None:
    """The floating or quantised constant that a value is, or is made of."""
    node = value.producer()
    if node is not None and node.op_type == "DequantizeLinear":
        value, node = node.inputs[0] or value, None
    return value if value.is_initializer() and value.dtype not in (ir.DataType.INT64, None) else None


def _upstream(node: ir.Node) -> set[ir.Node]:
    """Everything that the first input of `node` is computed from."""
    found: set[ir.Node] = set()
    pending = [node.inputs[0]]
    while pending:
        value = pending.pop()
        producer = value.producer() if value is not None else None
        if producer is not None and producer not in found:
            found.add(producer)
            pending += producer.inputs
    return found


def _downstream(node: ir.Node) -> set[ir.Node]:
    """`node` and everything computed from it."""
    found, pending = {node}, [node]
    while pending:
        for output in pending.pop().outputs:
            for user, _ in output.uses():
                if user not in found:
                    found.add(user)
                    pending.append(user)
    return found


class _Caster:
    """Rewrites inputs node by node, with one cast for each value and one copy of each constant."""

    def __init__(self, low: LowName, high: set[ir.Node]) -> None:
        self.low, self.high = low, high
        self.types = (ir.DataType.FLOAT, LOW[low])
        self.made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def visit(self, node: ir.Node) -> None:
        if node.op_type == "Cast" and node.attributes["to"].as_int() != int(ir.DataType.FLOAT):
            return  # shapes and indices
        wanted = ir.DataType.FLOAT if node in self.high else LOW[self.low]
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in self.types and value.dtype != wanted:
                node.replace_input_with(index, self._as(value, wanted))
        if node.op_type != "QuantizeLinear":
            for output in node.outputs:
                if output.dtype in self.types:
                    output.dtype = wanted
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", int(wanted))

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """`value` in another type: a converted constant, or the output of a cast right behind it."""
        if (value, wanted) not in self.made:
            if value.is_initializer():
                self.made[value, wanted] = self._converted(value)
            else:
                self.made[value, wanted] = self._cast(value, wanted)
        return self.made[value, wanted]

    def _cast(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        name = f"{value.name}_{wanted.name.lower()}"
        output = ir.Value(name=name, type=ir.TensorType(wanted), shape=value.shape)
        cast = ir.node("Cast", [value], {"to": int(wanted)}, outputs=[output], name=f"{name}_cast")
        producer = value.producer()
        assert producer is not None
        assert producer.graph is not None
        producer.graph.insert_after(producer, cast)
        return output

    def _converted(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        assert value.graph is not None
        array = value.const_value.numpy()
        with np.errstate(over="ignore"):
            converted = array.astype(_NUMPY[self.low])
        if not np.array_equal(np.isfinite(array), np.isfinite(converted.astype(np.float32))):
            largest = np.abs(array[np.isfinite(array)]).max()
            raise UserError(
                f"{value.name} holds {largest:.3g}, which {self.low} cannot represent; choose bf16 or fp32"
            )
        name = f"{value.name}_{self.low}"
        made = ir.Value(
            name=name,
            type=ir.TensorType(LOW[self.low]),
            shape=value.shape,
            const_value=ir.Tensor(converted, dtype=LOW[self.low], name=name),
        )
        value.graph.register_initializer(made)
        return made
