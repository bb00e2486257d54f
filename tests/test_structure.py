"""What DESIGN promises of the whole: import rules, what an installation holds, what loads without torch."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from fresh import ROOT, python, without
from pat.cli import COMMANDS


def test_import_rules():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout


def test_no_circle_between_files():
    """Late imports inside functions count too."""
    packages = ("pat", "kernels", "export", "deploy")
    graph = grimp.build_graph(*packages, cache_dir=None, exclude_type_checking_imports=True)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("pat", "numpy PIL tyro"),
        ("deploy.detect", "cv2 onnxruntime numpy.f2py"),
        ("deploy.runtime", "kernels numpy PIL scipy cv2 av onnx onnxruntime numkong trackers tensorrt pycuda"),
    ],
)
def test_an_import_loads_nothing_heavy(module, heavy):
    """Of the runtime the figures are in bench/test_runtime_overhead.py."""
    names = ["torch", "timm", "triton", *heavy.split()]
    done = python("-c", f"import sys, {module}; print([m for m in {names!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--data.source", "x"],
        ["slice", "model.safetensors", "{tmp}/out", "--images", "x"],
        ["distill", "model.safetensors", "--data.source", "x"],
        ["demo", "--out", "{tmp}"],
        ["export", "model.safetensors", "{tmp}/out"],
        ["import-weights", "weights.pth", "{tmp}/model.safetensors"],
        ["ablate", "components"],
    ],
    ids=lambda words: words[0],
)
def test_commands_without_torch_say_what_to_install(words, tmp_path):
    words = [word.format(tmp=tmp_path) for word in words]
    done = python("-c", without("torch", "timm", "safetensors") + f"from pat.cli import main; main({words!r})")
    assert done.returncode == 2
    assert "pip install 'pat-reid[train]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_needs_no_torch():
    commands = [*COMMANDS, "ablate labels", "ablate shifts"]
    code = without("torch", "timm", "safetensors", "triton") + (
        "import contextlib\nfrom pat.cli import main\n"
        f"for words in ([], *(name.split() for name in {commands!r})):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([*words, '--help'])\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    for name in ("", *commands):
        assert f"usage: pat {name}" in done.stdout, done.stderr


def test_the_camera_process_needs_no_torch():
    process = "import deploy.pipeline, deploy.gallery, deploy.detect.hog, deploy.runtime.onnxruntime"
    done = python("-c", without("torch", "timm", "triton", "kernels") + process)
    assert done.returncode == 0, done.stderr
