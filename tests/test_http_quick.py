"""A request in one piece is answered without a coroutine: nobody may see a difference."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.memory_server import MemoryServer, memory_server

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


Serving = Callable[..., AbstractContextManager[MemoryServer]]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """What starts a server for a block."""
    return partial(memory_server, tmp_path, "keys=yes", "max_body_bytes=300000")


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
def test_request_in_one_piece_is_answered_as_one_in_two(serving: Serving, trouble: str) -> None:
    settings = [trouble] if trouble else []
    with serving(*settings) as first, serving(*settings) as second:
        for name, parts in REQUESTS.items():
            head, body = request(*parts)
            with first.connect() as client:
                client.sendall(head + body)
                at_once = told(answer(client))
            with second.connect() as client:
                # A server that has seen the head alone asks for the rest.
                client.sendall(head[:-2] + b"Expect: 100-continue\r\n\r\n")
                started = client.recv(65536, socket.MSG_PEEK)
                if started.startswith(b"HTTP/1.1 100 "):
                    client.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"))
                    client.sendall(body)
                in_two = told(answer(client))

            assert at_once == in_two, name


def submitted(served: MemoryServer) -> int:
    listing = (
        b"GET /v1/jobs?limit=200 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer rr\r\n\r\n"
    )
    with served.connect() as client:
        client.sendall(listing)
        return len(json.loads(answer(client)[2])["data"])


def test_request_that_is_refused_for_what_comes_behind_it_is_no_job(serving: Serving) -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with serving() as served:
        with served.connect() as client:
            client.sendall(whole + b"\x00garbage\r\n\r\n")

            assert answer(client)[0] == 400
            assert client.recv(1) == b""
        assert submitted(served) == 0


def test_job_is_answered_though_what_is_told_with_it_cannot_be_had(serving: Serving) -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with (
        serving("known_warnings=cannot be asked") as served,
        served.connect() as client,
    ):
        client.sendall(whole)

        assert answer(client)[0] == 500


def test_who_has_sent_the_body_is_not_asked_for_it(serving: Serving) -> None:
    head, body = request("/v1/jobs", NOTE, SUBMIT | {"Expect": "100-continue", "Prefer": "wait=1"})
    with (
        serving() as served,
        served.connect() as client,
    ):
        client.sendall(head + body)

        assert client.recv(16, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 202 Acc"
        assert answer(client)[0] == 202


def accepted(received: BinaryIO) -> bytes:
    assert received.readline().startswith(b"HTTP/1.1 202 ")
    return received.read(int(http.client.parse_headers(received)["content-length"]))


def test_requests_behind_each_other_are_all_answered_in_order(serving: Serving) -> None:
    ids = [f"number-{number}" for number in range(60)]
    whole = b"".join(
        part for each in ids for part in request("/v1/jobs", NOTE, SUBMIT | {"X-Request-Id": each})
    )
    with serving() as served:
        with served.connect() as client:
            client.sendall(whole)
            with client.makefile("rb") as received:
                bodies = [accepted(received) for _ in ids]
        assert submitted(served) == len(ids)

    assert [json.loads(body)["request_id"] for body in bodies] == ids


def test_thousands_of_requests_behind_each_other_are_not_taken_in(serving: Serving) -> None:
    whole = b"".join(request("/v1/jobs", NOTE, SUBMIT))
    with serving() as served:
        with served.connect() as client:
            received = b""
            with contextlib.suppress(ConnectionError):
                client.sendall(whole * 2000)
                while more := client.recv(65536):
                    received += more

        assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 202 ") < 2000
        assert submitted(served) < 200
