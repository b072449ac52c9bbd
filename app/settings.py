"""The only reader of the environment: every setting, checked at start, all faults at once.

Annotations are no texts here: pydantic would parse and evaluate each one at every start.
"""

import json
import os
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn
from urllib.parse import quote, urlsplit

# Nobody's plugins are wanted: to look for them pydantic reads what every installed package says,
# and does so for the first model that is made, which is one of pydantic-settings' own.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from app.keyring import Keyring
from app.setting_types import (
    Endpoint,
    Keys,
    Lower,
    Mailbox,
    PublicUrl,
    Rate,
    RedisUrl,
    Region,
    SecretKey,
    SmtpUrls,
    StorageUrl,
    WebhookSecret,
    Words,
)

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource

    from app.storage import RedisFileLimits, S3Access

SETTINGS_FAULT_STATUS = 2
# In the data folder while bin/dev runs: where its Valkey and its mail catcher listen.
DEV_NOTE = "dev.json"
MAILTRAP_URL = "smtp://api:{token}@live.smtp.mailtrap.io:587?tls=required"
DEVELOPMENT_SENDER = "Recado <recado@example.test>"
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Field `redis_url` is the variable `REDIS_URL`, and so on. Empty means not set."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    environment: Annotated[Literal["development", "production"], Lower] = "development"
    redis_url: RedisUrl | None = None
    secret_key: SecretKey | None = None
    job_modules: Words = []
    schedules_file: Path | None = None
    cors_origins: Words = []
    rate_limit: Rate = None
    smtp_url: SmtpUrls | None = None
    mailtrap_token: SecretStr | None = None
    mail_from: Mailbox | None = None
    storage_url: StorageUrl | None = None
    api_keys: Keys = []
    webhook_secret: WebhookSecret | None = None
    public_url: PublicUrl | None = None
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: Region | None = None
    aws_default_region: Region | None = None
    aws_endpoint_url_s3: Endpoint | None = None
    aws_endpoint_url: Endpoint | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = "info"
    log_format: Annotated[Literal["text", "json"] | None, Lower] = None

    data_dir: Path = Path(".data")
    max_body_bytes: Annotated[int, Field(ge=1024)] = 25 * MIB
    max_upload_bytes: Annotated[int, Field(ge=1024)] = 512 * MIB
    max_artifact_bytes: Annotated[int, Field(ge=1024)] = 512 * MIB
    max_uploads_per_key: Annotated[int, Field(ge=1)] = 10_000
    redis_file_bytes: Annotated[int, Field(ge=1024)] = 8 * MIB
    redis_files_bytes: Annotated[int, Field(ge=1024)] = 64 * MIB
    redis_file_seconds: Annotated[int, Field(ge=3600, le=366 * 24 * 3600)] = 30 * 24 * 3600
    upload_retention_seconds: Annotated[int, Field(ge=60, le=366 * 24 * 3600)] = 24 * 3600
    submit_timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 4.0
    max_queue_jobs: Annotated[int, Field(ge=1)] = 1_000_000
    max_queue_bytes: Annotated[int, Field(ge=MIB)] = 2 * 1024 * MIB
    worker_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 72
    worker_processes: Annotated[int, Field(ge=1, le=256)] = 2
    worker_grace_seconds: Annotated[float, Field(ge=0)] = 20.0
    child_memory_bytes: Annotated[int, Field(ge=64 * MIB)] = 512 * MIB
    abandoned_limit: Annotated[int, Field(ge=1, le=100)] = 5
    retention_finished_seconds: Annotated[int, Field(ge=0)] = 24 * 3600
    retention_failed_seconds: Annotated[int, Field(ge=0)] = 30 * 24 * 3600
    smtp_connections: Annotated[int, Field(ge=1, le=1000)] = 72
    smtp_timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    smtp_domain_connections: Annotated[int, Field(ge=1, le=1000)] = 64
    smtp_domain_rate: Rate = None
    suppression_seconds: Annotated[int, Field(ge=0, le=10 * 366 * 24 * 3600)] = 30 * 24 * 3600
    session_seconds: Annotated[int, Field(ge=60)] = 12 * 3600

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: "PydanticBaseSettingsSource",
        env_settings: "PydanticBaseSettingsSource",
        dotenv_settings: "PydanticBaseSettingsSource",
        file_secret_settings: "PydanticBaseSettingsSource",
    ) -> "tuple[PydanticBaseSettingsSource, ...]":
        """What is given, the environment, `.env`: in this order.

        An empty `.env` is not asked: each source takes every field's annotation apart anew.
        """
        sources = [init_settings, env_settings]
        if isinstance(dotenv_settings, DotEnvSettingsSource) and dotenv_settings.env_vars:
            sources.append(dotenv_settings)
        return tuple(sources)

    @model_validator(mode="after")
    def _check_mail_server(self) -> "Settings":
        if self.smtp_url is not None and self.mailtrap_token is not None:
            raise ValueError("SMTP_URL and MAILTRAP_TOKEN are both set: keep one")
        return self

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @cached_property
    def keyring(self) -> Keyring:
        return Keyring(self.api_keys)

    @property
    def rate(self) -> tuple[int, int] | None:
        """Requests, and the seconds in which a key may send so many; None: any number."""
        return _rate(self.rate_limit)

    @property
    def domain_rate(self) -> tuple[int, int] | None:
        """E-mails, and the seconds in which a worker may begin so many to one domain."""
        return _rate(self.smtp_domain_rate)

    @property
    def mail_server_url(self) -> str | None:
        """Where mail goes out; None when nothing is configured."""
        if self.mailtrap_token is not None:
            return MAILTRAP_URL.format(token=quote(self.mailtrap_token.get_secret_value(), safe=""))
        return self.smtp_url.get_secret_value() if self.smtp_url is not None else None

    @property
    def sender(self) -> str | None:
        """The `from` of an e-mail that names none."""
        if self.mail_from is None and not self.is_production:
            return DEVELOPMENT_SENDER
        return self.mail_from

    @property
    def log_style(self) -> Literal["text", "json"]:
        if self.log_format is not None:
            return self.log_format
        return "json" if self.is_production else "text"

    @property
    def inbox_dir(self) -> Path:
        """Where the local catcher keeps mail, in development."""
        return self.data_dir / "inbox"

    @property
    def storage_location(self) -> str:
        """Where uploads and artifacts are kept, as a STORAGE_URL."""
        if self.storage_url is not None:
            return self.storage_url.get_secret_value()
        return f"file:{quote(str(self.data_dir / 'storage'))}"

    @property
    def s3_access(self) -> "S3Access | None":
        """As whom, and where, for a storage of `s3:`; None when no key is set."""
        if self.aws_access_key_id is None or self.aws_secret_access_key is None:
            return None
        from app.storage import S3Access  # noqa: PLC0415 - most that read settings store nothing

        token = self.aws_session_token
        return S3Access(
            key_id=self.aws_access_key_id.get_secret_value(),
            secret=self.aws_secret_access_key.get_secret_value(),
            session_token=token.get_secret_value() if token is not None else None,
            region=self.aws_region or self.aws_default_region or "us-east-1",
            endpoint=self.aws_endpoint_url_s3 or self.aws_endpoint_url,
        )

    @property
    def redis_file_limits(self) -> "RedisFileLimits":
        """Of a storage of `redis:`."""
        from app.storage import RedisFileLimits  # noqa: PLC0415 - as above

        return RedisFileLimits(
            self.redis_file_bytes, self.redis_files_bytes, self.redis_file_seconds
        )

    @property
    def most_artifact_bytes(self) -> int:
        """Of one file that a job leaves: what is allowed, and what the storage takes."""
        if urlsplit(self.storage_location).scheme == "redis":
            return min(self.max_artifact_bytes, self.redis_file_bytes)
        return self.max_artifact_bytes

    @property
    def redis_location(self) -> str:
        if self.redis_url is None:
            raise RuntimeError("REDIS_URL is checked at start")
        return self.redis_url.get_secret_value()

    def missing(self) -> list[str]:
        """What the process cannot start without, as sentences that name the variable."""
        faults = []
        if self.redis_url is None:
            hint = "" if self.is_production else " (bin/dev starts an embedded one)"
            faults.append(f"REDIS_URL: not set{hint}")
        if urlsplit(self.storage_location).scheme == "s3":
            faults += [
                f"{name.upper()}: not set, which STORAGE_URL=s3: needs"
                for name in ("aws_access_key_id", "aws_secret_access_key")
                if getattr(self, name) is None
            ]
        if not self.is_production:
            return faults
        if not self.api_keys:
            faults.append("API_KEYS: not set; make one with python -m app keys new NAME")
        if self.storage_url is None:
            faults.append("STORAGE_URL: not set")
        if self.mail_server_url is None:
            faults.append("SMTP_URL: not set, nor MAILTRAP_TOKEN")
        return faults

    def warnings(self) -> list[str]:
        """What works but deserves a look, as sentences that name the variable."""
        notes = []
        if self.mail_from is None and self.is_production:
            notes.append("MAIL_FROM: not set; every e-mail must name its sender")
        if urlsplit(self.storage_location).scheme == "redis":
            notes.append(
                f"STORAGE_URL: redis: takes files of {self.redis_file_bytes} bytes at most,"
                f" {self.redis_files_bytes} in all"
            )
        if not self.is_production and self.mail_server_url is None:
            notes.append("SMTP_URL: not set; e-mails will wait and be retried")
        return notes


def load(**overrides: Any) -> Settings:
    """Read and check the settings, or print every fault and exit with status 2."""
    settings, faults = _read(overrides)
    services = {} if settings.is_production else _running_development_services(settings)
    if services:
        settings, _ = _read(services | overrides)
    faults = _together(faults, settings.missing())
    if faults:
        refuse(faults)
    return settings


def read(**overrides: Any) -> Settings:
    """The same, but nothing has to be set: for the one who starts what is missing."""
    settings, faults = _read(overrides)
    if faults:
        refuse(faults)
    return settings


def refuse(faults: list[str]) -> NoReturn:
    """Print one line a fault to stderr and exit with status 2."""
    sys.stderr.write("settings: cannot start\n" + "".join(f"  {fault}\n" for fault in faults))
    raise SystemExit(SETTINGS_FAULT_STATUS)


def _read(overrides: dict[str, Any]) -> tuple[Settings, list[str]]:
    """The settings with defaults in place of what is at fault, and the faults."""
    faults: list[str] = []
    while True:
        try:
            return Settings(**overrides), faults
        except ValidationError as error:
            found = error.errors()
        except (OSError, UnicodeDecodeError):
            if "_env_file" in overrides:
                raise
            faults.append(".env: cannot be read as UTF-8 text")
            overrides = overrides | {"_env_file": None}
            continue
        faults += [_describe(fault) for fault in found]
        # A fault that is not one variable's: two servers are named (_check_mail_server).
        names = {str(fault["loc"][0]) if fault["loc"] else "mailtrap_token" for fault in found}
        overrides = overrides | {name: _default(name) for name in names}


def _rate(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    count, _, seconds = text.partition("/")
    return int(count), int(seconds)


def _default(name: str) -> Any:
    return Settings.model_fields[name].get_default()


def _together(faults: list[str], missing: list[str]) -> list[str]:
    """Both lists; what is set and at fault is not missing as well."""
    named = {fault.partition(":")[0] for fault in faults}
    return faults + [fault for fault in missing if fault.partition(":")[0] not in named]


def child_environment() -> dict[str, str]:
    """The environment for child processes that run job functions: without our secrets."""
    secret = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation) or name == "api_keys"
    }
    return {name: value for name, value in os.environ.items() if name.upper() not in secret}


def is_colourless() -> bool:
    """Whether who sits there wants no colours (no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in {"dumb", "unknown"}


def _running_development_services(settings: Settings) -> dict[str, Any]:
    """Addresses of what a running bin/dev started, for commands beside it.

    What is set wins over them.
    """
    try:
        found = json.loads((settings.data_dir / DEV_NOTE).read_text())
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    services = {}
    if settings.redis_url is None:
        services["redis_url"] = found.get("redis_url")
    if settings.mail_server_url is None:
        services["smtp_url"] = found.get("smtp_url")
    return services


def _describe(fault: Any) -> str:
    names = [str(part).upper() for part in fault["loc"][:1]]
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{names[0]}: {message}" if names else message
