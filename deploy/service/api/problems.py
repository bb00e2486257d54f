"""Errors as RFC 9457 says: application/problem+json with a type that a program can tell apart."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from deploy.service.people import NotThere
from deploy.service.photos import TooLarge
from deploy.service.site import Taken
from pat.base.errors import Failure, UserError

log = logging.getLogger(__name__)

NAMES = {
    400: ("bad-request", "The request makes no sense"),
    401: ("no-token", "A token is needed"),
    403: ("not-allowed", "This caller may not do that"),
    404: ("not-found", "It is not there"),
    405: ("method-not-allowed", "The address does not take this method"),
    408: ("too-slow", "The request did not arrive in time"),
    409: ("conflict", "It does not go together with what is there"),
    413: ("too-large", "The request is too large"),
    415: ("wrong-media-type", "The body is of a kind that is not taken here"),
    421: ("wrong-host", "The service does not answer to this name"),
    422: ("invalid", "Something in the request has a wrong value"),
    429: ("too-many-requests", "Too many requests"),
    500: ("defect", "The service has failed"),
    503: ("unavailable", "The service cannot do it now"),
}
"""Status -> name and title."""
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": title, "content": {"application/problem+json": {}}}
    for status, (_, title) in NAMES.items()
    if status != 405
}
"""For OpenAPI."""
URN = "urn:pat-reid:problem:"


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as a response."""
    name, title = NAMES.get(status, ("other", "Something is wrong"))
    content = {"type": URN + name, "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def add_to(app: FastAPI) -> None:
    """Answer every error of the application with a problem."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"where": ".".join(str(part) for part in each["loc"]), "what": each["msg"]} for each in error.errors()
        ]
        first = f"{errors[0]['where']}: {errors[0]['what']}" if errors else "the request is not valid"
        return problem(422, first, errors=errors)

    @app.exception_handler(UserError)
    async def mistake(request: Request, error: UserError) -> JSONResponse:
        kinds: tuple[tuple[type[Exception], int], ...] = ((NotThere, 404), (Taken, 409), (TooLarge, 413))
        return problem(next((status for kind, status in kinds if isinstance(error, kind)), 422), str(error))

    @app.exception_handler(Failure)
    async def failure(request: Request, error: Failure) -> JSONResponse:
        log.error("%s %s: %s", request.method, request.url.path, error)
        return problem(503, str(error), headers={"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return problem(500, "the log of the service says more")
