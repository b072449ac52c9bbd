"""Parts of the web process that are made for the first who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.http import dashboard
from app.http.entrance import Entrance
from app.http.ports import Reader
from app.keyring import LOCAL_KEY
from app.settings import Settings


class Secret:
    """What signs cookies and links: of the settings, else the one that Redis keeps.

    That need not be there at start.
    """

    def __init__(self, settings: Settings, views: Reader) -> None:
        self._settings = settings
        self._views = views
        self._found: bytes | None = None

    async def get(self) -> bytes:
        """Raises QueueUnavailableError."""
        if self._found is None:
            given = self._settings.secret_key
            self._found = (
                given.get_secret_value().encode()
                if given is not None
                else await self._views.session_secret()
            )
        return self._found


class ConsoleOnDemand:
    """The console behind its entrance, once the secret of its sessions can be had.

    That may have to come from Redis, which need not be there at start.
    """

    def __init__(self, settings: Settings, secret: Secret, app: ASGIApp) -> None:
        self._settings = settings
        self._secret = secret
        self._app = app
        self._built: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._built is None:
            settings = self._settings
            self._built = Entrance(
                self._app,
                settings.keyring,
                any_of=("read", "operate"),
                session_secret=await self._secret.get(),
                session_seconds=settings.session_seconds,
                secure_cookie=settings.is_production,
                local_key=None if settings.keyring else LOCAL_KEY,
            )
        await self._built(scope, receive, send)


class DashboardOnDemand:
    """The dashboard that `build` returns, a WSGI application, behind its entrance.

    Importing Flask and rq-dashboard takes longer than all the rest, and the session secret
    may have to come from Redis, which need not be there at start.
    """

    def __init__(self, settings: Settings, views: Reader, build: Callable[[], object]) -> None:
        self._settings = settings
        self._views = views
        self._build_wsgi = build
        self._building = asyncio.Lock()
        self._built: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._built is None:
            async with self._building:
                if self._built is None:
                    self._built = await self._build()
        await self._built(scope, receive, send)

    async def _build(self) -> ASGIApp:
        settings = self._settings
        return dashboard.Dashboard(
            await asyncio.to_thread(self._build_wsgi),
            keyring=settings.keyring,
            session_secret=await Secret(settings, self._views).get(),
            session_seconds=settings.session_seconds,
            secure_cookie=settings.is_production,
            local_key=None if settings.keyring else LOCAL_KEY,
        )
