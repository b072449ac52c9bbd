"""A proxy before Valkey that strikes at one exact request: at its client, a child, the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import hiredis

from app.queue import scripts

Moment = Literal["before", "after"]
# A request's number, or a name and which of those requests.
At = int | tuple[str, int]
# What becomes of the connections: nothing passes any more; all break and new ones are served;
# all go on.
Then = Literal["over", "broken", "on"]
_SCRIPTS = {
    name: script.name
    for script in vars(scripts).values()
    if isinstance(script, scripts.Script)
    for name in (script.digest, script.source)
}


class CrashProxy:
    """Passes requests on one by one, and counts them over all its connections.

    At request `at` (from 1) `strike` is called: right before it is passed on, or when the
    server has executed it and before its reply is. With `then` `over` nothing passes from
    then on, so it does not matter how long a process takes to die.
    """

    def __init__(
        self,
        upstream_port: int,
        at: At | None,
        moment: Moment = "before",
        *,
        strike: Callable[[], None] = lambda: None,
        then: Then = "over",
    ) -> None:
        self._upstream_port = upstream_port
        self._at = at
        self._moment = moment
        self._then = then
        self._turn = threading.Lock()
        self._over = False
        self._counts: Counter[str] = Counter()
        self.strike = strike
        self.requests: list[str] = []
        self.request = "never reached"
        self.tripped = threading.Event()
        self._sockets: list[socket.socket] = []
        self._streams: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """End every connection; returns when nothing can reach the server any more."""
        with self._turn:
            self._over = True
            self._break(self._listener, *self._sockets)

    @staticmethod
    def _break(*sockets: socket.socket) -> None:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    @staticmethod
    def _start(run: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream_port))
            except OSError:  # the server is down
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        requests, replies = hiredis.Reader(), hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                requests.feed(data)
                while (request := requests.gets()) is not False:
                    if not self._exchange(request, client, server, replies):
                        return
        self._break(client, server)

    def _exchange(
        self, request: list[bytes], client: socket.socket, server: socket.socket, replies: Any
    ) -> bool:
        """One request there and its reply back. False: this connection is over.

        One at a time over all connections, or another could slip through while the last
        one is being executed.
        """
        with self._turn:
            if self._over:
                return False
            last = self._is_the_one(_name(request))
            if last and self._moment == "before" and not self._strike():
                return False
            server.sendall(_packed(request))
            raw = b"" if server in self._streams else _one_reply(server, replies)
            if last and self._moment == "after" and not self._strike():
                return False
            client.sendall(raw)
            if request[0].upper() == b"SUBSCRIBE" and server not in self._streams:
                self._streams.add(server)
                self._start(self._stream, server, client)
            return True

    def _is_the_one(self, name: str) -> bool:
        self.requests.append(name)
        self._counts[name] += 1
        return self._at in {len(self.requests), (name, self._counts[name])}

    def _strike(self) -> bool:
        """False: the connection on which it happened is not served any more."""
        self._over = self._then == "over"
        if self._then == "broken":
            self._break(*self._sockets)
            self._sockets.clear()
        self.strike()
        self.request = self.requests[-1]
        self.tripped.set()
        return self._then == "on"

    def _stream(self, server: socket.socket, client: socket.socket) -> None:
        """What the server tells a subscriber, unasked."""
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if self._over:
                    return
                client.sendall(data)


def _packed(request: list[bytes]) -> bytes:
    command: tuple[Any, ...] = tuple(request)
    return bytes(hiredis.pack_command(command))


def _one_reply(server: socket.socket, replies: Any) -> bytes:
    raw = b""
    while True:
        data = server.recv(1 << 16)
        if not data:
            raise ConnectionError
        raw += data
        replies.feed(data)
        if replies.gets() is not False:
            while replies.gets() is not False:  # a subscription to several channels
                pass
            return raw


def _name(request: list[bytes]) -> str:
    """`claim` for a script, else the command's first word or two."""
    command = request[0].decode().upper()
    if command in {"EVALSHA", "EVAL"}:
        return _SCRIPTS.get(request[1], "unknown") + ("" if command == "EVALSHA" else " (source)")
    if command == "CLIENT":
        return f"{command} {request[1].decode()}"
    return command
