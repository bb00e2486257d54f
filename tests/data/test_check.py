"""Whether a data set on disk is whole: counts, what is missing, broken or doubled."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from pat.base.progress import Advance, Progress
from pat.data.check import Count, Finding, check
from pat.data.figures import FIGURES
from pat.data.layouts import LAYOUTS, find_data_set, find_data_sets
from pat.data.layouts.splits import SPLITS_FILE

Miniature = Callable[..., Path]


def checked(folder: Path, quick: bool = False) -> Finding:
    [found] = find_data_sets(folder)
    return check(found, Progress(), quick)


@pytest.fixture(scope="module")
def whole_viper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VIPeR with as many images as the real one, each a single pixel."""
    folder = tmp_path_factory.mktemp("real") / "VIPeR"
    for number, camera in enumerate(("cam_a", "cam_b")):
        (folder / camera).mkdir(parents=True)
        for person in range(632):
            colour = (person % 256, person // 256, number)
            Image.new("RGB", (1, 1), colour).save(folder / camera / f"{person:03d}_{90 * number}.bmp")
    return folder


@pytest.fixture
def viper(whole_viper: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(whole_viper, tmp_path / "VIPeR")


def test_a_whole_data_set_has_nothing_wrong(whole_viper: Path) -> None:
    finding = checked(whole_viper)
    assert finding.wrong == []
    assert finding.parts == {
        "train": Count(316, 632, 2), "query": Count(316, 316, 1), "gallery": Count(316, 316, 1),
        "whole": Count(632, 1264, 2),
    }  # fmt: skip
    mapping = finding.to_mapping()
    assert mapping["published"] == {part: (size.identities, size.images) for part, size in finding.parts.items()}


def test_half_copied(viper: Path) -> None:
    for person in range(300, 632):
        (viper / "cam_b" / f"{person:03d}_90.bmp").unlink()
    finding = checked(viper, quick=True)
    assert sum("has no partner in the other camera" in line for line in finding.wrong) == 332
    assert "whole: 300 identities and 600 images, published are 632 and 1264; half copied?" in finding.wrong
    shutil.rmtree(viper / "cam_b")
    assert "missing cam_b" in checked(viper).wrong[0]
    assert checked(viper).parts == {}


def test_broken_images_are_named_and_quick_does_not_look(viper: Path) -> None:
    (viper / "cam_a" / "007_0.bmp").write_bytes(b"")
    (viper / "cam_b" / "631_90.bmp").write_bytes(b"BM and nothing more")
    assert checked(viper, quick=True).wrong == []
    broken = checked(viper).wrong
    assert len(broken) == 2
    assert broken[0] == f"broken: {viper / 'cam_a' / '007_0.bmp'}: the file is empty"
    assert str(viper / "cam_b" / "631_90.bmp") in broken[1]


def test_doubles_are_wrong_unless_every_count_is_the_published_one(viper: Path) -> None:
    shutil.copy(viper / "cam_a" / "001_0.bmp", viper / "cam_b" / "500_90.bmp")
    finding = checked(viper)
    assert finding.wrong == []
    same = f"the same image: {viper / 'cam_a' / '001_0.bmp'} = {viper / 'cam_b' / '500_90.bmp'}"
    assert same in finding.remarks
    for camera, angle in (("cam_a", 0), ("cam_b", 90)):
        (viper / camera / f"631_{angle}.bmp").unlink()
    assert same in checked(viper).wrong


def test_own_data_has_no_published_figures(tmp_path: Path, miniature: Miniature) -> None:
    finding = checked(miniature("folder", tmp_path / "people"))
    assert finding.wrong == []
    assert finding.published is None
    assert finding.parts["whole"] == Count(2, 4, 2)
    shutil.copy(tmp_path / "people/anna/c1_0001.jpg", tmp_path / "people/ben/c1_0002.jpg")
    assert len(checked(tmp_path / "people").wrong) == 1


def test_market_layout_is_held_against_market_where_the_folder_says_so(
    tmp_path: Path, miniature: Miniature
) -> None:
    assert checked(miniature("market1501", tmp_path / "people")).wrong == []
    wrong = checked(miniature("market1501", tmp_path / "Market-1501-v15.09.15")).wrong
    assert wrong[0] == "train: 1 identities and 2 images, published are 751 and 12936; half copied?"
    assert wrong[-1] == "images of 3 cameras, published are 6"


def test_msmt17_counts_people_of_both_halves_apart(tmp_path: Path, miniature: Miniature) -> None:
    parts = checked(miniature("msmt17", tmp_path / "MSMT17")).parts
    assert [parts[part].identities for part in ("train", "query", "gallery", "whole")] == [1, 1, 1, 2]


def test_names_missing_images_and_splits_by_hand_are_wrong(tmp_path: Path, miniature: Miniature) -> None:
    folder = miniature("msmt17", tmp_path / "MSMT17")
    (folder / "test/0000/0000_000_02_0113noon_0001_0.jpg").unlink()
    assert "lists no image" in checked(folder).wrong[0]
    folder = miniature("prid", tmp_path / "prid_2011")
    shutil.copy(folder / "single_shot/cam_a/person_0001.png", folder / "single_shot/cam_a/holiday.png")
    assert "holiday.png does not have the expected form" in checked(folder).wrong[0]
    (folder / SPLITS_FILE).write_text('{"splits": [{"train": ["x.png"]}]}')
    assert "split 0, train, entry 0: 'x.png' is not an image" in checked(folder).wrong[0]


def test_both_kinds_of_boxes_of_cuhk03(tmp_path: Path, miniature: Miniature) -> None:
    miniature("cuhk03", tmp_path / "cuhk03")
    names = [check(found, Progress()).found.name for found in find_data_sets(tmp_path)]
    assert names == ["cuhk03", "cuhk03-labeled"]


def test_figures_are_of_known_layouts_and_add_up() -> None:
    for name, figures in FIGURES.items():
        assert LAYOUTS[name].FOLDERS
        parts = [part for part in (figures.train, figures.query, figures.gallery) if part]
        if len(parts) == 3 and name not in ("viper", "prid", "grid"):
            assert sum(images for _, images in parts) == figures.whole[1]
            assert figures.train[0] + figures.gallery[0] == figures.whole[0]
    # The sources of the first multi-source protocol: 18,530 people (Song et al., CVPR 2019).
    sources = ("cuhk02", "cuhk03", "market1501", "dukemtmc", "cuhk-sysu")
    assert sum(FIGURES[name].whole[0] for name in sources) == 18530


def test_progress_tells_every_image(tmp_path: Path, miniature: Miniature) -> None:
    class Bars(Progress):
        seen: list[str]

        @contextlib.contextmanager
        def bar(self, label: str, total: int) -> Iterator[Advance]:
            self.seen = []
            yield lambda steps, figures="", total=None: self.seen.extend([figures] * steps)

    folder = miniature("viper", tmp_path / "VIPeR")
    (folder / "cam_a" / "000_0.bmp").write_bytes(b"")
    progress = Bars()
    check(find_data_set("viper", tmp_path), progress)
    assert len(progress.seen) == 16
    assert progress.seen[-1] == "1 broken"
