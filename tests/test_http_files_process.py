"""Files through the web process as an operator runs it: sockets, kills, memory, a real Redis."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis

from tests.conftest import poll_until
from tests.web_process import Start, Web, web_processes

MIB = 1024 * 1024


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with web_processes(tmp_path) as start:
        yield start


def files(folder: Path, kind: str = "uploads") -> list[Path]:
    return list((folder / "storage" / kind).rglob("*"))


def drafts(folder: Path) -> list[Path]:
    return files(folder, ".drafts")


def begin(web: Web, length: int, sent: int) -> socket.socket:
    """A client that has sent so much of its body."""
    client = socket.create_connection(("127.0.0.1", web.port), timeout=15)
    head = f"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    client.sendall(head.encode() + b"x" * sent)
    return client


def test_upload_goes_all_the_way(start: Start, redis_url: str, tmp_path: Path) -> None:
    web = start(redis_url)
    data = os.urandom(3 * MIB)

    made = web.client.post("/v1/uploads", content=data, headers={"Content-Type": "text/csv"})
    shown = web.client.get(made.headers["location"])
    gone = web.client.delete(made.headers["location"])

    assert made.status_code == 201
    assert made.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert shown.json() == made.json()
    assert gone.status_code == 204
    assert files(tmp_path) == drafts(tmp_path) == []
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("rq:recado:upload*") == []


def test_killed_process_leaves_no_object_and_its_draft_is_removed(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    web = start(redis_url)
    with begin(web, 2 * MIB, MIB):
        poll_until(
            lambda: sum(path.stat().st_size for path in drafts(tmp_path)) > 0,
            what="the first bytes are on the disk",
        )
        web.process.kill()
        web.process.wait()

    (draft,) = drafts(tmp_path)
    assert files(tmp_path) == []
    long_ago = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(draft, (long_ago, long_ago))
    start(redis_url)
    poll_until(lambda: drafts(tmp_path) == [], what="the draft is removed")


def test_client_that_hangs_up_leaves_nothing_and_no_traceback(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    web = start(redis_url)
    with begin(web, 2 * MIB, MIB):
        poll_until(lambda: drafts(tmp_path), what="the upload has begun")

    poll_until(lambda: not drafts(tmp_path), what="the draft is gone")
    assert files(tmp_path) == []
    assert web.end() == 0
    troubles = {each["event"] for each in web.events() if each["level"] in {"warning", "error"}}
    assert troubles <= {"no_api_keys", "settings_warning"}


def test_sender_of_too_much_hears_why_although_it_is_still_sending(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    web = start(redis_url, MAX_UPLOAD_BYTES=str(MIB))
    with begin(web, 64 * MIB, 0) as client:
        received = b""
        client.settimeout(0.001)
        for _ in range(64 * 16):
            try:
                client.sendall(b"x" * 65_536)
            except TimeoutError:
                continue
            except OSError:
                break
        client.settimeout(15)
        while chunk := client.recv(65_536):
            received += chunk

    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received.lower()
    assert b"/problems/body-too-large" in received
    assert drafts(tmp_path) == []


def test_expired_upload_is_removed_by_the_process(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    web = start(redis_url)
    upload_id = web.client.post("/v1/uploads", content=b"x").json()["id"]
    web.end()
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("rq:recado:uploads", {upload_id: 1})

        start(redis_url)

        poll_until(lambda: not files(tmp_path), what="the file is removed")
        poll_until(lambda: not client.keys("rq:recado:upload*"), what="its record is removed")


def test_storage_that_cannot_be_used_is_told_at_start(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "in-the-way").write_text("")
    web = start(redis_url, STORAGE_URL=f"file:{tmp_path}/in-the-way/storage")

    poll_until(
        lambda: any(each["event"] == "storage_unavailable" for each in web.events()),
        what="the log says so",
    )
    response = web.client.post("/v1/uploads", content=b"x")
    assert response.status_code == 503
    assert response.json()["type"] == "/problems/storage-unavailable"
    assert web.client.post(
        "/v1/jobs", json={"type": "log.write", "params": {"message": "x"}}
    ).status_code == 202  # fmt: skip


def memory_bytes(pid: int) -> int:
    """The most that the process has ever had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process is gone")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_memory_stays_flat_while_much_is_uploaded(
    start: Start, redis_url: str, request: pytest.FixtureRequest, kind: str
) -> None:
    settings = {}
    if kind == "s3":
        server = request.getfixturevalue("s3_server")
        settings = server.settings(server.new_bucket())
    web = start(redis_url, **settings)
    size = 300 * MIB
    piece = os.urandom(MIB)
    web.client.post("/v1/uploads", content=piece)
    before = memory_bytes(web.process.pid)

    def body() -> Iterator[bytes]:
        for _ in range(size // MIB):
            yield piece

    response = web.client.post("/v1/uploads", content=body(), timeout=120)

    assert (response.status_code, response.json()["size"]) == (201, size)
    assert memory_bytes(web.process.pid) - before < 50 * MIB
