"""What someone sees who starts a process with good, bad, or missing settings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import settings
from app.settings import Settings
from app.storage import S3Access, folder_of

ROOT = Path(__file__).parent.parent
DIGEST = "ab" * 32
PRODUCTION = {
    "ENVIRONMENT": "production",
    "REDIS_URL": "rediss://redis.example.com:6379",
    "API_KEYS": f"shop:submit:{DIGEST}",
    "STORAGE_URL": "file:/var/lib/recado",
    "SMTP_URL": "smtp://user:password@mail.example.com:587",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to start in, and no settings from the outside."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def refusal(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The faults that a start prints, one a line."""
    with pytest.raises(SystemExit) as exit_:
        settings.load()
    assert exit_.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    head, *faults = output.err.splitlines()
    assert head == "settings: cannot start"
    return [fault.strip() for fault in faults]


def named(faults: list[str]) -> list[str]:
    return sorted(fault.partition(":")[0] for fault in faults)


def test_all_faults_are_told_at_once_each_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {
        "PORT": "70000",
        "REDIS_URL": "http://redis",
        "SMTP_URL": "mail.example.com",
        "STORAGE_URL": "ftp://files",
        "MAIL_FROM": "nobody",
        "PUBLIC_URL": "https://",
        "RATE_LIMIT": "fast",
        "SECRET_KEY": "short",
        "WEBHOOK_SECRET": "whatever",
        "API_KEYS": "shop:everything:1234",
        "LOG_LEVEL": "loud",
        "WORKER_CONCURRENCY": "many",
        "SMTP_TIMEOUT_SECONDS": "inf",
    }
    set_all(monkeypatch, bad)

    assert named(refusal(capsys)) == sorted(bad)


def test_what_is_missing_is_told_together_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(
        monkeypatch, {"ENVIRONMENT": "production", "PORT": "high", "STORAGE_URL": "ftp://files"}
    )

    assert named(refusal(capsys)) == ["API_KEYS", "PORT", "REDIS_URL", "SMTP_URL", "STORAGE_URL"]


def test_two_mail_servers_are_one_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, PRODUCTION | {"MAILTRAP_TOKEN": "token", "PORT": "high"})

    faults = refusal(capsys)

    assert len(faults) == 2
    assert faults[0].startswith("PORT: ")
    assert faults[1] == "SMTP_URL and MAILTRAP_TOKEN are both set: keep one"


@pytest.mark.parametrize(
    "name", ["REDIS_URL", "SMTP_URL", "STORAGE_URL", "SECRET_KEY", "WEBHOOK_SECRET", "API_KEYS"]
)
@pytest.mark.parametrize(
    "value", ["{0}", "{0}://user:{0}@host:99999", "http://{0}@[host", "key:submit:{0}", "a:{0}:b"]
)
def test_no_secret_is_printed(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "hunter2secret"
    set_all(monkeypatch, {name: value.format(secret), "PORT": "high"})

    faults = refusal(capsys)

    assert secret not in "".join(faults)


@pytest.mark.parametrize("name", ["API_KEYS", "REDIS_URL", "STORAGE_URL", "SMTP_URL"])
def test_production_refuses_to_start_without_what_it_needs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, PRODUCTION | {name: ""})

    assert named(refusal(capsys)) == [name]


def test_production_starts_with_all_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION)

    loaded = settings.load()

    assert loaded.is_production
    assert loaded.log_style == "json"
    assert named(loaded.warnings()) == ["MAIL_FROM"]


def test_bucket_needs_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, PRODUCTION | {"STORAGE_URL": "s3://files/recado"})

    assert named(refusal(capsys)) == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]


def test_bucket_is_used_as_the_standard_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret"}
    more = {"AWS_DEFAULT_REGION": "eu-west-3", "AWS_ENDPOINT_URL": "https://s3.example"}
    set_all(monkeypatch, PRODUCTION | {"STORAGE_URL": "s3://files/recado"} | keys | more)

    access = settings.load().s3_access

    assert access == S3Access("an-id", "a-secret", None, "eu-west-3", "https://s3.example")
    assert "a-secret" not in repr(access)
    assert not set(keys) & set(settings.child_environment())


def test_files_in_redis_are_said_to_be_small(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION | {"STORAGE_URL": "redis:"})

    assert named(settings.load().warnings()) == ["MAIL_FROM", "STORAGE_URL"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "s3.example"),
        ("AWS_ENDPOINT_URL_S3", "https://user@s3.example"),
        ("AWS_REGION", "Paris, France"),
    ],
)
def test_address_of_a_bucket_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    set_all(monkeypatch, PRODUCTION | {name: value})

    assert named(refusal(capsys)) == [name]


@pytest.mark.parametrize(
    "url",
    [
        "file:",
        "file://nas/share",
        "file:folder?mode=1",
        "ftp://files",
        "s3://",
        "s3://A",
        "redis://localhost",
    ],
)
def test_storage_url_that_names_no_place_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    set_all(monkeypatch, PRODUCTION | {"STORAGE_URL": url})

    assert named(refusal(capsys)) == ["STORAGE_URL"]


def test_storage_stands_in_the_data_folder_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    set_all(monkeypatch, {"REDIS_URL": "redis://localhost", "DATA_DIR": "a b/100%"})

    place = folder_of(settings.load().storage_location)

    assert place == folder / "a b/100%" / "storage"


def test_mailtrap_token_stands_for_its_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, PRODUCTION | {"SMTP_URL": "", "MAILTRAP_TOKEN": "to/ken"})

    url = settings.load().mail_server_url

    assert url == "smtp://api:to%2Fken@live.smtp.mailtrap.io:587?tls=required"


def test_development_needs_nothing_but_redis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = refusal(capsys)
    assert named(faults) == ["REDIS_URL"]
    assert "bin/dev" in faults[0]

    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    assert named(settings.load().warnings()) == ["SMTP_URL"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/1",
        "rediss://:password@redis.example.com:6379?ssl_cert_reqs=none",
        "unix:///run/valkey.sock",
        "redis+sentinel://user:password@one:26379,two:26379/mymaster/0",
    ],
)
def test_every_way_to_reach_redis_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    assert settings.load().redis_location == url


def test_env_file_is_read_and_the_environment_wins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("REDIS_URL=redis://from-file\nPORT=8001\nUNRELATED=1\n")
    monkeypatch.setenv("PORT", "8002")

    loaded = settings.load()

    assert loaded.redis_location == "redis://from-file"
    assert loaded.port == 8002


def test_unreadable_env_file_is_a_fault_like_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".env").write_bytes(b"MAIL_FROM=\xff\xfe\n")
    monkeypatch.setenv("PORT", "high")

    assert named(refusal(capsys)) == [".env", "PORT", "REDIS_URL"]


def write_note(folder: Path, pid: int) -> None:
    (folder / ".data").mkdir()
    note = {"pid": pid, "redis_url": "redis://127.0.0.1:7001", "smtp_url": "smtp://127.0.0.1:7002"}
    (folder / ".data" / "dev.json").write_text(json.dumps(note))


def test_commands_beside_a_running_bin_dev_find_its_services(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_note(folder, os.getpid())

    loaded = settings.load()
    assert loaded.redis_location == "redis://127.0.0.1:7001"
    assert loaded.mail_server_url == "smtp://127.0.0.1:7002"

    monkeypatch.setenv("REDIS_URL", "redis://chosen")
    loaded = settings.load()
    assert loaded.redis_location == "redis://chosen"
    assert loaded.mail_server_url == "smtp://127.0.0.1:7002"


def test_note_of_a_dead_bin_dev_is_ignored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    write_note(folder, dead.pid)

    assert named(refusal(capsys)) == ["REDIS_URL"]


def test_production_ignores_a_running_bin_dev(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_note(folder, os.getpid())
    set_all(monkeypatch, PRODUCTION | {"REDIS_URL": ""})

    assert named(refusal(capsys)) == ["REDIS_URL"]


def test_process_with_bad_settings_ends_with_status_2(folder: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-c", "from app import settings; settings.load()"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": "high"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode == 2
    assert "PORT: " in started.stderr
    assert "Traceback" not in started.stderr


EXAMPLE_LINE = re.compile(r"#([A-Z0-9_]+)=(.*)")


def test_env_example_shows_every_setting_with_its_default(folder: Path) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    shown = [match for line in lines if (match := EXAMPLE_LINE.fullmatch(line))]
    (folder / ".env").write_text("\n".join(f"{line[1]}={line[2]}" for line in shown))

    assert sorted(line[1] for line in shown) == sorted(
        name.upper() for name in Settings.model_fields
    )
    assert Settings() == Settings(_env_file=None)
    for name, field in Settings.model_fields.items():
        line = next(line for line in shown if line[1] == name.upper())
        assert bool(line[2]) == bool(field.get_default()), f"{name}: the example's value"


def test_env_example_explains_every_setting() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    for number, line in enumerate(lines):
        if EXAMPLE_LINE.fullmatch(line):
            assert re.fullmatch(r"# \S.*", lines[number - 1]), f"{line}: no comment above"
