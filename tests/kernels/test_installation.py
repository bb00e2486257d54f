"""What needs a process of its own: kernels where Triton is missing, and kernels that are not interpreted."""

from __future__ import annotations

import pytest
import torch

from fresh import python

CALLS = """
import torch
from kernels.crop_resize import crop_resize
from kernels.nearest_parts import nearest_parts
from kernels.part_attention import part_attention

QKV, REGIONS = torch.randn(1, 5, 3, 1, 32), torch.zeros(1, 0, 4, dtype=torch.int32)
FRAME, BOXES = torch.zeros(4, 4, 3, dtype=torch.uint8), torch.tensor([[0.0, 0, 2, 2]])
BANK = torch.zeros(1, 1, 2), torch.ones(1, 2, 2), torch.tensor([0])

def attend(impl): return list(part_attention(QKV[:, :, 0], QKV[:, :, 1:], REGIONS, (2, 2), impl=impl).shape)
def crop(impl): return list(crop_resize(FRAME, BOXES, impl=impl).shape)
def search(impl): return nearest_parts(*BANK, k=1, scale=0.1, impl=impl).indices.item()

print(attend("reference"), attend("sdpa"), crop("reference"), search("reference"))
for call in (attend, crop, search):
    try: print(call("triton"))
    except (ValueError, ImportError) as error: print(type(error).__name__, error)
"""


def said(code: str) -> list[str]:
    """What a fresh process outside the interpreter prints: what torch answers, then a line for each kernel."""
    done = python("-c", code + CALLS)
    assert done.returncode == 0, done.stderr
    first, *kernels = done.stdout.splitlines()
    assert first == "[1, 5, 32] [1, 5, 32] [1, 3, 256, 128] 1"
    return kernels


def test_everything_but_the_kernels_works_where_triton_is_missing() -> None:
    code = "import sys; sys.modules['triton'] = None\nimport kernels; assert 'torch' not in sys.modules\n"
    attend, *others = said(code)
    assert attend == (
        "ValueError impl is 'triton', but Triton is not installed; expected 'reference' or 'sdpa' here"
    )
    assert all("triton" in line for line in others)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_kernels_refuse_a_cpu_outside_their_interpreter() -> None:
    pytest.importorskip("triton")
    attend, crop, search = said("")
    assert attend.startswith("ValueError q is on cpu; expected a CUDA tensor")
    assert crop.startswith("ValueError frame is on cpu; expected a CUDA device for impl triton")
    assert search.startswith("ValueError query: on cpu, expected a CUDA tensor with impl='triton'")
