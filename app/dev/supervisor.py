"""Starts parts in order, watches them, and ends all of them when one ends or a signal comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

from app.dev.console import Console
from app.dev.part import Part, RunningPart

PROBE_INTERVAL_SECONDS = 0.02
PROBE_TIMEOUT_SECONDS = 2.0
PATIENCE_SECONDS = 10.0


class Supervisor:
    """Runs stages of parts: those of one stage start together, the next when all are ready."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: list[RunningPart] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._hurry = asyncio.Event()
        self._status = 0

    async def run(self, stages: Sequence[Sequence[Part]], on_ready: Callable[[], None]) -> int:
        """Run until a signal (0) or until a part ends by itself (1). Nothing is left running.

        The parts end in the opposite order of their start; a second signal kills them.
        """
        self._listen()
        try:
            for stage in stages:
                await self._start(stage)
                if self._over.is_set():
                    break
            else:
                on_ready()
                await self._over.wait()
            await self._end_all()
        finally:
            for part in self._running:
                part.kill()
        return self._status

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._on_signal, signal.SIGINT)
        loop.add_signal_handler(signal.SIGTERM, self._on_signal, signal.SIGTERM)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else started by nohup
            loop.add_signal_handler(signal.SIGHUP, self._on_signal, signal.SIGHUP)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._over.is_set():
            self._console.say("ending at once")
            self._hurry.set()
            return
        self._console.say(f"{number.name}: ending; once more to end at once")
        self._over.set()

    async def _start(self, stage: Sequence[Part]) -> None:
        """Start the stage's parts and return when all are ready or it is over."""
        started = []
        for part in stage:
            try:
                running = await RunningPart.start(part, self._printer(part.name))
            except OSError as error:
                self._fail(f"cannot start {part.name}: {error}")
                return
            started.append(running)
            self._running.append(running)
            self._watchers.append(asyncio.create_task(self._watch(running)))
        ready = asyncio.create_task(self._all_ready(started))
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait({ready, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if not ready.done():
            ready.cancel()
            return
        await ready  # a fault of a probe is a fault of ours, and is raised

    def _printer(self, name: str) -> Callable[[str], None]:
        return lambda text: self._console.line(name, text)

    async def _watch(self, part: RunningPart) -> None:
        end = await part.ended()
        if not self._over.is_set():
            self._fail(f"{part.name} ended by itself: {end}; ending all")

    def _fail(self, text: str) -> None:
        self._console.alarm(text)
        self._status = 1
        self._over.set()

    async def _all_ready(self, parts: Sequence[RunningPart]) -> None:
        loop = asyncio.get_running_loop()
        waiting, speak_at = list(parts), loop.time() + PATIENCE_SECONDS
        while waiting:
            waiting = [part for part in waiting if not await _is_ready(part)]
            if waiting and loop.time() > speak_at:
                names = " and ".join(part.name for part in waiting)
                self._console.say(f"still waiting for {names}")
                speak_at = loop.time() + PATIENCE_SECONDS
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)

    async def _end_all(self) -> None:
        for part in reversed(self._running):
            if not await part.end(self._hurry):
                self._console.say(f"{part.name} did not end in time and was killed")
        await asyncio.gather(*self._watchers)


async def _is_ready(part: RunningPart) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            return await part.is_ready()
    except TimeoutError:
        return False
