"""`pat ablate STUDY`: a study of several arms and seeds, from one configuration to a table with its spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

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
from pat.base.progress import Progress
from pat.commands.ablate.arguments import QUICK_DOMAINS, Arguments, check, tunes
from pat.commands.small_study import DOMAINS, draw_domains
from pat.commands.tables import show_table
from pat.config import TrainConfig
from pat.device import choose_device, describe, resolve_loss, resolve_model
from pat.training.run_folder import claimed
from pat.training.side_by_side import Lane, lanes, side_by_side
from pat.training.state import amp_dtype
from pat.training.validate import validate


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


def _check_images(base: TrainConfig, given: Arguments) -> None:
    seeds = min(given.seeds, given.tuning_seeds) if tunes(given) else 0
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
