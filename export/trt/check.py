"""Running a fresh engine on the bundle's check set, before it may be used.

An engine can be wrong without a word: TensorRT up to 10.16.1 gave silently wrong fused fp16 attention for a vision
transformer on sm_120 (NVIDIA/TensorRT issue 4837).
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.runtime.check_set import read_check_set, target
from export.compare import compare
from export.manifest import Manifest
from export.trt.device import Gpu
from export.trt.files import write_engine
from pat.base.errors import Failure, UserError


@dataclass(frozen=True)
class Checked:
    """What came of the check; `engine.json` holds it under `checked`."""

    ran: bool
    passed: bool | None = None
    """None when it was not run."""
    why: str = ""
    """Why it was not run, or what was wrong."""
    images: int = 0
    target: float = 0.0
    worst_cosine: float | None = None
    mean_cosine: float | None = None
    same_first: float | None = None
    """Share of images whose nearest other image is the PyTorch model's."""

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        """One line for the reader."""
        if not self.ran:
            return f"the engine was NOT run: {self.why}"
        if self.worst_cosine is None:
            return f"the engine FAILED on the check set: {self.why}"
        verdict = "passed" if self.passed else "FAILED"
        return (
            f"{verdict} on {self.images} images: worst cosine {self.worst_cosine:.5f}, "
            f"mean {self.mean_cosine:.5f}, {self.target} needed; same nearest image for {self.same_first:.0%}"
        )


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

    `facts` are those of engine.json so far. Raises UserError when the check set cannot be read.
    """
    from deploy import runtime  # here: a machine without a GPU need not have its parts
    from deploy.runtime.session import NotFinite

    images, expected = read_check_set(manifest)
    needed = target(manifest)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.plan"
        write_engine(path, plan, facts)
        try:
            with runtime.open(manifest.folder, backend="tensorrt", plan=path, preprocess="cpu") as session:
                found = session.embed(images)
        except NotFinite as error:
            return Checked(ran=True, passed=False, why=str(error), images=len(images), target=needed)
        except (UserError, Failure) as error:  # no PyCUDA, no memory: that says nothing of the engine
            return Checked(ran=False, why=str(error))
    return judge(expected, found, needed)


def judge(expected: Any, found: Any, target: float) -> Checked:
    """Compare embeddings [N, D]; every cosine must reach `target`. Not finite counts as cosine -1."""
    agreement = compare(expected, found)
    passed = agreement.worst >= target
    return Checked(
        ran=True,
        passed=passed,
        why="" if passed else f"cosine {agreement.worst:.5f} is below {target}",
        images=len(expected),
        target=target,
        worst_cosine=round(agreement.worst, 7),
        mean_cosine=round(float(agreement.cosines.mean()), 7),
        same_first=agreement.same_first,
    )
