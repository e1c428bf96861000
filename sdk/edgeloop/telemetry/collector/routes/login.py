"""The login form, its answer, and the way out. No script: the form works without."""

from __future__ import annotations

import asyncio
import html
import math
import time
from importlib import resources
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edgeloop.telemetry.collector.routes.enrollment import read_small
from edgeloop.telemetry.collector.security.access import Principal
from edgeloop.telemetry.collector.security.guard import is_same_origin, origin_of
from edgeloop.telemetry.collector.security.identity import COOKIE
from edgeloop.telemetry.collector.security.users import SESSION_S
from edgeloop.telemetry.collector.services import Services

_HTML = "text/html; charset=utf-8"
_COOKIE_FLAGS = "Path=/; HttpOnly; Secure; SameSite=Strict"
_FORM_FIELDS = 4
_AT_ONCE = 2  # each takes 16 MiB and 40 ms of a core


def routes(services: Services) -> list[Route]:
    """`/login` and `/logout`; on plain loopback there is nothing to log in to."""
    security = services.security
    folder = resources.files("edgeloop.telemetry.collector") / "page"
    page = (folder / "login.html").read_text(encoding="utf-8")
    few = asyncio.Semaphore(_AT_ONCE)
    style = (folder / "login.css").read_bytes()

    def form(said: str = "", status: int = 200) -> Response:
        return Response(page.replace("{said}", html.escape(said)), status, {"Content-Type": _HTML})

    async def get_form(_request: Request) -> Response:
        return form() if security.enforced else RedirectResponse("/", 303)

    async def log_in(request: Request) -> Response:
        if not is_same_origin(request.headers):
            raise HTTPException(403, "this form was not sent by the collector's own page")
        origin = origin_of(request.scope)
        text = (await read_small(request)).decode("utf-8", "replace")
        try:
            fields = parse_qs(text, max_num_fields=_FORM_FIELDS)
        except ValueError:
            raise HTTPException(400, "no login form") from None
        name, password = (fields.get(key, [""])[0] for key in ("name", "password"))
        keys = (f"login {origin}", f"login as {name[:120]}")
        for key in keys:
            if wait_s := security.tries.wait_s(key, time.monotonic()):
                services.notices.once(f"tries {origin}", f"too many logins are tried from {origin}")
                answer = form("Too many tries. Wait a little.", 429)
                answer.headers["Retry-After"] = str(math.ceil(wait_s))
                return answer
        async with few:
            session = await run_in_threadpool(security.users.log_in, name, password, origin)
        if session is None:
            return form("Name or password is wrong.", 401)
        for key in keys:
            security.tries.give_back(key)
        cookie = f"{COOKIE}={session.text}; Max-Age={int(SESSION_S)}; {_COOKIE_FLAGS}"
        return RedirectResponse("/", 303, {"Set-Cookie": cookie})

    async def log_out(request: Request) -> Response:
        who: Principal = request.scope["edgeloop.principal"]
        if who.session_id:
            await run_in_threadpool(security.users.log_out, who.session_id, who.name, origin_of(request.scope))
            security.identities.forget(security.identities.shown(request.headers, None))
        return RedirectResponse("/login", 303, {"Set-Cookie": f"{COOKIE}=; Max-Age=0; {_COOKIE_FLAGS}"})

    async def get_style(_request: Request) -> Response:
        return Response(style, headers={"Content-Type": "text/css; charset=utf-8"})

    return [
        Route("/login", get_form),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/login.css", get_style),
    ]
