"""Own images: a folder for each identity.

    shop/anna/c1_0001.jpg              the camera is in the name: c1, c1s2, cam1, cam_a between separators
    shop/001/01_1.png                  the name is the camera and the image's number, where every name is so
    shop/anna/entrance/0001.jpg        the camera is a folder
    shop/0001/0012/0001_C5_F0003.jpg   the folder is a number, of a tracklet, where the name tells the camera
    shop/cam_a/anna/0001.jpg           the outer folder, where its name tells a camera and the inner's does not
    shop/train/anna/c1_0001.jpg        with a split: train, query and gallery (or test), each optional

Where no image tells a camera, all count as one camera. Identities and cameras become numbers, and images
without a split serve training and evaluation, as `layouts.named` says; a folder named -1 is junk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pat.base.errors import UserError
from pat.data.layouts import market1501
from pat.data.layouts.named import SPLITS, NamedImage, data_set_of
from pat.data.layouts.reading import DataSet, Problems, image_names, listing, sub_folders

FOLDERS: tuple[str, ...] = ()
EXPECTED = "a folder for each identity (identity/c1_0001.jpg or identity/camera/0001.jpg)"

_PART = re.compile(r"(?:^|[_\-. ])(?:train|val|test|query|gallery|probe)(?:ing)?$|_body_images$", re.IGNORECASE)
"""How the parts of data sets are named that are stored otherwise: bbox_train of MARS, image_query of VeRi,
whole_body_images of Occluded-REID."""

_NUMBERS = re.compile(r"(\d{1,3})_\d+")
"""Camera and number of the image. More digits would rather be the number of a frame."""

_CAMERA = re.compile(r"(?:^|[_\-. ])(?:c(\d+)(?:s\d+)?|cam(?:era)?[_-]?(\d+|[a-z]))(?=[_\-. ]|$)", re.IGNORECASE)

_CAMERA_FOLDER = re.compile(r"cam(?:era)?[_\-. ]?(?:\d+|[a-z])", re.IGNORECASE)
"""Names that no person has."""


def recognises(path: Path) -> bool:
    return path.is_dir() and bool(sub_folders(path))


def read(path: Path, name: str, problems: Problems) -> DataSet:
    """Read a folder per identity. Raises UserError when there are no identities or no images in them."""
    if not recognises(path):
        raise UserError(f"{path} does not have the layout folder: expected {EXPECTED}; found {listing(path)}")
    tops = sub_folders(path)
    splits = [top for top in tops if top.name.lower() in SPLITS]
    if splits:
        for top in splits:
            _refuse_parts(top)
        others = [top.name for top in tops if top not in splits]
        if others:
            problems.notes.append(f"{name}: beside the parts of the split, not read: {', '.join(others)}")
        images = [p for top in splits for p in _identities(top, top.name.lower(), problems)]
    else:
        _refuse_parts(path)
        cameras = cameras_in(path)
        if any(image_names(path / camera) for camera in cameras):
            raise UserError(
                f"{path}: {', '.join(cameras)} look like cameras, not like people, and hold images; put them in a "
                f"folder for each person, {cameras[0]}/PERSON/IMAGE, or list the images in a .csv"
            )
        images = list(_identities(path, "", problems))
    if not images:
        raise UserError(f"{path} holds no images: expected {EXPECTED}; found {listing(path)}")
    return data_set_of(_with_cameras(images, name, problems), name, path, problems)


def parts_in(path: Path) -> list[str]:
    """Folders in `path`, or in the first of them, that are parts of a data set and no people; several or none."""
    tops = sub_folders(path)
    parts = [top.name for top in tops if _PART.search(top.name) or _holds_numbers(top)]
    return parts if len(parts) > 1 else [f"{top.name}/{part}" for top in tops[:1] for part in parts_in(top)]


def cameras_in(path: Path) -> list[str]:
    """The folders in `path` where all are cameras by their names; several or none."""
    names = [top.name for top in sub_folders(path)]
    return names if len(names) > 1 and all(map(_CAMERA_FOLDER.fullmatch, names)) else []


def _holds_numbers(folder: Path) -> bool:
    """Whether it is a letter with people in it, as test/A/101 of PRCC is."""
    return len(folder.name) == 1 and any(re.fullmatch(r"\d{3,}", each.name) for each in sub_folders(folder))


def _refuse_parts(path: Path) -> None:
    if parts := parts_in(path):
        raise UserError(
            f"{path}: {', '.join(parts)} look like parts of a data set, not like people; name the parts train, "
            f"query and gallery with a folder for each identity in them, or list the images in a .csv"
        )


def _identities(folder: Path, split: str, problems: Problems) -> Iterator[NamedImage]:
    """Images below a folder of identities; the camera is empty where nothing tells it."""
    for name in image_names(folder):
        hint = f"expected {folder}/IDENTITY/{name}"
        if split and market1501.NAME.match(name):
            hint += "; for names like Market-1501's call the folders bounding_box_train, query, bounding_box_test"
        problems.report(f"{folder / name} lies in no identity's folder: {hint}")
    for identity in sub_folders(folder):
        for name in image_names(identity):
            yield NamedImage(identity / name, identity.name, _camera_in(Path(name).stem), split)
        for camera_folder in sub_folders(identity):
            outer, inner = _camera_in(identity.name), _camera_in(camera_folder.name)
            if outer and not inner:
                who, camera = camera_folder.name, outer
            else:
                who, camera = identity.name, inner or camera_folder.name
            tracklet = not (outer or inner) and camera_folder.name.isdecimal()
            for name in image_names(camera_folder):
                told = _camera_in(Path(name).stem) if tracklet else ""
                yield NamedImage(camera_folder / name, who, told or camera, split)
            for deeper in sub_folders(camera_folder):
                problems.report(f"{deeper} lies deeper than identity/camera/image")


def _camera_in(name: str) -> str:
    """The camera that a name tells, the same for c2, c02 and cam2; empty where it tells none."""
    match = _CAMERA.search(name)
    camera = (match[1] or match[2]) if match else ""
    return str(int(camera)) if camera.isdecimal() else camera.lower()


def _with_cameras(images: list[NamedImage], name: str, problems: Problems) -> list[NamedImage]:
    """The images that tell their camera; all of them where none does."""
    if not any(image.camera for image in images):
        images = _camera_first(images, name, problems)
    told = [image for image in images if image.camera]
    if not told:
        problems.notes.append(
            f"{name}: neither names nor folders tell a camera, so all count as one camera; names that tell it are "
            f"{_example(images[0])} or 01_1.jpg (camera, number)"
        )
        return images
    for image in images:
        if not image.camera:
            problems.report(f"{image.path} tells no camera, others do; expected a name like {_example(image)}")
    return told


def _camera_first(images: list[NamedImage], name: str, problems: Problems) -> list[NamedImage]:
    """The images with the first number of their names as the camera, where it can be one, or as they are.

    Every name has to be two numbers, and the first has to come more than once: a camera that took one image of
    everybody together is no camera.
    """
    matches = [_NUMBERS.fullmatch(image.path.stem) for image in images]
    cameras = [str(int(match[1])) for match in matches if match]
    if len(cameras) < len(images) or len(set(cameras)) * 2 > len(images):
        return images
    problems.notes.append(
        f"{name}: names such as {images[0].path.name} are read as camera and number: {len(set(cameras))} cameras"
    )
    return [replace(image, camera=camera) for image, camera in zip(images, cameras, strict=True)]


def _example(image: NamedImage) -> str:
    """The name that an image would have if it told its camera."""
    return f"{image.identity}/c1_{image.path.name}"
