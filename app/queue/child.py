"""A `def` job in a process of its own: forked from a preloaded parent, and dying with it.

worker --socket--> nursery (jobs preloaded, one thread) --fork--> child, one a job

The nursery never runs a job, so forking it is cheap and safe; the worker has threads and
must not fork. Each child talks to the worker over a socket of its own; its exit is told by
the nursery, which alone may wait for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from app import logs
from app.queue.perform import check_result, describe_error, validate
from jobs import catalog
from jobs.context import JobContext

PR_SET_PDEATHSIG = 1
LENGTH = struct.Struct("!I")
TOKEN = struct.Struct("!cQ")
FORK, KILL = b"F", b"K"
HELD_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PROGRESS_SECONDS = 0.25


def main() -> NoReturn:
    """The nursery: `python -m app.queue.child FD` with its options as the first frame."""
    # The worker decides when to end. It starts us with both blocked, as a signal to all of a
    # container's processes may come before this line.
    for each in HELD_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent()
    options = read_frame(control)
    if options is None:
        raise SystemExit(0)
    logs.configure(options["log_style"], options["log_level"])
    catalog.load(options["job_modules"])
    Nursery(control, options).run()
    raise SystemExit(0)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends. Linux; elsewhere the socket's end tells."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended just before
        os._exit(1)


def write_frame(target: socket.socket, value: Any) -> None:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    target.sendall(LENGTH.pack(len(data)) + data)


def read_frame(source: socket.socket) -> Any:
    """The next frame, or None at the end of the stream."""
    head = _read_exactly(source, LENGTH.size)
    if head is None:
        return None
    body = _read_exactly(source, LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def _read_exactly(source: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = source.recv(min(count - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    return bytes(data)


class Nursery:
    """Forks on request, kills on request, and tells how each child ended."""

    def __init__(self, control: socket.socket, options: dict[str, Any]) -> None:
        self._control = control
        self._options = options
        self._pids: dict[int, int] = {}  # token -> pid

    def run(self) -> None:
        wake_reader, wake_writer = socket.socketpair()
        wake_reader.setblocking(False)
        wake_writer.setblocking(False)
        signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(wake_reader, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is wake_reader:
                        with contextlib.suppress(BlockingIOError):
                            wake_reader.recv(4096)
                        self._reap()
                    elif not self._obey():
                        self._kill_all()
                        return

    def _obey(self) -> bool:
        """Carry out one order. False: the worker has gone."""
        message, fds, _, _ = socket.recv_fds(self._control, TOKEN.size, 1)
        if len(message) < TOKEN.size:
            return False
        order, token = TOKEN.unpack(message)
        if order == KILL:
            self._kill(self._pids.get(token))
        elif fds:
            self._fork(token, fds[0])
        return True

    def _fork(self, token: int, fd: int) -> None:
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._control.close()
                status = _child(fd, nursery, self._options)
                sys.stdout.flush()  # what the job printed; _exit flushes nothing
            finally:
                os._exit(status)
        os.close(fd)
        self._pids[token] = pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for token, known in list(self._pids.items()):
                if known == pid:
                    del self._pids[token]
                    # What the job itself started ends with it.
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)
                    code = os.waitstatus_to_exitcode(status)
                    self._control.sendall(TOKEN.pack(FORK, token) + struct.pack("!i", code))

    @staticmethod
    def _kill(pid: int | None) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for pid in self._pids.values():
            self._kill(pid)


def _child(fd: int, nursery: int, options: dict[str, Any]) -> int:
    os.setpgid(0, 0)
    die_with_parent()
    if os.getppid() != nursery:
        return 1
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A platform stops every process of a container at once; the worker decides what ends
    # when. Handlers and not SIG_IGN, which what the job itself starts would inherit.
    for each in HELD_SIGNALS:
        signal.signal(each, lambda _signal, _frame: None)
    random.seed()
    limit = int(options["memory_bytes"])
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker = socket.socket(fileno=fd)
    order = read_frame(worker)
    if order is None:
        return 0
    write_frame(worker, _perform(order, worker, options))
    return 0


def _perform(order: dict[str, Any], worker: socket.socket, options: dict[str, Any]) -> Any:
    """Run the job and say what happened, as a frame."""
    job_type = None
    try:
        job_type = catalog.CATALOG.get(order["type"])
        params = validate(job_type, order["params"], options["defaults"])
        context = JobContext(**order["context"], report_progress=_Progress(worker))
        result = job_type.function(params, context)
        return {
            "kind": "result",
            "value": check_result(result),
            "artifacts": [[each.name, each.content_type] for each in context.artifacts],
        }
    except MemoryError:
        limit = int(options["memory_bytes"]) // (1024 * 1024)
        return {
            "kind": "error",
            "code": "killed_memory",
            "message": f"killed: memory limit {limit} MB",
            "class": "MemoryError",
            "permanent": False,
        }
    except BaseException as error:  # noqa: BLE001
        # Whatever a job raises is its outcome, a library's sys.exit among it.
        return describe_error(error, job_type)


@dataclass
class _Progress:
    """Tells the worker how far the job is, a few times a second at most."""

    worker: socket.socket
    told_at: float = 0.0

    def __call__(self, current: float, total: float | None, unit: str, message: str) -> None:
        now = time.monotonic()
        if now - self.told_at >= PROGRESS_SECONDS or current == total:
            self.told_at = now
            write_frame(
                self.worker,
                {"kind": "progress", "current": current, "total": total, "unit": unit[:40],
                 "message": message[:200]},
            )  # fmt: skip


if __name__ == "__main__":
    main()
