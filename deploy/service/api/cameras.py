"""What the cameras see now, and who it is: images, streams, search by a person in view or by a photo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Literal

import numpy as np
from anyio import CapacityLimiter, fail_after, to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from deploy.cluster.records import Elsewhere
from deploy.service import models
from deploy.service.api.parts import TheNeighbours, TheSite, TheStreams, Viewer, decision, in_view, shown
from deploy.service.api.problems import PROBLEMS
from deploy.service.elsewhere import Neighbours
from deploy.service.live import Live
from deploy.service.people import NotThere
from deploy.service.photos import ANSWER_WITHIN, InPhoto, Limits
from deploy.service.site import Site
from deploy.service.streams import Streams
from pat.base.errors import Failure

router = APIRouter(prefix="/api/v1", responses=PROBLEMS)
LIVE_RATE = 12.0
"""Images a second of a stream at most."""
PHOTOS = 1
"""Looked up at once, so that the cameras keep their share of the machine. Others wait without a thread: people,
health and images go on meanwhile."""
SEEN: dict[str, Literal["yes", "perhaps", "no"]] = {"same": "yes", "perhaps": "perhaps", "different": "no"}
KINDS = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")

Count = Annotated[int, Query(ge=1, le=50, description="People for each one in the photo, at most.")]
OfCamera = Annotated[str | None, Query(max_length=200, description="Entries of this camera alone.")]
Since = Annotated[float | None, Query(description="Seconds since the epoch.", allow_inf_nan=False)]
Share = Annotated[float, Query(ge=0, le=1, description="Share of the image.")]


def cameras(site: Site) -> list[models.Camera]:
    """All cameras as they are now."""
    rates = {each.name: each for each in site.rates.cameras} if site.rates else {}
    found = []
    for camera in site.parts.cameras:
        status, seen, rate = camera.status(), site.live.newest(camera.name), rates.get(camera.name)
        height, width = seen.frame.pixels.shape[:2] if seen else (None, None)
        fresh = seen if status.state == "live" else None
        found.append(
            models.Camera(
                **{**asdict(status), "name": camera.name}, source=status.url,
                frames_per_second=rate.frames_per_second if rate else 0.0, width=width, height=height,
                in_view=[
                    models.InView(
                        track=label.track, name=label.identity, score=label.score,
                        key=site.gallery.key_of(label.identity) if label.identity else None,
                        box=_shares(label.box, fresh.frame.pixels.shape),
                    )
                    for label in fresh.labels
                ] if fresh else [],
            )
        )  # fmt: skip
    return found


def _shares(box: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    height, width = shape[:2]
    x0, y0, x1, y1 = (float(edge) if np.isfinite(edge) else 0.0 for edge in box)
    return x0 / width, y0 / height, x1 / width, y1 / height


@router.get("/cameras", tags=["cameras"])
def list_cameras(site: TheSite, caller: Viewer) -> list[models.Camera]:
    """All cameras, their states, and who is in view."""
    return cameras(site)


@router.get(
    "/cameras/{name}/frame.jpg", tags=["cameras"], response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, **PROBLEMS},
)  # fmt: skip
def get_frame(site: TheSite, caller: Viewer, name: str) -> Response:
    """The newest image of a camera, with boxes and names."""
    seen = _known(site, name).newest(name)
    if seen is None:
        raise HTTPException(503, f"camera {name} has given no image yet", {"Retry-After": "1"})
    return Response(seen.jpeg(), media_type="image/jpeg", headers={"X-Frame": str(seen.frame.index)})


@router.get(
    "/cameras/{name}/stream.mjpeg", tags=["cameras"], response_class=StreamingResponse,
    responses={200: {"content": {"multipart/x-mixed-replace": {}}}, **PROBLEMS},
)  # fmt: skip
async def get_stream(
    site: TheSite, streams: TheStreams, caller: Viewer, name: str,
    rate: Annotated[float, Query(gt=0, le=LIVE_RATE, description="Images a second at most.")] = LIVE_RATE,
) -> StreamingResponse:  # fmt: skip
    """The camera's images as they come, with boxes and names (MJPEG)."""
    _known(site, name)
    return StreamingResponse(
        streams.counted(_images(site, streams, name, rate)),
        media_type="multipart/x-mixed-replace; boundary=frame",
    )


async def _images(site: Site, streams: Streams, name: str, rate: float) -> AsyncIterator[bytes]:
    shown_last = -1
    while not streams.ending:
        begun = time.monotonic()
        seen = site.live.newest(name)
        if seen is not None and seen.frame.index != shown_last:
            shown_last, jpeg = seen.frame.index, await to_thread.run_sync(seen.jpeg)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield b"".join((head.encode(), jpeg, b"\r\n"))
        await asyncio.sleep(max(0.02, begun + 1 / rate - time.monotonic()))


@router.post("/cameras/{name}/search", tags=["search"])
def search_in_view(
    site: TheSite, neighbours: TheNeighbours, caller: Viewer, name: str, x: Share, y: Share, count: Count = 5,
    camera: OfCamera = None, since: Since = None, until: Since = None,
) -> models.Search:  # fmt: skip
    """Who the person at this place of the camera's newest image is, and who is like that person."""
    there = _known(site, name).at(name, x, y)
    if there is None:
        raise NotThere(f"nobody is at this place in the image of camera {name}")
    seen, label = there
    found = site.photos.search_box(seen.frame.pixels, label.box, Limits(count, camera, since, until))
    return _answer(site, neighbours, seen.frame.pixels.shape, found)


@router.post(
    "/search", tags=["search"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS},
        }
    },
)  # fmt: skip
async def search_by_photo(
    request: Request, site: TheSite, neighbours: TheNeighbours, caller: Viewer, count: Count = 5,
    camera: OfCamera = None, since: Since = None, until: Since = None,
    whole: Annotated[bool, Query(description="The photo is a crop of one person: look for nobody in it.")] = False,
) -> models.Search:  # fmt: skip
    """Who a photo (JPEG, PNG or WebP, as the body) shows, and where these people were seen before."""
    if request.headers.get("content-type", "").partition(";")[0].strip() not in KINDS:
        raise HTTPException(415, f"send the photo itself as the body, with a type of {', '.join(KINDS)}")
    content = await request.body()

    def search() -> tuple[tuple[int, ...], list[InPhoto]]:
        pixels = site.photos.decode(content)
        return pixels.shape, site.photos.search(pixels, Limits(count, camera, since, until), whole=whole)

    line: CapacityLimiter = request.app.state.photos
    try:
        with fail_after(ANSWER_WITHIN):
            await line.acquire()
    except TimeoutError:
        raise Failure("other photos are being looked up; try again") from None
    try:
        shape, found = await to_thread.run_sync(search)
    finally:
        line.release()
    return await to_thread.run_sync(_answer, site, neighbours, shape, found)  # asks the cluster, out of the line


def _known(site: Site, name: str) -> Live:
    if all(each.name != name for each in site.parts.cameras):
        raise NotThere(f"there is no camera {name!r}")
    return site.live


def _answer(
    site: Site, neighbours: Neighbours | None, shape: tuple[int, ...], found: list[InPhoto]
) -> models.Search:
    away: str | None = None
    threshold, viewed = site.parts.recogniser.threshold, in_view(site)
    people = {each.key: each for each in site.people.everybody()}
    answers = []
    for each in found:
        matches = [
            models.Match(
                person=shown(site, people[match.key], viewed), score=match.score, camera=match.camera,
                time=match.time, decision=decision(match.score, threshold),
            )
            for match in each.matches
            if match.key in people
        ]  # fmt: skip
        seen = SEEN[matches[0].decision if matches else "different"]
        others: list[Elsewhere] = []
        if neighbours is not None and away is None and np.isfinite(each.vector).all():
            try:
                others = neighbours.search(each.vector)
            except Failure as error:
                away = str(error)
        answers.append(
            models.InPhoto(
                box=each.box, quality=each.quality, seen_before=seen, matches=matches,
                elsewhere=others,
            )
        )
    return models.Search(width=shape[1], height=shape[0], threshold=threshold, people=answers, cluster=away)
