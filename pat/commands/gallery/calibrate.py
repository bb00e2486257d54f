"""`pat gallery calibrate`: from which cosine on two images show the same person."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.threshold import FORMAT
from deploy.settings import DetectSettings
from deploy.shipped import bundle_and_rest
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.files import write_text
from pat.base.progress import Progress
from pat.commands.embedders import SHIPPED, opened_model
from pat.commands.gallery.recording import WORST, is_recording, recording_scores, watch
from pat.commands.gallery.tools import print_table
from pat.config import TargetConfig
from pat.data.layouts import DataSet, open_data_set
from pat.data.pixels import read_images
from pat.data.sample import DISTRACTOR, JUNK, Sample
from pat.evaluation.scoring import embed_images
from pat.evaluation.verification import PairScores, pair_scores

USELESS = 0.35
"""Equal error rate from which on a model is refused."""
RATES = (0.1, 0.01, 0.001, 0.0001)
"""False-match rates in the table, beside the one asked for."""
MEASURED = ("equal_error_rate", "identities", "cameras", "genuine_pairs", "impostor_pairs", "across_cameras")
"""What the file tells of the pairs."""


@dataclass(frozen=True)
class Calibrate:
    """Choose the threshold of `pat camera`: who is known, who is somebody new.

    On labelled images all are compared with each other. A pair of different people above the threshold is a false
    match (FMR), a pair of one person, by two cameras where cameras are known, below it a false non-match (FNMR).
    The rate counts comparisons: a search in a gallery of 1,000 entries makes 1,000 of them. Use images like those
    of your cameras, of people the model was not trained on.

    On videos of your cameras, without labels: people seen at once in one image are different people, and views of
    one track are of one person. Their FNMR is that of one camera; by two cameras the same person is less alike.
    """

    bundle: Annotated[Positional[str], arg(metavar="[BUNDLE]", help_behavior_hint=SHIPPED)] = ""
    """The bundle folder of `pat export` that the camera will use."""
    data: Annotated[
        Positional[tuple[str, ...]], arg(metavar="DATA|VIDEO...", help_behavior_hint="(at least one)")
    ] = ()
    """Labelled images, as `pat evaluate --data` takes them: a folder, .csv, .jsonl, market1501, or NAME=PATH. Or
    videos, as `pat camera` takes them."""
    false_match_rate: float = 0.001
    """Share of comparisons of different people that may lie above the threshold."""
    out: Path = Path("calibration.json")
    """The file to write; `pat camera --gallery.threshold FILE` reads it."""
    root: Annotated[Path, arg(name="data.root")] = field(default=TargetConfig.root)
    """Folder that holds the data sets named by layout."""
    cache: Path = field(default=TargetConfig.cache)
    """Where resized images are kept."""
    on_error: Annotated[Literal["stop", "skip"], arg(name="data.on-error")] = "stop"
    """What an unreadable image does: stop, or be skipped and named."""
    detector: Annotated[str, arg(name="detect.detector")] = DetectSettings.detector
    """What finds people in videos; see `pat camera`."""

    def run(self, progress: Progress) -> None:
        if not 0 < self.false_match_rate < 1:
            raise UserError(f"--false-match-rate is {self.false_match_rate}; it lies between 0 and 1")
        bundle, data, shipped = bundle_and_rest((self.bundle, *self.data) if self.bundle or self.data else ())
        if shipped:
            progress.say(f"no bundle is named: the model in the box, {bundle}")
        dataclasses.replace(self, bundle=str(bundle), data=data)._calibrate(progress)

    def _calibrate(self, progress: Progress) -> None:
        manifest = Manifest.load(self.bundle)
        recorded = [is_recording(each) for each in self.data]
        if not self.data or (not all(recorded) and len(self.data) > 1):
            given = ", ".join(self.data) or "nothing"
            raise UserError(f"give one labelled data set, or videos alone, not {given}")
        if recorded[0]:
            name, worst = ", ".join(self.data), WORST
            scores = recording_scores(watch(Path(self.bundle), self.data, self.detector, progress), len(self.data))
        else:
            data_set = open_data_set(self.data[0], self.root, self.on_error)
            for note in data_set.notes:
                progress.say(f"note: {note}")
            name, worst = data_set.name, USELESS
            scores = self._score(labelled(data_set), progress)
        for line in doubts(scores, self.false_match_rate):
            progress.say(f"warning: {line}")
        if scores.equal_error_rate >= worst:
            raise UserError(
                f"{self.bundle} cannot tell these people apart: at its equal error rate "
                f"{100 * scores.equal_error_rate:.3g} % of the comparisons are wrong (guessing: 50 %, refused "
                f"from {100 * worst:g} %). No threshold is worth using; is it a trained model, and "
                + ("are these people?" if recorded[0] else "are these crops named by who they show?")
            )
        threshold = scores.threshold(self.false_match_rate)
        rates = [_at(scores, rate) for rate in sorted({*RATES, self.false_match_rate}, reverse=True)]
        print_rates(scores, rates, self.false_match_rate)
        progress.say(
            f"threshold {threshold:.6f} for a false-match rate of {self.false_match_rate:g}; "
            f"equal error rate {100 * scores.equal_error_rate:.3g} %"
        )
        write_text(self.out, json.dumps(self._facts(manifest, name, scores, rates), indent=2) + "\n")
        progress.say(f"wrote {self.out}; use it with `pat camera --gallery.threshold {self.out}`")

    def _score(self, samples: Sequence[Sample], progress: Progress) -> PairScores:
        config = TargetConfig(root=self.root, cache=self.cache, on_error=self.on_error)
        with opened_model(Path(self.bundle), "cpu", "auto", progress) as model:
            images = read_images(samples, model.image_size, config, progress)
            (features,) = embed_images(model.embedder(), [images], progress)
        with progress.bar("compare", len(features.vectors)) as advance:
            return pair_scores(features, lambda count: advance(count, ""))

    def _facts(
        self, manifest: Manifest, data: str, scores: PairScores, rates: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "model": fingerprint(manifest),
            "bundle": str(self.bundle),
            "precision": manifest.precision.name,
            "data": data,
            "threshold": scores.threshold(self.false_match_rate),
            "false_match_rate": self.false_match_rate,
            **{name: getattr(scores, name) for name in MEASURED},
            "table": rates,
        }


def _at(scores: PairScores, rate: float) -> dict[str, Any]:
    """What a false-match rate costs: a row of the table."""
    threshold = scores.threshold(rate)
    return {
        "asked_false_match_rate": rate,
        "threshold": threshold,
        "false_match_rate": scores.false_match_rate(threshold),
        "false_non_match_rate": scores.false_non_match_rate(threshold),
        "supported": rate >= scores.smallest_rate,
    }


def labelled(data_set: DataSet) -> list[Sample]:
    """The images of known people that a model was not trained on; all there are where nothing was set apart."""
    chosen = [*data_set.query, *data_set.gallery] or list(data_set.train)
    once = {sample.path: sample for sample in chosen if sample.identity not in (JUNK, DISTRACTOR)}
    if not once:  # a layout without distractors counts its people from 0
        once = {sample.path: sample for sample in chosen if sample.identity != JUNK}
    return list(once.values())


def doubts(scores: PairScores, rate: float) -> list[str]:
    """What makes the figures weaker than they look, a line each."""
    found = []
    if rate < scores.smallest_rate:
        found.append(
            f"{scores.impostor_pairs} pairs of different people cannot show a rate of {rate:g}: none above the "
            f"threshold still allows {scores.smallest_rate:.2g} (rule of three); take more people"
        )
    if scores.false_match_rate(scores.threshold(rate)) > rate:
        found.append("even at a cosine of 1 more pairs match: images of different people are the same image")
    if not scores.across_cameras:
        found.append("nobody was seen by two cameras: pairs of one camera are more alike than yours will be")
    if scores.identities < 30:
        found.append(f"only {scores.identities} identities: the same people are in most pairs, which tells less")
    return found


def print_rates(scores: PairScores, rates: Sequence[dict[str, Any]], asked: float) -> None:
    """Threshold, both error rates and the pairs they rest on, a row for each false-match rate."""
    rows = []
    for each in rates:
        rate, false_matches = each["asked_false_match_rate"], each["false_match_rate"]
        misses = each["false_non_match_rate"]
        rows.append(
            [
                f"{rate:g}" + (" (asked for)" if rate == asked else ""),
                f"{each['threshold']:.6f}",
                f"{false_matches:.3g} ({round(false_matches * scores.impostor_pairs)} of {scores.impostor_pairs})",
                f"{misses:.3g} ({round(misses * scores.genuine_pairs)} of {scores.genuine_pairs})",
                "yes" if each["supported"] else f"no, not below {scores.smallest_rate:.2g}",
            ]
        )
    print_table(["false-match rate", "threshold", "FMR (pairs)", "FNMR (pairs)", "enough pairs"], rows)
