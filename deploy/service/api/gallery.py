"""People: listed, shown, named, merged, split, forgotten; and the questions about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from deploy.service import models
from deploy.service.api.parts import (
    Cursor,
    Eraser,
    Limit,
    Operator,
    TheSite,
    Viewer,
    in_view,
    number_of,
    numbers_of,
    page_of,
    shown,
)
from deploy.service.api.problems import PROBLEMS
from deploy.service.reviews import Question

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)
Key = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-f]+$")]
EntryId = Annotated[str, Path(max_length=64, pattern=r"^[0-9a-f-]+$")]
Number = Annotated[int, Path(ge=1, lt=2**53)]


@router.get("/people", tags=["people"])
def list_people(
    site: TheSite,
    caller: Viewer,
    limit: Limit = 50,
    cursor: Cursor = "",
    q: Annotated[str, Query(max_length=200, description="Part of a name.")] = "",
    camera: Annotated[str, Query(max_length=200, description="Seen by this one.")] = "",
    kept: Annotated[bool | None, Query(description="Enrolled or named, or not.")] = None,
) -> models.Page[models.Person]:
    """Everybody in the gallery, last seen first."""
    after = numbers_of(cursor, 2)
    wanted = q.casefold()
    found = [
        each
        for each in site.people.everybody()
        if (after is None or (-each.last, each.number) > (-after[0], after[1]))
        and wanted in each.name.casefold()
        and (not camera or camera in each.cameras)
        and (kept is None or each.kept == kept)
    ]
    viewed = in_view(site)
    return page_of(
        found, limit, lambda each: f"{each.last!r}:{each.number}", lambda each: shown(site, each, viewed)
    )


@router.get("/people/{key}", tags=["people"])
def get_person(site: TheSite, caller: Viewer, key: Key) -> models.Person:
    """One person; the key of somebody who was merged leads to whom that is now."""
    return shown(site, site.people.person(key))


@router.get("/people/{key}/timeline", tags=["people"])
def get_timeline(
    site: TheSite, caller: Viewer, key: Key, limit: Limit = 50, cursor: Cursor = ""
) -> models.Page[models.Sighting]:
    """Where and when a person was seen, over all cameras, newest first."""
    before = numbers_of(cursor, 2)
    found = site.people.timeline(
        site.people.person(key), limit + 1, None if before is None else (before[0], int(before[1]))
    )
    return page_of(found, limit, lambda each: f"{each.first!r}:{each.id}")


@router.get("/people/{key}/entries", tags=["people"])
def get_entries(site: TheSite, caller: Viewer, key: Key) -> list[models.Entry]:
    """What is stored of a person: the newest 200 entries."""
    return site.people.entries(site.people.person(key))


JPEG = {200: {"content": {"image/jpeg": {}}}, **PROBLEMS}


@router.get("/people/{key}/view.jpg", tags=["people"], response_class=Response, responses=JPEG)
def get_view(site: TheSite, caller: Viewer, key: Key) -> Response:
    """A person's best view, where views are kept."""
    return Response(site.people.best_image(site.people.person(key)), media_type="image/jpeg")


@router.get("/entries/{entry}/view.jpg", tags=["people"], response_class=Response, responses=JPEG)
def get_entry_view(site: TheSite, caller: Viewer, entry: EntryId) -> Response:
    """The view of an entry, where views are kept."""
    return Response(site.people.image(entry), media_type="image/jpeg")


@router.patch("/people/{key}", tags=["people"])
def rename_person(site: TheSite, caller: Operator, key: Key, name: models.Name) -> models.Changed:
    """Give a person a name that nobody has; who has a name is kept until forgotten."""
    change = site.rename(site.people.person(key), name.name)
    return models.Changed(change=change, person=shown(site, site.people.person(key)))


@router.post("/people/{key}/merge", tags=["people"])
def merge_people(site: TheSite, caller: Operator, key: Key, merge: models.Merge) -> models.Changed:
    """Make one of two people."""
    change = site.merge(site.people.person(key), site.people.person(merge.into))
    return models.Changed(change=change, person=shown(site, site.people.person(key)))


@router.post("/people/{key}/split", tags=["people"])
def split_person(site: TheSite, caller: Operator, key: Key, split: models.Split) -> models.Changed:
    """Give entries of a person to somebody else."""
    person = site.people.person(key)
    change = site.split(person, split.entries, split.name)
    other = site.gallery.key_of(split.name) or key
    return models.Changed(change=change, person=shown(site, site.people.person(other)))


@router.delete("/people/{key}", tags=["people"])
def forget_person(site: TheSite, caller: Eraser, key: Key) -> models.Receipt:
    """Delete a person from the disk, with sightings, views, events and questions; cannot be undone."""
    return site.forget(site.people.person(key))


@router.get("/receipts/{receipt}", tags=["people"])
def get_receipt(site: TheSite, caller: Eraser, receipt: EntryId) -> models.Receipt:
    """What was deleted when somebody was forgotten."""
    return site.receipt(receipt)


@router.get("/changes", tags=["changes"])
def list_changes(
    site: TheSite, caller: Viewer, limit: Limit = 50, cursor: Cursor = ""
) -> models.Page[models.Change]:
    """Merges, splits and new names, newest first."""
    before = number_of(cursor)
    found = [row for row in site.gallery.aliases() if before is None or row[0] < before]
    return page_of(found, limit, lambda row: row[0], lambda row: models.of_row(models.Change, row))


@router.post("/changes/{change}/undo", tags=["changes"], status_code=204)
def undo_change(site: TheSite, caller: Operator, change: Number) -> None:
    """Take a merge, a split or a new name back."""
    site.undo(change)


@router.get("/reviews", tags=["reviews"])
def list_reviews(
    site: TheSite,
    caller: Viewer,
    limit: Limit = 20,
    cursor: Cursor = "",
    answered: Annotated[bool, Query(description="Those that were answered, newest first.")] = False,
) -> models.Page[models.Review]:
    """Uncertain matches that wait for somebody to look, oldest first."""
    viewed, views = in_view(site), site.settings.keep.views != "none"

    def as_review(question: Question) -> models.Review:
        return models.Review(
            id=question.id, time=question.time, kind=question.kind, camera=question.camera, score=question.score,
            answer=question.answer, subject=shown(site, question.subject, viewed),
            candidate=shown(site, question.candidate, viewed),
            image=models.view_of(question.entry) if views and question.entry else None,
        )  # fmt: skip

    found = site.reviews.open(limit + 1, number_of(cursor) or 0, answered=answered)
    return page_of(found, limit, lambda each: each.id, as_review)


@router.put("/reviews/{review}", tags=["reviews"], status_code=204)
def answer_review(site: TheSite, caller: Operator, review: Number, answer: models.AnswerTo) -> None:
    """Say whether the two are the same person; what follows from it is done."""
    site.reviews.answer(review, answer.answer)


@router.delete("/reviews/{review}/answer", tags=["reviews"], status_code=204)
def take_answer_back(site: TheSite, caller: Operator, review: Number) -> None:
    """Undo an answer and what it did."""
    site.reviews.take_back(review)
