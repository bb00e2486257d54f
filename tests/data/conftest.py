"""Miniatures of the data sets, with their real names of folders and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def draw(folder: Path, names: Iterable[str]) -> Path:
    """Small images, each different from the others."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng([ord(letter) for letter in name]).integers(0, 256, 3)
        Image.new("RGB", (2, 4), tuple(map(int, colour))).save(path)
    return folder


def market1501(folder: Path) -> Path:
    draw(folder / "bounding_box_train", ["0002_c1s1_000451_03.jpg", "0002_c3s2_000001_01.jpg"])
    draw(folder / "query", ["0001_c1s1_001051_00.jpg"])
    return draw(folder / "bounding_box_test", ["0001_c2s1_000776_01.jpg", "-1_c1s1_000001_00.jpg"]).parent


def dukemtmc(folder: Path) -> Path:
    draw(folder / "bounding_box_train", ["0001_c2_f0046182.jpg", "0001_c8_f0046302.jpg"])
    draw(folder / "query", ["0005_c2_f0046985.jpg"])
    return draw(folder / "bounding_box_test", ["0005_c5_f0051543.jpg", "0006_c1_f0051543.jpg"]).parent


def msmt17(folder: Path) -> Path:
    lists = {
        "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0"],
        "val": ["0000/0000_001_07_0303afternoon_0031_1.jpg 0"],
        "query": ["0000/0000_000_02_0113noon_0001_0.jpg 0"],
        "gallery": ["0000/0000_001_03_0113noon_0002_0.jpg 0"],
    }
    for part, lines in lists.items():
        draw(folder / ("train" if part in ("train", "val") else "test"), [line.split()[0] for line in lines])
        (folder / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def cuhk02(folder: Path) -> Path:
    for pair in range(1, 6):
        for camera in (1, 2):
            draw(folder / f"P{pair}" / f"cam{camera}", [f"{person:03d}_{camera}.png" for person in (1, 2)])
    return folder


CUHK03_IMAGES = [f"{pair}_{person:03d}_{view}_{5 * view - 4:02d}.png"
                   for pair in (1, 2) for person in (1, 2) for view in (1, 2)]  # fmt: skip


def cuhk03_protocol(file: Path, names: list[str] = CUHK03_IMAGES) -> None:
    """Persons 1 and 2 train; of 3 and 4 the first view asks and the second answers."""
    import scipy.io

    cells = np.empty((len(names), 1), dtype=object)
    cells[:, 0] = names
    labels = np.repeat([1, 2, 3, 4], 2)[: len(names)]
    values = {"filelist": cells, "labels": labels[:, None], "train_idx": [[1], [2], [3], [4]]}
    scipy.io.savemat(file, {**values, "query_idx": [[5], [7]], "gallery_idx": [[6], [8]]})


def cuhk03(folder: Path) -> Path:
    for boxes in ("detected", "labeled"):
        draw(folder / f"images_{boxes}", CUHK03_IMAGES)
        cuhk03_protocol(folder / f"cuhk03_new_protocol_config_{boxes}.mat")
    return folder


def cuhk03_np(folder: Path) -> Path:
    for boxes in ("detected", "labeled"):
        draw(folder / boxes / "bounding_box_train", ["0001_c1_1.png", "0001_c2_2.png"])
        draw(folder / boxes / "query", ["0002_c1_3.png"])
        draw(folder / boxes / "bounding_box_test", ["0002_c2_4.png"])
    return folder


def cuhk03_mat(file: Path) -> Path:
    """cuhk-03.mat as MATLAB 7.3 stores it: two pairs of cameras, a person in each, some places empty."""
    import h5py

    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w", userblock_size=512) as mat:
        for kind in ("detected", "labeled"):
            pairs = mat.create_dataset(kind, (1, 2), dtype=h5py.ref_dtype)
            for pair in range(2):
                table = mat.create_dataset(f"#refs#/{kind}{pair}", (10, 1), dtype=h5py.ref_dtype)
                pairs[0, pair] = table.ref
                for place in range(10):
                    pixels = np.full((4, 3, 3), (pair, place, 200), np.uint8)  # [H, W, 3]
                    stored = pixels.T if place in (0, 5) else np.zeros(2, np.uint64)
                    table[place, 0] = mat.create_dataset(f"#refs#/{kind}{pair}_{place}", data=stored).ref
        tested = mat.create_dataset("testsets", (1, 2), dtype=h5py.ref_dtype)
        for number in range(2):  # person 1 of the first pair of cameras, then of the second
            people = np.array([[number + 1], [1]], dtype=np.float64)
            tested[0, number] = mat.create_dataset(f"#refs#/tested{number}", data=people).ref
    with file.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64")
    return file


def cuhk_sysu(folder: Path) -> Path:
    names = ["p00001_n01_s00001_hard0.png", "p00001_n02_s00004_hard0.png", "p00007_n01_s00009_hard0.png"]
    return draw(folder / "cropped_images", names).parent


def viper(folder: Path, people: int = 8) -> Path:
    draw(folder / "cam_a", [f"{3 * person:03d}_{45 * (person % 3)}.bmp" for person in range(people)])
    return draw(folder / "cam_b", [f"{3 * person:03d}_90.bmp" for person in range(people)]).parent


def prid(folder: Path, shared: int = 6) -> Path:
    """`shared` people in both cameras and, from 201 on, two strangers in cam_a and three in cam_b."""
    both = list(range(1, shared + 1))
    draw(folder / "single_shot" / "cam_a", [f"person_{person:04d}.png" for person in [*both, 201, 202]])
    draw(folder / "single_shot" / "cam_b", [f"person_{person:04d}.png" for person in [*both, 201, 202, 203]])
    return folder


def grid(folder: Path, people: int = 6) -> Path:
    """`people` pairs, three images of nobody, and partitions in which people 1 to 3, 2 to 4, ... train."""
    import scipy.io

    draw(folder / "probe", [f"{person:04d}_1_25004_107_32_106_22{person}.jpeg" for person in range(1, people + 1)])
    draw(folder / "gallery", [f"{person:04d}_2_25023_116_134_128_330.jpeg" for person in range(1, people + 1)])
    draw(folder / "gallery", [f"0000_3_2500{number}_1_2_3_4.jpeg" for number in range(3)])
    partitions = np.empty((1, 10), dtype=object)
    for number in range(10):
        training = [1 + (number + step) % people for step in range(people // 2)]
        partitions[0, number] = {"gallery": [[0]], "probe": [[0]], "people": [training]}
    scipy.io.savemat(folder / "features_and_partitions.mat", {"trainIdxAll": partitions})
    return folder


def ilids(folder: Path, people: int = 6) -> Path:
    names = [f"{person:04d}{number:03d}.jpg" for person in range(1, people + 1) for number in range(1, 4)]
    return draw(folder / "Persons", names).parent


def randperson(folder: Path) -> Path:
    return draw(folder, ["000000_s00_c00_f000264.jpg", "000000_s00_c01_f001632.jpg", "000007_s02_c00_f000001.jpg"])


def own_folder(folder: Path) -> Path:
    return draw(folder, ["anna/c1_0001.jpg", "anna/c2_0001.jpg", "ben/c1_0001.jpg", "ben/c2_0001.jpg"])


MINIATURES: dict[str, Callable[[Path], Path]] = {
    "market1501": market1501, "msmt17": msmt17, "dukemtmc": dukemtmc, "cuhk02": cuhk02, "cuhk03": cuhk03,
    "cuhk03_np": cuhk03_np, "cuhk03_mat": cuhk03_mat, "cuhk03_protocol": cuhk03_protocol, "cuhk-sysu": cuhk_sysu,
    "viper": viper, "prid": prid, "grid": grid, "ilids": ilids, "randperson": randperson, "folder": own_folder,
}  # fmt: skip


@pytest.fixture(scope="session")
def miniature() -> Callable[..., Path]:
    """`miniature(name, place, ...)` writes that data set, or file of one, at a place."""

    def write(name: str, place: Path, *arguments: object) -> Path:
        return MINIATURES[name](place, *arguments)

    return write
