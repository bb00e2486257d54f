"""For NVIDIA's Triton Inference Server: a model repository with the bundle's graph, and its engine."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.runtime.crops import prepared
from deploy.runtime.plan import PLAN, EnginePlan
from export.check import read_graph, runner
from export.check_set import Agreement, read_check_set
from export.integrations.same import check_same
from export.manifest import MODEL, Manifest
from pat.base.errors import UserError
from pat.base.files import folder_written_whole

DELAY = 2000
"""Microseconds that a request waits for others to share its batch."""
CROP = "crop"
"""The warm-up's input, a crop of the check set."""


def write_repository(bundle: str | Path, out: str | Path) -> Agreement:
    """Write the model repository `out`: `reid_onnx`, and `reid_plan` where the bundle has an engine beside it.

    Raises UserError for a folder that is there already or a bundle that is none, Failure when the disk refuses.
    """
    manifest, out = Manifest.load(bundle), Path(out)
    if out.exists():
        raise UserError(f"{out} exists; name a new folder for the model repository")
    images, _ = read_check_set(manifest)
    found = check_same(manifest, runner(read_graph(str(manifest.file(MODEL))), manifest), "the graph for Triton")
    models = {"reid_onnx": ("onnxruntime_onnx", manifest.file(MODEL), 64)}
    if (manifest.folder / PLAN).is_file():
        plan = EnginePlan.find(manifest, None)
        most = max(largest for _, _, largest in plan.facts.get("profiles", [[1, 1, 1]]))
        models["reid_plan"] = ("tensorrt_plan", plan.path, most)
    with folder_written_whole(out) as draft:
        for name, (platform, file, most) in models.items():
            place = draft / name
            (place / "1").mkdir(parents=True)
            (place / "warmup").mkdir()
            shutil.copyfile(file, place / "1" / (MODEL if platform == "onnxruntime_onnx" else PLAN))
            (place / "warmup" / CROP).write_bytes(prepared(images[:1], manifest).tobytes())
            (place / "config.pbtxt").write_text(configuration(manifest, name, platform, most), encoding="utf-8")
    return found


def configuration(manifest: Manifest, name: str, platform: str, most: int) -> str:
    """config.pbtxt: the batch is not among the dimensions."""
    given, made = manifest.input, manifest.output
    size = [3, given.height, given.width] if given.layout == "NCHW" else [given.height, given.width, 3]
    kind = "TYPE_UINT8" if given.dtype == "uint8" else "TYPE_FP32"
    preferred = ", ".join(str(each) for each in (8, 16, 32) if each <= most) or str(most)
    return f"""\
name: "{name}"
platform: "{platform}"
max_batch_size: {most}
input [ {{ name: "{given.name}" data_type: {kind} dims: {size} }} ]
output [ {{ name: "{made.name}" data_type: TYPE_FP32 dims: [ {made.size} ] }} ]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {DELAY}
}}
model_warmup [ {{
  name: "a crop of the check set"
  batch_size: 1
  inputs {{
    key: "{given.name}"
    value {{ data_type: {kind} dims: {size} input_data_file: "{CROP}" }}
  }}
}} ]
"""
