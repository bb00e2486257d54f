"""For NVIDIA DeepStream: a bundle with a float input, and the settings of its tracker and of a secondary model.

Keys after the DeepStream guide, "Gst-nvtracker" (section Re-ID) and "Gst-nvinfer". Both scale pixels as
scale * (pixel - offset), give planes, and know no standard deviation for each channel: the graph keeps its own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from export.bundle import check_target, write_bundle
from export.check_set import Agreement, read_check_set, read_identities
from export.integrations.float_input import Scaling
from export.integrations.same import float_graph
from export.manifest import MODEL, Input, Manifest
from export.precisions import PRECISIONS
from pat.base.errors import UserError

TRACKER, SECONDARY = "tracker_reid.yml", "secondary_reid.txt"
PLAN = "model.plan"
BATCH = 32
_MODES = {32: 0, 16: 1, 8: 2}
"""network-mode by bits. It matters only where DeepStream builds the engine itself; types are in the graph."""


def write_deepstream(bundle: str | Path, out: str | Path) -> Agreement:
    """Write the folder `out`: a bundle that `build_trt.py` takes, and the two settings files.

    Raises UserError for a bundle that TensorRT does not take, Failure where the new graph says something else.
    """
    manifest, out = Manifest.load(bundle), check_target(out)
    if "tensorrt" not in manifest.backends:
        raise UserError(f"{bundle} was written for {', '.join(manifest.backends)}, and DeepStream runs TensorRT")
    size = manifest.input
    graph, found = float_graph(manifest, size.name, Scaling(), "DeepStream")  # 0 to 255, as the graph wants them
    described = dataclasses.replace(
        manifest,
        input=Input(size.name, "float32", "NCHW", size.height, size.width),
        checks=(*manifest.checks, f"float input for DeepStream: {found.sentence()}"),
    )
    files = {TRACKER: tracker(described).encode(), SECONDARY: secondary(described).encode()}
    inputs, embeddings = read_check_set(manifest)
    write_bundle(out, described, graph.SerializeToString(), inputs, embeddings, files, read_identities(manifest))
    return found


def tracker(manifest: Manifest) -> str:
    """The ReID block of NvDCF (re-association) and NvDeepSORT."""
    size = manifest.input
    return f"""\
# Put this block into the tracker's configuration (ll-config-file), in place of its own ReID block. Relative paths
# count from that file. NvDeepSORT: reidType 1.
ReID:
  reidType: 2
  batchSize: {BATCH}
  workspaceSize: 1000
  reidFeatureSize: {manifest.output.size}
  reidHistorySize: 100
  inferDims: [3, {size.height}, {size.width}]
  networkMode: {_MODES[PRECISIONS[manifest.precision.name].bits]}
  inputOrder: 0              # NCHW
  colorFormat: 0             # RGB
  offsets: [0.0, 0.0, 0.0]   # mean, standard deviation and division by 255 are in the graph
  netScaleFactor: 1.0
  keepAspc: 0
  addFeatureNormalization: 0 # unit length already
  outputReidTensor: 1
  onnxFile: {MODEL}
  modelEngineFile: {PLAN}
"""


def secondary(manifest: Manifest) -> str:
    """The settings of nvinfer as a secondary model on the people of a detector."""
    size = manifest.input
    return f"""\
# nvinfer on the boxes of a primary detector; the vector is the tensor "{manifest.output.name}" of
# NvDsInferTensorMeta.
[property]
gpu-id=0
process-mode=2
network-type=100
output-tensor-meta=1
gie-unique-id=2
operate-on-gie-id=1
operate-on-class-ids=0
onnx-file={MODEL}
model-engine-file={PLAN}
batch-size={BATCH}
network-mode={_MODES[PRECISIONS[manifest.precision.name].bits]}
infer-dims=3;{size.height};{size.width}
network-input-order=0
model-color-format=0
net-scale-factor=1.0
offsets=0.0;0.0;0.0
maintain-aspect-ratio=0
scaling-filter=2
input-object-min-width=16
input-object-min-height=32
output-blob-names={manifest.output.name}
"""
