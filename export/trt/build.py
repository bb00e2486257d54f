"""From an ONNX file to a serialised TensorRT engine: network, profiles, configuration, timing cache."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.precisions import PrecisionName
from export.trt.flavour import Flavour
from export.trt.progress import Show, progress_monitor, run_interruptibly
from pat.base.errors import Failure, UserError, one_line

Batches = tuple[int, int, int]
"""Smallest, most usual and largest batch of an optimisation profile."""


_ADVICE = {
    "CUDA_SUCCESS": "plans to be refitted or without weights are built on a machine with a GPU",
}
"""What helps against the builder's commoner complaints, by words that they contain."""


MOST_WORKSPACE = 1 << 20
"""MiB: a TiB, more than any GPU has. The library takes a 64-bit number of bytes and says nothing of less sense."""
MOST_ELEMENTS = 2**31 - 1
"""Numbers in one tensor of TensorRT."""


@dataclass(frozen=True)
class BuildOptions:
    """What the user may choose about a build. The precision is not here: it is in the graph."""

    profiles: tuple[Batches, ...] = ((1, 8, 32),)
    workspace_mib: int | None = None
    """Most scratch memory a kernel may ask for; None is the builder's own limit."""
    optimisation_level: int | None = None
    """0 builds fastest, 5 searches longest; None is the builder's default."""
    timing_cache: Path | None = None
    hardware_compatible: str | None = None
    """A name of `HardwareCompatibilityLevel`: AMPERE_PLUS or SAME_COMPUTE_CAPABILITY."""
    refit: bool = False
    strip: bool = False
    """Leave the weights out of the plan; they are refitted from the ONNX file on the target."""
    dla: int | None = None
    """The DLA core that takes every layer it can; the others run on the GPU."""
    targets: tuple[int, ...] = ()
    """Compute capabilities of RTX targets; empty is the builder's own choice."""

    def __post_init__(self) -> None:
        for least, usual, most in self.profiles:
            if least < 1:
                raise UserError(f"the smallest batch is {least}; a batch holds at least 1 crop")
            if not least <= usual <= most:
                raise UserError(f"batches {least}, {usual}, {most}: they must not fall (min <= opt <= max)")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= MOST_WORKSPACE:
            raise UserError(f"--workspace {self.workspace_mib}: give 1 to {MOST_WORKSPACE} MiB of scratch memory")
        if self.optimisation_level is not None and not 0 <= self.optimisation_level <= 5:
            raise UserError(f"--optimisation-level {self.optimisation_level}: choose 0 (fast build) to 5")


@dataclass(frozen=True)
class Network:
    """A parsed graph and the objects that must live as long as it."""

    path: Path
    definition: Any
    """The `INetworkDefinition`"""
    builder: Any
    parser: Any

    @property
    def input(self) -> Any:
        return self.definition.get_input(0)

    @property
    def output(self) -> Any:
        return self.definition.get_output(0)


def parse_onnx(flavour: Flavour, path: Path, *, dla: bool = False) -> Network:
    """Parse an ONNX file into a strongly typed network with one input and one output.

    For a DLA the parser rewrites what a DLA would leave to the GPU, where it knows how (newer than TensorRT 10.3).
    Raises UserError for a file that is missing, empty, truncated, not ONNX, or holds an operator that this
    TensorRT does not know.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no file")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if empty:
        raise UserError(f"{path} is empty; copy or export it again")
    trt = flavour.trt
    flavour.messages.clear()
    builder = flavour.builder()
    # From TensorRT 11 on every network is strongly typed, asked for or not.
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(1 << int(strongly_typed) if strongly_typed is not None else 0)
    parser = trt.OnnxParser(network, flavour.logger)
    adjust = getattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA", None)
    if dla and adjust is not None:
        parser.set_flag(adjust)
    if not run_interruptibly(lambda: parser.parse_from_file(str(path)), threading.Event()):
        reason = _parser_error(flavour, parser)
        raise UserError(f"{path}: {flavour.name} {flavour.version} cannot read it: {reason}")
    # A file that holds nothing the parser knows is a valid protobuf message, and parses.
    if network.num_inputs != 1 or network.num_outputs != 1:
        raise UserError(
            f"{path} is no embedding model: it has {network.num_inputs} inputs and {network.num_outputs} outputs, "
            "one of each is expected; give what `pat export` wrote"
        )
    if len(network.get_input(0).shape) < 2:
        raise UserError(
            f"{path} is no embedding model: its input {network.get_input(0).name} has the shape "
            f"{list(network.get_input(0).shape)}, no batch of crops; give what `pat export` wrote"
        )
    _let_attention_decompose(trt, network)
    return Network(path, network, builder, parser)


def _parser_error(flavour: Flavour, parser: Any) -> str:
    if not parser.num_errors:
        return f"{flavour.messages.last_error()}; copy or export it again"
    error = parser.get_error(0)
    text = one_line(error.desc())
    if error.node_operator():
        return f"{text} (node {error.node_name()}, operator {error.node_operator()})"
    return f"{text}; copy or export it again"


def _let_attention_decompose(trt: Any, network: Any) -> None:
    """Allow ONNX Attention nodes without a fused kernel to be built of smaller ones.

    As parsed, such a node fails the build: fp32 has no fused kernel, and one query alone had none either. Where
    a fused kernel exists it is still taken (`export.trt.inspect` counts them).
    """
    if not hasattr(trt, "IAttentionInputLayer"):
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # how the bindings turn a layer into its own type
            layer.attention.decomposable = True


def graph_precision(trt: Any, network: Any) -> PrecisionName:
    """The precision that a strongly typed network computes in: quantised first, else its matrix products'."""
    names: dict[Any, PrecisionName] = {
        trt.DataType.FLOAT: "fp32", trt.DataType.HALF: "fp16", trt.DataType.BF16: "bf16",
        trt.DataType.INT8: "int8", trt.DataType.FP8: "fp8",
    }  # fmt: skip
    products: Counter[PrecisionName] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtype = layer.get_input(0).dtype if layer.num_inputs and layer.get_input(0) is not None else None
        if layer.type == trt.LayerType.DEQUANTIZE and names.get(dtype) in ("int8", "fp8"):
            return names[dtype]
        if layer.type in (trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.CONVOLUTION) and dtype in names:
            products[names[dtype]] += 1
    return products.most_common(1)[0][0] if products else "fp32"


@dataclass(frozen=True)
class Built:
    """A finished build."""

    plan: bytes
    """The serialised engine"""
    timing_cache: bytes | None
    """What this build and those before it measured, to be kept for the next; None when none was asked for."""


def build_plan(flavour: Flavour, network: Network, options: BuildOptions, show: Show) -> Built:
    """Build the engine. The library's detailed words about it are in `flavour.messages`.

    Raises UserError for a setting that this library or network does not take, Failure when the builder
    gives up, KeyboardInterrupt after Ctrl-C.
    """
    stop = threading.Event()
    config = configure(flavour, network, options)
    config.progress_monitor = progress_monitor(flavour.trt, show, stop)
    plan = run_interruptibly(lambda: network.builder.build_serialized_network(network.definition, config), stop)
    if plan is None:
        reason = flavour.messages.last_error()
        advice = "".join(f"; {text}" for sign, text in _ADVICE.items() if sign in reason)
        if options.workspace_mib is not None:
            advice += f"; --workspace {options.workspace_mib} may be too little: allow more, or leave it out"
        raise Failure(
            f"{network.path}: {flavour.name} {flavour.version} could not build it: {reason}{advice}"
        )
    cache = config.get_timing_cache() if options.timing_cache is not None else None
    return Built(bytes(plan), bytes(cache.serialize()) if cache is not None else None)


def configure(flavour: Flavour, network: Network, options: BuildOptions) -> Any:
    """An `IBuilderConfig` for `options`. Raises UserError for what this library does not have."""
    trt, builder = flavour.trt, network.builder
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for batches in options.profiles:
        _add_profile(config, network, batches)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimisation_level is not None:
        config.builder_optimization_level = options.optimisation_level
    if options.refit:
        _set_flag(flavour, config, "--refit", "REFIT")
    if options.strip:
        _set_flag(flavour, config, "--strip", "STRIP_PLAN")
    if options.hardware_compatible:
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatible, None)
        if level is not None:
            config.hardware_compatibility_level = level
        if level is None or config.hardware_compatibility_level != level:
            raise UserError(f"{flavour.name} {flavour.version} builds no {options.hardware_compatible} plans")
    if options.dla is not None:
        _use_dla(flavour, builder, config, options.dla)
    if options.targets:
        config.num_compute_capabilities = len(options.targets)
        for index, capability in enumerate(options.targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
    if options.timing_cache is not None:
        load_timing_cache(config, options.timing_cache)
    return config


def _add_profile(config: Any, network: Network, batches: Batches) -> None:
    name, shape = network.input.name, tuple(network.input.shape)
    if shape[0] != -1 and batches != (shape[0],) * 3:
        raise UserError(f"{network.path} has the fixed batch {shape[0]}; export it with a dynamic batch")
    if -1 in shape[1:]:
        raise UserError(f"{network.path}: input {name} is {list(shape)}; only the batch may be dynamic")
    if batches[2] * math.prod(shape[1:]) > MOST_ELEMENTS:
        most = MOST_ELEMENTS // math.prod(shape[1:])
        raise UserError(f"a batch of {batches[2]} crops is more than a tensor holds; {most} is the most")
    profile = network.builder.create_optimization_profile()
    profile.set_shape(name, *((batch, *shape[1:]) for batch in batches))
    # set_shape says nothing about shapes that do not fit; this does
    if config.add_optimization_profile(profile) < 0:
        raise UserError(f"TensorRT refuses the batches {batches} for input {name} of {network.path}")


def _set_flag(flavour: Flavour, config: Any, option: str, name: str) -> None:
    flag = getattr(flavour.trt.BuilderFlag, name, None)
    if flag is not None:
        config.set_flag(flag)
    if flag is None or not config.get_flag(flag):
        raise UserError(f"{option}: {flavour.name} {flavour.version} has no {name}; leave the option out")


def _use_dla(flavour: Flavour, builder: Any, config: Any, core: int) -> None:
    if not 0 <= core < builder.num_DLA_cores:
        raise UserError(
            f"--dla {core}: {flavour.name} {flavour.version} finds {builder.num_DLA_cores} DLA cores here; "
            "leave the option out, or build on a Jetson with a DLA and a TensorRT that supports it"
        )
    config.default_device_type = flavour.trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(flavour.trt.BuilderFlag.GPU_FALLBACK)


def load_timing_cache(config: Any, path: Path) -> None:
    """Give the builder the timings that earlier builds measured on this device, if there were any."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise UserError(f"cannot read the timing cache {path}: {error.strerror or error}") from error
    cache = config.create_timing_cache(content)
    # A cache that another version or device wrote, or a damaged one, is refused; then start afresh.
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
