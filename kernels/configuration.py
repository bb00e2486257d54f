"""What has to be known to compile one kernel ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import triton


@dataclass(frozen=True)
class Configuration:
    """One kernel compiled for one set of types and tile sizes."""

    name: str  # e.g. "part_attention_forward_bf16_d64"
    kernel: triton.runtime.JITFunction
    signature: dict[str, str]  # argument -> triton type ("*bf16", "i32", "fp32", "constexpr"), in order
    constexprs: dict[str, object]
    num_warps: int
    num_stages: int
    aligned: frozenset[str] = frozenset()  # arguments known to be divisible by 16
    archs: tuple[str, ...] = ()  # on which it is launched; empty: on all
