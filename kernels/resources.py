"""What a compiled kernel takes of a GPU, read from its cubin: registers, spills, matrix instructions."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
WARP = 32
REGISTERS = 64 * KIB  # 32-bit registers of one multiprocessor, on every architecture here
SCHEDULERS = 4  # each owns a quarter of the registers and of the warps
REGISTER_UNIT = 256  # registers are given to a warp in these portions
SHARED_UNIT = 128  # bytes
SHARED_RESERVED = 1 * KIB  # taken by the system from every block
TENSOR_MEMORY_COLUMNS = 512  # of one multiprocessor, where tcgen05 exists


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor offers. Source: CUDA C++ Programming Guide, table of compute capabilities."""

    warps: int
    blocks: int
    shared_memory: int  # bytes of the multiprocessor
    shared_memory_block: int  # bytes that one block may use


LIMITS = {
    "sm_80": Limits(64, 32, 164 * KIB, 163 * KIB),
    "sm_86": Limits(48, 16, 100 * KIB, 99 * KIB),
    "sm_87": Limits(48, 16, 164 * KIB, 163 * KIB),
    "sm_89": Limits(48, 24, 100 * KIB, 99 * KIB),
    "sm_90": Limits(64, 32, 228 * KIB, 227 * KIB),
    "sm_100": Limits(64, 32, 228 * KIB, 227 * KIB),
    "sm_110": Limits(48, 24, 228 * KIB, 227 * KIB),
    "sm_120": Limits(48, 24, 100 * KIB, 99 * KIB),
}

# One line of nvdisasm: an address in a comment, perhaps a predicate, the instruction.
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", re.MULTILINE)


@dataclass(frozen=True)
class Resources:
    """Figures of one cubin."""

    registers: int  # per thread
    spills: int  # bytes of stack and local memory per thread
    mma_instructions: dict[str, int]  # family -> instructions in the program text (not: executed)


def measure(cubin: Path) -> Resources:
    """Reads a cubin with the tools that Triton ships. Raises RuntimeError when they cannot."""
    from triton import knobs

    usage = _output(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(cubin))
    figures = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    if figures is None:
        raise RuntimeError(f"{cubin}: cuobjdump names no kernel in it; expected one")
    registers, stack, local = map(int, figures.groups())
    return Resources(registers, stack + local, count_mma(_output(knobs.nvidia.nvdisasm.path, str(cubin))))


def count_mma(disassembly: str) -> dict[str, int]:
    """Matrix instructions per family in what nvdisasm prints: HMMA, HGMMA, IMMA, QMMA, tcgen05 ..."""
    families: Counter[str] = Counter()
    for instruction in INSTRUCTION.findall(disassembly):
        if instruction.endswith("MMA"):
            families["tcgen05" if instruction.startswith("UTC") else instruction] += 1
    return dict(sorted(families.items()))


def occupancy(arch: str, *, registers: int, warps: int, shared_memory: int, tensor_memory: int = 0) -> float:
    """Share of a multiprocessor's warps that this kernel's blocks can fill.

    Args:
        registers: per thread.
        warps: per block.
        shared_memory: bytes per block.
        tensor_memory: columns per block.
    """
    limits = LIMITS[arch]
    per_warp = _round_up(registers * WARP, REGISTER_UNIT)
    by_registers = REGISTERS // SCHEDULERS // per_warp * SCHEDULERS // warps
    by_shared = limits.shared_memory // _round_up(shared_memory + SHARED_RESERVED, SHARED_UNIT)
    blocks = min(limits.blocks, limits.warps // warps, by_registers, by_shared)
    if tensor_memory:
        blocks = min(blocks, TENSOR_MEMORY_COLUMNS // tensor_memory)
    return blocks * warps / limits.warps


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def _output(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {result.stderr.strip()}")
    return result.stdout
