"""How large the numbers get that enter each layer, measured on crops: the ranges of INT8 and FP8."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
import onnxruntime

from deploy.runtime.crops import prepared
from deploy.runtime.onnxruntime import open_session
from export.crops import Pixels, evenly, find_images, read_images
from export.lowering.quantise import activations
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.progress import Progress

Method = Literal["percentile", "entropy", "max"]
Tool = Literal["onnxruntime", "modelopt"]
FEW = 32
"""Fewer images than this say little about the ranges; a warning is given."""
BATCH = 8
"""Images at a time: what enters every layer of a ViT-B for one image is 40 MB."""


@dataclass(frozen=True)
class Settings:
    """Where the ranges come from."""

    folder: Path
    """Person crops like those of the cameras; a few hundred, other than those of an evaluation."""
    method: Method = "percentile"
    percentile: float = 99.99
    """Share of the absolute values, in percent, that is represented without clipping ("percentile")."""
    most: int = 300
    """Images taken, evenly spread over the folder."""
    tool: Tool | None = None
    """None: modelopt where it is installed and knows the method, onnxruntime otherwise."""

    def chosen(self) -> list[Path]:
        """The images that are calibrated on."""
        return evenly(find_images(self.folder), self.most)

    def check(self) -> None:
        """Raise UserError for a folder without images and numbers that make no sense."""
        find_images(self.folder)
        if not 50 <= self.percentile <= 100:
            raise UserError(f"--percentile {self.percentile} must lie between 50 and 100; 99.99 is usual")
        if self.most < 1:
            raise UserError(f"--most {self.most} must be at least 1")
        if self.method not in get_args(Method):
            raise UserError(f"--method {self.method} must be one of {', '.join(get_args(Method))}")
        if self.tool == "modelopt" and self.method == "percentile":
            raise UserError("modelopt knows no percentiles; choose --method entropy or --tool onnxruntime")


@dataclass(frozen=True)
class Calibration:
    """The largest absolute value to represent, for each tensor that enters a layer, and how it was found."""

    ranges: Mapping[str, float]
    tool: str
    facts: Mapping[str, Any]


def calibrate(graph: onnx.ModelProto, manifest: Manifest, settings: Settings, progress: Progress) -> Calibration:
    """Measure the ranges of an fp32 graph on the images of a folder.

    Raises UserError for an empty folder, an image that cannot be read, or a tool that is missing.
    """
    settings.check()
    paths = settings.chosen()
    tool = settings.tool or ("modelopt" if _has_modelopt() and settings.method != "percentile" else "onnxruntime")
    if tool == "modelopt" and not _has_modelopt():
        raise UserError("modelopt is not installed: pip install 'nvidia-modelopt[onnx]', or --tool onnxruntime")
    with progress.bar("read crops", len(paths)) as advance:
        pixels = read_images(paths, (manifest.input.height, manifest.input.width), advance)
    if tool == "modelopt":
        ranges, version = _with_modelopt(graph, manifest, pixels, settings), metadata.version("nvidia-modelopt")
    else:
        ranges, version = _with_onnxruntime(graph, manifest, pixels, settings, progress), onnxruntime.__version__
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    facts: dict[str, Any] = {"method": settings.method, "images": len(paths), "sha256": digest}
    if settings.method == "percentile":
        facts["percentile"] = settings.percentile
    return Calibration(ranges, f"ranges: {tool} {version}", facts)


def _with_onnxruntime(
    graph: onnx.ModelProto, manifest: Manifest, pixels: Pixels, settings: Settings, progress: Progress
) -> dict[str, float]:
    """Histograms of onnxruntime.quantization over what enters the layers, a batch of images at a time."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    names = list(dict.fromkeys(activations(graph).values()))
    session = open_session(_showing(graph, names).SerializeToString())
    exact = settings.method == "max"
    collector = HistogramCollector(
        method="percentile" if exact else settings.method,
        symmetric=True,
        num_bins=2048 if settings.method != "entropy" else 512,
        num_quantized_bins=128,
        percentile=settings.percentile,
        scenario="same",
    )
    largest = dict.fromkeys(names, 0.0)
    with progress.bar("calibrate", len(pixels)) as advance:
        for begin in range(0, len(pixels), BATCH):
            part = pixels[begin : begin + BATCH]
            values = session.run(names, {manifest.input.name: prepared(part, manifest)})
            for name, value in zip(names, values, strict=True):
                largest[name] = max(largest[name], float(np.abs(value).max()))
            if not exact:
                with contextlib.redirect_stdout(io.StringIO()):  # it prints a line each time
                    collector.collect(dict(zip(names, values, strict=True)))
            advance(len(part))
    if exact:
        return largest
    with contextlib.redirect_stdout(io.StringIO()):
        found = collector.compute_collection_result()
    # The ends are not always equally far out: the smaller one is cut at the smallest value seen.
    return {name: float(max(abs(ends[0]), abs(ends[1]))) for name, ends in found.items()}


def _with_modelopt(
    graph: onnx.ModelProto, manifest: Manifest, pixels: Pixels, settings: Settings
) -> dict[str, float]:
    """The ranges that NVIDIA's quantiser chooses for INT8, read from the scales in the graph it writes."""
    from modelopt.onnx.quantization import quantize

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        plain, quantised = Path(folder, "plain.onnx"), Path(folder, "quantised.onnx")
        onnx.save(graph, plain)
        level = logging.root.level
        quantize(
            str(plain), quantize_mode="int8", calibration_data={manifest.input.name: prepared(pixels, manifest)},
            calibration_method=settings.method, calibration_eps=["cpu"], op_types_to_quantize=["MatMul", "Conv"],
            high_precision_dtype="fp32", disable_mha_qdq=True, output_path=str(quantised), log_level="ERROR",
        )  # fmt: skip
        logging.root.setLevel(level)
        result = onnx.load(quantised)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in result.graph.initializer}
    scales = {
        node.input[0]: float(constants[node.input[1]].max())
        for node in result.graph.node
        if node.op_type == "QuantizeLinear" and node.input[1] in constants
    }
    wanted = dict.fromkeys(activations(graph).values())
    missing = [name for name in wanted if name not in scales]
    if missing:
        raise UserError(f"modelopt chose no range for {missing[0]}; use --tool onnxruntime")
    return {name: scales[name] * 127 for name in wanted}


def _showing(graph: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The graph with more outputs: the tensors `names`."""
    shown = onnx.ModelProto()
    shown.CopyFrom(graph)
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(graph).graph.value_info}
    shown.graph.output.extend(known[name] for name in names)
    return shown


def _has_modelopt() -> bool:
    return importlib.util.find_spec("modelopt") is not None
