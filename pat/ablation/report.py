"""The answer of a study on paper: Markdown, CSV, figures, and the commands that made them."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pat.ablation import search
from pat.ablation.plan import Run
from pat.ablation.power import MOST, pooled, seeds_needed, smallest_seen
from pat.ablation.study import CLS, Study
from pat.ablation.summary import Row, heldout_by_rate, rows, spread, targets_of
from pat.base.files import write_image, write_text
from pat.evaluation.curves import spread_plot
from pat.evaluation.report import versions

POINT = 0.01
"""A difference in mAP that is worth a training."""

TABLE, RUNS, COMMANDS = "table.md", "runs.csv", "commands.sh"


@dataclass(frozen=True)
class Findings:
    """A study and its runs."""

    study: Study
    rate: float
    """The rate that all arms share."""
    same_rate: Sequence[Run]
    tuning: Sequence[Run]
    tuned: Sequence[Run]
    """At each arm's own rate; empty where nothing was tuned."""
    searched: Sequence[Run] = ()
    """A random search on held-out people of the source, whose best are arms of the study."""


def write_report(folder: Path, findings: Findings, command: str, where: str) -> None:
    """Write the table, the list of runs, a figure for each target and the commands into `folder`."""
    write_text(folder / TABLE, markdown(findings, command, where))
    write_text(folder / RUNS, listing(findings, folder))
    write_text(folder / COMMANDS, commands(findings, command))
    for target in targets_of(findings.same_rate):
        write_image(_figure(findings, target), folder / figure_name(target))


def figure_name(target: str) -> str:
    return f"figure-{target}.png"


def tables(findings: Findings, target: str) -> dict[str, list[Row]]:
    """Title -> rows, for one target; one table where every arm's own rate is the shared one."""
    found = {f"All arms at learning rate {findings.rate:g}": rows(findings.study, findings.same_rate, target)}
    if any(run.rate != findings.rate for run in findings.tuned):
        title = "Each arm at its own rate, the best of the tuning"
        found[title] = rows(findings.study, findings.tuned, target)
    return found


def markdown(findings: Findings, command: str, where: str) -> str:
    """The tables with the question, how they were made and how they are to be read."""
    lines = [f"# {findings.study.name}", "", findings.study.question, ""]
    for target in targets_of(findings.same_rate):
        for title, table in tables(findings, target).items():
            lines += _section(f"{target}: {title}", COLUMNS, map(cells, table))
            lines += [*what_it_could_see(table), *_smallest(findings.study, table)]
        lines += [f"![mAP of every seed, mean and standard deviation]({figure_name(target)})", ""]
    lines += [*_search_table(findings), *_tuning_table(findings), *_reading(findings)]
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines += ["## How it was made", "", f"`{command}`", ""]
    lines += [f"On {where}; {made}. Every run by itself: `{COMMANDS}`, `{RUNS}`."]
    return "\n".join(lines) + "\n"


SIGHT_COLUMNS = (
    "arm", "embedding", "over people, 95 % interval", "deviation of the difference", "seen 8 times in 10 from",
    "seeds for 1 point", "seconds a step", "bank, MB",
)  # fmt: skip
COLUMNS = (
    "arm", "embedding", "learning rate", "seeds", "mAP, %", "rank-1, %", "mAP against",
    "difference, 95 % interval", "p (Holm)",
)  # fmt: skip
SHORT_COLUMNS = ("arm", "rate", "seeds", "mAP, %", "rank-1, %", "change", "p")


def cells(row: Row) -> list[str]:
    """A row as text."""
    seeds = str(len(row.mAP)) + (f" ({row.diverged} diverged)" if row.diverged else "")
    test = row.test
    difference = f"{100 * test.mean:+.1f} [{100 * test.low:+.1f}, {100 * test.high:+.1f}]" if test else "-"
    if test and test.pairs < len(row.mAP):
        difference += f" ({test.pairs} pairs)"
    p = "-" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    against = row.against or "(baseline)"
    scores = [f"{row.rate:g}", seeds, _spread(row.mAP), _spread(row.rank1)]
    return [row.arm, row.kind, *scores, against, difference, p]


def what_it_could_see(table: Sequence[Row]) -> list[str]:
    """How small a difference the seeds show, what other people would have said, and what an arm costs."""
    tests = [row.test for row in table if row.test is not None]
    lines = [*markdown_table(SIGHT_COLUMNS, map(_sight_cells, table)), ""]
    if not tests:
        return [*lines, "One seed tells nothing of chance: no row of this table is a finding.", ""]
    deviation = pooled([test.deviation for test in tests], [test.pairs - 1 for test in tests])
    seeds = max(test.pairs for test in tests)
    seen, needed = smallest_seen(seeds, deviation), seeds_needed(deviation, POINT)
    lines.append(
        f"With {seeds} seeds and a deviation of {100 * deviation:.1f} points, pooled over the rows, a difference "
        f"must be {100 * seen:.1f} points to be seen eight times in ten (before Holm's correction); one point "
        f"needs {_count(needed)} seeds."
    )
    if needed > seeds:
        lines.append("**This study could not have seen a difference of one point.**")
    return [*lines, ""]


def _sight_cells(row: Row) -> list[str]:
    test, over = row.test, row.over_people
    sight = ["-", "-", "-"]
    if test:
        seen = smallest_seen(test.pairs, test.deviation)
        sight = [f"{100 * test.deviation:.1f}", f"{100 * seen:.1f}", _count(seeds_needed(test.deviation, POINT))]
    people = f"[{100 * over.low:+.1f}, {100 * over.high:+.1f}] ({over.people})" if over else "-"
    step = "-" if row.step_seconds is None else f"{row.step_seconds:.3g}"
    bank = f"{row.bank_bytes / 1e6:.1f}" if row.bank_bytes else "-"
    return [row.arm, row.kind, people, *sight, step, bank]


def _count(seeds: int) -> str:
    return f"{seeds}" if seeds < MOST else f"{MOST} or more"


def _smallest(study: Study, table: Sequence[Row]) -> list[str]:
    """The arm with the smallest bank, then the shortest step, that has lost less than a point for certain."""
    if not study.economical:
        return []
    equal = [row for row in table if row.kind == CLS and row.test is not None and row.test.low > -POINT]
    if not equal:
        return ["No arm is shown to lose less than a point: the intervals are too wide, or it loses.", ""]
    first = min(equal, key=lambda row: (row.bank_bytes, row.step_seconds or math.inf))
    return [f"The smallest that loses less than a point for certain (the interval's low end): {first.arm}.", ""]


def short_cells(row: Row) -> list[str]:
    """A row for a terminal: other embeddings stand indented under their arm."""
    arm, kind, rate, seeds, mAP, rank1, _, difference, p = cells(row)
    return [arm if kind == CLS else f"  {kind}", rate, seeds, mAP, rank1, difference.split(" ")[0], p]


def markdown_table(columns: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    table = [columns, ["---"] * len(columns), *body]
    return ["| " + " | ".join(row) + " |" for row in table]


def listing(findings: Findings, folder: Path) -> str:
    """CSV with a line for each run, target and way to score; shares of 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts_of_run = ["purpose", "arm", "learning_rate", "seed", "status"]
    writer.writerow([*facts_of_run, "target", "kind", "mAP", "rank1", "seconds", "folder"])
    for run in _all_runs(findings):
        result = run.result()
        if result is None:
            continue
        facts = [run.purpose, run.arm.key, f"{run.rate:g}", run.seed, result.status]
        end = [f"{result.seconds:.0f}", run.folder.relative_to(folder)]
        scores = [
            (target, kind, f"{score['mAP']:.6f}", f"{score['rank1']:.6f}")
            for target, kinds in result.scores.items()
            for kind, score in kinds.items()
        ]
        if result.heldout is not None:
            scores = [("held-out source", "cls", f"{result.heldout:.6f}", "")]
        for score in scores or [("", "", "", "")]:
            writer.writerow([*facts, *score, *end])
    return text.getvalue()


def commands(findings: Findings, command: str) -> str:
    """What makes the study, and under it what repeats each of its runs by itself."""
    lines = [f"# The whole study; finished runs are not repeated.\n{command}\n", "# Each run by itself, again:"]
    for run in _all_runs(findings):
        config = shlex.quote(str(run.folder / "config.json"))
        out = shlex.quote(f"{run.folder}-again")
        lines.append(f"# pat train --config {config} --out {out}")
    return "\n".join(lines) + "\n"


def _all_runs(findings: Findings) -> list[Run]:
    every = [*findings.same_rate, *findings.searched, *findings.tuning, *findings.tuned]
    return list({run.folder: run for run in every}.values())


def _spread(values: Mapping[int, float]) -> str:
    mean, deviation = spread(values)
    if math.isnan(mean):
        return "-"
    return f"{100 * mean:.1f}" + ("" if math.isnan(deviation) else f" ± {100 * deviation:.1f}")


def _search_table(findings: Findings) -> list[str]:
    if not findings.searched:
        return []
    arms = list({run.arm.key: run.arm for run in findings.searched}.values())
    found = search.by_score(arms, findings.searched)
    body = [*(search.cells(arm, score) for arm, score in found), search.correlations(found)]
    reading = (
        f"Mean over {_seeds(findings.searched)}, the best first; the finalists are arms of the table above. Rank "
        "correlation: Spearman's, of a setting with the score while all others vary. The best of many is lucky "
        "too: what counts are the finalists on the target, which the search did not see."
    )
    return _section("Random search, scored on held-out source identities", search.columns(found), body, reading)


def _tuning_table(findings: Findings) -> list[str]:
    if not findings.tuning:
        return []
    by_rate = heldout_by_rate(findings.tuning)
    rates = sorted({run.rate for run in findings.tuning})
    chosen = {run.arm.key: run.rate for run in findings.tuned}
    body = []
    for arm in findings.study.arms:
        found = by_rate.get(arm.key, {})
        body.append([arm.name, *(_heldout(found.get(rate), rate == chosen.get(arm.key)) for rate in rates)])
    told = [
        f"Mean over {_seeds(findings.tuning)} of trainings without these identities; the chosen rate is bold. The "
        "target was not looked at."
    ]
    if all(run.rate == findings.rate for run in findings.tuned):
        told.append("Every arm's own rate is the one that all share, so the table above is that of both.")
    edges = {run.arm.name: run.rate for run in findings.tuned if run.rate in (rates[0], rates[-1])}
    if edges:
        named = ", ".join(f"{name} ({rate:g})" for name, rate in edges.items())
        told.append(f"At the edge of the rates tried, so a wider `--rate-factors` may find better ones: {named}.")
    columns = ["arm", *(f"lr {rate:g}" for rate in rates)]
    return _section("Tuning: mAP on held-out source identities, %", columns, body, *told)


def _section(title: str, columns: Sequence[str], body: Iterable[Sequence[str]], *paragraphs: str) -> list[str]:
    lines = [f"## {title}", "", *markdown_table(columns, body), ""]
    return lines + [line for each in paragraphs for line in (each, "")]


def _seeds(runs: Sequence[Run]) -> str:
    count = len({run.seed for run in runs})
    return "1 seed" if count == 1 else f"{count} seeds"


def _heldout(value: float | None, chosen: bool) -> str:
    if value is None:
        return "-"
    text = "diverged" if value == -math.inf else f"{100 * value:.1f}"
    return f"**{text}**" if chosen else text


def _reading(findings: Findings) -> list[str]:
    lines = [
        "± is the standard deviation over seeds. The difference is paired: same seed, same images in the same "
        "order; its interval and p are a paired t-test's, p corrected by Holm over the rows of a table. Models "
        "are those of the last epoch.",
        "",
        "The interval over people is a bootstrap's: other people of the same kind, the same trainings. A "
        "difference is a finding where both intervals leave 0 out. Seconds are by the clock, beside whatever "
        "else ran.",
        "",
    ]
    if any(kind.rerank for arm in findings.study.arms for kind in arm.kinds):
        lines += ["Re-ranking looks at all queries together, which a camera cannot do: its row stands apart.", ""]
    return lines


def _figure(findings: Findings, target: str) -> Image.Image:
    series = {
        title: {_label(row): [100 * value for value in row.mAP.values()] for row in table}
        for title, table in tables(findings, target).items()
    }
    return spread_plot(series, label=f"mAP on {target}, %", baseline=True)


def _label(row: Row) -> str:
    return row.arm if row.kind == CLS else f"{row.arm}: {row.kind}"
