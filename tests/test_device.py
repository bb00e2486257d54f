"""What the device computes in where nobody says."""

from pathlib import Path

import pytest
import torch

from pat import device
from pat.device import multiplies_bfloat16
from pat.training import state
from pat.training.state import amp_dtype

X86 = "processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu sse2 avx512f {} vaes\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {} sve\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (X86.format("avx512_bf16"), True),
        (X86.format("amx_bf16 amx_tile"), True),
        (X86.format("avx512_vnni"), False),  # PyTorch computes it there, slower than float32
        (ARM.format("bf16"), True),
        (ARM.format("sha512"), False),
    ],
)
def test_instructions_for_bfloat16_are_read_from_what_linux_tells(
    told: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is expected
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not multiplies_bfloat16(tmp_path / "cpuinfo")


@pytest.mark.parametrize(("machine", "expected"), [("arm64", True), ("AMD64", False)])
def test_where_there_is_no_cpuinfo(
    machine: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    assert multiplies_bfloat16(tmp_path / "nowhere") is expected


@pytest.mark.skipif(not hasattr(torch.cpu, "_is_avx512_bf16_supported"), reason="this PyTorch does not tell")
def test_this_cpu_is_seen_as_pytorch_sees_it() -> None:
    if device.platform.machine() != "x86_64":
        pytest.skip("PyTorch tells of x86 alone")
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert multiplies_bfloat16() == has


def test_mixed_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has, chosen in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(state, "multiplies_bfloat16", lambda has=has: has)
        assert amp_dtype("auto", cpu) == chosen
        assert amp_dtype("off", cpu) is None
        assert amp_dtype("bfloat16", cpu) == torch.bfloat16
        assert amp_dtype("float16", cpu) == torch.float16
