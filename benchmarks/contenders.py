"""Who is measured: how each is installed and started, and where its jobs are to be found."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.load import API_KEY

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True)
class Contender:
    """One web server. `peer` names its module and requirements in peers/; None: ours.

    `jobs` counts what it left in Valkey; None where it leaves nothing. `shown` are the
    packages whose versions the report states.
    """

    name: str
    label: str
    peer: str | None
    module: str
    jobs: Callable[[redis.Redis], int] | None
    shown: tuple[str, ...] = ()

    def command(self, python: Path, port: int) -> list[str]:
        if self.peer is None:
            return [str(python), "-m", self.module]
        return [
            str(python), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port),
            "--loop", "uvloop", "--http", "httptools", "--ws", "none",
            "--no-access-log", "--no-server-header", "--log-level", "warning",
            f"{self.module}:app",
        ]  # fmt: skip

    @property
    def folder(self) -> Path:
        return ROOT if self.peer is None else PEERS

    def environment(self, redis_url: str, port: int, folder: Path) -> Mapping[str, str]:
        if self.peer is not None:
            return {"BENCHMARK_REDIS_URL": redis_url}
        digest = hashlib.sha256(API_KEY.encode()).hexdigest()
        return {
            "ENVIRONMENT": "development",
            "PORT": str(port),
            "REDIS_URL": redis_url,
            "SMTP_URL": "smtp://127.0.0.1:9",
            "API_KEYS": f"benchmark:submit:{digest}",
            "DATA_DIR": str(folder),
            "STORAGE_URL": f"file:{folder}",
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "info",
        }


CONTENDERS = (
    Contender("no_queue", "Recado, no queue", None, "benchmarks.no_queue", None),
    Contender(
        "recado", "Recado", None, "app.main",
        lambda client: client.llen("rq:queue:email"), ("starlette", "rq", "redis", "pydantic"),
    ),
    Contender(
        "celery", "FastAPI + Celery", "with_celery", "with_celery",
        lambda client: client.llen("celery"), ("fastapi", "celery", "redis"),
    ),
    Contender(
        "arq", "FastAPI + ARQ", "with_arq", "with_arq",
        lambda client: client.zcard("arq:queue"), ("fastapi", "arq", "redis"),
    ),
    Contender(
        "saq", "FastAPI + SAQ", "with_saq", "with_saq",
        lambda client: client.llen("saq:default:queued"), ("fastapi", "saq", "redis"),
    ),
    Contender(
        "rq", "Starlette + RQ in a thread", "with_rq", "with_rq",
        lambda client: client.llen("rq:queue:email"), ("starlette", "rq", "redis"),
    ),
)  # fmt: skip


def installed(peer: str | None, cache: Path) -> Path:
    """The Python of a peer: ours, or one in an environment made on first use."""
    if peer is None:
        return Path(sys.executable)
    requirements = PEERS / f"{peer}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = cache / f"{peer}-{digest}"
    if not home.exists():
        print(f"installing {peer} …", file=sys.stderr, flush=True)
        # Made under another name first: a half-made one must not pass for whole. Its Python
        # is called with -m, so that it does not mind being moved.
        unready = home.with_name(home.name + ".unready")
        shutil.rmtree(unready, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(unready)], check=True)
        pip = [str(unready / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "-r", str(requirements)], check=True)
        unready.rename(home)
    return home / "bin" / "python"


def versions(names: Sequence[str], python: Path) -> dict[str, str]:
    """Of packages, as that Python has them."""
    code = (
        "import sys\nfrom importlib.metadata import version\n"
        "for name in sys.argv[1:]: print(version(name))"
    )
    found = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return dict(zip(names, found.stdout.split(), strict=True))
