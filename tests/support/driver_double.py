"""Uses `deploy.runtime.cuda` with the real PyCUDA, over driver_double.c: `python driver_double.py LIBRARY`.

PyCUDA keeps to itself what it makes current, when it collects garbage and in which order it frees; no stand-in for
it can tell. A process of its own, because the library takes the place of the machine's libcuda.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

import numpy as np
import pytest

from deploy.runtime.cuda import Gpu
from pat.base.errors import Failure, UserError

KINDS = ("contexts", "depth", "streams", "events", "modules")
NOTHING = dict.fromkeys((*KINDS, "device", "host"), 0)
TYPES = ["*u8", "i32", "fp32", "*"]
CODES = "PifP"


def main(path: str) -> None:
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    sys.setdlopenflags(os.RTLD_LAZY)  # PyCUDA names more of the driver than we use

    def alive() -> dict[str, int]:
        found = {name: ctypes.c_int.in_dll(library, f"double_{name}").value for name in KINDS}
        blocks = (ctypes.c_int * 2).in_dll(library, "double_blocks")
        return found | {"device": blocks[0], "host": blocks[1]}

    def set_to(name: str, value: int) -> None:
        ctypes.c_int.in_dll(library, f"double_{name}").value = value

    launches = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t)
    noted = kind(lambda *given: launches.append((*given[:3], ctypes.string_at(*given[3:]))))
    ctypes.c_void_p.in_dll(library, "double_launched").value = ctypes.cast(noted, ctypes.c_void_p).value

    set_to("no_device", 1)
    with pytest.raises(UserError, match=r"CUDA offers no GPU 0 \(cuInit failed: no CUDA-capable device"):
        Gpu()
    set_to("no_device", 0)
    with pytest.raises(UserError, match="CUDA offers no GPU 5"):
        Gpu(5)
    assert alive() == NOTHING

    gpu = Gpu()
    assert (str(gpu), gpu.capability) == ("Double (sm_87)", 87)
    assert alive() == {**NOTHING, "contexts": 1, "streams": 1, "events": 1}
    with gpu:
        locked, found = gpu.host_array((2, 3), np.float32), np.zeros((2, 3), np.float32)
        first, second = gpu.allocate(24), gpu.allocate(24)
        locked[:] = np.arange(6).reshape(2, 3)
        pageable = locked + 10
        gpu.upload(first, locked)
        gpu.upload(second, pageable)
        pageable[:] = -1  # may change at once; the page-locked array may not
        gpu.download(found, first)
        gpu.synchronise()
        assert (found == locked).all()
        gpu.download(found, second)
        gpu.free(first)  # waits
        assert (found == locked + 10).all()
        assert alive()["device"] == 1

        kernel = gpu.load_kernel(b"\x7fELF" + bytes(64), "kernel", TYPES, [128, 1, 1], 4096)
        gpu.launch(kernel, 7, [second, 3, 0.5, 0])
        assert not launches
        gpu.synchronise()
        ((*grid, given),) = launches
        assert grid == [7, 128, 4096]
        assert struct.unpack(CODES, given) == (second, 3, 0.5, 0)
        with pytest.raises(UserError, match="the driver does not load the kernel kernel"):
            gpu.load_kernel(b"no cubin", "kernel", TYPES, [128, 1, 1], 0)
    assert alive()["depth"] == 0
    set_to("fail_allocation", 1)
    with pytest.raises(Failure, match=r"Double \(sm_87\): .*out of memory; .* restart the process"), gpu:
        gpu.allocate(24)
    set_to("fail_allocation", 0)
    assert alive()["depth"] == 0
    gpu.close()
    gpu.close()
    assert alive() == NOTHING


if __name__ == "__main__":
    main(sys.argv[1])
