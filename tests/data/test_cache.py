"""The cache of resized images: decoded once, never half written, never wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disks import files_of_at_most
from pat.base.errors import Failure, UserError
from pat.data import cache
from pat.data.cache import cached_images
from pat.data.images import load_rgb, resize

SIZE = (32, 16)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(12):
        path = tmp_path / "images" / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(path)
        made.append(path)
    return made


def expected(paths: list[Path]) -> np.ndarray:
    return np.stack([resize(load_rgb(path), SIZE) for path in paths])


def entry(folder: Path, suffix: str) -> Path:
    (file,) = folder.glob(f"pixels-*.{suffix}")
    return file


def test_pixels_are_the_resized_images_and_decoded_once(tmp_path: Path, paths: list[Path]) -> None:
    progress: list[tuple[int, int]] = []
    first = cached_images(paths, SIZE, tmp_path / "cache", progress=lambda *at: progress.append(at))
    assert isinstance(first.pixels, np.memmap)
    assert first.pixels.dtype == np.uint8
    np.testing.assert_array_equal(first.pixels, expected(paths))
    np.testing.assert_array_equal(first.kept, np.arange(12))
    assert first.broken == ()
    assert progress[-1] == (12, 12)
    progress.clear()
    again = cached_images(paths, SIZE, tmp_path / "cache", progress=lambda *at: progress.append(at))
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert progress == []
    with pytest.raises(ValueError, match="read-only"):
        again.pixels[0] = 0


def test_chunks_join_without_a_seam(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_CHUNK", 5)
    paths[6].write_bytes(b"no image")
    progress: list[tuple[int, int]] = []
    found = cached_images(paths, SIZE, tmp_path / "c", on_error="skip", progress=lambda *at: progress.append(at))
    assert progress == [(5, 12), (10, 12), (12, 12)]
    good = paths[:6] + paths[7:]
    np.testing.assert_array_equal(found.pixels, expected(good))
    np.testing.assert_array_equal(found.kept, [i for i in range(12) if i != 6])


def test_contents_and_size_are_the_key(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    cached_images(paths, SIZE, folder)
    moved = tmp_path / "elsewhere"
    paths[0].parent.rename(moved)
    paths = [moved / path.name for path in paths]
    cached_images(paths, SIZE, folder)
    assert len(list(folder.glob("*.u8"))) == 1  # the same images in another place
    assert cached_images(paths, (16, 8), folder).pixels.shape == (12, 16, 8, 3)
    assert len(list(folder.glob("*.u8"))) == 2
    stamp = paths[3].stat()
    changed = Image.new("RGB", (20, 40), (1, 2, 3))
    changed.save(paths[3])
    os.utime(paths[3], ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the time of a file proves nothing
    assert (cached_images(paths, SIZE, folder).pixels[3] == (1, 2, 3)).all()
    np.testing.assert_array_equal(cached_images(paths[::-1], SIZE, folder).pixels[8], changed.resize((16, 32)))


def test_unreadable_image_stops_and_is_named(tmp_path: Path, paths: list[Path]) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:200])
    with pytest.raises(UserError, match=r"04\.png: .*--data\.on-error skip"):
        cached_images(paths, SIZE, tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


def test_unreadable_images_are_skipped_and_listed(tmp_path: Path, paths: list[Path]) -> None:
    paths[0].write_bytes(b"")
    paths[4].write_bytes(b"no image")
    paths[7].unlink()
    for _ in range(2):  # decoded, then from the cache
        found = cached_images(paths, SIZE, tmp_path / "cache", on_error="skip")
        assert [path.name for path, _ in found.broken] == ["00.png", "04.png", "07.png"]
        assert "empty" in found.broken[0][1]
        np.testing.assert_array_equal(found.kept, [1, 2, 3, 5, 6, 8, 9, 10, 11])
        np.testing.assert_array_equal(found.pixels, expected([paths[i] for i in found.kept]))
    with pytest.raises(UserError, match=r"00\.png: the file is empty"):  # the entry is there, the rule is another
        cached_images(paths, SIZE, tmp_path / "cache")


def test_nothing_readable(tmp_path: Path, paths: list[Path]) -> None:
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 12 images can be read; .*00\.png: the file is empty"):
        cached_images(paths, SIZE, tmp_path / "cache", on_error="skip")
    with pytest.raises(UserError, match="no images"):
        cached_images([], SIZE, tmp_path / "cache")


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "flipped late", "no data", "no index", "half an index", "foreign"]
)
def test_damaged_entry_is_made_anew(
    tmp_path: Path, paths: list[Path], damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_CHUNK", 5)
    folder = tmp_path / "cache"
    cached_images(paths, SIZE, folder)
    data, index = entry(folder, "u8"), entry(folder, "json")
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage.startswith("flipped"):
        contents = bytearray(data.read_bytes())
        contents[-1000 if damage == "flipped late" else 1000] ^= 1
        data.write_bytes(contents)
    elif damage == "no data":
        data.unlink()
    elif damage == "no index":
        index.unlink()
    elif damage == "half an index":
        index.write_text(index.read_text()[:20])
    else:
        index.write_text(json.dumps(["something", "else"]))
    progress: list[tuple[int, int]] = []
    found = cached_images(paths, SIZE, folder, progress=lambda *at: progress.append(at))
    assert progress[-1] == (12, 12)
    np.testing.assert_array_equal(found.pixels, expected(paths))


def test_an_image_that_changes_while_it_is_read_is_not_kept_under_what_it_was(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cache._digest

    def changed_afterwards(path: Path) -> str:
        found = real(path)
        if path == paths[3]:
            path.write_bytes(paths[4].read_bytes())
        return found

    monkeypatch.setattr(cache, "_digest", changed_afterwards)
    with pytest.raises(Failure, match=r"03\.png changed while it was being read; start again"):
        cached_images(paths, SIZE, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("pixels-*.json"))


def _ask(paths: list[Path], folder: Path, barrier: object, results: object) -> None:
    decoded: list[int] = []
    barrier.wait()  # type: ignore[attr-defined]
    found = cached_images(paths, SIZE, folder, progress=lambda done, total: decoded.append(done))
    results.put((bool(decoded), int(found.pixels.astype(np.int64).sum())))  # type: ignore[attr-defined]


def test_two_processes_share_one_build(tmp_path: Path, paths: list[Path]) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_ask, args=(paths, tmp_path / "cache", barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    total = int(expected(paths).astype(np.int64).sum())
    assert sorted(answers) == [(False, total), (True, total)]  # one decoded, the other waited


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    with files_of_at_most(4096), pytest.raises(Failure, match=f"^cannot write {folder}") as caught:
        cached_images(paths, SIZE, folder)
    assert "\n" not in str(caught.value)
    assert [file.suffix for file in folder.iterdir()] == [".lock"]
    np.testing.assert_array_equal(cached_images(paths, SIZE, folder).pixels, expected(paths))


def test_folder_that_cannot_be_one(tmp_path: Path, paths: list[Path]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot use the cache folder .*--data\.cache"):
        cached_images(paths, SIZE, tmp_path / "file" / "cache")


def test_unused_entries_go_and_foreign_files_stay(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    cached_images(paths, SIZE, folder)
    old = [entry(folder, "u8"), entry(folder, "json")]
    used = cached_images(paths, (16, 8), folder)
    (folder / "letter.txt").write_text("mine")
    (folder / ".pixels-0.u8.x.part").touch()  # not of our naming either
    long_ago = time.time() - 31 * 24 * 3600
    for file in folder.iterdir():
        os.utime(file, (long_ago, long_ago))
    cached_images(paths, (16, 8), folder)  # used now
    cached_images(paths, (8, 8), folder)  # a new entry cleans up
    assert not any(file.exists() for file in old)
    assert len(list(folder.glob("*.u8"))) == 2
    assert (folder / "letter.txt").exists()
    assert (folder / ".pixels-0.u8.x.part").exists()
    assert used.pixels.shape == (12, 16, 8, 3)


def test_what_a_killed_process_left_is_removed(tmp_path: Path, paths: list[Path]) -> None:
    folder = tmp_path / "cache"
    cached_images(paths, SIZE, folder)
    entry(folder, "json").unlink()
    left = folder / f".{entry(folder, 'u8').name}.abc123.part"
    left.write_bytes(b"half")
    cached_images(paths, SIZE, folder)
    assert not left.exists()
