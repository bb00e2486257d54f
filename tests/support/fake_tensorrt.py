"""A stand-in for the module `tensorrt`: its engine is the bundle's own ONNX graph in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime

from deploy.runtime.crops import rows_shape
from export.manifest import MODEL, Manifest
from export.trt.files import write_engine
from fake_gpu import Machine, memory


class TensorRT:
    """A double of the module `tensorrt`, as far as an engine is run. It notes what was called and freed."""

    __name__ = "tensorrt_double"
    __version__ = "10.3.0"

    class ILogger:
        def __init__(self) -> None:
            pass

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.said: list[tuple[str, object]] = []
        self.scratch: list[tuple[int, int]] = []
        """The memory that contexts were given to work in."""
        self.fed: list[np.ndarray] = []
        """The rows of every batch that ran, as the engine found them in the device's memory."""
        self.refuse = self.spoil = ""
        self.spoiled_batch = 0
        """Only batches of this size are spoiled; 0: all."""
        trt = self

        class Noted:
            def __del__(self) -> None:
                trt.said.append((f"freed {type(self).__name__}", trt.machine.alive["gpus"]))

        class Context(Noted):
            def __init__(self, engine: Engine) -> None:
                self.engine, self.addresses, self.profile = engine, {}, None

            def set_optimization_profile_async(self, number: int, stream: int) -> bool:
                self.profile = engine_profile = self.engine.profiles[number]
                return bool(engine_profile) and trt.refuse != "profile"

            def set_device_memory(self, address: int, size: int) -> None:
                trt.scratch.append((address, size))

            def set_tensor_address(self, name: str, address: int) -> bool:
                self.addresses[name] = address
                return trt.refuse != "address"

            def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
                self.shape = shape
                trt.said.append(("batch", shape[0]))
                return self.profile[0] <= shape[0] <= self.profile[2] and trt.refuse != "shape"

            def execute_async_v3(self, stream: int) -> bool:
                shape, addresses, session = self.shape, dict(self.addresses), self.engine.session
                trt.machine.queue.append(lambda: trt.execute(session, shape, addresses))
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

            device_memory_size_v2 = 4096

            def create_execution_context(self, strategy: str = "STATIC") -> Context | None:
                assert strategy == ("STATIC" if len(self.profiles) == 1 else "USER_MANAGED")
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
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")

    def execute(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...], at: dict[str, int]) -> None:
        """The graph on the rows at the input's address."""
        dtype = np.uint8 if shape[3] == 3 else np.float32
        self.fed.append(memory(at["crops"], shape, dtype).copy())
        (vectors,) = session.run(None, {"crops": self.fed[-1]})
        if self.spoil and self.spoiled_batch in (0, len(vectors)):
            vectors[0, 0] = float(self.spoil)
        memory(at["embeddings"], vectors.shape, np.float32)[:] = vectors


def write_plan(bundle: Path, profiles: list[list[int]], **changes: object) -> dict:
    """A plan of the double for a bundle and engine.json; `changes` are to the facts. Returns the facts."""
    manifest = Manifest.load(bundle)
    dtype = {"uint8": "UINT8", "float32": "FLOAT"}[manifest.input.dtype]
    tensors = {
        "crops": ["INPUT", dtype, [-1, *rows_shape(manifest, 1)[1:]]],
        "embeddings": ["OUTPUT", "FLOAT", [-1, manifest.output.size]],
    }
    tensors = changes.pop("tensors", tensors)
    facts = {
        "format": "pat-reid-engine/1",
        "profiles": profiles, "source": {"file": MODEL, "sha256": manifest.files[MODEL].sha256},
        "tensorrt": "10.3.0", "flavour": "tensorrt", "device": "Double (sm_87)", "options": {},
        "checked": {"ran": True, "passed": True}, **changes,
    }  # fmt: skip
    head = json.dumps({"tensors": tensors, "profiles": profiles}).encode()
    write_engine(bundle / "model.plan", head + b"\n" + (bundle / MODEL).read_bytes(), facts)
    return facts
