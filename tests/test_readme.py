"""What the READMEs tell people to set works as it stands there, and both tell the same."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.email.mail_server import MailServer

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.pt-BR.md")
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
# Comments in blocks of code, and what stands at the arrows of the diagram.
_PROSE = re.compile(r"( --> [^:\n]+): .*| +# .*|(?<=\]) {6,}.*")
_PLACEHOLDER = re.compile(r"//[^@/ ]+@|<\w+>")


@dataclass(frozen=True)
class Section:
    """What of a section is the same in every language."""

    level: int
    blocks: list[str]
    code: Counter[str]
    numbers: Counter[str]
    rows: int
    links: list[str]


def sections(readme: str) -> list[Section]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    found = []
    for part in re.split(r"^(?=##* [^#\n]+$)", text, flags=re.MULTILINE)[1:]:
        prose = _BLOCK.sub("", part)
        words = re.sub(r"`[^`]+`", "", prose)
        code = [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]
        found.append(
            Section(
                level=len(part) - len(part.lstrip("#")),
                blocks=[_PROSE.sub(r"\1", each) for each in _BLOCK.findall(part)],
                code=Counter(_PLACEHOLDER.sub("…", each) for each in code),
                numbers=Counter(re.findall(r"\d+", re.sub(r"(?<=\d)[.,](?=\d{3})", "", words))),
                rows=len(re.findall(r"^\|", prose, re.MULTILINE)),
                links=[each for each in re.findall(r"\]\(([^)]+)\)", prose) if each not in READMES],
            )
        )
    return found


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


def test_both_tell_the_same_section_by_section() -> None:
    """Its level, its code and settings, its numbers, tables and links, in the same order."""
    english, portuguese = map(sections, READMES)

    assert len(english) > 10
    assert sum(len(each.blocks) for each in english) >= 9
    assert portuguese == english


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_somewhere(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target
