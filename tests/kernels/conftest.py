"""Where there is no GPU, kernels run in Triton's interpreter; Triton reads the switch when it is imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
