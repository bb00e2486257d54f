"""The model card: what a reader must know before trusting the model, with the figures that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.manifest import MODEL, Manifest

_KNOWN = """\
- It never saw a photograph. On real cameras expect less than the figures above: how much less only images of your
  own site tell (`pat evaluate`, `pat gallery calibrate`).
- It goes by clothes, bags, hair and build. People in uniform, and whoever changes clothes, are mixed up or taken
  for somebody new.
- Small, dark or half hidden people are recognised less often; the tables tell how much.
- Nobody in the training data is a child, sits, rides or uses a wheelchair.
- It is no proof of who somebody is. Do not let anything that matters to a person rest on it alone."""


_HOW = """\
Rank-1 and mAP in per cent; in brackets the interval that holds 95 % of the results if other people were drawn the
same way (bootstrap over the people). One training, one seed. No training saw places, prints or bags of the test
domain, and nothing was chosen on it: the threshold comes from held-out people of the training domain.
"""


def card(manifest: Manifest, scores: Mapping[str, Any]) -> str:
    """README.md of the bundle: Markdown. `scores`: name of a data set -> what `scores_on` found."""
    return "\n".join(_lines(manifest, scores)) + "\n"


def _lines(manifest: Manifest, scores: Mapping[str, Any]) -> Iterator[str]:
    given, decision = manifest.input, manifest.decision
    yield "# pat-people: a person re-identification model made without a picture of anybody\n"
    yield "No picture of a real person was used and no pretrained weights: the network began at random and learned"
    yield "from rendered people alone (`docs/people.md`). Licence: Apache-2.0, as the project.\n"
    yield "| | |"
    yield "|---|---|"
    yield f"| input | {given.dtype} crops of people, RGB, {given.height} x {given.width}, {given.layout} |"
    yield f"| output | {manifest.output.size} numbers, unit length; compare by cosine |"
    yield f"| network | {_network(manifest.model)} |"
    yield f"| file | {manifest.files[MODEL].bytes / 1e6:.1f} MB, ONNX opset {manifest.opset}, computes in fp32 |"
    yield f"| learned from | {manifest.training['images']} images; seed {manifest.training['seed']} |"
    yield "| made by | `make model` (`python -m bench model`): renders, trains, exports and scores |"
    if decision is not None:
        rate = f"{decision.false_match_rate:.3%} of the pairs of different people match"
        yield f"| threshold | {decision.threshold:.4f}: {rate}; chosen on {decision.chosen_on} |"
    yield "\n## How well it tells people apart\n"
    yield _HOW
    yield "| rendered people | people, cameras | colour histogram | this model |"
    yield "|---|---|---|---|"
    for name, found in scores.items():
        ours, histogram = found["model"], found["histogram"]
        yield (
            f"| {name} | {found['people']}, {found['cameras']} | {_pair(histogram)} | {_pair(ours)} "
            f"({100 * ours['low']:.1f} to {100 * ours['high']:.1f}) |"
        )
    yield "\n## For whom, and where\n"
    yield "Queries of each group, against everybody.\n"
    names = list(scores)
    yield "| queries | " + " | ".join(names) + " |"
    yield "|---|" + "---|" * len(names)
    for division in scores[names[0]]["groups"]:
        for group in sorted({group for name in names for group in scores[name]["groups"][division]}):
            cells = [_cell(scores[name]["groups"][division].get(group)) for name in names]
            yield f"| {division}: {group} | " + " | ".join(cells) + " |"
    yield "\n## Known to be wrong\n"
    yield _KNOWN


def _network(model: Mapping[str, Any]) -> str:
    stem = "convolutional stem" if model["stem"] == "deep" else f"stem {model['stem']}"
    parts = f"{model['parts']} part tokens" if model["parts"] else "no part tokens"
    return f"vision transformer, {stem}, {model['depth']} blocks of width {model['width']}, {parts}"


def _pair(figures: Mapping[str, float]) -> str:
    return f"{100 * figures['rank1']:.1f} / {100 * figures['mAP']:.1f}"


def _cell(figures: Mapping[str, float] | None) -> str:
    if figures is None:
        return "too few"
    interval = f"{100 * figures['low']:.0f} to {100 * figures['high']:.0f}"
    return f"{_pair(figures)} ({interval}; {figures['queries']} queries)"
