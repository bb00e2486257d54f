#!/usr/bin/env python3
"""ONNX bundle -> TensorRT engine, on the machine that will run it.

    python export/build_trt.py BUNDLE --max-batch 32

Needs numpy and tensorrt (or tensorrt-rtx), neither PyTorch nor an installation of this project. Writes
model.plan and engine.json, whole or not at all. Exit code 0: built; 1: the builder gave up or the engine failed
its check; 2: something the user can mend; 130: interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 (a bare clone has no installer to check it)
    sys.exit("Python 3.10 or newer is needed; JetPack 6 brings it")
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script sees its own folder alone

import argparse
import os
import re
import time
from collections.abc import Sequence
from typing import Any

from export.command import run
from export.making import made
from export.precisions import PRECISIONS
from export.trt.build import BuildOptions, build_plan, graph_precision, parse_onnx
from export.trt.check import Checked, check_engine, why_not_run
from export.trt.device import Gpu, check_precision, find_gpu, parse_targets
from export.trt.flavour import Flavour, load_flavour
from export.trt.inspect import inspect, products_asked
from export.trt.progress import progress_bar
from export.trt.report import build_facts, engine_facts, network_facts, profiles_text, publish, report
from export.trt.source import Source, find_source
from pat.base.errors import Failure, UserError
from pat.base.files import named_path, write_bytes
from pat.base.parser import OneLineParser
from pat.base.progress import TerminalProgress, say


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    command = OneLineParser("build_trt.py", description="Build a TensorRT engine from an ONNX bundle.")
    add = command.add_argument
    add("source", type=Path, help="bundle folder, ONNX file, or checkpoint (which needs PyTorch)")
    add(
        "--precision",
        choices=list(PRECISIONS),
        help="default: the bundle's; fp16 and bf16 are made of fp32",
    )
    add("--min-batch", type=int, default=1)
    add("--opt-batch", type=int, help="the batch to be fastest at; default 8, or the largest")
    add("--max-batch", type=int, default=32)
    add(
        "--profile",
        type=_batches,
        action="append",
        metavar="MIN,OPT,MAX",
        help="a profile of its own, instead of the three options above; may be given several times",
    )
    add("--output", type=named_path, help="the plan to write; default: model.plan beside the ONNX file")
    add("--flavour", choices=["tensorrt", "tensorrt-rtx"], help="default: what is installed")
    add("--device", help="RTX targets by compute capability, for example sm86,sm120")
    add("--workspace", type=int, metavar="MIB", help="most scratch memory of a kernel")
    add("--optimisation-level", "--optimization-level", type=int, metavar="0..5")
    add("--timing-cache", type=Path, metavar="FILE", help="default: one for each device in the cache folder")
    add("--no-timing-cache", action="store_true")
    levels = ["ampere-plus", "same-compute-capability"]
    add("--hardware-compatible", choices=levels, metavar="LEVEL", help=" or ".join(levels))
    add("--refit", action="store_true", help="weights can be replaced in the engine")
    add("--strip", action="store_true", help="leave the weights out; refit on the target")
    add("--dla", type=int, metavar="CORE", help="run on this DLA core what it can run, the rest on the GPU")
    add("--accept", action="store_true", help="write an engine that failed its check, as *.rejected.plan")
    add("--log", type=named_path, metavar="FILE", help="write everything TensorRT says to a file")
    return command.parse_args(arguments)


def _batches(text: str) -> tuple[int, int, int]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not MIN,OPT,MAX")
    return numbers


def build(given: argparse.Namespace) -> int:
    """Everything between the command line and the files. Raises UserError, Failure, KeyboardInterrupt."""
    flavour = load_flavour(given.flavour)
    gpu = find_gpu()
    say(f"{flavour.name} {flavour.version}, {gpu or 'no GPU in this machine'}")
    options = options_from(given, flavour, gpu)
    if given.log:
        flavour.messages.file = _open_log(given.log)
    try:
        source = find_source(made(given.source, given.precision), given.precision)
        plan_path = given.output or source.onnx.with_name("model.plan")
        if not plan_path.parent.is_dir():
            raise UserError(f"{plan_path.parent} is no folder; --output needs one that exists")
        network = parse_onnx(flavour, source.onnx, dla=options.dla is not None)
        precision = graph_precision(flavour.trt, network.definition)
        if given.precision and precision != given.precision:
            raise UserError(
                f"{source.onnx} computes in {precision}, not in {given.precision}: types are part of the graph; "
                f"make one with export/precision.py, or leave --precision out"
            )
        source.check(network.definition, precision)
        check_precision(precision, list(options.targets), gpu)
        begun = time.monotonic()
        say(f"building {source.onnx} in {precision}, batches {profiles_text(options)}")
        with progress_bar(TerminalProgress(), "building") as show:
            built = build_plan(flavour, network, options, show)
        seconds = time.monotonic() - begun
        facts = network_facts(source.onnx, network, precision)
        asked, attentions = products_asked(flavour.trt, network.definition)
        del network  # with it go the builder and the weights: the engine is loaded into memory that they held
        engine = load(flavour, built.plan, options) if gpu else None
        messages = flavour.messages.texts()
        inspection = inspect(flavour.trt, asked, attentions, messages, len(options.profiles), engine)
        del engine
        facts |= {**engine_facts(inspection), **build_facts(flavour, gpu, options, seconds)}
        checked = run_check(source, built.plan, facts, gpu, options)
        publish(plan_path, built.plan, {**facts, "checked": checked.facts()}, checked, given.accept)
        report(inspection, options, precision, seconds, checked)
        if built.timing_cache is not None and options.timing_cache is not None:
            _keep_timing_cache(options.timing_cache, built.timing_cache)
        return 0
    finally:
        lost = flavour.messages.close_file()
        if lost:
            say(f"warning: the log {given.log} is not complete: {lost}")


def options_from(given: argparse.Namespace, flavour: Flavour, gpu: Gpu | None) -> BuildOptions:
    """The build options that the command line means on this machine."""
    usual = given.opt_batch if given.opt_batch is not None else max(given.min_batch, min(8, given.max_batch))
    cache = None
    # TensorRT for RTX times nothing while it builds: its timing cache does nothing and is deprecated.
    if not given.no_timing_cache and flavour.name != "tensorrt-rtx":
        cache = given.timing_cache or _timing_cache_path(flavour, gpu)
    return BuildOptions(
        profiles=tuple(given.profile or [(given.min_batch, usual, given.max_batch)]),
        workspace_mib=given.workspace,
        optimisation_level=given.optimisation_level,
        timing_cache=cache,
        hardware_compatible=given.hardware_compatible and given.hardware_compatible.replace("-", "_").upper(),
        refit=given.refit,
        strip=given.strip,
        dla=given.dla,
        targets=tuple(parse_targets(flavour.trt, given.device)),
    )


def _timing_cache_path(flavour: Flavour, gpu: Gpu | None) -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{flavour.name}-{flavour.version}-{gpu or 'unknown'}").strip("-")
    return root / "pat-reid" / "timing" / f"{name}.cache"


def _keep_timing_cache(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except Failure as error:  # the engine is finished; only the next build takes longer
        say(f"warning: the timing cache was not kept: {error}")


def _open_log(path: Path) -> Any:
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the log {path}: {error.strerror or error}") from error


def load(flavour: Flavour, plan: bytes, options: BuildOptions) -> Any:
    """The engine, for its inspector; None for one that is not for this machine.

    Raises Failure where it was built for this GPU and cannot be loaded on it.
    """
    engine = flavour.trt.Runtime(flavour.logger).deserialize_cuda_engine(plan)
    if engine is None and not options.targets:
        raise Failure(f"the engine was built but cannot be loaded: {flavour.messages.last_error()}")
    return engine


def run_check(
    source: Source, plan: bytes, facts: dict[str, Any], gpu: Gpu | None, options: BuildOptions
) -> Checked:
    """Run the engine on the check set, or say why it could not be run."""
    why = "a stripped plan has no weights" if options.strip else why_not_run(source.manifest, gpu, options.targets)
    if why or source.manifest is None:
        return Checked(ran=False, why=why or "")
    return check_engine(source.manifest, plan, facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run("build_trt.py", build, parse_arguments, arguments)


if __name__ == "__main__":
    sys.exit(main())
