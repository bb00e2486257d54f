"""One image of each person in cam_a and in cam_b, scored over splits in halves: shared by VIPeR and PRID."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from pat.data.layouts.reading import Problems, Split, parsed_names, require_folders
from pat.data.layouts.splits import SPLITS, first_half
from pat.data.sample import Sample

CAMERAS = ("cam_a", "cam_b")

Side = dict[int, Sample]
"""The image of each person in one camera."""


def read_sides(
    folder: Path, layout: str, expected: str, name: re.Pattern[str], form: str, domain: str, problems: Problems
) -> tuple[Side, Side]:
    """The two cameras; group 1 of `name` is the person. Raises UserError when one is missing or empty."""
    require_folders(folder, CAMERAS, layout, expected)
    sides: list[Side] = []
    for number, camera in enumerate(CAMERAS):
        side: Side = {}
        for path, match in parsed_names(folder / camera, name, form, problems):
            sample = Sample(path, int(match[1]), number, domain)
            first = side.setdefault(sample.identity, sample)
            if first is not sample:
                problems.report(
                    f"{path} is a second image of the person in {first.path.name}, and {layout} has one in each "
                    f"camera; to use all images of your own put them in {folder / camera}/PERSON"
                )
        sides.append(side)
    return sides[0], sides[1]


def partners(a: Side, b: Side, problems: Problems) -> set[int]:
    """The people that both cameras saw; each of the others is a problem."""
    for person in sorted(a.keys() ^ b.keys()):
        problems.report(f"{(a.get(person) or b[person]).path} has no partner in the other camera")
    return a.keys() & b.keys()


def halves(
    people: set[int],
    a: Side,
    b: Side,
    strangers: Iterable[int],
    data_set: str,
    *,
    both_directions: bool = False,
    both_halves: bool = False,
) -> list[Split]:
    """The splits of `people`: half train; of the others cam_a asks, and cam_b with `strangers` is the gallery.

    With `both_halves` the halves also change places, with `both_directions` the cameras; the splits of one
    division stand together.
    """
    splits = []
    for number in range(SPLITS):
        training = first_half(people, data_set, number)
        rest = people - training
        for trains, tested in ((training, rest), (rest, training))[: 1 + both_halves]:
            train = tuple(side[person] for side in (a, b) for person in sorted(trains))
            for asks, answers in ((a, b), (b, a))[: 1 + both_directions]:
                query = tuple(asks[person] for person in sorted(tested))
                splits.append(Split(train, query, tuple(answers[p] for p in sorted({*tested, *strangers}))))
    return splits
