"""Compiles kernels for GPU architectures that are not there, in parallel, and keeps the results in a cache."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernels.configuration import Configuration
from kernels.resources import LIMITS, WARP, measure, occupancy

if TYPE_CHECKING:
    from triton.compiler import CompiledKernel

OPERATORS = ("part_attention", "nearest_parts", "crop_resize")
ARCHITECTURES = tuple(LIMITS)
FORMAT = 1  # of the JSON beside a cubin; part of the cache key
DTYPES = ("fp16", "bf16", "fp32", "u8")


def configurations(pattern: str = "*") -> list[Configuration]:
    """All named configurations whose name matches a shell pattern.

    Raises:
        RuntimeError: as `modules`.
    """
    found = [configuration for module in modules("triton") for configuration in module.aot_configurations()]
    return [configuration for configuration in found if fnmatch.fnmatch(configuration.name, pattern)]


def modules(name: str, operators: Sequence[str] = OPERATORS) -> list[ModuleType]:
    """`kernels.<operator>.<name>` for each operator that has such a module.

    Raises:
        RuntimeError: Triton is absent, or interprets its kernels (TRITON_INTERPRET=1): nothing to compile then.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("TRITON_INTERPRET=1 is set: kernels are interpreted, not compiled; unset it")
    try:
        paths = [f"kernels.{operator}.{name}" for operator in operators]
        return [importlib.import_module(path) for path in paths if importlib.util.find_spec(path)]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "triton":
            raise
        raise RuntimeError("Triton is not installed; compiling kernels needs `pip install triton`") from None


def compile_all(archs: Sequence[str], pattern: str = "*") -> list[tuple[dict[str, Any], Path]]:
    """`compile_each` of all named configurations whose name matches a shell pattern.

    Raises:
        ValueError: an architecture is unknown or no configuration has such a name.
        RuntimeError: as `compile_each` and `modules`.
    """
    chosen = configurations(pattern)
    if not chosen:
        names = ", ".join(configuration.name for configuration in configurations())
        raise ValueError(f"no configuration is named {pattern!r}; there are {names}")
    return compile_each(chosen, archs)


def compile_each(chosen: Sequence[Configuration], archs: Sequence[str]) -> list[tuple[dict[str, Any], Path]]:
    """Compiles what the cache does not hold yet, in parallel, for architectures such as ["sm_87", "sm_90"].

    Returns for every configuration and architecture its description (what the JSON holds) and its folder in the
    cache with `kernel.cubin`, `kernel.ptx` and `kernel.json`.

    Raises:
        ValueError: an architecture is unknown.
        RuntimeError: a configuration does not compile.
    """
    unknown = sorted(set(archs) - set(ARCHITECTURES))
    if unknown or not archs:
        raise ValueError(f"archs is {list(archs)}; expected some of {', '.join(ARCHITECTURES)}")
    cache = default_cache()
    jobs = [
        (config, arch, cache / _key(config, arch))
        for config, arch in product(chosen, archs)
        if not config.archs or arch in config.archs
    ]
    missing = [job for job in jobs if _read(job[2]) is None]
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
        with _bare_triton(), _one_parser(), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job: _compile(*job), missing))
    results = []
    for config, arch, folder in jobs:
        description = _read(folder)
        if description is None:
            raise RuntimeError(f"{folder}: {config.name} for {arch} vanished from the cache; run again")
        results.append((description, folder))
    return results


def default_cache() -> Path:
    """`$PAT_KERNEL_CACHE`, or `pat-kernels` in the user's cache folder."""
    if chosen := os.environ.get("PAT_KERNEL_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pat-kernels"


def _key(configuration: Configuration, arch: str) -> str:
    """Hash of everything the result depends on: source (and what it calls), types, tiles, target, compiler."""
    import triton

    facts = (
        configuration.kernel.cache_key, configuration.name, configuration.signature, configuration.constexprs,
        configuration.num_warps, configuration.num_stages, sorted(configuration.aligned),
        arch, triton.__version__, FORMAT,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _read(folder: Path) -> dict[str, Any] | None:
    """Description of a cached result; None when there is none or when a file is damaged."""
    try:
        description = json.loads((folder / "kernel.json").read_bytes())
        sound = all(
            description[f"{kind}_sha256"] == hashlib.sha256((folder / f"kernel.{kind}").read_bytes()).hexdigest()
            for kind in ("cubin", "ptx")
        )
    except (OSError, ValueError, KeyError):
        return None
    return description if sound else None


@contextmanager
def _bare_triton() -> Iterator[None]:
    """Triton without its own cache (ours stands in) and without source paths inside the cubins."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as scratch, knobs.cache.scope(), knobs.compilation.scope():
        knobs.cache.dir = scratch
        knobs.compilation.disable_line_info = True
        yield


@contextmanager
def _one_parser() -> Iterator[None]:
    """One thread at a time in `ast.parse`: Python 3.11 counts the depth of all of them in one number, and says
    "AST constructor recursion depth mismatch"."""
    from triton import JITFunction

    parse, lock = JITFunction.parse, threading.Lock()

    def alone(kernel: JITFunction) -> Any:
        with lock:
            return parse(kernel)

    JITFunction.parse = alone
    try:
        yield
    finally:
        JITFunction.parse = parse


def _compile(configuration: Configuration, arch: str, folder: Path) -> None:
    """Compiles one configuration into a folder of the cache, which appears whole or not at all."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = configuration.kernel
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in configuration.aligned}
    source = ASTSource(kernel, configuration.signature, configuration.constexprs, aligned)
    target = GPUTarget("cuda", int(arch.removeprefix("sm_")), WARP)
    options = {"num_warps": configuration.num_warps, "num_stages": configuration.num_stages}
    try:
        compiled = triton.compile(source, target=target, options=options)
    except Exception as error:  # the compiler raises a dozen kinds; which configuration it was matters most
        raise RuntimeError(f"{configuration.name} does not compile for {arch}: {error}") from error
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        draft = Path(scratch) / "draft"
        draft.mkdir()
        write_whole(draft / "kernel.cubin", compiled.asm["cubin"])
        write_whole(draft / "kernel.ptx", compiled.asm["ptx"].encode())
        description = _describe(configuration, arch, compiled, draft)
        write_whole(draft / "kernel.json", (json.dumps(description, indent=1, default=str) + "\n").encode())
        if folder.exists():  # a damaged one, or another process was faster
            shutil.rmtree(folder, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if _read(folder) is None:
                raise


def _describe(configuration: Configuration, arch: str, compiled: CompiledKernel, folder: Path) -> dict[str, Any]:
    """All that a launcher and the resource report need to know of one compiled kernel."""
    metadata, ptx = compiled.metadata, compiled.asm["ptx"]
    arguments = [(name, kind) for name, kind in configuration.signature.items() if kind != "constexpr"]
    scratch = parameter_count(ptx, metadata.name) - len(arguments)
    wanted = metadata.global_scratch_size + metadata.profile_scratch_size
    if scratch < 0 or wanted:
        raise RuntimeError(
            f"{configuration.name} for {arch}: {scratch} parameters beyond its arguments and {wanted} bytes of "
            "scratch memory; expected pointers that may be null"
        )
    resources = measure(folder / "kernel.cubin")
    return {
        "format": FORMAT,
        "name": configuration.name,
        "operator": configuration.kernel.__module__.split(".")[1],  # kernels.<operator>...
        "arch": arch,
        "triton": metadata.triton_version,
        "entry": metadata.name,
        "arguments": [
            {"name": name, "type": kind, "aligned": name in configuration.aligned} for name, kind in arguments
        ],
        "scratch_pointers": scratch,  # null pointers to pass after the arguments
        "block": [metadata.num_warps * WARP, 1, 1],
        "shared_memory": metadata.shared,  # bytes, dynamic
        "dtype": next((part for part in configuration.name.split("_") if part in DTYPES), None),
        "tile": configuration.constexprs,
        "num_warps": configuration.num_warps,
        "num_stages": configuration.num_stages,
        **asdict(resources),
        "occupancy": occupancy(
            arch, registers=resources.registers, warps=metadata.num_warps, shared_memory=metadata.shared,
            tensor_memory=getattr(metadata, "tmem_size", 0) or 0,
        ),
        "cubin_bytes": len(compiled.asm["cubin"]),
        "cubin_sha256": hashlib.sha256(compiled.asm["cubin"]).hexdigest(),
        "ptx_sha256": hashlib.sha256(ptx.encode()).hexdigest(),
    }


def parameter_count(ptx: str, entry: str) -> int:
    """Parameters that a kernel takes, counted in its PTX: arguments, then Triton's scratch pointers."""
    header = re.search(rf"\.entry\s+{re.escape(entry)}\s*\((.*?)\)", ptx, re.DOTALL)
    if header is None:
        raise RuntimeError(f"the PTX has no entry {entry}")
    return len(re.findall(r"\.param\b", header.group(1)))


def write_whole(path: Path, data: bytes) -> None:
    """Whole or not at all: temporary name, flushed to the disk, renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
