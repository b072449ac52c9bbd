"""What bin/dev does, put together: checks, claims, parts, and the page that says it is ready."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import closing
from urllib.parse import urlsplit

from app import settings as settings_
from app.dev import claims, probes, valkey
from app.dev.console import Console
from app.dev.part import Part
from app.dev.supervisor import Supervisor
from app.settings import Settings

NAMES = ("valkey", "catcher", "web", "worker")
EXAMPLES, EXAMPLES_JOBS = "examples", "examples.jobs"
# Beyond what a worker gives its jobs at the end, for recording how they went.
WORKER_RESERVE_SECONDS = 10.0


def main() -> int:
    """Run until a signal comes or a part ends. Returns the exit status."""
    options = _parser().parse_args()
    started = time.monotonic()
    settings = settings_.read()
    if settings.is_production and (faults := settings.missing()):
        settings_.refuse(faults)
    try:
        if settings.port:
            claims.require_port(settings.port)
        with claims.folder_claimed(settings.data_dir) as lock, closing(claims.Ports(4)) as ports:
            plan = Plan(settings, lock, ports.numbers, with_examples=options.examples)
            return _run(plan, started)
    except claims.ClaimError as error:
        sys.stderr.write(f"bin/dev: {error}.\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/dev",
        description="Run Valkey, a mail catcher, web and one worker until Ctrl-C."
        " Settings come from the environment and .env; .env.example lists them.",
    )
    parser.add_argument(
        "--examples",
        action="store_true",
        help="also run the application of examples/, which uses the service",
    )
    return parser


def _run(plan: Plan, started: float) -> int:
    console = Console(sys.stdout, plan.names)

    def on_ready() -> None:
        console.page(plan.welcome(time.monotonic() - started))

    note = claims.note_kept(
        plan.settings.data_dir / settings_.DEV_NOTE,
        pid=os.getpid(),
        redis_url=plan.embedded_redis_url,
        smtp_url=plan.embedded_smtp_url,
    )
    with note:
        return asyncio.run(Supervisor(console).run(plan.stages(), on_ready))


class Plan:
    """Which parts run, where they listen, and what each is told."""

    def __init__(
        self, settings: Settings, lock: int, ports: list[int], *, with_examples: bool = False
    ) -> None:
        self.settings = settings
        self._lock = lock
        self._with_examples = with_examples
        self.names = (*NAMES, EXAMPLES) if with_examples else NAMES
        self._valkey_port, self._smtp_port, any_port, self._examples_port = ports
        self._port = settings.port if settings.port else any_port
        embeds_redis = settings.redis_url is None
        embeds_mail = settings.mail_server_url is None
        self.embedded_redis_url = (
            f"redis://{probes.HOST}:{self._valkey_port}/0" if embeds_redis else None
        )
        self.embedded_smtp_url = f"smtp://{probes.HOST}:{self._smtp_port}" if embeds_mail else None

    def stages(self) -> list[list[Part]]:
        """What the others need comes first; within a stage all start at once."""
        services = []
        if self.embedded_redis_url is not None:
            services.append(self._valkey())
        if self.embedded_smtp_url is not None:
            services.append(self._catcher())
        ours = [self._web(), self._worker()]
        return [services, [*ours, self._examples()] if self._with_examples else ours]

    def _valkey(self) -> Part:
        folder = self.settings.data_dir.absolute() / "valkey"
        folder.mkdir(exist_ok=True)
        return Part(
            name="valkey",
            command=valkey.command(self._valkey_port, folder),
            is_ready=lambda _: probes.valkey_answers(self._valkey_port),
            readable=valkey.readable,
            kept_files=[self._lock],
        )

    def _catcher(self) -> Part:
        folder = self.settings.inbox_dir
        folder.mkdir(exist_ok=True)
        port = str(self._smtp_port)
        return Part(
            name="catcher",
            command=_module("app.dev.catcher", "--port", port, "--folder", str(folder)),
            is_ready=lambda _: probes.smtp_greets(self._smtp_port),
        )

    def _web(self) -> Part:
        return Part(
            name="web",
            command=_module("app.main"),
            environment=self._environment(),
            is_ready=lambda _: probes.web_is_healthy(self._port),
        )

    def _worker(self) -> Part:
        redis_url = self.embedded_redis_url or self.settings.redis_location
        return Part(
            name="worker",
            command=_module("app.worker"),
            environment=self._environment(),
            is_ready=probes.worker_is_registered(redis_url),
            grace_seconds=self.settings.worker_grace_seconds + WORKER_RESERVE_SECONDS,
        )

    def _examples(self) -> Part:
        port = self._examples_port
        return Part(
            name=EXAMPLES,
            command=_module("examples", "--port", str(port)),
            environment={"RECADO_URL": f"http://{probes.HOST}:{self._port}"},
            is_ready=lambda _: probes.web_is_healthy(port),
        )

    def _environment(self) -> dict[str, str]:
        told = {
            "PORT": str(self._port),
            "REDIS_URL": self.embedded_redis_url,
            "SMTP_URL": self.embedded_smtp_url,
            "JOB_MODULES": ",".join([*self.settings.job_modules, EXAMPLES_JOBS])
            if self._with_examples
            else None,
        }
        return {name: value for name, value in told.items() if value is not None}

    def welcome(self, seconds: float) -> str:
        """Where everything is, and a line to try it with."""
        base = f"http://{probes.HOST}:{self._port}"
        addresses = {
            "API": f"{base}/",
            "Docs": f"{base}/docs",
            "Console": f"{base}/console/",
            "Dashboard": f"{base}/dashboard",
            "Inbox": f"{base}/inbox",
            "Health": f"{base}/healthz",
        }
        if self.embedded_smtp_url is None:
            server = urlsplit(str(self.settings.mail_server_url)).hostname
            addresses["Inbox"] = f"none: e-mails really go out, through {server}"
        if self._with_examples:
            addresses["Examples"] = f"http://{probes.HOST}:{self._examples_port}/"
        lines = [f"  {name:<10} {address}" for name, address in addresses.items()]
        return "\n".join(
            [
                "",
                f"Ready in {seconds:.1f} s. Ctrl-C ends everything.",
                "",
                *lines,
                "",
                "Try it:",
                "",
                f"  {self._curl(base)}",
                "",
            ]
        )

    def _curl(self, base: str) -> str:
        key = "-H 'Authorization: Bearer YOUR-KEY' " if self.settings.api_keys else ""
        body = '{"to": "you@example.com", "subject": "Hello", "text": "It works."}'
        return f"curl -sS {base}/v1/emails {key}-H 'Content-Type: application/json' -d '{body}'"


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
