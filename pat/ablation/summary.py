"""What the finished runs say together: mean, spread and paired test over seeds, interval over people.

A test is a paired t-test of the differences to the other side on the same seeds; p values are Holm's, over the
rows of a table, so that many arms do not make a lucky one significant. The interval over people is a bootstrap's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pat.ablation import people
from pat.ablation.plan import Run
from pat.ablation.study import CLS, Study


@dataclass(frozen=True)
class Row:
    """An arm, scored in one way, over its seeds; shares of 1."""

    arm: str
    kind: str
    rate: float
    mAP: dict[int, float]
    """By seed, of the runs that finished."""
    rank1: dict[int, float]
    diverged: int
    """Runs that are not among them because their loss was not finite."""
    against: str = ""
    """The other side of the test, an arm or a kind of this arm; empty for the baseline."""
    test: Paired | None = None
    p: float | None = None
    """Holm's p value of the difference in mAP."""
    over_people: people.Resampled | None = None
    """The same difference, by another choice of people; None where a run is older than its people's scores."""
    by_person: dict[int, dict[str, list[float]]] = field(default_factory=dict, repr=False)
    """Seed -> identity -> queries and the sum of their average precision."""
    step_seconds: float | None = None
    """Median over the runs."""
    bank_bytes: int = 0


@dataclass(frozen=True)
class Paired:
    """The difference in mAP to another row on the seeds that both have."""

    pairs: int
    mean: float
    low: float
    high: float
    """95 % confidence interval of the mean."""
    p: float
    """Two-sided, uncorrected."""
    deviation: float
    """Of the differences."""


def rows(study: Study, runs: Sequence[Run], target: str) -> list[Row]:
    """The table of one target: every arm against the first, and other ways to score it against its plain one."""
    of_arm = {arm.key: [run for run in runs if run.arm.key == arm.key] for arm in study.arms}
    table: list[Row] = []
    for arm in study.arms:
        plain = _row(of_arm[arm.key], target, CLS)
        table.append(_tested(plain, table[0], table[0].arm) if table else plain)
        others = [_row(of_arm[arm.key], target, kind.named()) for kind in arm.kinds if kind.named() != CLS]
        table += [_tested(row, plain, CLS) for row in others]
    corrected = holm([None if row.test is None else row.test.p for row in table])
    return [replace(row, p=p) for row, p in zip(table, corrected, strict=True)]


def targets_of(runs: Sequence[Run]) -> list[str]:
    """The targets that finished runs were scored on, in order."""
    results = [result for run in runs if (result := run.result()) is not None]
    return list(dict.fromkeys(target for result in results for target in result.scores))


def heldout_by_rate(runs: Sequence[Run]) -> dict[str, dict[float, float]]:
    """Arm key -> rate -> mean mAP on held-out source identities; -inf where a seed diverged."""
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        result = run.result()
        if result is not None:
            value = -np.inf if result.heldout is None else result.heldout
            found.setdefault(run.arm.key, {}).setdefault(run.rate, []).append(value)
    return {key: {rate: float(np.mean(values)) for rate, values in rates.items()} for key, rates in found.items()}


def best_rate(by_rate: Mapping[float, float], default: float) -> float:
    """The rate with the highest held-out mAP; `default` wins ties, and where every rate diverged."""
    if not by_rate:
        return default
    best = max(by_rate.values())
    tied = [rate for rate, value in by_rate.items() if value == best]
    return default if default in tied else min(tied)


def spread(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample; NaN where there are too few."""
    numbers = np.array(list(values.values()))
    return (
        float(numbers.mean()) if len(numbers) else float("nan"),
        float(numbers.std(ddof=1)) if len(numbers) > 1 else float("nan"),
    )


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired | None:
    """The paired t-test on the common seeds, or None with fewer than two."""
    from scipy import stats

    common = sorted(ours.keys() & theirs.keys())
    if len(common) < 2:
        return None
    left, right = (np.array([side[seed] for seed in common]) for side in (ours, theirs))
    mean, deviation = float((left - right).mean()), float((left - right).std(ddof=1))
    if np.ptp(left - right) == 0:  # without spread there is no t
        return Paired(len(common), mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0)
    test = stats.ttest_rel(left, right)
    interval = test.confidence_interval()
    return Paired(len(common), mean, float(interval.low), float(interval.high), float(test.pvalue), deviation)


def _row(runs: Sequence[Run], target: str, kind: str) -> Row:
    mAP, rank1, diverged = {}, {}, 0
    of_people, steps, bank = {}, [], 0
    for run in runs:
        result = run.result()
        if result is None:
            continue
        if result.status == "diverged":
            diverged += 1
        else:
            score = result.scores[target][kind]
            mAP[run.seed], rank1[run.seed] = score["mAP"], score["rank1"]
            of_people[run.seed] = people.read(run.folder, target, kind)
            steps += [] if result.step_seconds is None else [result.step_seconds]
            bank = result.bank_bytes
    row = Row(runs[0].arm.name, kind, runs[0].rate, mAP, rank1, diverged)
    step = float(np.median(steps)) if steps else None
    return replace(row, by_person=of_people, step_seconds=step, bank_bytes=bank)


def _tested(row: Row, other: Row, name: str) -> Row:
    common = sorted(row.mAP.keys() & other.mAP.keys())
    over = people.difference(*([side.by_person[seed] for seed in common] for side in (row, other)))
    return replace(row, against=name, test=paired(row.mAP, other.mAP), over_people=over)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction: the smallest of m p values times m, the next times m - 1, and so on, never falling.

    None, where nothing was tested, stays.
    """
    tested = sorted((p, number) for number, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for done, (p, number) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - done)))
        corrected[number] = least
    return corrected
