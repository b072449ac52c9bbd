"""What the READMEs tell people to set works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.email.mail_server import MailServer

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.pt-BR.md")


def mail_servers(readme: str) -> list[str]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    return re.findall(r"`SMTP_URL=(\S+)`", text)


@pytest.mark.parametrize("readme", READMES)
def test_every_mail_server_is_understood(readme: str) -> None:
    servers = {url: MailServer.parse(url) for url in mail_servers(readme)}

    assert len(servers) == 5
    for server in servers.values():
        if server.username is not None:
            assert server.security in {"required", "implicit"}
            assert server.password != ""
    assert "you@example.com" in {server.username for server in servers.values()}


def test_both_name_the_same_mail_servers() -> None:
    english, portuguese = (
        [re.sub(r"//[^@/]+@", "//…@", each) for each in mail_servers(readme)] for readme in READMES
    )

    assert english == portuguese


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_somewhere(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
