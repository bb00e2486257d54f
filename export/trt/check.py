"""Running a fresh engine on the bundle's check set, before it may be used.

An engine can be wrong without a word: TensorRT up to 10.16.1 gave silently wrong fused fp16 attention for a vision
transformer on sm_120 (NVIDIA/TensorRT issue 4837).
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.check_set import Agreement, Vectors, compare, gate_of, read_check_set, thresholds_of
from export.manifest import Manifest
from export.precisions import Gate
from export.trt.device import Gpu
from export.trt.files import write_engine
from pat.base.errors import Failure, UserError

if TYPE_CHECKING:
    from deploy.runtime.session import Runtime


@dataclass(frozen=True)
class Checked:
    """What came of the check; `engine.json` holds it under `checked`."""

    ran: bool
    passed: bool | None = None
    """None when it was not run."""
    why: str = ""
    """Why it was not run, or what was wrong."""
    gate: Mapping[str, float] = field(default_factory=dict)
    """The limits."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """The figures on the check set, by the names of the gate."""
    figures: str = ""
    """The same for the reader."""

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """One line for the reader."""
        if not self.ran:
            return f"the engine was NOT run: {self.why}"
        if not self.passed:
            return f"the engine FAILED on the check set: {self.why}"
        return f"passed on the check set, {self.figures}"


def why_not_run(manifest: Manifest | None, gpu: Gpu | None, targets: tuple[int, ...]) -> str | None:
    """What stands in the way of running the engine on this machine, or None when nothing does."""
    if gpu is None:
        return "this machine has no GPU; check it on the target with export/verify.py"
    if targets and gpu.capability not in targets:
        return f"it was built for {', '.join(f'sm_{each}' for each in targets)}, this machine has {gpu}"
    if manifest is None:
        return "a bare ONNX file has no check set; give the bundle folder instead"
    for module, remedy in (
        ("deploy.runtime.tensorrt", "this copy of the project lacks it"),
        ("pycuda", "pip install pycuda"),
        ("PIL", "pip install pillow"),
    ):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed ({remedy})"
    return None


def check_engine(manifest: Manifest, plan: bytes, facts: dict[str, Any]) -> Checked:
    """Run an engine that is not published yet on the check set and compare it with the PyTorch model.

    It runs in batches of every profile, and must pass in each. `facts` are those of engine.json so far.
    Raises UserError when the check set cannot be read.
    """
    from deploy import runtime  # here: a machine without a GPU need not have its parts
    from deploy.runtime.session import NotFinite

    images, expected = read_check_set(manifest)
    gate = gate_of(manifest)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.plan"
        write_engine(path, plan, facts)
        try:
            with runtime.open(manifest.folder, backend="tensorrt", plan=path, preprocess="cpu") as session:
                found = [_in_batches(session, images, size) for size in _batches(facts, len(images))]
        except NotFinite as error:
            return Checked(ran=True, passed=False, why=str(error), gate=asdict(gate))
        except (UserError, Failure) as error:  # no PyCUDA, no memory: that says nothing of the engine
            return Checked(ran=False, why=str(error))
    checked = [judge(compare(expected, each, thresholds_of(manifest)), gate) for each in found]
    return next((each for each in checked if not each.passed), checked[-1])


def _batches(facts: Mapping[str, Any], count: int) -> list[int]:
    """Sizes that use every profile of the engine: each has kernels of its own, and one alone may be wrong."""
    return sorted({min(batch, count) for profile in facts["profiles"] for batch in profile})


def _in_batches(session: Runtime, images: NDArray[np.uint8], size: int) -> Vectors:
    return np.concatenate([session.embed(images[begin : begin + size]) for begin in range(0, len(images), size)])


def judge(agreement: Agreement, gate: Gate) -> Checked:
    """Does the agreement with the PyTorch model pass the gate?"""
    missed = agreement.misses(gate)
    return Checked(
        ran=True,
        passed=not missed,
        why=missed,
        gate=asdict(gate),
        measured=agreement.summary(),
        figures=agreement.sentence(),
    )
