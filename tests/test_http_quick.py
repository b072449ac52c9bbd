"""A request in one piece is answered without a coroutine: nobody may see a difference."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

ROOT = Path(__file__).parent.parent
SERVER = """
import sys
from app.http import server
from tests.http_doubles import MemoryQueue, app_over, key, settings_with
keys = [key("s", "submit"), key("r", "read")]
queue = MemoryQueue()
for setting in sys.argv[1:]:
    name, _, value = setting.partition("=")
    setattr(queue, name, [value] if name == "capacity_warnings" else value)
sock = server.listen("127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
settings = settings_with(keys, max_body_bytes=300_000)
server.serve(app_over(queue, settings), sock)
"""
MAIL: dict[str, Any] = {"to": "a@example.com", "subject": "s", "text": "t"}
NOTE: dict[str, Any] = {"type": "log.write", "params": {"message": "hello"}}
# What differs from one request to the next.
OWN = re.compile(r"[0-9a-f]{35}|[0-9a-f]{24}|\d{4}-\d\d-\d\dT[\d:.]+Z")
SUBMIT = {"Authorization": "Bearer ss"}
REQUESTS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "job": ("/v1/jobs", NOTE, SUBMIT),
    "e-mail": ("/v1/emails", MAIL, SUBMIT),
    "own request id": ("/v1/jobs", NOTE, SUBMIT | {"X-Request-Id": "mine"}),
    "insane request id": ("/v1/jobs", NOTE, SUBMIT | {"X-Request-Id": "a b"}),
    "to be closed": ("/v1/jobs", NOTE, SUBMIT | {"Connection": "close"}),
    "options": ("/v1/jobs", NOTE | {"options": {"delay": 60, "tags": {"a": "b"}}}, SUBMIT),
    "expires": ("/v1/jobs", NOTE | {"options": {"expires_at": "2100-01-01T00:00:00Z"}}, SUBMIT),
    "expired": ("/v1/jobs", NOTE | {"options": {"expires_at": "2020-01-01T00:00:00Z"}}, SUBMIT),
    "no such parent": ("/v1/jobs", NOTE | {"options": {"depends_on": ["0" * 35]}}, SUBMIT),
    "idempotency key": ("/v1/jobs", NOTE, SUBMIT | {"Idempotency-Key": "k"}),
    "faulty idempotency key": ("/v1/jobs", NOTE, SUBMIT | {"Idempotency-Key": '"'}),
    "would wait": ("/v1/jobs", NOTE, SUBMIT | {"Prefer": "wait=0"}),
    "no key": ("/v1/jobs", NOTE, {}),
    "unknown key": ("/v1/jobs", NOTE, {"Authorization": "Bearer x"}),
    "scope missing": ("/v1/jobs", NOTE, {"Authorization": "Bearer rr"}),
    "faults": ("/v1/emails", {"to": "nobody", "more": 1}, SUBMIT),
    "no such type": ("/v1/jobs", NOTE | {"type": "nothing"}, SUBMIT),
    "no object": ("/v1/emails", [MAIL], SUBMIT),
    "no JSON": ("/v1/jobs", b'{"type"', SUBMIT),
    "empty": ("/v1/jobs", b"", SUBMIT),
    "other media type": ("/v1/jobs", NOTE, SUBMIT | {"Content-Type": "text/plain"}),
    "compressed": ("/v1/jobs", NOTE, SUBMIT | {"Content-Encoding": "gzip"}),
    "parameter": ("/v1/jobs?x=1", NOTE, SUBMIT),
    "too large": ("/v1/jobs", b" " * 300_001, SUBMIT),
    "no such path": ("/v1/nothing", NOTE, SUBMIT),
    "no such method": ("/v1/job-types", NOTE, SUBMIT),
}
TROUBLE = ("", "full=queue log is full", "unavailable=gone", "capacity_warnings=slow today")


@contextmanager
def serving(*settings: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *filter(None, settings)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def request(path: str, content: Any, headers: dict[str, str]) -> tuple[bytes, bytes]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    sent = {"Host": "localhost", "Content-Type": "application/json"} | headers
    sent["Content-Length"] = str(len(body))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode(), body


def answer(client: socket.socket) -> tuple[int, list[tuple[str, str]], bytes]:
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.getheaders(), response.read()


def told(answered: tuple[int, list[tuple[str, str]], bytes]) -> str:
    """An answer without what is the request's own."""
    status, headers, body = answered
    kept = [pair for pair in headers if pair[0] not in {"content-length", "date"}]
    return OWN.sub("…", f"{status} {kept} {body.decode()}")


@pytest.mark.parametrize("trouble", TROUBLE)
def test_request_in_one_piece_is_answered_as_one_in_two(trouble: str) -> None:
    with serving(trouble) as first, serving(trouble) as second:
        for name, parts in REQUESTS.items():
            head, body = request(*parts)
            with socket.create_connection(("127.0.0.1", first), timeout=15) as client:
                client.sendall(head + body)
                at_once = told(answer(client))
            with socket.create_connection(("127.0.0.1", second), timeout=15) as client:
                # A server that has seen the head alone asks for the rest.
                client.sendall(head[:-2] + b"Expect: 100-continue\r\n\r\n")
                started = client.recv(65536, socket.MSG_PEEK)
                if started.startswith(b"HTTP/1.1 100 "):
                    client.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"))
                    client.sendall(body)
                in_two = told(answer(client))

            assert at_once == in_two, name


def submitted(port: int) -> int:
    listing = (
        b"GET /v1/jobs?limit=200 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer rr\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
        client.sendall(listing)
        return len(json.loads(answer(client)[2])["data"])


def test_request_that_is_refused_for_what_comes_behind_it_is_no_job() -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with serving() as port:
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            client.sendall(whole + b"\x00garbage\r\n\r\n")

            assert answer(client)[0] == 400
            assert client.recv(1) == b""
        assert submitted(port) == 0


def test_job_is_answered_though_what_is_told_with_it_cannot_be_had() -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with (
        serving("known_warnings=cannot be asked") as port,
        socket.create_connection(("127.0.0.1", port), timeout=15) as client,
    ):
        client.sendall(whole)

        assert answer(client)[0] == 500


def test_who_has_sent_the_body_is_not_asked_for_it() -> None:
    head, body = request("/v1/jobs", NOTE, SUBMIT | {"Expect": "100-continue", "Prefer": "wait=1"})
    with (
        serving() as port,
        socket.create_connection(("127.0.0.1", port), timeout=15) as client,
    ):
        client.sendall(head + body)

        assert client.recv(16, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 202 Acc"
        assert answer(client)[0] == 202


def accepted(received: BinaryIO) -> bytes:
    assert received.readline().startswith(b"HTTP/1.1 202 ")
    return received.read(int(http.client.parse_headers(received)["content-length"]))


def test_requests_behind_each_other_are_all_answered_in_order() -> None:
    ids = [f"number-{number}" for number in range(60)]
    whole = b"".join(
        part for each in ids for part in request("/v1/jobs", NOTE, SUBMIT | {"X-Request-Id": each})
    )
    with serving() as port:
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            client.sendall(whole)
            with client.makefile("rb") as received:
                bodies = [accepted(received) for _ in ids]
        assert submitted(port) == len(ids)

    assert [json.loads(body)["request_id"] for body in bodies] == ids


def test_thousands_of_requests_behind_each_other_are_not_taken_in() -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with serving() as port:
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            received = b""
            with contextlib.suppress(ConnectionError):
                client.sendall(whole * 2000)
                while more := client.recv(65536):
                    received += more

        assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 202 ") < 2000
        assert submitted(port) < 200
