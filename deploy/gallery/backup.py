"""A gallery in one file, written while others go on using it; and a gallery made from such a file."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from deploy.gallery.changes import checksum
from deploy.gallery.database import FILE, Database, read_facts, translated
from deploy.gallery.facts import Facts
from pat.base.errors import Failure, UserError
from pat.base.files import named_path, sync, written_whole


def folder_of(place: str | Path) -> Path:
    """The folder of a gallery. Raises UserError for a URL, and for no name."""
    if "://" in str(place):
        raise UserError(f"{place}: a gallery is a folder; a server can only mirror one")
    return named_path(str(place))


def facts_of(place: str | Path) -> Facts:
    """What the gallery in a folder says about itself. Raises UserError when there is none."""
    folder = folder_of(place)
    if not (folder / FILE).exists():
        what = "is not a gallery" if folder.exists() else "does not exist"
        raise UserError(f"the gallery {folder} {what}; `pat gallery enrol` or `pat camera` makes one")
    with translated(folder, opening=True), closing(sqlite3.connect(folder / FILE)) as connection:
        return read_facts(connection, folder)


def write(database: Database, path: Path) -> int:
    """Copy everything as it is at this moment. Raises Failure when the disk refuses."""
    with written_whole(path, private=True) as draft, translated(path), closing(database.connect()) as connection:
        draft.unlink()  # SQLite makes the file itself, and takes none that is there
        connection.execute("VACUUM INTO ?", (str(draft),))
        draft.chmod(0o600)
        with closing(sqlite3.connect(draft)) as copy:
            return int(copy.execute("SELECT count(*) FROM entries").fetchone()[0])


def restore(file: Path, place: str | Path) -> int:
    """Make a gallery in a new folder from a backup, whole or not at all; the number of entries.

    Raises UserError when the file is not a backup, or damaged, and when there is something in the folder.
    """
    count = _checked(file)
    with new_gallery(place) as draft:
        shutil.copyfile(file, draft)
        with translated(folder_of(place)), closing(sqlite3.connect(draft)) as connection, connection:
            begin_anew(connection)
    return count


def new_folder(place: str | Path) -> Path:
    """The folder of a gallery to be made. Raises UserError when there is something in it."""
    folder = folder_of(place)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists; name a new folder")
    return folder


@contextmanager
def new_gallery(place: str | Path) -> Iterator[Path]:
    """A file to write, which becomes the gallery in a new folder, whole or not at all.

    Raises UserError when there is something in the folder, Failure when the disk refuses.
    """
    folder = new_folder(place)
    draft: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        yield draft / FILE
        (draft / FILE).chmod(0o600)
        sync(draft / FILE)
        draft.rename(folder)
        sync(folder.parent)
    except OSError as error:
        raise Failure(f"cannot make the gallery {folder}: {error.strerror or error}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def begin_anew(connection: sqlite3.Connection) -> None:
    """A copy of a gallery is another one: it has told a cluster nothing yet, and under no name."""
    connection.execute("DELETE FROM mirrors")
    connection.execute("DELETE FROM facts WHERE name = 'node'")


def _checked(file: Path) -> int:
    """The number of entries of a backup of which every byte that counts is as it was written."""
    if not file.is_file():
        raise UserError(f"there is no backup {file}")
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            read_facts(connection, file)
            if (told := connection.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise UserError(f"the backup {file} is damaged: {told.splitlines()[0]}")
            count = 0
            entries = connection.execute("SELECT uuid, camera, time, note, vector, checksum FROM entries")
            for *values, expected in entries:
                if checksum(*values) != expected:
                    raise UserError(f"the backup {file} is damaged: an entry has the wrong checksum")
                count += 1
            return count
    except sqlite3.Error as error:
        raise UserError(f"{file} is not a backup of a gallery, or damaged: {error}") from error
