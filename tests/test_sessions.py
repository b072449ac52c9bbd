"""Session cookies: what holds, and what ends them."""

from __future__ import annotations

from starlette.requests import Request

from app.http.sessions import Sessions
from app.keyring import Keyring
from tests.dashboard_doubles import OPERATOR_KEY, api_key


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


OPS = api_key("ops.night-1", OPERATOR_KEY, "operate")


def sessions(
    keyring: Keyring | None = None, secret: bytes = b"one", clock: Clock | None = None
) -> Sessions:
    ring = keyring if keyring is not None else Keyring([OPS])
    return Sessions(ring, secret, 60, clock=clock if clock is not None else Clock())


def test_a_session_holds_until_its_time() -> None:
    clock = Clock()
    held = sessions(clock=clock)
    cookie = held.issue(OPS)
    assert held.read(cookie) == OPS
    clock.now += 59
    assert held.read(cookie) == OPS
    clock.now += 1
    assert held.read(cookie) is None


def test_a_session_that_was_touched_is_none() -> None:
    cookie = sessions().issue(OPS)
    for position, character in enumerate(cookie[:-1]):
        other = "1" if character != "1" else "2"
        assert sessions().read(cookie[:position] + other + cookie[position + 1 :]) is None
    for length in range(len(cookie)):
        assert sessions().read(cookie[:length]) is None
    for forged in (cookie + "x", cookie * 1000, "x" * 1_000_000, "..", "é.ops.x", None):
        assert sessions().read(forged) is None


def test_a_session_ends_with_its_key() -> None:
    cookie = sessions().issue(OPS)
    replaced = api_key(OPS.name, "rcd_another", "operate")
    demoted = api_key(OPS.name, OPERATOR_KEY, "read", "submit")
    for keyring in (Keyring([]), Keyring([replaced]), Keyring([demoted])):
        assert sessions(keyring).read(cookie) is None
    assert sessions(secret=b"two").read(cookie) is None


def test_a_session_is_read_from_its_own_cookie() -> None:
    held = sessions()
    for header, expected in (
        (f"recado_session={held.issue(OPS)}", OPS),
        (f"other={held.issue(OPS)}", None),
    ):
        scope = {"type": "http", "headers": [(b"cookie", header.encode())]}
        assert held.of(Request(scope)) == expected
