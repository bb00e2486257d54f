"""A GPU through PyCUDA: how errors are told, and the calls of the driver. On a GPU: test_runtime_gpu.py."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.runtime import cuda
from pat.base.errors import Failure, UserError

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"


class Refuse:
    """An import hook: PyCUDA is there, what it needs is not."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pycuda":
            raise ImportError("libcuda.so.1: cannot open shared object file")


def test_without_a_driver_the_reason_is_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "pycuda.driver", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    with pytest.raises(UserError, match=r"PyCUDA finds no NVIDIA driver \(libcuda.so.1: cannot open"):
        cuda.Gpu()


def test_without_pycuda_the_reason_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(UserError, match=r"needs PyCUDA .*pip install 'pycuda"):
        cuda.Gpu()


def test_an_error_of_cuda_is_a_failure_and_the_context_is_popped(monkeypatch):
    """With as much of PyCUDA as opening a GPU calls."""
    depth = []
    context = SimpleNamespace(push=lambda: depth.append(1), detach=lambda: None)

    class Error(Exception):
        pass

    driver = SimpleNamespace(
        Error=Error,
        init=lambda: None,
        Device=lambda ordinal: SimpleNamespace(
            name=lambda: "Some", compute_capability=lambda: (8, 7), retain_primary_context=lambda: context
        ),
        Context=SimpleNamespace(pop=depth.pop),
        Stream=lambda: None,
        Event=lambda flags: None,
        event_flags=SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2),
    )
    monkeypatch.setattr(cuda, "_pycuda", lambda: driver)
    monkeypatch.setattr(cuda, "_drop_current", lambda: None)
    gpu = cuda.Gpu()
    with pytest.raises(Failure, match=r"Some \(sm_87\): launch failure; .* restart the process"), gpu:
        raise Error("launch failure")
    with pytest.raises(ValueError, match="not CUDA's"), gpu:
        raise ValueError("not CUDA's")
    assert depth == []
    gpu.close()


@pytest.mark.skipif(not importlib.util.find_spec("pycuda"), reason="PyCUDA is not installed")
@pytest.mark.skipif(not shutil.which("gcc"), reason="no C compiler")
def test_pycuda_itself_over_a_driver_without_a_gpu(tmp_path):
    library = tmp_path / "libcuda.so.1"
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run(["gcc", *flags, "-o", library, SUPPORT / "driver_double.c"], check=True)
    command = [sys.executable, SUPPORT / "driver_double.py", library]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
