"""`pat camera`: settings from file and flags, one line for every mistake, a graceful end by signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.settings import ProcessSettings
from pat import cli
from pat.base.errors import UserError
from pat.commands.camera import read_arguments, stopped_by_signals

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def camera(monkeypatch, capsys):
    """Runs `pat camera` in this process: its exit code, standard output and error."""
    monkeypatch.setattr("pat.commands.camera.set_up", lambda style: None)  # the log stays pytest's

    def run(*words):
        code = cli.run("camera", [*map(str, words)])
        return code, *capsys.readouterr()

    return run


def test_the_example_of_the_service_is_a_configuration():
    given = read_arguments(["--config", str(ROOT / "deploy" / "systemd" / "camera.toml")])
    assert given.bundle == "/var/lib/pat/bundle"
    assert [source.split("=")[0] for source in given.sources] == ["gate", "hall"]
    assert given.camera.rate == 10.0


def test_flags_come_after_the_file(tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text('bundle = "b"\nsources = ["a.mp4"]\n[camera]\nrate = 5.0\n[track]\nevery = 7\n')
    given = read_arguments(["--config", str(file), "--camera.rate", "2"])
    assert (given.camera.rate, given.track.every, given.bundle) == (2.0, 7, "b")
    given = read_arguments(["--config", str(file), "other", "x=1.mp4", "y=2.mp4"])
    assert (given.bundle, given.sources) == ("other", ("x=1.mp4", "y=2.mp4"))


def test_the_defaults_are_those_of_the_settings():
    given = read_arguments(["bundle", "a.mp4"])
    for name in ("camera", "runtime", "detect", "track", "gallery", "output"):
        assert getattr(given, name) == getattr(ProcessSettings(), name)


def test_a_typo_in_the_file_is_named(tmp_path):
    file = tmp_path / "camera.toml"
    file.write_text("[camera]\nratio = 5\n")
    with pytest.raises(UserError, match=r"unknown key camera\.ratio; did you mean camera\.rate"):
        read_arguments(["--config", str(file)])


def test_nothing_given():
    with pytest.raises(UserError, match="name the sources"):
        read_arguments([])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none", "a.mp4", "--gallery.threshold", "0.5"], "none does not exist"),
        (["none", "a.mp4", "--gallery.threshold", "1.5"], "a cosine lies between"),
        (["none", "a.mp4"], "none does not exist"),
        (["none", "--gallery.threshold", "0.5"], "none: no such file or folder"),
        (["none", "a.mp4", "--config", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_a_mistake_is_one_line(words, says, camera):
    code, out, err = camera(*words)
    assert code == 2
    (line,) = [each for each in err.splitlines() if "no bundle is named" not in each]
    assert says in line
    assert out == ""


def test_a_mistake_ends_the_process_without_a_traceback():
    command = [sys.executable, "-m", "pat.cli", "camera", "none", "a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("pat camera: none does not exist")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--detect.detector", "missing.onnx"], "missing.onnx"),
        (["--runtime.backend", "tensorrt"], ""),
        (["--runtime.preprocess", "gpu"], "needs --runtime.backend tensorrt"),
        (["--runtime.providers", "CUDAExecutionProvider"], "CUDAExecutionProvider"),
        (["--gallery.retention-hours", "0"], "retention"),
        (["--output.metrics-port", "99999"], "metrics"),
        (["--output.window"], "no display"),
        (["--output.video", __file__], "which is a file; give a folder"),
        (["--track.every", "0"], "track.every = 0"),
    ],
)
def test_settings_that_cannot_work(flags, says, colour_bundle, tmp_path, camera, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = camera(
        *(colour_bundle, tmp_path, "--gallery.threshold", "0.5", "--gallery.path", tmp_path / "gallery"),
        *("--output.metrics-port", "0", *flags),
    )
    assert code == 2
    (line,) = err.splitlines()
    assert says in line


def start(bundle, source, tmp_path, *flags):
    command = [sys.executable, "-m", "pat.cli", "camera", str(bundle), f"gate={source}", *flags]
    command += ["--gallery.threshold", "0.8", "--gallery.path", str(tmp_path / "gallery")]
    command += ["--runtime.threads", "1", "--output.metrics-port", "0"]
    command += ["--camera.rate", "5", "--detect.detector", "hog:540"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(stream, wanted):
    lines = []
    for line in stream:
        lines.append(json.loads(line))
        if lines[-1]["event"] == wanted:
            break
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_asks_it_to_stop(number):
    with stopped_by_signals() as stopping:
        assert not stopping.is_set()
        signal.raise_signal(number)
        assert stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_a_signal_ends_it_with_everything_kept(colour_bundle, street, tmp_path):
    with start(colour_bundle, street / "camera-1.mp4", tmp_path, "--camera.loop", "--track.every", "0.3") as child:
        assert child.stdout is not None
        before = read_until(child.stdout, "new")
        child.send_signal(signal.SIGINT)  # SIGTERM: test_camera_outages.py
        out = child.stdout.read()  # communicate() would lose what was read ahead
        _, err = child.communicate(timeout=60)
    after = [json.loads(line) for line in out.splitlines()]
    assert child.returncode == 0, err
    assert "Traceback" not in err
    named = {each["track"] for each in [*before, *after] if each["event"] in ("new", "recognised")}
    assert named <= {each["track"] for each in after if each["event"] == "left"}


def test_nobody_reads_the_events_any_more(colour_bundle, street, tmp_path):
    with start(colour_bundle, street / "camera-1.mp4", tmp_path, "--camera.loop") as child:
        assert child.stdout is not None
        read_until(child.stdout, "camera")
        child.stdout.close()
        deadline = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert child.poll() is not None
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()


def test_no_source_at_all_works_is_a_failure(colour_bundle, tmp_path):
    with start(colour_bundle, tmp_path / "none.mp4", tmp_path, "--output.log", "json") as child:
        out, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert json.loads(out.splitlines()[-1])["state"] == "failed"
    lines = err.splitlines()
    assert "no source could be read: gate" in lines[-1]
    assert all(json.loads(line)["level"] for line in lines if line.startswith("{"))


def test_help_says_what_each_setting_is(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.run("camera", ["--help"])
    said = capsys.readouterr().out
    for words in ("--gallery.retention-hours", "--camera.stale-after", "NAME=SOURCE"):
        assert words in said
