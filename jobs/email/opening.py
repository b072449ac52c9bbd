"""Opening a connection to a mail server, by aiosmtplib: TLS and signing in; then it is ours."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable

import aiosmtplib

from jobs.email.connection import Connection
from jobs.email.mail_server import MailServer
from jobs.email.replies import ConnectionLostError, SmtpTroubleError, as_stream_transport

WRONG_PASSWORD = 535  # RFC 4954 section 6


async def connect(
    server: MailServer, tls_context: Callable[[], ssl.SSLContext], timeout_seconds: float
) -> Connection:
    """Open a connection and sign in. Raises SmtpTroubleError; leaves nothing open then.

    `tls_context` is asked for only when TLS is spoken.
    """
    is_tls = server.security == "implicit"
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        local_hostname=_own_name(),
        # One limit for all of it, below: the library's own would arm one for each reply,
        # with `wait_for`, which may swallow a cancellation before Python 3.12.
        timeout=None,
        use_tls=is_tls,
        start_tls=False,
        tls_context=tls_context() if is_tls else None,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            await _open(smtp, server)
            await _secure(smtp, server, tls_context)
            await _sign_in(smtp, server)
    except TimeoutError:
        _cut(smtp)
        raise SmtpTroubleError(
            "smtp_timeout", f"no connection to {server} within {timeout_seconds:g} s"
        ) from None
    except BaseException:
        _cut(smtp)
        raise
    if smtp.transport is None:
        raise ConnectionLostError(f"{server} closed the connection")
    return Connection(
        as_stream_transport(smtp.transport), dict(smtp.esmtp_extensions), timeout_seconds
    )


async def _open(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    try:
        await smtp.connect()
        await _hello(smtp)
    except aiosmtplib.SMTPResponseException as error:
        raise SmtpTroubleError(
            "smtp_temporary" if 400 <= error.code < 500 else "smtp_unreachable",
            f"{server} takes no mail now: {error.code} {error.message}",
        ) from None
    except aiosmtplib.SMTPTimeoutError:
        raise TimeoutError from None
    except (aiosmtplib.SMTPException, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        if isinstance(cause, ssl.SSLError):
            raise _tls_trouble(server, cause) from None
        why = getattr(cause, "strerror", None) or "the connection was lost"
        raise SmtpTroubleError("smtp_unreachable", f"cannot reach {server}: {why}") from None


async def _hello(smtp: aiosmtplib.SMTP) -> None:
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if not 500 <= error.code < 600:
            raise
        await smtp.helo()


async def _secure(
    smtp: aiosmtplib.SMTP, server: MailServer, tls_context: Callable[[], ssl.SSLContext]
) -> None:
    if server.security not in {"required", "offered"}:
        return
    if not smtp.supports_extension("starttls"):
        if server.security == "required":
            raise SmtpTroubleError("smtp_tls", f"{server} offers no STARTTLS")
        return
    try:
        await smtp.starttls(tls_context=tls_context())
        await _hello(smtp)
    except ssl.SSLError as error:
        raise _tls_trouble(server, error) from None
    except aiosmtplib.SMTPResponseException as error:
        raise SmtpTroubleError(
            "smtp_tls", f"{server} refused STARTTLS: {error.code} {error.message}"
        ) from None
    except (aiosmtplib.SMTPException, OSError):
        raise ConnectionLostError(f"{server} closed the connection during STARTTLS") from None


def _cut(smtp: aiosmtplib.SMTP) -> None:
    """At once: a polite end of TLS would wait for a server that may be gone."""
    transport = smtp.transport
    smtp.close()
    if transport is not None:
        as_stream_transport(transport).abort()


def _tls_trouble(server: MailServer, error: ssl.SSLError) -> SmtpTroubleError:
    why = getattr(error, "verify_message", None) or error.reason or "the handshake failed"
    return SmtpTroubleError("smtp_tls", f"no TLS with {server}: {why}")


async def _sign_in(smtp: aiosmtplib.SMTP, server: MailServer) -> None:
    if server.username is None:
        return
    try:
        await _authenticate(smtp, server.username, server.password)
    except aiosmtplib.SMTPAuthenticationError as error:
        raise SmtpTroubleError(
            "smtp_temporary" if 400 <= error.code < 500 else "smtp_auth",
            # Not the reply's text: some servers repeat the user in it.
            f"{server} refused user and password: {error.code}",
        ) from None
    except aiosmtplib.SMTPServerDisconnected:
        raise ConnectionLostError(f"{server} closed the connection during sign-in") from None
    except (aiosmtplib.SMTPException, ValueError):
        raise SmtpTroubleError("smtp_auth", f"{server} offers no sign-in that we know") from None


async def _authenticate(smtp: aiosmtplib.SMTP, username: str, password: str) -> None:
    """By one method after the other, until one works or the server has said that it is the
    password: aiosmtplib's own `login` would say a wrong one three times, and providers count.

    CRAM-MD5 first where nothing else hides the password; then its 535 may only mean that the
    server cannot compute it from what it keeps.
    """
    methods = {"plain": smtp.auth_plain, "login": smtp.auth_login, "cram-md5": smtp.auth_crammd5}
    order = ["plain", "login", "cram-md5"]
    if smtp.get_transport_info("sslcontext") is None:
        order = ["cram-md5", "plain", "login"]
    refusal = aiosmtplib.SMTPException("no method that we know")
    for name in order:
        if name not in smtp.server_auth_methods:
            continue
        try:
            await methods[name](username, password)
            return
        except aiosmtplib.SMTPAuthenticationError as error:
            refusal = error
            if error.code < 500 or (error.code == WRONG_PASSWORD and name != "cram-md5"):
                break
    raise refusal


def _own_name() -> str:
    """For EHLO: a full name, or the address literal that RFC 5321 section 4.1.4 asks for then.

    Not `getfqdn`: it may ask the DNS, and block.
    """
    name = socket.gethostname()
    is_full_name = "." in name and re.fullmatch(r"[A-Za-z0-9.-]+", name) is not None
    return name if is_full_name else "[127.0.0.1]"
