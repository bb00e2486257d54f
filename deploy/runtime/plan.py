"""A plan and engine.json beside it: is it the engine of this bundle, this TensorRT and this GPU?

A plan is code that the GPU (and, when allowed, the host) executes, so nothing of it is read before its hash fits.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.runtime.trt_library import Library
from export.manifest import MODEL, Manifest
from pat.base.errors import UserError
from pat.base.mapping import read_mapping

PLAN = "model.plan"
FORMAT = "pat-reid-engine/1"
DTYPES = {"uint8": "UINT8", "float32": "FLOAT"}
"""The manifest's types in TensorRT's words."""


def sidecar(plan: Path) -> Path:
    """Where the facts of a plan are: engine.json beside model.plan, NAME.engine.json beside NAME.plan."""
    return plan.with_name("engine.json" if plan.name == PLAN else f"{plan.stem}.engine.json")


@dataclass(frozen=True)
class EnginePlan:
    """A plan file that is whole and was made from this bundle's graph."""

    path: Path
    content: bytes = field(repr=False)
    facts: dict[str, Any]
    """What engine.json says."""
    rebuild: str
    """The remedy for nearly everything."""

    @classmethod
    def find(cls, manifest: Manifest, path: Path | None) -> EnginePlan:
        """The plan beside the bundle's graph, or another. Raises UserError for a damaged or foreign one."""
        path = path or manifest.folder / PLAN
        rebuild = f"run python export/build_trt.py {manifest.folder} on this device"
        if not path.is_file():
            raise UserError(f"{path} does not exist; {rebuild}")
        facts = _read(sidecar(path), rebuild)
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != facts["plan"].get("sha256"):
            raise UserError(
                f"{path} is not the plan that {sidecar(path).name} describes (SHA-256 differs); {rebuild}"
            )
        if facts["source"].get("sha256") != manifest.files[MODEL].sha256:
            raise UserError(f"{path} was built from another model than {manifest.folder / MODEL}; {rebuild}")
        return cls(path, content, facts, rebuild)

    def check_library(self, library: Library) -> None:
        """Raises UserError unless this TensorRT may load the plan."""
        built, here = f"{self.facts['flavour']} {self.facts['tensorrt']}", f"{library.name} {library.version}"
        if built != here:
            raise UserError(f"{self.path} was built with {built}, this is {here}; {self.rebuild}")

    def check_gpu(self, name: str, capability: int) -> None:
        """Raises UserError unless the plan is for this GPU, as far as engine.json tells."""
        device, compatible = str(self.facts["device"]), self.facts["options"].get("hardware_compatible")
        here = f"{name} (sm_{capability})"
        targets = [int(each) for each in re.findall(r"sm_(\d+)", device)]
        if compatible == "AMPERE_PLUS":
            fits = capability >= 80
        elif compatible or (self.facts["flavour"] == "tensorrt-rtx"):
            fits = capability in targets or not targets  # RTX: without targets it compiles for what it finds
        else:
            fits = device == here
        if not fits:
            raise UserError(f"{self.path} was built for {device}, this is {here}; {self.rebuild}")

    def check_tensors(self, tensors: list[dict[str, Any]], manifest: Manifest) -> None:
        """Raises UserError unless the engine's tensors are those the manifest describes."""
        wanted = manifest.input
        size = [3, wanted.height, wanted.width] if wanted.layout == "NCHW" else [wanted.height, wanted.width, 3]
        made = manifest.output
        expected: list[dict[str, Any]] = [
            {"name": wanted.name, "mode": "INPUT", "dtype": DTYPES[wanted.dtype], "shape": size},
            {"name": made.name, "mode": "OUTPUT", "dtype": DTYPES[made.dtype], "shape": [made.size]},
        ]
        for found, described in zip(tensors, expected, strict=False):
            for fact, value in described.items():
                if found[fact] != value:
                    raise UserError(
                        f"{self.path}: the {fact} of the {described['mode'].lower()} is {found[fact]}, "
                        f"the manifest says {value}; {self.rebuild}"
                    )
        if len(tensors) != len(expected):
            names = ", ".join(str(each["name"]) for each in tensors)
            raise UserError(f"{self.path} has the tensors {names}, expected two; {self.rebuild}")


def _read(path: Path, rebuild: str) -> dict[str, Any]:
    """engine.json, with what is needed of it. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path} is missing, so nobody knows what the plan is; copy it too, or {rebuild}")
    facts = read_mapping(path, remedy=rebuild)
    if facts.get("format") != FORMAT:
        raise UserError(f"{path} does not have the format {FORMAT!r}; {rebuild}")
    kinds = {"plan": dict, "source": dict, "options": dict, "tensorrt": str, "flavour": str, "device": str}
    for name, kind in kinds.items():
        if not isinstance(facts.get(name), kind):
            raise UserError(f"{path} says {facts.get(name)!r} for {name}; {rebuild}")
    return facts
