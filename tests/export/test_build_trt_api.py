"""Every name and argument count that the TensorRT adapter uses, against the published bindings themselves.

TensorRT for RTX is checked wherever it is installed. TensorRT's own binding modules import without their 2 GB of
libraries once nine C symbols exist, so empty ones are compiled here. Put wheels for this Python into a folder, and
name it in PAT_TENSORRT_WHEELS:

    pip download --no-deps -d wheels tensorrt-cu12-bindings==10.3.0
    pip download --no-deps -d wheels tensorrt-cu13-bindings==11.4.0.106
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    [
        *(ROOT / "export" / "trt").glob("*.py"),
        ROOT / "export" / "build_trt.py",
        *(ROOT / "deploy" / "runtime" / name for name in ("engine.py", "trt_library.py")),
    ]
)
WHEELS = sorted(Path(os.environ.get("PAT_TENSORRT_WHEELS", "/nonexistent")).glob("tensorrt*_bindings-*.whl"))

CLASSES = {
    "builder": "Builder", "config": "IBuilderConfig", "network": "INetworkDefinition", "parser": "OnnxParser",
    "profile": "IOptimizationProfile", "layer": "ILayer", "tensor": "ITensor", "engine": "ICudaEngine",
    "cache": "ITimingCache", "inspector": "EngineInspector", "error": "ParserError", "attention": "IAttention",
    "definition": "INetworkDefinition", "runtime": "Runtime", "context": "IExecutionContext",
}  # fmt: skip
"""What a variable of this name holds, in the functions that are given the module."""
NOT_OURS = {
    "error": {"strerror"},
    "builder": {"definition", "builder", "parser"},
    "network": {"definition", "builder", "parser", "path", "input", "output"},
    "layer": {"attention", "fused_attention", "kind", "precision", "onnx"},
    "profile": {"smallest", "largest", "context"},
    "runtime": {"open"},
}
"""Attributes of Python's OSError, of our own Network, Layer and Profile, and of deploy.runtime, by variable."""
OPTIONAL = {
    "IAttentionInputLayer", "LayerType.ATTENTION_INPUT", "IAttention.decomposable", "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability",
}  # fmt: skip
"""Newer than 10.3 or of one flavour alone; the code asks with hasattr or getattr before it uses them."""


def names_used() -> dict[str, int | None]:
    """`Class.member` or `Enum.MEMBER` or `Class` -> number of arguments where it is called, else None."""
    used: dict[str, int | None] = {}
    for source in SOURCES:
        tree = ast.parse(source.read_text())
        calls = {id(node.func): len(node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)
                 and not any(isinstance(each, ast.Starred) for each in node.args)}  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in map(ast.unparse, node.bases):
                    if base.startswith("trt.I"):
                        methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
                        used |= {f"{base[4:]}.{name}": None for name in methods if name != "__init__"}
            if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
                continue
            owner = re.sub(r"\(.*\)$", "", ast.unparse(node.value))  # what a constructor gives is of its class
            owner = owner.removeprefix("flavour.").removeprefix("self.")
            if owner == "trt":
                used.setdefault(node.attr, None)
            elif owner.startswith("trt."):
                used[f"{owner[4:]}.{node.attr}"] = calls.get(id(node))
            elif owner.rpartition(".")[2] in CLASSES:
                variable = owner.rpartition(".")[2]
                if node.attr not in NOT_OURS.get(variable, ()):
                    used[f"{CLASSES[variable]}.{node.attr}"] = calls.get(id(node))
    used.pop("__version__", None)
    return used


PROBE = """
import json, sys
trt = __import__(sys.argv[1])
answers = {}
for name in json.loads(sys.stdin.read()):
    value = trt
    for part in name.split("."):
        value = getattr(value, part, None)
    answers[name] = None if value is None else (value.__doc__ or "")
print(json.dumps(answers))
"""


def documented(module: str, folder: Path | None, names: list[str]) -> dict[str, str | None]:
    """The docstrings of `names` in a binding module imported in a process of its own; None for a missing name."""
    environment = dict(os.environ)
    if folder is not None:
        environment |= {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder / "stand-ins")}
    command = [sys.executable, "-c", PROBE, module]
    result = subprocess.run(command, input=json.dumps(names), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answers: dict[str, str | None] = json.loads(result.stdout)
    return answers


def unpacked(wheel: Path, folder: Path) -> Path:
    """The wheel's module in `folder`, with libraries that hold the symbols it asks for and nothing else."""
    zipfile.ZipFile(wheel).extractall(folder)
    module = next((folder / "tensorrt_bindings").glob("tensorrt*.so"))
    dynamic = subprocess.run(["readelf", "-d", module], capture_output=True, text=True, check=True).stdout
    symbols = subprocess.run(["nm", "-D", "-u", module], capture_output=True, text=True, check=True).stdout
    wanted = re.findall(
        r"U ((?:create|get|init)\w*(?:_INTERNAL|Registry|Version|Plugins))$", symbols, re.MULTILINE
    )
    source = folder / "symbols.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in wanted))
    (folder / "stand-ins").mkdir()
    for library in re.findall(r"NEEDED.*\[(libnv[^\]]*)\]", dynamic):
        output = folder / "stand-ins" / library
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", output, source], check=True)
    return folder


def counts(signature: str) -> tuple[int, int]:
    """Fewest and most arguments after self of a signature as pybind11 documents it."""
    arguments, depth, part = [], 0, ""
    for letter in signature:
        depth += letter in "([{"
        depth -= letter in ")]}"
        if letter == "," and depth == 0:
            arguments.append(part)
            part = ""
        else:
            part += letter
    arguments = [each for each in [*arguments, part] if each.strip()][1:]
    return sum("=" not in each for each in arguments), len(arguments)


def complaints(used: dict[str, int | None], docs: dict[str, str | None]) -> Iterator[str]:
    for name, given in used.items():
        doc = docs[name]
        if doc is None:
            if name not in OPTIONAL:
                yield f"{name} does not exist"
            continue
        signatures = re.findall(rf"\b{name.rpartition('.')[2]}\((self.*)\) ->", doc)
        if given is not None and signatures:
            ranges = [counts(each) for each in signatures]
            if not any(least <= given <= most for least, most in ranges):
                yield f"{name} is called with {given} arguments, it takes {ranges}"


def test_the_names_found_are_those_that_matter():
    """The search through the source finds calls, properties, enumerations and callbacks."""
    used = names_used()
    assert used["Builder.build_serialized_network"] == 2
    assert used["IBuilderConfig.create_timing_cache"] == 1
    assert used["IExecutionContext.execute_async_v3"] == 1
    assert used["Runtime.deserialize_cuda_engine"] == 1
    assert {
        "IBuilderConfig.progress_monitor",
        "MemoryPoolType.WORKSPACE",
        "IProgressMonitor.step_complete",
    } <= set(used)
    assert len(used) > 50
    wrong = {"Builder.fly": 0, "Builder.reset": 3, "ComputeCapability": None}
    docs = {"Builder.fly": None, "Builder.reset": "reset(self: trt.Builder) -> None", "ComputeCapability": None}
    assert [each.split()[0] for each in complaints(wrong, docs)] == ["Builder.fly", "Builder.reset"]
    assert counts("self: a.B, x: List[Tuple[int, int]], y: str = None") == (1, 2)


def test_names_and_arguments_exist_in_tensorrt_for_rtx():
    pytest.importorskip("tensorrt_rtx_bindings")
    used = names_used()
    assert list(complaints(used, documented("tensorrt_rtx_bindings", None, list(used)))) == []


@pytest.mark.skipif(not WHEELS, reason="no wheels in PAT_TENSORRT_WHEELS")
@pytest.mark.skipif(not all(map(shutil.which, ("gcc", "nm", "readelf"))), reason="no C compiler and binutils")
@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: "-".join(wheel.name.split("-")[:2]))
def test_names_and_arguments_exist_in_tensorrt(wheel, tmp_path):
    used = names_used()
    docs = documented("tensorrt_bindings", unpacked(wheel, tmp_path), list(used))
    assert list(complaints(used, docs)) == []
