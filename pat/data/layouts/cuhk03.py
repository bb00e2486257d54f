"""CUHK03: the new protocol, 767 people to train on and 700 to search for, or the classic one, 1,367 and 100.

Its boxes are detected (cuhk03) or labelled by hand (cuhk03-labeled).

    cuhk03/cuhk03_release/cuhk-03.mat                 as published; `pat data extract` takes the images out
    cuhk03/images_detected/1_001_1_01.png             pair of cameras, person, view (1 or 2), number of the image
    cuhk03/images_labeled/1_001_1_01.png
    cuhk03/cuhk03_new_protocol_config_detected.mat    who trains, asks and answers; and _labeled.mat
    cuhk03-np/detected/bounding_box_train/...         or stored again as Market-1501 is; and labeled

The view is the camera. `cuhk03:classic` and `cuhk03-labeled:classic` are the twenty test sets of 100 people that
cuhk-03.mat itself lists; every image of theirs asks and answers, by the one rule of ranking that all data sets
have here (torchreid takes the same images; the first papers drew one image of each person for the gallery and
repeated that, which gives higher figures). Source: Li et al., "DeepReID: Deep Filter Pairing Neural Network for
Person Re-identification", CVPR 2014; the protocol and its .mat files: Zhong et al., "Re-ranking Person
Re-identification with k-reciprocal Encoding", CVPR 2017.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from pat.base.errors import UserError
from pat.data.layouts import market1501
from pat.data.layouts.matlab import load_version_5, open_version_73
from pat.data.layouts.reading import DataSet, Problems, Reader, Split, parsed_names, wrong_layout
from pat.data.sample import Sample

CLASSIC = "classic"

_NAME = re.compile(r"(\d)_(\d{3})_([12])_\d{2}\.")
_INDICES = ("train_idx", "query_idx", "gallery_idx")


class Cuhk03:
    """The layout of the one or the other kind of boxes."""

    FOLDERS: tuple[str, ...] = ("cuhk03", "CUHK03-NP", "cuhk03_release")

    def __init__(self, boxes: Literal["detected", "labeled"]) -> None:
        self.boxes = boxes
        self.layout = "cuhk03" if boxes == "detected" else "cuhk03-labeled"
        self.config = f"cuhk03_new_protocol_config_{boxes}.mat"
        self.EXPECTED = f"the folder images_{boxes} and {self.config}, or {boxes} in Market-1501's layout"

    def recognises(self, path: Path) -> bool:
        kinds = ("detected", "labeled")
        there = [kind for kind in kinds if _images(path, kind).is_dir() or market1501.recognises(path / kind)]
        # With the .mat alone both kinds are inside; one layout has to speak for it.
        return self.boxes in there or (self.boxes == "detected" and not there and mat_file(path) is not None)

    def read(self, path: Path, name: str, problems: Problems) -> DataSet:
        """Read the folder of CUHK03. Raises UserError when images or protocol are missing."""
        if market1501.recognises(path / self.boxes):
            return market1501.read(path / self.boxes, name, problems)
        folder = _images(path, self.boxes)
        mat = mat_file(path)
        if not folder.is_dir() and mat is not None:
            raise UserError(f"{mat} still holds the images; take them out once with pat data extract {path}")
        missing = [place.name for place in (folder, path / self.config) if not place.exists()]
        if missing:
            raise wrong_layout(path, self.layout, self.EXPECTED, ", ".join(missing))
        train, query, gallery = self._protocol(path, name, problems)
        return DataSet(name, train, query, gallery, tuple(problems.notes))

    def read_classic(self, path: Path, name: str, problems: Problems) -> DataSet:
        """The classic splits. Raises UserError when cuhk-03.mat, or the images taken out of it, are missing."""
        mat, folder = mat_file(path), _images(path, self.boxes)
        missing = [] if mat else ["cuhk-03.mat, which lists its test sets"]
        if not folder.is_dir():
            missing.append(f"{folder.name}, which pat data extract {path} takes out of cuhk-03.mat")
        if mat is None or missing:
            expected = f"cuhk-03.mat and the folder images_{self.boxes}"
            raise wrong_layout(path, f"{self.layout}:{CLASSIC}", expected, " and ".join(missing))
        images = [
            Sample(image, 1000 * int(match[1]) + int(match[2]), int(match[3]) - 1, name)
            for image, match in parsed_names(folder, _NAME, "1_001_1_01.png", problems)
        ]
        splits = []
        for people in _test_sets(mat):
            test = tuple(sample for sample in images if sample.identity in people)
            splits.append(Split(tuple(s for s in images if s.identity not in people), test, test))
        problems.notes.append(f"{name}: {len(splits)} classic splits; every test image asks and answers")
        first = splits[0]
        return DataSet(name, first.train, first.query, first.gallery, tuple(problems.notes), tuple(splits))

    @property
    def DIVISIONS(self) -> Mapping[str, Reader]:
        return {CLASSIC: self.read_classic}

    def _protocol(self, path: Path, domain: str, problems: Problems) -> list[tuple[Sample, ...]]:
        """The three parts that the protocol file lists, each sorted by name."""
        file, folder = path / self.config, _images(path, self.boxes)
        values = load_version_5(file, (*_INDICES, "labels", "filelist"))
        names = [str(np.asarray(cell).ravel()[0]) for cell in values["filelist"].ravel()]
        people = values["labels"].ravel().astype(np.int64)
        if len(people) != len(names):
            raise UserError(f"{file} is another version of the file: {len(names)} names and {len(people)} labels")
        parts = []
        for part in _INDICES:
            rows = values[part].ravel().astype(np.int64) - 1  # MATLAB counts from 1
            if not rows.size or rows.min() < 0 or rows.max() >= len(names):
                raise UserError(f"{file} is another version of the file: {part} points outside its list of names")
            samples = []
            for row in rows:
                match = _NAME.match(names[row])
                if not match:
                    problems.report(f"{file}: {names[row]!r} does not have the expected form 1_001_1_01.png")
                elif not (folder / names[row]).is_file():
                    problems.report(f"{file}: the image {folder / names[row]} does not exist")
                else:
                    samples.append(Sample(folder / names[row], int(people[row]), int(match[3]) - 1, domain))
            parts.append(tuple(sorted(samples, key=lambda sample: sample.path.as_posix())))
        return parts


DETECTED = Cuhk03("detected")
LABELED = Cuhk03("labeled")


def mat_file(path: Path) -> Path | None:
    """Where the published file with all images lies, or None."""
    places = (path / "cuhk-03.mat", path / "cuhk03_release" / "cuhk-03.mat")
    return next((place for place in places if place.is_file()), None)


def _test_sets(mat: Path) -> list[set[int]]:
    """Who is tested in each classic split; a person is 1000 x pair of cameras + number. Raises UserError."""
    with open_version_73(mat, ("testsets",)) as stored:
        try:
            sets = [np.asarray(stored[each]).T for each in np.atleast_1d(np.asarray(stored["testsets"])[0])]
            people = [{1000 * int(pair) + int(person) for pair, person in each} for each in sets]
        except (TypeError, ValueError, KeyError, IndexError, OSError) as error:
            raise UserError(f"{mat} is damaged or another version of the file: testsets holds no lists") from error
    if not people or not all(people):
        raise UserError(f"{mat} is damaged or another version of the file: it lists no test sets")
    return people


def _images(path: Path, boxes: str) -> Path:
    return path / f"images_{boxes}"
