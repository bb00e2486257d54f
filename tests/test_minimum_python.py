"""The parts that run on a camera or a Jetson keep to Python 3.10, which JetPack 6 has."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDS_TORCH = {"to_onnx.py", "trace.py"}
EDGE = sorted(
    path
    for folder in ("deploy", "export")
    for path in (ROOT / folder).rglob("*.py")
    if path.name not in NEEDS_TORCH
)


@pytest.mark.parametrize("path", EDGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_syntax_is_python_3_10(path):
    ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 10))


def newer_than_3_10(*paths: Path) -> subprocess.CompletedProcess[str]:
    """vermin's answer: exit code 0 when Python 3.10 runs the files, else what needs more."""
    command = [
        sys.executable,
        "-c",
        "from vermin import main; main()",
        "--target=3.10-",
        "--no-tips",
        "--violations",
    ]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True)


def test_the_standard_library_used_is_that_of_python_3_10():
    pytest.importorskip("vermin")
    assert len(EDGE) > 10
    result = newer_than_3_10(*EDGE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_check_notices_newer_python(tmp_path):
    pytest.importorskip("vermin")
    (tmp_path / "newer.py").write_text("import tomllib\n")
    result = newer_than_3_10(tmp_path / "newer.py")
    assert result.returncode == 1
    assert "tomllib" in result.stdout
