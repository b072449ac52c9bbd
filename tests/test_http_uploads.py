"""Uploads as clients see them: what is taken, what is refused, and that nothing stays by halves."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import Message

from app.http import bodies
from app.storage import Storage
from app.storage.folder import FolderStorage
from tests.file_doubles import MemoryUploads, files_end_at
from tests.http_doubles import MemoryQueue, app_over, bearer, connect, key, settings_with

LIMIT = 300_000
KEYS = [key("a", "submit"), key("b", "submit"), key("r", "read"), key("o", "operate")]
CSV = {"Content-Type": "text/csv"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def records() -> MemoryUploads:
    return MemoryUploads()


@pytest.fixture
async def storage(folder: Path) -> AsyncIterator[Storage]:
    opened = FolderStorage(folder)
    yield opened
    await opened.aclose()


@pytest.fixture
def app(storage: Storage, records: MemoryUploads) -> Any:
    settings = settings_with(KEYS, max_upload_bytes=LIMIT, upload_retention_seconds=3600)
    return app_over(MemoryQueue(), settings, storage=storage, uploads=records)


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with connect(app, headers=bearer("a")) as client:
        yield client


def files(folder: Path) -> list[bytes]:
    """What is stored, drafts among it."""
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def form(*parts: bytes, boundary: bytes = b"xyz") -> dict[str, Any]:
    """A multipart body from its parts, each headers, an empty line and content."""
    body = (
        b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts) + b"--%b--\r\n" % boundary
    )
    return {
        "content": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


FILE = b'Content-Disposition: form-data; name="file"; filename="rows.csv"\r\n'


async def test_raw_body_is_stored(client: httpx2.AsyncClient, folder: Path) -> None:
    data = os.urandom(LIMIT)
    headers = CSV | {"Content-Disposition": 'attachment; filename="rows.csv"'}

    response = await client.post("/v1/uploads", content=data, headers=headers)

    upload = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/uploads/{upload['id']}"
    expires_at = datetime.fromisoformat(upload.pop("expires_at"))
    assert abs(expires_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
    assert upload == {
        "id": upload["id"],
        "size": LIMIT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_type": "text/csv",
        "filename": "rows.csv",
    }
    assert 20 <= len(upload["id"]) <= 40
    assert files(folder) == [data]


async def test_upload_is_shown_again(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/uploads", content=b"a,b\n", headers=CSV)

    shown = await client.get(made.headers["location"])

    assert shown.status_code == 200
    assert shown.json() == made.json()


async def test_empty_file_without_any_header_is_taken(client: httpx2.AsyncClient) -> None:
    upload = (await client.post("/v1/uploads", content=b"")).json()

    assert upload["size"] == 0
    assert upload["sha256"] == hashlib.sha256(b"").hexdigest()
    assert (upload["content_type"], upload["filename"]) == ("application/octet-stream", None)


@pytest.mark.parametrize("piece", [1, 7, 1000, LIMIT])
async def test_form_is_stored_however_it_is_cut(
    client: httpx2.AsyncClient, folder: Path, piece: int
) -> None:
    data = (
        os.urandom(2000)
        + b"\r\n--xy\r\n--xy z\r\n-"
        + os.urandom(2000 if piece < 1000 else 200_000)
    )
    sent = form(FILE + b"Content-Type: Text/CSV; charset=utf-8\r\n\r\n" + data)
    body: bytes = sent["content"]
    cut = chunked(*(body[at : at + piece] for at in range(0, len(body), piece)))

    response = await client.post("/v1/uploads", content=cut, headers=sent["headers"])

    upload = response.json()
    assert response.status_code == 201
    assert (upload["size"], upload["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (upload["content_type"], upload["filename"]) == ("text/csv; charset=utf-8", "rows.csv")
    assert files(folder) == [data]


async def test_form_of_an_ordinary_client_is_stored(client: httpx2.AsyncClient) -> None:
    response = await client.post(
        "/v1/uploads", files={"file": ("tabelle ä.csv", b"a,b\n1,2\n", "text/csv")}
    )

    upload = response.json()
    assert (response.status_code, upload["size"]) == (201, 8)
    assert upload["filename"] == "tabelle ä.csv"


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b'attachment; filename="../../etc/passwd"', "passwd"),
        (b'attachment; filename="..\\..\\boot.ini"', "boot.ini"),
        (b'attachment; filename="C:\\Users\\me\\rows.csv"', "rows.csv"),
        (b"attachment; filename=/etc/passwd", "passwd"),
        (b'attachment; filename=".."', None),
        (b'attachment; filename="   "', None),
        (b'attachment; filename=""', None),
        (b"attachment", None),
        (b'attachment; filename="a\\"b;c.csv"; size=1', 'a"b;c.csv'),
        (b"attachment; filename*=UTF-8''r%C3%A9sum%C3%A9.csv; filename=resume.csv", "résumé.csv"),
        (b"attachment; filename=plain.csv; filename*=bogus''x", "plain.csv"),
        (b"attachment; filename*=UTF-8''%FF%FE; filename=plain.csv", "plain.csv"),
        (b"attachment; filename*=UTF-8''a%00%0D%0Ab%2F..%2Fc.csv", "c.csv"),
        (b"attachment; filename*=UTF-8''report%E2%80%AEfdp.exe", "reportfdp.exe"),
        ('attachment; filename="größe.csv"'.encode(), "größe.csv"),
        ('attachment; filename="größe.csv"'.encode("latin-1"), "größe.csv"),
        (b'attachment; filename="first.csv"; filename="second.csv"', "first.csv"),
        (b"attachment; filename=\"a; filename*=UTF-8''b\"", "a; filename*=UTF-8''b"),
        (b"attachment; filename=" + b"x" * 10_000 + b".csv.gz", "x" * 252 + ".gz"),
        (b"attachment; filename*=UTF-8''" + b"%C3%A4" * 300 + b".csv", "ä" * 125 + ".csv"),
        (b'attachment; filename="unfinished', None),
        (b";;;=;filename", None),
    ],
)
async def test_file_name_is_made_harmless(
    client: httpx2.AsyncClient, disposition: bytes, filename: str | None
) -> None:
    headers = [(b"content-disposition", disposition)]

    response = await client.post("/v1/uploads", content=b"x", headers=headers)

    assert response.status_code == 201
    assert response.json()["filename"] == filename


@pytest.mark.parametrize(
    "content_type",
    ["csv", "text/", "/csv", "text/c sv", "text/csv; charset", "a/b" + "c" * 300, "text/csv\tx",
     'text/csv; charset="', "text/csv, text/html"],
)  # fmt: skip
async def test_content_type_that_is_none_is_415(
    client: httpx2.AsyncClient, folder: Path, content_type: str
) -> None:
    response = await client.post(
        "/v1/uploads", content=b"x", headers={"Content-Type": content_type}
    )

    assert response.status_code == 415
    assert files(folder) == []


async def test_compressed_transfer_is_415(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/uploads", content=b"x", headers={"Content-Encoding": "gzip"})

    assert response.status_code == 415
    assert "compressed file is stored as it is" in response.json()["detail"]


@pytest.mark.parametrize("kind", ["raw", "form"])
@pytest.mark.parametrize("declared", [True, False])
async def test_file_over_the_limit_is_413_and_nothing_stays(
    client: httpx2.AsyncClient, folder: Path, kind: str, declared: bool
) -> None:
    data = b"x" * (LIMIT + 1)
    sent: dict[str, Any] = (
        {"content": data, "headers": CSV} if kind == "raw" else form(FILE + b"\r\n" + data)
    )
    if not declared:
        body: bytes = sent["content"]
        sent["content"] = chunked(body[:200_000], body[200_000:])

    response = await client.post("/v1/uploads", **sent)

    assert response.status_code == 413
    assert response.json()["type"] == "/problems/body-too-large"
    assert str(LIMIT) in response.json()["detail"]
    assert response.headers["connection"] == "close"
    assert files(folder) == []


async def test_declared_length_over_the_limit_is_refused_unread(app: Any, folder: Path) -> None:
    response, read = await speak(app, [], {"content-length": str(10 * LIMIT)})

    assert response["status"] == 413
    assert read == 0
    assert not folder.exists()


MALFORMED: list[tuple[int, dict[str, Any]]] = [
    (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
    (400, form(FILE + b"\r\nx") | {"content": b"no boundary at all"}),
    (400, form(FILE + b"\r\nx") | {"content": b"--xyz\r\n" + FILE + b"\r\nhalf"}),
    (400, form(FILE + b"\r\nx") | {"content": b""}),
    (400, form(FILE + b"X: " + b"y" * 10_000 + b"\r\n\r\nx")),
    (400, form(FILE + b"X: y\r\n" * 100 + b"\r\nx")),
    (400, form(FILE + b"\r\nx", boundary=b"b" * 300)),
    (415, form(FILE + b"Content-Type: nonsense\r\n\r\nx")),
    (422, form()),
    (422, form(b'Content-Disposition: form-data; name="other"\r\n\r\nx')),
    (422, form(FILE + b"\r\nx", b'Content-Disposition: form-data; name="more"\r\n\r\ny')),
    (422, form(FILE + b"\r\nx", FILE + b"\r\ny")),
    (422, form(b"\r\nx")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "sent"), MALFORMED)
async def test_form_that_is_none_is_refused_and_nothing_stays(
    client: httpx2.AsyncClient, folder: Path, status: int, sent: dict[str, Any]
) -> None:
    response = await client.post("/v1/uploads", **sent)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert files(folder) == []


async def test_unknown_field_of_a_form_is_named(client: httpx2.AsyncClient) -> None:
    sent = form(b'Content-Disposition: form-data; name="a/b~c"\r\n\r\nx')

    response = await client.post("/v1/uploads", **sent)

    assert response.json()["errors"] == [
        {"pointer": "/a~1b~0c", "detail": "the only field is file"}
    ]


async def speak(app: Any, messages: list[Message], headers: dict[str, str]) -> tuple[Message, int]:
    """The response's start, and how many messages were read; the rest never comes."""
    raw = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers,
           "authorization": bearer("a")["Authorization"]}.items()]  # fmt: skip
    scope = {
        "type": "http", "method": "POST", "path": "/v1/uploads", "raw_path": b"/v1/uploads",
        "query_string": b"", "headers": raw, "client": ("127.0.0.1", 1),
    }  # fmt: skip
    sent: list[Message] = []
    waiting = iter(messages)
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = next(waiting, None)
        if message is None:
            if sent:
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
            raise AssertionError
        read += 1
        return message

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return (sent[0] if sent else {"type": "none"}), read


async def test_client_that_goes_half_way_leaves_nothing(
    app: Any, folder: Path, records: MemoryUploads
) -> None:
    half: list[Message] = [
        {"type": "http.request", "body": b"x" * 200_000, "more_body": True},
        {"type": "http.disconnect"},
    ]

    response, _ = await speak(app, half, {})

    assert response["type"] == "none"
    assert files(folder) == []
    assert records.uploads == {}


@pytest.mark.parametrize("kind", ["raw", "form"])
async def test_body_that_stops_arriving_is_408_and_nothing_stays(
    app: Any, folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SILENCE_SECONDS", 0.05)
    sent = form(FILE + b"\r\n" + b"x" * 1000)
    begun: list[Message] = [
        {"type": "http.request", "body": sent["content"][:700], "more_body": True}
    ]
    headers = {"content-type": sent["headers"]["Content-Type"] if kind == "form" else "text/csv"}

    response, _ = await speak(app, begun, headers)

    assert response["status"] == 408
    assert files(folder) == []


async def test_nothing_stays_when_redis_does_not_take_the_record(
    client: httpx2.AsyncClient, folder: Path, records: MemoryUploads
) -> None:
    records.fails_on = {"add"}

    response = await client.post("/v1/uploads", content=b"x", headers=CSV)

    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"
    assert files(folder) == []


async def test_body_is_not_read_when_redis_is_away(app: Any, records: MemoryUploads) -> None:
    records.fails_on = {"check"}

    response, read = await speak(
        app, [{"type": "http.request", "body": b"x", "more_body": False}], {"content-length": "1"}
    )

    assert (response["status"], read) == (503, 0)


async def test_storage_that_is_not_supported_is_503() -> None:
    async with connect(app_over(MemoryQueue())) as client:
        response = await client.post("/v1/uploads", content=b"x", headers=CSV)

    assert response.status_code == 503
    assert response.json()["type"] == "/problems/storage-unavailable"
    assert response.headers["retry-after"]


async def test_many_at_once_do_not_mix(client: httpx2.AsyncClient, folder: Path) -> None:
    files_sent = [os.urandom(1000 + 40_000 * n) for n in range(7)] * 3

    answers = await asyncio.gather(
        *(client.post("/v1/uploads", content=data) for data in files_sent)
    )

    assert [answer.json()["sha256"] for answer in answers] == [
        hashlib.sha256(data).hexdigest() for data in files_sent
    ]
    assert len({answer.json()["id"] for answer in answers}) == 21
    assert sorted(files(folder)) == sorted(files_sent)


async def test_deleted_upload_is_gone(client: httpx2.AsyncClient, folder: Path) -> None:
    path = (await client.post("/v1/uploads", content=b"x")).headers["location"]

    deleted = await client.delete(path)
    again = await client.delete(path)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert again.status_code == 404
    assert (await client.get(path)).status_code == 404
    assert files(folder) == []


async def test_deletion_that_redis_missed_can_be_sent_again(
    client: httpx2.AsyncClient, records: MemoryUploads
) -> None:
    path = (await client.post("/v1/uploads", content=b"x")).headers["location"]
    records.fails_on = {"remove"}

    assert (await client.delete(path)).status_code == 503
    records.fails_on = set()
    assert (await client.delete(path)).status_code == 204


async def test_upload_belongs_to_its_key(client: httpx2.AsyncClient) -> None:
    path = (await client.post("/v1/uploads", content=b"x")).headers["location"]

    async def status(method: str, who: str) -> int:
        return (await client.request(method, path, headers=bearer(who))).status_code

    assert [await status("GET", who) for who in "baro"] == [404, 200, 200, 200]
    assert [await status("DELETE", who) for who in "br"] == [404, 403]
    assert await status("DELETE", "o") == 204


async def test_uploading_needs_the_scope_submit(client: httpx2.AsyncClient, folder: Path) -> None:
    for who in "ro":
        response = await client.post("/v1/uploads", content=b"x" * 200_000, headers=bearer(who))
        assert response.status_code == 403
        assert response.headers["connection"] == "close"

    assert not folder.exists()


async def test_expired_upload_is_not_there(
    client: httpx2.AsyncClient, records: MemoryUploads
) -> None:
    made = await client.post("/v1/uploads", content=b"x")
    upload = records.uploads[made.json()["id"]]
    past = datetime.now(UTC) - timedelta(seconds=1)
    object.__setattr__(upload, "expires_at", past)

    assert (await client.get(made.headers["location"])).status_code == 404


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc", "a" * 10_000, "%00" * 20, "%0a" * 20])
async def test_id_that_is_none_is_404(client: httpx2.AsyncClient, name: str) -> None:
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"/v1/uploads/{name}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


async def test_disk_that_is_full_is_507(client: httpx2.AsyncClient, folder: Path) -> None:
    with files_end_at(100_000):
        response = await client.post("/v1/uploads", content=b"x" * 200_000)

    assert response.status_code == 507
    assert response.json()["type"] == "/problems/storage-full"
    assert files(folder) == []
