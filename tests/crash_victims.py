"""`python -m tests.crash_victims`: forks processes to be killed, from one that has it all loaded.

Each line on stdin is a JSON order; the answer on stdout is the pid, leader of a session of
its own. Starting each by itself would cost half a second of imports.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from app import worker
from app.queue.connection import Reachability, connect
from app.queue.records import JobDraft
from app.queue.strays import die_with_parent
from app.queue.submitting import Submitter
from jobs import catalog
from tests.harness import JOB_MODULES, ROOT, draft


class Victims:
    """Processes that are there to be killed, forked from one that has everything loaded."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._turn = threading.Lock()
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_victims"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fork(self, url: str, **order: Any) -> int:
        order["log"] = str(self.log)
        order["environment"] = {
            "REDIS_URL": url,
            "JOB_MODULES": JOB_MODULES,
            "SMTP_URL": "smtp://127.0.0.1:1",
        }
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with self._turn:
            self._parent.stdin.write(json.dumps(order) + "\n")
            self._parent.stdin.flush()
            return int(self._parent.stdout.readline())

    def close(self) -> None:
        self._parent.communicate()


def main() -> None:
    catalog.load([JOB_MODULES])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: a pid that is gone has ended
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)


def _become(order: dict[str, Any]) -> None:
    status = 1
    try:
        os.setsid()
        die_with_parent()  # a test that failed half-way leaves nothing running
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environment"])
        if "submit" in order:
            asyncio.run(_submit(order))
        else:
            worker.main(order["arguments"])
        status = 0
    finally:
        os._exit(status)


async def _submit(order: dict[str, Any]) -> None:
    """As the web process does; the file `returned` says that the client would have its 202."""
    asked = order["submit"]
    made: JobDraft = draft("test.note", **asked["params"])
    made.id, made.queue, made.delay_seconds = asked["id"], asked["queue"], asked["delay_seconds"]
    client = connect(order["environment"]["REDIS_URL"])
    submitter = Submitter(client, Reachability())
    await submitter.submit(made)
    Path(asked["returned"]).touch()
    await submitter.aclose()
    await client.aclose()


if __name__ == "__main__":
    main()
