"""The source of an e-mail, read back as a mail program would."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any, cast

import pytest

from jobs.email.message import OutgoingEmail, build
from jobs.email.params import EmailParams
from jobs.errors import PermanentError

JOB_ID = "0653a1b2c3d4e0123456789abcdef012345"
NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


def outgoing(**fields: Any) -> OutgoingEmail:
    raw = {"from": "shop@example.com", "to": "ana@example.org", "subject": "Hi", "text": "Hello\n"}
    raw |= {name.rstrip("_"): value for name, value in fields.items()}
    return build(EmailParams.model_validate(raw), JOB_ID, NOW)


def read(email: OutgoingEmail) -> EmailMessage:
    """Parse strictly, after checking what must hold for the bytes of every mail."""
    head, _, _ = email.source.partition(b"\r\n\r\n")
    assert email.source.endswith(b"\r\n")
    assert b"\n" not in email.source.replace(b"\r\n", b"")
    assert b"\r" not in email.source.replace(b"\r\n", b"")
    assert max(map(len, email.source.split(b"\r\n"))) <= 998
    assert all(line.strip() for line in head.split(b"\r\n"))
    if not email.needs_smtputf8:
        assert email.source.isascii()
    parsed = message_from_bytes(email.source, policy=policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def content(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return cast(str, part.get_content()).replace("\r\n", "\n")


def written_name(email: OutgoingEmail, field: str) -> str:
    """By RFC 2047, where the newer parser puts spaces between encoded words (Python 3.11)."""
    raw = message_from_bytes(email.source, policy=policy.compat32)[field]
    phrase = parseaddr(re.sub(r"\r?\n", "", raw))[0]
    return str(make_header(decode_header(phrase)))


TEXTS = [
    "Hello",
    "Your order 1234 has shipped",
    "Olá, seu pedido está a caminho",
    "ご注文ありがとうございます。" * 20,
    "🎉" * 50,
    "مرحبا بالعالم",
    "=?utf-8?q?literal?=",
    "=?utf-8?q?a=0D=0ABcc:_evil@example.org?=",
    "trailing and  double   spaces ",
    " leading",
    "x" * 998,
    "word " * 199,
    "é" * 998,
    'a "quoted" \\ word, with; specials <x@y.zz> (c)',
    "e\u0301 combining and \u200d joiner",
]


@pytest.mark.parametrize("subject", ["", *TEXTS])
def test_subject_is_read_back_as_given(subject: str) -> None:
    message = read(outgoing(subject=subject))

    assert message["Subject"] == subject
    assert message["Bcc"] is None


@pytest.mark.parametrize("name", [text[:300].strip() for text in TEXTS])
def test_display_name_is_read_back_as_given(name: str) -> None:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    email = outgoing(from_=f'"{escaped}" <shop@example.com>', to=[f'"{escaped}" <a@b.co>'])
    message = read(email)

    for field in ("From", "To"):
        assert len(message[field].addresses) == 1
        assert written_name(email, field) == name
    assert message["From"].addresses[0].addr_spec == "shop@example.com"


def test_any_subject_and_text_survive() -> None:
    chance = random.Random(4711)
    alphabet = 'ab  ,"\\<>()=?_.:;@éßñ漢字かな🎉\u0301ъ=?utf-8?b??='
    for _ in range(300):
        subject = "".join(chance.choices(alphabet, k=chance.randrange(200)))
        text = "".join(chance.choices(alphabet + "\n.\t\x01", k=chance.randrange(400)))
        message = read(outgoing(subject=subject, text=text, html=text))
        assert message["Subject"] == subject
        assert content(message, "plain") == text
        assert content(message, "html") == text


def test_header_fields_and_envelope() -> None:
    email = outgoing(
        to=["Ana <ana@example.org>", "bia@example.org"],
        cc=["Zoë <zoe@bücher.example>"],
        bcc=["hidden@example.org", "ana@EXAMPLE.org"],
        reply_to=["help@example.com", "Desk, The".join(['"', '" <desk@example.com>'])],
    )
    message = read(email)

    assert email.sender == "shop@example.com"
    assert email.recipients == (
        "ana@example.org",
        "bia@example.org",
        "zoe@xn--bcher-kva.example",
        "hidden@example.org",
    )
    assert [a.addr_spec for a in message["To"].addresses] == ["ana@example.org", "bia@example.org"]
    assert str(message["Cc"]) == "Zoë <zoe@xn--bcher-kva.example>"
    assert [a.addr_spec for a in message["Reply-To"].addresses] == [
        "help@example.com",
        "desk@example.com",
    ]
    assert message["Date"].datetime == NOW
    assert message["MIME-Version"] == "1.0"
    assert b"hidden@example.org" not in email.source
    assert message.keys().count("Subject") == 1


def test_fifty_recipients_of_each_kind_fold_and_come_back() -> None:
    addresses = [f'"Nº {n}, of 50" <recipient-{n}@example.org>' for n in range(50)]
    email = outgoing(to=addresses, cc=addresses, bcc=[f"b{n}@b.co" for n in range(50)])
    message = read(email)

    assert len(message["To"].addresses) == len(message["Cc"].addresses) == 50
    assert message["To"].addresses[49].display_name == "Nº 49, of 50"
    assert len(email.recipients) == 100


def test_local_parts_that_differ_in_case_are_two_mailboxes() -> None:
    assert outgoing(to=["Ana@b.co", "ana@b.co", "ana@B.CO"]).recipients == ("Ana@b.co", "ana@b.co")


def test_message_id_depends_on_the_job_alone() -> None:
    first = outgoing(from_="Shop <shop@bücher.example>")
    params = EmailParams.model_validate(
        {"from": "shop@bücher.example", "to": "x@y.zz", "subject": "other", "html": "x"}
    )
    again = build(params, JOB_ID, datetime(2027, 1, 1, tzinfo=UTC))

    assert first.message_id == again.message_id == f"<{JOB_ID}@xn--bcher-kva.example>"
    assert read(first)["Message-ID"] == first.message_id


@pytest.mark.parametrize("job_id", ["a b", "<x>", "a@b", "é", "x\r\nBcc: e@b.co", "", "\ud800"])
def test_foreign_job_id_makes_a_sound_message_id(job_id: str) -> None:
    params = EmailParams.model_validate(
        {"from": "a@b.co", "to": "c@d.ef", "subject": "s", "text": "t"}
    )
    email = build(params, job_id, NOW)

    assert email.message_id == build(params, job_id, NOW).message_id
    assert read(email)["Message-ID"] == email.message_id
    assert email.message_id.endswith("@b.co>")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Hello\n", "7bit"),
        ("a\r\nb\rc\n", "7bit"),
        (".\n..\nFrom here\n", "7bit"),
        ("x" * 998 + "\n", "7bit"),
        ("x" * 999 + "\n", "quoted-printable"),
        ("Olá, o seu pedido 4711 saiu hoje do nosso armazém.\n" * 3, "quoted-printable"),
        ("trailing \t\né\n" + "plain " * 20 + "\n", "quoted-printable"),
        ("bell \x07 and nul \x00 in a longer line of text than that\n", "quoted-printable"),
        ("ご注文ありがとうございます。\n" * 30, "base64"),
    ],
)
def test_body_is_read_back_in_the_cheapest_encoding(text: str, encoding: str) -> None:
    message = read(outgoing(text=text))

    assert message["Content-Type"] == 'text/plain; charset="utf-8"'
    assert message["Content-Transfer-Encoding"] == encoding
    assert content(message, "plain") == text.replace("\r\n", "\n").replace("\r", "\n")


def test_html_alone_is_one_part() -> None:
    message = read(outgoing(text=None, html="<p>Olá</p>\n"))

    assert message.get_content_type() == "text/html"
    assert content(message, "html") == "<p>Olá</p>\n"


def test_text_and_html_are_alternatives_plainest_first() -> None:
    message = read(outgoing(text="Olá", html="<p>Olá</p>"))

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert content(message, "plain") == "Olá"
    assert content(message, "html") == "<p>Olá</p>"


def test_quoting_an_earlier_source_of_the_job_does_not_end_a_part() -> None:
    earlier = outgoing(text="a", html="b").source.decode()
    message = read(outgoing(text=earlier, html="c"))

    assert content(message, "plain") == earlier.replace("\r\n", "\n")
    assert content(message, "html") == "c"


def test_same_job_makes_the_same_bytes() -> None:
    assert outgoing(text="a", html="b").source == outgoing(text="a", html="b").source


@pytest.mark.parametrize("name", ["to", "from_", "cc", "bcc", "reply_to"])
def test_address_beyond_ascii_needs_smtputf8_wherever_it_stands(name: str) -> None:
    email = outgoing(**{name: "josé@example.org"})

    assert email.needs_smtputf8
    assert ("josé@example.org".encode() in email.source) == (name != "bcc")


def test_names_and_texts_beyond_ascii_need_no_smtputf8() -> None:
    assert not outgoing(
        from_="Ação <a@bücher.example>", subject="Olá", text="Olá", html="Olá"
    ).needs_smtputf8


@pytest.mark.parametrize("name", ["subject", "text", "html"])
def test_half_a_character_is_a_permanent_error(name: str) -> None:
    params = EmailParams.model_validate(
        {"from": "a@b.co", "to": "c@d.ef", "subject": "s", "text": "t"}
    ).model_copy(update={name: "\ud800"})

    with pytest.raises(PermanentError):
        build(params, JOB_ID, NOW)
