"""Clients that submit over HTTP all the while, and keep what was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx2

from tests.chaos.jobs import TYPES

CLIENTS = 4
RETRY_SECONDS = 0.2
LONGEST_RUN_SECONDS = 0.4


@dataclass
class Submitters:
    """Submit `rate` jobs a second, each until it is acknowledged: `count`, or until `enough`."""

    client: httpx2.AsyncClient
    journal: Path
    rate: float
    random: Random
    count: int | None = None
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    # The type of each acknowledged job, by id.
    acknowledged: dict[str, str] = field(default_factory=dict)
    replayed: int = 0
    retried: int = 0
    refused: list[str] = field(default_factory=list)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        begin, numbers = loop.time(), itertools.count()

        async def work() -> None:
            for number in numbers:
                if number == self.count or self.enough.is_set():
                    self.enough.set()
                    return
                await asyncio.sleep(max(0.0, begin + number / self.rate - loop.time()))
                await self._submit(number)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))

    async def _submit(self, number: int) -> None:
        job_type = self.random.choice(TYPES)
        seconds = round(self.random.uniform(0, LONGEST_RUN_SECONDS), 3)
        body: dict[str, Any] = {
            "type": job_type,
            "params": {"journal": str(self.journal), "seconds": seconds},
        }
        while True:
            answer = await self._post(number, body)
            if answer is not None and answer.status_code == 202:
                self.acknowledged[answer.json()["id"]] = job_type
                self.replayed += "idempotency-replayed" in answer.headers
                return
            if answer is not None and answer.status_code != 503:
                self.refused.append(f"{answer.status_code} {answer.text}")
                return
            self.retried += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _post(self, number: int, body: dict[str, Any]) -> httpx2.Response | None:
        try:
            return await self.client.post(
                "/v1/jobs", json=body, headers={"Idempotency-Key": f"chaos-{number}"}
            )
        except httpx2.TransportError:
            return None
