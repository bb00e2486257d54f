"""A stand-in for `deploy.runtime.cuda.Gpu`, whose memory is the process's own.

Nothing is pretended about numbers: queued work happens, in order, when somebody waits for it, so memory that is
freed or changed too early shows; a launch of `crop_resize` runs the kernel in Triton's interpreter.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.runtime.cuda import ARGUMENT_CODES
from pat.base.errors import Failure, UserError

ALIGNED = 256


@dataclass
class Machine:
    """A computer with one GPU: calling it opens the GPU, as `Gpu` does."""

    name: str = "Double"
    capability: int = 87
    alive: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("gpus", "entered", "device", "host", "kernels"), 0)
    )
    fail_allocation: int = 0
    """The how many-th allocation from now finds no memory; 0: none."""
    queue: list[Callable[[], object]] = field(default_factory=list)
    launched: Callable[[tuple[int, ...], int, int, Sequence[Any]], object] = lambda *_: None
    """Called for each launch with the block's shape, bytes of shared memory, number of blocks, arguments."""

    def __call__(self, ordinal: int = 0) -> FakeGpu:
        return FakeGpu(self)


@dataclass
class FakeKernel:
    codes: str
    block: tuple[int, ...]
    shared_memory: int


class FakeGpu:
    """What `Gpu` promises, call by call; see there."""

    stream = 7

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.name, self.capability = machine.name, machine.capability
        self._device: dict[int, np.ndarray] = {}
        self._host: list[np.ndarray] = []
        self._closed = False
        machine.alive["gpus"] += 1

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability})"

    def allocate(self, size: int) -> int:
        block = self._block("device", size)
        self._device[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        self.synchronise()
        self._device.pop(address)[:] = 0x5A
        self._machine.alive["device"] -= 1

    def host_array(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        block = self._block("host", int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self._host.append(block)
        block[:] = 0
        return block.view(dtype).reshape(shape)

    def upload(self, address: int, array: np.ndarray) -> None:
        self._inside(address, array.nbytes)
        locked = any(np.may_share_memory(array, each) for each in self._host)
        source = array if locked else array.copy()  # the driver keeps what it needs of pageable memory
        self._machine.queue.append(lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def download(self, array: np.ndarray, address: int) -> None:
        self._inside(address, array.nbytes)
        self._machine.queue.append(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def synchronise(self) -> None:
        self._entered()
        while self._machine.queue:
            self._machine.queue.pop(0)()

    def load_kernel(
        self, cubin: bytes, entry: str, arguments: Sequence[str], block: Sequence[int], shared_memory: int
    ) -> FakeKernel:
        self._entered()
        if cubin[:4] != b"\x7fELF":
            raise UserError(f"{self}: the driver does not load the kernel {entry} (no ELF file)")
        self._machine.alive["kernels"] += 1
        codes = "".join(ARGUMENT_CODES.get(each, "P") for each in arguments)
        return FakeKernel(codes, tuple(block), shared_memory)

    def launch(self, kernel: FakeKernel, blocks: int, arguments: Sequence[int | float]) -> None:
        self._entered()
        given = struct.unpack(kernel.codes, struct.pack(kernel.codes, *arguments))
        run = self._machine.launched
        self._machine.queue.append(lambda: run(kernel.block, kernel.shared_memory, blocks, given))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self:
            self.synchronise()
            for block in (*self._device.values(), *self._host):
                block[:] = 0x5A
        self._machine.alive.update(device=0, host=0, kernels=0)
        self._machine.alive["gpus"] -= 1

    def __enter__(self) -> FakeGpu:
        self._machine.alive["entered"] += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.alive["entered"] -= 1

    def _entered(self) -> None:
        assert self._machine.alive["entered"], "called outside `with gpu:`"

    def _inside(self, address: int, size: int) -> None:
        self._entered()
        blocks = ((start, start + len(block)) for start, block in self._device.items())
        assert any(start <= address and address + size <= end for start, end in blocks), "not allocated"

    def _block(self, kind: str, size: int) -> np.ndarray:
        """Aligned bytes that nobody has written."""
        self._entered()
        self._machine.fail_allocation -= 1
        if self._machine.fail_allocation == 0:
            raise Failure(f"{self}: out of memory; where it says so again, restart the process")
        self._machine.alive[kind] += 1
        room = np.full(size + ALIGNED, 0xA5, np.uint8)
        first = -room.ctypes.data % ALIGNED
        return room[first : first + size]


def memory(address: int, shape: tuple[int, ...], dtype: object) -> np.ndarray:
    """The memory at an address as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).reshape(shape)


def interpreted_kernel(facts: dict, machine: Machine, launches: list[dict]) -> None:
    """Let launches of the kernel that `facts` describes run in Triton's interpreter, and note their arguments."""
    import torch

    from kernels.crop_resize.triton import crop_resize_kernel

    names = [each["name"] for each in facts["arguments"]]
    types = [each["type"] for each in facts["arguments"]]
    tile = facts["tile"]
    programs = -(-tile["OUT_HEIGHT"] // tile["TILE_HEIGHT"]) * -(-tile["OUT_WIDTH"] // tile["TILE_WIDTH"])
    dtype = {"*u8": np.uint8, "*fp32": np.float32}[types[2]]

    def run(block: tuple[int, ...], shared: int, blocks: int, given: Sequence[Any]) -> None:
        assert (block, shared) == (tuple(facts["block"]), facts["shared_memory"])
        assert len(given) == len(names) + facts["scratch_pointers"]
        values = dict(zip(names, given, strict=False))
        launches.append(values.copy())
        assert values["boxes"] % 16 == 0
        assert values["crops"] % 16 == 0
        boxes, frame = blocks // programs, (values["height"] - 1) * values["stride_y"] + 3 * values["width"]
        shape = (boxes, 3 * tile["OUT_HEIGHT"] * tile["OUT_WIDTH"])
        tensors = [
            torch.from_numpy(memory(values.pop("frame"), (frame,), np.uint8)),
            torch.from_numpy(memory(values.pop("boxes"), (boxes, 4), np.float32)),
            torch.from_numpy(memory(values.pop("crops"), shape, dtype)),
        ]
        crop_resize_kernel[(blocks,)](*tensors, **values, **tile)

    machine.launched = run
