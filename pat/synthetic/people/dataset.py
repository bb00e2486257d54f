"""Writing a data set of people who do not exist: Market-1501 folders, and all that is true in people.parquet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pat.base.errors import Failure, UserError
from pat.base.files import write_text, written_whole
from pat.synthetic.people.crop import Crop, take
from pat.synthetic.people.person import Person
from pat.synthetic.people.plan import GALLERY, QUERY, TRAIN, Plan, Shot
from pat.synthetic.people.site import Sites
from pat.synthetic.randomness import stream
from pat.synthetic.sharing import checked_workers, in_processes

PLAN, TABLE, WORK = "people.json", "people.parquet", ".unfinished"
QUALITY = 92

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def write_people(out: Path, plan: Plan, *, workers: int | None = None, progress: Progress | None = None) -> int:
    """Write the data set of `plan` into `out` and return the number of images.

    Begun and not finished, the same call goes on where it stopped. The bytes of images and the rows of
    people.parquet depend on the plan alone. `workers` are processes, one for each core if None; more than one
    are started by "spawn", so a script calls this under `if __name__ == "__main__"`.
    Raises UserError for numbers that make no sense and when `out` holds something else; Failure when the disk
    refuses or a worker dies.
    """
    plan.check()
    workers = checked_workers(workers)
    tell = progress or (lambda label, done, total: None)
    out = Path(out)
    if _finished(out, plan):
        tell("crops", plan.total, plan.total)
        return plan.total
    try:
        work = out / WORK
        for folder in (TRAIN, QUERY, GALLERY, f"{WORK}/sites", f"{WORK}/rows"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_text(out / PLAN, json.dumps(plan.told(), indent=1) + "\n")
        for done, _ in enumerate(in_processes(partial(_site, work, plan), range(plan.cameras), workers), 1):
            tell("places", done, plan.cameras)
        chunks = [chunk for chunk in plan.chunks() if not _rows(work, chunk).is_file()]
        done = plan.total - sum(len(chunk) for chunk in chunks) * plan.images
        tell("crops", done, plan.total)
        for images in in_processes(partial(_draw, out, plan), chunks, workers):
            done += images
            tell("crops", done, plan.total)
        _join(work / "rows", out / TABLE)
        shutil.rmtree(work)
    except OSError as error:
        raise Failure(
            f"cannot write people to {out}: {error.strerror or error}; run the same command again to continue"
        ) from error
    return plan.total


def _finished(out: Path, plan: Plan) -> bool:
    """Whether `out` holds the whole data set. Raises UserError when it holds another one, or something else."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a new folder for the people")
    if not out.is_dir() or not any(out.iterdir()):
        return False
    try:
        told = json.loads((out / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{out} already holds files; name a new folder for the people, or empty it") from None
    if told != plan.told():
        changed = [name for name, value in plan.told().items() if told.get(name) != value]
        raise UserError(
            f"{out} holds people with other {', '.join(changed)}; name a new folder, or the same numbers"
        )
    return (out / TABLE).is_file() and not (out / WORK).exists()


@cache
def sites_in(folder: Path) -> Sites:
    """The sites of a folder, opened once in each process."""
    return Sites(folder)


@cache
def _passers_by(plan: Plan) -> list[Person]:
    return plan.passers_by()


def _site(work: Path, plan: Plan, camera: int) -> None:
    sites_in(work / "sites").get(plan.camera_seed(camera), plan.domain)


def take_shot(plan: Plan, sites: Sites, person: Person, shot: Shot) -> Crop:
    """The crop of one shot of a plan."""
    site = sites.get(plan.camera_seed(shot.camera), plan.domain)
    generator = stream("crop", plan.seed, shot.identity, shot.index)
    return take(person, site, generator, size=plan.size, others=_passers_by(plan))


def _rows(work: Path, chunk: range) -> Path:
    return work / "rows" / f"{chunk.start:06d}.parquet"


def _draw(out: Path, plan: Plan, chunk: range) -> int:
    """Draw the images of a chunk, and last of all its rows: a chunk with rows is done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sites = sites_in(out / WORK / "sites")
    rows: list[dict[str, Any]] = []
    for identity, person in zip(chunk, plan.people(chunk), strict=True):
        worn = person.attributes()
        for shot in plan.shots(identity):
            crop = take_shot(plan, sites, person, shot)
            crop.image.save(out / shot.path, "JPEG", quality=QUALITY)
            if plan.segmentation:
                _save_parts(crop, out / "segmentation" / Path(shot.path).with_suffix(".png"))
            named = {"path": shot.path, "identity": identity, "camera": shot.camera + 1}
            rows.append({**named, **crop.record, **worn})
    with written_whole(_rows(out / WORK, chunk)) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    return len(rows)


def _save_parts(crop: Crop, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(crop.parts)).save(path)


def _join(folder: Path, path: Path) -> None:
    """One table of the tables of all chunks, one at a time in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = sorted(folder.glob("*.parquet"))
    schema = pa.unify_schemas([pq.read_schema(part) for part in parts], promote_options="permissive")
    with written_whole(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            table = pq.read_table(part)
            for field in schema:
                if field.name not in table.column_names:
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            writer.write_table(table.select(schema.names).cast(schema))
