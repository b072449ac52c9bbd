"""What every worker's no-op does: say that it runs. And what hands the jobs over.

A mark is a job's number and the machine's monotonic clock, 16 bytes, appended in one write:
it costs all the same, and processes may share the file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import struct
import time
from collections.abc import Awaitable, Callable, Iterator

REDIS_URL = os.environ.get("BENCHMARK_REDIS_URL", "")
MARK = struct.Struct("<Qd")
# Submissions under way at once while a queue is filled.
TOGETHER = 64

# Prose, as it goes out: nothing that zlib would make unusually little of.
TEXT = (
    "Dear customer, thank you for your order of Tuesday evening. Two of the three books left"
    " our house this morning by ordinary post and should be with you on Friday, at the latest"
    " on Monday. The third, an atlas of Brazilian rivers, is being reprinted; the publisher"
    " promises us copies within a fortnight, and yours goes out the same day, free of further"
    " charge. Should you rather not wait, answer this message with one word, cancel, and we"
    " return what you have paid for it. Your invoice is attached below in plain text, since"
    " many of our readers asked for that. Quantities: one, one, one. Net 84.50, tax 5.92,"
    " carriage none, sum 90.42 euro, received by transfer from account ending 7731. For"
    " questions ring Helga Oliveira between nine and five; she keeps the parcels' numbers and"
    " likes to be asked. With kind regards from the whole bookshop, Lisbon, Rua do Alecrim 40."
    " PS: our cat, Saudade, has had kittens; visitors are most welcome"
)
_file = os.open(
    os.environ.get("BENCHMARK_MARKS", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND
)


def mark(number: int) -> None:
    os.write(_file, MARK.pack(number, time.monotonic()))


def email(number: int) -> dict:
    """The same e-mail for all: 1,024 bytes as JSON. Its subject tells which one arrived."""
    return {
        "from": "shop@example.com",
        "to": ["customer@example.net"],
        "subject": f"{number:08d}",
        "text": TEXT,
    }


def client(fill: Callable[[str, int], None]) -> None:
    """`fill KIND COUNT`: for clients that block."""
    options = _options()
    fill(options.kind, options.count)


async def async_client(submit: Callable[[str, int], Awaitable[object]]) -> None:
    """`fill KIND COUNT`, and `pace KIND COUNT --rate N`, which marks when each is acknowledged."""
    options = _options()
    if options.action == "fill":
        numbers = iter(range(options.count))
        await asyncio.gather(*(_each(submit, options.kind, numbers) for _ in range(TOGETHER)))
    else:
        await _pace(submit, options.kind, options.count, options.rate)


async def _each(
    submit: Callable[[str, int], Awaitable[object]], kind: str, numbers: Iterator[int]
) -> None:
    for number in numbers:
        await submit(kind, number)


async def _pace(
    submit: Callable[[str, int], Awaitable[object]], kind: str, count: int, rate: float
) -> None:
    async def one(number: int) -> None:
        await submit(kind, number)
        mark(number)

    await submit(kind, count)  # connects; nobody looks at it
    begin, tasks = time.monotonic(), set()
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / rate - time.monotonic()))
        tasks.add(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["fill", "pace"])
    parser.add_argument("kind", choices=["noop", "mail"])
    parser.add_argument("count", type=int)
    parser.add_argument("--rate", type=float, default=0)
    return parser.parse_args()
