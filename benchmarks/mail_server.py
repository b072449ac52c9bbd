"""A mail server that takes everything, a set time after it was asked: `python -m
benchmarks.mail_server PORT MILLISECONDS`.

It marks each e-mail by the number in its subject, and says when it ends how many replies a
dialogue waited for: from that follows what 64 connections can do at most.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys

from benchmarks.peers.marks import mark

_SUBJECT = re.compile(rb"^Subject: (\d+)", re.MULTILINE)
_END = b"\r\n.\r\n"


class Tally:
    """Of all connections: replies that belong to an e-mail's dialogue, and e-mails."""

    def __init__(self) -> None:
        self.replies = 0
        self.mails = 0


class Session(asyncio.Protocol):
    """One connection. Commands are answered one by one: no pipelining is offered."""

    def __init__(self, delay_seconds: float, tally: Tally) -> None:
        self._delay_seconds = delay_seconds
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 benchmark ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END if self._in_data else b"\r\n")) >= 0:
            text, width = self._received[:end], len(_END) if self._in_data else 2
            self._received = self._received[end + width :]
            if self._in_data:
                self._take(text)
            else:
                self._answer(text[:4].upper())

    def _answer(self, command: bytes) -> None:
        if command == b"EHLO":
            self._transport.write(b"250-benchmark\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
        elif command == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        elif command == b"DATA":
            self._in_data = True
            self._reply(b"354 go on\r\n")
        else:
            self._reply(b"250 ok\r\n")

    def _take(self, source: bytes) -> None:
        self._in_data = False
        found = _SUBJECT.search(source)
        self._tally.mails += 1
        if found is not None:
            mark(int(found[1]))
        self._reply(b"250 taken\r\n")

    def _reply(self, text: bytes) -> None:
        self._tally.replies += 1
        if self._delay_seconds:
            self._loop.call_later(self._delay_seconds, self._transport.write, text)
        else:
            self._transport.write(text)


async def serve(port: int, delay_seconds: float) -> None:
    tally = Tally()
    leaving = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, leaving.set)
    server = await loop.create_server(
        lambda: Session(delay_seconds, tally), "127.0.0.1", port, backlog=256
    )
    await leaving.wait()
    server.close()
    print(json.dumps({"replies": tally.replies, "mails": tally.mails}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
