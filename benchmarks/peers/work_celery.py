"""A Celery worker, JSON and no result backend, and its client."""

from celery import Celery
from marks import REDIS_URL, client, email, mark

queue = Celery("peer", broker=REDIS_URL)
queue.conf.update(task_ignore_result=True, task_serializer="json")


@queue.task(name="noop")
def noop(number: int) -> None:
    mark(number)


@queue.task(name="send")
def send(mail: dict) -> None:
    """Only queued, to see what it takes in memory."""


def fill(kind: str, count: int) -> None:
    for number in range(count):
        if kind == "noop":
            noop.delay(number)
        else:
            send.delay(email(number))


def main() -> None:
    client(fill)
