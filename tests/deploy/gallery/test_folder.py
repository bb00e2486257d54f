"""What a gallery's folder goes through: kills, a second process, damage, a full disk; and what stays on disk."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import vectors
from deploy.gallery import Gallery, restore
from deploy.gallery.database import FILE, Database
from pat.base.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
DIMENSION = 32

CHILD = """
import sys, time
import numpy as np
from deploy.gallery import Gallery
from pat.base.errors import Failure, UserError
def units(count):
    vectors = np.random.default_rng().standard_normal((count, 32)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
def opened():
    return Gallery.open(sys.argv[1], dimension=32, model="model-a")
"""

WRITER = """
gallery = opened()
print("ready", flush=True)
for step in range(10**9):
    name = str(time.time_ns())
    ids = gallery.add(units(1 + step % 3), identity=name, camera="gate", time=time.time())
    print("+", name, *ids, flush=True)
    if step % 5 == 4:
        print("?", name, flush=True)  # from here on it may be forgotten already
        gallery.forget(name)
        print("-", name, flush=True)
"""


def start(program: str, gallery: Path, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD + program, str(gallery)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def opened(path: Path, **values) -> Gallery:
    return Gallery.open(path, **{"dimension": DIMENSION, "model": "model-a", **values})


units = functools.partial(vectors.units, dimension=DIMENSION)


@pytest.fixture
def filled(tmp_path):
    """A gallery of 50 entries, closed in order."""
    with opened(tmp_path / "gallery") as gallery:
        names = [f"person {i}" for i in range(50)]
        gallery.add(units(50), identity=names, camera="gate", time=time.time())
    return tmp_path / "gallery"


def killed_at_random(path: Path, kills: int, seed: int) -> int:
    """Kill a writing process `kills` times; the number of entries acknowledged, all of which were found again."""
    moments = random.Random(seed)
    there: dict[str, list[str]] = {}
    for _ in range(kills):
        writer = start(WRITER, path)
        assert writer.stdout is not None
        assert writer.stderr is not None
        first = writer.stdout.readline()
        assert first == "ready\n", writer.stderr.read()
        time.sleep(moments.uniform(0.0, 0.5))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()  # communicate() would lose what readline() has read ahead
        writer.communicate()
        unsure = None
        for kind, name, *ids in map(str.split, rest.splitlines(keepends=False)):
            if kind == "+":
                there[name] = ids
            unsure = name if kind == "?" else None
            if kind == "-":
                del there[name]
        with opened(path) as gallery:
            found = {record.id for record in gallery.export()}
            kept = {each.identity for each in gallery.identities()}
        if unsure is not None and unsure not in kept:
            del there[unsure]
        acknowledged = {one for ids in there.values() for one in ids}
        assert acknowledged <= found
        extra = kept - there.keys()
        assert len(extra) <= 1, "what was forgotten came back"  # the one that was being written
        there.update({name: [] for name in extra})
    return len(acknowledged)


def test_nothing_acknowledged_is_lost_to_kills(tmp_path):
    assert killed_at_random(tmp_path / "gallery", kills=4, seed=0) > 0


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_fifty_kills(tmp_path):
    assert killed_at_random(tmp_path / "gallery", kills=50, seed=1) > 100


def test_the_disk_holds_every_acknowledged_entry_at_once(tmp_path):
    """A copy of the folder is what a killed process leaves: nothing may wait in memory."""
    path = tmp_path / "gallery"
    with opened(path) as gallery:
        gallery.add(units(9), identity=list("abcdefghi"), camera="gate", time=time.time(), note="n")
        shutil.copytree(path, tmp_path / "after adding")
        gallery.forget("a")
        gallery.merge("b", "c")
        shutil.copytree(path, tmp_path / "after forgetting")
    with opened(tmp_path / "after adding") as gallery:
        found = {record.identity: record for record in gallery.export()}
        assert sorted(found) == list("abcdefghi")
        for name, vector in zip("abcdefghi", units(9), strict=True):
            np.testing.assert_allclose(found[name].vector, vector, atol=1e-6)
            assert (found[name].camera, found[name].note) == ("gate", "n")
    with opened(tmp_path / "after forgetting") as gallery:
        assert [(each.identity, each.vectors) for each in gallery.identities()][:2] == [("c", 2), ("d", 1)]


def test_processes_share_a_gallery(tmp_path):
    """One adds what another finds, and forgets what another holds, while both have it open."""
    program = (
        "gallery = opened()\n"
        "gallery.add(np.eye(1, 32, dtype=np.float32), identity='theirs', camera='gate', time=time.time())\n"
        "print('added', flush=True)\nsys.stdin.readline()\n"
        "time.sleep(0.2)\n"
        "print(gallery.count('ours'), gallery.search(np.eye(1, 32, dtype=np.float32)[0])[0].identity)"
    )
    with opened(tmp_path / "gallery") as gallery:
        gallery.add(units(3), identity="ours", camera="gate", time=time.time())
        other = start(program, tmp_path / "gallery", stdin=subprocess.PIPE)
        assert other.stdout.readline() == "added\n"
        time.sleep(0.2)
        assert gallery.search(np.eye(1, DIMENSION, dtype=np.float32)[0], 1)[0].identity == "theirs"
        assert gallery.forget("ours") == 3
        assert gallery.merge("theirs", "a name").entries == 1
        assert other.communicate("go\n")[0] == "0 a name\n"


def test_who_looks_in_seldom_misses_nothing(tmp_path, monkeypatch):
    """The list of changes is short: who is behind it reads everything again."""
    monkeypatch.setattr("deploy.gallery.changes.KEPT_LINES", 3)
    with opened(tmp_path / "gallery") as one, opened(tmp_path / "gallery") as other:
        for step in range(9):
            one.add(units(2, step), identity=f"step {step}", camera="gate", time=time.time())
            one.sweep()
        one.forget("step 3")
        time.sleep(0.15)
        assert other.count() == one.count() == 16
        assert other.count("step 3") == 0
        assert other.count("step 8") == 2


def test_two_processes_that_make_one_gallery_make_one(tmp_path):
    program = (
        "try:\n    with opened() as gallery: time.sleep(0.2); print('made')\nexcept UserError as e: print(e)"
    )
    running = [start(program, tmp_path / "gallery") for _ in range(3)]
    said = [process.communicate()[0] for process in running]
    assert said == ["made\n"] * 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["gallery"]


def test_what_is_forgotten_leaves_the_disk(tmp_path):
    path = tmp_path / "gallery"
    vectors = units(20)
    with opened(path) as gallery:
        gallery.add(
            vectors, identity=[f"Secret-Person-{i:02d}" for i in range(20)], camera="gate", time=time.time()
        )
    assert on_disk(path, b"Secret-Person-07")
    assert on_disk(path, vectors[7].tobytes()[:32])
    with opened(path) as gallery:
        gallery.forget("Secret-Person-07")
        assert not on_disk(path, b"Secret-Person-07")
        assert not on_disk(path, vectors[7].tobytes()[:32])
        assert on_disk(path, vectors[8].tobytes()[:32])
        gallery.backup(tmp_path / "backup")
        content = (tmp_path / "backup").read_bytes()
        assert b"Secret-Person-07" not in content
        assert vectors[7].tobytes()[:32] not in content
        assert vectors[8].tobytes()[:32] in content
        assert not (gallery._index.vectors._blocks[0].vectors == vectors[7]).all(axis=1).any()
    assert not on_disk(path, b"Secret-Person-07")


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_copy_that_sqlite_made_of_a_row_leaves_the_disk_too(tmp_path, end):
    """A row that grows may move, and those beside it: here some of them are forgotten later."""
    path, chance = tmp_path / "gallery", random.Random(5)
    names, forgotten = [f"Secret-{number:034d}" for number in range(150)], []
    gallery = opened(path)
    gallery.add(units(150), identity=names, camera="gate", time=time.time())
    for step in range(150, 430):
        name, other = chance.sample(names, 2)
        turn = chance.random()
        if turn < 0.15:
            names.remove(name)
            forgotten.append(name)
            gallery.forget(name)
        elif turn < 0.6:
            names[names.index(name)] = f"Secret-{step:034d}"
            gallery.merge(name, f"Secret-{step:034d}")
        else:
            gallery.undo(gallery.merge(name, other).number)
    assert any(on_disk(path, name.encode()) for name in forgotten)  # or there is nothing to clean up
    if end == "killed":
        opened(shutil.copytree(path, tmp_path / "copy")).close()
        path = tmp_path / "copy"
    else:
        gallery.close()
    assert not any(on_disk(path, name.encode()) for name in forgotten)
    assert on_disk(path, names[0].encode())
    gallery.close()


def test_a_file_that_cannot_be_written_anew_stays_whole_and_due(tmp_path, monkeypatch, caplog):
    path = tmp_path / "gallery"
    monkeypatch.setattr("deploy.gallery.database.LARGEST_REWRITTEN", 0)
    with opened(path) as gallery:
        gallery.add(units(2), identity=["anna", "ben"], camera="gate", time=time.time())
        gallery.forget("anna")
    assert "who was forgotten may still be in unused parts of the gallery's file" in caplog.text
    assert not list(path.glob("*-wal"))  # emptied all the same
    monkeypatch.undo()
    with opened(path) as gallery:
        assert [each.identity for each in gallery.identities()] == ["ben"]
        assert not gallery._database.must_be_rewritten()


def test_a_gallery_of_before_is_written_anew_once(tmp_path):
    path = tmp_path / "gallery"
    with opened(path) as gallery:
        gallery.add(units(1), identity="anna", camera="gate", time=time.time())
        gallery.forget("anna")
    with closing(sqlite3.connect(path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 0")
    with opened(path) as gallery:
        assert not gallery._database.must_be_rewritten()


def test_what_another_process_forgets_while_the_file_is_written_anew_is_not_lost(tmp_path, monkeypatch):
    path, changing = tmp_path / "gallery", Database.changing
    with opened(path) as gallery, opened(path) as other:
        gallery.add(units(2), identity=["anna", "ben"], camera="gate", time=time.time())
        gallery.obey(["nobody here"])
        assert not gallery._database.must_be_rewritten()
        gallery.forget("anna")
        with monkeypatch.context() as patch:

            def late(database):
                patch.undo()
                other.forget("ben")
                return changing(database)

            patch.setattr(Database, "changing", late)
            gallery._database.rewrite()
        assert gallery._database.must_be_rewritten()
        gallery._database.rewrite()
        assert not gallery._database.must_be_rewritten()


def test_who_was_being_forgotten_when_the_process_was_killed_leaves_the_disk(tmp_path):
    path = tmp_path / "gallery"
    with opened(path) as gallery:
        gallery.add(units(3), identity=["a", "b", "Secret-Person"], camera="gate", time=time.time())
    child = start(
        "import os\ngallery = opened()\n"
        "gallery.merge('Secret-Person', 'Secret-Name')\n"
        "gallery._database.truncate_log = lambda: os.kill(os.getpid(), 9)\n"
        "gallery.forget('Secret-Name')",
        path,
    )
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL, errors
    assert on_disk(path, b"Secret-")
    with opened(path) as gallery:
        assert not on_disk(path, b"Secret-")
        assert gallery.count() == 2


def test_what_has_expired_leaves_the_disk_by_the_end(tmp_path):
    path, now = tmp_path / "gallery", 1_700_000_000.0
    vectors = units(20)
    with opened(path, clock=lambda: now) as gallery:
        gallery.add(vectors[:19], identity="stays", camera="gate", time=now)
        gallery.add(vectors[19:], identity="Secret-Person", camera="gate", time=now - 80_000)
        gallery.expire(now - 50_000)
    assert not on_disk(path, b"Secret-Person")
    assert not on_disk(path, vectors[19].tobytes()[:32])


def on_disk(folder: Path, content: bytes) -> bool:
    return any(content in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_backup_and_restore(filled, tmp_path):
    with opened(filled) as gallery:
        before = {record.id: record for record in gallery.export()}
        assert gallery.backup(tmp_path / "people.sqlite") == 50
    assert (tmp_path / "people.sqlite").stat().st_mode & 0o077 == 0
    assert restore(tmp_path / "people.sqlite", tmp_path / "again") == 50
    with opened(tmp_path / "again") as gallery:
        after = {record.id: record for record in gallery.export()}
    assert after.keys() == before.keys()
    for one, record in before.items():
        assert (after[one].identity, after[one].camera, after[one].time) == (record.identity, "gate", record.time)
        np.testing.assert_array_equal(after[one].vector, record.vector)
    with pytest.raises(UserError, match="exists; name a new folder"):
        restore(tmp_path / "people.sqlite", filled)


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "flipped", "other"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(filled, tmp_path, damage):
    file = tmp_path / "people.sqlite"
    with opened(filled) as gallery:
        gallery.backup(file)
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "other":
        np.savez(file.open("wb"), vectors=units(3))
    else:
        content[content.index(units(50)[7].tobytes()) + 5] ^= 1
        file.write_bytes({"empty": b"", "half": content[: len(content) // 2], "flipped": content}[damage])
    with pytest.raises(UserError, match="backup") as caught:
        restore(file, tmp_path / "again")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".*"))


def test_a_flipped_bit_in_a_vector_is_noticed(filled, caplog):
    file = filled / FILE
    content = bytearray(file.read_bytes())
    content[content.index(units(50)[7].tobytes()) + 5] ^= 1
    file.write_bytes(content)
    with opened(filled) as gallery:
        assert gallery.count() == 49
        assert gallery.count("person 7") == 0
    assert "damaged" in caplog.text


def test_a_damaged_file_is_one_line(filled):
    content = (filled / FILE).read_bytes()
    for damaged in (b"?" * len(content), content[: len(content) // 2], content[:100]):
        (filled / FILE).write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            opened(filled)
        assert "\n" not in str(caught.value)
        assert "damaged" in str(caught.value)


def test_folders_that_are_no_galleries_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"image")
    with pytest.raises(UserError, match=r"is not a gallery: it has no gallery\.sqlite"):
        opened(tmp_path / "photos")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, not a gallery"):
        opened(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with opened(tmp_path / "empty") as gallery:
        assert gallery.count() == 0


def test_a_gallery_of_another_format_is_refused(filled):
    with closing(sqlite3.connect(filled / FILE)) as connection, connection:
        connection.execute("UPDATE facts SET value = 'pat-reid-gallery/9' WHERE name = 'format'")
    with pytest.raises(UserError, match="says the format 'pat-reid-gallery/9'"):
        opened(filled)


def test_the_folder_is_for_its_owner(filled):
    assert filled.stat().st_mode & 0o077 == 0


@pytest.fixture
def open_to_all():
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_folder_is_one_line(open_to_all):
    old = open_to_all / "old"
    with opened(old) as gallery:
        gallery.add(units(1), identity="a", camera="gate", time=time.time())
    program = "try:\n    opened()\nexcept UserError as error:\n    print(error)"
    if os.getuid() == 0:  # whom no permission binds
        # First the imports: Python's own files may be closed to that user.
        program = "import os, deploy.gallery; os.setgid(65534); os.setuid(65534)\n" + program
    for folder in (old, open_to_all):
        folder.chmod(0o555)
    for place in (old, open_to_all / "new"):
        said, errors = start(program, place).communicate()
        assert said.count("\n") == 1, errors
        assert "cannot open the gallery" in said or "cannot be opened" in said
    for folder in (old, open_to_all):
        folder.chmod(0o755)
    with opened(old) as gallery:
        assert gallery.count() == 1


FILLER = """
import resource
gallery = opened()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
stored = 0
try:
    while True:
        stored += len(gallery.add(units(100), identity="x" * 200, camera="gate", time=time.time(), note="y" * 200))
except Failure as error:
    print(stored, str(error).count("\\n"), error)
gallery.close()
"""


def test_a_disk_that_refuses_is_one_line_and_costs_nothing(tmp_path):
    said, errors = start(FILLER, tmp_path / "gallery").communicate()
    (failed,) = said.splitlines()
    stored, lines, message = failed.split(" ", 2)
    assert (lines, errors) == ("0", "")
    assert "cannot be used" in message
    with opened(tmp_path / "gallery") as gallery:
        assert gallery.count() == int(stored)


def test_the_gallery_is_light_to_import():
    program = (
        "import sys, deploy.gallery\n"
        "heavy = {'torch', 'pat.config', 'pat.commands'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
