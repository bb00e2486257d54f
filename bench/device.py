"""What a figure was measured on: a name for people and for the file of results."""

from __future__ import annotations

import functools
import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path

DEVICE_TREE = Path("/proc/device-tree/model")
CPU_FACTS = Path("/proc/cpuinfo")


@functools.cache
def device_name() -> str:
    """E.g. "NVIDIA H100 80GB HBM3", "NVIDIA Jetson Orin Nano Developer Kit, 25W" or "cpu AMD EPYC 7763".

    A Jetson's power mode decides its clocks, so it is part of the name: two modes are two devices. Works without
    PyTorch, which a Jetson does not have.
    """
    if jetson := _jetson():
        return ", ".join(filter(None, (jetson, power_mode())))
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name()
    try:
        model = re.search(r"^model name\s*: (.+)$", CPU_FACTS.read_text(), re.MULTILINE)
    except OSError:
        model = None
    return f"cpu {model.group(1) if model else platform.machine()}"


def power_mode() -> str:
    """The power mode of a Jetson as `nvpmodel -q` tells it, e.g. "MAXN"; empty where there is no nvpmodel."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    answer = subprocess.run([tool, "-q"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Power Mode:\s*(.+)", answer)
    return found.group(1).strip() if found else ""


def _jetson() -> str:
    try:
        name = DEVICE_TREE.read_text().strip("\0\n ")
    except OSError:
        return ""
    return name if re.search(r"jetson|orin|thor", name, re.IGNORECASE) else ""
