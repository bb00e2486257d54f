"""What the routes share: the site, the caller's role, cursors, and how people look to the outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, cast

from fastapi import Depends, HTTPException, Query, Request

from deploy.service import models, people
from deploy.service.access import Caller, Role
from deploy.service.elsewhere import Neighbours
from deploy.service.reviews import BAND
from deploy.service.site import Site
from pat.base.errors import UserError


def site_of(request: Request) -> Site:
    return cast(Site, request.app.state.site)


TheSite = Annotated[Site, Depends(site_of)]
Limit = Annotated[int, Query(ge=1, le=200, description="Items at most.")]
Cursor = Annotated[str, Query(max_length=100, description="`next` of the part before.")]


def neighbours_of(request: Request) -> Neighbours | None:
    return cast("Neighbours | None", request.app.state.neighbours)


TheNeighbours = Annotated[Neighbours | None, Depends(neighbours_of)]


def needs(role: Role) -> Callable[[Request], Caller]:
    """A dependency: the caller, who has this role."""

    def check(request: Request) -> Caller:
        caller = request.scope["state"]["caller"]
        if caller is None or not caller.may(role):
            raise HTTPException(403, f"this needs the role {role!r}")
        return cast(Caller, caller)

    return check


Viewer = Annotated[Caller, Depends(needs("view"))]
Operator = Annotated[Caller, Depends(needs("operate"))]
Eraser = Annotated[Caller, Depends(needs("erase"))]


def numbers_of(cursor: str, count: int) -> tuple[float, ...] | None:
    """The numbers of a cursor; None for the first part. Raises UserError."""
    if not cursor:
        return None
    try:
        numbers = tuple(float(part) for part in cursor.split(":"))
        if len(numbers) != count or any(abs(each) > 2**53 or each != each for each in numbers):
            raise ValueError
    except ValueError:
        raise UserError("the cursor is none that was given out; begin without one") from None
    return numbers


def in_view(site: Site) -> dict[str, list[str]]:
    """Cameras that see a person now, by name."""
    found: dict[str, list[str]] = {}
    for seen in site.live.everywhere():
        for label in seen.labels:
            if label.identity is not None:
                found.setdefault(label.identity, []).append(seen.frame.camera)
    return found


def shown(site: Site, person: people.Person, viewed: dict[str, list[str]] | None = None) -> models.Person:
    """A person as the API shows it."""
    cameras = (in_view(site) if viewed is None else viewed).get(person.name, [])
    picture = f"/api/v1/people/{person.key}/view.jpg" if site.settings.keep.views != "none" else None
    return models.Person(
        key=person.key, name=person.name, kept=person.kept, entries=person.entries, sightings=person.sightings,
        cameras=list(person.cameras), first=person.first, last=person.last, in_view=cameras, picture=picture,
    )  # fmt: skip


def decision(score: float, threshold: float) -> Literal["same", "perhaps", "different"]:
    """What a score says."""
    return "same" if score >= threshold else "perhaps" if score >= threshold - BAND else "different"
