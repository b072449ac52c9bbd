"""What an operator asks for: lists, previews with each filter, pages of the console."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from app.queue import keys


@dataclass(frozen=True, slots=True)
class Request:
    """One of them, as the page names it."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What requests and commands name."""

    fingerprint: str
    job: str
    schedule: str

    @classmethod
    def of(cls, store: redis.Redis, schedule: str) -> Known:
        found: Any = store.zrevrange(keys.FAILURES, 0, 0)
        fingerprint = found[0].decode()
        ids: Any = store.zrange(keys.failure(fingerprint, ":jobs"), 0, 0)
        return cls(fingerprint, ids[0].decode(), schedule)


def requests(known: Known) -> list[Request]:
    """All of them; what they name is there."""
    fingerprint = known.fingerprint
    return [*_previews(fingerprint), *_lists(fingerprint), *_pages(known), *_console(known)]


def of_operation(path: str) -> list[Request]:
    """How one stands, as both sides show it; `path` is the API's."""
    pages = (path, path.replace("/v1/", "/console/"), "/v1/operations", "/console/operations")
    name = path.rpartition("/")[2]
    return [Request(f"GET {each.replace(name, 'ID')}, afterwards", "GET", each) for each in pages]


def ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")


def _told(wanted: dict[str, str]) -> str:
    shown = (f"{name} {wanted[name]}" if name == "tag" else name for name in wanted)
    return ", ".join(shown)


def _previews(fingerprint: str) -> Sequence[Request]:
    filters: list[dict[str, str]] = [
        {"status": "failed"}, {"fingerprint": fingerprint}, {"type": "email.send"},
        {"queue": "email"}, {"error": "timeout"}, {"tag": "shop:3"}, {"tag": "part:rare"},
        {"tag": "part:often"}, {"created_after": ago(8)}, {"created_before": ago(3)},
        {"created_after": ago(3), "created_before": ago(2)}, {"batch_id": "f" * 35},
        {"type": "data.query", "queue": "data"},
        {"queue": "email", "tag": "part:often"}, {"created_before": ago(3), "tag": "part:often"},
        {"fingerprint": fingerprint, "created_after": ago(3)},
        {"type": "log.write", "created_after": ago(3)},
        {"queue": "email", "error": "smtp_permanent", "tag": "shop:5", "created_after": ago(5)},
    ]  # fmt: skip
    return [
        Request(f"preview by {_told(each)}", "POST", "/v1/failures/preview", dict(each))
        for each in filters
    ]


def _lists(fingerprint: str) -> Sequence[Request]:
    queries = [
        "", "status=failed&limit=200", "status=started", "type=email.send", "queue=http",
        "error=timeout", f"fingerprint={fingerprint}", "tag=part:rare&limit=200",
        f"created_before={ago(3)}", "queue=nothing", "status=failed&queue=http&tag=part:rare",
    ]  # fmt: skip
    return [Request(f"GET /v1/jobs?{pattern(each)}", "GET", f"/v1/jobs?{each}") for each in queries]


def pattern(query: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"(fingerprint|created_before)=[^&]*", r"\1=…", query)


def _pages(known: Known) -> Sequence[Request]:
    job = known.job
    paths = [
        "/v1/failures", "/v1/failures?limit=200", f"/v1/jobs/{job}", "/v1/queues",
        "/v1/queues/email", "/v1/workers", "/v1/operations", "/v1/schedules",
        f"/v1/schedules/{known.schedule}", "/v1/suppressions", "/v1/audit",
        "/metrics", "/readyz",
    ]  # fmt: skip
    return [Request(f"GET {path.replace(job, 'ID')}", "GET", path) for path in paths]


def _console(known: Known) -> Sequence[Request]:
    fingerprint, job = known.fingerprint, known.job
    selections = [
        "type=email.send", "queue=http", "error=timeout", "tag=part:rare", "tag=shop:3",
        "type=data.query&queue=http", "queue=http&tag=part:rare", "type=log.write&error=timeout",
        "error=timeout&queue=http", f"fingerprint={fingerprint}&tag=shop:3",
        f"created_before={ago(3)}&queue=http", "type=none", "queue=none", "tag=shop:none",
        "created_before=2020-01-01T00:00:00Z&queue=http", "tag=part:often&queue=http",
    ]  # fmt: skip
    paths = [
        "", "live", "queues/email", "failures", f"failures/{fingerprint}", f"jobs/{job}",
        "operations", "schedules", f"schedules/{known.schedule}", "suppressions", "audit",
        *(f"failures?{each}" for each in selections),
    ]  # fmt: skip
    return [
        Request(
            f"GET /console/{pattern(each).replace(job, 'ID').replace(fingerprint, '…')}", "GET",
            f"/console/{each}",
        )
        for each in paths
    ]  # fmt: skip
