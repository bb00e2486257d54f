"""The name under which figures are kept: a Jetson's power mode is part of it, and no PyTorch is needed."""

from __future__ import annotations

import stat

import pytest

from bench import device
from bench.results import path_for, versions
from fresh import python, without


@pytest.fixture(autouse=True)
def fresh():
    device.device_name.cache_clear()
    yield
    device.device_name.cache_clear()


def jetson(monkeypatch, tmp_path, model: bytes, mode: str | None):
    tree = tmp_path / "model"
    tree.write_bytes(model)
    device.device_name.cache_clear()
    monkeypatch.setattr(device, "DEVICE_TREE", tree)
    monkeypatch.setenv("PATH", str(tmp_path))
    if mode is not None:
        tool = tmp_path / "nvpmodel"
        tool.write_text(f"#!/bin/sh\necho 'NV Power Mode: {mode}'\necho 2\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


def test_a_jetson_in_its_power_mode(monkeypatch, tmp_path):
    jetson(monkeypatch, tmp_path, b"NVIDIA Jetson Orin Nano Developer Kit\0", "25W")
    assert device.device_name() == "NVIDIA Jetson Orin Nano Developer Kit, 25W"
    assert path_for(device.device_name()).name == "nvidia-jetson-orin-nano-developer-kit-25w.json"


def test_two_power_modes_are_two_devices(monkeypatch, tmp_path):
    names = set()
    for mode in ("15W", "MAXN_SUPER"):
        jetson(monkeypatch, tmp_path, b"NVIDIA Jetson AGX Orin\0", mode)
        names.add(path_for(device.device_name()).name)
    assert len(names) == 2


def test_a_jetson_without_the_tool(monkeypatch, tmp_path):
    jetson(monkeypatch, tmp_path, b"NVIDIA Jetson AGX Thor Developer Kit\0", None)
    assert device.device_name() == "NVIDIA Jetson AGX Thor Developer Kit"


def test_another_board_is_no_jetson(monkeypatch, tmp_path):
    jetson(monkeypatch, tmp_path, b"Raspberry Pi 5 Model B\0", None)
    assert "Raspberry" not in device.device_name()


def collected_without(*packages: str) -> str:
    """What pytest says of the suites that it finds where packages are missing."""
    collect = 'import pytest; sys.exit(pytest.main(["bench", "--collect-only", "-p", "no:cacheprovider"]))'
    done = python("-c", without(*packages) + collect)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    return done.stdout


def test_the_suites_of_the_edge_need_no_torch():
    found = collected_without("torch", "triton", "timm")
    assert "<Module test_embedding.py>" in found
    for suite in ("test_rows.py", "test_cache.py"):
        assert f"<Module {suite}>" not in found
        assert f"left out: {suite} (needs torch)" in found


def test_the_suites_of_training_need_nothing_of_the_edge_and_no_command_line():
    edge = ("av", "cv2", "onnx", "onnxruntime", "onnxscript", "psutil", "numkong", "trackers")
    found = collected_without("tyro", "rich", "h5py", "matplotlib", "tensorboard", *edge)
    for suite in ("test_rows.py", "test_cache.py"):
        assert f"<Module {suite}>" in found
    assert "left out: test_camera.py (needs av, cv2, onnxruntime, trackers)" in found


def test_versions_are_those_installed():
    import onnxruntime

    assert versions()["onnxruntime"] == onnxruntime.__version__
