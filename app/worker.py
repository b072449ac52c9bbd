"""`python -m app.worker`: the worker process is put together here."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import uvloop

from app import logs
from app.http.submissions import Terms
from app.queue import scripts, strays
from app.queue.artifacts import ArtifactKeeper, Workspace
from app.queue.children import Children
from app.queue.connection import Reachability, connect
from app.queue.file_store import RedisStorage
from app.queue.files import RunFiles
from app.queue.operating import Operator
from app.queue.perform import check_result, validate
from app.queue.records.names import OPERATIONS_QUEUE
from app.queue.ticking import Ticker
from app.queue.worker import Worker, WorkerOptions
from app.schedule import Schedule
from app.schedules_file import declared_in, job_maker
from app.settings import Settings, child_environment, load, refuse
from app.storage import open_storage
from jobs import catalog
from jobs.catalog import QUEUE_PATTERN, Catalog
from jobs.context import JobContext, MailSender, NoMail
from jobs.email.templating import TemplatesFaultError, templates

STRAGGLER_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT; exit status 0 then, 1 when it could not go on."""
    options = _parser().parse_args(arguments)
    settings = load()
    logs.configure(settings.log_style, settings.log_level)
    job_types = _load_catalog(settings)
    scripts.load()
    queues = options.queues if options.queues is not None else job_types.queues()
    # Whichever queues this one is for: an operation must not want for a worker.
    queues = list(dict.fromkeys([*queues, OPERATIONS_QUEUE]))
    declared = declared_in(settings, job_types)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(
            _work(settings, job_types, _options(settings, options, queues), declared)
        )
    if status:
        sys.exit(status)


def perform(job_type: str, params: dict[str, Any]) -> Any:
    """Run one job here and now, once: what a stock `rq worker --serializer json` calls.

    Our own worker never calls it; it reads the type's name and runs it with retry and trail,
    and keeps artifacts, which are thrown away here: RQ's record has no place for them.
    Raises what the job raises.
    """
    settings = load()
    job_types = catalog.load(settings.job_modules)
    found = job_types.get(job_type, internal=True)
    checked = validate(found, params, _params_defaults(settings))
    with tempfile.TemporaryDirectory(prefix="recado-run-") as folder:
        context = JobContext(job_id=_stock_job_id(), job_type=job_type, artifacts_folder=folder)
        if not found.is_async:
            return check_result(found.function(checked, context))

        async def run() -> Any:
            context.mail = _mail(settings)
            try:
                return await found.function(checked, context)
            finally:
                await _close(context.mail)

        return check_result(asyncio.run(run()))


async def _work(
    settings: Settings,
    job_types: Catalog,
    options: WorkerOptions,
    declared: Sequence[Schedule] | None,
) -> int:
    client = connect(settings.redis_location)
    mail = _mail(settings)
    storage = open_storage(
        settings.storage_location,
        settings.s3_access,
        lambda: RedisStorage(client, Reachability(), settings.redis_file_limits),
    )
    ticker = Ticker(
        client, Reachability(), job_maker(Terms.of(settings, job_types)),
        most_queued=settings.max_queue_jobs, most_queued_bytes=settings.max_queue_bytes,
        declared=declared,
    )  # fmt: skip
    operator = Operator(client, settings.max_queue_jobs, settings.max_queue_bytes)
    job_types.add(operator.job_type)
    workspace = Workspace()
    strays.adopt_orphans()  # should the nursery die, they would be nobody's
    children = Children(
        {
            "job_modules": settings.job_modules,
            "queues": list(options.queues),
            "memory_bytes": settings.child_memory_bytes,
            "artifact_bytes": settings.most_artifact_bytes,
            "log_style": settings.log_style,
            "log_level": settings.log_level,
            "defaults": options.params_defaults,
        },
        child_environment(),
    )
    worker = Worker(
        client, settings.redis_location, job_types, options,
        mail=mail,
        files=RunFiles(client, storage),
        children=children,
        workspace=workspace,
        artifacts=ArtifactKeeper(storage, settings.most_artifact_bytes),
        probe_mail=getattr(mail, "probe", None) if "email" in options.queues else None,
        mail_refusal=getattr(mail, "refusal", None),
        ticker=ticker,
    )  # fmt: skip
    try:
        await asyncio.to_thread(workspace.open)
        status = await worker.run()
    finally:
        workspace.close()
        await storage.aclose()
        await operator.aclose()
        await ticker.aclose()
        await _close(mail)
        await client.aclose()
    await _leave_stragglers(status)
    return status


async def _leave_stragglers(status: int) -> None:
    """A job that swallows its cancellation would hold the process for ever: go without it.

    Its interruption has been reported; `asyncio.run` would wait for it.
    """
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks and (await asyncio.wait(tasks, timeout=STRAGGLER_SECONDS))[1]:
        logging.shutdown()
        os._exit(status)


def _mail(settings: Settings) -> MailSender:
    if settings.mail_server_url is None:
        return NoMail()
    from jobs.email.smtp import SmtpPool  # noqa: PLC0415 - only here: the web loads no aiosmtplib

    return SmtpPool(
        settings.mail_server_url,
        connections=settings.smtp_connections,
        timeout_seconds=settings.smtp_timeout_seconds,
        domain_limit=settings.smtp_domain_connections,
        domain_rate=settings.domain_rate,
    )


async def _close(mail: MailSender) -> None:
    if not isinstance(mail, NoMail):
        closing = getattr(mail, "aclose", None)
        if closing is not None and inspect.iscoroutinefunction(closing):
            await closing()


def _options(
    settings: Settings, options: argparse.Namespace, queues: Sequence[str]
) -> WorkerOptions:
    def chosen(value: Any, default: Any) -> Any:
        return default if value is None else value

    return WorkerOptions(
        queues=queues,
        concurrency=chosen(options.concurrency, settings.worker_concurrency),
        processes=chosen(options.processes, settings.worker_processes),
        grace_seconds=chosen(options.grace, settings.worker_grace_seconds),
        abandoned_limit=settings.abandoned_limit,
        retention_seconds=settings.retention_finished_seconds,
        failure_retention_seconds=settings.retention_failed_seconds,
        params_defaults=_params_defaults(settings),
        suppression_seconds=settings.suppression_seconds,
    )


def _params_defaults(settings: Settings) -> dict[str, Any]:
    return {"sender": settings.sender}


def _load_catalog(settings: Settings) -> Catalog:
    try:
        job_types = catalog.load(settings.job_modules)
        for job_type in job_types:
            if job_type.is_async:
                job_type.load()
        templates()
        return job_types
    except TemplatesFaultError as error:
        refuse(error.faults)
    except ImportError as error:
        refuse([str(error)])


def _stock_job_id() -> str:
    from rq import get_current_job  # noqa: PLC0415 - only under a stock worker

    job = get_current_job()
    return job.id if job is not None else "0" * 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.worker", description="Runs jobs, schedules and recovery."
    )
    parser.add_argument(
        "--queues", type=_queues, metavar="email,data", help="only these queues (default: all)"
    )
    parser.add_argument(
        "--concurrency", type=_positive, metavar="N", help="async jobs in flight at once"
    )
    parser.add_argument("--processes", type=_positive, metavar="N", help="forked jobs at once")
    parser.add_argument(
        "--grace", type=_seconds, metavar="S", help="seconds that running jobs get after SIGTERM"
    )
    return parser


def _queues(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if QUEUE_PATTERN.fullmatch(name) is None:
            raise argparse.ArgumentTypeError(f"{name!r} is no queue name")
    if not names:
        raise argparse.ArgumentTypeError("name at least one queue")
    return list(dict.fromkeys(names))


def _positive(text: str) -> int:
    if re.fullmatch(r"[1-9]\d{0,4}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    if re.fullmatch(r"\d{1,5}(\.\d+)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text)


if __name__ == "__main__":
    # The same module under its own name, so that `app.worker.perform` is not loaded twice.
    sys.modules["app.worker"] = sys.modules["__main__"]
    main()
