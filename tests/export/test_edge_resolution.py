"""What a Jetson installs resolves for it from wheels: aarch64, Python 3.10 (JetPack 6) and 3.12 (JetPack 7).

Asks the package index that uv is configured for (UV_DEFAULT_INDEX); nothing is downloaded but metadata.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
SOURCE_ONLY = ("pycuda", "pytools")
"""PyCUDA publishes no wheels: on a Jetson it is built against JetPack's CUDA, once."""
PLATFORMS = {"3.10": "aarch64-manylinux_2_35", "3.12": "aarch64-manylinux_2_39"}
"""The C library of Ubuntu 22.04 under JetPack 6, and of Ubuntu 24.04 under JetPack 7."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("uv") is None, reason="uv is not installed"),
]


@pytest.mark.parametrize("python", ["3.10", "3.12"])
@pytest.mark.parametrize("extra", ["", *(name for name in ("deploy", "jetson", "service") if name in EXTRAS)])
def test_wheels_exist_for_everything_that_a_jetson_installs(extra, python, tmp_path):
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-cache", "--python-version", python]
    command += ["--python-platform", PLATFORMS[python], "--only-binary", ":all:"]
    for name in SOURCE_ONLY:
        command += ["--no-binary", name]
    command += ["--extra", extra] if extra else []
    result = subprocess.run([*command, str(ROOT / "pyproject.toml")], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    names = {line.split("==")[0] for line in result.stdout.splitlines() if "==" in line}
    assert "numpy" in names
    assert not names & {"torch", "timm", "triton"}
