"""The worker's heartbeat, from a thread of its own.

A job that keeps the loop busy for seconds must not make its worker look dead: its jobs
would run twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.exceptions import NoScriptError, RedisError

from app.logs import event
from app.queue import scripts
from app.queue.connection import Reachability, connect_blocking, is_away
from app.queue.transitions import beat_arguments

log = logging.getLogger("recado.worker")

BEAT_SECONDS = 2.0
AWAY_SECONDS = 0.5
# A loop that does nothing for so many beats is stuck for good: its jobs belong elsewhere.
WARN_BEATS = 15
STUCK_BEATS = 150
STUCK_STATUS = 70


@dataclass(frozen=True, slots=True)
class Held:
    """What the worker holds. `arrived_claim` is read before `composites` are collected."""

    arrived_claim: int
    composites: list[str]
    mail_report: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Redis' answer: what is no longer ours, and what should stop."""

    must_register: bool
    lost: list[str]
    stop: list[str]


class Heart(threading.Thread):
    """Beats until stopped. `held` is called in this thread, `heard` in the loop."""

    def __init__(
        self,
        url: str,
        worker: str,
        held: Callable[[], Held],
        heard: Callable[[Beat], None],
        reachability: Reachability,
    ) -> None:
        super().__init__(name="heart", daemon=True)
        self._url = url
        self._worker = worker
        self._held = held
        self._heard = heard
        self._reachability = reachability
        self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self._unheard_beats = 0

    def stop(self) -> None:
        self._over.set()

    def run(self) -> None:
        client = connect_blocking(self._url)
        pause = 0.0
        while not self._over.wait(pause):
            try:
                self._tell(self._beat(client))
                self._reachability.found()
                pause = BEAT_SECONDS
            except (RedisError, OSError) as error:
                if not is_away(error):
                    event(log, "beat_failed", logging.ERROR, error=str(error))
                self._reachability.lost(error)
                client.connection_pool.disconnect()
                pause = AWAY_SECONDS
            except Exception:
                # A heart that stops gives away what its worker goes on with.
                log.exception("beat_failed")
                pause = AWAY_SECONDS
        client.close()

    def _beat(self, client: redis.Redis) -> Beat:
        held = self._held()
        arguments = beat_arguments(
            self._worker, held.arrived_claim, held.mail_report, held.composites
        )
        try:
            answer = client.evalsha(scripts.BEAT.digest.decode(), 0, *arguments)
        except NoScriptError:
            answer = client.eval(scripts.BEAT.source.decode(), 0, *arguments)
        if answer[0] == b"register":
            return Beat(True, [], [])
        lost, stop = ([each.decode() for each in part] for part in answer[1:3])
        return Beat(False, lost, stop)

    def _tell(self, beat: Beat) -> None:
        self._unheard_beats += 1
        if self._unheard_beats == WARN_BEATS:
            event(log, "loop_blocked", logging.ERROR, seconds=WARN_BEATS * BEAT_SECONDS)
        if self._unheard_beats > STUCK_BEATS:
            event(log, "loop_stuck_exit", logging.CRITICAL, seconds=STUCK_BEATS * BEAT_SECONDS)
            os._exit(STUCK_STATUS)
        try:
            self._loop.call_soon_threadsafe(self._hear, beat)
        except RuntimeError:  # the loop has closed: the worker is leaving
            self._over.set()

    def _hear(self, beat: Beat) -> None:
        self._unheard_beats = 0
        self._heard(beat)
