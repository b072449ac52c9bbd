"""The server over real sockets: patience with clients, ports that are taken, an orderly end."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from app.http.server import CannotListenError, listen
from tests.conftest import poll_until
from tests.memory_server import MemoryServer, memory_server

ROOT = Path(__file__).parent.parent
BODY = b'{"type":"log.write","params":{"message":"hello"}}'
HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[MemoryServer]:
    with memory_server(tmp_path, "headers_seconds=1.0", "max_connections=4") as served:
        with served.connect() as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert read_all(client).startswith(b"HTTP/1.1 200 ")
        yield served


def read_all(client: socket.socket) -> bytes:
    """Until the server closes; fails by time-out when it does not."""
    received = b""
    while chunk := client.recv(65536):
        received += chunk
    return received


def assert_problem(received: bytes, status: int, slug: str) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["type"] == f"/problems/{slug}"
    assert f"x-request-id: {problem['request_id']}".encode() in head


def test_job_is_submitted_over_a_socket(served: MemoryServer) -> None:
    connection = http.client.HTTPConnection("localhost", served.port, timeout=15)
    connection.request("POST", "/v1/jobs", BODY, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()

    assert response.status == 202
    assert response.getheader("x-request-id")
    assert response.getheader("server") is None


def test_who_would_rather_speak_http_2_is_answered_as_everybody(served: MemoryServer) -> None:
    asks = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    head = HEAD + asks + b"Content-Length: %d\r\n\r\n" % len(BODY)
    with served.connect() as client:
        client.sendall(head + BODY + head)
        client.sendall(BODY + HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

        received = read_all(client)

    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"202", b"202", b"400"]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /docs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
        b"\x00\xff\r\n\r\n",
    ],
)
def test_every_answer_says_when_it_was_made(served: MemoryServer, request_: bytes) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with served.connect() as client:
        client.sendall(request_)
        head = read_all(client).partition(b"\r\n\r\n")[0].decode().lower().split("\r\n")

    (date,) = [line.partition(": ")[2] for line in head if line.startswith("date: ")]
    # It is made anew each second.
    assert before - timedelta(seconds=2) <= parsedate_to_datetime(date) <= datetime.now(UTC)


def test_half_sent_head_is_not_waited_for(served: MemoryServer) -> None:
    with served.connect() as silent, served.connect() as halting:
        halting.sendall(HEAD)

        assert read_all(silent) == b""
        assert read_all(halting) == b""


def test_half_sent_head_is_not_waited_for_on_a_kept_connection(served: MemoryServer) -> None:
    with served.connect() as client:
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + HEAD)

        received = read_all(client)

    assert received.startswith(b"HTTP/1.1 202 ")
    assert received.count(b"HTTP/1.1 ") == 1


def test_endless_head_is_cut_off(served: MemoryServer) -> None:
    with served.connect() as client:
        client.sendall(HEAD + b"X-Long: " + b"x" * 65_600)

        assert_problem(read_all(client), 400, "malformed-request")


def test_head_that_begins_behind_a_large_body_is_not_taken_for_a_large_head(
    tmp_path: Path,
) -> None:
    large = BODY.replace(b"hello", b"x" * 9_000)
    first = HEAD + b"Content-Length: %d\r\n\r\n" % len(large) + large
    last = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    with memory_server(tmp_path) as served, served.connect() as client:
        # Stopped, the server finds all of it at once when it goes on.
        served.process.send_signal(signal.SIGSTOP)
        client.sendall(first * 12 + last[:30])
        served.process.send_signal(signal.SIGCONT)
        received = b""
        while received.count(b"HTTP/1.1 202 ") < 12:
            piece = client.recv(65536)
            assert piece, "it has closed the connection"
            received += piece
        client.sendall(last[30:])
        received += read_all(client)

    assert received.count(b"HTTP/1.1 202 ") == received.count(b"HTTP/1.1 ") == 13


@pytest.mark.parametrize(
    "request_", [b"\x00\xff\r\n\r\n", b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_what_is_not_http_is_answered_with_a_problem(served: MemoryServer, request_: bytes) -> None:
    with served.connect() as client:
        client.sendall(request_)

        assert_problem(read_all(client), 400, "malformed-request")


def test_garbage_behind_requests_leaves_no_trace_in_the_log(served: MemoryServer) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served.connect() as client, served.connect() as leaving:
        client.sendall(one * 20 + b"\x00garbage\r\n\r\n")
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.sendall(one * 500)
        leaving.close()  # with a reset
        assert_problem(read_all(client), 400, "malformed-request")
    served.process.send_signal(signal.SIGTERM)

    assert (served.process.wait(timeout=15), served.errors()) == (
        0,
        "Invalid HTTP request received.\n",
    )


def test_one_connection_too_many_is_told_when_to_come_back(served: MemoryServer) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(served.connect())
            client.sendall(ask)
            assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
        client = stack.enter_context(served.connect())
        client.sendall(ask)
        received = read_all(client)

    assert_problem(received, 503, "overloaded")
    assert b"retry-after: 2\r\n" in received


def test_client_that_leaves_half_way_leaves_no_trace(served: MemoryServer) -> None:
    with served.connect() as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + BODY)
    served.process.send_signal(signal.SIGTERM)

    assert (served.process.wait(timeout=15), served.errors()) == (0, "")


def test_request_under_way_is_answered_before_the_end(served: MemoryServer) -> None:
    with served.connect() as client, served.connect() as idle:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert client.recv(1024).startswith(b"HTTP/1.1 100 ")
        served.process.send_signal(signal.SIGTERM)
        poll_until(lambda: idle.recv(1) == b"", what="idle connections are closed")
        client.sendall(BODY)

        assert read_all(client).startswith(b"HTTP/1.1 202 ")
    assert served.process.wait(timeout=15) == 0


def test_request_that_outlasts_the_grace_is_told_to_come_again(tmp_path: Path) -> None:
    with memory_server(tmp_path, "grace_seconds=1") as served, served.connect() as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 100000\r\n\r\n")
        assert client.recv(1024).startswith(b"HTTP/1.1 100 ")
        served.process.send_signal(signal.SIGTERM)
        received = read_all(client)
        exit_status = served.process.wait(timeout=15)

    assert_problem(received, 503, "shutting-down")
    assert b"retry-after: 5\r\n" in received
    assert (exit_status, "Traceback" in served.errors()) == (0, False)


def test_taken_port_is_told_in_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(CannotListenError, match=rf"Port {port} .* is in use .* set PORT"):
            listen("127.0.0.1", port)


def test_foreign_address_is_told_in_one_sentence() -> None:
    with pytest.raises(CannotListenError, match=r"Cannot listen on 192\.0\.2\.1:80"):
        listen("192.0.2.1", 80)


def test_every_descriptor_that_may_be_had_is_asked_for() -> None:
    program = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, 512));"
        "from app.http.server import connections_allowed as allowed;"
        "print(allowed(), *r.getrlimit(r.RLIMIT_NOFILE))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout.split() == ["388", "512", "512"]
