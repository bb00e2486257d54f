"""A PyTorch model as one ONNX graph: traced, with everything constant folded, named after the model."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Literal

import onnx
import onnxscript.optimizer
import torch
from onnx_ir.passes import common as passes
from torch import Tensor, nn

from export.graph import MASK, finish_names, name_layers, rename_batch
from export.translations import translations
from kernels.part_attention.reference import additive_mask, attend_sdpa
from pat.base.errors import UserError
from pat.base.garbage import uncollected
from pat.model import PartAwareTransformer
from pat.model.attention import PartAttention

InputType = Literal["uint8", "float32"]
LARGEST_FILE = 2**31 - 2**24
"""Bytes that protobuf can hold in one file, with room for the graph itself."""
INPUT, OUTPUT = "crops", "embeddings"


def to_graph(
    model: PartAwareTransformer, *, opset: int, input_type: InputType = "uint8", parts: bool = False
) -> onnx.ModelProto:
    """The model as one fp32 graph with a dynamic batch and everything constant folded, weights inside."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if size >= LARGEST_FILE:
        raise UserError(
            f"{model.config.backbone} has {size / 1e9:.1f} GB of weights; a single ONNX file holds less than 2 GB"
        )
    height, width = model.config.image_size
    shape = (2, height, width, 3) if input_type == "uint8" else (2, 3, height, width)
    crops = torch.zeros(shape, dtype=getattr(torch, input_type))
    network = _Network(model, parts, channels_last=input_type == "uint8").eval()
    batch = {"crops": {0: torch.export.Dim("batch")}}
    # Tracing makes objects by the million and nearly all of them stay.
    with _quiet(), uncollected(), torch.no_grad():
        traced = torch.export.export(network, (crops,), dynamic_shapes=batch, strict=False)
        select_instead_of_unbind(traced.graph_module)
        program = _converted(traced, opset)
        graph = program.model
        name_layers(graph)
        # Without a limit on size: the masks, and the weights cut into queries and keys, are constants too.
        # A second iteration would only take out the Identity nodes that the first one leaves.
        onnxscript.optimizer.optimize(
            graph, num_iterations=1, input_size_limit=1 << 40, output_size_limit=1 << 40
        )
        passes.IdentityEliminationPass()(graph)
        passes.DeduplicateInitializersPass(size_limit=1 << 40)(graph)  # the masks: the optimiser spares large ones
        rename_batch(graph)
        finish_names(graph)
        passes.ClearMetadataAndDocStringPass()(graph)
    proto = program.model_proto
    proto.producer_name, proto.producer_version = "pat-reid", version_of("pat-reid")
    proto.graph.name = "embed"
    return proto


def _converted(traced: torch.export.ExportedProgram, opset: int) -> torch.onnx.ONNXProgram:
    """In ONNX, every operator on its own.

    The exporter asks for the program decomposed, which traces it a second time and takes longer than all the rest
    of a conversion. It is given what was traced first, and the second trace only where an operator needs it.
    """

    def convert() -> torch.onnx.ONNXProgram:
        program = torch.onnx.export(
            traced, (), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
            custom_translation_table=translations(opset), optimize=False, verbose=False,
        )  # fmt: skip
        assert program is not None
        return program

    decompose = traced.run_decompositions
    traced.run_decompositions = lambda *_, **__: traced  # type: ignore[method-assign, misc, assignment]
    try:
        return convert()
    except torch.onnx.OnnxExporterError:  # an operator has no translation as it is
        traced.run_decompositions = decompose  # type: ignore[method-assign]
        return convert()


class _Network(nn.Module):
    """From crops as a camera gives them to embeddings, with nothing in it that a trace would only repeat."""

    def __init__(self, model: PartAwareTransformer, parts: bool, channels_last: bool) -> None:
        super().__init__()
        self.model, self.parts, self.channels_last = copy.deepcopy(model), parts, channels_last
        # Values run from 0 to 255: (x/255 - mean)/std = (x - 255 mean)/(255 std).
        self.model.mean.mul_(255)
        self.model.std.mul_(255)
        tokens = self.model.pos_embed.shape[1]
        mask = additive_mask(self.model.bands, self.model.grid, tokens, self.model.registers, torch.float32)
        for block in self.model.blocks:
            block.attn = _BandAttention(block.attn, mask)  # type: ignore[arg-type]
            block.mlp.drop1 = block.mlp.drop2 = nn.Identity()  # type: ignore[union-attr]

    def forward(self, crops: Tensor) -> Tensor:
        """[B, H, W, 3] or [B, 3, H, W], 0 to 255 -> float32 [B, D], unit length."""
        images = crops.float()  # first of all: TensorRT takes uint8 only into a cast
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        return self.model.embed(images, self.parts)


class _BandAttention(PartAttention):
    """Attention over the full bands: their mask is a constant, not thirty nodes to trace in every block."""

    part_mask: Tensor | None

    def __init__(self, attention: PartAttention, mask: Tensor | None) -> None:
        """mask [1, 1, N, N] is added to the scores; None where all tokens see each other."""
        super().__init__(
            attention.qkv, attention.proj, heads=attention.heads, grid=attention.grid,
            registers=attention.registers, scale=attention.scale, implementation=attention.implementation,
        )  # fmt: skip
        self.register_buffer(MASK, mask)

    def forward(self, tokens: Tensor, regions: Tensor, asking: int) -> Tensor:
        query, key_value = self.project(tokens, asking)
        mask = self.part_mask
        if mask is not None and asking < tokens.shape[1]:
            mask = mask.narrow(2, 0, asking) if asking > 1 else None  # cls sees everything
        return self.proj(attend_sdpa(query, key_value, mask, self.scale or query.shape[-1] ** -0.5))


def select_instead_of_unbind(module: torch.fx.GraphModule) -> None:
    """Take what is unpacked, `k, v = pair`, by index: one Gather each in ONNX, instead of Slice and Squeeze."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.unbind.int):
        if len(node.args) > 1:  # asked for by name, in another dimension
            continue
        for taken in list(node.users):
            with module.graph.inserting_before(taken):
                one = module.graph.call_function(torch.ops.aten.select.int, (node.args[0], 0, taken.args[1]))
            one.meta = taken.meta
            taken.replace_all_uses_with(one)
            module.graph.erase_node(taken)
        module.graph.erase_node(node)


def version_of(distribution: str) -> str:
    """The version of an installed distribution, or nothing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own internals from the reader.

    NumPy's are among them: the logarithm of 0, which hides a token, is minus infinity.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
