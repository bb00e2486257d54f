"""From a few words on the command line to the pictures of a data set.

A layout is a module that recognises and reads one way of storing a data set; `LAYOUTS` is all of them, in the
order in which a folder is tried.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from pat.data.layouts import folder, market1501, msmt17, table
from pat.data.layouts.reading import DataSet, Layout, OnError, Problems, listing, sub_folders
from pat.errors import UserError

__all__ = ["LAYOUTS", "DataSet", "open_data_set"]

LAYOUTS: dict[str, Layout] = {"market1501": market1501, "msmt17": msmt17, "folder": folder, "table": table}
"""Layouts by name. Those with usual folder names are data sets that a name alone can find under the root."""


def open_data_set(spec: str, root: Path, on_error: OnError = "stop") -> DataSet:
    """Read the data set that `spec` names.

    spec: the name of a layout with a usual folder ("market1501"), looked for under `root`; a folder, .csv or
        .jsonl, whose layout is recognised; NAME=PATH, the same under a name of your own; or LAYOUT=PATH, which
        recognises nothing. A relative path starts at the working folder, or else at `root`.
    on_error: "skip" leaves out pictures whose names do not parse and notes them, "stop" raises.

    Raises UserError, saying what was expected and what was found, for an unknown name, a missing folder, a wrong
    layout and (unless skipped) a name that does not parse.
    """
    try:
        return _open(spec, root.expanduser(), Problems(on_error))
    except OSError as error:  # a folder without permission, a disk that went away
        raise UserError(f"cannot read the data set {spec}: {error}") from error


def _open(spec: str, root: Path, problems: Problems) -> DataSet:
    if spec in LAYOUTS:
        return LAYOUTS[spec].read(_under_root(spec, root), spec, problems)
    path = _existing(spec, root)
    if path is not None:
        return _recognised(path).read(path, _name_of(path), problems)
    if "=" in spec:
        name, _, place = spec.partition("=")
        return _open_named(name, place, root, problems)
    raise _unknown(spec, root)


def _open_named(name: str, place: str, root: Path, problems: Problems) -> DataSet:
    path = _existing(place, root)
    if path is None or not name or not place:
        raise UserError(f"{name}={place}: there is no file or folder {place or '(nothing after =)'}")
    layout = LAYOUTS.get(name)
    if layout is None:
        return _recognised(path).read(path, name, problems)
    if not layout.FOLDERS:  # own data: its own name says more than the layout's
        return layout.read(path, _name_of(path), problems)
    return layout.read(_locate(layout, path) or path, name, problems)


def _existing(place: str, root: Path) -> Path | None:
    path = Path(place).expanduser()
    return next((p for p in (path, root / path) if place and p.exists()), None)


def _name_of(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name


def _recognised(path: Path) -> Layout:
    """The layout of a file or folder."""
    known = [layout for layout in LAYOUTS.values() if layout.FOLDERS]
    for layout in known:
        if layout.recognises(path):
            return layout
    inside = [name for name, layout in LAYOUTS.items() if layout in known and _locate(layout, path)]
    if inside:
        raise UserError(
            f"{path} holds data sets ({', '.join(inside)}) and is none itself; "
            f"give it as --data.root and the name as the data set"
        )
    for layout in LAYOUTS.values():
        if layout.recognises(path):
            return layout
    expected = "; or ".join(layout.EXPECTED for layout in LAYOUTS.values())
    raise UserError(f"{path} has no known layout: expected {expected}; found {listing(path)}")


def _under_root(name: str, root: Path) -> Path:
    """The folder of a layout that was given by name alone."""
    layout = LAYOUTS[name]
    if not layout.FOLDERS:
        raise UserError(f"{name} is a layout for your own data: say where it is, {name}=PATH")
    if not root.is_dir():
        raise UserError(f"the data root {root} does not exist; --data.root is the folder that holds {name}")
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

    def plain(name: str) -> str:
        return re.sub(r"[-_. ]", "", name).lower()

    wanted = [plain(name) for name in layout.FOLDERS]
    found = [folder for folder in sub_folders(root) if plain(folder.name) in wanted]
    return sorted(found, key=lambda folder: wanted.index(plain(folder.name)))


def _unknown(spec: str, root: Path) -> UserError:
    if "/" in spec or Path(spec).suffix in table.SUFFIXES:
        return UserError(f"there is no file or folder {spec}, here or under the data root {root}")
    known = [name for name, layout in LAYOUTS.items() if layout.FOLDERS]
    near = difflib.get_close_matches(spec.lower(), known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    return UserError(
        f"unknown data set {spec!r}: {meant}known are {', '.join(known)}; "
        f"or give a folder, a .csv, a .jsonl or NAME=PATH"
    )
