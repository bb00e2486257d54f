"""`python -m bench model`: renders people, trains on them, exports the bundle, scores it and writes its card.

Each stage leaves a result that the next call finds; a call with --minutes leaves in time with the state saved, and
the same command goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import stages
from bench.commands import option
from bench.deadline import Deadline
from bench.model.card import card
from bench.model.scores import scores_on
from bench.stages import all_done
from deploy import runtime
from export.labelled import Decide
from export.manifest import MANIFEST
from export.to_onnx import export_bundle
from pat.base.files import write_text
from pat.base.mapping import overlay, read_mapping
from pat.base.progress import Progress
from pat.config import DataConfig, TrainConfig
from pat.device import choose_device, resolve_loss, resolve_model
from pat.model.model_file import NAME
from pat.processes import cores
from pat.synthetic.people.dataset import write_people
from pat.synthetic.people.plan import TEST_DOMAIN, Plan
from pat.training.loop import train
from pat.training.run_folder import CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "rendered.toml"
SIZE = (160, 80)
"""Of the rendered crops: at least what the network takes."""
PEOPLE = Plan(identities=4400, images=16, cameras=600, test_share=0.05, size=SIZE, seed=1)
"""Whom the model learns from, and 220 others that thresholds are chosen on."""
FALSE_MATCHES = 0.001
"""Share of pairs of different people that may match at the threshold in the bundle."""


@dataclass(frozen=True)
class Options(stages.Options):
    out: Path = option(Path("runs/model"), "default: %(default)s")
    training: float = option(92.0, "default: %(default)s", metavar="MINUTES")


def main(options: Options) -> int:
    """As `stages.run`."""
    return stages.run(make, options)


def make(options: stages.Options, deadline: Deadline, progress: Progress) -> bool:
    """All stages, each where its result is not there yet; False when time was up before the last."""
    out, plan, test = options.out, PEOPLE, dataclasses.replace(TEST_DOMAIN, size=SIZE)
    if options.small:
        plan = dataclasses.replace(plan, identities=80, images=8, cameras=12, cameras_each=4, test_share=0.5)
        test = dataclasses.replace(test, identities=40, images=6, cameras=6, cameras_each=3)
    if options.threads:
        torch.set_num_threads(options.threads)
    parts = (
        lambda: _render(out / "people", plan, progress),
        lambda: _render(out / "test", test, progress),
        lambda: _train(options, deadline, progress),
        lambda: _export(out, progress, tells_apart=not options.small),
        lambda: _score(out, progress),
    )
    if not all_done(parts, deadline):
        return False
    progress.say(f"the bundle is {out / 'bundle'}; copy it to models/pat-people to ship it")
    return True


def settings(options: stages.Options) -> TrainConfig:
    """The recipe for rendered people, on what this machine has."""
    device = choose_device("auto")
    config = overlay(TrainConfig(), read_mapping(RECIPE), str(RECIPE))
    if options.small:
        config = dataclasses.replace(config, identities_per_batch=8)
    model = resolve_model(dataclasses.replace(config.model, attention="auto"), device)
    if device.type == "cpu":
        model = dataclasses.replace(model, attention="reference")  # in bfloat16 faster than SDPA on 51 tokens
    return dataclasses.replace(
        config,
        data=DataConfig(source=(f"market1501={options.out / 'people'}",), cache=options.out / "cache"),
        model=model,
        loss=resolve_loss(dataclasses.replace(config.loss, neighbours="auto"), device),
        minutes=0.2 if options.small else options.training,
        out=options.out / "run",
        tensorboard=False,
    )


def _render(folder: Path, plan: Plan, progress: Progress) -> None:
    progress.say(f"{folder}: {plan.identities} people in {plan.cameras} cameras")
    write_people(folder, plan, workers=cores(), progress=_now_and_then(progress))


def _now_and_then(progress: Progress) -> Callable[[str, int, int], None]:
    """Tells every twentieth part of a long piece of work."""
    told: dict[str, int] = {}

    def tell(what: str, done: int, total: int) -> None:
        part = 20 * done // max(total, 1)
        if told.get(what) != part:
            told[what] = part
            progress.say(f"  {what}: {done} of {total}")

    return tell


def _train(options: stages.Options, deadline: Deadline, progress: Progress) -> None:
    config = settings(options)
    if (config.out / NAME).exists():
        return
    resume = (config.out / CHECKPOINT).exists()
    train(dataclasses.replace(config, resume=resume), progress, leave=deadline.passed)


def _export(out: Path, progress: Progress, tells_apart: bool) -> None:
    """The bundle, with a threshold where the model `tells_apart` people well enough to have one."""
    if (out / "bundle" / MANIFEST).exists():
        return
    decision = Decide(f"people={out / 'people'}", rate=FALSE_MATCHES) if tells_apart else None
    export_bundle(
        out / "run" / NAME, out / "bundle", check_images=out / "people" / "query", half_weights=True,
        trainable=True, decision=decision, progress=progress,
    )  # fmt: skip


def _score(out: Path, progress: Progress) -> None:
    """scores.json and the bundle's README.md."""
    with runtime.open(out / "bundle") as session:
        size = (session.manifest.input.height, session.manifest.input.width)

        found = {
            name: scores_on(out / folder, session.embed, size, out / "cache", progress)
            for name, folder in (("held-out people of the training domain", "people"), ("test domain", "test"))
        }
        write_text(out / "scores.json", json.dumps(found, indent=1) + os.linesep)
        write_text(out / "bundle" / "README.md", card(session.manifest, found))
