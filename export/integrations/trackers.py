"""For trackers that load a ReID model as ONNX: BoxMOT and ultralytics.

Both give float32 planes [batch, 3, H, W] in RGB at the size that the graph declares, take the first output, and
scale otherwise: BoxMOT (`boxmot/reid/core/crops.py`, 25.0) by ImageNet's mean and standard deviation, ultralytics
(`ultralytics/trackers/utils/reid.py`, 8.4) by 1/255 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from export.check_set import Agreement
from export.integrations.float_input import Scaling
from export.integrations.same import float_graph
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.files import write_bytes

Tracker = Literal["boxmot", "ultralytics"]
SCALINGS: Mapping[Tracker, Scaling] = {
    "boxmot": Scaling(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ultralytics": Scaling(1 / 255),
}


def write_tracker_model(bundle: str | Path, out: str | Path, tracker: Tracker) -> Agreement:
    """Write the ONNX file `out` for a tracker.

    Raises UserError for another ending, Failure where the new graph says something else.
    """
    manifest, out = Manifest.load(bundle), Path(out)
    if out.suffix != ".onnx" or out.is_dir():
        raise UserError(f"{out}: name the file to write, ending in .onnx, by which {tracker} knows the format")
    graph, found = float_graph(manifest, "images", SCALINGS[tracker], tracker)
    write_bytes(out, graph.SerializeToString())
    return found
