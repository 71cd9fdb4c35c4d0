"""The server behind the page: one session per page, on this machine alone.

Starlette routes and checks hosts, uvicorn speaks HTTP. Requests come from a browser that also visits other pages, so that
names of hosts, origins and types of content are checked before anything is done.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from explorer.course import sentence
from explorer.page import export, page
from explorer.session import Session, Wish, roster
from teleport_env.problems import PROBLEMS, problem_from
from teleport_env.problems.base import SPLITS

HOSTS = ["127.0.0.1", "localhost"]
"""Names under which the page may be asked for: another one is a page elsewhere that had its own name point here."""

MOST_BYTES = 4096
"""Of the body of a request."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

# verb in the address, the field of the body that it reads, and what it does
_VERBS: dict[str, tuple[str | None, Callable[..., None]]] = {
    "act": ("action", Session.act),
    "move": ("along", Session.move),
    "turn": ("direction", Session.turn),
    "view": ("near", Session.view),
    "undo": (None, Session.undo),
    "finish": (None, Session.finish),
}


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Kept:
    """A session of some page; ``lock`` is held while a request of its page is worked on."""

    session: Session
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """The episodes in play, by a name that cannot be guessed.

    Args:
        most: Sessions kept; a new one takes the place of the one that was not used for longest.
        age: Seconds without a request after which a session is dropped.
    """

    def __init__(self, most: int = 8, age: float = 7200.0) -> None:
        self.most, self.age = most, age
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, session: Session) -> str:
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._drop_old()
            while len(self._kept) >= self.most:
                self._kept.popitem(last=False)
            self._kept[name] = Kept(session, time.monotonic())
        return name

    def find(self, name: str) -> Kept:
        """The session of that name.

        Raises:
            Refused: There is none any more.
        """
        with self._lock:
            self._drop_old()
            if name not in self._kept:
                raise Refused(
                    404,
                    f"this episode is gone: the server keeps the last {self.most} episodes, each for "
                    f"{self.age / 3600:g} hours after its last action. Start a new one",
                )
            kept = self._kept[name]
            kept.used = time.monotonic()
            self._kept.move_to_end(name)
            return kept

    def _drop_old(self) -> None:
        oldest = time.monotonic() - self.age
        for name in [name for name, kept in self._kept.items() if kept.used < oldest]:
            del self._kept[name]


class SameOrigin(BaseHTTPMiddleware):
    """Refuses what another page sends, and forbids the page to load anything from elsewhere."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin != f"http://{host}":
            return JSONResponse({"error": f"requests come from the explorer's own page, not from {origin}"}, 403)
        answer = await call_next(request)
        answer.headers.update(_HEADERS)
        return answer


def application(wish: Wish | None = None, sessions: Sessions | None = None) -> Starlette:
    """The server's application.

    Args:
        wish: The episode that the page offers first; None: the defaults.
        sessions: Store of the sessions.
    """
    kept = Sessions() if sessions is None else sessions
    first = Wish() if wish is None else wish

    async def root(request: Request) -> Response:
        return HTMLResponse(
            page({"choices": {"splits": list(SPLITS), "problems": list(PROBLEMS), "first": vars(first)}})
        )

    async def problem(request: Request) -> Response:
        def look() -> dict[str, Any]:
            name = request.path_params["name"]
            if name not in PROBLEMS:
                raise Refused(404, f"there is no problem {name!r}: choose among {', '.join(PROBLEMS)}")
            return {"sentence": sentence(problem_from(name)), "agents": list(roster(name))}

        return await _answer(look)

    async def begin(request: Request) -> Response:
        body = await _body(request)

        def play() -> dict[str, Any]:
            session = Session(Wish.read(body))
            return {"episode": kept.add(session), "state": session.state()}

        return await _answer(play)

    async def do(request: Request) -> Response:
        body, (name, verb) = await _body(request), (request.path_params["name"], request.path_params["verb"])

        def work() -> dict[str, Any]:
            if verb not in _VERBS:
                raise Refused(404, f"an episode has no {verb!r}: it has {', '.join(_VERBS)}")
            argument, method = _VERBS[verb]
            expected = {argument} - {None}
            if set(body) != expected:
                wanted = f"the field {argument!r} alone" if argument else "no field"
                raise ValueError(f"{verb!r} takes {wanted}, got {', '.join(sorted(body)) or 'none'}")
            one = kept.find(name)
            with one.lock:
                method(one.session, *body.values())
                return {"state": one.session.state()}

        return await _answer(work)

    async def save(request: Request) -> Response:
        def work() -> Response:
            one = kept.find(request.path_params["name"])
            with one.lock:
                text, problem_name = export(one.session.course.document()), one.session.wish.problem
            named = f'attachment; filename="{problem_name.lower()}-episode.html"'
            return HTMLResponse(text, headers={"Content-Disposition": named})

        return await _answer(work)

    return Starlette(
        routes=[
            Route("/", root),
            Route("/api/problems/{name}", problem),
            Route("/api/episodes", begin, methods=["POST"]),
            Route("/api/episodes/{name}/export", save),
            Route("/api/episodes/{name}/{verb}", do, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False), Middleware(SameOrigin)],
        exception_handlers={Refused: _refused},
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse({"error": str(error)}, error.status)


async def _answer(work: Callable[[], Any]) -> Response:
    """What ``work`` gives, off the loop that reads requests; a refusal is answered with its reason."""
    try:
        found = await run_in_threadpool(work)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise Refused(400, str(error)) from error
    return found if isinstance(found, Response) else JSONResponse(found)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        Refused: Something else, or too much.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(415, "the body must be JSON, with the header 'Content-Type: application/json'")
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MOST_BYTES:
            raise Refused(413, f"the body may have {MOST_BYTES} bytes")
    try:
        found = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise Refused(400, f"the body must be a JSON object, got {type(found).__name__}")
    return found
