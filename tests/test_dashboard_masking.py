"""What is left of texts that may name people."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.queue.dashboard.masking import inflate, job_label, mask_addresses, mask_json

LOCAL = st.text(
    "abcdefghijklmnopqrstuvwxyzäß0123456789.!#$&'*+/=?^_`{|}~-", min_size=3, max_size=64
)
HOST = st.from_regex(r"[a-z0-9]{2,10}(-[a-z0-9]{2,10})?\.(com|example|pт)", fullmatch=True)
AROUND = st.sampled_from(["", " ", "<", ">", '"', "'", ",", ";", "(", ")", "\n", ": ", "mailto:"])


@given(LOCAL, HOST, AROUND, AROUND, st.sampled_from(["@", "%40"]))
def test_no_address_is_left(local: str, host: str, before: str, after: str, at: str) -> None:
    masked = mask_addresses(f"sent to {before}{local}{at}{host}{after} and done")
    assert local not in masked
    assert host not in masked
    assert masked.startswith("sent to ")
    assert masked.endswith(" and done")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ana@example.com", "a***@…"),
        ("Ana <ana@example.com>, bob@b.example", "Ana <a***@…>, b***@…"),
        ('"ana b"@example.com', '"***@…'),
        ("ana@[192.0.2.1]", "a***@…"),
        ("redis://:s3cret@cache.example:6379/0", "redis://:s***@…:6379/0"),
        ("a@b@c.example", "a***@…"),
        ("@wraps(f)\n@job", "@wraps(f)\n@job"),
        ("a @ b, 5 @ 3", "a @ b, 5 @ 3"),
        ("", ""),
    ],
)
def test_addresses_are_masked_and_the_rest_is_kept(text: str, masked: str) -> None:
    assert mask_addresses(text) == masked


@pytest.mark.parametrize("text", ["a" * 10**6, "@" * 10**6, "a@" * 10**6, '"' * 10**6 + "@a"])
def test_masking_a_long_text_comes_to_an_end(text: str) -> None:
    """Were the time the square of the length, this would take hours."""
    assert len(mask_addresses(text)) <= len(text) + 10


def test_a_value_is_cut_to_what_a_page_can_show() -> None:
    deep: object = "ana@example.com"
    for _ in range(900):
        deep = [deep]
    assert "ana" not in str(mask_json({"deep": deep}))
    assert len(mask_json(["x"] * 10_000)) == 200
    assert mask_json({"ana@example.com": [1, None, True, 1.5]}) == {"a***@…": [1, None, True, 1.5]}


def test_a_bomb_is_inflated_only_so_far() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    assert len(inflate(bomb, 2048)) == 2048


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b'["app.worker.perform",null,["email.send",{"to":[]}],{}]', "email.send"),
        (b'["app.worker.perform", null, ["log.write", {}], {}]', "log.write"),
        (b'["app.worker.perform", null, ["\\u0065mail.send", {}], {}]', "email.send"),
        (b'["app.worker.perform", null, ["ana@example.com", {}], {}]', "(unreadable job)"),
        (b'["app.worker.perform", null, [], {}]', "(unreadable job)"),
        (b'["os.system", null, ["rm"], {}]', "os.system"),
        (b'["<b>", null, [], {}]', "<b>"),
        (b'["ana@example.com", null, [], {}]', "(unreadable job)"),
        (b'["\\ud800", null, [], {}]', "(unreadable job)"),
        (b"null", "(unreadable job)"),
        (None, "(unreadable job)"),
    ],
)
def test_a_label_names_the_type_and_no_argument(data: bytes | None, label: str) -> None:
    assert job_label(None, data) == label
    if data is not None:
        assert job_label(None, zlib.compress(data)) == label


def test_a_noted_type_is_believed_only_if_it_is_one() -> None:
    assert job_label("email.send", None) == "email.send"
    assert job_label("ana@example.com", None) == "(unreadable job)"
