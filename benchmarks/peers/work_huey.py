"""A huey consumer that keeps no results, and its client."""

from huey import RedisHuey
from marks import REDIS_URL, client, mark

huey = RedisHuey("benchmark", url=REDIS_URL, results=False)


@huey.task()
def noop(number: int) -> None:
    mark(number)


def fill(_: str, count: int) -> None:
    for number in range(count):
        noop(number)


def main() -> None:
    client(fill)
