"""Runs at once: where they go, what stops them, and what becomes of them when one, or their parent, is killed."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

import filelock
import pytest
import torch

from pat.ablation.plan import scored_run
from pat.ablation.studies import STUDIES
from pat.ablation.work import carry_out
from pat.base.errors import Failure, UserError
from pat.base.mapping import from_mapping, to_mapping
from pat.base.progress import Progress
from pat.config import TrainConfig
from pat.training.job import stop_flag
from pat.training.side_by_side import Lane, _start_server, _stop, lanes, side_by_side

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(market, tmp_path, tiny):
    """A run that never ends by itself."""
    data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
    base = from_mapping(TrainConfig, {**tiny, "epochs": 4000, "data": data, "out": str(tmp_path / "study")})
    return scored_run(base, STUDIES["components"](base).arms[0], 1e-3, 0)


def test_a_killed_run_is_named_and_the_others_save_their_state(run, tmp_path):
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, out=tmp_path / "other", seed=1))

    def kill_the_first():
        deadline = time.monotonic() + 300
        while not all((each.folder / "checkpoint.pt").exists() for each in (run, other)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        min(multiprocessing.active_children(), key=lambda child: child.name).kill()

    threading.Thread(target=kill_the_first).start()
    with pytest.raises(Failure, match=r"seed [01]: its process ended early"):
        side_by_side(carry_out, [run, other], [Lane("cpu", 1)] * 2, Progress())
    assert not multiprocessing.active_children()
    assert all((each.folder / "checkpoint.pt").exists() for each in (run, other))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_in_a_terminal_passes_by_what_forks_the_runs(monkeypatch):
    server = forkserver._forkserver  # runs inherit what it blocks
    server._stop()
    monkeypatch.setattr(server, "_preload_modules", [])
    _start_server()
    status = Path(f"/proc/{server._forkserver_pid}/status").read_text()
    server._stop()  # the next one imports again what runs need
    blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
    assert blocked >> (signal.SIGINT - 1) & 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_second_ctrl_c_ends_a_run_that_does_not_stop():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); ready.set(); time.sleep(600)"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=exec, args=(stubborn, {"ready": ready}))
    process.start()
    assert ready.wait(300)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        _stop([process])
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


FOREVER = """
import sys
from pat.ablation.plan import scored_run
from pat.ablation.study import Arm
from pat.ablation.work import carry_out
from pat.base.mapping import from_mapping, read_mapping
from pat.config import TrainConfig
from pat.base.progress import Progress
from pat.training.side_by_side import Lane, side_by_side
from pathlib import Path

if __name__ == "__main__":
    base = from_mapping(TrainConfig, read_mapping(Path(sys.argv[1])))
    run = scored_run(base, Arm("any", "any"), 1e-3, 0)
    side_by_side(carry_out, [run], [Lane("cpu", 1)], Progress())
"""


def test_runs_end_with_a_killed_parent(run, tmp_path):
    (tmp_path / "forever.py").write_text(FOREVER)
    base = dataclasses.replace(run.config, out=tmp_path / "study")
    (tmp_path / "run.json").write_text(json.dumps(to_mapping(base)))
    command = [sys.executable, str(tmp_path / "forever.py"), str(tmp_path / "run.json")]
    folders, deadline = tmp_path / "study" / "runs", time.monotonic() + 300
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as parent:
        try:
            while not list(folders.glob("score/*/*/*/checkpoint.pt")):
                assert parent.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            parent.kill()
    (folder,) = folders.glob("score/*/*/*")
    with filelock.FileLock(folder / ".lock", timeout=60):  # the run let go of it
        ended = (folder / "log.jsonl").stat().st_size
        time.sleep(0.5)
        assert (folder / "log.jsonl").stat().st_size == ended


@pytest.fixture
def in_a_terminal():
    """SIGHUP as a process has it that nohup did not start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_asks_a_run_to_stop(number, in_a_terminal):
    with stop_flag() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_under_nohup_the_terminal_may_go():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_flag() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_places(monkeypatch):
    monkeypatch.setattr("pat.training.side_by_side.cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    cpu = torch.device("cpu")
    assert lanes(cpu, "auto") == [Lane("cpu", 1)] * 8
    assert lanes(cpu, "cpu", 2) == [Lane("cpu", 4)] * 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert lanes(torch.device("cuda"), "auto") == [Lane("cuda:0", 4), Lane("cuda:1", 4)]
    assert lanes(torch.device("cuda:1"), "cuda:1") == [Lane("cuda:1", 8)]
    assert [place.device for place in lanes(torch.device("cuda"), "cuda", 3)] == ["cuda:0", "cuda:1", "cuda:0"]
    with pytest.raises(UserError, match="--processes"):
        lanes(cpu, "cpu", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # OMP_NUM_THREADS=1
    assert lanes(cpu, "cpu", 2) == [Lane("cpu", 1)] * 2
