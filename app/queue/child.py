"""A `def` job in a process of its own: forked from a preloaded parent, and dying with it.

worker --socket--> nursery (jobs preloaded, one thread) --fork--> child, one a job --> programs

The nursery never runs a job, so forking it is cheap and safe; the worker has threads and
must not fork. Each child talks to the worker over a socket of its own; its exit is told by
the nursery, which alone may wait for it. The nursery outlives a worker that is killed by
the moment that it takes to end its children and whatever programs they have started.
"""

from __future__ import annotations

import contextlib
import json
import math
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
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from app import logs
from app.queue import strays
from app.queue.perform import check_result, describe_error, validate
from jobs import catalog
from jobs.context import JobContext
from jobs.errors import PermanentError, RetryLater
from jobs.files import LocalFile

LENGTH = struct.Struct("!I")
TOKEN = struct.Struct("!cQ")
FORK, KILL = b"F", b"K"
HELD_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PROGRESS_SECONDS = 0.25
# The worker ends a child in time; should the worker be frozen, the child's own limits do.
OVERTIME_SECONDS = 5
# For all that the jobs have started to end, once the worker has gone.
CLEAR_SECONDS = 5.0


def main() -> NoReturn:
    """The nursery: `python -m app.queue.child FD` with its options as the first frame."""
    # The worker decides when to end. It starts us with both blocked, as a signal to all of a
    # container's processes may come before this line.
    for each in HELD_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    control = socket.socket(fileno=int(sys.argv[1]))
    strays.die_with_parent()  # until there is something to tidy up
    options = read_frame(control)
    if options is None:
        raise SystemExit(0)
    logs.configure(options["log_style"], options["log_level"])
    _preload(catalog.load(options["job_modules"]), options["queues"])
    strays.adopt_orphans()
    strays.outlive_parent()
    Nursery(control, options).run()
    raise SystemExit(0)


def _preload(job_types: catalog.Catalog, queues: list[str]) -> None:
    for job_type in job_types:
        if job_type.queue in queues and not job_type.is_async:
            job_type.load()


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
                        strays.end_all(CLEAR_SECONDS)
                        return

    def _obey(self) -> bool:
        """Carry out one order. False: the worker has gone."""
        message, fds, _, _ = socket.recv_fds(self._control, TOKEN.size, 1)
        if len(message) < TOKEN.size:
            return False
        order, token = TOKEN.unpack(message)
        if order == KILL:
            if token in self._pids:
                strays.end_group(self._pids[token])
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
                status = _child(fd, nursery, token, self._options)
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
                break
            for token, known in list(self._pids.items()):
                if known == pid:
                    del self._pids[token]
                    # What the job itself started ends with it.
                    strays.end_group(pid)
                    code = os.waitstatus_to_exitcode(status)
                    self._control.sendall(TOKEN.pack(FORK, token) + struct.pack("!i", code))
        self._end_strays()

    def _end_strays(self) -> None:
        """What left its job's group and lost its parent; jobs that run keep what is theirs."""
        running = set(self._pids.values())
        for pid in strays.children_of_this():
            if pid in running:
                continue
            mark = strays.mark_of(pid, strays.RUN)
            # Without a mark (forked only) it may be of any job that runs.
            if not running or (mark is not None and int(mark) not in self._pids):
                strays.end(pid)


def _child(fd: int, nursery: int, token: int, options: dict[str, Any]) -> int:
    os.setpgid(0, 0)
    strays.die_with_parent()
    if os.getppid() != nursery:
        return 1
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A platform stops every process of a container at once; the worker decides what ends
    # when. Handlers and not SIG_IGN, which what the job itself starts would inherit.
    for each in HELD_SIGNALS:
        signal.signal(each, lambda _signal, _frame: None)
    random.seed()
    strays.mark_run(token)
    worker = socket.socket(fileno=fd)
    order = read_frame(worker)
    if order is None:
        return 0
    _limit(int(options["memory_bytes"]), order["context"]["timeout_seconds"])
    write_frame(worker, {"kind": "began"})
    write_frame(worker, _perform(order, worker, options))
    return 0


def _limit(memory_bytes: int, timeout_seconds: float) -> None:
    """Memory, and time: as much of every core as it could use until its time-out.

    SIGXCPU and SIGALRM end it when they are not handled, the kernel soon after in any case.
    """
    cpu_seconds = cpu_limit_seconds(timeout_seconds)
    limits = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + OVERTIME_SECONDS),
    }
    for which, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, limit)
    signal.setitimer(signal.ITIMER_REAL, timeout_seconds + OVERTIME_SECONDS)


def cpu_limit_seconds(timeout_seconds: float) -> int:
    """Whole seconds of CPU: what all cores give within the time-out."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return math.ceil(timeout_seconds * cores) + 1


def _perform(order: dict[str, Any], worker: socket.socket, options: dict[str, Any]) -> Any:
    """Run the job and say what happened, as a frame."""
    job_type = None
    try:
        job_type = catalog.CATALOG.get(order["type"], internal=True)
        params = validate(job_type, order["params"], options["defaults"])
        progress = _Progress(worker)
        context = JobContext(
            **order["context"],
            max_artifact_bytes=int(options["artifact_bytes"]),
            report_progress=progress,
            fetch_file=partial(_fetch, worker),
        )
        try:
            result = job_type.function(params, context)
        finally:
            progress.flush()
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


def _fetch(worker: socket.socket, upload_id: str | None, job_id: str | None) -> LocalFile:
    """Ask the worker, which has the storage, for a file."""
    write_frame(worker, {"kind": "file", "upload_id": upload_id, "job_id": job_id})
    reply = read_frame(worker)
    if reply is None:
        raise RetryLater("the worker has gone")
    if "path" not in reply:
        kind = PermanentError if reply["permanent"] else RetryLater
        raise kind(reply["message"], code=reply["code"])
    return LocalFile(Path(reply["path"]), reply["filename"], reply["content_type"])


@dataclass
class _Progress:
    """Tells the worker how far the job is, a few times a second at most."""

    worker: socket.socket
    told_at: float = 0.0
    untold: dict[str, Any] | None = None

    def __call__(self, current: float, total: float | None, unit: str, message: str) -> None:
        self.untold = {
            "kind": "progress", "current": current, "total": total, "unit": unit[:40],
            "message": message[:200],
        }  # fmt: skip
        if time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.flush()

    def flush(self) -> None:
        """The last word, which nothing overtakes."""
        if self.untold is not None:
            untold, self.untold = self.untold, None
            self.told_at = time.monotonic()
            # Numbers that JSON has not are left out, and no reason to fail.
            with contextlib.suppress(ValueError, TypeError):
                write_frame(self.worker, untold)


if __name__ == "__main__":
    main()
