"""Failures that look alike have one fingerprint, whatever differs from run to run."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.queue.fingerprints import fingerprint, pattern_of, place_of
from tests import job_types

# What may stand in a message and say nothing of its kind.
letters = "abcdefghijklmnopqrstuvwxyz"
hexadecimal = st.text("0123456789abcdef", min_size=12, max_size=40).filter(
    lambda text: re.search("[a-f]", text) is not None and re.search("[0-9]", text) is not None
)
quoted = st.builds(
    lambda quote, text: f"{quote}{text}{quote}",
    st.sampled_from("\"'`"),
    st.text(letters + "0123456789 .:@/", max_size=30),
)
address = st.builds(
    lambda local, domain: f"{local}@{domain}.test", st.text(letters, min_size=1, max_size=20),
    st.text(letters, min_size=1, max_size=20),
)  # fmt: skip
variable = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.uuids().map(str),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda each: each.exploded),
    st.datetimes(min_value=datetime(1900, 1, 1)).map(lambda at: at.replace(tzinfo=UTC).isoformat()),
    hexadecimal,
    hexadecimal.map(lambda text: f"0x{text}"),
    quoted,
    address,
    address.map(lambda text: f"<{text}>"),
)
words = st.lists(st.text(letters, min_size=1, max_size=9), min_size=2, max_size=5)


@given(words, variable, variable)
def test_variable_part_makes_no_difference(parts: list[str], one: str, other: str) -> None:
    first, *rest = parts
    messages = [f"{first} {each} {' '.join(rest)}" for each in (one, other)]

    assert len({fingerprint("a.b", "ValueError", each, "m:f") for each in messages}) == 1


@given(words, words, variable)
def test_words_make_a_difference(parts: list[str], others: list[str], one: str) -> None:
    assume(parts != others)

    assert fingerprint("a.b", "E", f"{' '.join(parts)}: {one}", "") != fingerprint(
        "a.b", "E", f"{' '.join(others)}: {one}", ""
    )


@given(st.text(max_size=3000), st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_it_is_short_whatever_the_parts_are(
    message: str, job_type: str, error_class: str, place: str
) -> None:
    made = fingerprint(job_type, error_class, message, place)

    assert re.fullmatch("[0-9a-f]{16}", made)
    assert made == fingerprint(job_type, error_class, message, place)


def test_each_part_counts() -> None:
    parts = ("email.send", "RetryLater", "no answer", "jobs.email.smtp:send")
    changed = [(*parts[:n], f"{parts[n]}x", *parts[n + 1 :]) for n in range(4)]

    assert len({fingerprint(*each) for each in [parts, *changed]}) == 5


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("took longer than 0.5 s", "took longer than … s"),
        ("550 5.1.1 <a@b.test>: Recipient rejected", "… … …: Recipient rejected"),
        ("can't open 'a b' in b'x'", "can't open … in …"),
        ("it's Bob's turn", "it's Bob's turn"),
        ("connect to 10.0.0.1:25: [Errno 111] refused", "connect to …:…: [Errno …] refused"),
        ("line 3, 4 and 5", "line …"),
        ("took 12345 bytes", "took … bytes"),
        ("took 12345678 bytes", "took … bytes"),
        ("at https://a.test/x?y=1 failed", "at … failed"),
        ("at 2024-01-31 10:00:00 failed", "at … failed"),
        ("at 10:00 failed", "at … failed"),
        ("job 06512f3ad9a1c81b is gone", "job … is gone"),
        ("no user_4711 here", "no … here"),
        ("a\n  b", "a b"),
    ],
)
def test_message_is_told_without_its_variable_parts(message: str, pattern: str) -> None:
    assert pattern_of(message) == pattern


@pytest.mark.parametrize("unit", ["a@", "'\\", "1:", "a-1", "::", "…, ", "0-", "<", "https://"])
def test_message_made_to_be_slow_is_not(unit: str) -> None:
    """A pattern that backtracks would take years over one of these."""
    assert pattern_of(unit * 50_000) is not None


def test_place_is_the_deepest_of_the_jobs_own_code() -> None:
    def inner() -> int:
        return sum(job_types.refuse(each) for each in [1])

    with pytest.raises(ValueError, match="never") as caught:
        inner()
    traceback = caught.value.__traceback__

    assert place_of(traceback, "tests.job_types") == "tests.job_types:refuse"
    assert place_of(traceback, "tests") == "tests.job_types:refuse"
    assert place_of(traceback, "tests.test_fingerprints") == (
        "tests.test_fingerprints:test_place_is_the_deepest_of_the_jobs_own_code.inner"
    )
    assert place_of(traceback, "jobs") == ""
