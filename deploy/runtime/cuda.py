"""One GPU through PyCUDA: memory, copies, one stream, kernels from cubins. Nothing else here imports pycuda.

The context is the primary one, which TensorRT (and whatever else is in the process) uses too. It belongs to the
thread that made the `Gpu`, and is current only inside `with gpu:`. PyCUDA aborts a process that ends while one is.
"""

from __future__ import annotations

import ctypes
import importlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pat.base.errors import Failure, UserError, one_line

ARGUMENT_CODES = {"i32": "i", "fp32": "f"}
"""Triton's argument types in the `struct` module's letters; pointers are "P"."""


@dataclass
class Kernel:
    """A loaded kernel and how it is launched. Gone after its `Gpu` was closed."""

    function: Any
    block: tuple[int, int, int]
    shared_memory: int
    """Bytes of dynamic shared memory."""


class Gpu:
    """A GPU, everything allocated on it, and a stream in whose order everything happens.

    Use it as a context manager around every call. There, an error of CUDA becomes a Failure.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Raises UserError without a driver, a GPU of this number, or PyCUDA."""
        self._cuda = cuda = _pycuda()
        try:
            cuda.init()
            device = cuda.Device(ordinal)
            self.name: str = device.name()
            major, minor = device.compute_capability()
            self.capability = 10 * major + minor
            """As NVIDIA writes it after "sm_": 87 for Orin, 90 for H100."""
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise UserError(f"CUDA offers no GPU {ordinal} ({error}); check nvidia-smi") from error
        self._memory: dict[int, Any] = {}
        self._host: list[Any] = []
        self._kernels: list[Kernel] = []
        self._stream = self._done = None
        try:
            with self:
                self._stream = cuda.Stream()
                # To wait for it leaves the CPU to those who decode video; a stream's own wait may spin.
                self._done = cuda.Event(cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING)
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"{self.name} (sm_{self.capability})"

    @property
    def stream(self) -> int:
        """The stream as a number, for TensorRT."""
        assert self._stream is not None
        return int(self._stream.handle)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the GPU."""
        block = self._cuda.mem_alloc(size)
        self._memory[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        """Free what `allocate` gave. Waits for work that uses it."""
        self.synchronise()
        self._memory.pop(address).free()

    def host_array(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """A page-locked array of zeros, from and to which copies run by themselves. Gone after `close`."""
        array = self._cuda.pagelocked_zeros(tuple(shape), dtype)
        self._host.append(array.base)
        return array

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Queue a copy of a contiguous array to the GPU.

        A page-locked array must not change before the copy is done; of any other the driver keeps what it needs.
        """
        self._cuda.memcpy_htod_async(address, array, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        """Queue a copy from the GPU into a contiguous array; `synchronise` before it is read."""
        self._cuda.memcpy_dtoh_async(array, address, self._stream)

    def synchronise(self) -> None:
        """Wait until everything queued is done. Raises here what went wrong on the way."""
        assert self._done is not None
        self._done.record(self._stream)
        self._done.synchronize()

    def load_kernel(
        self, cubin: bytes, entry: str, arguments: Sequence[str], block: Sequence[int], shared_memory: int
    ) -> Kernel:
        """A kernel of a compiled module; `arguments` are Triton's types, in order ("*u8", "i32", "fp32").

        Raises UserError when the driver does not take the module.
        """
        try:
            function = self._cuda.module_from_buffer(cubin).get_function(entry)
        except self._cuda.Error as error:
            raise UserError(
                f"{self}: the driver does not load the kernel {entry} ({one_line(error)}); a newer driver "
                "may, or cut crops on the CPU (preprocess='cpu')"
            ) from error
        function.set_attribute(self._cuda.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_memory)
        function.prepare([ARGUMENT_CODES.get(each, "P") for each in arguments])
        self._kernels.append(Kernel(function, (block[0], block[1], block[2]), shared_memory))
        return self._kernels[-1]

    def launch(self, kernel: Kernel, blocks: int, arguments: Sequence[int | float]) -> None:
        """Queue a launch of `blocks` thread blocks."""
        kernel.function.prepared_async_call(
            (blocks, 1), kernel.block, self._stream, *arguments, shared_size=kernel.shared_memory
        )

    def close(self) -> None:
        """Free everything that was allocated or loaded, then the context; once more does nothing."""
        if self._context is None:
            return
        try:
            with self:
                for block in [*self._memory.values(), *self._host]:
                    block.free()
                for kernel in self._kernels:
                    kernel.function = None  # its module goes with it
                self._memory, self._host, self._kernels = {}, [], []
                self._stream = self._done = None
        finally:
            context, self._context = self._context, None
            context.detach()
            _drop_current()

    def __enter__(self) -> Gpu:
        self._context.push()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cuda.Context.pop()
        if isinstance(error, self._cuda.Error):
            raise Failure(f"{self}: {error}; where it says so again, restart the process") from error


def _drop_current() -> None:
    """PyCUDA makes a primary context current to release it, and leaves it on the thread's stack. Take it off."""
    ctypes.CDLL("libcuda.so.1").cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _pycuda() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise UserError(f"the backend tensorrt needs PyCUDA ({error}): pip install 'pycuda>=2025.1.2'") from error
    except ImportError as error:
        raise UserError(
            f"PyCUDA finds no NVIDIA driver ({error}); an engine needs a machine with a GPU"
        ) from error


def drop_frames(error: BaseException | None) -> None:
    """Clear the local variables of the calls that failed: they may hold what must be freed before the context."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__


def contiguous_bytes(frame: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """The bytes of a frame [H, W, 3] as one array, and from one row to the next how many.

    Rows may be padded (a decoder's pitch): the padding comes along, and nothing is copied here.
    """
    height, width = frame.shape[:2]
    pitch, pixel, colour = frame.strides
    if (pixel, colour) != (3, 1) or (height > 1 and pitch < 3 * width):
        frame = np.ascontiguousarray(frame)
        pitch = 3 * width
    return np.lib.stride_tricks.as_strided(frame, ((height - 1) * pitch + 3 * width,), (1,)), pitch
