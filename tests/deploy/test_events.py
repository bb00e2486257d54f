"""The events file: whole lines, rotation, hostile names, a full disk, a killed writer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from deploy.events import Event, EventLog
from deploy.metrics import Metrics
from disks import files_of_at_most
from pat.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def opened(path, metrics=None, rotate_bytes=1_000_000, keep=3):
    return EventLog(str(path), metrics or Metrics(), rotate_bytes=rotate_bytes, keep=keep)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_a_line_of_what_is_known(tmp_path):
    path = tmp_path / "folder" / "events.jsonl"
    with opened(path) as events:
        events.tell(Event("new", 12.5, "gate", track=3, identity="x", box=(1, 2, 3, 4), stored=True))
    (line,) = lines(path)
    uuid.UUID(line.pop("id"))
    expected = {"schema": 1, "event": "new", "time": 12.5, "camera": "gate", "track": 3, "identity": "x"}
    assert line == {**expected, "box": [1, 2, 3, 4], "stored": True}


def test_nowhere_is_a_place_for_events_and_a_listener_hears_them(tmp_path, capsys):
    heard = []
    with EventLog("", Metrics(), rotate_bytes=1, keep=1, listener=heard.append) as events:
        events.tell(Event("left", 1.0, "gate"))
        events.tell(Event("left", 1.0, "gate"))
    assert [each.camera for each in heard] == ["gate", "gate"]
    assert heard[0].id != heard[1].id
    assert capsys.readouterr().out == ""


def test_names_cannot_break_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    name = 'a"}\n{"event":"new"\x1b[2J\u2028\x00'
    with opened(path) as events:
        events.tell(Event("recognised", 1.0, name, identity=name))
    text = path.read_bytes()
    assert text.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in text[:-1])
    assert lines(path)[0]["identity"] == name


def test_the_file_is_rotated_and_old_ones_go(tmp_path):
    path = tmp_path / "events.jsonl"
    with opened(path, rotate_bytes=500, keep=2) as events:
        for number in range(60):
            events.tell(Event("left", float(number), "gate", track=number))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    kept = [row["track"] for suffix in (".2", ".1", "") for row in lines(Path(f"{path}{suffix}"))]
    assert kept == list(range(kept[0], 60))
    assert all(Path(f"{path}{suffix}").stat().st_size <= 500 for suffix in ("", ".1", ".2"))


def test_where_none_is_kept_aside_the_file_begins_anew(tmp_path):
    path = tmp_path / "events.jsonl"
    with opened(path, rotate_bytes=500, keep=0) as events:
        for number in range(60):
            events.tell(Event("left", float(number), "gate", track=number))
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]
    assert lines(path)[-1]["track"] == 59
    assert path.stat().st_size <= 500


def test_threads_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "events.jsonl"
    with opened(path) as events:
        threads = [
            threading.Thread(
                target=lambda n=n: [events.tell(Event("left", 0.0, f"camera-{n}")) for _ in range(200)]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(lines(path)) == 800


def test_a_full_disk_loses_events_and_no_more(tmp_path, caplog):
    path, metrics = tmp_path / "events.jsonl", Metrics()
    with opened(path, metrics) as events:

        def tell(tracks):
            for track in tracks:
                events.tell(Event("left", float(track), "gate", track=track))

        tell(range(4))
        with files_of_at_most(path.stat().st_size + 20):
            tell(range(4, 7))
        tell(range(7, 10))
    rows = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError):  # the one that was half written when the disk was full
            rows.append(json.loads(line)["track"])
    assert rows == [0, 1, 2, 3, 7, 8, 9]
    assert metrics.value("pat_events_lost_total") == 3
    assert "events cannot be written" in caplog.text


def test_the_file_is_for_its_owner(tmp_path):
    before = os.umask(0o022)
    try:
        with opened(tmp_path / "events.jsonl", rotate_bytes=100) as events:
            for _ in range(5):
                events.tell(Event("left", 1.0, "gate"))
    finally:
        os.umask(before)
    files = list(tmp_path.iterdir())
    assert len(files) > 1
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


def test_half_a_line_of_a_killed_process_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "left", "ti')
    with opened(path) as events:
        events.tell(Event("left", 1.0, "gate"))
    assert json.loads(path.read_text().splitlines()[1])["camera"] == "gate"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write events to"):
        opened(tmp_path / "file" / "events.jsonl")


def test_standard_output_gets_events_at_once(capfd):
    with opened("-") as events:
        events.tell(Event("camera", 1.0, "gate", state="live"))
        assert json.loads(capfd.readouterr().out)["state"] == "live"
    assert not sys.stdout.closed


def test_a_reader_who_goes_away_is_noticed(tmp_path):
    read, write = os.pipe()
    os.close(read)
    code = """
from deploy.events import Event, EventLog
from deploy.metrics import Metrics
heard = []
events = EventLog("-", Metrics(), rotate_bytes=1, keep=1, listener=heard.append)
for _ in range(2):
    events.tell(Event("left", 0.0, "gate"))
import os; os._exit(7 if events.nobody_reads and len(heard) == 2 else 1)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=write, cwd=ROOT, check=False)
    os.close(write)
    assert done.returncode == 7
