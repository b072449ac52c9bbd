"""Storage in S3: what its requests are signed with, and what the service may answer."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.storage import S3Access, StorageFullError, StorageUnavailableError, bucket_of
from app.storage.s3 import S3Storage
from app.storage.s3_signing import Call, sign
from tests.conftest import free_port
from tests.s3_double import Refusal, s3_double
from tests.s3_server import S3Server
from tests.stores import MIB, Store, pieces, read, s3_store

KEY = "uploads/0123456789abcdef0123"
LARGE = 6 * MIB


@pytest.fixture
async def store(s3_server: S3Server) -> AsyncIterator[Store]:
    async with s3_store(s3_server) as store:
        yield store


@pytest.mark.parametrize("token", [None, "a-session-token"])
@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/bucket/", "list-type=2&prefix=a%2Fb%2Fuploads%2F"),
        ("PUT", "/a/b/uploads/0123~x", "partNumber=2&uploadId=a%2Bb%3D%3D"),
        ("POST", "/a%20b/c", "uploads="),
    ],
)
def test_signed_as_amazons_own_client_signs(
    method: str, path: str, query: str, token: str | None
) -> None:
    access = S3Access("an-id", "a/secret+", token, "eu-west-3")
    host = "bucket.s3.eu-west-3.amazonaws.com"
    theirs = AWSRequest(method, f"https://{host}{path}?{query}")
    signer = S3SigV4Auth(Credentials(access.key_id, access.secret, token), "s3", access.region)
    signer.add_auth(theirs)
    at = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    sha256 = theirs.headers["X-Amz-Content-SHA256"]

    ours = sign(access, Call(method, host, path, query, sha256), at)

    assert ours["authorization"] == theirs.headers["Authorization"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://files", ("files", "")),
        ("s3://files/", ("files", "")),
        ("s3://my.files/a/b-1/", ("my.files", "a/b-1")),
    ],
)
def test_bucket_and_prefix_are_read_from_the_url(url: str, found: tuple[str, str]) -> None:
    assert bucket_of(url) == found


@pytest.mark.parametrize(
    "url", ["s3:", "s3://", "s3://A_B", "s3://b/../c", "s3://b//c", "s3://b?x"]
)
def test_url_that_names_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"names no bucket|has a prefix"):
        bucket_of(url)


async def test_what_a_killed_writer_left_is_aborted(store: Store, s3_server: S3Server) -> None:
    """As after a SIGKILL: the upload is begun, and nobody knows it any more."""
    storage = store.storage
    assert isinstance(storage, S3Storage)
    for name in ("one", "two"):
        await storage._client.call("POST", f"a/b/uploads/{name}", {"uploads": ""})
    await storage._client.call("POST", "another/uploads/three", {"uploads": ""})
    assert await store.names() == ["another/uploads/three?", "uploads/one?", "uploads/two?"]

    # The server says of each that it was begun in 2010.
    untouched = await storage.remove_drafts(datetime(2009, 1, 1, tzinfo=UTC))
    removed = await storage.remove_drafts(datetime.now(UTC) - timedelta(days=1))

    assert (untouched, removed) == (0, 2)
    assert await store.names() == ["another/uploads/three?"]


async def test_service_that_does_not_answer_is_told() -> None:
    access = S3Access("id", "secret", endpoint=f"http://127.0.0.1:{free_port()}")
    storage = S3Storage(access, "bucket", "")

    for attempt in (storage.put(KEY, pieces(b"x"), 10), storage.check(), storage.size(KEY)):
        with pytest.raises(StorageUnavailableError, match="does not answer"):
            await attempt
    await storage.aclose()


async def test_bucket_that_is_not_there_is_told(s3_server: S3Server) -> None:
    storage = S3Storage(s3_server.access, "nowhere", "")

    for attempt in (storage.put(KEY, pieces(b"x"), 10), storage.check(), storage.open(KEY)):
        with pytest.raises(StorageUnavailableError, match="NoSuchBucket"):
            await attempt
    await storage.aclose()


async def test_a_refusal_for_the_moment_is_asked_again(s3_server: S3Server) -> None:
    data = os.urandom(LARGE)
    busy = [Refusal(503, "SlowDown"), Refusal(500, "InternalError")]
    async with s3_double(s3_server, every=3, refusals=busy) as storage:
        await storage.put(KEY, pieces(data), LARGE)

        assert await read(storage, KEY) == data


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        (Refusal(507, "XMinioStorageFull"), StorageFullError, "full"),
        (Refusal(403, "QuotaExceeded"), StorageFullError, "full"),
        (Refusal(403, "AccessDenied"), StorageUnavailableError, "AccessDenied"),
        (Refusal(503, "SlowDown"), StorageUnavailableError, "SlowDown"),
    ],
)
async def test_a_refusal_for_good_is_told_and_leaves_nothing(
    s3_server: S3Server, refusal: Refusal, error: type[Exception], words: str
) -> None:
    async with s3_double(s3_server, only="partNumber=", refusals=[refusal]) as storage:
        with pytest.raises(error, match=words):
            await storage.put(KEY, pieces(b"x" * LARGE), LARGE)

        assert s3_server.names(storage.bucket) == []


async def test_reply_to_the_completion_that_is_lost_does_no_harm(s3_server: S3Server) -> None:
    data = os.urandom(LARGE)
    async with s3_double(s3_server, only="uploadId=", method="POST", loses_one=True) as storage:
        stored = await storage.put(KEY, pieces(data), LARGE)

        assert stored.size_bytes == LARGE
        assert await read(storage, KEY) == data


def test_address_is_amazons_own_without_an_endpoint() -> None:
    storage = S3Storage(S3Access("id", "secret", region="eu-west-3"), "files", "p")
    dotted = S3Storage(S3Access("id", "secret", region="eu-west-3"), "my.files", "p")

    def url(of: S3Storage) -> str:
        return str(of._client._request("GET", "p/uploads/x", "", "0" * 64, b"").url)

    assert url(storage) == "https://files.s3.eu-west-3.amazonaws.com/p/uploads/x"
    assert urlsplit(url(dotted)).path == "/my.files/p/uploads/x"
