"""`pat ablate STUDY`: a study of several arms and seeds, from one configuration to a table with its spread."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from pat.ablation import folder
from pat.ablation.plan import Run, scored_run, tuning_runs
from pat.ablation.precheck import check_images
from pat.ablation.report import SHORT_COLUMNS, TABLE, Findings, short_cells, tables, write_report
from pat.ablation.search import by_score, candidates
from pat.ablation.studies import STUDIES
from pat.ablation.study import Study
from pat.ablation.summary import best_rate, heldout_by_rate, targets_of
from pat.ablation.work import carry_out
from pat.base.errors import UserError
from pat.base.mapping import overlay
from pat.base.progress import Progress, TerminalProgress
from pat.commands.arguments import ConfigFile, left_to_the_device, parse, with_config_file
from pat.commands.small_study import DOMAINS, TRAINING, draw_domains
from pat.commands.tables import show_table
from pat.config import TrainConfig
from pat.device import choose_device, describe, resolve_loss, resolve_model
from pat.training.run_folder import claimed
from pat.training.side_by_side import Lane, lanes, side_by_side
from pat.training.state import amp_dtype
from pat.training.validate import validate

OUT = Path("runs/ablate")

QUICK_DOMAINS = {
    "source": {**DOMAINS["source"], "identities_train": 60},
    "target": {**DOMAINS["target"], "identities_test": 30},
}
QUICK_EPOCHS = 4
QUICK: dict[str, Any] = {"seeds": 2, "rate_factors": (1.0, 2.0), "tuning_seeds": 1}


@dataclass(frozen=True)
class Arguments:
    """Compare arms of a study over several seeds on targets that no training sees.

    Of models that are trained already: pat ablate labels --help, pat ablate shifts --help.

    Without --data.source it draws two domains of synthetic people and trains small networks from scratch. Runs
    that are finished are not repeated: the same command continues a study, more --seeds or rates extend it.
    Writes table.md, runs.csv, commands.sh and a figure for each target into --out, by default
    runs/ablate/STUDY, or STUDY-quick.
    """

    study: Positional[Literal["components", "field", "recipe", "memory", "sweep"]]
    """components: plain ViT, PAT without CSL and PSD, + CSL, + CSL + PSD, and ways to embed and rank. field: PAT
    beside MixStyle, a camera adversary, BAU, graph sampling and others, each on the plain ViT. recipe: what each
    part of a recipe is worth; give --config recipes/rendered.toml. memory: settings of the bank, with its bytes
    and the time of a step. sweep: the constants of CSL and PSD, one at a time and at random."""
    training: Annotated[TrainConfig, arg(name="")]
    seeds: int = 5
    """Trainings of each arm, with the seeds --seed, --seed + 1, ..."""
    rate_factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Learning rates tried for each arm, as multiples of --optim.lr; 1 alone leaves the tuning out."""
    tuning_seeds: int = 2
    """Trainings of each arm and rate that tune."""
    holdout: float = 0.2
    """Share of the source identities that the tuning leaves out and scores on."""
    processes: int | None = None
    """Runs at a time; default: one for each core of a CPU, or for each GPU."""
    arms: tuple[str, ...] = ()
    """These arms of the study alone, by their folders' names, beside its baseline; default: all."""
    own_arms: tuple[Path, ...] = ()
    """Arms of your own: TOML files of settings laid over the study's, called by their names. For other starts and
    backbones, such as CLIP, DINOv2 or ViT-L from a file: weights = "clip.pt" and model.backbone."""
    random: int = 0
    """sweep: settings drawn at random and scored on held-out people of the source, one rate; 0 searches none."""
    finalists: int = 3
    """sweep: the best of the random settings, which become arms with --seeds trainings each."""
    quick: bool = False
    """A try in minutes: 2 seeds, 2 rates, few epochs, fewer drawn people; other flags go before it."""
    config: ConfigFile = None


def main(arguments: Sequence[str]) -> None:
    """Run the study, print its tables and write the results."""
    given = read_arguments(arguments)
    run(given, shlex.join(["pat", "ablate", *arguments]), TerminalProgress())


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """What the command line asks for: the paper's training on one's own data, a small one on drawn people."""
    words = [word.split("=")[0] for word in arguments]
    own = "--config" in words or "--data.source" in words
    quick = "--quick" in words
    training = TrainConfig(tensorboard=False) if own else TRAINING
    training = dataclasses.replace(left_to_the_device(training), out=OUT)
    training, rest = with_config_file(training, arguments)
    if quick:
        optim = {"warmup_epochs": 1, "cosine_epochs": QUICK_EPOCHS}
        training = overlay(training, {"optim": optim, "epochs": QUICK_EPOCHS}, "--quick")
    default = Arguments(tyro.MISSING, training, **(QUICK if quick else {}))
    given: Arguments = parse(Arguments, rest, "ablate", default)
    if given.training.out == OUT:
        out = OUT / (f"{given.study}-quick" if given.quick else given.study)
        given = dataclasses.replace(given, training=dataclasses.replace(given.training, out=out))
    return given


def run(given: Arguments, command: str, progress: Progress) -> Findings:
    """The study from images to table."""
    device = choose_device(given.training.device)
    amp = amp_dtype(given.training.amp, device)
    base = dataclasses.replace(
        given.training,
        model=resolve_model(given.training.model, device),
        loss=resolve_loss(given.training.loss, device),
        amp="off" if amp is None else str(amp).removeprefix("torch."),  # type: ignore[arg-type]  # one a study
        resume=False,
    )
    check(given)
    where = lanes(device, given.training.device, given.processes)
    study = STUDIES[given.study](base).with_arms(given.arms).with_own(given.own_arms)
    study.check(base)
    for arm in study.arms:
        config = arm.configured(base)
        validate(config)
        if config.teacher is not None:
            raise UserError("a study trains without a teacher; leave out --teacher and --loss.distill")
    if base.data.source:
        _check_images(base, given)
    drawn = None if base.data.source else "quick" if given.quick else "full"
    with claimed(base.out):
        folder.prepare(base.out, given.study, base, holdout=given.holdout, drawn=drawn)
        if drawn:
            base = _on_drawn_people(base, QUICK_DOMAINS if given.quick else DOMAINS, progress)
            _check_images(base, given)
        searched = _search(base, given, where, progress)
        if searched:
            drawn_arms = candidates(base, given.random)
            best = [arm for arm, _ in by_score(drawn_arms, searched)[: given.finalists]]
            study = dataclasses.replace(study, arms=(*study.arms, *best))
        findings = carry_out_all(study, base, given, where, progress)
        findings = dataclasses.replace(findings, searched=searched)
        threads = f", threads each: {where[0].threads}" if device.type == "cpu" else ""
        shared = f"{describe(device).split(',')[0]}; runs at a time: {len(where)}{threads}"
        write_report(base.out, findings, command, shared)
    for target in targets_of(findings.same_rate):
        for title, rows in tables(findings, target).items():
            show_table(f"{target}: {title}", SHORT_COLUMNS, [short_cells(row) for row in rows])
    progress.say(f"wrote {base.out / TABLE}")
    return findings


def _search(base: TrainConfig, given: Arguments, where: Sequence[Lane], progress: Progress) -> list[Run]:
    """The finished runs of the random search."""
    seeds = range(base.seed, base.seed + given.tuning_seeds)
    runs = tuning_runs(base, candidates(base, given.random), (base.optim.lr,), seeds, given.holdout)
    if runs:
        _finish(runs, where, "random search", progress)
    return runs


def _on_drawn_people(
    base: TrainConfig, domains: Mapping[str, Mapping[str, int]], progress: Progress
) -> TrainConfig:
    """`base` with two drawn domains in its folder to train and to be scored on."""
    drawn = base.out / "data"
    draw_domains(drawn, progress, domains)
    data = {"source": [str(drawn / "source")], "target": [str(drawn / "target")], "cache": base.out / "cache"}
    return overlay(base, {"data": data}, "drawn people")


def check(given: Arguments) -> None:
    """Refuse what cannot work before any work is done. Raises UserError."""
    data = given.training.data
    if data.source and not data.target:
        raise UserError("name the data that no training sees with --data.target")
    if data.target and not data.source:
        raise UserError("--data.target is given without --data.source; leave both out to use drawn people")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("pat ablate gives each GPU a run of its own; start it without torchrun")
    if data.holdout or given.training.select != "last":
        raise UserError(
            "a study holds identities out for its tuning: use --holdout, not --data.holdout or --select"
        )
    if given.seeds < 1 or given.tuning_seeds < 1:
        raise UserError("--seeds and --tuning-seeds must be at least 1")
    if not given.rate_factors or not all(0 < factor < math.inf for factor in given.rate_factors):
        raise UserError("--rate-factors must be above 0 and finite")
    if given.random and given.study != "sweep":
        raise UserError("--random is for sweep")
    if not given.random and given.finalists != Arguments.finalists:
        raise UserError("--finalists are those of a random search; give --random, too")
    usual = QUICK["tuning_seeds"] if given.quick else Arguments.tuning_seeds
    if not _tunes(given) and given.tuning_seeds != usual:
        raise UserError("--tuning-seeds: nothing is tuned; give --rate-factors other than 1, too")
    if given.random < 0 or given.finalists < 1:
        raise UserError("--random must not be negative and --finalists be at least 1")
    if not 0 < given.holdout < 1:
        raise UserError(f"--holdout is {given.holdout}; it is a share between 0 and 1")


def _tunes(given: Arguments) -> bool:
    """Whether settings are tried on held-out people."""
    return given.random > 0 or len({1.0, *given.rate_factors}) > 1


def _check_images(base: TrainConfig, given: Arguments) -> None:
    seeds = min(given.seeds, given.tuning_seeds) if _tunes(given) else 0
    check_images(base, range(base.seed, base.seed + seeds), given.holdout)


def carry_out_all(
    study: Study, base: TrainConfig, given: Arguments, where: Sequence[Lane], progress: Progress
) -> Findings:
    """Every run that is not finished yet: first all arms at one rate and the tuning, then each at its own rate."""
    rate = base.optim.lr
    rates = sorted({factor * rate for factor in given.rate_factors} | {rate})
    seeds = range(base.seed, base.seed + given.seeds)
    same_rate = [scored_run(base, arm, rate, seed) for arm in study.arms for seed in seeds]
    tuning: list[Run] = []
    if len(rates) > 1:
        tuning = tuning_runs(base, study.arms, rates, seeds[: given.tuning_seeds], given.holdout)
    _finish([*same_rate, *tuning], where, "1 of 2: one rate, tuning" if tuning else "all arms", progress)
    if not tuning:
        return Findings(study, rate, same_rate, [], [])
    by_rate = heldout_by_rate(tuning)
    best = {arm.key: best_rate(by_rate.get(arm.key, {}), rate) for arm in study.arms}
    tuned = [scored_run(base, arm, best[arm.key], seed) for arm in study.arms for seed in seeds]
    _finish(tuned, where, "2 of 2: own rates", progress)
    return Findings(study, rate, same_rate, tuning, tuned)


def _finish(runs: Sequence[Run], where: Sequence[Lane], label: str, progress: Progress) -> None:
    left = [run for run in runs if run.result() is None]
    progress.say(f"{label}: {len(runs) - len(left)} of {len(runs)} runs are finished, {len(left)} to go")
    if left:
        side_by_side(carry_out, left, where, progress, label)
    for run in left:
        result = run.result()
        if result is not None and result.status == "diverged":
            progress.say(f"warning: diverged: {run.name}: {result.note} (delete {run.folder} to repeat it)")
