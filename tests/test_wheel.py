"""A built wheel: what it holds, and that it works away from the clone, where nothing else is installed."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
UV = shutil.which("uv", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Standard output of a command that has to succeed, away from the clone."""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=surroundings, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves a build folder behind, and stale files in it get into wheels."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", ".", "source", cwd=folder)
    return next(folder.glob("*.whl"))


IMPORT_ALL = """
import importlib, pathlib, sys
from deploy.shipped import shipped_bundle
root, skipped = pathlib.Path(sys.argv[1]), sys.argv[2:]
packages = [".".join(file.parent.relative_to(root).parts)
            for top in ("pat", "kernels", "export", "deploy") for file in (root / top).rglob("__init__.py")]
wanted = [name for name in sorted(packages) if not any(f"{name}.".startswith(f"{each}.") for each in skipped)]
for name in wanted:
    assert pathlib.Path(importlib.import_module(name).__file__).is_relative_to(root), name
assert shipped_bundle() == root / "models" / "pat-people"
print(len(wanted))
"""
"""Imports every package under a folder, but those under the names that follow it."""


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.jetson"])
def test_an_image_is_made_from_all_that_goes_into_the_wheel(name):
    text = (ROOT / "deploy" / "docker" / name).read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for word in line.split()}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", "pat", "kernels", "export", "deploy", "models"}


def test_it_holds_the_packages_their_data_and_the_models_and_nothing_else(wheel, tmp_path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "pat", "kernels", "export", "deploy", "models",
    }  # fmt: skip
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    tracked = run("git", "ls-files", "pat", "kernels", "export", "deploy", cwd=ROOT).split()
    aside = ("README.md", "deploy/docker/", "deploy/systemd/")  # documents, and what sets a machine up
    shipped = run("git", "ls-files", "models", cwd=ROOT).split()
    assert {"models/pat-people/model.onnx", "models/pat-detector/pat-detector.onnx"} <= set(shipped) <= set(names)
    missing = {each for each in tracked if not any(part in each for part in aside)}.difference(names)
    assert not missing


def test_every_package_in_it_can_be_imported(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    assert int(run(sys.executable, "-c", IMPORT_ALL, tmp_path, cwd=tmp_path, PYTHONPATH=str(tmp_path))) > 20


@pytest.mark.slow
def test_it_runs_where_only_the_edge_dependencies_are(wheel, tmp_path):
    """In an environment of its own, without torch."""
    if UV is None:
        pytest.skip("uv is not installed")
    run(UV, "venv", "--quiet", "--python", sys.executable, "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    run(UV, "pip", "install", "-q", "--python", python, "-c", pins, f"{wheel}[deploy]", cwd=tmp_path)
    assert "usage: pat" in run(python.with_name("pat"), "--help", cwd=tmp_path)
    assert "usage: pat camera" in run(python.with_name("pat"), "camera", "--help", cwd=tmp_path)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    others = ("pat.model", "pat.losses", "pat.training", "pat.ablation", "pat.synthetic.people")
    others += ("kernels.part_attention", "kernels.nearest_parts", "kernels.crop_resize")
    assert int(run(python, "-c", IMPORT_ALL, site, *others, cwd=tmp_path)) > 10

    with np.load(ROOT / "models" / "pat-people" / "check_set.npz") as known:
        Image.fromarray(known["inputs"][0]).save(tmp_path / "crop.png")
        expected = known["embeddings"][0]
    pat = python.with_name("pat")
    run(pat, "embed", "crop.png", "--out", "vectors.npz", "--cache", tmp_path / "cache", cwd=tmp_path)
    with np.load(tmp_path / "vectors.npz") as found:
        assert float(found["vectors"][0] @ expected) > 0.9999
