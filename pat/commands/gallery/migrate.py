"""`pat gallery migrate`: a gallery for another model, which cannot embed again what was kept as vectors alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from deploy import runtime
from deploy.gallery import facts_of
from deploy.gallery.backup import new_folder
from deploy.gallery.entries import Floats
from deploy.gallery.fingerprint import fingerprint
from deploy.gallery.remodel import remodel
from deploy.gallery.vector_map import VectorMap, fit
from export.manifest import Manifest
from pat.base.errors import UserError
from pat.base.progress import Progress
from pat.commands.gallery.calibrate import labelled
from pat.commands.gallery.enrol import BATCH, crop_of
from pat.commands.gallery.tools import OnGallery, opened, print_table
from pat.config import TargetConfig
from pat.data.images import find_images
from pat.data.layouts import open_data_set
from pat.evaluation.ranking import Features, evaluate_ranking

MOST = 4000
"""Crops that are embedded; of more, these are drawn."""
FEWEST_PEOPLE = 20
"""Held out, below which the loss is not known well enough to decide by."""


@dataclass(frozen=True)
class Loss:
    """What the map costs, on people (without labels: on crops) that it was not fitted on."""

    people: int
    crops: int
    own: float
    """Share of crops whose mapped vector is nearest to the new model's vector of the same crop."""
    cosine: float
    """Mean cosine between these two."""
    old: tuple[float, float] | None = None
    """Rank-1 and mAP of the old model; None without labels."""
    new: tuple[float, float] | None = None
    mapped: tuple[float, float] | None = None
    """Queries by the new model, in a gallery of mapped vectors."""

    @property
    def kept(self) -> float:
        """What is left of the old model's rank-1; without labels the share of crops that find themselves."""
        return self.own if self.mapped is None or self.old is None else self.mapped[0] / max(self.old[0], 1e-9)


@dataclass(frozen=True)
class Migrate(OnGallery):
    """Make of a gallery one for another model, in a new folder. Vectors of two models cannot be compared.

    With CROPS, images of people for both models to embed (`pat synth people` makes some), a linear map from old to
    new vectors is learned. Its loss is measured on people it did not see, printed, and kept with the gallery; a
    map that loses too much is refused. Which entries are mapped is recorded.

    Without CROPS, where a map is refused for instance, nothing is mapped: the new gallery begins with the people
    but no vectors, and the old one beside it is searched with its own bundle (`pat gallery search`).

    Either way the new gallery goes on deleting in the old one what the retention has passed, and forgets in both.
    """

    new: Annotated[Positional[str], arg(metavar="NEW")]
    """The folder to make."""
    old_bundle: Annotated[Positional[Path], arg(metavar="OLD_BUNDLE")]
    """The bundle that the gallery was filled with."""
    new_bundle: Annotated[Positional[Path], arg(metavar="NEW_BUNDLE")]
    """The bundle that cameras will use."""
    crops: Annotated[Positional[str], arg(metavar="[CROPS]", help_behavior_hint="")] = ""
    """Labelled images, as `pat evaluate --data` takes them: a folder, .csv, market1501=PATH, ..."""
    labels: bool = True
    """Whether CROPS are labelled; --no-labels takes any folder of crops, and says less about the loss."""
    least: float = 0.8
    """Share of the old model's rank-1 that must be left (without labels: of crops that find themselves)."""

    def run(self, progress: Progress) -> None:
        if not 0 <= self.least <= 1:  # so written, NaN is wrong too
            raise UserError(f"--least is {self.least}; it is a share, from 0 to 1")
        new_folder(self.new)  # before anything is embedded
        old, new = Manifest.load(self.old_bundle), Manifest.load(self.new_bundle)
        held, target = facts_of(self.gallery).model, fingerprint(new)
        if held != fingerprint(old):
            raise UserError(f"{self.gallery} holds vectors of {held}; {self.old_bundle} is {fingerprint(old)}")
        if held == target:
            raise UserError(f"{self.new_bundle} is the model of {self.gallery} already: nothing to do")
        vector_map, about = self._learned(old, new, progress) if self.crops else (None, {})
        count = remodel(
            self.gallery, self.new, dimension=new.output.size, model=target, vector_map=vector_map,
            about={**about, "from": held, "time": time.time()},
        )  # fmt: skip
        with opened(self.gallery) as gallery:
            kept = gallery.kept()
        entries = f"{count} entries, mapped from {held}" if count else "the people of the old one, and no vectors"
        progress.say(f"made {self.new} for {target}: {entries}")
        if kept and not count:
            progress.say(f"enrol anew who is kept until forgotten: {', '.join(kept)}")
        progress.say(f"{self.gallery} is kept beside it until its retention has passed; delete it when you like")

    def _learned(self, old: Manifest, new: Manifest, progress: Progress) -> tuple[VectorMap, dict]:
        paths, people, cameras = self._images(progress)
        before = embedded(self.old_bundle, old, paths, progress)
        after = embedded(self.new_bundle, new, paths, progress)
        held = held_out(people)
        vector_map = fit(before[~held], after[~held])
        loss = measured(
            vector_map, before[held], after[held], people[held], cameras[held] if self.labels else None
        )
        show(loss, progress)
        if loss.kept < self.least:
            what = "of the old model's rank-1 is left" if loss.mapped else "of the crops find themselves"
            raise UserError(
                f"the map is refused: {loss.kept:.0%} {what}, --least asks for {self.least:.0%}. Give more crops, "
                "more like those of your cameras; or no CROPS, which keeps both galleries side by side"
            )
        fitted = {"data": self.crops, "fitted_on": int((~held).sum()), "ridge": float(vector_map.ridge)}
        return vector_map, {**fitted, **dataclasses.asdict(loss)}

    def _images(self, progress: Progress) -> tuple[list[Path], NDArray[np.int64], NDArray[np.int64]]:
        """Crops, who they show and by which camera; without labels each shows somebody else."""
        draw = np.random.default_rng(0)
        if not self.labels:
            found = find_images([Path(self.crops)])
            found = [found[row] for row in sorted(draw.permutation(len(found))[:MOST])]
            return found, np.arange(len(found)), np.arange(len(found))
        data_set = open_data_set(self.crops, TargetConfig.root, "stop")
        for note in data_set.notes:
            progress.say(f"note: {note}")
        samples = labelled(data_set)
        samples = [samples[row] for row in sorted(draw.permutation(len(samples))[:MOST])]
        people = np.array([each.identity for each in samples])
        cameras = np.array([each.camera for each in samples])
        return [Path(each.path) for each in samples], people, cameras


def embedded(bundle: Path, manifest: Manifest, paths: Sequence[Path], progress: Progress) -> Floats:
    """The vectors [n, D] of these crops by a bundle."""
    found = []
    with runtime.open(bundle) as session, progress.bar(f"embed by {bundle.name}", len(paths)) as advance:
        for begin in range(0, len(paths), BATCH):
            some = paths[begin : begin + BATCH]
            found.append(session.embed(np.stack([crop_of(path, manifest) for path in some])))
            advance(len(some))
    return np.concatenate(found)


def held_out(people: NDArray[np.int64]) -> NDArray[np.bool_]:
    """All crops of a third of the people. Raises UserError when that is too few to judge by."""
    known = np.unique(people)
    chosen = np.random.default_rng(0).permutation(known)[: len(known) // 3]
    if len(chosen) < FEWEST_PEOPLE:
        least = 3 * FEWEST_PEOPLE
        raise UserError(
            f"{len(known)} people are too few to learn a map and judge it; {least} are the least (of a data set "
            "with a query and a gallery, in these)"
        )
    return np.isin(people, chosen)


def measured(
    vector_map: VectorMap, old: Floats, new: Floats, people: NDArray[np.int64], cameras: NDArray[np.int64] | None
) -> Loss:
    """The loss on crops [n] that the map was not fitted on; `cameras` None: nothing is known of who they show."""
    mapped = vector_map(old)
    own = float(np.mean(np.argmax(mapped @ new.T, axis=1) == np.arange(len(new))))
    found = Loss(len(np.unique(people)), len(people), own, float((mapped * new).sum(axis=1).mean()))
    if cameras is None:
        return found
    if len(np.unique(cameras)) < 2:
        cameras = np.arange(len(people))  # then a query leaves out itself alone

    def score(query: Floats, gallery: Floats) -> tuple[float, float]:
        result = evaluate_ranking(Features(query, people, cameras), Features(gallery, people, cameras))
        return float(result.cmc[0]), float(result.mAP)

    return dataclasses.replace(found, old=score(old, old), new=score(new, new), mapped=score(new, mapped))


def show(loss: Loss, progress: Progress) -> None:
    """The loss as a table and a line."""
    named = {"old model": loss.old, "new model": loss.new, "new model among mapped vectors": loss.mapped}
    rows = [[name, f"{100 * each[0]:.1f}", f"{100 * each[1]:.1f}"] for name, each in named.items() if each]
    if rows:
        print_table(["people that the map did not see", "rank-1 %", "mAP %"], rows)
    progress.say(
        f"held out: {loss.crops} crops of {loss.people} people; {loss.own:.1%} are nearest to their own new "
        f"vector, at a mean cosine of {loss.cosine:.3f}"
    )
