"""What a person watching sees: rates since the last look, and a log that nothing can break."""

from __future__ import annotations

import dataclasses
import json
import logging
import time

import pytest

from deploy.logs import set_up
from deploy.metrics import Metrics
from deploy.rates import Watch
from deploy.status import CameraStatus
from pat.commands.camera import table


class Still:
    """A camera of which only the status is asked."""

    name = "gate"
    state = "live"

    def status(self) -> CameraStatus:
        return CameraStatus("gate", "x", "live", 0.0, 100, 7, 0, 0, 0.0, "")


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rates_are_those_since_the_last_look(clock):
    metrics = Metrics()
    metrics.frames.labels("gate").inc(50)
    metrics.stages.labels("detect").observe(9.0)
    watch = Watch(metrics, [Still()])
    clock[0] += 2.0
    metrics.frames.labels("gate").inc(30)
    metrics.people.labels("gate").set(3)
    metrics.gallery.set(12)
    for seconds in (0.010, 0.030):
        metrics.stages.labels("detect").observe(seconds)
    for crops in (2, 4, 6):
        metrics.embedded(crops, 0.005, 0.001)
    rates = watch.look()
    camera = rates.cameras[0]
    assert (camera.frames_per_second, camera.frames, camera.dropped, camera.people) == (15.0, 80, 7, 3)
    assert rates.milliseconds == pytest.approx({"detect": 20.0, "embed": 5.0})
    assert (rates.crops_per_second, rates.crops_per_batch, rates.gallery) == (6.0, 4.0, 12)
    assert rates.line() == (
        "gate live 15.0 frames/s 3 people 7 dropped; detect 20.0 ms, embed 5.0 ms; "
        "6.0 crops/s in batches of 4.0; gallery 12"
    )
    assert dataclasses.replace(rates, cameras=[]).line().startswith("detect 20.0 ms")
    clock[0] += 1.0
    quiet = watch.look()
    assert (quiet.cameras[0].frames_per_second, quiet.milliseconds, quiet.crops_per_batch) == (0.0, {}, 0.0)


def test_the_table_shows_every_camera(clock):
    from rich.console import Console

    watch = Watch(Metrics(), [Still()])
    clock[0] += 1.0
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(watch.look()))
    text = console.export_text()
    assert "gate" in text
    assert "frames/s" in text
    assert "gallery 0" in text


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers, root.level
    yield
    root.handlers, root.level = before


def test_a_name_cannot_move_the_cursor_of_the_log(root_logger, capsys):
    set_up("text")
    logging.getLogger("deploy.test").info("camera %s", "a\x1b[2J\rb")
    said = capsys.readouterr().err
    assert "camera a\\x1b[2J\\rb" in said
    assert "\x1b" not in said


def test_a_log_line_is_json_with_its_trace(root_logger, capsys):
    set_up("json")
    try:
        raise ValueError("odd\nframe")
    except ValueError:
        logging.getLogger("deploy.test").exception("camera %s", "gate")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    values = json.loads(line)
    assert (values["level"], values["message"], values["logger"]) == ("error", "camera gate", "deploy.test")
    assert "ValueError: odd" in values["trace"]
