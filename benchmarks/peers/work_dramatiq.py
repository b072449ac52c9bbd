"""A dramatiq actor, and its client."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from marks import REDIS_URL, client, mark

dramatiq.set_broker(RedisBroker(url=REDIS_URL))


@dramatiq.actor
def noop(number: int) -> None:
    mark(number)


def fill(_: str, count: int) -> None:
    for number in range(count):
        noop.send(number)


def main() -> None:
    client(fill)
