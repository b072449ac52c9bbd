"""The inbox page: what a browser gets, for ordinary e-mails and for hostile ones."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.dev.catcher import MailFolder
from app.http.inbox import routes

PICTURE = b"\x89PNG\r\n\x1a\nnot much of one"


class Elements(HTMLParser):
    """The start tags of a page, as a browser would read them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [found for _, found in self.found if name in (found.get("class") or "").split()]


class Inbox:
    """A folder of caught e-mails and the page over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = MailFolder(folder)
        self._client = TestClient(Starlette(routes=routes(folder)))

    def receive(self, source: bytes | EmailMessage, *recipients: str) -> str:
        """Store an e-mail and return the address of its page."""
        content = source if isinstance(source, bytes) else source.as_bytes()
        to = list(recipients) if recipients else ["rui@example.com"]
        return f"/inbox/{self._writer.save('ana@example.com', to, content)}"

    def receive_html(self, html: str) -> str:
        return self.receive(email(html=html))

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self._client.get(path, headers=headers)

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status_code == 200
        return answer.text


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "inbox")


def email(
    subject: str = "Hello", *, sender: str = "Ana <ana@example.com>", html: str | None = None
) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = "Rui <rui@example.com>"
    message["Subject"] = subject
    message.set_content("The text.\n")
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


def raw(fields: bytes, body: bytes = b"body") -> bytes:
    return b"From: ana@example.com\r\n" + fields + b"\r\n\r\n" + body


# The list


def test_empty_inbox_shows_a_line_to_try(inbox: Inbox) -> None:
    page = inbox.text("/inbox")

    assert "curl http://testserver/v1/emails" in page
    assert inbox.get("/inbox/mails.json").json() == {"data": [], "total": 0}


def test_list_is_newest_first_with_who_what_and_when(inbox: Inbox) -> None:
    older = inbox.receive(email("Older"))
    newer = email("Relatório", sender="João <joao@exemplo.com.br>")
    newer.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
    newest = inbox.receive(newer)

    page = inbox.text("/inbox")
    listed = inbox.get("/inbox/mails.json").json()["data"]

    assert [row["href"] for row in Elements(page).classed("row")] == [newest, older]
    assert "João" in page
    assert "Relatório" in page
    assert len(Elements(page).classed("clip")) == 1
    assert [each["subject"] for each in listed] == ["Relatório", "Older"]
    assert listed[0]["from"] == {"name": "João", "address": "joao@exemplo.com.br"}
    assert listed[0]["to"] == [{"name": "Rui", "address": "rui@example.com"}]
    assert [each["attachments"] for each in listed] == [True, False]
    assert listed[0]["received_at"].endswith("Z")


def test_list_is_answered_304_until_something_arrives(inbox: Inbox) -> None:
    inbox.receive(email())
    first = inbox.get("/inbox/mails.json")

    again = inbox.get("/inbox/mails.json", **{"If-None-Match": first.headers["etag"]})
    inbox.receive(email())
    changed = inbox.get("/inbox/mails.json", **{"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200
    assert len(changed.json()["data"]) == 2


def test_long_list_shows_the_newest_hundred_and_says_so(inbox: Inbox) -> None:
    for number in range(103):
        inbox.receive(email(f"No. {number}"))

    page = inbox.text("/inbox")

    assert len(Elements(page).classed("row")) == 100
    assert "the newest 100 of 103" in page
    assert "No. 102" in page
    assert "No. 2<" not in page


def test_foreign_files_in_the_folder_are_not_listed(inbox: Inbox) -> None:
    inbox.receive(email())
    (inbox.folder / "passwords.eml").write_text("Subject: secret\n\n")

    assert "secret" not in inbox.text("/inbox")


def test_mail_put_there_by_hand_is_shown_without_an_envelope(inbox: Inbox) -> None:
    inbox.folder.mkdir()
    name = "00000000000000000001-0123abcd"
    (inbox.folder / f"{name}.eml").write_bytes(email("By hand").as_bytes())

    assert "By hand" in inbox.text("/inbox")
    assert "By hand" in inbox.text(f"/inbox/{name}")


# One e-mail


def test_mail_opens_with_its_html_in_a_sandboxed_frame(inbox: Inbox) -> None:
    path = inbox.receive_html("<p>Formatted</p>")

    (frame,) = Elements(inbox.text(path)).named("iframe")

    assert frame["src"] == f"{path}/html"
    sandbox = (frame["sandbox"] or "").split()
    assert "allow-scripts" not in sandbox
    assert "allow-same-origin" not in sandbox
    assert "allow-top-navigation" not in sandbox
    assert "<p>Formatted</p>" in inbox.text(f"{path}/html")


def test_html_document_may_load_and_run_nothing(inbox: Inbox) -> None:
    path = inbox.receive_html("<p>Formatted</p>")

    headers = inbox.get(f"{path}/html").headers
    policy = [each.strip() for each in headers["content-security-policy"].split(";")]

    assert policy[:3] == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data: 'self'",
    ]
    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in policy
    assert not any(each.startswith("script-src") for each in policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_views_show_text_source_and_decoded_headers(inbox: Inbox) -> None:
    message = email("Olá, João", html="<p>x</p>")
    path = inbox.receive(message)

    assert "The text." in inbox.text(f"{path}?view=text")
    assert "=?utf-8?" in inbox.text(f"{path}?view=source")
    headers = inbox.text(f"{path}?view=headers")
    assert '<th scope="row">Subject</th><td><bdi>Olá, João</bdi></td>' in headers
    assert inbox.get(f"{path}/source").text == message.as_bytes().decode()


def test_unknown_view_shows_the_mail_as_usual(inbox: Inbox) -> None:
    path = inbox.receive_html("<p>x</p>")

    assert Elements(inbox.text(f"{path}?view=<script>")).named("iframe")


def test_mail_without_html_has_no_html(inbox: Inbox) -> None:
    path = inbox.receive(email())

    assert not Elements(inbox.text(path)).named("iframe")
    assert inbox.get(f"{path}/html").status_code == 404


def test_envelope_shows_the_recipients_that_no_header_names(inbox: Inbox) -> None:
    path = inbox.receive(email(), "rui@example.com", "bcc@example.com")

    assert "bcc@example.com" in inbox.text(path)


def test_addresses_of_pages_in_text_open_in_a_new_tab(inbox: Inbox) -> None:
    path = inbox.receive(raw(b"Subject: x", b"See https://a.example/?x=1&y=2. Bye"))

    (link,) = [
        each
        for each in Elements(inbox.text(path)).named("a")
        if each["href"] == "https://a.example/?x=1&y=2"
    ]

    assert link["target"] == "_blank"
    assert link["rel"] == "noopener noreferrer"


def test_attachment_downloads_under_its_name(inbox: Inbox) -> None:
    message = email()
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="março.pdf")
    path = inbox.receive(message)

    page = inbox.text(path)
    answer = inbox.get(f"{path}/parts/1")

    assert "março.pdf" in page
    assert answer.content == b"%PDF"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"mar_o.pdf\"; filename*=UTF-8''mar%C3%A7o.pdf"
    )
    assert inbox.get(f"{path}/parts/2").status_code == 404


def test_picture_of_the_mail_itself_is_shown_inside_it(inbox: Inbox) -> None:
    message = email(html='<img src="cid:logo@x" alt="Logo"><img src="cid:missing@x">')
    message.get_payload()[1].add_related(PICTURE, "image", "png", cid="<logo@x>")  # type: ignore[union-attr, index]
    path = inbox.receive(message)

    shown, missing = Elements(inbox.text(f"{path}/html")).named("img")
    picture = inbox.get(shown["src"] or "")

    assert shown["src"] == f"{path}/parts/1"
    assert "src" not in missing
    assert picture.content == PICTURE
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"


def test_mail_that_was_dropped_is_404_although_it_was_open(inbox: Inbox) -> None:
    path = inbox.receive(email())
    inbox.text(path)

    for file in inbox.folder.iterdir():
        file.unlink()

    assert inbox.get(path).status_code == 404


def test_page_allows_only_its_own_files(inbox: Inbox) -> None:
    page = inbox.get("/inbox")

    policy = page.headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    for tag, name in [("script", "src"), ("link", "href"), ("img", "src")]:
        for element in Elements(page.text).named(tag):
            address = element[name] or ""
            assert address.startswith("/inbox/assets/")
            assert inbox.get(address).status_code == 200
    assert not any(
        attribute == "style" or attribute.startswith("on")
        for _, attributes in Elements(page.text).found
        for attribute in attributes
    )


# Hostile e-mails

REMOTE = "https://evil.example"


@pytest.mark.parametrize(
    ("html", "forbidden"),
    [
        ("<script>steal()</script>", "steal"),
        ("<p onclick='steal()'>x</p>", "steal"),
        ("<svg><script>steal()</script></svg>", "steal"),
        ("<svg/onload=steal()>", "steal"),
        ("<a href='javascript:steal()'>x</a>", "steal"),
        ("<a href=' java\nscript:steal()'>x</a>", "steal"),
        ("<a href='data:text/html,steal'>x</a>", "steal"),
        ("<math><mtext><style><img src=x onerror=steal()></style>", "onerror"),
        ("<noscript><p title='</noscript><img src=x onerror=steal()>'>", "onerror=steal()>"),
        (f"<img src='{REMOTE}/a.png'>", REMOTE),
        (f"<img srcset='{REMOTE}/a.png 1x'>", REMOTE),
        ("<img src='/v1/jobs'>", "/v1/jobs"),
        ("<img src='data:image/svg+xml,<svg onload=steal()>'>", "steal"),
        (f"<meta http-equiv=refresh content='0;url={REMOTE}'>", REMOTE),
        (f"<base href='{REMOTE}'>", REMOTE),
        (f"<link rel=stylesheet href='{REMOTE}'>", REMOTE),
        (f"<iframe src='{REMOTE}'></iframe>", REMOTE),
        (f"<object data='{REMOTE}'></object>", REMOTE),
        (f"<video src='{REMOTE}' poster='{REMOTE}'></video>", REMOTE),
        (f"<form action='{REMOTE}'><input name=card></form>", REMOTE),
        (f"<form action='{REMOTE}'><input name=card></form>", "<input"),
        (f"<td background='{REMOTE}'>x</td>", REMOTE),
        (f"<style>@import '{REMOTE}';</style>", "@import"),
        (f"<style>p {{ background: URL ({REMOTE}) }}</style>", "URL"),
        (f"<p style='background:url({REMOTE})'>x</p>", "url("),
        (f"<p style='background:u\\72l({REMOTE})'>x</p>", "\\72"),
        (f"<p style='background:image-set(\"{REMOTE}\" 1x)'>x</p>", "image-set("),
    ],
)
def test_html_loses_what_runs_or_loads(inbox: Inbox, html: str, forbidden: str) -> None:
    path = inbox.receive_html(f"<p>Before</p>{html}")

    document = inbox.text(f"{path}/html")

    assert "Before" in document
    assert forbidden not in document


def test_reader_says_how_much_was_not_loaded(inbox: Inbox) -> None:
    path = inbox.receive_html(f"<img src='{REMOTE}/1'><p style='background:url({REMOTE}/2)'>")

    assert "2 remote items not loaded" in inbox.text(path)


def test_links_of_the_html_leave_the_sandbox_without_a_trace(inbox: Inbox) -> None:
    path = inbox.receive_html("<a href='https://example.com/reset?a=1' target=_top>Reset</a>")

    (link,) = Elements(inbox.text(f"{path}/html")).named("a")

    assert link == {
        "href": "https://example.com/reset?a=1",
        "target": "_blank",
        "rel": "noopener noreferrer",
    }


def test_markup_in_headers_is_shown_as_text_everywhere(inbox: Inbox) -> None:
    evil = "<script>steal()</script>"
    message = email(f"{evil}'\"", sender='"<b>Eve</b>" <eve@example.com>')
    message["X-Evil"] = evil
    message["Cc"] = f'"{evil}" <cc@example.com>'
    message.add_attachment(b"x", maintype="text", subtype="x", filename=f"{evil}.txt")
    message.set_param("name", evil)
    path = inbox.receive(message, '"<script>steal()</script>"@example.com')

    for address in ("/inbox", path, f"{path}?view=headers", f"{path}?view=source"):
        page = inbox.text(address)
        assert "&lt;script&gt;steal()" in page
        assert [each["src"] for each in Elements(page).named("script")] == [
            "/inbox/assets/inbox.js"
        ]
        assert not Elements(page).named("b")


def test_markup_in_text_is_shown_as_text(inbox: Inbox) -> None:
    body = b'<img src=x onerror=steal()> https://a.example/"><img src=y> javascript:steal()'
    page = inbox.text(inbox.receive(raw(b"Subject: x", body)))

    assert "&lt;img src=x onerror=steal()&gt;" in page
    assert {each["src"] for each in Elements(page).named("img")} == {"/inbox/assets/icon.svg"}
    assert not any(
        (each["href"] or "").startswith("javascript") for each in Elements(page).named("a")
    )


def test_line_breaks_in_a_subject_make_no_header_and_no_second_line(inbox: Inbox) -> None:
    path = inbox.receive(raw(b"Subject: =?utf-8?q?Hi=0D=0ASet-Cookie:_a=3D1=00=1B?="))

    answer = inbox.get(path)
    (listed,) = inbox.get("/inbox/mails.json").json()["data"]

    assert "set-cookie" not in answer.headers
    assert listed["subject"].startswith("Hi Set-Cookie: a=1")
    assert not any(ord(character) < 32 for character in listed["subject"])


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\evil.exe", "evil.exe"),
        ('a"; filename="b.exe', None),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("..", "part-1"),
        ("n" * 3000 + ".txt", None),
    ],
)
def test_attachment_names_are_plain(inbox: Inbox, filename: str, expected: str | None) -> None:
    message = email()
    message.add_attachment(b"x", maintype="text", subtype="x", filename=filename)
    path = inbox.receive(message)

    disposition = inbox.get(f"{path}/parts/1").headers["content-disposition"]

    assert disposition.count('"') == 2
    assert len(disposition) < 700
    if expected is not None:
        assert disposition == f"attachment; filename=\"{expected}\"; filename*=UTF-8''{expected}"


def test_attached_page_is_a_download_and_never_a_page_of_ours(inbox: Inbox) -> None:
    message = email()
    evil = "<script>steal()</script>"
    message.add_attachment(evil, subtype="html", filename="a.html")
    message.add_attachment(b"<svg/>", maintype="image", subtype="svg+xml", filename="a.svg")
    path = inbox.receive(message)

    for number in (1, 2):
        headers = inbox.get(f"{path}/parts/{number}").headers
        assert headers["content-type"] == "application/octet-stream"
        assert headers["content-disposition"].startswith("attachment;")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].endswith("sandbox")


def test_source_is_plain_text_that_no_browser_guesses_about(inbox: Inbox) -> None:
    path = inbox.receive(b"<html><script>steal()</script>")

    headers = inbox.get(f"{path}/source").headers

    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].endswith("sandbox")


@pytest.mark.parametrize(
    ("fields", "body", "expected"),
    [
        (b"Content-Type: text/plain", "ação".encode(), "ação"),
        (b"Content-Type: text/plain", "ação".encode("latin-1"), "ação"),
        (b"Content-Type: text/plain; charset=us-ascii", "ação".encode(), "ação"),
        (b"Content-Type: text/plain; charset=utf-8", "ação".encode("cp1252"), "ação"),
        (b"Content-Type: text/plain; charset=klingon", "ação".encode(), "ação"),
        (b"Content-Type: text/plain; charset=punycode", b"plain-abc", "plain-abc"),
        (b"Content-Type: text/plain; charset=unicode_escape", rb"\x41", r"\x41"),
        (b"Content-Type: text/plain; charset=utf-7", b"+2AA-", "\ufffd"),
        (b'Content-Type: text/plain; charset="\x00"', b"kept", "kept"),
        (b"Content-Type: text/plain; charset=iso-2022-jp", b'\x1b$B$"\x1b(B', "あ"),
        (b"Content-Type: garbage", b"kept", "kept"),
        (b"Content-Type: text/plain; a*=x; a*0*=b; a*1=c", b"kept", "kept"),
        (b"Content-Transfer-Encoding: base64", b"!!!a2VwdA==", "kept"),
        (b"Content-Type: multipart/mixed; boundary=x", b"no boundary kept", "no boundary kept"),
        (b"Content-Type: multipart/mixed; boundary=x", b"--x\r\n\r\nkept", "kept"),
    ],
)
def test_body_is_readable_whatever_it_claims_to_be(
    inbox: Inbox, fields: bytes, body: bytes, expected: str
) -> None:
    path = inbox.receive(raw(fields, body))

    assert expected in inbox.text(path)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (b"=?utf-8?b?5pel5pys6Kqe?=", "日本語"),
        (b"=?iso-8859-1?q?Ol=E1?=", "Olá"),
        ("Olá".encode(), "Olá"),
        (b"=?utf-8?b?2YXYsdit2KjYpw==?=", "مرحبا"),
        (b"=?klingon?q?x?=", "x"),
        (b"\xff\xfe", "\ufffd"),
    ],
)
def test_subjects_of_any_script_are_readable(inbox: Inbox, subject: bytes, expected: str) -> None:
    path = inbox.receive(raw(b"Subject: " + subject))

    assert expected in inbox.get("/inbox/mails.json").json()["data"][0]["subject"]
    assert expected in inbox.text(path)


def test_directions_of_names_and_subjects_stay_in_their_places(inbox: Inbox) -> None:
    page = inbox.text(inbox.receive(email("\u202eevil", sender='"\u202eמרים" <m@example.com>')))

    assert page.count("<bdi>\u202eevil</bdi>") == 1
    assert "<bdi>\u202eמרים</bdi>" in page
    assert '<h1 dir="auto">' in page


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\x00" * 1000,
        raw(b"To: " + b"(" * 5000),
        raw(b"To: " + b"a," * 500_000),
        raw(b"To: " + b'"a" ' * 100_000),
        raw(b"Subject: " + b"=?utf-8?q?a?= " * 50_000),
        raw(b"Subject: " + b"x" * 1_000_000),
        raw(b"Subject: x\r\n" + b"X-A: b\r\n" * 50_000),
        raw(b"Content-Type: " + b"a*0=b;" * 50_000),
        raw(b"Content-Type: multipart/mixed; boundary=b", b"--b\r\n\r\n" * 100_000),
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
            for level in range(2000)
        ),
        b"Content-Type: message/rfc822\r\n\r\n" * 3000,
        raw(b"Content-Type: text/html", b"<div>" * 150_000),
        raw(b"Content-Type: text/html", b"<svg>" + b"<td>" * 150_000),
        raw(b"Content-Type: text/plain; charset=idna", b"a." * 300_000),
    ],
    ids=lambda source: f"{bytes(source[:45])!r}",
)
def test_outgrown_mail_costs_little_and_can_be_looked_at(inbox: Inbox, source: bytes) -> None:
    path = inbox.receive(source)

    page = inbox.get(path)
    listed = inbox.get("/inbox")

    assert (page.status_code, listed.status_code) == (200, 200)
    assert len(listed.content) < 20_000
    assert len(page.content) < 2_000_000
    assert inbox.get(f"{path}?view=headers").status_code == 200
    assert inbox.get(f"{path}/html").status_code in {200, 404}
    assert inbox.get(f"{path}/source").content == source.decode("utf-8", "replace").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n\r\n" * 20_000,
        b"".join(
            b"--b\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % level
            for level in range(150)
        ),
    ],
    ids=["many", "nested"],
)
def test_too_many_parts_are_not_taken_apart_and_it_says_so(inbox: Inbox, body: bytes) -> None:
    path = inbox.receive(raw(b"Content-Type: multipart/mixed; boundary=b", body))

    assert "too many parts" in inbox.text(path)
    assert not Elements(inbox.text(path)).classed("parts")


def test_html_nested_too_deeply_says_so(inbox: Inbox) -> None:
    path = inbox.receive(raw(b"Content-Type: text/html", b"<div>" * 100_000))

    document = inbox.text(f"{path}/html")

    assert "nested too deeply" in document
    assert len(document) < 2000


def test_large_body_is_shown_in_part_and_whole_as_source(inbox: Inbox) -> None:
    body = b"0123456789abcdef\r\n" * (10 * 1024 * 1024 // 18)
    path = inbox.receive(raw(b"Subject: large", body))

    page = inbox.get(path)

    assert len(page.content) < 1.2 * 1024 * 1024
    assert "shown in part" in page.text
    assert len(inbox.get(f"{path}?view=source").content) < 500_000
    assert len(inbox.get(f"{path}/source").content) > len(body)


@pytest.mark.parametrize(
    "mail_id",
    [
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        "..\\secret",
        "secret",
        "00000000000000000001-0123ABCD",
        "00000000000000000001-0123abcd.eml",
        "00000000000000000001-0123abcd%0a",
        "00000000000000000001-0123abcd%00",
        "٠" * 20 + "-0123abcd",
        "x" * 5000,
    ],
)
def test_only_ids_reach_the_disk(inbox: Inbox, mail_id: str) -> None:
    inbox.folder.mkdir()
    like_an_id = "00000000000000000001-0123abcd"
    names = ["../secret", "secret", like_an_id, f"{like_an_id}.eml", f"{like_an_id}\n"]
    for name in [*names, "٠" * 20 + "-0123abcd"]:
        (inbox.folder / f"{name}.eml").write_text("Subject: secret\n\nsecret")

    for path in (f"/inbox/{mail_id}", f"/inbox/{mail_id}/source", f"/inbox/{mail_id}/parts/1"):
        answer = inbox.get(path)
        assert answer.status_code == 404
        assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["..%2fpage.html", "%2e%2e/page.html", "..\\page.html", "nope.js"])
def test_assets_are_only_the_pages_own(inbox: Inbox, path: str) -> None:
    assert inbox.get(f"/inbox/assets/{path}").status_code == 404
