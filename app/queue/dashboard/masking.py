"""What the dashboard may show of a job: its type and how it went, no mail and no address.

Pure functions over what stands in Redis, which anything may have written: none of them
raises, and each reads a bounded amount.
"""

from __future__ import annotations

import binascii
import json
import re
import zlib
from typing import Any

from app.queue.records.calls import PERFORM
from jobs.catalog import NAME_PATTERN

UNREADABLE = "(unreadable job)"
HIDDEN = "(not shown)"
HEAD_BYTES = 2048
TEXT_BYTES = 256 * 1024
SHOWN_CHARACTERS = 16_000
SHOWN_ITEMS = 200
SHOWN_DEPTH = 12
MAIL_STATUSES = {"accepted", "refused", "pending", "unknown"}

_STRING = rb'"((?:[^"\\]|\\.){1,300})"'
_FUNCTION = re.compile(rb"\s*\[\s*" + _STRING + rb"\s*,")
_FIRST_ARGUMENT = re.compile(rb"\s*null\s*,\s*\[\s*" + _STRING)
_FUNCTION_NAME = re.compile(r"[\w.<>]{1,200}")

# Read from the `@` to both sides, so that the time is linear in the text's length.
_AT = re.compile(r"@|%40")
_LOCAL_PART_BACKWARDS = re.compile(r'"[^"\n]{0,320}"|[^\s<>()\[\],;:"\\]{1,320}')
_DOMAIN = re.compile(r"\[[^\]\s]{0,64}\]|[\w.-]{1,255}")
# pydantic's ValidationError quotes what it was given, which may be a mail's text.
_QUOTED_INPUT = re.compile(r"input_value=.{0,2000}?, input_type=", re.DOTALL)


def job_label(job_type: str | None, data: bytes | None) -> str:
    """The job type, the function of a foreign job, or UNREADABLE.

    `job_type` is what our own submission noted, `data` RQ's field: JSON, raw or zlib, of
    which only the head is read.
    """
    if job_type is not None and NAME_PATTERN.fullmatch(job_type):
        return job_type
    head = inflate(data, HEAD_BYTES) if data is not None else b""
    function = _FUNCTION.match(head)
    if function is None:
        return UNREADABLE
    name = _json_string(function[1])
    if name == PERFORM:
        argument = _FIRST_ARGUMENT.match(head, function.end())
        name = _json_string(argument[1]) if argument is not None else ""
        return name if NAME_PATTERN.fullmatch(name) else UNREADABLE
    return name if _FUNCTION_NAME.fullmatch(name) else UNREADABLE


def carries_mail(label: str) -> bool:
    """Whether the job's result may tell about a mail. What cannot be read counts as one."""
    return label.startswith("email.") or label == UNREADABLE


def shown_result(label: str, stored: bytes | None) -> Any:
    """The result that RQ stored (base64 of JSON), masked; of a mail only status and code."""
    if stored is None:
        return None
    if len(stored) > TEXT_BYTES:
        return HIDDEN
    try:
        result = json.loads(binascii.a2b_base64(stored))
    except (ValueError, RecursionError):
        return HIDDEN
    return _mail_facts(result) if carries_mail(label) else mask_json(result)


def shown_metadata(stored: bytes | None) -> str:
    """RQ's `meta` field as JSON, masked."""
    if stored is None:
        return "{}"
    try:
        return json.dumps(mask_json(json.loads(inflate(stored, TEXT_BYTES))))
    except (ValueError, RecursionError):
        return HIDDEN


def shown_traceback(stored: bytes) -> str:
    """RQ's `exc_string` (base64 of zlib), masked; the middle of a very long one is left out."""
    try:
        text = inflate(binascii.a2b_base64(stored), TEXT_BYTES).decode(errors="replace")
    except ValueError:
        return HIDDEN
    text = mask_addresses(_QUOTED_INPUT.sub("input_value=…, input_type=", text))
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[: SHOWN_CHARACTERS // 4]}\n…\n{text[-SHOWN_CHARACTERS * 3 // 4 :]}"


def mask_addresses(text: str) -> str:
    """`ana@example.com` becomes `a***@…`, wherever it stands; also `ana%40example.com`."""
    kept: list[str] = []
    done = 0
    for at in _AT.finditer(text):
        domain = _DOMAIN.match(text, at.end())
        if domain is None or at.start() < done:
            continue
        if kept and at.start() == done:  # a@b@c
            done = domain.end()
            continue
        before = text[max(done, at.start() - 322) : at.start()]
        local_part = _LOCAL_PART_BACKWARDS.match(before[::-1])
        if local_part is None:
            continue
        start = at.start() - len(local_part[0])
        kept += (text[done : start + 1], "***@…")
        done = domain.end()
    return "".join(kept) + text[done:]


def mask_json(value: Any, depth: int = 0) -> Any:
    """A JSON value with every address masked, cut to what a page can show."""
    if isinstance(value, str):
        return mask_addresses(value[:SHOWN_CHARACTERS])
    if isinstance(value, dict | list) and depth >= SHOWN_DEPTH:
        return "…"
    if isinstance(value, dict):
        items = list(value.items())[:SHOWN_ITEMS]
        return {mask_addresses(key): mask_json(item, depth + 1) for key, item in items}
    if isinstance(value, list):
        return [mask_json(item, depth + 1) for item in value[:SHOWN_ITEMS]]
    return value


def string_list(text: str | None) -> list[str]:
    """A JSON list of strings; empty when it is anything else."""
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def inflate(raw: bytes, limit_bytes: int) -> bytes:
    """At most that much of a field that RQ wrote as zlib, or as it stands (`Job.restore`)."""
    try:
        return zlib.decompressobj().decompress(raw, limit_bytes)
    except zlib.error:
        return raw[:limit_bytes]


def _mail_facts(result: Any) -> Any:
    if not isinstance(result, dict):
        return HIDDEN
    recipients = result.get("recipients")
    facts: dict[str, Any] = {
        "recipients": [_recipient_facts(each) for each in recipients[:SHOWN_ITEMS]]
        if isinstance(recipients, list)
        else HIDDEN
    }
    if isinstance(result.get("dry_run"), bool):
        facts["dry_run"] = result["dry_run"]
    return facts


def _recipient_facts(recipient: Any) -> dict[str, Any]:
    found = recipient if isinstance(recipient, dict) else {}
    status, code = found.get("status"), found.get("code")
    return {
        "status": status if isinstance(status, str) and status in MAIL_STATUSES else None,
        "code": code if isinstance(code, int) else None,
    }


def _json_string(inside: bytes) -> str:
    try:
        return str(json.loads(b'"' + inside + b'"'))
    except ValueError:
        return ""
