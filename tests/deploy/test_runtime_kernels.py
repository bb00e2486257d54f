"""The compiled crop kernels of a bundle: from `pat export` to where the runtime finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bundles import ROOT, projection
from deploy.runtime.gpu_crops import KernelFile
from export.crop_kernels import carried, chosen_architectures, compile_kernels
from export.manifest import Manifest
from export.precision import Request, lower_bundle
from kernels.compiler import ARCHITECTURES
from kernels.crop_resize.triton import configuration
from pat.base.errors import UserError
from pat.config import ModelConfig
from pat.model import PartAwareTransformer
from pat.model.weights import save

pytest.importorskip("triton")


def test_export_puts_a_kernel_of_the_models_size_into_the_bundle(tmp_path):
    config = ModelConfig(
        backbone="vit_tiny_patch16_224", image_size=(40, 24), patch_size=8, width=64, depth=1, heads=1
    )
    save(PartAwareTransformer(config), tmp_path / "model.safetensors")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PAT_KERNEL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pat.cli", "export", "model.safetensors", "bundle", "--kernels", "sm_87"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    manifest = Manifest.load(tmp_path / "bundle")
    file = KernelFile.find(manifest, 87)
    assert file.cubin[:4] == b"\x7fELF"
    assert file.facts["arch"] == "sm_87"
    assert file.programs() == 3  # 40 x 24 in tiles of 16 x 32
    with pytest.raises(UserError, match=r"no kernel crop_resize_rgb_u8.sm_86 .* --kernels sm_86"):
        KernelFile.find(manifest, 86)
    lowered = lower_bundle(manifest.folder, tmp_path / "fp16", Request("fp16"))
    assert carried(lowered) == carried(manifest)
    assert len(carried(lowered)) == 2


def test_what_is_compiled_by_default(monkeypatch):
    assert chosen_architectures(("none",)) == ((), "")
    assert chosen_architectures(("sm_87", "sm_90")) == (("sm_87", "sm_90"), "")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert chosen_architectures(("all",)) == (
        (),
        "TRITON_INTERPRET=1 is set: kernels are interpreted, not compiled; unset it",
    )
    monkeypatch.delenv("TRITON_INTERPRET")
    assert chosen_architectures(("all",)) == (ARCHITECTURES, "")


def test_mistakes_are_named(tmp_path, monkeypatch):
    manifest = Manifest.load(projection(tmp_path / "bundle"))
    with pytest.raises(UserError, match="there are no kernels for sm_75; choose from sm_80"):
        compile_kernels(manifest, ["sm_75"])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(UserError, match=r"TRITON_INTERPRET=1 is set.*--kernels none"):
        compile_kernels(manifest, ["sm_87"])


def test_crops_that_begin_at_odd_addresses_are_not_called_aligned():
    assert configuration("rgb", "u8", (256, 128)).aligned == {"boxes", "crops"}
    assert configuration("rgb", "u8", (252, 126)).aligned == {"boxes"}
    assert configuration("rgb", "fp32", (252, 126)).aligned == {"boxes", "crops"}


def test_facts_that_are_damaged_are_refused(tmp_path):
    name = "crop_resize_rgb_u8.sm_87"
    facts = {"arguments": [], "tile": {}, "cubin_sha256": ""}
    bundle = projection(
        tmp_path / "bundle", "uint8", {f"{name}.cubin": b"cubin", f"{name}.json": json.dumps(facts).encode()}
    )
    with pytest.raises(
        UserError, match=r"does not fit this bundle \(OUT_HEIGHT, OUT_WIDTH, BICUBIC, NV12, .*cubin"
    ):
        KernelFile.find(Manifest.load(bundle), 87)
