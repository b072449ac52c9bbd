"""The ASGI application: Starlette, less what a request of ours has no use for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from app.http.auth import LocalOnly
from app.http.bodies import BODY_READ
from app.http.middleware import Edge, identify
from app.http.resources import Beginning, Reply, Resource


class Application(Starlette):
    """Starlette whose outermost middleware answers all errors, so that it needs no others.

    A path without parameters is found at once and not by trying one pattern after the other
    (measured: the layers and the patterns cost as much as all of a job's validation).
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        middleware: Sequence[Middleware],
        lifespan: Lifespan[Starlette] | None,
    ) -> None:
        super().__init__(routes=routes, middleware=middleware, lifespan=lifespan)
        # A path that ends in a slash is another path: 404, as a problem, and no redirect that
        # turns a POST into a guess.
        self.router.redirect_slashes = False
        self._whole_paths = {
            route.path: route.app
            for route in routes
            if isinstance(route, Route) and not route.methods and not route.param_convertors
        }
        locks = [each for each in middleware if _is(each, LocalOnly)]
        others = [each for each in middleware if not _is(each, Edge) and each not in locks]
        # Whatever else stands around the routes has a hand in answers, and needs a coroutine.
        self._beginnings = {} if others else _beginnings(self._whole_paths)
        self._checks = [_locked(each, self._dispatch).check for each in locks]

    def begin(self, scope: Scope, body: bytes, reply: Reply) -> bool:
        """Take in a request whose whole body is here, without a coroutine of its own.

        True: `reply` gets its answer, now or later. False: nothing has happened, and the
        application has to be called, as it has where a request is refused or asks for more. A
        coroutine for each request that is suspended until Redis answers, and woken, costs more
        than all that is asked of Redis.
        """
        begin = self._beginnings.get(scope["path"])
        if begin is None:
            return False
        identify(scope)
        try:
            for check in self._checks:
                check(scope)
            begun = begin(scope, body, reply)
        except Exception:  # noqa: BLE001 - the application finds it again, and answers it
            return False
        if begun:
            scope[BODY_READ] = True
        return begun

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = self._dispatch
        for each, args, kwargs in reversed(self.user_middleware):
            app = each(app, *args, **kwargs)
        return app

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._whole_paths.get(scope["path"]) if scope["type"] == "http" else None
        await (app if app is not None else self.router)(scope, receive, send)


def _is(middleware: Middleware, kind: object) -> bool:
    return middleware.cls is kind


def _locked(middleware: Middleware, app: ASGIApp) -> LocalOnly:
    options: Any = middleware.kwargs
    return LocalOnly(app, **options)


def _beginnings(paths: dict[str, ASGIApp]) -> dict[str, Beginning]:
    return {
        path: app.begin
        for path, app in paths.items()
        if isinstance(app, Resource) and any(each.begin for each in app.operations.values())
    }
