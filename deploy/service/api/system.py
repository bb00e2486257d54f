"""Events, the threshold, the state of everything, sessions, the audit log."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from deploy.gallery.threshold import Point, false_alarms
from deploy.service import models
from deploy.service.api.cameras import cameras
from deploy.service.api.guard import COOKIE
from deploy.service.api.parts import (
    Cursor,
    Eraser,
    Limit,
    Operator,
    TheJournal,
    TheNeighbours,
    TheSite,
    TheStreams,
    Viewer,
    number_of,
    page_of,
)
from deploy.service.api.problems import PROBLEMS
from deploy.service.journal import Journal
from deploy.service.people import NotThere
from deploy.service.reviews import BAND
from deploy.service.streams import Streams
from pat.base.errors import UserError

router = APIRouter(responses=PROBLEMS)
SILENCE = 15.0
"""Seconds after which a stream without events says that it is alive."""
LOOK_EVERY = 2.0
"""Seconds between two looks at the journal when nothing wakes it."""
API = "/api/v1"


@router.get("/healthz", tags=["system"])
def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", tags=["system"], response_model=None)
def ready(site: TheSite) -> JSONResponse:
    """The model and the gallery work: 200, else 503 and what does not."""
    broken = []
    if site.parts.embedder.broken_for:
        broken.append("model")
    try:
        if not site.storage().ok:
            broken.append("storage")
    except Exception:  # whatever it is, it is not ready
        broken.append("gallery")
    return JSONResponse({"ready": not broken, "broken": broken}, 503 if broken else 200)


@router.get("/metrics", tags=["system"], response_class=Response)
def metrics(site: TheSite, caller: Viewer) -> Response:
    """Everything that is counted and timed, for Prometheus."""
    return Response(generate_latest(site.parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(f"{API}/status", tags=["system"])
def status(site: TheSite, journal: TheJournal, neighbours: TheNeighbours, caller: Viewer) -> models.Status:
    """Cameras, storage, model and figures at a glance."""
    retention = site.gallery.facts.retention
    return models.Status(
        version=_version(), started=site.started, now=time.time(), role=caller.role, caller=caller.name,
        cameras=cameras(site), storage=site.storage(), model=site.model(),
        milliseconds=site.rates.milliseconds if site.rates else {},
        crops_per_second=site.rates.crops_per_second if site.rates else 0.0,
        people=len(site.people.everybody()), reviews=site.reviews.count(),
        events_lost=journal.lost, views=site.settings.keep.views,
        retention_hours=None if retention is None else retention / 3600,
        cluster=None if neighbours is None else neighbours.state(),
    )  # fmt: skip


@router.delete(f"{API}/cluster/nodes/{{node}}", tags=["system"], status_code=204)
def dismiss_node(
    neighbours: TheNeighbours, caller: Eraser, node: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
) -> None:
    """Delete what another site has brought to the cluster, which will not come back."""
    if neighbours is None:
        raise NotThere("this site is in no cluster: --cluster.url")
    if node == neighbours.cluster.node:
        raise UserError("that is this site itself")
    neighbours.cluster.dismiss(node)


@router.get(f"{API}/events", tags=["events"])
def list_events(
    journal: TheJournal, caller: Viewer, limit: Limit = 50, cursor: Cursor = "",
    kind: Annotated[str | None, Query(max_length=40, description="Of this kind alone.")] = None,
    camera: Annotated[str | None, Query(max_length=200)] = None,
    key: Annotated[str | None, Query(max_length=64, description="Of this person alone.")] = None,
) -> models.Page[dict[str, Any]]:  # fmt: skip
    """What happened, newest first; docs/integrators.md tells the fields."""
    found = journal.before(number_of(cursor), limit + 1, kind=kind, camera=camera, key=key)
    return page_of(found, limit, lambda each: each.seq, lambda each: dict(each.values))


@router.get(
    f"{API}/events/stream", tags=["events"], response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **PROBLEMS},
)  # fmt: skip
async def stream_events(
    journal: TheJournal, streams: TheStreams, caller: Viewer,
    last_event_id: Annotated[str, Header(max_length=20, description="Go on after this event.")] = "",
) -> StreamingResponse:  # fmt: skip
    """Events as they happen (server-sent events); what was missed comes first when `Last-Event-ID` is given."""
    number = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else None
    since = await to_thread.run_sync(lambda: journal.newest) if number is None else min(number, 2**53)
    return StreamingResponse(
        streams.counted(_told(journal, streams, since)), media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )  # fmt: skip


async def _told(journal: Journal, streams: Streams, since: int) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    spoken = time.monotonic()
    async for found in streams.follow(journal, since, LOOK_EVERY):
        for each in found:
            data = json.dumps(dict(each.values))
            yield f"id: {each.seq}\nevent: {each.values['event']}\ndata: {data}\n\n".encode()
        now = time.monotonic()
        if found:
            spoken = now
        elif now - spoken >= SILENCE:
            spoken = now
            yield b": still here\n\n"


@router.get(f"{API}/threshold", tags=["system"])
def get_threshold(site: TheSite, caller: Viewer) -> models.Threshold:
    """From which cosine on two vectors are one person's, and what that costs."""
    entries, threshold = site.gallery.count(), site.parts.recogniser.threshold

    def rates(point: Point | None) -> models.Rates | None:
        if point is None:
            return None
        return models.Rates(**asdict(point), false_alarms=false_alarms(point.false_match_rate, entries))

    measured = [each for each in map(rates, site.error_rates.points) if each is not None]
    return models.Threshold(
        threshold=threshold, configured=site.configured_threshold, uncertain=BAND, entries=entries,
        expected=rates(site.error_rates.at(threshold)), measured=measured,
        measured_on=site.error_rates.measured_on,
    )  # fmt: skip


@router.put(f"{API}/threshold", tags=["system"])
def set_threshold(site: TheSite, caller: Operator, new: models.NewThreshold) -> models.Threshold:
    """Decide by another threshold from now on, until the configuration says something else."""
    site.set_threshold(new.threshold)
    return get_threshold(site, caller)


@router.get(f"{API}/session", tags=["session"])
def get_session(request: Request) -> models.Session:
    """Who is asking; nulls when a token is needed."""
    caller = request.scope["state"]["caller"]
    return models.Session(caller=caller and caller.name, role=caller and caller.role)


@router.post(f"{API}/session", tags=["session"])
def sign_in(request: Request, response: Response, site: TheSite, login: models.Login) -> models.Session:
    """Trade a token for a cookie that the page keeps, out of reach of scripts."""
    address = request.client.host if request.client else "local socket"
    cookie, whose = site.sessions.begin(login.token), site.tokens.whose(login.token)
    if cookie is None or whose is None:
        if wait := site.wrong_tokens.wait(address):
            raise HTTPException(429, "too many wrong tokens", {"Retry-After": str(max(1, round(wait)))})
        raise HTTPException(401, "the token is wrong", {"WWW-Authenticate": "Bearer"})
    response.set_cookie(
        COOKIE, cookie, max_age=int(site.settings.access.session_hours * 3600), httponly=True, samesite="strict",
        secure=request.url.scheme == "https", path="/",
    )  # fmt: skip
    return models.Session(caller=whose[0], role=whose[1])


@router.delete(f"{API}/session", tags=["session"], status_code=204)
def sign_out(request: Request, response: Response, site: TheSite) -> None:
    """Forget the cookie."""
    site.sessions.end(request.cookies.get(COOKIE, ""))
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


@router.get(f"{API}/audit", tags=["system"])
def list_audit(
    site: TheSite, caller: Eraser, limit: Limit = 50, cursor: Cursor = ""
) -> models.Page[models.AuditLine]:
    """Who did what, newest first; people by their key."""
    found = site.audit.lines(limit + 1, number_of(cursor))
    return page_of(found, limit, lambda row: row[0], lambda row: models.of_row(models.AuditLine, row))


def _version() -> str:
    try:
        return version("pat-reid")
    except PackageNotFoundError:
        return "not installed"
