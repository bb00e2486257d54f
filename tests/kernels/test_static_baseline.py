"""The gate without a GPU: no kernel spills, breaks a limit, or got worse than the figures in bench/baselines."""

import json
from pathlib import Path

import pytest

import bench.static
from bench.static import baseline, broken_rules, compared_with, markdown, regressions, stored_baselines
from fresh import ROOT, python
from kernels.compiler import ARCHITECTURES
from kernels.part_attention import tiles

QUICK = ("sm_87",)  # Orin: without asynchronous matrix units its kernels need most registers, and spill first

STORED = {"registers": 96, "spills": 0, "shared_memory": 4096, "mma_instructions": {"HMMA": 18},
          "cubin_bytes": 20000, "occupancy": 0.5}  # fmt: skip


def row(**changes: object) -> dict[str, object]:
    return {"kernel": "crop_resize", "config": "crop_fp16", "arch": "sm_87", **STORED, **changes}


def static(*archs: str, every_shape: bool = False) -> None:
    pytest.importorskip("triton")
    flags = [*(f"--arch={arch}" for arch in archs), *["--every-shape"] * every_shape]
    result = python("-m", "bench", "static", *flags)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow  # most of a minute; continuous integration runs it
def test_kernels_are_as_good_as_stored():
    static(*QUICK)


@pytest.mark.slow
def test_kernels_are_as_good_as_stored_on_every_architecture():
    static(*ARCHITECTURES)


@pytest.mark.slow
def test_no_shape_of_attention_that_can_be_picked_spills():
    static(*QUICK, every_shape=True)


def test_every_shape_of_attention_that_can_be_picked_is_in_the_gate():
    """By name: 15 x 15 patches once took a head of 128 rows, which spilled 3 KB and which nobody compiled."""
    attention = pytest.importorskip("kernels.part_attention.triton")
    gated = {configuration.name for configuration in attention.every_configuration()}
    picked = set()
    for special in range(1, tiles.MOST_SPECIAL + 1):
        for patches in range(1, 700):
            where = tiles.cut(special + patches, special)
            for dim in attention.DIMS:
                for direction, candidates in (
                    ("forward", tiles.forward_candidates(dim, 16, where)),
                    ("backward", tiles.backward_candidates(dim, 16, where, "sm_90")),
                    ("backward", tiles.backward_candidates(dim, 16, where, "sm_87")),
                ):
                    tiled = f"tile{where.multiple}_head{where.rows}"
                    shape = f"whole{where.body}" if candidates[0].whole else tiled
                    picked.add(f"part_attention_{direction}_bf16_d{dim}_{shape}")
    assert picked <= gated
    assert gated - picked == set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"registers": 105}, "crop_fp16/sm_87: registers 105, stored 96, allowed 104"),
        ({"spills": 8}, "crop_fp16/sm_87: spills 8, stored 0, allowed 0"),
        ({"shared_memory": 8192}, "crop_fp16/sm_87: shared_memory 8192, stored 4096, allowed 4096"),
        ({"cubin_bytes": 25001}, "crop_fp16/sm_87: cubin_bytes 25001, stored 20000, allowed 25000"),
        ({"occupancy": 0.4}, "crop_fp16/sm_87: occupancy 0.400, stored 0.500"),
        ({"mma_instructions": {}}, "crop_fp16/sm_87: no HMMA any more; has none"),
        ({"config": "crop_fp32"}, "crop_fp16/sm_87 is gone"),
    ],
)
def test_a_worse_figure_is_reported(changes: dict[str, object], message: str):
    assert regressions([row()], {"crop_fp16/sm_87": STORED}, ["sm_87"]) == []
    assert message in regressions([row(**changes)], {"crop_fp16/sm_87": STORED}, ["sm_87"])


def test_noise_and_gains_are_not_reported():
    stored = {"crop_fp16/sm_87": STORED, "crop_fp16/sm_90": STORED}  # sm_90 was not asked for
    now = row(registers=104, cubin_bytes=24000, occupancy=0.6, mma_instructions={"HMMA": 9, "HGMMA": 1})
    assert regressions([now], stored, ["sm_87"]) == []


def test_a_new_kernel_needs_stored_figures():
    assert regressions([row()], {}, ["sm_87"]) == ["crop_fp16/sm_87 has no stored figures"]


def test_rules_hold_without_stored_figures():
    assert broken_rules(row()) == []
    assert broken_rules(row(spills=4)) == ["crop_fp16/sm_87 spills 4 bytes per thread; expected none"]
    assert broken_rules(row(spills=4, config="crop_fp32")) == []
    too_much = broken_rules(row(shared_memory=164 * 1024))
    assert too_much == ["crop_fp16/sm_87 takes 167936 bytes of shared memory; at most 166912 exist"]


def test_each_minor_version_of_triton_has_its_figures():
    assert baseline("3.9.1") == baseline("3.9.0") != baseline("3.8.0")
    versions = {json.loads(path.read_text())["triton"]: path for path in stored_baselines()}
    assert all(baseline(version) == path for version, path in versions.items())


def test_the_report_names_the_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(bench.static, "BASELINES", tmp_path)
    monkeypatch.setattr(bench.static, "_triton_version", lambda: "3.10.2")
    (tmp_path / "triton-3.9.json").write_text('{"triton": "3.9.0", "kernels": {}}')
    assert compared_with() == "Triton 3.10.2, of which no figures are stored (there are 3.9): rules alone"
    (tmp_path / "triton-3.10.json").write_text('{"triton": "3.10.0", "kernels": {}}')
    assert compared_with() == "Triton 3.10.2, compared with the figures of Triton 3.10.0"
    assert [path.name for path in stored_baselines()] == ["triton-3.9.json", "triton-3.10.json"]


def test_the_readme_shows_the_stored_figures():
    """`python -m bench static --table` prints what belongs there."""
    assert markdown() in (ROOT / "kernels" / "README.md").read_text()
