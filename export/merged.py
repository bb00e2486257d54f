"""A graph that merges patch tokens, held against the model that merges none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.crops import check_images, evenly, find_images
from export.judge import Embed, Images, Judge
from export.labelled import Decide
from export.manifest import Manifest, Merged
from export.precision import crops_to_judge
from export.precisions import ENOUGH_IMAGES, MERGED, Gate
from pat.base.errors import Failure, UserError
from pat.base.progress import Progress


@dataclass(frozen=True)
class Merge:
    """How many tokens to merge where, and what the result is judged with."""

    per_block: int
    first_block: int = 1
    gate: Sequence[str] = ()
    """Limits other than MERGED, as NAME=NUMBER."""
    gate_images: Path | None = None
    """Crops to judge on beside the check set."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be and crops that cannot be read, before any work is done."""
        if self.per_block < 1 or self.first_block < 1:
            raise UserError("--merge and --merge-from must be at least 1")
        self.limits()
        check_images(self.judged_on())

    def limits(self) -> Gate:
        return MERGED.changed(self.gate)

    def judged_on(self) -> list[Path]:
        """The crops to judge on beside the check set."""
        return evenly(find_images(self.gate_images), ENOUGH_IMAGES) if self.gate_images is not None else []


def judged(
    manifest: Manifest,
    left: Sequence[int],
    request: Merge,
    check_set: Images,
    full: Embed,
    merged: Embed,
    decide: Decide | None,
    progress: Progress,
) -> Manifest:
    """The manifest of a merged graph: what it leaves, how close it comes to the full model, its gate.

    `left` are the patch tokens after each block; `check_set` holds the full model's embeddings. Raises Failure
    when the gate is missed.
    """
    size = (manifest.input.height, manifest.input.width)
    decision, threshold, sets = manifest.decision, None, [check_set]
    if decide is not None and decision is not None:
        threshold = decide.choose(full, size, progress).threshold
        decision = dataclasses.replace(decision, fp32_threshold=threshold)
    if crops := request.judged_on():
        sets.append(crops_to_judge(crops, manifest, full, progress))
    sets = [dataclasses.replace(each, threshold=threshold) for each in sets]
    limits = request.limits()
    verdict = Judge(sets, limits)(merged)
    if verdict.misses:
        raise Failure(
            f"with {request.per_block} tokens merged in each block from block {request.first_block} on, the gate "
            f"is missed: {verdict.misses}; merge fewer with --merge, later with --merge-from, or widen the gate "
            "with --gate"
        )
    patches = ", ".join(map(str, left))
    lines = (f"patch tokens after each block: {patches}; against the model in full:", *verdict.sentences())
    return dataclasses.replace(
        manifest,
        decision=decision,
        precision=dataclasses.replace(manifest.precision, gate=limits),
        merged=Merged(request.per_block, request.first_block, tuple(left), verdict.summary()),
        checks=(*manifest.checks, *lines),
    )
