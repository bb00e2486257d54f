"""What the builder made of a network: fused attention, precisions, memory, from its own detailed report.

TensorRT describes an engine layer by layer in one text form: the engine inspector gives it for an engine that is
loaded, the builder writes it to the verbose log of every detailed build, also where no GPU is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.precisions import PRECISIONS

_BITS: dict[str, int] = {name: facts.bits for name, facts in PRECISIONS.items()}
_SPELLINGS = (
    ("bf16", r"bf16|bfloat16"),
    ("fp8", r"fp8|float8"),
    ("fp16", r"fp16|half|float16"),
    ("fp32", r"fp32|float\b|float32"),
    ("int8", r"(?<!u)int8"),
)
_ATTENTION = re.compile(r"(?:^|_)f?mha(?:_|$)")
"""The fused attention kernels' names: _gemm_mha_v2, _gemv_mha_v1, ..."""


@dataclass(frozen=True)
class Layer:
    """A layer of the engine: one kernel, or a few that belong together."""

    name: str
    kind: str
    """TensorRT's LayerType: kgen, gemm, runtime_fusion, CaskConvolution ..."""
    precision: str
    """The narrowest type that it reads."""
    onnx: tuple[str, ...]
    """The ONNX nodes that it computes, or some of them."""

    @property
    def fused_attention(self) -> bool:
        return _ATTENTION.search(self.name) is not None


@dataclass(frozen=True)
class Product:
    """A matrix product or convolution of the graph: the precision asked for and the one that it runs in."""

    onnx: str
    asked: str
    runs_in: str
    layer: str

    @property
    def fell_back(self) -> bool:
        return _BITS.get(self.runs_in, 64) > _BITS.get(self.asked, 64)


@dataclass(frozen=True)
class Inspection:
    """What an engine consists of."""

    layers: tuple[Layer, ...]
    products: tuple[Product, ...]
    attentions: int
    """Attention operations in the graph."""
    fused_attention: int
    """Of these, how many became one fused kernel (in every profile)."""
    weights_bytes: int | None
    scratch_bytes: int | None
    """Device memory that an execution context needs beside weights, inputs and outputs."""
    tensors: tuple[dict[str, str], ...] = field(default=())
    """Inputs and outputs of the engine: `name`, `mode`, `dtype`, `shape`."""

    def precisions(self) -> Counter[str]:
        """How many matrix products run in each precision."""
        return Counter(product.runs_in for product in self.products)

    def fell_back(self) -> list[Product]:
        return [product for product in self.products if product.fell_back]


def inspect(
    trt: Any, asked: Mapping[str, str], attentions: int, messages: Sequence[str], profiles: int, engine: Any = None
) -> Inspection:
    """Describe a build from the builder's `messages`, or from `engine` where it could be loaded.

    `asked` and `attentions` are what `products_asked` read from the network.
    """
    report = engine_report(trt, messages, engine)
    layers = tuple(read_layers(report))
    fused = sum(layer.fused_attention for layer in layers) // profiles
    weights = last_number(messages, r"Total Weights Memory: (\d+)")
    scratch = last_number(messages, r"Total Activation Memory: (\d+)", r"Max Scratch Memory: (\d+)")
    if engine is not None:
        scratch = int(engine.device_memory_size_v2)
    return Inspection(
        layers=layers,
        products=tuple(_match(asked, layers)),
        attentions=attentions,
        fused_attention=fused,
        weights_bytes=weights,
        scratch_bytes=scratch,
        tensors=tuple(read_tensors(report)),
    )


def engine_report(trt: Any, messages: Sequence[str], engine: Any = None) -> str:
    """TensorRT's one-line-a-layer description of the engine, or an empty string where it gave none."""
    if engine is not None:
        inspector = engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.ONELINE)
        if text:
            return str(text)
    return next((text for text in reversed(messages) if text.startswith("Layers:")), "")


def read_layers(report: str) -> Iterable[Layer]:
    """The layers of a report in `LayerInformationFormat.ONELINE`."""
    for line in report.splitlines():
        match = re.match(r"Name: (.*?), LayerType: ([^,]*)", line)
        if match:
            read = _between(line, ", Inputs: [", ", Outputs: [")
            onnx = tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", line)) or tuple(match[1].split(" + "))
            yield Layer(match[1], match[2], _narrowest(read), onnx)


def read_tensors(report: str) -> Iterable[dict[str, str]]:
    """Inputs and outputs as the report's last part gives them."""
    pattern = r"^ ?Name: (.*?), IOMode: (\w+), DataType: (\w+), Dimensions: \[([^\]]*)\]"
    for name, mode, dtype, shape in re.findall(pattern, report, re.MULTILINE):
        yield {"name": name, "mode": mode.lower(), "dtype": dtype, "shape": shape}


def _between(line: str, begin: str, end: str) -> str:
    start = line.find(begin)
    stop = line.find(end, max(start, 0))
    return line[start : stop if stop >= 0 else None] if start >= 0 else ""


def _narrowest(tensors: str) -> str:
    """The narrowest floating or 8-bit type among tensors with more than one number."""
    found = set()
    for shape, written in re.findall(r"Dimensions: \[([^\]]*)\].*?Datatype: ([^,}]+)", tensors):
        precision = precision_of(written)
        if precision and shape.replace("1", "").strip(" ,"):
            found.add(precision)
    return min(found, key=lambda each: (_BITS[each], each), default="other")


def precision_of(written: str) -> str | None:
    """Our name for a type as TensorRT writes it ("Half", "Row major linear FP16 format"), None for other types."""
    for name, spelling in _SPELLINGS:
        if re.search(rf"\b(?:{spelling})", written, re.IGNORECASE):
            return name
    return None


def products_asked(trt: Any, network: Any) -> tuple[dict[str, str], int]:
    """Matrix products of a network by their ONNX names with the precision asked for, and how many attentions."""
    kinds = trt.LayerType
    producers: dict[str, Any] = {}
    products: dict[str, str] = {}
    attentions = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for output in range(layer.num_outputs):
            producers[layer.get_output(output).name] = layer
        if layer.type == kinds.SOFTMAX or layer.type == getattr(kinds, "ATTENTION_INPUT", None):
            attentions += 1
        if layer.type in (kinds.MATRIX_MULTIPLY, kinds.CONVOLUTION):
            match = re.search(r"\[ONNX Layer: ([^\]]*)\]", getattr(layer, "metadata", "") or "")
            products[match[1] if match else layer.name] = _asked(trt, layer.get_input(0), producers)
    return products, attentions


def _asked(trt: Any, tensor: Any, producers: dict[str, Any]) -> str:
    """The tensor's type, or that of the number it was dequantised from."""
    written = precision_of(tensor.dtype.name) or "other"
    for _ in range(4):  # a quantised operand may be turned or reshaped on its way
        layer = producers.get(tensor.name)
        if layer is None or not layer.num_inputs:
            break
        tensor = layer.get_input(0)
        if layer.type == trt.LayerType.DEQUANTIZE:
            return precision_of(tensor.dtype.name) or written
        if layer.type not in (trt.LayerType.SHUFFLE, trt.LayerType.CAST):
            break
    return written


def _match(asked: Mapping[str, str], layers: Sequence[Layer]) -> Iterable[Product]:
    """Find the engine layer of each product: where several mention it, the one that multiplies."""
    carriers: dict[str, list[Layer]] = {}
    for layer in layers:
        for name in layer.onnx:
            carriers.setdefault(name, []).append(layer)
    for name, precision in asked.items():
        found = sorted(carriers.get(name, ()), key=lambda layer: not _multiplies(layer))
        if found:
            yield Product(name, precision, found[0].precision, found[0].name)
        else:
            yield Product(name, precision, "unknown", "")


def _multiplies(layer: Layer) -> bool:
    text = f"{layer.kind} {layer.name}"
    return layer.fused_attention or bool(re.search(r"gem[mv]|correlation|conv|Fc|matmul", text, re.IGNORECASE))


def last_number(messages: Sequence[str], *patterns: str) -> int | None:
    """The number in the last message that a pattern matches; the first pattern that matches anything counts."""
    for pattern in patterns:
        for text in reversed(messages):
            match = re.search(pattern, text)
            if match:
                return int(match[1])
    return None
