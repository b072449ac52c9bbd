"""What the document lets pass, the models let pass, and nothing else: field by field.

schemathesis asks the running service with few cases of each field; this asks the same models
with all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from app.http.data import draft_data_job
from app.http.faults import InvalidRequestError
from app.http.openapi_schemas import schemas_of
from app.http.submissions import Origin, Terms, draft_flat_job, draft_job
from jobs.catalog import load as load_catalog

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 25, 26, 1000, 1001, 86_400, 86_401, 31_536_000, 31_536_001,
    0.5, 1.5, 10.0, -0.5, 1e300, "", "x", "10", "true", "high", "a\nb", "a\x7fb", "a\u2028b",
    "x" * 51, "x" * 101, "x" * 201, "x" * 999, [], ["x"], ["x", "x"], [None], [1], ["a b"],
    ["x"] * 51, ["x"] * 101, {}, {"a": "b"}, {"a": 1}, {"a:b": "c"}, {"": "b"}, {"a": "b\n"},
    {"x" * 51: "b"}, {"a": "x" * 201}, {str(n): "x" for n in range(21)}, {"initial": 1},
    {"initial": "1"}, {"factor": 11}, {"max": None}, {"jitter": 1.1}, {"typo": 1},
    {"key": "k", "limit": 1}, {"key": "k", "limit": 1.0}, {"key": "k", "limit": "1"},
    {"key": "", "limit": 1}, {"key": "k\n", "limit": 1}, {"key": "k"}, {"limit": 0, "key": "k"},
]  # fmt: skip
# Formats, which JSON Schema leaves to others: a time, an address.
FORMATTED = {"scheduled_at", "expires_at", "from", "to", "cc", "bcc", "reply_to"}
TERMS = Terms(
    catalog=load_catalog(),
    sender="a@b.example",
    retention_finished_seconds=60,
    retention_failed_seconds=60,
)
Draft = Callable[[Any, Terms, Origin], object]
EMAIL = {"to": "a@b.example", "subject": "s", "text": "t"}
RESET = {"product": "p", "reset_url": "https://b.example/", "expires_minutes": 5}
FILLED = {"to": "a@b.example", "template": "password_reset", "variables": RESET}
LOG = {"message": "m"}


@cache
def schemas() -> dict[str, Any]:
    """Made when they are asked for: whoever collects tests loads this file."""
    return schemas_of(TERMS.catalog)


def variants(schema: str) -> Iterator[tuple[str, Any]]:
    """Every field of the schema, and one that it has not, with every odd value."""
    for name in [*schemas()[schema]["properties"], "typo"]:
        yield from ((name, value) for value in ODD)


def is_described(schema: str, body: Any) -> bool:
    return bool(validator(schema).is_valid(body))


@cache
def validator(schema: str) -> Draft202012Validator:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas()}}
    return Draft202012Validator(whole)


def is_accepted(draft: Draft, body: Any) -> bool:
    try:
        draft(body, TERMS, Origin("key", "request", datetime.now(UTC)))
    except InvalidRequestError:
        return False
    return True


def disagreements(
    schema: str, fields: str, build: Callable[[str, Any], Any], draft: Draft
) -> list[tuple[str, Any, bool]]:
    """Name, value, and whether the service took what the document says it refuses."""
    found = []
    for name, value in variants(fields):
        body = build(name, value)
        accepted = is_accepted(draft, body)
        described = is_described(schema, body)
        if accepted != described and not (described and has_text(name, value)):
            found.append((name, value, accepted))
    return found


def has_text(name: str, value: Any) -> bool:
    """Whether it is for a format to say if this is fine."""
    return name in FORMATTED and (
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    )


def test_options() -> None:
    def build(name: str, value: Any) -> Any:
        return {"type": "log.write", "params": LOG, "options": {name: value}}

    assert disagreements("JobSubmission", "Options", build, draft_job) == []


def test_notify() -> None:
    odd = [*ODD, ["finished"], ["finished", "stopped"], ["queued"], "finished", "pt", "pt_BR", "fr"]
    found = []
    for name in ["on", "locale", "typo"]:
        for value in odd:
            notify = {"email": "a@b.example", name: value}
            body = {"type": "log.write", "params": LOG, "options": {"notify": notify}}
            if is_accepted(draft_job, body) != is_described("JobSubmission", body):
                found.append((name, value))

    assert found == []


@pytest.mark.parametrize("other", ["delay", "scheduled_at", "depends_on", "allow_failure"])
def test_two_options_together(other: str) -> None:
    values = {"delay": 1, "scheduled_at": "2020-01-01T00:00:00Z", "depends_on": ["x"],
              "allow_failure": True}  # fmt: skip

    def build(name: str, value: Any) -> Any:
        return {"type": "log.write", "params": LOG, "options": {other: values[other], name: value}}

    assert disagreements("JobSubmission", "Options", build, draft_job) == []


def test_log_write() -> None:
    def build(name: str, value: Any) -> Any:
        return {"type": "log.write", "params": {**LOG, name: value}}

    assert disagreements("JobSubmission", "LogWriteParams", build, draft_job) == []


@pytest.mark.parametrize(
    "body",
    [EMAIL, EMAIL | {"html": "h"}, EMAIL | {"text": None}, FILLED, FILLED | {"locale": "pt"}],
)
def test_emails(body: dict[str, Any]) -> None:
    job_type = TERMS.catalog.get("email.send")

    def draft(body: Any, terms: Terms, origin: Origin) -> object:
        return draft_flat_job(job_type, body, terms, origin)

    found = disagreements(
        "EmailSubmission", "EmailSubmission", lambda name, value: body | {name: value}, draft
    )

    assert found == []


def test_variables_of_templates() -> None:
    odd = [*ODD, "a\tb", "http://x", "https://x/?y#z", "ftp://x", "https://x y", "2026-01-31"]
    optional = {"name": "n"}
    found = []
    for name in [*RESET, *optional, "typo"]:
        for value in odd:
            body = {"type": "email.send", "params": FILLED | {"variables": RESET | {name: value}}}
            if is_accepted(draft_job, body) != is_described("JobSubmission", body):
                found.append((name, value))

    assert found == []


@pytest.mark.parametrize("locale", ["pt", "pt_BR", "en-US", "EN", "fr", "e", "", "en-", "en\n"])
def test_locales_of_templates(locale: str) -> None:
    body = {"type": "email.send", "params": FILLED | {"locale": locale}}

    assert is_accepted(draft_job, body) == is_described("JobSubmission", body)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Query", {"upload_id": "u" * 20, "sql": "SELECT 1"}),
        ("Query", {"rows": [{"a": 1}], "sql": "SELECT 1"}),
        ("Convert", {"job_id": "j" * 20, "output_format": "csv"}),
        ("Validate", {"upload_id": "u" * 20, "schema": {}}),
        ("Dedupe", {"upload_id": "u" * 20, "keys": ["a"]}),
    ],
)
def test_data(name: str, params: dict[str, Any]) -> None:
    odd = ["csv", "csv.gz", "csv.bz2", ";", "\t", "a", "'", ",", ".", "utf-8", "latin-1", "pad",
           "first", "x" * 20, "x" * 41, [{"a": None}], [{}], [[]], ["a", "b"]]  # fmt: skip
    found = []
    for field in [*schemas()[f"{name}Params"]["properties"], "typo"]:
        for value in [*ODD, *odd]:
            body = {"type": f"data.{name.lower()}", "params": params | {field: value}}
            if is_accepted(draft_job, body) != is_described("JobSubmission", body):
                found.append((field, value))

    assert found == []


@pytest.mark.parametrize("operation", ["profile", "query", "dedupe"])
def test_data_in_one_call(operation: str) -> None:
    more: dict[str, dict[str, Any]] = {"query": {"sql": "SELECT 1"}, "dedupe": {"keys": ["a"]}}
    body: dict[str, Any] = {"operation": operation, "rows": [{"a": 1}]}
    body |= more.get(operation, {})
    fields = f"Data{operation.capitalize()}Submission"

    found = disagreements(
        "DataSubmission", fields, lambda name, value: body | {name: value}, draft_data_job
    )

    assert found == []


def test_envelopes() -> None:
    def build(name: str, value: Any) -> Any:
        return {"type": "log.write", "params": LOG, name: value}

    assert disagreements("JobSubmission", "LogWriteJob", build, draft_job) == []


@pytest.mark.parametrize("value", ODD)
def test_bodies_that_are_no_job(value: Any) -> None:
    assert not is_accepted(draft_job, value)
    assert not is_described("JobSubmission", value)
