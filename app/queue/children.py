"""The worker's side of child processes: start one a job, hear it out, end it in time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from app.logs import event
from app.queue import strays
from app.queue.child import FORK, HELD_SIGNALS, KILL, LENGTH, TOKEN, write_frame
from app.queue.oom import KernelKills, kill_counter
from app.queue.perform import RESULT_BYTES

log = logging.getLogger("recado.worker")

_EXIT = struct.Struct(TOKEN.format + "i")
_FRAME_BYTES = 2 * RESULT_BYTES
# What a SIGKILL from outside looks like.
KILLED = -9
LEAVE_SECONDS = 1.0
CLOSE_SECONDS = 2.0
ORPHANS_SECONDS = 2.0


class ChildKilledError(Exception):
    """The child was killed from outside: its job was interrupted, and is not at fault."""


class ChildOutOfMemoryError(Exception):
    """The kernel has killed the child, as memory had run out."""


class ChildDiedError(Exception):
    """The child ended without an outcome by its own doing: a crash, or `os._exit`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(_how_it_ended(exit_code))
        self.exit_code = exit_code


class Children:
    """Child processes of one worker. `options` is what child.py wants as its first frame."""

    def __init__(
        self,
        options: Mapping[str, Any],
        environment: Mapping[str, str],
        kernel_kills: KernelKills | None = None,
    ) -> None:
        self._kernel_kills = kernel_kills or KernelKills(kill_counter())
        self._options = dict(options)
        self._environment = dict(environment)
        self._tokens = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._unread = b""
        self._mark = ""

    def start(self) -> None:
        """Start the nursery, so that the first job need not wait for it."""
        ours, theirs = socket.socketpair()
        self._mark = os.urandom(8).hex()  # another nursery's programs are not this one's
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS)  # see child.main
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "app.queue.child", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=self._environment
                    | {"PYTHONPATH": os.pathsep.join(sys.path), strays.NURSERY: self._mark},
                    # Who kills the worker's whole group leaves it to tidy up.
                    start_new_session=True,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        write_frame(ours, self._options)
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._hear_exits)

    async def run(
        self,
        order: dict[str, Any],
        on_began: Callable[[], None],
        on_progress: Callable[[dict[str, Any]], None],
        lend: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any]:
        """Run one job to its end and return its outcome's frame (`result` or `error`).

        `on_began` is called when the child has the job in hand, `lend` answers its requests
        for files.

        Raises ChildKilledError, ChildOutOfMemoryError or ChildDiedError when the child ended
        without one.
        Cancelled: the child is killed, and has ended when the cancellation goes on.
        """
        token = next(self._tokens)
        ours = self._fork(token)
        ended = self._exits[token]
        try:
            outcome = await _hear_out(ours, order, on_began, on_progress, lend)
            if outcome is not None:
                # It ends by itself now; what it printed last must not be cut off.
                await asyncio.wait({ended}, timeout=LEAVE_SECONDS)
                return outcome
            exit_code = await ended
        finally:
            self._kill(token)
            await asyncio.shield(_settled(ended))
            self._exits.pop(token, None)
            ours.close()
        if exit_code == KILLED:
            raise ChildOutOfMemoryError if self._kernel_kills.explain_one() else ChildKilledError
        raise ChildDiedError(exit_code)

    def close(self) -> None:
        """End the nursery, and with it every child."""
        self._forget_nursery(died=False)
        if self._process is not None:
            # It sees that we have gone, and ends what its children have left.
            try:
                self._process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _fork(self, token: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            for attempt in (1, 2):
                if self._control is None:
                    self.start()
                assert self._control is not None
                try:
                    socket.send_fds(self._control, [TOKEN.pack(FORK, token)], [theirs.fileno()])
                    break
                except OSError:
                    self._forget_nursery()
                    if attempt == 2:
                        raise
        if not self._exits:
            self._kernel_kills.begin()
        self._exits[token] = asyncio.get_running_loop().create_future()
        return ours

    def _kill(self, token: int) -> None:
        ended = self._exits.get(token)
        if ended is not None and not ended.done() and self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(TOKEN.pack(KILL, token))

    def _hear_exits(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._forget_nursery()
            return
        self._unread += data
        while len(self._unread) >= _EXIT.size:
            _, token, code = _EXIT.unpack_from(self._unread)
            self._unread = self._unread[_EXIT.size :]
            ended = self._exits.get(token)
            if ended is not None and not ended.done():
                ended.set_result(code)

    def _forget_nursery(self, *, died: bool = True) -> None:
        """Its children go with it, by PDEATHSIG; their programs, when it died, fall to us."""
        if self._control is None:
            return
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        self._control = None
        self._unread = b""
        if died and self._process is not None:
            self._process.kill()
            event(log, "nursery_died", logging.WARNING, status=self._process.wait())
            asyncio.get_running_loop().run_in_executor(
                None, strays.end_family, self._process.pid, self._mark, ORPHANS_SECONDS
            )
        for ended in self._exits.values():
            if not ended.done():
                ended.set_result(KILLED)


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit status {exit_code} without an outcome"
    number = -exit_code
    if number == signal.SIGXCPU:
        return "CPU limit"
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return f"signal {number}"


async def _hear_out(
    ours: socket.socket,
    order: dict[str, Any],
    on_began: Callable[[], None],
    on_progress: Callable[[dict[str, Any]], None],
    lend: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
) -> dict[str, Any] | None:
    """Give the order and read frames up to the outcome; None when there is none."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(ours, _frame(order))
        while True:
            head = await _exactly(loop, ours, LENGTH.size)
            if head is None:
                return None
            (size,) = LENGTH.unpack(head)
            if size > _FRAME_BYTES:
                return None
            body = await _exactly(loop, ours, size)
            if body is None:
                return None
            frame: dict[str, Any] = json.loads(body)
            match frame["kind"]:
                case "began":
                    on_began()
                case "progress":
                    on_progress(frame)
                case "file":
                    await loop.sock_sendall(ours, _frame(await lend(frame)))
                case _:
                    return frame
    except (OSError, ValueError):
        return None


def _frame(value: dict[str, Any]) -> bytes:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return LENGTH.pack(len(data)) + data


async def _exactly(
    loop: asyncio.AbstractEventLoop, source: socket.socket, count: int
) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = await loop.sock_recv(source, min(count - len(data), 1 << 18))
        if not piece:
            return None
        data += piece
    return bytes(data)


async def _settled(ended: asyncio.Future[int]) -> None:
    await asyncio.wait({ended})
