"""Ahead-of-time compilation with the real compiler. It runs in fresh processes: here kernels are interpreted."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from fresh import ROOT, python
from kernels import aot
from kernels.compiler import parameter_count, write_whole
from kernels.resources import LIMITS, count_mma, occupancy

pytest.importorskip("triton")
ORIN = ("--arch", "sm_87", "--only", "crop_resize_rgb_fp*")


def run(*arguments: object, cache: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    return python(*arguments, PAT_KERNEL_CACHE=str(cache), **extra)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crop kernels for Orin: a folder of files."""
    out = tmp_path_factory.mktemp("built")
    result = run("-m", "kernels.aot", "build", out, *ORIN, cache=cache)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"wrote 2 kernels to {out}\n"
    return out / "sm_87"


def test_build_says_how_to_launch_a_kernel(built: Path):
    assert {path.name for path in built.iterdir()} == {
        f"crop_resize_rgb_{dtype}.{kind}" for dtype in ("fp16", "fp32") for kind in ("cubin", "ptx", "json")
    }
    facts = json.loads((built / "crop_resize_rgb_fp16.json").read_text())
    cubin, ptx = (built / f"crop_resize_rgb_fp16.{kind}" for kind in ("cubin", "ptx"))
    assert facts["cubin_sha256"] == hashlib.sha256(cubin.read_bytes()).hexdigest()
    assert facts["ptx_sha256"] == hashlib.sha256(ptx.read_bytes()).hexdigest()
    assert cubin.read_bytes()[:4] == b"\x7fELF"
    assert facts["entry"].encode() in cubin.read_bytes()
    assert ".target sm_87" in ptx.read_text()
    assert [argument["name"] for argument in facts["arguments"]][:4] == ["frame", "boxes", "crops", "height"]
    assert [argument["type"] for argument in facts["arguments"]][:4] == ["*u8", "*fp32", "*fp16", "i32"]
    assert len(facts["arguments"]) + facts["scratch_pointers"] == parameter_count(ptx.read_text(), facts["entry"])
    assert f".reqntid {facts['block'][0]}" in ptx.read_text()
    assert facts["shared_memory"] <= LIMITS["sm_87"].shared_memory_block
    assert facts["dtype"] == "fp16"
    assert facts["tile"]["OUT_HEIGHT"] == 256
    assert str(ROOT).encode() not in cubin.read_bytes()  # nothing of the building machine


def test_cache_is_used_checked_and_reproducible(built: Path, cache: Path, tmp_path: Path):
    damaged, *whole = sorted(cache.iterdir())
    (damaged / "kernel.cubin").write_bytes((damaged / "kernel.cubin").read_bytes()[:100])
    before = [folder.stat().st_mtime_ns for folder in (damaged, *whole)]
    result = run("-m", "kernels.aot", "build", tmp_path, *ORIN, cache=cache)
    assert result.returncode == 0, result.stderr
    assert sorted(cache.iterdir()) == [damaged, *whole]  # nothing is left beside the results
    assert damaged.stat().st_mtime_ns != before[0]  # compiled again
    assert [folder.stat().st_mtime_ns for folder in whole] == before[1:]  # read
    for path in built.iterdir():
        assert (tmp_path / "sm_87" / path.name).read_bytes() == path.read_bytes()


def test_interpreted_kernels_cannot_be_compiled(cache: Path):
    result = run("-m", "kernels.aot", "report", "--arch", "sm_87", cache=cache, TRITON_INTERPRET="1")
    assert result.returncode == 1
    assert result.stderr == ("error: TRITON_INTERPRET=1 is set: kernels are interpreted, not compiled; unset it\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["report", "--arch", "sm_75"], "invalid choice: 'sm_75'"), (["build"], "required: out")],
)
def test_user_mistakes(arguments: list[str], message: str, cache: Path):
    result = run("-m", "kernels.aot", *arguments, cache=cache)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_name_that_no_kernel_has(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert aot.main(["report", "--arch", "sm_87", "--only", "crop_rezise*"]) == 2
    assert "error: no configuration is named 'crop_rezise*'; there are" in capsys.readouterr().err


def test_output_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "file").write_text("mine")
    compiled = {"arch": "sm_87", "name": "crop_resize_rgb_u8"}, tmp_path
    monkeypatch.setattr(aot, "compile_all", lambda *_, **__: [compiled])
    assert aot.main(["build", str(tmp_path / "file"), "--arch", "sm_87"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_whole(tmp_path / "a.json", b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


PRODUCT = """
import json, sys
from pathlib import Path
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernels.resources import measure

@triton.jit
def product_kernel(a, b, c, SIZE: tl.constexpr):
    i, j = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    tl.store(c + i * SIZE + j, tl.dot(tl.load(a + i * SIZE + j), tl.load(b + i * SIZE + j)))

def figures(arch, **options):
    signature = {"a": "*fp16", "b": "*fp16", "c": "*fp32", "SIZE": "constexpr"}
    source = ASTSource(product_kernel, signature, {"SIZE": 64})
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    path = Path(sys.argv[1]) / f"{arch}.cubin"
    path.write_bytes(compiled.asm["cubin"])
    resources = measure(path)
    return {"spills": resources.spills, "families": sorted(resources.mma_instructions)}

found = {f"sm_{arch}": figures(arch) for arch in (80, 90, 100)}
print(json.dumps(found | {"few registers": figures(80, num_warps=1, maxnreg=64)}))
"""


def test_figures_of_real_cubins(tmp_path: Path, cache: Path):
    (tmp_path / "product.py").write_text(PRODUCT)
    result = run(tmp_path / "product.py", tmp_path, cache=cache, TRITON_CACHE_DIR=str(tmp_path / "triton"))
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["sm_80"] == {"spills": 0, "families": ["HMMA"]}
    assert figures["sm_90"] == {"spills": 0, "families": ["HGMMA"]}
    assert figures["sm_100"] == {"spills": 0, "families": ["tcgen05"]}
    assert figures["few registers"]["spills"] > 0  # 4,096 sums do not fit 64 registers of 32 threads


def test_matrix_instructions_are_told_from_their_surroundings():
    text = """
        //----- nvinfo : EIATTR_SPARSE_MMA_MASK
        /*0010*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0020*/              @!P0 HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0db0*/              @UP1 UTCHMMA gdesc[UR6], gdesc[UR4], tmem[UR9], tmem[UR30], idesc[UR31], !UPT ;
        /*0dc0*/                   IMMA.16832.S8.S8 R4, R8.ROW, R12.COL, R4 ;
        /*0dd0*/                   FFMA R1, R2, R3, R4 ;
    """
    assert count_mma(text) == {"HMMA": 2, "IMMA": 1, "tcgen05": 1}


@pytest.mark.parametrize(
    ("arch", "resources", "expected"),
    [
        ("sm_80", {"registers": 64, "warps": 4, "shared_memory": 0}, 32 / 64),  # 2,048 registers a warp
        ("sm_80", {"registers": 32, "warps": 4, "shared_memory": 0}, 1.0),
        ("sm_80", {"registers": 33, "warps": 4, "shared_memory": 0}, 48 / 64),  # rounded up to 40 a thread
        ("sm_86", {"registers": 32, "warps": 4, "shared_memory": 48 * 1024}, 8 / 48),  # two blocks of 49 KiB
        ("sm_86", {"registers": 16, "warps": 1, "shared_memory": 0}, 16 / 48),  # 16 blocks and no more
        ("sm_100", {"registers": 32, "warps": 4, "shared_memory": 0, "tensor_memory": 256}, 8 / 64),
        ("sm_89", {"registers": 32, "warps": 4, "shared_memory": 100 * 1024}, 0.0),  # does not fit
    ],
)
def test_occupancy(arch: str, resources: dict[str, int], expected: float):
    assert occupancy(arch, **resources) == pytest.approx(expected)
