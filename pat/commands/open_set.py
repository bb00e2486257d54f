"""`pat evaluate --open-set`: how well a model tells people whom nobody may have enrolled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from export.manifest import Decision
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.commands.embedders import OpenedModel
from pat.commands.tables import print_table
from pat.config import EvaluateConfig
from pat.evaluation.kinds import Kind, every_kind
from pat.evaluation.open_set import DRAWS, OpenSet, open_set
from pat.evaluation.report import Report
from pat.evaluation.scoring import Score

CAPTION = (
    "Open set, percent. DIR: queries of enrolled people that find them, at the threshold that 1 % or 0.1 % of the "
    "queries of unknown people reach; mean and deviation over ten divisions of the people. TPR: pairs of a person "
    "that match where 1 % or 0.1 % of the pairs of different people do. EER: the rate at which both errors are "
    "equal. calib.: gap between the probability told, fitted on half of the people, and the truth on the others."
)


def open_set_facts(
    scores: Mapping[str, Score],
    opened: OpenedModel,
    config: EvaluateConfig,
    name: str,
    report: Report,
    progress: Progress,
) -> dict[str, Mapping[str, object]]:
    """Print the figures on the data set `name`, add them to the report, and return them for JSON, by kind.

    A bundle's threshold is judged on the embedding that it was chosen for. What cannot be measured is told.
    """
    found: dict[str, OpenSet] = {}
    facts: dict[str, Mapping[str, object]] = {}
    for kind in every_kind(parts=config.parts, flip=config.flip, debias=config.debias, rerank=False):
        row = kind.named(opened.kind)
        threshold = opened.decision.threshold if opened.decision is not None and kind == Kind() else None
        query, gallery = scores[row].query, scores[row].gallery
        try:
            with progress.bar(f"{name}: {row}, open set", DRAWS) as advance:
                found[row] = open_set(query, gallery, threshold, progress=advance)
        except UserError as error:
            progress.say(f"note: {name}: {row}: {error}")
            report.add_text(f"{row}: {error}")
            facts[row] = {"missing": str(error)}
        else:
            facts[row] = found[row].to_mapping()
    if found:
        print_table(f"{name}, open set: DIR at FAR, TPR at FPR", found)
        report.add_results(found, caption=CAPTION)
    for line in _remarks(found, opened.decision):
        print(line)
        report.add_text(line)
    return facts


def _remarks(found: Mapping[str, OpenSet], decision: Decision | None) -> Iterator[str]:
    for each in found.values():
        cost = each.decision
        if cost is not None and decision is not None:
            yield (
                f"The bundle decides by a cosine of {cost.threshold:.4f}: {cost.false_match_rate:.3%} of the "
                f"pairs of different people match, {cost.miss_rate:.1%} of the pairs of one person do not. It was "
                f"chosen for {decision.false_match_rate:.3%} on {decision.chosen_on}."
            )
    if any("-" in each.figures().values() for each in found.values()):
        yield "-: too few queries or pairs to see so rare an error, or people to fit and judge a calibration."
