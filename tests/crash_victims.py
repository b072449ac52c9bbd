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
from dataclasses import replace
from pathlib import Path
from typing import Any

from app import worker
from app.queue.connection import Reachability, connect
from app.queue.control import Control
from app.queue.records.drafts import Idempotency, JobDraft
from app.queue.records.options import Concurrency
from app.queue.strays import die_with_parent
from app.queue.submitting import Submitter
from jobs import catalog
from tests.harness import JOB_MODULES, ROOT, draft

# In the place of a nursery that no job needs, and which costs more than all else of a short
# life: it ends when its worker does, and minds no signal before.
IDLE_NURSERY = f"""#!{sys.executable} -IS
import os, sys
while os.read(int(sys.argv[3]), 65536):
    pass
"""


class Victims:
    """Processes that are there to be killed, forked from one that has everything loaded."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._idle_nursery = log.with_name("idle-nursery")
        self._idle_nursery.write_text(IDLE_NURSERY)
        self._idle_nursery.chmod(0o755)
        self._turn = threading.Lock()
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_victims"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fork(self, url: str, *, has_nursery: bool = True, **order: Any) -> int:
        order["log"] = str(self.log)
        order["python"] = sys.executable if has_nursery else str(self._idle_nursery)
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
        sys.executable = order["python"]  # with which a worker starts its nursery
        if "ask" in order:
            asyncio.run(_ask(order))
        else:
            worker.main(order["arguments"])
        status = 0
    finally:
        os._exit(status)


async def _ask(order: dict[str, Any]) -> None:
    """As the web process does; the file `returned` says that the client would have its answer."""
    asked = order["ask"]
    client = connect(order["environment"]["REDIS_URL"])
    submitter, control = Submitter(client, Reachability()), Control(client, Reachability())
    drafts = [_draft(each) for each in asked["drafts"]]
    key = Idempotency(asked["key"], "the same request") if asked["key"] else None
    if asked["act"] == "submit":
        await submitter.submit(drafts[0], key)
    elif asked["act"] == "submit_batch":
        await submitter.submit_batch(asked["batch_id"], drafts, key)
    elif asked["act"] == "cancel":
        await control.cancel(drafts[0].id, "ops")
    else:
        await control.retry(drafts[0].id, "ops")
    Path(asked["returned"]).touch()
    await submitter.aclose()
    await control.aclose()
    await client.aclose()


def _draft(fields: dict[str, Any]) -> JobDraft:
    slot = fields.pop("slot")
    made = replace(draft("test.note", **fields.pop("params")), **fields)
    made.concurrency = Concurrency(slot, 1) if slot else None
    return made


if __name__ == "__main__":
    main()
