"""A proxy before Valkey that cuts connections, and loses or holds replies to what was executed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field


@dataclass(eq=False)
class Link:
    """One connection there and on. `asked`: a request has passed that has no reply yet."""

    writers: list[asyncio.StreamWriter]
    asked: bool = False
    deaf: bool = False
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def end(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class CuttingProxy:
    """Passes everything on, both ways, until told otherwise."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._links: set[Link] = set()
        self._server: asyncio.Server | None = None
        self._held = b""
        self._released = asyncio.Event()
        self.port = 0
        self.cut_count = 0
        self.lost_replies = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self.release()
        self._server.close()
        for link in list(self._links):
            link.end()
        pumps = [pump for link in self._links for pump in link.pumps]
        await asyncio.gather(*pumps, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection, whatever is under way on it."""
        self.cut_count += len(self._links)
        for link in list(self._links):
            link.end()

    def lose_replies(self) -> None:
        """The next reply on each connection never arrives; the connection ends instead."""
        for link in self._links:
            link.deaf = True

    def hold(self, word: bytes) -> None:
        """Replies with the word in them wait for `release`."""
        self._held = word
        self._released.clear()

    def release(self) -> None:
        self._held = b""
        self._released.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link([writer, far_writer])
        self._links.add(link)
        link.pumps = [
            asyncio.create_task(self._pass_requests(link, reader, far_writer)),
            asyncio.create_task(self._pass_replies(link, far_reader, writer)),
        ]
        await asyncio.wait(link.pumps)
        self._links.discard(link)

    async def _pass_requests(
        self, link: Link, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                link.asked = True
                target.write(data)
                await target.drain()
        link.end()

    async def _pass_replies(
        self, link: Link, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if link.deaf and link.asked:
                    self.lost_replies += 1
                    break
                if self._held and self._held in data:
                    await self._released.wait()
                link.asked = False
                target.write(data)
                await target.drain()
        link.end()
