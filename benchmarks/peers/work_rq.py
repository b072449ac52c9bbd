"""What plain RQ workers run, and their client."""

from marks import REDIS_URL, client, email, mark
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

TOGETHER = 200


def noop(number: int) -> None:
    mark(number)


def send(mail: dict) -> None:
    """Only queued, to see what it takes in memory."""


def fill(kind: str, count: int) -> None:
    queue = Queue("benchmark", connection=Redis.from_url(REDIS_URL), serializer=JSONSerializer)
    for first in range(0, count, TOGETHER):
        numbers = range(first, min(count, first + TOGETHER))
        queue.enqueue_many(
            Queue.prepare_data("work_rq.noop", (number,), result_ttl=86400)
            if kind == "noop"
            else Queue.prepare_data("work_rq.send", (email(number),), result_ttl=86400)
            for number in numbers
        )


def main() -> None:
    client(fill)
