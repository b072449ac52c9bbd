"""What the values of settings may be: each kind checks itself and says what it should be.

A message never repeats the value, which may hold a password.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, InstanceOf, SecretStr
from pydantic_settings import NoDecode

from app.keyring import ApiKey
from app.storage_url import bucket_of, folder_of


def _split_words(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [word.strip() for word in value.split(",") if word.strip()]


def _parse_keys(value: Any) -> Any:
    return ApiKey.parse_list(value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _redis_url(value: SecretStr) -> SecretStr:
    schemes = {"redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"}
    _parts(value.get_secret_value(), schemes)
    return value


def _smtp_urls(value: SecretStr) -> SecretStr:
    from jobs.email.mail_server import MailServer  # noqa: PLC0415 - where one is set

    try:
        MailServer.parse_all(value.get_secret_value())
    except ValueError as error:
        # What urlsplit says may have a part of the password in it.
        said = str(error) if "mail server" in str(error) or "tls" in str(error) else ""
        raise ValueError(said or "must be smtp://user:password@host:587 or smtps://…") from None
    return value


def _storage_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    scheme = _parts(url, {"file", "s3", "redis"}).scheme
    if scheme == "file":
        folder_of(url)
    elif scheme == "s3":
        bucket_of(url)
    elif url != "redis:":
        raise ValueError("is redis: alone; REDIS_URL says where that is")
    return value


def _endpoint(value: str) -> str:
    parts = _parts(value, {"http", "https"})
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("names no host: https://s3.example.com")
    return value


def _region(value: str) -> str:
    if re.fullmatch(r"[a-z0-9-]{1,40}", value) is None:
        raise ValueError("is no region, like us-east-1")
    return value


def _mailbox(value: str) -> str:
    from jobs.email.addresses import AddressError, parse_address  # noqa: PLC0415 - where one is set

    try:
        parse_address(value)
    except AddressError as error:
        raise ValueError(str(error)) from error
    return value


def _public_url(value: str) -> str:
    if not _parts(value, {"http", "https"}).hostname:
        raise ValueError("names no host: https://jobs.example.com")
    return value.rstrip("/")


def _rate(value: str | None) -> str | None:
    if value is None or value.lower() == "off":
        return None
    if re.fullmatch(r"[1-9]\d{0,8}/[1-9]\d{0,5}", value) is None:
        raise ValueError("must be so many/seconds, like 100/60, or off")
    return value


def _secret_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 16:
        raise ValueError("must have at least 16 characters")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("whsec_"):
        raise ValueError("must begin with whsec_")
    return value


def _parts(url: str, schemes: set[str]) -> SplitResult:
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2]
        several = "sentinel" in parts.scheme
        _ = [urlsplit(f"//{host}").port for host in (hosts.split(",") if several else [hosts])]
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in schemes:
        raise ValueError(f"must begin with one of {', '.join(sorted(schemes))}")
    return parts


Words = Annotated[list[str], NoDecode, BeforeValidator(_split_words)]
# Made by parse_list, and by nobody else: pydantic need not learn what one consists of.
Keys = Annotated[list[InstanceOf[ApiKey]], NoDecode, BeforeValidator(_parse_keys)]
Lower = BeforeValidator(_lower)
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
SmtpUrls = Annotated[SecretStr, AfterValidator(_smtp_urls)]
StorageUrl = Annotated[SecretStr, AfterValidator(_storage_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Region = Annotated[str, AfterValidator(_region)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Rate = Annotated[str | None, AfterValidator(_rate)]
SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
