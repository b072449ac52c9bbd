"""What counts as one address, and what a client might slip in that does not."""

from __future__ import annotations

import pytest

from jobs.email.addresses import AddressError, parse_address


@pytest.mark.parametrize(
    ("text", "name", "spec"),
    [
        ("ana@example.org", "", "ana@example.org"),
        ("a@b.co", "", "a@b.co"),
        (" ana@example.org ", "", "ana@example.org"),
        ("<ana@example.org>", "", "ana@example.org"),
        ("Ana <ana@example.org>", "Ana", "ana@example.org"),
        ("Ana<ana@example.org>", "Ana", "ana@example.org"),
        ("John Q. Public <j@example.org>", "John Q. Public", "j@example.org"),
        ("Ação & Cia <acao@example.org>", "Ação & Cia", "acao@example.org"),
        ("山田 太郎 <taro@example.jp>", "山田 太郎", "taro@example.jp"),
        ("\u05e9\u05dc\u05d5\u05dd\u200f <s@b.co>", "\u05e9\u05dc\u05d5\u05dd\u200f", "s@b.co"),
        ('"Doe, John" <j@example.org>', "Doe, John", "j@example.org"),
        (r'"the \"boss\" \\ <x>" <j@example.org>', r'the "boss" \ <x>', "j@example.org"),
        ("o'hara+tag=1.x_y~z@sub.example.co.uk", "", "o'hara+tag=1.x_y~z@sub.example.co.uk"),
        ("a@1.2.3.4.example", "", "a@1.2.3.4.example"),
        ("a@intern.local", "", "a@intern.local"),
        ("recado@example.test", "", "recado@example.test"),
        ("l" * 64 + "@example.org", "", "l" * 64 + "@example.org"),
        ("a@" + "d" * 63 + ".org", "", "a@" + "d" * 63 + ".org"),
    ],
)
def test_accepted(text: str, name: str, spec: str) -> None:
    address = parse_address(text)

    assert (address.display_name, address.addr_spec) == (name, spec)
    assert address.ascii_addr_spec == spec
    assert not address.needs_smtputf8


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("ana@bücher.example", "ana@xn--bcher-kva.example"),
        ("ana@BÜCHER.example", "ana@xn--bcher-kva.example"),
        ("ana@例え.テスト", "ana@xn--r8jz45g.xn--zckzah"),
        ("ana@xn--bcher-kva.example", "ana@xn--bcher-kva.example"),
        ("ana@b。co", "ana@b.co"),
    ],
)
def test_idn_goes_on_the_wire_as_ascii(text: str, wire: str) -> None:
    address = parse_address(text)

    assert address.addr_spec == text
    assert address.ascii_addr_spec == wire
    assert address.domain == wire.partition("@")[2]
    assert not address.needs_smtputf8


@pytest.mark.parametrize("local", ["josé", "用户", "пример.тест", "दीप"])
def test_local_part_beyond_ascii_needs_smtputf8(local: str) -> None:
    address = parse_address(f"Name <{local}@bücher.example>")

    assert address.ascii_addr_spec == f"{local}@xn--bcher-kva.example"
    assert address.needs_smtputf8


@pytest.mark.parametrize(
    "text",
    [
        # Nothing, or no address.
        "", " ", "ana", "@", "@example.org", "ana@", "<>", "Ana <>", "Ana <ana>", "Ana",
        "ana@example.org>", "<ana@example.org", "Ana ana@example.org", "<<ana@example.org>>",
        # Dotless and broken domains.
        "root@localhost", "ana@example", "ana@example.", "ana@.example.org", "ana@a..b",
        "ana@-a.org", "ana@a-.org", "ana@a_b.org", "ana@a b.org", "ana@" + "d" * 64 + ".org",
        "ana@exämple", "ana@" + "ü" * 63 + ".org", "ana@xn--.org", "ana@xn--999999999.org",
        "ana@ab--cd.org", "ana@a/b.org", "ana@a:25", "ana@example.org:25",
        "ana@" + "a." * 127 + "b",
        # IP addresses.
        "ana@[127.0.0.1]", "ana@[IPv6:::1]", "ana@127.0.0.1", "ana@1.2",
        # Local parts.
        '"a@evil"@good.org', '"a b"@good.org', '"ana"@good.org', "a@evil@good.org", ".a@b.co",
        "a.@b.co", "a..b@b.co", "a b@b.co", "a,b@b.co", "a(c)@b.co", "l" * 65 + "@example.org",
        "é" * 33 + "@example.org", "a\u200bb@b.co", "a\u00a0b@b.co", "e\u0301@b.co",
        "a\u202eb@b.co",
        # Too long in all.
        "l" * 64 + "@" + ("d" * 62 + ".") * 3 + "example", "N" * 400 + " <a@b.co>",
        "x" * 1_000_000, "a@" * 500_000,
        # Several in one string, groups, comments, anything behind.
        "a@b.co, d@e.co", "a@b.co,d@e.co", "a@b.co d@e.co", "a@b.co;d@e.co",
        "A <a@b.co>, D <d@e.co>", "a@b.co, D <d@e.co>", "Doe, John <j@b.co>", "A <a@b.co> x",
        "A <a@b.co><d@e.co>", "A <a@b.co> <d@e.co>", "team: a@b.co;", "team: <a@b.co>",
        "a@b.co (work)", "Ana (work) <a@b.co>", "(x)a@b.co", 'Ana "x" <a@b.co>', '"Ana <a@b.co>',
        '"Ana" x <a@b.co>', "Ana \\ <a@b.co>", "[x] <a@b.co>",
        # Control characters and what breaks lines.
        "a@b.co\n", "a@b.co\r\n", "a\n@b.co", "a@b.co\r\nRCPT TO:<evil@b.co>", "a@b.co\x00",
        "A\r\nBcc: evil@b.co <a@b.co>", "A\n <a@b.co>", "A\t<a@b.co>", "\x7f <a@b.co>",
        "A\u2028B <a@b.co>", "A\x85 <a@b.co>", '"A\r\nX" <a@b.co>', "\tana@b.co", "a@b.co\x0b",
        # A name that shows something else than it says.
        "\u202emoc.knab@ofni <a@b.co>", "a\u2066b\u2069 <a@b.co>", '"\u202dx" <a@b.co>',
        # Half a character; characters that would vanish.
        "\ud800 <a@b.co>", "a\udc00@b.co", "a@b\ud800.co", "a@exa\u00admple.org", "a@b\u200b.co",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_address(text)

    message = str(caught.value)
    assert message
    assert len(message) < 150
    assert "evil" not in message


def test_of_ascii_an_address_beyond_it_takes_what_a_plain_one_takes() -> None:
    def takes(local: str) -> bool:
        try:
            parse_address(f"{local}@example.org")
        except AddressError:
            return False
        return True

    for character in map(chr, range(0x80)):
        assert takes(f"é{character}é") == takes(f"e{character}e"), ascii(character)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("root@localhost", "without a dot"),
        ("a@[127.0.0.1]", "IP address"),
        ("", "empty"),
        ("ana", "no @"),
        ("a@b.co, d@e.co", "more than one @"),
        ("Doe, John <j@b.co>", "quotes"),
        ("a@b.co\n", "line break"),
        ("l" * 65 + "@example.org", "64 octets"),
    ],
)
def test_refusal_says_why(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(text)
