"""What is left of a build: the plan, engine.json beside it, and a table for the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.runtime.plan import FORMAT
from export.manifest import sha256
from export.trt.build import BuildOptions, Network
from export.trt.check import Checked
from export.trt.device import Gpu
from export.trt.files import write_engine
from export.trt.flavour import Flavour
from export.trt.inspect import Inspection
from pat.base.errors import Failure
from pat.base.progress import say


def network_facts(onnx: Path, network: Network, precision: str) -> dict[str, Any]:
    """What engine.json says about the network that was built."""
    return {
        "format": FORMAT,
        "source": {"file": onnx.name, "sha256": sha256(onnx)},
        "precision": precision,
        "input": _tensor(network.input),
        "output": _tensor(network.output),
    }


def engine_facts(inspection: Inspection) -> dict[str, Any]:
    """What engine.json says about the engine itself."""
    return {
        "attention": inspection.attentions,
        "fused_attention": inspection.fused_attention,
        "matmuls": [vars(product) for product in inspection.products],
        "fell_back": [product.onnx for product in inspection.fell_back()],
        "layers": [vars(layer) for layer in inspection.layers],
        "weights_bytes": inspection.weights_bytes,
        "scratch_bytes": inspection.scratch_bytes,
    }


def build_facts(flavour: Flavour, gpu: Gpu | None, options: BuildOptions, seconds: float) -> dict[str, Any]:
    """What engine.json says about how and for which device the engine was built."""
    targets = ", ".join(f"sm_{capability}" for capability in options.targets)
    chosen = {name: value for name, value in vars(options).items() if value not in (None, False, ())}
    return {
        "tensorrt": flavour.version,
        "flavour": flavour.name,
        "device": targets or (str(gpu) if gpu else "the builder's default targets"),
        "profiles": [list(batches) for batches in options.profiles],
        "options": {name: str(value) for name, value in chosen.items() if name != "profiles"},
        "seconds": round(seconds, 1),
    }


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}


def publish(path: Path, plan: bytes, facts: dict[str, Any], checked: Checked, accept: bool) -> None:
    """Write the plan and its facts beside it. A failed engine gets another name, and only when accepted.

    Raises Failure for a failed engine that is not accepted, UserError when the disk refuses.
    """
    if checked.passed is False:
        if not accept:
            raise Failure(
                f"{checked.sentence()}; nothing was written (--accept writes it under another name)"
            )
        path = path.with_name(f"{path.stem}.rejected{path.suffix}")
    beside = write_engine(path, plan, facts)
    say(f"wrote {path} ({len(plan) / 1e6:.1f} MB) and {beside.name}")


def report(
    inspection: Inspection, options: BuildOptions, precision: str, seconds: float, checked: Checked
) -> None:
    """The inspection as a table on standard output, warnings on standard error."""
    precisions = ", ".join(f"{count} in {name}" for name, count in inspection.precisions().most_common())
    fell_back = ", ".join(product.onnx for product in inspection.fell_back())
    rows = {
        "built in": f"{seconds:.1f} s",
        "precision": precision,
        "batches": profiles_text(options),
        "attention": f"{inspection.fused_attention} of {inspection.attentions} fused",
        "matrix products": precisions or "unknown: the builder gave no detailed report",
        "fell back": fell_back or "none",
        "layers": str(len(inspection.layers)),
        "weights": _megabytes(inspection.weights_bytes),
        "scratch": _megabytes(inspection.scratch_bytes),
        "checked": checked.sentence(),
    }
    print("\n".join(f"{name:<16}{value}" for name, value in rows.items()), flush=True)
    if inspection.fused_attention < inspection.attentions:
        advice = "fp32 has no fused kernel, use fp16 or bf16" if precision == "fp32" else "see export/README.md"
        say(
            f"warning: {inspection.attentions - inspection.fused_attention} of {inspection.attentions} attentions "
            f"are not fused, the engine will be slower ({advice})"
        )
    if not checked.ran:
        say(f"warning: {checked.sentence()}")


def profiles_text(options: BuildOptions) -> str:
    """Profiles as `min/opt/max`."""
    return ", ".join("/".join(map(str, batches)) for batches in options.profiles)


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.1f} MB"
