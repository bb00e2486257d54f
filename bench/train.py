"""`python -m bench train`: a whole run of the trainer on drawn people, in as many calls as it needs.

The set has the size of Market-1501, the settings are those of `pat train`. Weights begin at random: that costs
what pretrained ones cost, and the gradient of the patch projection. A call with --minutes leaves in time with the
state saved, and the same command goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.commands import exit_status, option
from bench.deadline import UNFINISHED, Deadline
from bench.device import device_name
from bench.measure import product_rate, watch_memory
from bench.people import draw_people
from bench.results import Row, path_for, quantiles, row, store, table
from bench.rows.plan import dtype_name
from bench.work import bank_flops, network_flops
from kernels.timing import DEVICE
from pat.base.errors import UserError
from pat.base.files import write_text
from pat.base.mapping import overlay, read_mapping, to_mapping
from pat.base.progress import Progress
from pat.config import DataConfig, LossConfig, ModelConfig, Role, TrainConfig, settings_of
from pat.device import resolve_loss, resolve_model
from pat.model.backbone import build_backbone
from pat.training.loop import Interrupted, train
from pat.training.run_folder import CHECKPOINT, LOG, MODEL, differences, saved_config
from pat.training.state import amp_dtype

IMAGES, IDENTITIES = 12_936, 751
"""Of Market-1501's training part."""

SAME_RUN = settings_of(Role.PLACE)
"""What may change when a measured run goes on; what else `pat train --resume` lets change would make a result of
two runs."""

OWN_CHOICE = (SAME_RUN | settings_of(Role.PACE) | {"weights"}) - {"amp"}
"""Settings in which a result may differ from the defaults of `pat train`; with any other the run is a try."""


@dataclass(frozen=True)
class Options:
    out: Path = option(Path("runs/bench-train"), "images, cache, run")
    minutes: float | None = option(None, "leave in time; the same command goes on (exit status 75)")
    images: int = option(IMAGES, "default: %(default)s")
    identities: int = option(IDENTITIES, "default: %(default)s")
    epochs: int | None = option(None, "default: 60")
    backbone: str | None = option(None, "default: that of `pat train`, ViT-B/16")
    config: Path | None = option(None, "settings of `pat train`, .toml or .json")


class Lines(Progress):
    """Each line at once, whatever stands behind standard error."""

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def main(options: Options) -> int:
    """Returns the exit status: 0 when the run is finished, UNFINISHED when time was up, 2, 1 and 130 as `pat`."""
    try:
        return exit_status(lambda: run(options))
    except KeyboardInterrupt as stopped:
        print(f"stopped: {stopped}" if str(stopped) else "stopped", file=sys.stderr)
        return 130


def run(options: Options) -> int:
    """The run, from where it is to its end or as far as time goes."""
    deadline = Deadline(options.minutes)
    config = settings(options)
    try:
        if not (config.out / MODEL).exists():
            with noted_call(options.out / "calls.json"):
                train(config, Lines(), leave=deadline.passed)
    except Interrupted as stopped:
        if not deadline.passed():
            raise
        happened = str(stopped).split(";")[0]  # what follows is about `pat train`
        print(f"time is up, {happened}; the same `python -m bench train` goes on", file=sys.stderr)
        return UNFINISHED
    report(options, config)
    return 0


def people_folder(options: Options) -> Path:
    return options.out / f"people-{options.images}-{options.identities}"


def standard(options: Options) -> TrainConfig:
    """The run without --epochs, --backbone and --config: the defaults of `pat train` on the drawn people."""
    return TrainConfig(
        data=DataConfig(source=(str(people_folder(options) / "train.csv"),), cache=options.out / "cache"),
        model=ModelConfig(attention="auto"),
        loss=LossConfig(neighbours="auto", bank_read="auto"),
        weights="none",
        out=options.out / "run",
        tensorboard=False,
    )


def settings(options: Options) -> TrainConfig:
    """The run as it starts or goes on; draws its images where they are missing."""
    config = standard(options)
    if options.config is not None:
        config = overlay(config, read_mapping(options.config), str(options.config))
    if config.device != "auto":
        raise UserError(f"device is {config.device}; what is measured is this machine's device: leave it at auto")
    epochs = config.epochs if options.epochs is None else options.epochs
    if epochs < 1:
        raise UserError(f"--epochs {epochs}: expected 1 or more")
    model = dataclasses.replace(config.model, backbone=options.backbone or config.model.backbone)
    config = dataclasses.replace(
        config, epochs=epochs, model=resolve_model(model, DEVICE), loss=resolve_loss(config.loss, DEVICE),
        resume=(config.out / CHECKPOINT).exists(),
    )  # fmt: skip
    check_same_run(config)
    draw_people(people_folder(options), options.images, options.identities, Lines())
    return config


def check_same_run(config: TrainConfig) -> None:
    """Raises UserError when the folder holds a run, finished or not, that is not the one `config` asks for."""
    if not config.resume and not (config.out / MODEL).exists():
        return
    changed = differences(to_mapping(saved_config(config.out)), to_mapping(config), SAME_RUN)
    if changed:
        listed = ", ".join(changed[:4])
        raise UserError(f"{config.out} holds a run with other settings ({listed}); choose another --out")


def of_full_size(options: Options, config: TrainConfig) -> bool:
    """Whether the run is the one whose result is kept beside the suites'; any other is a try."""
    size = (options.images, options.identities)
    return size == (IMAGES, IDENTITIES) and not differences(
        to_mapping(standard(options)), to_mapping(config), OWN_CHOICE
    )


@contextlib.contextmanager
def noted_call(path: Path) -> Iterator[None]:
    """Keep the seconds and the peak memory of this call; of one that is killed it remains that it began."""
    calls: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    calls.append({"seconds": None, "peak_memory": None})
    write_text(path, json.dumps(calls))
    watched, begun = watch_memory(), time.perf_counter()
    try:
        yield
    finally:
        calls[-1] = {"seconds": time.perf_counter() - begun, "peak_memory": watched()}
        write_text(path, json.dumps(calls))


def report(options: Options, config: TrainConfig) -> None:
    """Write and print the result of a finished run."""
    measured = result(options, config)
    whole = of_full_size(options, config)
    path = path_for(f"{device_name()} train")
    if not whole:
        path = options.out / path.name
    store(path, device_name(), [measured])
    run = measured["run"]
    print(table([measured]))
    print(
        f"{run['steps']} steps, {run['total_seconds']:.1f} s in {run['calls']} calls; "
        f"{run['share_of_peak_in_steps']:.1%} of {run['peak_teraflops']:.3g} TFLOP/s, a large {measured['dtype']} "
        "product, while steps run"
        + ("" if run["share_of_peak_in_total"] is None else f", {run['share_of_peak_in_total']:.1%} over all")
    )
    if run["calls_cut_off"]:
        print(f"{run['calls_cut_off']} calls were killed: their seconds are not known and not in the total")
    print(f"written to {path}" + ("" if whole else ", not to bench/results: the run is a try, not of full size"))


def result(options: Options, config: TrainConfig) -> Row:
    """One row, and under `run` what is true of the whole.

    The quantiles are of seconds a step, the mean of each epoch; of an epoch that took two calls, of its last part.
    """
    log = [json.loads(line) for line in (config.out / LOG).read_text().splitlines()]
    epochs = [line for line in log if line["event"] == "epoch"]
    steps = sum(line["event"] == "step" for line in log)
    calls = json.loads((options.out / "calls.json").read_text())
    batch = config.identities_per_batch * config.images_per_identity
    rate = statistics.harmonic_mean([line["images_per_second"] for line in epochs])
    dtype = amp_dtype(config.amp, DEVICE) or torch.float32

    dim = build_backbone(config.model).embed_dim
    has_bank = config.model.parts > 0 and (config.loss.csl > 0 or config.loss.psd > 0)
    bank = bank_flops(config.model.parts, options.images, batch, dim) if has_bank else 0
    flops_of_image = network_flops(config.model, options.identities) + bank / batch
    peak = product_rate(dtype)
    total, cut_off = sum(call["seconds"] or 0.0 for call in calls), sum(call["seconds"] is None for call in calls)
    facts = {
        "operation": "training run",
        "shape": f"{config.model.backbone} B={batch} M={options.images} identities={options.identities} "
        f"epochs={config.epochs}",
        "dtype": dtype_name(dtype),
        "implementation": "ours" if config.compile == "off" else f"ours, compiled ({config.compile})",
        "images_per_second": rate,
        "teraflops": rate * flops_of_image / 1e12,
        "peak_memory": max((call["peak_memory"] for call in calls if call["peak_memory"]), default=None),
    }
    run = {
        "total_seconds": total,
        "calls": len(calls),
        "calls_cut_off": cut_off,
        "steps": steps,
        "share_of_peak_in_steps": rate * flops_of_image / peak,
        # Without the seconds of a killed call it would come out too high.
        "share_of_peak_in_total": None if cut_off else steps * batch * flops_of_image / total / peak,
        "peak_teraflops": peak / 1e12,
        "loss_of_last_epoch": epochs[-1]["loss"],
    }
    return row(facts, quantiles([batch / line["images_per_second"] for line in epochs])) | {"run": run}
