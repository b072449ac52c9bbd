"""Whose workers are measured: how each is started, filled and counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import PEERS, ROOT


@dataclass(frozen=True, slots=True)
class WorkContender:
    """One kind of worker process. `peer` names its requirements in peers/; None: ours.

    `client` fills its queue: a module, like `worker`, whose arguments follow. `guess` is what
    it may do a second, for the length of its first burst. `shown` are the packages whose
    versions the report states.
    """

    name: str
    label: str
    peer: str | None
    client: str
    worker: tuple[str, ...]
    guess: int
    shown: tuple[str, ...] = ()
    log_level: str = "warning"

    def filling(self, python: Path) -> list[str]:
        client = "benchmarks.peers.client" if self.peer is None else "client"
        return [str(python), "-m", client, self.client]

    @property
    def folder(self) -> Path:
        return ROOT if self.peer is None else PEERS

    def environment(self, redis_url: str, smtp_port: int, folder: Path) -> Mapping[str, str]:
        environment = {
            "BENCHMARK_REDIS_URL": redis_url,
            "BENCHMARK_SMTP_PORT": str(smtp_port),
            "RQ_REDIS_URL": redis_url,
        }
        if self.peer is not None:
            return environment
        return environment | {
            "ENVIRONMENT": "development",
            "JOB_MODULES": "benchmarks.ours",
            "REDIS_URL": redis_url,
            "SMTP_URL": f"smtp://127.0.0.1:{smtp_port or 9}",
            "DATA_DIR": str(folder),
            "STORAGE_URL": f"file:{folder}",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": self.log_level,
        }


_OURS = ("app.worker", "--queues", "benchmark,email", "--concurrency", "64")

RECADO = WorkContender(
    "recado", "Recado", None, "benchmarks.ours", _OURS, 2500, ("rq", "redis", "hiredis")
)
# As deployed: of its 72 places a domain gets 64.
RECADO_DEFAULTS = replace(RECADO, worker=("app.worker", "--queues", "benchmark,email"))
LOGGING = WorkContender(
    "logging", "Recado, two log lines a job", None, "benchmarks.ours", _OURS, 2300,
    log_level="info",
)  # fmt: skip
SAQ = WorkContender(
    "saq", "SAQ, concurrency 64", "with_saq", "work_saq", ("saq", "work_saq.settings"), 1500,
    ("saq", "redis", "hiredis", "aiosmtplib"),
)  # fmt: skip
ARQ = WorkContender(
    "arq", "ARQ, 64 jobs", "with_arq", "work_arq", ("arq", "work_arq.WorkerSettings"), 700,
    ("arq", "redis", "hiredis"),
)  # fmt: skip
CELERY = WorkContender(
    "celery", "Celery, prefork -c 2", "with_celery", "work_celery",
    ("celery", "-A", "work_celery", "worker", "-P", "prefork", "-c", "2", "-l", "warning",
     "--without-gossip", "--without-mingle", "--without-heartbeat"),
    1000, ("celery", "kombu", "redis"),
)  # fmt: skip
_RQ = ("rq.cli", "worker", "--serializer", "json", "--logging_level", "WARNING")
RQ = WorkContender(
    "rq", "RQ Worker", "with_rq", "work_rq", (*_RQ, "benchmark"), 80, ("rq", "redis", "hiredis")
)
RQ_SIMPLE = WorkContender(
    "rq_simple", "RQ SimpleWorker", "with_rq", "work_rq",
    (*_RQ, "--worker-class", "rq.SimpleWorker", "benchmark"), 300,
)  # fmt: skip
DRAMATIQ = WorkContender(
    "dramatiq", "dramatiq, 8 threads", "with_dramatiq", "work_dramatiq",
    ("dramatiq", "-p", "1", "-t", "8", "work_dramatiq"), 1500, ("dramatiq", "redis", "hiredis"),
)  # fmt: skip
TASKIQ = WorkContender(
    "taskiq", "taskiq, one process", "with_taskiq", "work_taskiq",
    ("taskiq", "worker", "work_taskiq:broker", "--workers", "1", "--max-async-tasks", "64",
     "--log-level", "WARNING"),
    1500, ("taskiq", "taskiq-redis", "redis", "uvloop"),
)  # fmt: skip
HUEY = WorkContender(
    "huey", "huey, one thread", "with_huey", "work_huey",
    ("huey.bin.huey_consumer", "work_huey.huey", "-q", "-n", "-k", "thread", "-w", "1"),
    3000, ("huey", "redis", "hiredis"),
)  # fmt: skip

EVERYBODY = (
    RECADO, LOGGING, SAQ, HUEY, TASKIQ, DRAMATIQ, CELERY, ARQ, RQ_SIMPLE, RQ,
)  # fmt: skip
PYTHON = Path(sys.executable)
