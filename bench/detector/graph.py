"""From a trained detector to what ships: an ONNX graph with weights of float16, and its manifest."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import onnx
import torch

from bench.detector.network import MEAN, STD, AsYolox, PersonDetector, fused
from deploy.detect.families import FAMILIES
from deploy.detect.manifest import MANIFEST, DetectorInput, DetectorManifest
from deploy.detect.onnx import OnnxDetector
from export.manifest import sha256
from export.storage import halve_weights
from pat.base.files import write_text, written_whole

SIZE = 384, 640
"""Height and width of the input."""
MODEL = "pat-detector.onnx"
INPUT, OUTPUT = "images", "predictions"
THRESHOLD = 0.6
OVERLAP = 0.4


def export_detector(detector: PersonDetector, folder: Path, size: tuple[int, int] = SIZE) -> DetectorManifest:
    """Write the graph and its manifest, whose rows are those of a YOLOX with one class; any number of images."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            AsYolox(fused(detector)).eval(), (torch.zeros(2, 3, *size),), buffer,  # type: ignore[arg-type]
            dynamo=False, opset_version=18, input_names=[INPUT], output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )  # fmt: skip
    graph = onnx.load_from_string(buffer.getvalue())
    halve_weights(graph)
    with written_whole(folder / MODEL) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    manifest = DetectorManifest(
        family="yolox", model=MODEL, sha256=sha256(folder / MODEL),
        input=DetectorInput(INPUT, *size, "RGB", "letterbox", 255.0, (MEAN,) * 3, (STD,) * 3),
        outputs=dict.fromkeys(FAMILIES["yolox"].outputs, OUTPUT), boxes="decoded", classes=1, person=0,
        threshold=THRESHOLD, overlap=OVERLAP, licence="Apache-2.0", path=folder / MANIFEST,
    )  # fmt: skip
    OnnxDetector(manifest)  # refuses what does not fit
    write_text(folder / MANIFEST, manifest.to_json())
    return manifest
