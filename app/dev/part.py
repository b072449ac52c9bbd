"""One part that bin/dev runs: a process with its group, its output and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

LONGEST_LINE_BYTES = 64 * 1024
# A grandchild that outlives its group's SIGKILL by a moment may hold the pipe open.
LAST_WORDS_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1

# Found before any fork: between fork and exec nothing may be imported or allocated anew.
# Elsewhere than on Linux nothing like it exists, and a SIGKILL of bin/dev leaves its parts
# running; the next start says so where it matters, on Valkey's folder.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Part:
    """What to run and how to tell that it is ready.

    `is_ready` is asked with the process id until it says so. `grace_seconds` is the time
    between SIGTERM and SIGKILL. `readable` turns a line of output into what is printed, or
    None for nothing. `kept_files` are file descriptors that the process inherits.
    """

    name: str
    command: Sequence[str]
    is_ready: Callable[[int], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_seconds: float = 10.0
    readable: Callable[[str], str | None] = str
    kept_files: Sequence[int] = ()


class RunningPart:
    """A started part. Ends with `end`, and with its parent."""

    def __init__(
        self, part: Part, process: Process, output: int, print_line: Callable[[str], None]
    ) -> None:
        self.part = part
        self._process = process
        self._printing = asyncio.create_task(self._print_output(output, print_line))

    @classmethod
    async def start(cls, part: Part, print_line: Callable[[str], None]) -> RunningPart:
        """Start it in a session of its own: Ctrl-C reaches only us, and we end the parts in order.

        Must be called in the main thread: Linux ends the process with the thread that
        started it.
        """
        parent = os.getpid()
        # A pipe of our own: with asyncio's, a part that died would count as running for as
        # long as a child of it has the pipe open.
        output, its_output = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *part.command,
                stdin=DEVNULL,
                stdout=its_output,
                stderr=its_output,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **part.environment},
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
                pass_fds=part.kept_files,
            )
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(its_output)
        return cls(part, process, output, print_line)

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def ended(self) -> str:
        """Wait for its end and describe it."""
        status = await self._process.wait()
        if status >= 0:
            return f"exit status {status}"
        return f"killed by signal {-status} ({signal.strsignal(-status)})"

    async def is_ready(self) -> bool:
        return not self.has_ended and await self.part.is_ready(self._process.pid)

    async def end(self, hurry: asyncio.Event) -> bool:
        """SIGTERM, then SIGKILL to what is left of its group. False when the grace ran out.

        SIGKILL comes after the grace, or at once when `hurry` is set.
        """
        in_time = await self._terminate(hurry)
        self.kill()
        await self._process.wait()
        await asyncio.wait({self._printing}, timeout=LAST_WORDS_SECONDS)
        self._printing.cancel()
        return in_time

    def kill(self) -> None:
        """SIGKILL to the whole group, which may outlive its leader."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def _terminate(self, hurry: asyncio.Event) -> bool:
        if self.has_ended:
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        ended = asyncio.create_task(self._process.wait())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            {ended, hurried},
            timeout=self.part.grace_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurried.cancel()
        return ended.done() or hurry.is_set()

    async def _print_output(self, output: int, print_line: Callable[[str], None]) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", 0)
        )
        with contextlib.closing(transport):
            await self._print_lines(reader, print_line)

    async def _print_lines(
        self, reader: asyncio.StreamReader, print_line: Callable[[str], None]
    ) -> None:
        rest = b""
        while chunk := await reader.read(LONGEST_LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._print(line, print_line)
        if rest:
            self._print(rest, print_line)

    def _print(self, line: bytes, print_line: Callable[[str], None]) -> None:
        text = self.part.readable(line.decode("utf-8", "replace").rstrip())
        if text is not None:
            print_line(text)


def _die_with(parent: int) -> None:
    """In the child, before exec: SIGKILL when the parent dies, also if it just did."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
