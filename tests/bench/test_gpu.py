"""`python -m bench gpu`: no row is lost, whatever happens; tried on a CPU with what a bare GPU machine has."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from bench import gpu
from bench.deadline import UNFINISHED
from bench.gpu import Options
from bench.results import Row, quantiles, read_rows, row
from bench.rows import SUITES
from bench.rows import plan as planning
from bench.rows.plan import RowPlan
from fresh import ROOT, environment, python

BARE = ("torch", "torchvision", "triton", "timm", "numpy", "pillow", "safetensors", "filelock")
"""What the machine has, and what these need: no command line, no exchange format, no video, no test tools."""

BLOCK = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is None and name.partition(".")[0] in {blocked!r}:
            return None  # not installed: whoever asks whether it is there is not disturbed
        return super().find_spec(name, path, target)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
"""


def not_importable() -> set[str]:
    """Modules that are installed here and are neither of BARE nor of what these require."""
    wanted, seen = list(BARE), set()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted += [re.match(r"[\w.-]+", one)[0] for one in requirements if "extra ==" not in one]
    installed = metadata.packages_distributions().items()
    others = {top for top, names in installed if not {each.lower().replace("_", "-") for each in names} & seen}
    return others - {"bench", "kernels", "pat"}


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the project's code alone, and an environment in which nothing but BARE can be imported."""
    for folder in ("bench", "kernels", "pat"):
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / folder).symlink_to(ROOT / folder)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCK.format(blocked=not_importable()))
    return tmp_path / "code", environment(PYTHONPATH=str(tmp_path / "site"), OMP_NUM_THREADS="1")


@pytest.mark.slow
def test_the_whole_program_on_a_bare_machine(bare, tmp_path: Path):
    """Kernels interpreted, tiny shapes: the same code as on a GPU. What a CPU has not fails, and says so."""
    code, variables = bare
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bench", "gpu", "--interpret", "--out", str(out)]
    blocked = subprocess.run(
        [sys.executable, "-c", "import tyro"], cwd=code, env=variables, capture_output=True, text=True
    )
    assert "No module named 'tyro'" in blocked.stderr
    done = subprocess.run(command, cwd=code, env=variables, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = read_rows(out / "rows.jsonl")
    failed = {entry["implementation"]: entry["failed"] for entry in rows if "failed" in entry}
    assert set(failed) == {
        "SDPA cuDNN, boolean mask", "SDPA memory-efficient, boolean mask", "SDPA cuDNN, no mask (ceiling)",
        "FlexAttention, compiled",
    }, failed  # fmt: skip
    assert "No viable backend" in failed["SDPA cuDNN, boolean mask"]
    operations = {entry["operation"] for entry in rows if "median" in entry}
    assert operations >= {
        "part attention forward", "part attention forward+backward", "nearest parts forward+backward",
        "crop-resize bicubic", "CSL step", "training step", "training step: backward", "embed",
        "tune part_attention_backward", "tune nearest_parts_forward",
    }  # fmt: skip
    for entry in rows:
        if "ours" in entry["implementation"] and entry["operation"].startswith(("part", "nearest", "CSL step")):
            assert entry["error"] < 0.03
            assert entry["gradient_error"] < 0.03
    (result,) = out.glob("cpu-*.json")
    # Three backends forward and backward, and FlexAttention with its gradient.
    assert len(json.loads(result.read_text())["failed"]) == 7
    tables = [json.loads(path.read_text()) for path in (out / "tuned").iterdir()]
    assert set(tables[0]) == {"part_attention_forward", "part_attention_backward", "nearest_parts_forward"}
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < 16 << 20

    again = subprocess.run(command, cwd=code, env=variables, capture_output=True, text=True)
    assert " 0 of " in again.stdout.splitlines()[0]


def measured(name: str) -> Row:
    facts = {"operation": name, "shape": "-", "dtype": "-", "implementation": "ours"}
    return row(facts, quantiles([1e-6]))


def fails(*_: object) -> list[Row]:
    raise RuntimeError("no kernel image\nis available")


def dies(*_: object) -> list[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def hangs(*_: object) -> list[Row]:
    time.sleep(600)
    return []


PLANS = {"one": lambda *_: [measured("one")], "fails": fails, "dies": dies, "two": lambda *_: [measured("two")]}


def fake_plans(suites: object = ()) -> list[RowPlan]:
    return [RowPlan(name, "-", "-", "ours", 0, run) for name, run in PLANS.items()]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other rows than the kernels'; worker processes get them by being forked."""
    import multiprocessing

    monkeypatch.setattr(planning, "plans", fake_plans)
    monkeypatch.setattr(gpu, "START", "fork")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield
    for child in multiprocessing.active_children():
        child.kill()


def outcome(out: Path) -> dict[str, str]:
    return {entry["operation"]: entry.get("failed", "measured") for entry in read_rows(out / "rows.jsonl")}


def test_rows_that_fail_or_kill_their_process_are_rows(plans, tmp_path: Path, capsys):
    assert gpu.main(Options(tmp_path, only=("crop",), interpret=True)) == 1
    found = outcome(tmp_path)
    assert found == {
        "one": "measured",
        "fails": "RuntimeError: no kernel image",
        "dies": "its process died (exit status -9)",
        "two": "measured",
    }
    assert "2 rows measured, 2 failed, 0 left" in capsys.readouterr().out
    (failed,) = (entry for entry in read_rows(tmp_path / "rows.jsonl") if entry["operation"] == "fails")
    assert "is available" in failed["log"]


def test_a_row_that_takes_too_long_says_so(plans, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(PLANS, "one", hangs)
    monkeypatch.setattr(gpu, "INTERPRETED_LIMIT", 1.0)
    assert gpu.main(Options(tmp_path, only=("crop",), interpret=True)) == 1
    assert outcome(tmp_path)["one"] == "slow: nothing after 1 s"
    assert outcome(tmp_path)["two"] == "measured"


def test_the_next_call_goes_on(plans, tmp_path: Path, monkeypatch, capsys):
    """A row that was cut short by --minutes is none; failed ones are measured again when that is asked for."""
    options = Options(tmp_path, only=("crop",), interpret=True)
    monkeypatch.setitem(PLANS, "two", hangs)
    short = Options(tmp_path, minutes=0.05, only=("crop",), interpret=True)
    assert gpu.main(short) == UNFINISHED
    assert "two" not in outcome(tmp_path)
    monkeypatch.setitem(PLANS, "two", lambda *_: [measured("two")])
    assert gpu.main(options) == 1
    assert "1 of 4 rows to measure" in capsys.readouterr().out
    monkeypatch.setitem(PLANS, "fails", lambda *_: [measured("fails")])
    monkeypatch.setitem(PLANS, "dies", lambda *_: [measured("dies")])
    assert gpu.main(Options(tmp_path, only=("crop",), again=True, interpret=True)) == 0
    assert set(outcome(tmp_path).values()) == {"measured"}


def test_mistakes_are_one_line(tmp_path: Path, capsys):
    assert gpu.main(Options(tmp_path, only=("atention",), interpret=True)) == 2
    assert capsys.readouterr().err == f"error: --only atention: expected some of {','.join(SUITES)}\n"
    assert gpu.main(Options(tmp_path, minutes=0.0, interpret=True)) == 2
    assert "--minutes 0.0: expected more than 0" in capsys.readouterr().err
    (tmp_path / "about.json").write_text('{"device": "NVIDIA H200"}')
    assert gpu.main(Options(tmp_path, interpret=True)) == 2
    assert "holds rows of something else (device NVIDIA H200, now cpu" in capsys.readouterr().err
    (tmp_path / "about.json").write_text("{")
    assert gpu.main(Options(tmp_path, interpret=True)) == 2
    assert "about.json" in capsys.readouterr().err


def test_a_machine_without_a_gpu_is_told_in_one_line(tmp_path: Path):
    done = python("-m", "bench", "gpu", "--out", tmp_path / "out", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no CUDA GPU here; --interpret tries the program")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_suite_whose_packages_are_missing_is_a_row(monkeypatch):
    monkeypatch.setitem(sys.modules, "bench.rows.crop", None)
    (found,) = planning.plans(["crop"])
    with pytest.raises(ImportError):
        found.measure(Path())


def test_a_result_that_is_wrong_is_no_row():
    import torch

    with pytest.raises(ValueError, match=r"wrong: gradient error 0\.05 relative to float64, allowed 0\.03"):
        planning.checked(torch.bfloat16, error=0.01, gradient_error=0.05)
    with pytest.raises(ValueError, match="wrong: error nan"):
        planning.checked(torch.float32, error=float("nan"))
