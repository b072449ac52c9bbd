"""Who a worker is, as RQ's tools list it."""

from __future__ import annotations

import os
import re
import socket
import sys

from rq.version import VERSION as RQ_VERSION


def worker_name() -> str:
    """`host.pid.random`: never taken twice, so that a dead worker's name blocks nobody."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:40]
    return f"{host}.{os.getpid()}.{os.urandom(5).hex()}"


def worker_facts() -> dict[str, str]:
    """What the worker's record says beside its name. Asks the resolver: may take a while."""
    host = socket.gethostname()
    return {
        "pid": str(os.getpid()),
        "hostname": host,
        "ip_address": _address_of(host),
        "version": RQ_VERSION,
        "python_version": sys.version.replace("\n", " "),
    }


def _address_of(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return "unknown"
