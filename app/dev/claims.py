"""What a bin/dev takes for itself: the data folder, the port, and the note for commands beside."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.dev.probes import HOST

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


class ClaimError(Exception):
    """Something is taken or cannot be written; the message is one sentence with a way out."""


@contextlib.contextmanager
def folder_claimed(folder: Path) -> Iterator[int]:
    """Hold the data folder, and yield the descriptor that holds it.

    The kernel lets go when the last process that has the descriptor ends: given to Valkey,
    no second server starts on the same files while the first still runs.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        lock = os.open(folder / "dev.lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    except OSError as error:
        raise ClaimError(
            f"cannot write in the data folder {folder.absolute()} ({error.strerror});"
            " DATA_DIR=… names another"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ClaimError(
            f"another bin/dev is running with the data folder {folder.absolute()};"
            " end it, or name another folder with DATA_DIR=…"
        ) from error
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def note_kept(path: Path, **facts: Any) -> Iterator[None]:
    """A JSON file with the facts, readable by its owner only, for as long as we run."""
    unfinished = path.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        json.dump(facts, stream)
    unfinished.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def require_port(port: int) -> None:
    """Raise ClaimError when the port cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = (
                "is taken by another program"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used ({error.strerror})"
            )
            raise ClaimError(
                f"port {port} {reason}; choose another: PORT={_other(port)} bin/dev"
            ) from error


class Ports:
    """Different ports that nobody listens on now. Linux gives them to nobody who asks for any
    port, nor to outgoing connections, for as long as this is open; who names one gets it.
    """

    def __init__(self, count: int) -> None:
        self._holders = [socket.socket() for _ in range(count)]
        for holder in self._holders:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((HOST, 0))
        self.numbers: list[int] = [holder.getsockname()[1] for holder in self._holders]
        try:
            for number in self.numbers:
                socket.create_server((HOST, number)).close()
        except OSError:
            self.close()  # not Linux: where one is bound, nobody else may listen

    def close(self) -> None:
        for holder in self._holders:
            holder.close()


def _other(port: int) -> int:
    return port + 1 if 1024 <= port < 65535 else 8000
