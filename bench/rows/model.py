"""The whole network without gradient, as embedding images takes it: by implementation, eager and compiled."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import torch
from torch import Tensor

from bench.measure import Work
from bench.rows.plan import Ready, RowPlan, checked, kernel_plan, relative_error, sizes
from bench.work import network_flops
from kernels.timing import DEVICE, INTERPRETED, ON_GPU
from pat.config import ModelConfig
from pat.model import PartAwareTransformer

TINY = ModelConfig("vit_tiny_patch16_224", (32, 16), patch_size=8, width=32, depth=1, heads=1)
CASES = sizes(
    [(ModelConfig("vit_base_patch16_224"), 64), (ModelConfig("vit_small_patch16_224"), 64)],
    [(ModelConfig("vit_small_patch16_224"), 8)],
    [(TINY, 2)],
)
DTYPE = torch.bfloat16 if ON_GPU else torch.float32
OURS = "triton" if ON_GPU or INTERPRETED else "sdpa"
WAYS = {"ours": (OURS, False), "ours, compiled": (OURS, True), "SDPA": ("sdpa", False),
        "eager": ("reference", False)}  # fmt: skip
"""Name -> implementation of attention, compiled or not."""


def plans() -> list[RowPlan]:
    found = []
    for (number, (config, batch)), way in itertools.product(enumerate(CASES, 2), WAYS):
        run = functools.partial(prepare, config, batch, way)
        found.append(kernel_plan(number, "embed", f"{config.backbone} B={batch}", DTYPE, way, run))
    return found


def prepare(config: ModelConfig, batch: int, way: str) -> Ready:
    """A network of random weights; embeddings of the first images against float64."""
    attention, compiled = WAYS[way]
    torch.manual_seed(0)
    model = PartAwareTransformer(dataclasses.replace(config, attention=attention)).eval().to(DEVICE)  # type: ignore[arg-type]
    images = torch.rand(batch, 3, *config.image_size, device=DEVICE)
    exact = PartAwareTransformer(dataclasses.replace(config, attention="reference")).eval().double()
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        truth = exact.to(DEVICE).embed(images[:2].double())
    del exact

    embed = model.embed
    if compiled:
        torch._dynamo.reset()
        embed = torch.compile(model.embed, backend="inductor" if ON_GPU else "aot_eager")

    def function() -> Tensor:
        with torch.no_grad(), torch.autocast(DEVICE.type, dtype=DTYPE, enabled=ON_GPU):
            return embed(images)

    errors = checked(DTYPE, relative_error(function()[:2], truth))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    work = Work(bytes=images.nbytes + 4 * parameters, flops=batch * network_flops(config, 1) // 3)
    return Ready(function, work, errors)
