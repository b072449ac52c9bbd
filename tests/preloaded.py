"""`python -m tests.preloaded MODULE`: forks `python -m MODULE` from a process that has it loaded.

Starting each by itself costs more time of the processor than most tests of it. Each line on
stdin is a JSON order, answered by a number on stdout: the pid of a new process, or how one has
ended.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parent.parent
# No exit status is like it.
RUNNING = 1000
PAUSE_SECONDS = 0.005


class Parent:
    """The process that forks: for each that runs tests one a module, with no other's loaded."""

    _of_module: ClassVar[dict[str, Parent]] = {}

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.preloaded", module],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._turn = threading.Lock()
        atexit.register(self._process.communicate)

    @classmethod
    def of(cls, module: str) -> Parent:
        if module not in cls._of_module:
            cls._of_module[module] = cls(module)
        return cls._of_module[module]

    def ask(self, **order: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


class ForkedProcess:
    """`python -m MODULE` but for its start; what `subprocess.Popen` tells of it.

    All that it writes goes to the end of `log`.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        log: Path,
        folder: Path = ROOT,
    ) -> None:
        log.touch()
        self._module = module
        self._parent = Parent.of(module)
        self.returncode: int | None = None
        self.pid = self._parent.ask(
            arguments=[*arguments], environment=environment, log=str(log), folder=str(folder)
        )

    def poll(self) -> int | None:
        if self.returncode is None:
            status = self._parent.ask(poll=self.pid)
            self.returncode = None if status == RUNNING else status
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._module, timeout or 0.0)
            time.sleep(PAUSE_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        # Waited for, its pid may be another's.
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# What they load besides when they begin.
AND = {"app.worker": ("jobs.email.smtp",)}


def main() -> None:
    name = sys.argv[1]
    module = importlib.import_module(name)
    for each in AND.get(name, ()):
        importlib.import_module(each)
    if "jobs.catalog" in sys.modules:
        sys.modules["jobs.catalog"].load()
    gc.freeze()
    order = _serve()
    if order is not None:
        _become(name, order)
        sys.exit(module.main())


def _serve() -> dict[str, Any] | None:
    """Obey until stdin ends; what is returned then is None, and in a new process its order."""
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else RUNNING, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            return order
        print(pid, flush=True)
    return None


def _become(name: str, order: dict[str, Any]) -> None:
    from app.queue.strays import die_with_parent

    os.setsid()
    die_with_parent()  # tests that are killed leave nothing running
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(nothing)
    os.close(log)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = [name, *order["arguments"]]


if __name__ == "__main__":
    main()
