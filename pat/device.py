"""Which device runs the work, and which implementation of the kernels suits it."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
from pathlib import Path

import torch

from pat.base.errors import UserError
from pat.config import LossConfig, ModelConfig


def choose_device(asked: str) -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "cuda:N". Raises UserError when it is not there."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UserError(f"device {asked!r} is not one of auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise UserError(
            f"device {asked} is not there: torch sees {count} CUDA devices; --device cpu works anywhere"
        )
    return device


def resolve_model(config: ModelConfig, device: torch.device) -> ModelConfig:
    """`config` with attention "auto" replaced by what suits the device."""
    if config.attention != "auto":
        return config
    return dataclasses.replace(config, attention="triton" if _triton_suits(device) else "sdpa")


def resolve_loss(config: LossConfig, device: torch.device) -> LossConfig:
    """`config` with neighbours and bank_read "auto" replaced by what suits the device."""
    if config.neighbours == "auto":
        config = dataclasses.replace(config, neighbours="triton" if _triton_suits(device) else "reference")
    if config.bank_read == "auto":
        config = dataclasses.replace(config, bank_read="bfloat16" if _triton_suits(device) else "float32")
    return config


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has instructions for products of bfloat16; where they are emulated they do not pay.

    `cpuinfo` is what Linux tells of the CPU.
    """
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    try:
        flags = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:  # another system
        return platform.machine() in ("aarch64", "arm64")
    return not flags.isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's name


def describe(device: torch.device) -> str:
    """The device in words, for a log: its name and, on a CPU, the threads torch uses."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"{device.type}, {torch.get_num_threads()} threads"


def _triton_suits(device: torch.device) -> bool:
    """Triton is there and the GPU is one it supports (compute capability 8.0 and later)."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)
