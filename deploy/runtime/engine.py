"""A deserialised TensorRT engine: which batch goes to which profile, and what is wrong when it does not run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.runtime.cuda import drop_frames
from deploy.runtime.plan import EnginePlan
from deploy.runtime.trt_library import Library
from export.manifest import Manifest
from pat.base.errors import Failure, UserError


@dataclass(frozen=True)
class Profile:
    """The batches that one execution context takes."""

    smallest: int
    largest: int
    context: Any


class Engine:
    """An engine and an execution context for each of its profiles, all on one stream.

    `engine_host_code_allowed` is left False: a plan that brings code for the host is refused by TensorRT.
    """

    def __init__(
        self, library: Library, plan: EnginePlan, manifest: Manifest, stream: int, allocate: Callable[[int], int]
    ) -> None:
        """`allocate` gives the address of so many bytes on the GPU, which outlive this object.

        Raises UserError in TensorRT's own words when it refuses the plan, or as `EnginePlan.check_tensors`.
        """
        self._library, self._path, self._stream = library, plan.path, stream
        self._input, self._output = manifest.input.name, manifest.output.name
        self._profiles: list[Profile] = []
        self._runtime = self._engine = None
        try:
            self._open(plan, manifest, allocate)
        except BaseException as error:
            drop_frames(error)
            self.close()
            raise

    @property
    def largest(self) -> int:
        """The largest batch that any profile takes."""
        return max(each.largest for each in self._profiles)

    def bind(self, input_address: int, output_address: int) -> None:
        """Say where every batch is read and written."""
        for profile in self._profiles:
            for name, address in ((self._input, input_address), (self._output, output_address)):
                if not profile.context.set_tensor_address(name, address):
                    raise Failure(self._complaint(f"does not take an address for {name}"))

    def run(self, count: int, row: tuple[int, ...]) -> None:
        """Queue the first `count` rows, each of the shape `row`; at most `largest`.

        They go through the profile with the smallest maximum that holds them. Below its minimum the batch is that
        minimum: what the rows above `count` hold is computed and ignored.
        """
        self._library.messages.clear()  # what is said from here on is about this batch; months must not pile up
        profile = min((each for each in self._profiles if each.largest >= count), key=lambda each: each.largest)
        if not profile.context.set_input_shape(self._input, (max(count, profile.smallest), *row)):
            raise Failure(self._complaint(f"does not take a batch of {count}"))
        if not profile.context.execute_async_v3(self._stream):
            raise Failure(self._complaint("does not run"))

    def close(self) -> None:
        """Drop contexts, engine and runtime, in this order."""
        self._profiles.clear()
        self._engine = None
        self._runtime = None

    def _open(self, plan: EnginePlan, manifest: Manifest, allocate: Callable[[int], int]) -> None:
        trt, messages = self._library.trt, self._library.messages
        messages.clear()
        self._runtime = runtime = trt.Runtime(self._library.logger)
        self._engine = engine = runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            raise UserError(
                f"{self._library.name} {self._library.version} refuses {self._path}: {messages.last_error()}; "
                f"{plan.rebuild}"
            )
        plan.check_tensors(_tensors(engine), manifest)
        # One batch runs at a time: the contexts of all profiles share the scratch memory of the hungriest.
        several = engine.num_optimization_profiles > 1
        size = int(engine.device_memory_size_v2) if several else 0
        scratch = allocate(size) if size else 0
        for number in range(engine.num_optimization_profiles):
            smallest, _, largest = engine.get_tensor_profile_shape(self._input, number)
            if several:
                context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
            else:
                context = engine.create_execution_context()
            if context is not None and scratch:
                context.set_device_memory(scratch, size)
            if context is None or not context.set_optimization_profile_async(number, self._stream):
                raise Failure(self._complaint(f"gives no execution context for profile {number}"))
            self._profiles.append(Profile(smallest[0], largest[0], context))

    def _complaint(self, what: str) -> str:
        return f"{self._path} {what}: {self._library.messages.last_error()}"


def _tensors(engine: Any) -> list[dict[str, Any]]:
    """Name, mode, dtype and shape without the batch of every tensor, inputs first."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = [
        {
            "name": name,
            "mode": engine.get_tensor_mode(name).name,
            "dtype": engine.get_tensor_dtype(name).name,
            "shape": list(engine.get_tensor_shape(name))[1:],
        }
        for name in names
    ]
    return sorted(found, key=lambda each: each["mode"])
