"""`python -m app.dev.catcher --port N --folder PATH`: takes every e-mail and sends none.

The local stand-in for a mail server: what it accepts lies in the folder before the
sender hears 250, and the inbox page shows it from there. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP

from app import logs
from app.http.mailbox import SUFFIX, Envelope, encode, is_mail_id, mail_id

HOST = "127.0.0.1"
MAX_MAIL_BYTES = 30 * 1024 * 1024
# A day of trying things out, and quick to list; older e-mails go.
KEPT_MAILS = 500
# 500 of the largest would fill a laptop's disk.
KEPT_BYTES = 1024 * 1024 * 1024
_INCOMING = ".incoming-"
# The sender keeps the e-mail and tries again (RFC 5321, 4.2.1).
_TRY_AGAIN = "451 4.3.0 could not be stored, try again later"

_log = logging.getLogger("catcher")


class MailFolder:
    """Writes e-mails, each a file that appears whole, and drops the oldest beyond the limits."""

    def __init__(
        self, folder: Path, kept_mails: int = KEPT_MAILS, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._folder = folder
        self._kept_mails = kept_mails
        self._kept_bytes = kept_bytes
        self._last_microseconds = 0
        self._files: deque[tuple[Path, int]] = deque()
        self._total_bytes = 0

    def open(self) -> None:
        """Make the folder, clear what a killed process left, and find what is kept so far."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in self._folder.glob(f"{_INCOMING}*"):
            leftover.unlink(missing_ok=True)
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if is_mail_id(path.stem):
                self._count(path, path.stat().st_size)
        self._drop_oldest()

    def save(self, sender: str, recipients: list[str], source: bytes) -> str:
        """Store one e-mail and return its id. Raises OSError when the disk does not take it."""
        # Two in one microsecond, or a clock set back, still sort by arrival.
        now = max(time.time_ns() // 1000, self._last_microseconds + 1)
        self._last_microseconds = now
        envelope = Envelope(sender, tuple(recipients), datetime.fromtimestamp(now / 1e6, UTC))
        stored = encode(envelope, source)
        path = self._folder / f"{mail_id(now)}{SUFFIX}"
        self._write(path, stored)
        self._count(path, len(stored))
        self._drop_oldest()
        return path.stem

    def _write(self, path: Path, stored: bytes) -> None:
        """All or nothing. No fsync: a power cut may take a caught e-mail, it went nowhere."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, incoming = tempfile.mkstemp(prefix=_INCOMING, dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(stored)
            Path(incoming).replace(path)
        except OSError:
            Path(incoming).unlink(missing_ok=True)
            raise

    def _count(self, path: Path, size_bytes: int) -> None:
        self._files.append((path, size_bytes))
        self._total_bytes += size_bytes

    def _drop_oldest(self) -> None:
        while len(self._files) > self._kept_mails or (
            self._total_bytes > self._kept_bytes and len(self._files) > 1
        ):
            path, size_bytes = self._files.popleft()
            self._total_bytes -= size_bytes
            path.unlink(missing_ok=True)


class Catcher:
    """What aiosmtpd asks about each e-mail; names are aiosmtpd's."""

    def __init__(self, folder: MailFolder) -> None:
        self._folder = folder
        # One writer at a time: the folder's book-keeping is not made for threads.
        self._turn = asyncio.Lock()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        async with self._turn:
            try:
                stored_id = await asyncio.to_thread(
                    self._folder.save, envelope.mail_from, envelope.rcpt_tos, envelope.content
                )
            except OSError as error:
                logs.event(_log, "mail_not_stored", logging.ERROR, reason=error.strerror)
                return _TRY_AGAIN
        logs.event(
            _log,
            "mail_caught",
            mail_id=stored_id,
            recipients=len(envelope.rcpt_tos),
            size_bytes=len(envelope.content),
        )
        return f"250 2.0.0 OK {stored_id}"

    async def handle_exception(self, error: Exception) -> str:
        """Whatever one connection brought up, the process goes on and the sender keeps its mail."""
        logs.event(_log, "connection_failed", logging.ERROR, error_class=type(error).__name__)
        return _TRY_AGAIN


async def serve(port: int, folder: MailFolder) -> None:
    """Catch until SIGTERM or SIGINT. Raises OSError when port or folder cannot be used."""
    await asyncio.to_thread(folder.open)
    loop = asyncio.get_running_loop()
    catcher = Catcher(folder)

    def connection() -> Any:
        return SMTP(
            catcher,
            data_size_limit=MAX_MAIL_BYTES,
            enable_SMTPUTF8=True,
            hostname="catcher.localhost",
            ident="Recado mail catcher",
            loop=loop,
        )

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(connection, HOST, port)
    logs.event(_log, "catcher_ready", port=server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()
    logs.event(_log, "catcher_stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="app.dev.catcher", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on loopback; 0 takes a free one")
    parser.add_argument("--folder", type=Path, required=True, help="where e-mails are kept")
    arguments = parser.parse_args()
    logs.configure("text", "info")
    # aiosmtpd logs every address and every line at the levels below.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(arguments.port, MailFolder(arguments.folder)))
    except OSError as error:
        sys.stderr.write(f"catcher: cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
