"""Choosing tiles by measurement: jobs, timing, the table and the command line."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import torch

from bench.static import baseline, load
from fresh import python
from kernels import tuning
from kernels.cases import NearestPartsCase, PartAttentionCase
from kernels.roofline import DEVICES, Work, estimate

tune = pytest.importorskip("kernels.tune")
attention = pytest.importorskip("kernels.part_attention.tune")
nearest = pytest.importorskip("kernels.nearest_parts.tune")

ATTENTION = [
    PartAttentionCase("132 tokens", batch=1, heads=1, dim=32, grid=(16, 8)),
    PartAttentionCase("132 tokens, four ask", batch=1, heads=1, dim=32, grid=(16, 8), queries=4),
    PartAttentionCase("200 tokens", batch=1, heads=1, dim=32, grid=(14, 14)),
]
NEAREST = [
    NearestPartsCase("small", parts=1, batch=20, slots=90, dim=64, k=3),
    NearestPartsCase("many queries", parts=1, batch=40, slots=90, dim=64, k=3),
]
JOBS = attention.jobs("sm_90", ATTENTION) + nearest.jobs("sm_90", NEAREST)


def compiled(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """A fresh process: here kernels are interpreted, there they are compiled."""
    return python(*arguments, PAT_KERNEL_CACHE=str(cache), CUDA_VISIBLE_DEVICES="")


def test_jobs_are_grouped_by_what_the_choice_depends_on():
    names = [tune.name(job) for job in JOBS]
    assert names == [
        "part_attention_forward, 16-bit d32 whole128",
        "part_attention_forward, 16-bit d32 tile64 head16",
        "part_attention_backward, 16-bit d32 whole128",
        "part_attention_backward, 16-bit d32 tile64 head16",
        "nearest_parts_forward, 16-bit d64",
        "nearest_parts_forward, 16-bit d64 many",
        "nearest_parts_forward, 32-bit d64",
        "nearest_parts_forward, 32-bit d64 many",
    ]
    assert [len(job.cases) for job in JOBS] == [2, 1, 2, 1, 1, 1, 1, 1]


def slow_where_large(job):
    """Forty queries in the interpreter take four times as long as twenty."""
    many = any(case.name == "many queries" for case in job.cases)
    return pytest.param(job, id=tune.name(job), marks=[pytest.mark.slow] if many else [])


@pytest.mark.parametrize("job", [slow_where_large(job) for job in JOBS])
def test_every_candidate_computes_the_same(job):
    candidates = job.candidates
    if not torch.cuda.is_available():  # warps and stages mean nothing to the interpreter
        kinds = {dataclasses.replace(tiles, warps=0, stages=0): tiles for tiles in reversed(candidates)}
        candidates = list(reversed(kinds.values()))
    assert len(candidates) > 1
    for case in job.cases:
        launch = job.prepare(case)
        expected = launch(job.candidates[0])
        assert all(tensor.isfinite().all() for tensor in expected)
        for tiles in candidates[1:]:
            assert not tune.differs(launch(tiles), expected), (case.name, tiles)


def test_timing_leaves_out_tiles_that_are_wrong(capsys):
    job = JOBS[1]
    wrong = job.candidates[2]

    def prepare(case):
        launch = job.prepare(case)
        return lambda tiles: tuple(tensor + (tiles == wrong) for tensor in launch(tiles))

    times = tune.time_tiles(dataclasses.replace(job, prepare=prepare), job.candidates[:3])
    assert list(times) == list(job.candidates[:2])
    assert all(seconds > 0 for seconds in times.values())
    assert f"{wrong} is wrong for 200 tokens; left out" in capsys.readouterr().err


def test_the_default_stays_unless_beaten_by_more_than_noise():
    assert tune.fastest({"default": 1.0, "other": 0.99}, "default") == "default"
    assert tune.fastest({"default": 1.0, "other": 0.97, "third": 0.975}, "default") == "other"
    assert tune.fastest({"default": 1.0, "other": 1.5}, "default") == "default"


def test_what_is_stored_is_what_the_launcher_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "TABLES", tmp_path / "tuned")
    path = tmp_path / "tuned" / "sm_90.json"
    for job in JOBS[:2]:
        times = dict.fromkeys(job.candidates, 2e-6) | {job.candidates[3]: 1e-6}
        tune.store(path, {(job.operation, job.key): tune.entry(job, times, "a GPU")})
    table = json.loads(path.read_text())
    assert list(table["part_attention_forward"]) == [job.key for job in sorted(JOBS[:2], key=lambda job: job.key)]
    entry = table["part_attention_forward"][JOBS[0].key]
    assert (entry["microseconds"], entry["default_microseconds"], entry["device"]) == (1.0, 2.0, "a GPU")
    for job in JOBS[:2]:  # the second did not remove the first
        assert tuning.tiles_for(job.operation, "sm_90", job.key, job.candidates) == job.candidates[3]


def test_work_of_a_known_shape():
    """The floors that the READMEs state, and the tensors that programs of a whole head, of 64 and of 128 load."""
    case = PartAttentionCase("ViT-B", batch=64, heads=12, dim=64, grid=(16, 8))
    tensor = 64 * 132 * 12 * 64 * 2
    forward, backward = attention.jobs("sm_90", [case])
    work = forward.work(case, forward.candidates[0], 132)
    assert (work.bytes, work.programs) == (4 * tensor, 64 * 12)
    assert work.flops == 64 * 12 * 4 * 64 * 144 * 144
    walking = next(tiles for tiles in forward.candidates if not tiles.whole)
    assert forward.work(case, walking, 132).programs == 64 * 12 * 2
    loads = {
        (tiles.whole, tiles.block): backward.work(case, tiles, 132).loaded / tensor
        for tiles in backward.candidates
    }
    assert loads == {(True, 128): 5, (False, 64): 20, (False, 128): 15}
    bank = NearestPartsCase("MSMT17", parts=3, batch=64, slots=32_621, dim=768, k=10)
    job = nearest.jobs("sm_90", [bank])[0]
    work = job.work(bank, job.candidates[0], 132)
    assert work.bytes == 3 * 32_621 * 768 * 2
    assert work.flops == pytest.approx(19.2e9, rel=0.01)
    assert work.programs == 132


def test_estimate():
    works = [Work(bytes=3_350_000, flops=989_000_000 // 2, loaded=10, programs=265)] * 2
    found = estimate(works, DEVICES["sm_90"], matrix=True, blocks=2)
    assert found.memory == pytest.approx(2e-6)
    assert found.products == pytest.approx(1e-6)
    assert found.floor == found.memory
    assert (found.loaded, found.rounds) == (20, 4)  # 264 programs at a time: one is left for a second round
    assert estimate(works, DEVICES["sm_90"], matrix=False, blocks=2).floor > found.floor


def test_a_machine_without_a_gpu_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(tune, "ON_GPU", False)
    assert tune.main([]) == 2
    assert capsys.readouterr().err == (
        "error: tiles are timed on this machine's GPU: no CUDA GPU here; --dry-run works anywhere\n"
    )


def test_mistakes_on_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert tune.main(["--arch", "sm_90"]) == 2
    assert "--arch is for --dry-run" in capsys.readouterr().err
    assert tune.main(["--dry-run", "--only", "part_atention*"]) == 2
    assert "error: nothing is named 'part_atention*'; there are part_attention_f" in capsys.readouterr().err


def test_an_unknown_architecture_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        tune.main(["--dry-run", "--arch", "sm_75"])
    assert "invalid choice: 'sm_75'" in capsys.readouterr().err


TWO_CANDIDATES = """
import dataclasses, sys
from kernels import tune
found = tune.find_jobs
tune.find_jobs = lambda *asked: [dataclasses.replace(job, candidates=job.candidates[:2]) for job in found(*asked)]
sys.exit(tune.main())
"""
"""`python -m kernels.tune`, with less to compile."""


def test_dry_run_lists_real_resources(tmp_path: Path):
    only = "part_attention_forward, 16-bit d64 tile64 head16"
    arguments = ["--dry-run", "--arch", "sm_87", "--only", only, "--out", str(tmp_path / "out")]
    result = compiled("-c", TWO_CANDIDATES, *arguments, cache=tmp_path / "cache")
    assert result.returncode == 0, result.stderr
    device, title, header, default, *others = result.stdout.splitlines()
    assert "AGX Orin" in device
    assert title == f"{only}: ViT-B/16, 224x224; ViT-B/16, 384x128"
    figures = dict(zip(header.split()[:9], default.split()[1:10], strict=True))
    import triton

    if (path := baseline(triton.__version__)).exists():
        expected = load(path)["part_attention_forward_bf16_d64_tile64/sm_87"]
        assert int(figures["registers"]) == expected["registers"]
        assert int(figures["shared"]) == expected["shared_memory"]
    assert default.startswith("*")
    (other,) = others
    assert "*" not in other
    assert not (tmp_path / "out").exists()


DEFAULTS = """
import dataclasses
from kernels import tune
from kernels.roofline import DEVICES
for arch in DEVICES:
    for job in tune.find_jobs(arch):
        (default,) = tune.survey(dataclasses.replace(job, candidates=job.candidates[:1]), arch)
        if default.problem and (job.matrix or default.problem != "spills"):  # fp32 may spill
            print(arch, tune.name(job), default.tiles, default.problem)
"""


@pytest.mark.slow
def test_no_half_precision_default_spills_and_none_needs_more_shared_memory_than_there_is(tmp_path: Path):
    """On every architecture: nearest_parts has other defaults where there is room than what is compiled ahead."""
    result = compiled("-c", DEFAULTS, cache=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_a_table_is_measured_on_this_gpu(tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    path = tmp_path / f"{tuning.architecture(torch.device('cuda'))}.json"
    tune.tune(JOBS[1:2], path.stem, path)
    entry = json.loads(path.read_text())[JOBS[1].operation][JOBS[1].key]
    assert 0 < entry["microseconds"] <= entry["default_microseconds"]
    assert entry["device"] == torch.cuda.get_device_name()
