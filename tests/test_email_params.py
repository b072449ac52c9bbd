"""What a client may say of an e-mail, and where a fault is pointed out."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.email.params import EmailParams

MAIL: dict[str, Any] = {
    "from": "Shop <shop@example.com>",
    "to": ["ana@example.org"],
    "subject": "Hello",
    "text": "Hi",
}


def accept(raw: dict[str, Any], sender: str | None = None) -> dict[str, Any]:
    """The params as they are stored."""
    params = EmailParams.model_validate(raw, context={"sender": sender})
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def faults(raw: dict[str, Any], sender: str | None = None) -> dict[str, str]:
    """JSON pointer -> message."""
    with pytest.raises(ValidationError) as caught:
        EmailParams.model_validate(raw, context={"sender": sender})
    return {
        "".join(f"/{part}" for part in fault["loc"]): fault["msg"]
        for fault in caught.value.errors()
    }


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in MAIL.items() if name not in names}


def test_stored_params_are_accepted_again_and_unchanged() -> None:
    full = MAIL | {
        "cc": ["Zoë <zoe@bücher.example>"],
        "bcc": ["b@c.de"],
        "reply_to": ["josé@example.org"],
        "html": "<p>Hi</p>",
    }
    stored = accept(full)

    assert stored == full
    assert accept(stored) == stored


@pytest.mark.parametrize("name", ["to", "cc", "bcc", "reply_to"])
def test_lone_string_stands_for_a_list_of_one(name: str) -> None:
    assert accept(MAIL | {name: "a@b.co"})[name] == ["a@b.co"]


def test_default_sender_is_used_and_stored() -> None:
    assert accept(without("from"), sender="Us <us@b.co>")["from"] == "Us <us@b.co>"
    assert accept(MAIL | {"from": None}, sender="us@b.co")["from"] == "us@b.co"
    assert accept(MAIL, sender="us@b.co")["from"] == MAIL["from"]


def test_no_sender_at_all_is_a_fault_of_from_that_names_the_setting() -> None:
    found = faults(without("from"))

    assert list(found) == ["/from"]
    assert "MAIL_FROM" in found["/from"]
    with pytest.raises(ValidationError, match="MAIL_FROM"):
        EmailParams.model_validate(without("from"))


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"to": ["ana@example.org", "ana"]}, "/to/1"),
        ({"to": "ana"}, "/to"),
        ({"to": []}, "/to"),
        ({"to": [f"u{n}@b.co" for n in range(51)]}, "/to"),
        ({"to": [7]}, "/to/0"),
        ({"to": None}, "/to"),
        ({"cc": ["root@localhost"]}, "/cc/0"),
        ({"cc": {"a": 1}}, "/cc"),
        ({"bcc": ["a@b.co, c@d.ef"]}, "/bcc/0"),
        ({"bcc": [f"u{n}@b.co" for n in range(51)]}, "/bcc"),
        ({"reply_to": ["a@b.co\r\nBcc: evil@b.co"]}, "/reply_to/0"),
        ({"from": "shop"}, "/from"),
        ({"from": ""}, "/from"),
        ({"from": "a@b.co\nX: y"}, "/from"),
        ({"from": ["a@b.co"]}, "/from"),
        ({"subject": "a\r\nBcc: evil@b.co"}, "/subject"),
        ({"subject": "a\nb"}, "/subject"),
        ({"subject": "a\x00b"}, "/subject"),
        ({"subject": "a\u2028b"}, "/subject"),
        ({"subject": "x" * 999}, "/subject"),
        ({"subject": None}, "/subject"),
        ({"subject": "a\ud800"}, "/subject"),
        ({"text": "x" * (1024 * 1024 + 1)}, "/text"),
        ({"text": "é" * (512 * 1024 + 1)}, "/text"),
        ({"text": "a\ud800"}, "/text"),
        ({"html": "é" * (512 * 1024 + 1)}, "/html"),
        ({"html": 7}, "/html"),
        ({"headers": {"Bcc": "b"}}, "/headers"),
        ({"delivery": "exactly_once"}, "/delivery"),
        ({"sender": "a@b.co"}, "/sender"),
        ({"attachments": {}}, "/attachments"),
    ],
)
def test_fault_is_pointed_out_where_it_stands(change: dict[str, Any], pointer: str) -> None:
    assert list(faults(MAIL | change)) == [pointer]


def test_missing_fields_are_all_named() -> None:
    assert set(faults({})) == {"/from", "/to", "/subject", "/text"}


def test_html_alone_is_enough_and_so_is_text() -> None:
    assert "text" not in accept(without("text") | {"html": "<p>Hi</p>"})
    assert "html" not in accept(MAIL)
    assert list(faults(without("text"))) == ["/text"]


def test_bodies_of_exactly_the_limit_and_long_subjects_are_accepted() -> None:
    accept(MAIL | {"text": "é" * (512 * 1024), "html": "x" * (1024 * 1024), "subject": "é" * 998})


def test_schema_shows_the_names_that_clients_use() -> None:
    schema = EmailParams.model_json_schema()

    assert schema["required"] == ["to"]
    assert schema["additionalProperties"] is False
    assert "from" in schema["properties"]
    assert "default" not in schema["properties"]["from"]
    assert {"type": "string", "format": "mailbox"} in schema["properties"]["to"]["anyOf"]
