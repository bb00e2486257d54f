"""MATLAB files as the data sets publish them: version 5 through scipy, version 7.3 (HDF5) through h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pat.base.errors import UserError

INSTALL = "pip install 'pat-reid[data]'"


def load_version_5(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The variables `names` of a version 5 file.

    Raises UserError for another version, a damaged file, a variable that is missing, and where scipy is not
    installed.
    """
    _expect(path, "5")
    try:
        from scipy.io import loadmat
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: reading it needs scipy, which is not installed: {INSTALL}") from error
    try:
        found = loadmat(path)
    except Exception as error:  # the reader raises nearly every type there is on a broken file
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); copy it again") from error
    require(path, names, [name for name in found if not name.startswith("__")])
    return {name: found[name] for name in names}


def open_version_73(path: Path, names: tuple[str, ...]) -> Any:
    """An `h5py.File` of a version 7.3 file, to be used as a context. Raises UserError as `load_version_5`."""
    _expect(path, "7.3")
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: reading it needs h5py, which is not installed: {INSTALL}") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); copy it again") from error
    try:
        require(path, names, [name for name in file if not name.startswith("#")])
    except UserError:
        file.close()
        raise
    return file


def require(path: Path, names: tuple[str, ...], found: list[str]) -> None:
    """Raise UserError where a variable is missing from those `found` in a file."""
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{path} is another version of the file: it lacks {', '.join(missing)} "
            f"and holds {', '.join(sorted(found)) or 'nothing'}"
        )


def _expect(path: Path, version: str) -> None:
    found = _version(path)
    if found != version:
        what = f"a MATLAB file of version {found}" if found else "no MATLAB file, or one cut short"
        raise UserError(f"{path} is {what}; the published file has version {version}: copy it from there again")


def _version(path: Path) -> str:
    """What the first bytes say; empty for no MATLAB file."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return "7.3"
    return "5" if start.startswith(b"MATLAB 5") else ""
