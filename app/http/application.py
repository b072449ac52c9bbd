"""The ASGI application: Starlette, less what a request of ours has no use for."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send


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

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = self._dispatch
        for each, args, kwargs in reversed(self.user_middleware):
            app = each(app, *args, **kwargs)
        return app

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._whole_paths.get(scope["path"]) if scope["type"] == "http" else None
        await (app if app is not None else self.router)(scope, receive, send)
