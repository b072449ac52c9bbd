"""AWS Signature Version 4: what makes a request to an S3-compatible service ours."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

_SERVICE = "s3"
_END = "aws4_request"


@dataclass(frozen=True, slots=True)
class S3Access:
    """As whom, and where. `endpoint` None: Amazon's own for the region."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What is signed of a request. `path` and `query` are percent-encoded, the query in order."""

    method: str
    host: str
    path: str
    query: str
    payload_sha256: str


def sign(access: S3Access, call: Call, now: datetime) -> dict[str, str]:
    """The headers that go with the call.

    After "Create a signed AWS API request" of the IAM user guide; for S3 the path is encoded
    once and never normalised.
    """
    at = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": call.host,
        "x-amz-content-sha256": call.payload_sha256,
        "x-amz-date": at,
    }
    if access.session_token is not None:
        headers["x-amz-security-token"] = access.session_token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [call.method, call.path, call.query, _canonical(headers), names, call.payload_sha256]
    )
    scope = f"{at[:8]}/{access.region}/{_SERVICE}/{_END}"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", at, scope, _sha256(canonical)])
    signature = hmac.new(_key(access, at[:8]), to_sign.encode(), hashlib.sha256).hexdigest()
    return headers | {
        "authorization": f"AWS4-HMAC-SHA256 Credential={access.key_id}/{scope},"
        f" SignedHeaders={names}, Signature={signature}"
    }


def _canonical(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))


def _key(access: S3Access, day: str) -> bytes:
    key = f"AWS4{access.secret}".encode()
    for part in (day, access.region, _SERVICE, _END):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
