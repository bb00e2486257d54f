"""What the routes share: the site, the caller's role, cursors, and how people look to the outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar, cast

from fastapi import Depends, HTTPException, Query, Request

from deploy.service import models, people
from deploy.service.access import Caller, Role
from deploy.service.elsewhere import Neighbours
from deploy.service.journal import Journal
from deploy.service.reviews import BAND
from deploy.service.site import Site
from deploy.service.streams import Streams
from pat.base.errors import UserError

T = TypeVar("T")


def _part(name: str) -> Callable[[Request], Awaitable[Any]]:
    """A dependency: what `make_app` has put into the application's state under this name."""

    async def found(request: Request) -> Any:
        return getattr(request.app.state, name)

    return found


TheSite = Annotated[Site, Depends(_part("site"))]
TheJournal = Annotated[Journal, Depends(_part("journal"))]
TheStreams = Annotated[Streams, Depends(_part("streams"))]
TheNeighbours = Annotated[Neighbours | None, Depends(_part("neighbours"))]
Limit = Annotated[int, Query(ge=1, le=200, description="Items at most.")]
Cursor = Annotated[str, Query(max_length=100, description="`next` of the part before.")]


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who has this role."""

    async def check(request: Request) -> Caller:
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


def number_of(cursor: str) -> int | None:
    """The number of a cursor that is one; None for the first part. Raises UserError."""
    numbers = numbers_of(cursor, 1)
    return None if numbers is None else int(numbers[0])


def page_of(
    found: Sequence[T], limit: int, cursor: Callable[[T], object], shown: Callable[[T], object] = lambda each: each
) -> models.Page:
    """The first `limit` of what was found, as `shown`; where there is more, the cursor of the last leads on."""
    items = found[:limit]
    following = str(cursor(items[-1])) if len(found) > limit else None
    return models.Page(items=[shown(each) for each in items], next=following)


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
    image = f"/api/v1/people/{person.key}/view.jpg" if site.settings.keep.views != "none" else None
    return models.Person(**asdict(person), in_view=cameras, image=image)


def decision(score: float, threshold: float) -> Literal["same", "perhaps", "different"]:
    """What a score says."""
    return "same" if score >= threshold else "perhaps" if score >= threshold - BAND else "different"
