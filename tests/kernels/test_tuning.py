"""Tables of measured tiles: what is in them is launched, and whatever is wrong with them is ignored."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernels import tuning
from kernels.nearest_parts import nearest_parts
from kernels.nearest_parts.tiles import candidates, forward_tiles
from kernels.part_attention import part_attention
from kernels.part_attention.tiles import backward_candidates, cut, forward_candidates
from kernels.part_attention.tiles import forward_tiles as attention_tiles

attention = pytest.importorskip("kernels.part_attention.triton")
nearest = pytest.importorskip("kernels.nearest_parts.triton")

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ARCH = tuning.architecture(DEVICE)
WHERE = cut(67, 3)
ATTENTION_KEY = "16-bit d32 whole64"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes the table that the launchers of this machine look in."""
    monkeypatch.setattr(tuning, "TABLES", tmp_path)
    attention._launch.cache_clear()  # it remembers tiles and kernels

    def write(table: object) -> None:
        content = table if isinstance(table, bytes) else json.dumps(table).encode()
        (tmp_path / f"{ARCH}.json").write_bytes(content)

    yield write
    attention._launch.cache_clear()


def recorder(kernel: Any, launches: list[dict[str, Any]]) -> Any:
    """A kernel that notes the options of each launch, and launches."""

    class Recorder:
        def __getitem__(self, grid):
            def launch(*arguments, **options):
                launches.append(options)
                return kernel[grid](*arguments, **options)

            return launch

    return Recorder()


def test_part_attention_launches_the_tiles_of_the_table(write, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {
        "forward": next(t for t in forward_candidates(32, 16, WHERE) if t.step == 32 and not t.whole),
        "backward": next(
            t for t in backward_candidates(32, 16, WHERE, ARCH) if t.warps == 8 and t.stages == 2 and not t.whole
        ),
    }
    write({f"part_attention_{name}": {ATTENTION_KEY: {"tiles": vars(tiles)}} for name, tiles in chosen.items()})
    launches = {name: [] for name in chosen}
    for name, seen in launches.items():
        kernel = {"forward": "part_attention_fwd_kernel", "backward": "part_attention_bwd_kernel"}[name]
        monkeypatch.setattr(attention, kernel, recorder(getattr(attention, kernel), seen))

    qkv = torch.randn(1, 3 + 64, 3, 1, 32, generator=torch.Generator().manual_seed(0)).half().to(DEVICE)
    regions = torch.tensor([[[0, 4, 0, 8], [4, 8, 2, 5]]], dtype=torch.int32, device=DEVICE)
    results = {}
    for impl in ("reference", "triton"):
        leaf = qkv.clone().requires_grad_()
        q, kv = leaf.split([1, 2], 2)
        out = part_attention(q[:, :, 0], kv, regions, (8, 8), impl=impl)
        results[impl] = (out, *torch.autograd.grad(out.float().square().sum(), leaf))
    torch.testing.assert_close(results["triton"], results["reference"], rtol=0.01, atol=0.01)
    for name, tiles in chosen.items():
        default = (forward_candidates if name == "forward" else backward_candidates)(32, 16, WHERE)[0]
        assert tiles != default
        (options,) = launches[name]
        assert (options["BLOCK"], options["STEP"]) == (tiles.block, tiles.step)
        assert (options["num_warps"], options["num_stages"]) == (tiles.warps, tiles.stages)


def test_nearest_parts_launches_the_tiles_of_the_table(write, monkeypatch: pytest.MonkeyPatch) -> None:
    default, *others = candidates(torch.float32, 64, 10, ARCH)
    tiles = next(other for other in others if other.slots != default.slots and other.queries != default.queries)
    write({"nearest_parts_forward": {"32-bit d64": {"tiles": vars(tiles)}}})
    launches: list[dict[str, Any]] = []
    kernel = recorder(nearest.nearest_parts_fwd_kernel, launches)
    monkeypatch.setattr(nearest, "nearest_parts_fwd_kernel", kernel)

    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(2, 90, 64, generator=generator).round().to(DEVICE)  # whole numbers: equal to the bit
    query, own = bank[:, 40:50] + 1, torch.arange(40, 50, device=DEVICE)
    found = nearest_parts(query, bank, own, k=4, scale=0.02, impl="triton")
    expected = nearest_parts(query, bank, own, k=4, scale=0.02, impl="reference")
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)
    torch.testing.assert_close(found.log_sum, expected.log_sum)
    (options,) = launches
    assert (options["BLOCK_B"], options["BLOCK_M"]) == (tiles.queries, tiles.slots)
    assert options["num_stages"] == tiles.stages


def test_other_keys_and_architectures_keep_their_default(write) -> None:
    tiles = forward_candidates(32, 16, WHERE)[1]
    write({"part_attention_forward": {ATTENTION_KEY: {"tiles": vars(tiles)}}})
    assert attention_tiles(32, 16, WHERE, ARCH) == tiles
    default = forward_candidates(32, 16, WHERE)[0]
    assert attention_tiles(32, 16, WHERE, "sm_87") == attention_tiles(32, 16, WHERE) == default
    assert attention_tiles(64, 16, WHERE, ARCH) == forward_candidates(64, 16, WHERE)[0]
    assert forward_tiles(torch.float32, 64, 10, ARCH) == candidates(torch.float32, 64, 10, ARCH)[0]


def entry(value: object) -> object:
    return {"part_attention_forward": {ATTENTION_KEY: value}}


DAMAGED = {
    "empty": b"",
    "cut off": b'{"part_attention_forward": {',
    "no text": b"\xff\xfe",
    "a list": [],
    "no keys": {"part_attention_forward": 3},
    "no tiles": entry({}),
    "a list of tiles": entry({"tiles": [128, 64, 8, 3]}),
    "a field less": entry({"tiles": {"block": 64, "step": 64, "warps": 4}}),
    "too large": entry({"tiles": {"block": 128, "step": 64, "warps": 8, "stages": 3}}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_or_foreign_table_is_ignored_with_one_warning(write, content: object) -> None:
    """The last one is the dangerous kind: tiles of 128 would leave out half of the tokens of a body of 64."""
    write(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            assert attention_tiles(32, 16, WHERE, ARCH) == forward_candidates(32, 16, WHERE)[0]
    assert len(caught) == 1, [str(warning.message) for warning in caught]
    assert f"{ARCH}.json" in str(caught[0].message)
    assert "kernels.tune" in str(caught[0].message)


def test_an_unreadable_table_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "TABLES", tmp_path)
    (tmp_path / f"{ARCH}.json").mkdir()
    with pytest.warns(UserWarning, match="damaged"):
        assert attention_tiles(32, 16, WHERE, ARCH) == forward_candidates(32, 16, WHERE)[0]


def test_tables_that_are_shipped_were_measured_and_fit_this_version() -> None:
    """Empty until somebody tunes on a GPU; then each entry names the GPU and one of the candidates."""
    for path in tuning.TABLES.glob("*.json"):
        table = tuning.load(path)
        assert table, path
        for operation, part in table.items():
            for key, entry in part.items():
                assert entry["device"], (path, operation, key)
                assert entry["microseconds"] <= entry["default_microseconds"]
                assert SimpleNamespace(**entry["tiles"]) in _candidates_of(operation, key, path.stem)


def _candidates_of(operation: str, key: str, arch: str) -> list[SimpleNamespace]:
    modules = [pytest.importorskip(f"kernels.{name}.tune") for name in ("part_attention", "nearest_parts")]
    jobs = [job for module in modules for job in module.jobs(arch) if (job.operation, job.key) == (operation, key)]
    return [SimpleNamespace(**vars(tiles)) for job in jobs for tiles in job.candidates]


def test_tables_go_into_the_wheel() -> None:
    """The folder has no code, so that a stricter search for packages would leave it out without a word."""
    setuptools = pytest.importorskip("setuptools")
    assert "kernels.tuned" in setuptools.find_namespace_packages(str(ROOT), include=["kernels*"])
