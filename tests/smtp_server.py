"""An SMTP server that speaks the protocol and does what a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

DEADLINE_SECONDS = 30.0
# Self-signed, for the name localhost and a hundred years, with its key.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
EXTENSIONS = ("SIZE 33554432", "8BITMIME", "SMTPUTF8", "PIPELINING")


class Cut:
    """Instead of a reply: the line goes dead."""

    def __repr__(self) -> str:
        return "cut"


class Silence:
    """Instead of a reply: none, to nothing any more, and the line stays open."""

    def __repr__(self) -> str:
        return "silence"


@dataclass(frozen=True)
class Torn:
    """The beginning of a reply, and the line goes dead."""

    beginning: str


@dataclass
class Hold:
    """Reply only when `release` is set; until then the test knows where the client waits."""

    reply: str
    release: asyncio.Event = field(default_factory=asyncio.Event)


Action = str | Cut | Silence | Torn | Hold


@dataclass
class Mail:
    """One accepted e-mail: envelope, source as it came (dots unstuffed), and on which line."""

    sender: str
    recipients: list[str]
    source: bytes
    connection: int
    mail_options: str


@dataclass
class _Rule:
    prefix: str
    action: Action
    times: int | None


class SmtpServer:
    """`async with SmtpServer() as server:` listens on a free loopback port.

    What was not scripted is answered like a server that takes everything. Steps are named
    by the command (`EHLO`, `MAIL`, `RCPT`, `DATA`, `RSET`, `QUIT`, `STARTTLS`, `AUTH`),
    `CONNECT` for the greeting and `.` for the end of a message. `BODY`, a Cut or a Silence, is
    met before any of the message is read.
    """

    def __init__(
        self,
        *,
        extensions: Iterable[str] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        users: dict[str, str] | None = None,
        reply_seconds: float = 0.0,
    ) -> None:
        self.extensions = list(extensions)
        self.users = users
        # How long a client waits for a reply.
        self.reply_seconds = reply_seconds
        # An e-mail whose last reply is withheld counts as taken all the same.
        self.takes_silently = False
        self.most_recipients: int | None = None
        self.mails: list[Mail] = []
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self.peak = 0
        self.signed_in: list[str] = []
        self.methods: list[str] = []
        self.secured = 0
        # How often a client had nothing to do but to wait for a reply.
        self.waits = 0
        self._tls = tls
        self._implicit_tls = implicit_tls
        self._rules: list[_Rule] = []
        self._steps: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self.gone = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._sessions: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def on(self, prefix: str, action: Action, *, times: int | None = 1) -> None:
        """Answer the next `times` commands that begin so with `action`; None: all of them."""
        self._rules.append(_Rule(prefix.upper(), action, times))

    def forget_rules(self) -> None:
        self._rules.clear()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, userinfo: str = "", *, host: str = "127.0.0.1", query: str = "") -> str:
        scheme = "smtps" if self._implicit_tls else "smtp"
        at = f"{userinfo}@" if userinfo else ""
        return f"{scheme}://{at}{host}:{self.port}{query}"

    async def seen(self, step: str, times: int = 1) -> None:
        """Wait until the step was reached so many times in all."""
        await self.until(lambda: self._steps[step] >= times, f"{step} x{times}")

    async def until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Wait for a change of the server that makes it true."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"the SMTP server never saw: {what}") from None

    def cut_all(self) -> None:
        """Every open line goes dead."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop_listening(self) -> None:
        """Refuse new connections; open ones stay."""
        assert self._server is not None
        self._server.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls if self._implicit_tls else None
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        self.gone.set()
        self.cut_all()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        self._writers.add(writer)
        self.connections += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await _Session(self, self.connections, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            writer.transport.abort()
        finally:
            self.open -= 1
            writer.close()
            self._writers.discard(writer)
            self._sessions.discard(session)
            await self.tell()

    async def tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def decide(self, step: str, line: str) -> Action | None:
        """What the test scripted for this command, if anything; and the test is told of it."""
        self.commands.append(line)
        self._steps[step] += 1
        await self.tell()
        return self.scripted(line)

    def scripted(self, line: str) -> Action | None:
        for rule in self._rules:
            if line.upper().startswith(rule.prefix) and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule.action
        return None

    @property
    def tls(self) -> ssl.SSLContext | None:
        return None if self._implicit_tls else self._tls


class _Session:
    """One connection."""

    def __init__(
        self,
        server: SmtpServer,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.server, self.number = server, number
        self.reader, self.writer = reader, writer
        self.sender: str | None = None
        self.mail_options = ""
        self.recipients: list[str] = []
        self.is_secure = False

    async def run(self) -> None:
        if not await self.answer("CONNECT", "CONNECT", "220 test.example ESMTP"):
            return
        while line := (await self.reader.readline()).decode().rstrip("\r\n"):
            step = line.split(" ")[0].upper()
            respond = getattr(self, f"do_{step.lower()}", None)
            if respond is None:
                if not await self.answer(step, line, "500 unknown command"):
                    return
            elif not await respond(line):
                return

    async def answer(
        self, step: str, line: str, usual: str, effect: Callable[[], None] | None = None
    ) -> bool:
        """Send the scripted or the usual reply. False: the line is dead.

        `effect` happens before a good reply goes out, so that a client that has the reply
        finds it done.
        """
        action = await self.server.decide(step, line)
        if isinstance(action, Hold):
            await action.release.wait()
            action = action.reply
        if isinstance(action, Cut):
            self.writer.transport.abort()
            return False
        if isinstance(action, Silence):
            if effect is not None and self.server.takes_silently:
                effect()
            await self.reader.read()
            return False
        if isinstance(action, Torn):
            self.writer.write(action.beginning.encode())
            await self.writer.drain()
            self.writer.close()
            return False
        self.reply = usual if action is None else action
        if effect is not None and self.replied_well:
            effect()
        await self._travel()
        self.writer.write(self.reply.encode() + b"\r\n")
        await self.writer.drain()
        if self.reply.startswith("421"):
            self.writer.close()
            return False
        return True

    async def _travel(self) -> None:
        """The client waits for the last of the commands that it sent together."""
        if self.reader._buffer:  # type: ignore[attr-defined]
            return
        self.server.waits += 1
        if self.server.reply_seconds:
            await asyncio.sleep(self.server.reply_seconds)

    @property
    def replied_well(self) -> bool:
        return self.reply[0] in "23"

    async def do_ehlo(self, line: str) -> bool:
        offered = [*self.server.extensions]
        if self.server.tls is not None and not self.is_secure:
            offered.append("STARTTLS")
        if self.server.users is not None:
            offered.append("AUTH PLAIN")
        lines = ["test.example", *offered]
        reply = [f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"]
        return await self.answer("EHLO", line, "\r\n".join(reply))

    async def do_helo(self, line: str) -> bool:
        return await self.answer("HELO", line, "250 test.example")

    async def do_starttls(self, line: str) -> bool:
        if not await self.answer("STARTTLS", line, "220 go ahead"):
            return False
        if self.replied_well:
            assert self.server.tls is not None
            await self.writer.start_tls(self.server.tls)
            self.is_secure = True
            self.server.secured += 1
        return True

    async def do_auth(self, line: str) -> bool:
        method, *answer = line.split()[1:]
        self.server.methods.append(method.upper())
        # Only PLAIN with its answer in the same line works; a test refuses the others.
        if method.upper() != "PLAIN":
            return await self.answer("AUTH", "AUTH", "504 5.5.4 not this one")
        _, user, password = b64decode(answer[0]).decode().split("\0")
        users = self.server.users or {}
        fits = users.get(user) == password
        return await self.answer(
            "AUTH",
            "AUTH",
            "235 ok" if fits else "535 5.7.8 no",
            lambda: self.server.signed_in.append(user),
        )

    async def do_mail(self, line: str) -> bool:
        if self.sender is not None:
            return await self.answer("MAIL", line, "503 nested MAIL")
        if not await self.answer("MAIL", line, "250 ok"):
            return False
        if self.replied_well:
            address, _, self.mail_options = line[len("MAIL FROM:") :].partition(" ")
            self.sender, self.recipients = address[1:-1], []
        return True

    async def do_rcpt(self, line: str) -> bool:
        usual = "250 ok" if self.sender is not None else "503 MAIL first"
        most = self.server.most_recipients
        if most is not None and len(self.recipients) >= most:
            usual = "452 4.5.3 too many recipients"
        if not await self.answer("RCPT", line, usual):
            return False
        if self.replied_well:
            self.recipients.append(line[len("RCPT TO:<") : -1])
        return True

    async def do_data(self, line: str) -> bool:
        is_ready = self.sender is not None and self.recipients
        usual = "354 go ahead" if is_ready else "503 RCPT first"
        if not await self.answer("DATA", line, usual):
            return False
        if not self.reply.startswith("354"):
            return True
        met = self.server.scripted("BODY")
        if met is not None:
            if isinstance(met, Cut):
                self.writer.transport.abort()
            else:
                self.reader._transport.pause_reading()  # type: ignore[attr-defined]
                await self.server.gone.wait()
            return False
        source = await self._read_source()
        mail = Mail(self.sender or "", self.recipients, source, self.number, self.mail_options)
        if not await self.answer(".", ".", "250 queued", lambda: self.server.mails.append(mail)):
            return False
        self.sender = None
        await self.server.tell()
        return True

    async def _read_source(self) -> bytes:
        lines: list[bytes] = []
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    async def do_rset(self, line: str) -> bool:
        self.sender = None
        return await self.answer("RSET", line, "250 ok")

    async def do_quit(self, line: str) -> bool:
        await self.answer("QUIT", line, "221 bye")
        return False


def server_tls() -> ssl.SSLContext:
    """A server's context with the certificate in CERTIFICATE."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context
