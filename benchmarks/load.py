"""Clients that post e-mails as fast as they are answered: wrk, and what each side's CPU did."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cpu_seconds, machine_cpu_seconds

API_KEY = "benchmark-key-that-opens-nothing-else"
BODY_BYTES = 1024
_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT_SECONDS = 20


class LoadError(Exception):
    """The load cannot be put on, or was not answered as it must be."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one burst brought. CPU is in seconds used; `others` is whoever else was busy.

    The clients wait for each answer before they ask again, so latency at many clients is
    mostly waiting for one's turn.
    """

    clients: int
    requests: int
    seconds: float
    p50_us: int
    p99_us: int
    web_cpu: float
    valkey_cpu: float
    client_cpu: float
    others_cpu: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def web_cpu_us(self) -> float:
        """CPU of the web process for one request: hardly disturbed by what else runs."""
        return self.web_cpu / self.requests * 1e6


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise LoadError("wrk is not installed: apt-get install wrk")


def write_body(folder: Path) -> Path:
    """An e-mail of exactly `BODY_BYTES` as JSON."""
    email = {
        "from": "shop@example.com",
        "to": ["customer@example.net"],
        "subject": "Your order 10042 is on its way",
        "text": "",
    }
    line = "Thank you for your order. It left our house today and arrives on Friday. "
    room = BODY_BYTES - len(json.dumps(email))
    email["text"] = (line * (room // len(line) + 1))[:room]
    path = folder / "email.json"
    path.write_text(json.dumps(email))
    return path


def burst(
    url: str, body: Path, *, clients: int, seconds: int, web_pid: int, valkey_pid: int
) -> Load:
    """Post from `clients` kept-alive connections. Raises LoadError unless all were accepted."""
    command = ["wrk", "--threads", "1", "--connections", str(clients)]
    command += ["--duration", f"{seconds}s", "--timeout", f"{_TIMEOUT_SECONDS}s"]
    command += ["--script", str(_SCRIPT), url, "--", str(body), API_KEY]
    machine, web, valkey, client = _clocks(web_pid, valkey_pid)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 3 * _TIMEOUT_SECONDS, check=False
    )
    machine_after, web_after, valkey_after, client_after = _clocks(web_pid, valkey_pid)
    if done.returncode != 0:
        raise LoadError(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["refused"] or found["broken"] or not found["requests"]:
        raise LoadError(f"not every request to {url} was accepted: {found}")
    used = (web_after - web, valkey_after - valkey, client_after - client)
    return Load(
        clients=clients,
        requests=found["requests"],
        seconds=found["duration_us"] / 1e6,
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        web_cpu=used[0],
        valkey_cpu=used[1],
        client_cpu=used[2],
        others_cpu=max(0.0, machine_after - machine - sum(used)),
    )


def _clocks(web_pid: int, valkey_pid: int) -> tuple[float, float, float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = children.ru_utime + children.ru_stime
    return machine_cpu_seconds(), cpu_seconds(web_pid), cpu_seconds(valkey_pid), client
