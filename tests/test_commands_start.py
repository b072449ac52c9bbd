"""What a command loads: an operator who types it waits for that, and hardly for Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from jobs import catalog
from tests.harness import JOB_MODULES, ROOT
from tests.heart_scene import Scene
from tests.terminal import given

# Each took as long to load as all that the commands below do. The last ones are our own.
HEAVY = (
    "rq", "rich", "uvicorn", "starlette", "flask", "jinja2", "duckdb", "aiosmtplib", "httpx2",
    "email_validator", "nh3", "prometheus_client", "zstandard",
    "app.http.schemas", "jobs.email.params", "jobs.email.message", "jobs.data.params",
)  # fmt: skip
PROGRAM = """
import contextlib, io, json, sys
from app.cli import main

for line in json.load(sys.stdin):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(line)
    heavy = sorted({heavy} & sys.modules.keys())
    print(json.dumps([line, heavy, text.getvalue()]))
"""


async def one_failed(scene: Scene) -> dict[str, str]:
    """A job of a type that every process has, with all that is its type's own."""
    actor = await scene.worker()
    job_id = await scene.submit("log.write", params={"message": "a"}, max_attempts=5)
    await actor.fail(await actor.take(), "no box")
    error = json.loads(scene.redis.hget(f"rq:job:{job_id}", "x_error"))
    return {"id": job_id, "cause": error["fingerprint"]}


def environment(redis_url: str, folder: Path) -> dict[str, str]:
    """Of a command in production, so that all settings that check anything are there."""
    return {
        "REDIS_URL": redis_url,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "ENVIRONMENT": "production",
        "API_KEYS": f"shop:submit:{'ab' * 32}",
        "STORAGE_URL": f"file:{folder}",
        "SMTP_URL": "smtp://user:password@mail.example.com:587",
        "MAIL_FROM": "Shop <shop@example.com>",
    }


def test_commands_that_look_load_nothing_heavy(redis_url: str, tmp_path: Path) -> None:
    names = given(redis_url, one_failed)
    commands = [
        line.split()
        for line in (
            "failed list", f"failed show {names['cause']}", "failed operations", "jobs list",
            f"jobs show {names['id']}", "status --once", "queues", "workers", "schedules", "audit",
        )
    ]  # fmt: skip
    lines = [[*command, *form] for form in ([], ["--json"]) for command in commands]

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{heavy}", repr(set(HEAVY)))],
        cwd=tmp_path, env=environment(redis_url, tmp_path), input=json.dumps(lines),
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line for line, _, _ in seen] == lines
    assert [(line, heavy) for line, heavy, _ in seen if heavy] == []
    texts = {" ".join(line): text for line, _, text in seen}
    assert names["cause"] in texts["failed list"]
    # What is as its type has it stands in the catalog only: a command has to load that.
    assert json.loads(texts["jobs list --json"])["data"][0]["max_attempts"] == 5
    assert json.loads(texts[f"jobs show {names['id']} --json"])["max_attempts"] == 5


# Together they took a tenth of each command's time; and whose they are.
UNUSED = (
    "app.queue.transitions", "app.queue.submitting", "app.queue.packing",
    "app.queue.records.drafts", "app.storage", "jobs.email.templating", "jobs.email.notify_params",
)  # fmt: skip
LOOKS = (
    ("queues", ("app.queue.views", "app.queue.records.views", "app.queue.records.failed")),
    ("workers", ("app.queue.views", "app.queue.records.views", "app.queue.records.failed")),
    ("audit", ("app.queue.views", "app.queue.figures", "jobs.catalog")),
    ("schedules", ("app.queue.views", "app.queue.figures", "app.queue.records.views")),
    ("failed list", ("app.queue.views", "app.queue.figures", "jobs.catalog")),
    ("failed operations", ("app.queue.views", "app.queue.figures", "jobs.catalog")),
    ("status --once", ("app.queue.views", "app.queue.records.views")),
    ("jobs list", ("app.queue.figures", "app.queue.records.failed", "app.queue.records.acts")),
)


@pytest.mark.parametrize(("line", "others"), LOOKS, ids=[line for line, _ in LOOKS])
def test_command_loads_only_what_it_shows(
    redis_url: str, tmp_path: Path, line: str, others: tuple[str, ...]
) -> None:
    program = PROGRAM.replace("{heavy}", repr({*UNUSED, *others}))

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(redis_url, tmp_path),
        input=json.dumps([line.split()]), capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert json.loads(done.stdout)[1] == []


def test_connection_does_not_look_through_the_packages_that_are_installed(redis_url: str) -> None:
    program = (
        "import asyncio, importlib.metadata, sys\n"
        "from app.queue.connection import connect\n"
        "importlib.metadata.distribution = None\n"
        "async def main():\n"
        "    client = connect(sys.argv[1])\n"
        "    print((await client.client_info())['lib-ver'])\n"
        "    await client.aclose()\n"
        "asyncio.run(main())"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, redis_url], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip

    assert done.stdout == f"{redis.__version__}\n"


def test_scripts_are_put_together_when_they_are_called_or_all_at_a_start() -> None:
    program = (
        "from app.queue import scripts\n"
        "made = lambda: [each.name for each in vars(scripts).values()"
        " if isinstance(each, scripts.Script) and 'source' in vars(each)]\n"
        "before = made(); scripts.END.digest; one = made(); scripts.load()\n"
        "print(before, one, len(made()) > 30)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[] ['end'] True\n"


@pytest.mark.parametrize("prefix", [None, "shop", "{shop}"])
def test_keys_stand_under_the_prefix_of_rq(prefix: str | None) -> None:
    program = (
        "import sys; from app.queue.keys import PREFIX; before = 'rq' in sys.modules\n"
        "from rq.defaults import RQ_KEY_PREFIX; print(PREFIX, RQ_KEY_PREFIX, before)"
    )
    given_prefix = {} if prefix is None else {"RQ_KEY_PREFIX": prefix}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | given_prefix,
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    expected = "rq" if prefix is None else prefix
    assert done.stdout == f"{expected} {expected} False\n"


def test_prefix_that_rq_refuses_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import app.queue.keys"], cwd=ROOT,
        env=os.environ | {"RQ_KEY_PREFIX": "a b"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "Invalid RQ_KEY_PREFIX 'a b'" in done.stderr


def test_model_that_is_found_late_is_the_one_that_the_function_takes() -> None:
    for job_type in catalog.load([JOB_MODULES]):
        annotations = list(job_type.function.__annotations__.values())
        assert annotations[0] == job_type.params.__name__, job_type.name
