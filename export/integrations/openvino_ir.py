"""For programs that load OpenVINO's own format: model.xml and model.bin."""

from __future__ import annotations

from pathlib import Path

from deploy.runtime.crops import prepared
from export.check_set import Agreement
from export.integrations.same import check_same
from export.manifest import MODEL, Manifest
from pat.base.errors import UserError
from pat.base.files import folder_written_whole


def write_openvino(bundle: str | Path, out: str | Path) -> Agreement:
    """Write the folder `out` with model.xml and model.bin, weights as they are in the graph.

    Raises UserError without OpenVINO or for a folder that is there, Failure where the result says something else.
    """
    try:
        import openvino
    except ImportError as error:
        raise UserError(f"OpenVINO is not installed ({error}): pip install 'pat-reid[openvino]'") from error
    manifest, out = Manifest.load(bundle), Path(out)
    if out.exists():
        raise UserError(f"{out} exists; name a new folder")
    core = openvino.Core()
    with folder_written_whole(out) as draft:
        openvino.save_model(core.read_model(manifest.file(MODEL)), draft / "model.xml", compress_to_fp16=False)
        model = core.compile_model(draft / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return check_same(manifest, lambda pixels: model(prepared(pixels, manifest))[0], "OpenVINO's model")
