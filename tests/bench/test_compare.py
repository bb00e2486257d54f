"""The comparison of two benchmark results, and the command line around it."""

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch

from bench import compare
from bench.compare import Options
from bench.measure import Work, bandwidth
from bench.results import append_row, path_for, read_rows, row, run_suites, store, table
from kernels.timing import seconds

ROOT = Path(__file__).parents[2]


def measured(median: float, spread: float = 0.02, **facts: str) -> dict[str, object]:
    """A row whose times lie within `spread` of the median."""
    stats = {"min": median * (1 - 2 * spread), "q1": median * (1 - spread), "median": median}
    stats |= {"q3": median * (1 + spread), "max": median * (1 + 2 * spread)}
    names = {"operation": "attention", "shape": "B=64", "dtype": "bfloat16", "implementation": "ours"} | facts
    return row({**names, **Work(10**9, 10**12).rates(median), "peak_memory": None}, stats)


def test_same_times_and_noise_are_no_regression():
    assert compare.slower([measured(1.0)], [measured(1.0)]) == []
    assert compare.slower([measured(1.08)], [measured(1.0)]) == []  # less than a tenth
    assert compare.slower([measured(1.3, spread=0.3)], [measured(1.0, spread=0.3)]) == []  # quartiles overlap
    assert compare.slower([measured(0.5)], [measured(1.0)]) == []


def test_slower_and_missing_rows_are_reported():
    problems = compare.slower([measured(1.2)], [measured(1.0), measured(1.0, implementation="SDPA")])
    assert problems == [
        "attention B=64 bfloat16 ours: 1200 ms, stored 1000 ms (1.20 x)",
        "attention B=64 bfloat16 SDPA: not measured any more",
    ]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.results.RESULTS", tmp_path / "results")
    return tmp_path


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text(json.dumps({"device": "NVIDIA Test (TM) 1", "rows": rows}))
    return path


def test_compare_stores_passes_and_fails(results: Path, capsys: pytest.CaptureFixture[str]):
    before = write(results / "before.json", measured(1.0))
    assert compare.main(Options(before)) == 2
    assert "no stored result for NVIDIA Test (TM) 1" in capsys.readouterr().err
    assert compare.main(Options(before, update=True)) == 0
    assert path_for("NVIDIA Test (TM) 1") == results / "results" / "nvidia-test-tm-1.json"
    assert json.loads(path_for("NVIDIA Test (TM) 1").read_text())["torch"] == metadata.version("torch")
    assert compare.main(Options(before)) == 0
    assert "nothing slower than stored for NVIDIA Test (TM) 1 (1 rows)" in capsys.readouterr().out
    assert compare.main(Options(write(results / "after.json", measured(1.5)))) == 1
    assert "1500 ms, stored 1000 ms (1.50 x)" in capsys.readouterr().out


def test_nothing_is_not_stored(results: Path, capsys: pytest.CaptureFixture[str]):
    assert compare.main(Options(write(results / "empty.json"), update=True)) == 2
    assert "nothing was measured" in capsys.readouterr().err
    assert not path_for("NVIDIA Test (TM) 1").exists()


def test_a_damaged_stored_result_is_one_line(results: Path, capsys: pytest.CaptureFixture[str]):
    path_for("NVIDIA Test (TM) 1").parent.mkdir()
    path_for("NVIDIA Test (TM) 1").write_text('{"device": "NVIDIA Test (TM) 1", "rows": [{}]}')
    assert compare.main(Options(write(results / "now.json", measured(1.0)))) == 2
    assert "nvidia-test-tm-1.json is no file of results" in capsys.readouterr().err


FOREIGN = [
    '{"device": "X", "rows": [{"median": 1.0}]}',
    '{"device": "X", "rows": ["a row"]}',
    '{"device": "X", "rows": 3}',
    '{"device": null, "rows": []}',
]


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json", *FOREIGN])
def test_a_file_that_holds_no_results(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "bad.json").write_text(content)
    assert compare.main(Options(tmp_path / "bad.json")) == 2
    assert "bad.json is no file of results" in capsys.readouterr().err


def test_table_relates_each_row_to_ours():
    text = table([measured(1.0), measured(2.5, implementation="SDPA"), measured(3.0, operation="search")])
    ours, sdpa, search = (line.split("  ") for line in text.splitlines()[1:])
    assert "1.00" in [cell.strip() for cell in ours]
    assert "2.50" in [cell.strip() for cell in sdpa]
    assert "1.00" in [cell.strip() for cell in search]  # the first of its own group


def test_rates_are_relative_to_a_measured_copy():
    source = torch.ones(1 << 22, dtype=torch.uint8)
    assert len(seconds(source.clone, rounds=3, warmup=1)) == 3
    rates = Work(bytes=int(bandwidth())).rates(2.0)
    assert rates["share_of_floor"] == pytest.approx(0.5, rel=1e-6)
    assert rates["gigabytes_per_second"] == pytest.approx(bandwidth() / 2e9, rel=1e-6)
    assert rates["teraflops"] is None


def test_failed_rows_stand_apart_and_say_why(results: Path):
    failed = dict(operation="attention", shape="B=64", dtype="bfloat16", implementation="SDPA", failed="no")
    store(results / "a.json", "a device", [measured(1.0), failed])
    stored = json.loads((results / "a.json").read_text())
    assert ([row["median"] for row in stored["rows"]], stored["failed"]) == ([1.0], [failed])
    assert "failed: no" in table([measured(1.0), failed]).splitlines()[2]


def test_rows_are_kept_though_a_suite_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A row is on the disk when it is measured; a last line that was cut off is left out."""
    for name in ("device.py", "results.py", "conftest.py", "__init__.py"):
        (tmp_path / "bench" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bench" / name).write_text((ROOT / "bench" / name).read_text())
    suite = "def test_first(keep): keep([{row!r}])\ndef test_second(): raise SystemExit('dead')\n"
    (tmp_path / "bench" / "test_some.py").write_text(suite.format(row=measured(1.0)))
    monkeypatch.setattr("bench.results.BENCH", tmp_path / "bench")
    rows, status = run_suites(["-p", "no:cacheprovider", "-p", "no:schemathesis"])
    assert (len(rows), status != 0) == (1, True)
    append_row(tmp_path / "rows.jsonl", rows[0])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"operation": "cut o')
    assert read_rows(tmp_path / "rows.jsonl") == rows
