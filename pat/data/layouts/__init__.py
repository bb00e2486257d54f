"""From a few words on the command line to the images of a data set.

A layout is a module that recognises and reads one way of storing a data set; `LAYOUTS` is all of them, in the
order in which a folder is tried.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pat.base.errors import UserError
from pat.base.files import expanded
from pat.data.figures import FIGURES
from pat.data.layouts import (
    cuhk02,
    cuhk03,
    cuhk_sysu,
    dukemtmc,
    folder,
    grid,
    ilids,
    market1501,
    msmt17,
    prid,
    randperson,
    table,
    unlabelled,
    viper,
)
from pat.data.layouts.reading import (
    DataSet,
    Layout,
    OnError,
    Problems,
    Reader,
    Split,
    explained,
    listing,
    plain_name,
    sub_folders,
)
from pat.data.sample import DISTRACTOR, JUNK

ALL = ":all"
"""After a data set to train on: its query and gallery train too."""

__all__ = [
    "ALL", "LAYOUTS", "DataSet", "Found", "Split", "find_data_set", "find_data_sets", "open_data_set", "stored_as",
]  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    "market1501": market1501,
    "msmt17": msmt17,
    "cuhk03": cuhk03.DETECTED,
    "cuhk03-labeled": cuhk03.LABELED,
    "cuhk02": cuhk02,
    "cuhk-sysu": cuhk_sysu,
    "viper": viper,
    "prid": prid,
    "grid": grid,
    "ilids": ilids,
    "dukemtmc": dukemtmc,
    "randperson": randperson,
    "folder": folder,
    "table": table,
    "unlabelled": unlabelled,
}
"""Layouts by name."""

KNOWN = {name: layout for name, layout in LAYOUTS.items() if layout.FOLDERS}
"""Those of data sets with usual folder names, which a name alone can find under the root."""


@dataclass(frozen=True)
class Found:
    """A data set on disk that was not read yet."""

    name: str
    layout: str
    """Key of LAYOUTS."""
    path: Path
    whole: bool = False
    """Every image of a person trains, as `NAME:all` says."""
    division: str = ""
    """Another way to divide it than the usual one, as `NAME:DIVISION` says."""

    def read(self, on_error: OnError = "stop") -> DataSet:
        """Raises UserError as `open_data_set` does."""
        try:
            read = divisions(self.layout).get(self.division, LAYOUTS[self.layout].read)
            data_set = read(self.path, self.name, Problems(on_error))
            return _all_training(data_set, self.layout) if self.whole else data_set
        except UserError as error:
            other = self._stored_as()
            if other is None:
                raise
            raise UserError(
                f"{error}; it is stored as {other} is: give {self.path} as the data set to read it so"
            ) from error
        except OSError as error:  # a folder without permission, a disk that went away
            raise UserError(f"cannot read the data set {self.name}: {explained(error)}") from error

    def _stored_as(self) -> str | None:
        """The layout of a known data set's folder where it is another's: MSMT17 is met in Market-1501's."""
        if self.layout not in KNOWN or KNOWN[self.layout].recognises(self.path):
            return None
        return stored_as(self.path)


def stored_as(path: Path) -> str | None:
    """The layout of a known data set that a folder has; None for own images."""
    return next((name for name, layout in KNOWN.items() if layout.recognises(path)), None)


def divisions(layout: str) -> Mapping[str, Reader]:
    """Other ways to divide the data sets of a layout, such as "20" in viper:20, and what reads them."""
    found: Mapping[str, Reader] = getattr(LAYOUTS[layout], "DIVISIONS", {})
    return found


def plain_spec(spec: str) -> str:
    """A data set's name or place without what may follow it: ":all", ":20" and their like."""
    name, _, ending = spec.rpartition(":")
    known = {division for layout in LAYOUTS for division in divisions(layout)}
    return name if ending in {ALL[1:], *known} else spec


def open_data_set(spec: str, root: Path, on_error: OnError = "stop") -> DataSet:
    """Read the data set that `spec` names.

    spec: the name of a layout with a usual folder ("market1501"), looked for under `root`; a folder, .csv or
        .jsonl, whose layout is recognised; NAME=PATH, the same under a name of your own; or LAYOUT=PATH, which
        recognises nothing. A relative path starts at the working folder, or else at `root`.
        With ":all" after it every image of a person trains; with another word (viper:20, viper:40,
        cuhk03:classic, msmt17:no-val) it is divided otherwise, as its layout says.
    on_error: "skip" leaves out images whose names do not parse and notes them, "stop" raises.

    Raises UserError, saying what was expected and what was found, for an unknown name, a missing folder, a wrong
    layout and (unless skipped) a name that does not parse.
    """
    return find_data_set(spec, root).read(on_error)


def find_data_set(spec: str, root: Path) -> Found:
    """Where and what the data set is that `spec` names, as `open_data_set` says. Raises UserError as it does."""
    root = expanded(root)
    try:
        plain = plain_spec(spec)
        if plain == spec or _existing(spec, root) is not None:
            return _find(spec, root)
        found, ending = _find(plain, root), spec.rpartition(":")[2]
        if f":{ending}" == ALL:
            return replace(found, whole=True)
        if ending not in divisions(found.layout):
            known = ", ".join(divisions(found.layout)) or "no other"
            raise UserError(f"{spec}: the layout {found.layout} has {known} ways to divide it after a colon")
        return replace(found, division=ending)
    except OSError as error:
        raise UserError(f"cannot read the data set {spec}: {explained(error)}") from error


def find_data_sets(root: Path) -> list[Found]:
    """The data sets in a folder: the folder itself, or those in it that have a usual name or a known layout.

    A folder with a usual name and other contents is found too, unless what it is named for is inside it. Own
    images are found where `root` itself is nothing else. Raises UserError where there is no data set, and where
    a folder cannot be read.
    """
    if not root.exists():
        raise UserError(f"there is no file or folder {root}")
    try:
        return _found_in(root)
    except OSError as error:
        raise UserError(f"cannot read {root}: {explained(error)}") from error


def _found_in(root: Path) -> list[Found]:
    own = [_found_as(name, root) for name, layout in KNOWN.items() if layout.recognises(root)]
    if own or not root.is_dir():
        return own or [_found(root)]
    found = {
        (name, place.resolve()): _found_as(name, place)
        for place in sub_folders(root)
        for name, layout in KNOWN.items()
        if layout.recognises(place)
    }
    for name, layout in KNOWN.items():
        place = _locate(layout, root)
        inside = [other.path for other in found.values() if place and other.path.is_relative_to(place)]
        if place and (layout.recognises(place) or not inside):
            found[name, place.resolve()] = _found_as(name, place)
    return sorted(found.values(), key=lambda each: (each.path.as_posix(), each.layout)) or [_found(root)]


def _all_training(data_set: DataSet, layout: str) -> DataSet:
    """The data set with every image of a person in `train` and nothing to test on."""
    figures = FIGURES.get(layout)
    nobody = figures.nobody if figures else {JUNK, DISTRACTOR}
    # Where the numbers of the test part start again they are other people.
    shift = 1 + max((s.identity for s in data_set.train), default=0) if figures and figures.counted_apart else 0
    test = [s for part in data_set.splits or (data_set,) for s in (*part.query, *part.gallery)]
    images = {s.path: replace(s, identity=s.identity + shift) for s in test if s.identity not in nobody}
    images.update((s.path, s) for part in data_set.splits or (data_set,) for s in part.train)
    train = tuple(sorted(images.values(), key=lambda sample: sample.path.as_posix()))
    note = f"{data_set.name}: all {len(train)} images of people train, those of query and gallery too"
    notes = tuple(note for note in data_set.notes if "of the first of" not in note)
    return DataSet(data_set.name, train, (), (), (*notes, note))


def _found_as(layout: str, path: Path) -> Found:
    """A data set under its layout's name where its folder has a usual name, else under the folder's own."""
    usual = {plain_name(name) for name in LAYOUTS[layout].FOLDERS}
    named = usual & {plain_name(part) for part in path.resolve().parts[-2:]}
    return Found(layout if named else _name_of(path), layout, path)


def _find(spec: str, root: Path) -> Found:
    if spec in LAYOUTS:
        return Found(spec, spec, _under_root(spec, root))
    path = _existing(spec, root)
    if path is not None:
        return _found(path)
    if "=" in spec:
        name, _, place = spec.partition("=")
        return _find_named(name, place, root)
    raise _unknown(spec, root)


def _find_named(name: str, place: str, root: Path) -> Found:
    path = _existing(place, root)
    if path is None or not name or not place:
        raise UserError(f"{name}={place}: there is no file or folder {place or '(nothing after =)'}")
    if name in KNOWN:
        return Found(name, name, _locate(KNOWN[name], path) or path)
    if name in LAYOUTS:  # own data: its own name says more than the layout's
        return Found(_name_of(path), name, path)
    return Found(name, _recognised(path), path)


def _found(path: Path) -> Found:
    return Found(_name_of(path), _recognised(path), path)


def _existing(place: str, root: Path) -> Path | None:
    path = expanded(place)
    return next((p for p in (path, root / path) if place and p.exists()), None)


def _name_of(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name


def _recognised(path: Path) -> str:
    """The layout of a file or folder."""
    if found := stored_as(path):
        return found
    inside = [name for name, layout in KNOWN.items() if _locate(layout, path)]
    if inside:
        raise UserError(
            f"{path} contains data sets ({', '.join(inside)}) and is not one itself; "
            f"give it as --data.root, and the name of one as the data set"
        )
    for name, layout in LAYOUTS.items():
        if layout.recognises(path):
            return name
    expected = f"a data set ({', '.join(KNOWN)}); or {folder.EXPECTED}; or {table.EXPECTED}"
    raise UserError(f"{path} has no known layout: expected {expected}; found {listing(path)}")


def _under_root(name: str, root: Path) -> Path:
    """The folder of a layout that was given by name alone."""
    if name not in KNOWN:
        raise UserError(f"{name} is a layout for your own data: give its place, {name}=PATH")
    if not root.is_dir():
        raise UserError(f"the data root {root} does not exist; --data.root is the folder that holds {name}")
    layout = KNOWN[name]
    found = _locate(layout, root)
    if found is None:
        raise UserError(
            f"no {name} under {root}: expected a folder {' or '.join(layout.FOLDERS)} with {layout.EXPECTED}; "
            f"found {listing(root)}"
        )
    return found


def _locate(layout: Layout, root: Path) -> Path | None:
    """`root` itself, a folder with a usual name in it, or such a folder in such a folder.

    A folder with the right name and the wrong contents is better than none: reading it tells what is missing.
    """
    if not root.is_dir():
        return None
    outer = _usual_folders(layout, root)
    inner = [folder for name in outer for folder in _usual_folders(layout, name)]
    places = [root, *outer, *inner]
    return next((place for place in places if layout.recognises(place)), outer[0] if outer else None)


def _usual_folders(layout: Layout, root: Path) -> list[Path]:
    """Folders in `root` with a usual name, whatever its case and separators, most usual first."""
    wanted = [plain_name(name) for name in layout.FOLDERS]
    found = [folder for folder in sub_folders(root) if plain_name(folder.name) in wanted]
    return sorted(found, key=lambda folder: wanted.index(plain_name(folder.name)))


def _unknown(spec: str, root: Path) -> UserError:
    if "/" in spec or Path(spec).suffix in table.SUFFIXES:
        return UserError(f"there is no file or folder {spec}, here or under the data root {root}")
    near = difflib.get_close_matches(spec.lower(), KNOWN, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return UserError(
        f"unknown data set {spec!r}: {meant}known are {', '.join(KNOWN)}; "
        f"or give a folder, a .csv, a .jsonl or NAME=PATH"
    )
