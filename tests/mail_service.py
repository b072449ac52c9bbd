"""A scripted SMTP server beside tests that block: in a thread, on a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.smtp_server import Action, SmtpServer


class MailThread:
    """What a test says to the server goes through its loop."""

    def __init__(self, server: SmtpServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop

    @property
    def url(self) -> str:
        return self.server.url()

    def on(self, prefix: str, action: Action, *, times: int | None = 1) -> None:
        self._loop.call_soon_threadsafe(lambda: self.server.on(prefix, action, times=times))

    def forget_rules(self) -> None:
        self._loop.call_soon_threadsafe(self.server.forget_rules)

    def recipients(self) -> list[str]:
        return [address for mail in list(self.server.mails) for address in mail.recipients]


@contextmanager
def mail_thread(server: SmtpServer | None = None) -> Iterator[MailThread]:
    running = server if server is not None else SmtpServer()
    loop = asyncio.new_event_loop()
    started = threading.Event()
    over = asyncio.Event()

    async def serve() -> None:
        async with running:
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield MailThread(running, loop)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
