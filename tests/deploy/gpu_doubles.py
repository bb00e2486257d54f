"""What stands in for a GPU in the tests of the TensorRT backend. No test lies here.

Nothing is pretended about numbers: the engine of the double is the bundle's own ONNX graph in ONNX Runtime, and
its crop_resize is the Triton kernel in Triton's interpreter, called with the bytes that the launch was given. Both
work on the "device" memory that they were pointed to, when the stream comes to them.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from deploy.runtime.crops import prepared, rows_shape
from export.bundle import write_bundle
from export.manifest import MODEL, Input, Manifest, Output
from export.trt.files import write_engine

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, SIZE = 32, 16, 8
CODES = {"i32": "i", "fp32": "f"}


class Driver:
    """A double of `pycuda.driver` that counts what is alive. Queued work happens when somebody waits."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.alive = dict.fromkeys(("contexts", "depth", "streams", "events", "modules", "device", "host"), 0)
        self.queue: list[Callable[[], object]] = []
        self.launched: Callable[[int, int, int, bytes], object] = lambda *_: None
        self.capability = 87
        self.no_device, self.fail_allocation, self.fail_next = False, 0, ""
        driver = self

        class Counted:
            kind = ""

            def __init__(self, *_: object) -> None:
                driver.needs_context()
                driver.alive[self.kind] += 1

            def __del__(self) -> None:
                if driver.alive["contexts"]:
                    driver.alive[self.kind] -= 1

        class Stream(Counted):
            kind, handle = "streams", 7

        class Event(Counted):
            kind = "events"

            def record(self, stream: Stream) -> None:
                driver.needs_context()

            def synchronize(self) -> None:
                driver.finish()

        class Block:
            def __init__(self, kind: str, size: int) -> None:
                driver.needs_context()
                if driver.fail_allocation == 1:
                    raise driver.Error("cuMemAlloc failed: out of memory")
                driver.fail_allocation = max(driver.fail_allocation - 1, 0)
                self.kind = kind
                self.array = np.full(size, 0xA5, np.uint8)
                driver.alive[kind] += 1

            def __int__(self) -> int:
                return self.array.ctypes.data

            def free(self) -> None:
                driver.needs_context()
                self.array[:] = 0x5A
                driver.alive[self.kind] -= 1

        class Locked(np.ndarray):
            """What pycuda gives: an array whose base can be freed."""

            @property
            def base(self):
                return self.block

            def __array_finalize__(self, parent):
                self.block = getattr(parent, "block", None)

        class Module(Counted):
            kind = "modules"

            def get_function(self, entry: str) -> Function:
                return Function(self)

        class Function:
            def __init__(self, module: Module) -> None:
                self.module = module

            def set_attribute(self, attribute: int, value: int) -> None:
                driver.needs_context()

            def prepare(self, codes: list[str]) -> None:
                self.codes = "".join(codes)

            def prepared_async_call(self, grid, block, stream, *arguments, shared_size):
                driver.needs_context()
                given = struct.pack(self.codes, *arguments)
                driver.queue.append(lambda: driver.launched(grid[0], block[0], shared_size, given))

        class Context:
            def push(self) -> None:
                driver.alive["depth"] += 1

            def detach(self) -> None:
                driver.alive["contexts"] -= 1

            @staticmethod
            def pop() -> None:
                driver.needs_context()
                driver.alive["depth"] -= 1

        def locked(shape: tuple[int, ...], dtype: object) -> np.ndarray:
            block = Block("host", int(np.prod(shape)) * np.dtype(dtype).itemsize)
            array = block.array.view(dtype).reshape(shape).view(Locked)
            array.block = block
            array[:] = 0
            return array

        def retain() -> Context:
            self.alive["contexts"] += 1
            return Context()

        self.Stream, self.Event, self.Context = Stream, Event, Context
        self.event_flags = SimpleNamespace(BLOCKING_SYNC=1, DISABLE_TIMING=2)
        self.function_attribute = SimpleNamespace(MAX_DYNAMIC_SHARED_SIZE_BYTES=8)
        self.Device = lambda ordinal: SimpleNamespace(
            name=lambda: "Double",
            compute_capability=lambda: divmod(self.capability, 10),
            retain_primary_context=retain,
        )
        self.mem_alloc = lambda size: Block("device", size)
        self.pagelocked_zeros = locked

        def load(cubin: bytes) -> Module:
            if cubin[:4] != b"\x7fELF":
                raise driver.Error("cuModuleLoadDataEx failed: device kernel image is invalid")
            return Module()

        self.module_from_buffer = load

    def init(self) -> None:
        if self.no_device:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def needs_context(self) -> None:
        if not self.alive["depth"]:
            raise self.Error("no currently active context?")
        if self.fail_next:
            problem, self.fail_next = self.fail_next, ""
            raise self.Error(problem)

    def memcpy_htod_async(self, address: int, array: np.ndarray, stream: object) -> None:
        self.needs_context()
        source = array if getattr(array, "block", None) is not None else array.copy()  # pageable memory is staged
        self.queue.append(lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def memcpy_dtoh_async(self, array: np.ndarray, address: int, stream: object) -> None:
        self.needs_context()
        self.queue.append(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def enqueue(self, work: Callable[[], object]) -> None:
        self.queue.append(work)

    def finish(self) -> None:
        self.needs_context()
        while self.queue:
            self.queue.pop(0)()

    def counts(self) -> dict[str, int]:
        return dict(self.alive)


class DriverInC:
    """The same for PyCUDA itself, over driver_double.c."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        self._kept: list[object] = []
        sys.setdlopenflags(os.RTLD_LAZY)  # PyCUDA names more of the driver than we use

    def counts(self) -> dict[str, int]:
        kinds = ("contexts", "depth", "streams", "events", "modules")
        found = {name: ctypes.c_int.in_dll(self._library, f"double_{name}").value for name in kinds}
        blocks = (ctypes.c_int * 2).in_dll(self._library, "double_blocks")
        return found | {"device": blocks[0], "host": blocks[1]}

    def enqueue(self, work: Callable[[], object]) -> None:
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        self._kept = [*self._kept[-100:], kind(lambda _: work())]
        self._library.double_enqueue(self._kept[-1], None)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "launched":
            kind = ctypes.CFUNCTYPE(
                None, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t
            )
            launched = kind(lambda *given: value(*given[:3], ctypes.string_at(*given[3:])))
            place = ctypes.c_void_p.in_dll(self._library, "double_launched")
            place.value = ctypes.cast(launched, ctypes.c_void_p).value
            self.__dict__["_launched"] = launched
        elif name in ("no_device", "fail_allocation"):
            ctypes.c_int.in_dll(self._library, f"double_{name}").value = int(value)
        else:
            self.__dict__[name] = value


def memory(address: int, shape: tuple[int, ...], dtype: object) -> np.ndarray:
    """The memory at an address as an array."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).reshape(shape)


class TensorRT:
    """A double of the module `tensorrt`, as far as an engine is run. It notes what was called and freed."""

    __name__ = "tensorrt_double"
    __version__ = "10.3.0"

    class ILogger:
        def __init__(self) -> None:
            pass

    def __init__(self, driver: Driver | DriverInC) -> None:
        self.driver = driver
        self.said: list[tuple[str, object]] = []
        self.fed: list[np.ndarray] = []
        """The rows of every batch that ran, as the engine found them in the device's memory."""
        self.refuse = self.spoil = ""
        trt = self

        class Noted:
            def __del__(self) -> None:
                trt.said.append((f"freed {type(self).__name__}", trt.driver.counts()["contexts"]))

        class Context(Noted):
            def __init__(self, engine: Engine) -> None:
                self.engine, self.addresses, self.profile = engine, {}, None

            def set_optimization_profile_async(self, number: int, stream: int) -> bool:
                self.profile = engine_profile = self.engine.profiles[number]
                return bool(engine_profile) and trt.refuse != "profile"

            def set_tensor_address(self, name: str, address: int) -> bool:
                self.addresses[name] = address
                return trt.refuse != "address"

            def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
                self.shape = shape
                trt.said.append(("batch", shape[0]))
                return self.profile[0] <= shape[0] <= self.profile[2] and trt.refuse != "shape"

            def execute_async_v3(self, stream: int) -> bool:
                shape, addresses, session = self.shape, dict(self.addresses), self.engine.session
                trt.driver.enqueue(lambda: trt.execute(session, shape, addresses))
                if trt.refuse == "execute":
                    trt.logger.log(1, "Cuda Runtime (an illegal memory access was encountered)")
                return trt.refuse != "execute"

        class Engine(Noted):
            def __init__(self, content: bytes) -> None:
                head, _, graph = content.partition(b"\n")
                facts = json.loads(head)
                self.tensors, self.profiles = facts["tensors"], facts["profiles"]
                self.num_io_tensors, self.num_optimization_profiles = len(self.tensors), len(self.profiles)
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                self.session = onnxruntime.InferenceSession(graph, options)

            def get_tensor_name(self, index: int) -> str:
                return list(self.tensors)[index]

            def get_tensor_mode(self, name: str) -> SimpleNamespace:
                return SimpleNamespace(name=self.tensors[name][0])

            def get_tensor_dtype(self, name: str) -> SimpleNamespace:
                return SimpleNamespace(name=self.tensors[name][1])

            def get_tensor_shape(self, name: str) -> tuple[int, ...]:
                return tuple(self.tensors[name][2])

            def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
                return [(batch, *self.tensors[name][2][1:]) for batch in self.profiles[number]]

            def create_execution_context(self) -> Context | None:
                return None if trt.refuse == "context" else Context(self)

        class Runtime(Noted):
            engine_host_code_allowed = False

            def __init__(self, logger: object) -> None:
                trt.logger = logger

            def deserialize_cuda_engine(self, content: bytes) -> Engine | None:
                assert not self.engine_host_code_allowed
                if trt.refuse == "plan":
                    trt.logger.log(1, "The engine plan file is\nnot compatible with this version")
                    return None
                return Engine(content)

        self.Runtime = Runtime

    def execute(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...], at: dict[str, int]) -> None:
        """The graph on the rows at the input's address."""
        dtype = np.uint8 if shape[3] == 3 else np.float32
        self.fed.append(memory(at["crops"], shape, dtype).copy())
        (vectors,) = session.run(None, {"crops": self.fed[-1]})
        if self.spoil:
            vectors[0, 0] = float(self.spoil)
        memory(at["embeddings"], vectors.shape, np.float32)[:] = vectors


def interpreted_kernel(facts: dict, driver: Driver | DriverInC, launches: list[dict]) -> None:
    """Let launches of the compiled kernel run in Triton's interpreter, on the arguments in their bytes."""
    import torch

    from kernels.crop_resize.triton import crop_resize_kernel

    names = [each["name"] for each in facts["arguments"]]
    types = [each["type"] for each in facts["arguments"]]
    codes = "".join(CODES.get(each, "P") for each in types) + "P" * facts["scratch_pointers"]
    tile = facts["tile"]
    programs = -(-tile["OUT_HEIGHT"] // tile["TILE_HEIGHT"]) * -(-tile["OUT_WIDTH"] // tile["TILE_WIDTH"])
    dtype = {"*u8": np.uint8, "*fp32": np.float32}[types[2]]

    def run(blocks: int, threads: int, shared: int, given: bytes) -> None:
        assert (threads, shared) == (facts["block"][0], facts["shared_memory"])
        values = dict(zip(names, struct.unpack(codes, given), strict=False))
        launches.append(values)
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

    driver.launched = run


def make_bundle(folder: Path, dtype: str, kernels: dict[str, bytes]) -> Path:
    """A bundle whose graph is a random projection of the pixels, with a check set of four images of noise."""
    random = np.random.default_rng(0)
    nhwc = dtype == "uint8"
    shape = ["batch", HEIGHT, WIDTH, 3] if nhwc else ["batch", 3, HEIGHT, WIDTH]
    kind = TensorProto.UINT8 if nhwc else TensorProto.FLOAT
    weights = random.normal(size=(HEIGHT, WIDTH, 3, SIZE)).astype(np.float32)
    weights = (weights if nhwc else weights.transpose(2, 0, 1, 3)).reshape(-1, SIZE)
    nodes = [
        helper.make_node("Cast", ["crops"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["wide"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("LpNormalization", ["product"], ["embeddings"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "projection",
        [helper.make_tensor_value_info("crops", kind, shape)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", SIZE])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    manifest = Manifest(
        input=Input("crops", dtype, "NHWC" if nhwc else "NCHW", HEIGHT, WIDTH),
        output=Output("embeddings", SIZE, "cls"),
        opset=18, files={}, model={}, training={}, weights={}, tools={},
    )  # fmt: skip
    images = random.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    expected = onnxruntime.InferenceSession(content).run(None, {"crops": prepared(images, manifest)})[0]
    write_bundle(folder, manifest, content, images, expected, kernels)
    return folder


def write_plan(bundle: Path, profiles: list[list[int]], **changes: object) -> dict:
    """A plan of the double for a bundle and engine.json; `changes` are to the facts. Returns the facts."""
    manifest = Manifest.load(bundle)
    dtype = {"uint8": "UINT8", "float32": "FLOAT"}[manifest.input.dtype]
    tensors = {
        "crops": ["INPUT", dtype, [-1, *rows_shape(manifest, 1)[1:]]],
        "embeddings": ["OUTPUT", "FLOAT", [-1, SIZE]],
    }
    tensors = changes.pop("tensors", tensors)
    facts = {
        "format": "pat-reid-engine/1",
        "source": {"file": MODEL, "sha256": manifest.files[MODEL].sha256},
        "tensorrt": "10.3.0", "flavour": "tensorrt", "device": "Double (sm_87)", "options": {},
        "checked": {"ran": True, "passed": True}, **changes,
    }  # fmt: skip
    head = json.dumps({"tensors": tensors, "profiles": profiles}).encode()
    write_engine(bundle / "model.plan", head + b"\n" + (bundle / MODEL).read_bytes(), facts)
    return facts


COMPILE = """
import sys
from pathlib import Path
from export.crop_kernels import compile_kernels
from export.manifest import Manifest
for bundle in sys.argv[2:]:
    for name, content in compile_kernels(Manifest.load(bundle), ["sm_87"]).items():
        Path(sys.argv[1], name).write_bytes(content)
"""


def compiled_kernels(out: Path, bundles: list[Path]) -> dict[str, bytes]:
    """The bundles' crop kernels for sm_87, by Triton's real compiler: not in this process, which interprets."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PAT_KERNEL_CACHE": str(out / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILE, str(out), *map(str, bundles)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
