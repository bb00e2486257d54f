"""What is true of rendered images, read from the people.parquet beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pat.base.errors import UserError
from pat.data.sample import Sample

TABLE = "people.parquet"
"""What `pat synth people` writes; named here, too, because its package needs numba, which reading does not."""

Facts = Mapping[str, Any]
"""A row of people.parquet."""


def has_facts(samples: Sequence[Sample]) -> bool:
    """Whether the images of a data set were rendered with their facts."""
    return bool(samples) and _table(samples[0]).is_file()


def facts_of(samples: Sequence[Sample], columns: Sequence[str]) -> list[Facts]:
    """The facts of images of one data set, in their order. Raises UserError where they are missing."""
    path = _table(samples[0])
    if not path.is_file():
        raise UserError(f"there is no {path}: these images were not rendered by pat synth people, which writes it")
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"reading {path} needs pyarrow (pip install pyarrow)") from error
    try:
        table = parquet.read_table(path, columns=["path", *columns])
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}; render the people again") from error
    if lacking := [name for name in columns if name not in table.column_names]:
        raise UserError(f"{path} has no column {lacking[0]}; render the people again with this version")
    names = [_name(sample) for sample in samples]
    wanted = pyarrow.compute.is_in(table["path"], value_set=pyarrow.array(names))
    rows = {row["path"]: row for row in table.filter(wanted).to_pylist()}
    if unknown := [name for name in names if name not in rows]:
        raise UserError(f"{path} does not know {unknown[0]}; images and table are not of one rendering")
    return [rows[name] for name in names]


def size_of(sample: Sample) -> tuple[int, int]:
    """Height and width of an image as it was written: what the boxes in the facts count in."""
    with Image.open(sample.path) as image:
        return image.height, image.width


def _table(sample: Sample) -> Path:
    return sample.path.parent.parent / TABLE


def _name(sample: Sample) -> str:
    return f"{sample.path.parent.name}/{sample.path.name}"
